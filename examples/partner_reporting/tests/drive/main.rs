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
use serde_json::json;

/// A rollup, which each key may read.
const COUNTS: &str = "/v1/rollups/counts";

/// The product, with Northwind's administrator.
static PROGRAM: Program = Program {
    path: env!("CARGO_BIN_EXE_partner_reporting"),
    arguments: &["--listen", "127.0.0.1:0"],
    administrator: "Northwind",
    form: |title| json!({ "title": title }),
    authorize: |client, key| client.with("x-api-key", text(key, "api_key")),
    readable: COUNTS,
    pages: &["keys", "events"],
    actions: &["rotate", "revoke"],
};

#[test]
fn a_python_client_reads_all_pages() {
    let product = PROGRAM.start();
    let all = product.key("Nightly Snowflake ETL");
    let one = product.issue(&json!({ "title": "One client", "client": "nw-002" }));
    product.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("KEY", text(&all, "api_key")),
            ("ONE", text(&one, "api_key")),
            ("CODE", &product.server.code_of("Contoso")),
        ],
    );
}
