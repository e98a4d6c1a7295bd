//! Routes behind keys accept only keys, and routes behind sessions accept only sessions.

use crate::PROGRAM;
use crate::wire::{exchange, pair, status};

const ROUTES: [&str; 2] = ["/payments", "/payments/pay-000001"];
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "KEYWARD",
];

#[test]
fn every_route_is_401_without_a_key() {
    let product = PROGRAM.start();
    for path in ROUTES {
        for method in METHODS {
            let (head, _) = exchange(&product, method, path, "");
            assert_eq!(status(&head), 401, "{method} {path}: {head}");
            assert!(head.contains("www-authenticate: ApiKey "), "{head}");
            // The response does not reveal whether the object exists, or which other methods it has.
            let (other, _) = exchange(&product, method, &path.replace("000001", "nothing"), "");
            assert_eq!(status(&other), 401, "{method} {path}");
            assert!(!head.contains("allow: "), "{head}");
        }
    }
}

#[test]
fn unsupported_methods_are_405() {
    let product = PROGRAM.start();
    let key = product.key("Settlement run");
    let pair = pair(&key);
    for (path, methods) in [
        ("/payments", "GET, HEAD, POST"),
        ("/payments/pay-000001", "GET, HEAD, PUT, PATCH, DELETE"),
    ] {
        for method in ["OPTIONS", "TRACE", "KEYWARD"] {
            let (head, _) = exchange(&product, method, path, &pair);
            assert_eq!(status(&head), 405, "{method} {path}: {head}");
            assert!(head.contains(&format!("allow: {methods}\r\n")), "{head}");
        }
    }
}

#[test]
fn sessions_and_keys_are_separate() {
    let routes = ROUTES.map(|path| ("GET", path));
    PROGRAM
        .start()
        .separates_sessions_and_keys("Settlement run", &routes);
}
