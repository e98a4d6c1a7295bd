//! A customer's program, in Python.

use example_driver::{REQUESTS, has};
use serde_json::json;

use crate::Product;

#[test]
fn a_python_client_reads_all_pages() {
    if !has(&[REQUESTS]) {
        return;
    }
    let product = Product::start();
    let all = product.key("Nightly Snowflake ETL");
    let one = product.issue(&json!({ "title": "One client", "client": "nw-002" }));
    let text = |key: &serde_json::Value| key["api_key"].as_str().unwrap().to_owned();
    product.server.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("BASE", &product.server.base()),
            ("KEY", &text(&all)),
            ("ONE", &text(&one)),
            ("CODE", &product.server.code_of("Contoso")),
        ],
    );
}
