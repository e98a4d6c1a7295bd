//! Runs the product as a separate process: with the lines that it prints, with Python, byte by byte, and need by
//! need.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod curl;
mod guarded;
mod needs;
mod payments;
mod requests;
mod restart;
mod stopping;
mod wire;

use std::path::Path;

use example_driver::{Client, Reply, Server, office};
use serde_json::{Value, json};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];
const PROGRAM: &str = env!("CARGO_BIN_EXE_back_office");

/// The two headers of a key, in the documented order.
const ID: &str = "X-AuthenticationKeyId";
const VALUE: &str = "X-AuthenticationKeyValue";

/// The product, with a system administrator logged in.
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
        let admin = office(&server.client(), &server.code_of("system administrator"));
        Self { server, admin }
    }

    /// Logs the support agent in.
    fn agent(&self) -> Client {
        office(&self.server.client(), &self.server.code_of("support agent"))
    }

    /// Issues a key.
    fn key(&self, name: &str) -> Value {
        let issued = self.admin.post("/admin/keys", &json!({ "name": name }));
        assert_eq!(issued.status, 201, "{issued:?}");
        issued.body
    }

    /// Returns a client that uses this key.
    fn asking(&self, key: &Value) -> Client {
        let client = self.server.client().with(ID, text(key, "id"));
        client.with(VALUE, text(key, "secret"))
    }

    /// Sends an action on a key, as the administrator.
    fn act(&self, key: &Value, action: &str) -> Reply {
        act(&self.admin, key, action)
    }
}

/// Sends an action on a key, as this client.
fn act(who: &Client, key: &Value, action: &str) -> Reply {
    let path = format!("/admin/keys/{}/{action}", text(key, "id"));
    who.post(&path, &json!({}))
}

fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member].as_str().unwrap()
}
