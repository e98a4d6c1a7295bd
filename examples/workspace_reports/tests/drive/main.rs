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
mod restart;
mod slow;
mod stop;
mod tls;

use example_driver::{Program, Server, text};
use serde_json::{Value, json};

/// All scopes but `admin`.
const SCOPES: [&str; 6] = [
    "read:editions",
    "write:editions",
    "read:blueprints",
    "read:outputs",
    "write:outputs",
    "read:workspace",
];

/// A path that keys with `read:workspace` may read.
const PROJECTS: &str = "/v1/projects";

/// The product, with an administrator of Meridian. Its keys are identified by their scopes, separated by spaces.
static PROGRAM: Program = Program {
    path: env!("CARGO_BIN_EXE_workspace_reports"),
    arguments: &["--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0"],
    administrator: "Meridian",
    form: |scopes| {
        let scopes: Vec<_> = scopes.split(' ').collect();
        form("Nightly sync", &scopes)
    },
    authorize: |client, key| client.with("authorization", &bearer(key)),
    readable: PROJECTS,
    pages: &["keys", "keys?with_revoked=true", "keys/events"],
    actions: &["rotate", "revoke"],
};

/// The form of a key with these scopes.
fn form(title: &str, scopes: &[&str]) -> Value {
    json!({ "title": title, "access": { "type": "scopes", "scopes": scopes } })
}

/// The form of a key for these projects only.
fn restricted(title: &str, scopes: &[&str], projects: &[&str]) -> Value {
    let projects: Vec<_> = projects.iter().map(|id| format!("project:{id}")).collect();
    let mut form = form(title, scopes);
    form["resources"] = json!({ "type": "only", "resources": projects });
    form
}

fn bearer(key: &Value) -> String {
    format!("Bearer {}", text(key, "api_key"))
}

fn plain_base(server: &Server) -> String {
    let mut lines = server.lines().iter();
    let line = lines.find(|one| one.what.contains("plain HTTP")).unwrap();
    let (_, rest) = line.line.split_once("http://").unwrap();
    format!("http://{}", rest.split_once('/').unwrap().0)
}

#[test]
fn a_python_client_stays_in_its_projects() {
    let product = PROGRAM.start();
    let all = product.key("admin");
    let scopes = ["read:editions", "write:editions"];
    let one = product.issue(&restricted("One project", &scopes, &["p-2"]));
    product.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("PLAIN", &plain_base(&product.server)),
            (
                "CERTIFICATE",
                product.server.certificate().unwrap().to_str().unwrap(),
            ),
            ("KEY", text(&all, "api_key")),
            ("ONE", text(&one, "api_key")),
            ("CODE", &product.server.code_of("Borealis")),
        ],
    );
}
