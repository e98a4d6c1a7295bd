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
mod restart;
mod stopping;
mod wire;

use example_driver::{Program, text};
use serde_json::json;

/// The two headers of a key, in the documented order.
const ID: &str = "X-AuthenticationKeyId";
const VALUE: &str = "X-AuthenticationKeyValue";

/// A list, which each key may read.
const PAYMENTS: &str = "/payments";

/// The product, with a system administrator.
static PROGRAM: Program = Program {
    path: env!("CARGO_BIN_EXE_back_office"),
    arguments: &["--listen", "127.0.0.1:0"],
    administrator: "system administrator",
    form: |name| json!({ "name": name }),
    authorize: |client, key| {
        client
            .with(ID, text(key, "id"))
            .with(VALUE, text(key, "secret"))
    },
    readable: PAYMENTS,
    pages: &["keys", "keys/events"],
    actions: &["suspend", "resume", "rotate", "revoke"],
};

#[test]
fn a_python_client_keeps_the_books() {
    let product = PROGRAM.start();
    let key = product.key("Nightly books");
    product.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/client.py"),
        &[
            ("KEY_ID", text(&key, "id")),
            ("KEY_VALUE", text(&key, "secret")),
            ("CODE", &product.server.code_of("support agent")),
        ],
    );
}
