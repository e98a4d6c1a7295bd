//! Routes behind keys accept only keys, and routes behind sessions accept only sessions.

use serde_json::json;

use crate::wire::{exchange, status};
use crate::{ID, Product, VALUE, text};

const ROUTES: [&str; 6] = [
    "/accounts",
    "/accounts/acc-000001",
    "/accounts/acc-000001/payments",
    "/payments",
    "/payments/pay-000001",
    "/payments/pay-000001/refund",
];
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "KEYWARD",
];

#[test]
fn every_route_is_401_without_a_key() {
    let product = Product::start();
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
    let product = Product::start();
    let key = product.key("Settlement run");
    let pair = format!(
        "{ID}: {}\r\n{VALUE}: {}\r\n",
        text(&key, "id"),
        text(&key, "secret")
    );
    for (path, methods) in [
        ("/accounts", "GET, HEAD, POST"),
        ("/accounts/acc-000001", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/accounts/acc-000001/payments", "GET, HEAD"),
        ("/payments", "GET, HEAD, POST"),
        ("/payments/pay-000001", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/payments/pay-000001/refund", "POST"),
    ] {
        for method in ["OPTIONS", "TRACE", "KEYWARD"] {
            let (head, _) = exchange(&product, method, path, &pair);
            assert_eq!(status(&head), 405, "{method} {path}: {head}");
            assert!(head.contains(&format!("allow: {methods}\r\n")), "{head}");
        }
    }
}

#[test]
fn sessions_open_no_key_route() {
    let product = Product::start();
    let product = &product;
    let login = product.server.client();
    let reply = login.post(
        "/admin/login",
        &json!({ "code": product.server.code_of("support agent") }),
    );
    let session = reply.text("/session");
    for headers in [
        vec![("x-session", session)],
        vec![(ID, session), (VALUE, session)],
        vec![("x-session", session), (ID, session)],
        vec![("authorization", session)],
    ] {
        let mut client = product.server.client();
        for (name, value) in &headers {
            client = client.with(name, value);
        }
        for path in ROUTES {
            assert_eq!(client.get(path).status, 401, "{path} {headers:?}");
        }
    }
}

#[test]
fn keys_open_no_admin_route() {
    let product = Product::start();
    let key = product.key("Settlement run");
    let (id, secret) = (text(&key, "id"), text(&key, "secret"));
    let asking = product.asking(&key);
    let revoke = format!("/admin/keys/{id}/revoke");
    for client in [
        asking.clone(),
        asking.with("x-session", secret),
        asking.with("x-session", id),
        asking.with("x-session", ""),
    ] {
        for (method, path, form) in [
            ("GET", "/admin/keys", None),
            ("GET", "/admin/events", None),
            ("POST", "/admin/keys", Some(json!({ "name": "Mine" }))),
            ("POST", "/admin/login", Some(json!({ "code": secret }))),
            ("POST", revoke.as_str(), Some(json!({}))),
        ] {
            let reply = client.send(method, path, form.as_ref());
            assert_eq!(reply.status, 401, "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(asking.get("/accounts").status, 200, "nobody touched it");
}
