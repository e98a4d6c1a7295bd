//! A customer's program, in Python.

use example_driver::{REQUESTS, has};
use serde_json::json;

use crate::{Product, certificate_path, plain_base};

#[test]
fn a_python_client_stays_in_its_projects() {
    if !has(&[REQUESTS]) {
        return;
    }
    let product = Product::start();
    let all = product.key(&["admin"]);
    let form = json!({ "name": "One project", "scopes": ["read:editions", "write:editions"], "projects": ["p-2"] });
    let one = product.issue(&form);
    let text = |key: &serde_json::Value| key["api_key"].as_str().unwrap().to_owned();
    product.server.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("BASE", &product.server.base()),
            ("PLAIN", &plain_base(&product.server)),
            ("CERTIFICATE", &certificate_path(&product.server)),
            ("KEY", &text(&all)),
            ("ONE", &text(&one)),
            ("CODE", &product.server.code_of("Borealis")),
        ],
    );
}
