//! Runs the product as a separate process: with the lines that it prints, with Python, and need by need.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod curl;
mod limits;
mod needs;
mod restart;

use example_driver::{Program, text};
use serde_json::{Value, json};

/// A rollup, which each key may read.
const COUNTS: &str = "/v1/rollups/counts";

/// The product, with Northwind's administrator.
static PROGRAM: Program = Program {
    path: env!("CARGO_BIN_EXE_partner_reporting"),
    arguments: &["--listen", "127.0.0.1:0"],
    administrator: "Northwind",
    form: |title| form(title),
    authorize: |client, key| client.with("x-api-key", text(key, "api_key")),
    readable: COUNTS,
    pages: &["keys", "keys/events"],
    actions: &["rotate", "revoke"],
};

/// The form of a key for all clients.
fn form(title: &str) -> Value {
    json!({ "title": title, "access": { "type": "full" } })
}

/// The form of a key for one client.
fn of_client(title: &str, client: &str) -> Value {
    let mut form = form(title);
    let client = format!("client:{client}");
    form["resources"] = json!({ "type": "only", "resources": [client] });
    form
}

#[test]
fn a_python_client_reads_all_pages() {
    let product = PROGRAM.start();
    let all = product.key("Nightly Snowflake ETL");
    let one = product.issue(&of_client("One client", "nw-002"));
    product.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("KEY", text(&all, "api_key")),
            ("ONE", text(&one, "api_key")),
            ("CODE", &product.server.code_of("Contoso")),
        ],
    );
}
