//! Runs the product as a separate process: with the lines that it prints, with Python, and need by need.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod curl;
mod limits;
mod managing;
mod needs;
mod projects;
mod requests;
mod restart;
mod slow;
mod stop;
mod tls;

use std::path::Path;

use example_driver::{Client, Reply, Server, office};
use serde_json::{Value, json};

const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0"];
const PROGRAM: &str = env!("CARGO_BIN_EXE_workspace_reports");

/// All scopes but `admin`.
const SCOPES: [&str; 6] = [
    "read:editions",
    "write:editions",
    "read:blueprints",
    "read:outputs",
    "write:outputs",
    "read:workspace",
];

/// The product, with an administrator of Meridian logged in.
struct Product {
    server: Server,
    certificate: Vec<u8>,
    admin: Client,
}

impl Product {
    fn start() -> Self {
        Self::of(start(&[]))
    }

    /// Starts the product with the keys in this file.
    fn start_over(keys: &Path) -> Self {
        Self::of(Server::start_over(keys, PROGRAM, &LISTEN))
    }

    fn of(server: Server) -> Self {
        let certificate = std::fs::read(certificate_path(&server)).unwrap();
        let client = Client::new(&server.base(), Some(&certificate));
        let admin = office(&client, &server.code_of("Meridian"));
        Self {
            server,
            certificate,
            admin,
        }
    }

    /// Returns a client that trusts the certificate.
    fn client(&self) -> Client {
        Client::new(&self.server.base(), Some(&self.certificate))
    }

    /// Returns a client that does not use TLS.
    fn plain_client(&self) -> Client {
        Client::new(&plain_base(&self.server), None)
    }

    /// Logs another person in.
    fn person(&self, who: &str) -> Client {
        office(&self.client(), &self.server.code_of(who))
    }

    /// Returns the response to a form.
    fn issue(&self, form: &Value) -> Value {
        let issued = self.admin.post("/admin/keys", form);
        assert_eq!(issued.status, 201, "{issued:?}");
        issued.body
    }

    /// Issues a key with these scopes, for all projects.
    fn key(&self, scopes: &[&str]) -> Value {
        self.issue(&json!({ "name": "Nightly sync", "scopes": scopes }))
    }

    /// Returns a client that uses this key.
    fn asking(&self, key: &Value) -> Client {
        self.client().with("authorization", &bearer(key))
    }

    /// Returns a client with a new key that has these scopes, for all projects.
    fn with_scopes(&self, scopes: &[&str]) -> Client {
        self.asking(&self.key(scopes))
    }

    fn rotate(&self, key: &Value, form: &Value) -> Reply {
        self.admin
            .post(&format!("/admin/keys/{}/rotate", id(key)), form)
    }

    fn revoke(&self, key: &Value) -> Reply {
        self.admin
            .post(&format!("/admin/keys/{}/revoke", id(key)), &json!({}))
    }
}

/// Starts the product without logging anyone in.
fn start(more: &[&str]) -> Server {
    Server::start(PROGRAM, &[&LISTEN, more].concat())
}

fn id(key: &Value) -> &str {
    key["id"].as_str().unwrap()
}

fn bearer(key: &Value) -> String {
    format!("Bearer {}", key["api_key"].as_str().unwrap())
}

fn certificate_path(server: &Server) -> String {
    let (_, rest) = server.lines()[0].line.split_once("--cacert '").unwrap();
    rest.split_once('\'').unwrap().0.to_owned()
}

fn plain_base(server: &Server) -> String {
    let mut lines = server.lines().iter();
    let line = lines.find(|one| one.what.contains("plain HTTP")).unwrap();
    let (_, rest) = line.line.split_once("http://").unwrap();
    format!("http://{}", rest.split_once('/').unwrap().0)
}
