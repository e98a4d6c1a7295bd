//! Requests without TLS, and the certificate.

use std::fs;

use example_driver::{Client, Server, office, text};
use serde_json::json;

use crate::needs::routes;
use crate::{PROGRAM, bearer, form, plain_base};

#[test]
fn b5_plain_http_is_refused() {
    let product = PROGRAM.start();
    let key = product.key("admin");
    let plain = Client::new(&plain_base(&product.server), None);
    // Any client can claim anything.
    for asking in [
        plain.with("authorization", &bearer(&key)),
        plain
            .with("authorization", &bearer(&key))
            .with("x-forwarded-proto", "https")
            .with("x-forwarded-for", "203.0.113.7"),
        plain
            .with("authorization", &bearer(&key))
            .with("forwarded", "for=203.0.113.7;proto=https"),
        plain.clone(),
    ] {
        let nowhere = ("GET", "/v1/nothing", "");
        for (method, path, _) in routes().into_iter().chain([nowhere]) {
            let refused = asking.send(method, path, None);
            assert_eq!(refused.status, 403, "{path}: {refused:?}");
            assert_eq!(refused.text("/code"), "https_required");
            assert_eq!(refused.header("location"), None);
        }
    }
    let asking = product.asking(&key);
    let draft = asking.get("/v1/editions/p-2-b1-e012");
    assert_eq!(draft.text("/state"), "draft", "nothing was done");
    let log = product.server.stop_and_read_log();
    let in_clear = format!("the key {} came without TLS: rotate it", text(&key, "id"));
    assert!(log.contains(&in_clear), "{log}");
}

#[test]
fn b5_keys_are_managed_over_tls_only() {
    let product = PROGRAM.start();
    let plain = Client::new(&plain_base(&product.server), None);
    let code = product.server.code_of("Borealis");
    let refused = plain.post("/admin/login", &json!({ "code": code }));
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.header("location"), None);
    let login = product
        .client()
        .post("/admin/login", &json!({ "code": code }));
    assert_eq!(login.status, 200, "the code was not used up");
    let asking = plain
        .with("x-session", login.text("/session"))
        .with("x-forwarded-proto", "https");
    for path in ["scopes", "keys", "keys/due", "events"] {
        assert_eq!(asking.get(&format!("/admin/{path}")).status, 403, "{path}");
    }
    let form = form("x", &["admin"]);
    assert_eq!(asking.post("/admin/keys", &form).status, 403);
}

#[test]
fn b5_only_named_proxies_may_end_tls() {
    let arguments = [PROGRAM.arguments, &["--behind", "127.0.0.1/32"]].concat();
    let server = Server::start(PROGRAM.path, &arguments);
    let plain = Client::new(&plain_base(&server), None);
    let by_proxy = |proto: &str| {
        plain
            .with("x-forwarded-for", "203.0.113.7")
            .with("x-forwarded-proto", proto)
    };
    let admin = office(&by_proxy("https"), &server.code_of("Meridian"));
    let form = form("Nightly sync", &["read:workspace"]);
    let key = admin.post("/admin/keys", &form);
    assert_eq!(key.status, 201, "{key:?}");
    let asking = |client: &Client| {
        let asking = client.with("authorization", &bearer(&key.body));
        asking.get("/v1/projects").status
    };
    assert_eq!(asking(&by_proxy("https")), 200);
    assert_eq!(asking(&by_proxy("http")), 403);
    assert_eq!(asking(&plain), 403);
    // The event names the client in front of the proxy.
    let events = admin.get("/admin/keys/events");
    assert_eq!(events.text("/events/0/event/client"), "203.0.113.7");
}

#[test]
fn b5_each_server_has_its_own_certificate() {
    let product = PROGRAM.start();
    let path = product.server.certificate().unwrap().to_owned();
    let pem = fs::read_to_string(&path).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!pem.contains("PRIVATE"));
    let folder = path.parent().unwrap();
    assert_eq!(folder.read_dir().unwrap().count(), 1, "no key on disk");
    let by_name = product.server.base().replace("127.0.0.1", "localhost");
    let named = Client::new(&by_name, Some(pem.as_bytes()));
    assert_eq!(named.get("/v1/projects").status, 401);

    let second = PROGRAM.start();
    let other = fs::read_to_string(second.server.certificate().unwrap());
    assert_ne!(pem, other.unwrap(), "each start makes its own");
    let mistaken = Client::new(&second.server.base(), Some(pem.as_bytes()));
    assert!(mistaken.get_while_served("/v1/projects").is_none());
    assert!(product.server.stop().success());
    assert!(!folder.exists());
}
