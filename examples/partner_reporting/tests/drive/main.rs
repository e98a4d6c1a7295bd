//! Runs the product as a separate process: with the lines that it prints, with Python, and need by need.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod curl;
mod needs;
mod requests;
mod restart;

use std::path::Path;

use example_driver::{Client, Server, office};
use serde_json::{Value, json};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];
const PROGRAM: &str = env!("CARGO_BIN_EXE_partner_reporting");

/// The product, with Northwind's administrator logged in.
struct Product {
    server: Server,
    admin: Client,
}

impl Product {
    fn start() -> Self {
        Self::of(Server::start(PROGRAM, &LISTEN))
    }

    /// Starts the product with the keys in this file.
    fn start_over(keys: &Path) -> Self {
        Self::of(Server::start_over(keys, PROGRAM, &LISTEN))
    }

    fn of(server: Server) -> Self {
        let admin = office(&server.client(), &server.code_of("Northwind"));
        Self { server, admin }
    }

    /// Logs another person in.
    fn person(&self, who: &str) -> Client {
        office(&self.server.client(), &self.server.code_of(who))
    }

    /// Returns the response to a form.
    fn issue(&self, form: &Value) -> Value {
        let issued = self.admin.post("/admin/keys", form);
        assert_eq!(issued.status, 201, "{issued:?}");
        issued.body
    }

    /// Issues a key for all clients.
    fn key(&self, title: &str) -> Value {
        self.issue(&json!({ "title": title }))
    }

    /// Returns a client that uses this key.
    fn asking(&self, key: &Value) -> Client {
        let key = key["api_key"].as_str().unwrap();
        self.server.client().with("x-api-key", key)
    }

    fn revoke(&self, key: &Value) -> example_driver::Reply {
        let id = key["id"].as_str().unwrap();
        self.admin
            .post(&format!("/admin/keys/{id}/revoke"), &json!({}))
    }
}
