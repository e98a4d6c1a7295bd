//! The product's requirements, one test each.

use example_driver::text;
use serde_json::json;

use crate::{COUNTS, PROGRAM, form, of_client};

#[test]
fn a1_the_form_asks_for_a_title_only() {
    let product = PROGRAM.start();
    let first = product.key("Power BI dashboard");
    assert_eq!(first["access"], json!({ "type": "full" }));
    assert_eq!(first["resources"], json!({ "type": "any" }));
    assert_eq!(first["expires_at"], json!(null));
    // The lost key is replaced by one with the same title, then revoked.
    let second = product.key("Power BI dashboard");
    assert_ne!(first["id"], second["id"]);
    assert_eq!(product.act(&first, "revoke").status, 200);
    assert_eq!(product.asking(&first).get(COUNTS).status, 401);
    assert_eq!(product.asking(&second).get(COUNTS).status, 200);
    product.refuses_forms(&[
        json!({}),
        form(""),
        form("a\nb"),
        json!({ "title": "x" }),
        json!({ "title": "x", "scopes": [] }),
    ]);
}

#[test]
fn a2_the_key_is_shown_once() {
    let product = PROGRAM.start();
    let key = product.key("Power BI dashboard");
    let list = product.admin.get("/admin/keys");
    let (key, prefix) = (text(&key, "api_key"), list.text("/keys/0/display_prefix"));
    assert!(
        key.starts_with(prefix) && key.len() > prefix.len() + 43,
        "{prefix}"
    );
    product.shows_secrets_once("Nightly Snowflake ETL");
}

#[test]
fn a3_missing_wrong_or_revoked_is_401() {
    let product = PROGRAM.start();
    let key = product.key("Power BI dashboard");
    let missing = product.client().get(COUNTS);
    let wrong = product
        .client()
        .with("x-api-key", "prep_live_nonsense")
        .get(COUNTS);
    assert_eq!(product.act(&key, "revoke").status, 200);
    let revoked = product.asking(&key).get(COUNTS);
    for reply in [&missing, &wrong, &revoked] {
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").is_some());
    }
    assert_eq!(wrong.body, revoked.body);
    assert_ne!(missing.body, wrong.body);
    let bearer = format!("Bearer {}", text(&key, "api_key"));
    let elsewhere = product.client().with("authorization", &bearer);
    assert_eq!(
        elsewhere.get(COUNTS).body,
        missing.body,
        "keys are read from one place"
    );
}

#[test]
fn a4_the_list_shows_live_keys_only() {
    let product = PROGRAM.start();
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
    assert_eq!(product.act(&keys[59], "revoke").status, 200);
    let after = product.admin.get("/admin/keys");
    assert_eq!(after.text("/keys/0/title"), "Key 58");
}

#[test]
fn a5_revoking_is_immediate_and_final() {
    let product = PROGRAM.start();
    let revoked = product.revokes_at_once(&product.key("Power BI dashboard"));
    assert_eq!(revoked.text("/title"), "Power BI dashboard");
}

#[test]
fn a6_keys_reach_only_their_clients() {
    let product = PROGRAM.start();
    let all = product.with_key("All");
    let one = product.asking(&product.issue(&of_client("One", "nw-002")));
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
    let product = PROGRAM.start();
    let client_level = product.person("administrator of a client");
    product.refuses_to_manage(&client_level, 403, "Power BI dashboard");
    product.refuses_to_manage(&product.client(), 401, "Power BI dashboard");
    product.hides_keys_from(&product.person("Contoso"), "Power BI dashboard");
    let routes = [
        ("GET", COUNTS),
        ("GET", "/v1/clients"),
        ("GET", "/v1/users/nw-001-u001"),
    ];
    product.separates_sessions_and_keys("Power BI dashboard", &routes);
}

#[test]
fn a8_an_integration_owns_its_key() {
    let product = PROGRAM.start();
    let list = product.admin.get("/admin/keys");
    let digest = &list.items("/keys")[0];
    assert_eq!(digest["title"], "Weekly digest");
    assert_eq!(digest["owner"], "integration:weekly-digest");
    assert_eq!(digest["created_by"], "integration:weekly-digest");
    assert_eq!(
        digest["metadata"]["serves"],
        json!(["weekly-digest", "board-report"])
    );
    let events = product.admin.get("/admin/keys/events");
    let issued = &events.items("/events")[0]["event"];
    assert_eq!(issued["action"], "key_issued");
    assert_eq!(issued["actor"], "integration:weekly-digest");
    assert_eq!(issued["key"], digest["id"]);
    // It is a key like any other: an administrator can revoke it.
    assert_eq!(product.act(digest, "revoke").status, 200);
}

#[test]
fn a10_only_operators_see_why_a_key_fails() {
    let product = PROGRAM.start();
    let key = product.key("Power BI dashboard");
    let full = text(&key, "api_key");
    for (name, value) in [
        ("X-API-KEY", full.to_owned()),
        ("x-api-key", format!("  {full}\t ")),
    ] {
        assert_eq!(
            product.client().with(name, &value).get(COUNTS).status,
            200,
            "{name}"
        );
    }
    let (short, _) = full.split_at(full.len() - 1);
    let wrong = |name, value| product.client().with(name, value).get(COUNTS);
    assert_eq!(
        wrong("x-api-key", short).text("/code"),
        "invalid_credential"
    );
    assert_eq!(wrong("x-apikey", full).text("/code"), "missing_credential");
    assert_eq!(
        wrong("authorization", full).text("/code"),
        "missing_credential"
    );
    let log = product.server.stop_and_read_log();
    for reason in [
        "the header `x-apikey` is perhaps to be `X-API-Key`",
        "`authorization` holds a key, and no scheme before it",
        "the text is 1 characters short",
    ] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    assert!(!log.contains(text(&key, "secret")));
}

#[test]
fn a11_there_are_four_kinds_of_report() {
    let product = PROGRAM.start();
    let asking = product.with_key("Power BI dashboard");
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
        assert_eq!(product.client().get(path).status, 401, "{path}");
        assert_eq!(asking.post(path, &json!({})).status, 405, "{path}");
    }
    assert_eq!(
        asking.get("/v1/clients/nw-001/training/nothing").status,
        404
    );
}

#[test]
fn it_stops_cleanly_under_load() {
    let product = PROGRAM.start();
    product.stops_cleanly_under_load("Power BI dashboard", "/v1/users?limit=200", |reply| {
        assert_eq!(reply.items("/items").len(), 200);
    });
}
