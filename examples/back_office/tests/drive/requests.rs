//! A caller's program, in Python.

use example_driver::{REQUESTS, has};

use crate::{Product, text};

#[test]
fn a_python_client_keeps_the_books() {
    if !has(&[REQUESTS]) {
        return;
    }
    let product = Product::start();
    let key = product.key("Nightly books");
    product.server.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("BASE", &product.server.base()),
            ("KEY_ID", text(&key, "id")),
            ("KEY_VALUE", text(&key, "secret")),
            ("CODE", &product.server.code_of("support agent")),
        ],
    );
}
