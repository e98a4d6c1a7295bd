//! The product's requirements, one test each.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::Product;

const COUNTS: &str = "/v1/rollups/counts";

#[test]
fn a1_the_form_asks_for_a_title_only() {
    let product = Product::start();
    let first = product.key("Power BI dashboard");
    assert_eq!(first["access"], "full");
    assert_eq!(first["resources"], "any");
    assert_eq!(first["expires_at"], json!(null));
    // The lost key is replaced by one with the same title, then revoked.
    let second = product.key("Power BI dashboard");
    assert_ne!(first["id"], second["id"]);
    assert_eq!(product.revoke(&first).status, 200);
    assert_eq!(product.asking(&first).get(COUNTS).status, 401);
    assert_eq!(product.asking(&second).get(COUNTS).status, 200);
    for form in [
        json!({}),
        json!({ "title": "" }),
        json!({ "title": "a\nb" }),
        json!({ "title": "x", "scopes": [] }),
    ] {
        let refused = product.admin.post("/admin/keys", &form);
        assert_eq!(refused.status, 422, "{form}: {refused:?}");
    }
}

#[test]
fn a2_the_key_is_shown_once() {
    let product = Product::start();
    let key = product.key("Power BI dashboard");
    let (text, secret) = (
        key["api_key"].as_str().unwrap(),
        key["secret"].as_str().unwrap(),
    );
    assert!(text.contains(secret));
    let list = product.admin.get("/admin/keys");
    let events = product.admin.get("/admin/events");
    for answer in [&list, &events] {
        assert_eq!(answer.status, 200);
        assert!(!answer.body.to_string().contains(secret));
        assert!(!answer.body.to_string().contains(r#""digest":"#));
    }
    let prefix = list.text("/keys/0/display_prefix");
    assert!(
        text.starts_with(prefix) && text.len() > prefix.len() + 43,
        "{prefix}"
    );
}

#[test]
fn a3_missing_wrong_or_revoked_is_401() {
    let product = Product::start();
    let key = product.key("Power BI dashboard");
    let missing = product.server.client().get(COUNTS);
    let wrong = product
        .server
        .client()
        .with("x-api-key", "prep_live_nonsense")
        .get(COUNTS);
    product.revoke(&key);
    let revoked = product.asking(&key).get(COUNTS);
    for reply in [&missing, &wrong, &revoked] {
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").is_some());
    }
    assert_eq!(wrong.body, revoked.body);
    assert_ne!(missing.body, wrong.body);
    let bearer = format!("Bearer {}", key["api_key"].as_str().unwrap());
    let elsewhere = product.server.client().with("authorization", &bearer);
    assert_eq!(
        elsewhere.get(COUNTS).body,
        missing.body,
        "keys are read from one place"
    );
}

#[test]
fn a4_the_list_shows_live_keys_only() {
    let product = Product::start();
    let keys: Vec<_> = (0..60)
        .map(|number| product.key(&format!("Key {number}")))
        .collect();
    let first = product.admin.get("/admin/keys");
    assert_eq!(first.items("/keys").len(), 50);
    for member in ["title", "display_prefix", "created_at"] {
        assert!(
            first
                .each("/keys", member)
                .iter()
                .all(|text| !text.is_empty()),
            "{member}"
        );
    }
    let next = product
        .admin
        .get(&format!("/admin/keys?after={}", first.text("/next")));
    // Sixty, and the built-in integration's.
    assert_eq!(next.items("/keys").len(), 11);
    assert_eq!(next.body["next"], json!(null));
    product.revoke(&keys[59]);
    let after = product.admin.get("/admin/keys");
    assert_eq!(after.text("/keys/0/title"), "Key 58");
}

#[test]
fn a5_revoking_is_immediate_and_final() {
    let product = Product::start();
    let key = product.key("Power BI dashboard");
    let asking = product.asking(&key);
    assert_eq!(asking.get(COUNTS).status, 200);
    // A caller that keeps sending requests is refused from the moment at which the revocation was answered.
    let (sent, told) = std::sync::mpsc::channel::<()>();
    let watching = asking.clone();
    let watcher = thread::spawn(move || {
        let mut refused = 0;
        for _ in 0..10_000 {
            let is_revoked = told.try_recv().is_ok();
            let status = watching.get(COUNTS).status;
            assert!(!is_revoked || status == 401, "granted after the revocation");
            if status == 401 {
                refused += 1;
                if refused == 50 {
                    return;
                }
            }
        }
        panic!("never refused");
    });
    thread::sleep(Duration::from_millis(50));
    let revoked = product.revoke(&key);
    sent.send(()).unwrap();
    assert_eq!(
        (revoked.status, revoked.text("/title")),
        (200, "Power BI dashboard")
    );
    watcher.join().unwrap();
    let again = product.revoke(&key);
    assert_eq!(
        (again.status, again.text("/code")),
        (409, "already_revoked")
    );
    assert_eq!(again.text("/at"), revoked.text("/at"));
    let id = key["id"].as_str().unwrap();
    let rotated = product
        .admin
        .post(&format!("/admin/keys/{id}/rotate"), &json!({}));
    assert_eq!(rotated.status, 409, "nothing brings it back: {rotated:?}");
}

#[test]
fn a6_keys_reach_only_their_clients() {
    let product = Product::start();
    let all = product.asking(&product.key("All"));
    let one = product.asking(&product.issue(&json!({ "title": "One", "client": "nw-002" })));
    assert_eq!(all.get("/v1/clients").items("/items").len(), 12);
    assert_eq!(one.get("/v1/clients").each("/items", "id"), ["nw-002"]);
    for (path, for_all, for_one) in [
        ("/v1/clients/nw-002/training/completion", 200, 200),
        ("/v1/clients/nw-003/training/completion", 200, 403),
        ("/v1/clients/nw-003/training/quiz-scores", 200, 403),
        ("/v1/clients/nw-003/phishing/repeat-offenders", 200, 403),
        ("/v1/users/nw-002-u001", 200, 200),
        ("/v1/users/nw-003-u001", 200, 403),
        // Another partner's, and nonexistent ones.
        ("/v1/clients/co-002/training/completion", 404, 403),
        ("/v1/users/co-002-u001", 404, 404),
        ("/v1/clients/nw-099/training/completion", 404, 403),
        ("/v1/users/nobody", 404, 404),
    ] {
        assert_eq!(all.get(path).status, for_all, "{path}");
        assert_eq!(one.get(path).status, for_one, "{path}");
    }
    let counted = |asking: &example_driver::Client| asking.get(COUNTS).body["clients"].clone();
    assert_eq!((counted(&all), counted(&one)), (json!(12), json!(1)));
    let users = one.get("/v1/users?limit=200");
    assert!(
        users
            .each("/items", "client")
            .iter()
            .all(|client| *client == "nw-002")
    );
}

#[test]
fn a7_only_partner_admins_manage_keys() {
    let product = Product::start();
    let key = product.key("Power BI dashboard");
    let id = key["id"].as_str().unwrap();
    let (client_level, other) = (
        product.person("administrator of a client"),
        product.person("Contoso"),
    );
    let nobody = product.server.client();
    let one = |action: &str| format!("/admin/keys/{id}/{action}");
    for (asking, status, of_a_key) in [
        (&client_level, 403, 403),
        (&nobody, 401, 401),
        (&other, 200, 404),
    ] {
        assert_eq!(asking.get("/admin/keys").status, status);
        assert_eq!(asking.get("/admin/events").status, status);
        assert_eq!(asking.post(&one("rotate"), &json!({})).status, of_a_key);
        assert_eq!(asking.post(&one("revoke"), &json!({})).status, of_a_key);
    }
    let form = json!({ "title": "Mine" });
    assert_eq!(client_level.post("/admin/keys", &form).status, 403);
    assert_eq!(nobody.post("/admin/keys", &form).status, 401);
    assert!(other.get("/admin/keys").items("/keys").is_empty());
    assert!(other.get("/admin/events").items("").is_empty());
    assert_eq!(
        product.asking(&key).get(COUNTS).status,
        200,
        "nobody touched it"
    );
}

#[test]
fn a8_an_integration_owns_its_key() {
    let product = Product::start();
    let list = product.admin.get("/admin/keys");
    let digest = &list.items("/keys")[0];
    assert_eq!(digest["title"], "Weekly digest");
    assert_eq!(digest["owner"], "integration:weekly-digest");
    assert_eq!(digest["created_by"], "integration:weekly-digest");
    assert_eq!(
        digest["metadata"]["serves"],
        json!(["weekly-digest", "board-report"])
    );
    let events = product.admin.get("/admin/events");
    let issued = &events.items("")[0]["event"];
    assert_eq!(issued["action"], "key_issued");
    assert_eq!(issued["actor"], "integration:weekly-digest");
    assert_eq!(issued["key"], digest["id"]);
    // It is a key like any other: an administrator can revoke it.
    assert_eq!(product.revoke(digest).status, 200);
}

#[test]
fn a10_only_operators_see_why_a_key_fails() {
    let product = Product::start();
    let key = product.key("Power BI dashboard");
    let text = key["api_key"].as_str().unwrap();
    for (name, value) in [
        ("X-API-KEY", text.to_owned()),
        ("x-api-key", format!("  {text}\t ")),
    ] {
        assert_eq!(
            product
                .server
                .client()
                .with(name, &value)
                .get(COUNTS)
                .status,
            200,
            "{name}"
        );
    }
    let (short, _) = text.split_at(text.len() - 1);
    let wrong = |name, value| product.server.client().with(name, value).get(COUNTS);
    assert_eq!(
        wrong("x-api-key", short).text("/code"),
        "invalid_credential"
    );
    assert_eq!(wrong("x-apikey", text).text("/code"), "missing_credential");
    assert_eq!(
        wrong("authorization", text).text("/code"),
        "missing_credential"
    );
    let told = product.server.stop_and_read_log();
    for reason in [
        "the header `x-apikey` is perhaps to be `X-API-Key`",
        "`authorization` holds a key, and no scheme before it",
        "the text is 1 characters short",
    ] {
        assert!(told.contains(reason), "{reason}: {told}");
    }
    assert!(!told.contains(key["secret"].as_str().unwrap()));
}

#[test]
fn a11_there_are_four_kinds_of_report() {
    let product = Product::start();
    let asking = product.asking(&product.key("Power BI dashboard"));
    for path in [
        "/v1/rollups/counts",
        "/v1/rollups/trends",
        "/v1/clients/nw-001/training/assignments",
        "/v1/clients/nw-001/training/completion",
        "/v1/clients/nw-001/training/quiz-scores",
        "/v1/clients/nw-001/training/certificates",
        "/v1/clients/nw-001/phishing/sends",
        "/v1/clients/nw-001/phishing/clicks",
        "/v1/clients/nw-001/phishing/reports",
        "/v1/clients/nw-001/phishing/repeat-offenders",
        "/v1/users/nw-001-u001",
    ] {
        let reply = asking.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.body.to_string().len() > 50, "{reply:?}");
        assert_eq!(product.server.client().get(path).status, 401, "{path}");
        assert_eq!(asking.post(path, &json!({})).status, 405, "{path}");
    }
    assert_eq!(
        asking.get("/v1/clients/nw-001/training/nothing").status,
        404
    );
}

#[test]
fn it_stops_cleanly_under_load() {
    let product = Product::start();
    let asking = product.asking(&product.key("Power BI dashboard"));
    let (begun, has_begun) = std::sync::mpsc::channel();
    let busy = thread::spawn(move || {
        let mut whole = 0;
        while let Some(reply) = asking.get_while_served("/v1/users?limit=200") {
            assert_eq!((reply.status, reply.items("/items").len()), (200, 200));
            whole += 1;
            let _ = begun.send(());
        }
        whole
    });
    has_begun.recv().unwrap();
    assert!(product.server.stop().success());
    assert!(busy.join().unwrap() > 0);
}
