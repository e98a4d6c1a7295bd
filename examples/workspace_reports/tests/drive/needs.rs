//! The product's requirements, one test each.

use example_driver::text;
use serde_json::{Value, json};

use crate::{PROGRAM, SCOPES, bearer, form, restricted};

#[test]
fn b1_the_form_issues_a_key_shown_once() {
    let product = PROGRAM.start();
    let mut form = restricted("Nightly sync", &["read:editions"], &["p-2", "p-1"]);
    form["expires_on"] = json!("2099-12-31");
    let key = product.issue(&form);
    // The first instant at which the key is no longer valid.
    assert_eq!(key["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(
        key["resources"],
        json!({ "type": "only", "resources": ["project:p-1", "project:p-2"] })
    );
    let plain = product.key("read:editions");
    assert_eq!(plain["expires_at"], Value::Null);
    assert_eq!(plain["resources"], json!({ "type": "any" }));

    let list = product.admin.get("/admin/keys");
    assert_eq!(list.text("/keys/1/title"), "Nightly sync");
    for event in product.admin.get("/admin/keys/events").items("/events") {
        assert_eq!(event["event"]["title"], "Nightly sync");
    }
    product.shows_secrets_once("read:workspace");
}

#[test]
fn b1_an_invalid_last_day_is_an_error() {
    let form = |day| {
        let mut form = form("x", &["read:editions"]);
        form["expires_on"] = json!(day);
        form
    };
    let forms = ["2020-01-01", "2026-02-30", "tomorrow", ""].map(form);
    PROGRAM.start().refuses_forms(&forms);
}

#[test]
fn b2_only_admin_implies_other_scopes() {
    let product = PROGRAM.start();
    let choices = product.admin.get("/admin/keys/scopes");
    let mut offered = choices.each("/scopes", "scope");
    offered.sort_unstable();
    let mut expected = [&SCOPES[..], &["admin"]].concat();
    expected.sort_unstable();
    assert_eq!(offered, expected);
    let descriptions = choices.each("/scopes", "description");
    assert!(descriptions.iter().all(|text| text.len() > 10));

    let routes = routes();
    for scope in SCOPES {
        let asking = product.with_key(scope);
        for (method, path, needed) in &routes {
            let reply = asking.send(method, path, None);
            if *needed == scope {
                assert!(
                    ![401, 403, 404].contains(&reply.status),
                    "{scope} {path}: {reply:?}"
                );
            } else {
                assert_eq!(reply.status, 403, "{scope} {path}: {reply:?}");
                let challenge =
                    format!(r#"Bearer realm="api", error="insufficient_scope", scope="{needed}""#);
                assert_eq!(reply.header("www-authenticate"), Some(&*challenge));
            }
        }
    }
    let all = product.with_key("admin");
    for (method, path, _) in &routes {
        let status = all.send(method, path, None).status;
        assert!(![401, 403, 404].contains(&status), "{path}");
    }
}

/// Each route, with a request and the scope that it requires.
pub(crate) fn routes() -> [(&'static str, &'static str, &'static str); 11] {
    [
        ("GET", "/v1/projects", "read:workspace"),
        ("GET", "/v1/projects/p-2/blueprints", "read:blueprints"),
        ("GET", "/v1/editions", "read:editions"),
        ("GET", "/v1/blueprints/p-2-b1/editions", "read:editions"),
        ("GET", "/v1/editions/p-2-b1-e001", "read:editions"),
        (
            "GET",
            "/v1/editions/p-2-b1-e001/sections/figures",
            "read:editions",
        ),
        (
            "GET",
            "/v1/editions/p-2-b1-e001/sections/figures/rows",
            "read:editions",
        ),
        ("POST", "/v1/editions?project=p-2", "write:editions"),
        ("POST", "/v1/editions/p-2-b1-e012/submit", "write:editions"),
        (
            "POST",
            "/v1/outputs/p-2-b1-e001-o1/generate",
            "write:outputs",
        ),
        ("GET", "/v1/outputs/p-2-b1-e001-o1/download", "read:outputs"),
    ]
}

#[test]
fn b2_only_requested_scopes_are_granted() {
    let product = PROGRAM.start();
    product.refuses_forms(&[
        json!({ "title": "x" }),
        json!({ "title": "x", "scopes": ["read:editions"] }),
        json!({ "title": "x", "access": "full" }),
        json!({ "title": "x", "access": { "type": "scopes" } }),
        form("x", &[]),
        form("x", &["read:everything"]),
        form("x", &["read:editions", "read editions"]),
        form("x", &["*"]),
        form(" ", &["read:editions"]),
    ]);
    let key = product.key("read:editions");
    assert_eq!(
        key["access"],
        json!({ "type": "scopes", "scopes": ["read:editions"] })
    );
}

#[test]
fn b4_keys_are_bearer_tokens_only() {
    let product = PROGRAM.start();
    let key = product.key("read:workspace");
    let full = text(&key, "api_key");
    assert!(full.starts_with("wsrp_live_"), "{full}");
    let asking = |name: &str, value: &str| product.client().with(name, value).get("/v1/projects");
    assert_eq!(asking("authorization", &bearer(&key)).status, 200);
    assert_eq!(
        asking("authorization", &format!("bearer {full}")).status,
        200
    );
    for (name, value) in [
        ("authorization", full.to_owned()),
        ("authorization", format!("Basic {full}")),
        ("x-api-key", full.to_owned()),
    ] {
        let refused = asking(name, &value);
        assert_eq!(refused.status, 401, "{name}: {value}");
        assert_eq!(refused.text("/code"), "missing_credential");
    }
    let cut = asking("authorization", bearer(&key).split_at(60).0);
    assert_eq!((cut.status, cut.text("/code")), (401, "invalid_credential"));
    let path = format!("/v1/projects?access_token={full}");
    assert_eq!(product.client().get(&path).status, 401);
}

#[test]
fn b6_routes_answer_or_are_404() {
    let product = PROGRAM.start();
    let asking = product.with_key("admin");
    assert_eq!(asking.get("/v1/projects").items("/items").len(), 8);
    let blueprints = asking.get("/v1/projects/p-3/blueprints");
    assert_eq!(
        blueprints.each("/items", "id"),
        ["p-3-b1", "p-3-b2", "p-3-b3"]
    );
    let editions = asking.get("/v1/blueprints/p-3-b2/editions");
    assert_eq!(editions.items("/items").len(), 12);
    let edition = asking.get("/v1/editions/p-3-b2-e001");
    assert_eq!(edition.text("/state"), "submitted");
    let section = asking.get("/v1/editions/p-3-b2-e001/sections/figures");
    assert_eq!(section.items("/fields").len(), 4);
    let file = asking.get("/v1/outputs/p-3-b2-e001-o1/download");
    let file = file.body.as_str().unwrap();
    assert!((1_000_000..10_000_000).contains(&file.len()));
    assert!(file.ends_with("end,20000,\n"));

    for (method, path) in [
        ("GET", "/v1/projects/p-99/blueprints"),
        ("GET", "/v1/blueprints/p-1-b9/editions"),
        ("GET", "/v1/editions/p-1-b1-e999"),
        ("GET", "/v1/editions/p-1-b1-e999/sections/figures"),
        ("GET", "/v1/editions/p-1-b1-e001/sections/nothing"),
        ("GET", "/v1/editions/p-1-b1-e001/sections/nothing/rows"),
        ("POST", "/v1/editions/p-1-b1-e999/submit"),
        ("POST", "/v1/outputs/nothing/generate"),
        ("GET", "/v1/outputs/nothing/download"),
        ("GET", "/v1/nothing"),
        // Another workspace's.
        ("GET", "/v1/projects/p-91/blueprints"),
        ("GET", "/v1/blueprints/p-91-b1/editions"),
        ("GET", "/v1/editions/p-91-b1-e001"),
        ("GET", "/v1/editions/p-91-b1-e001/sections/figures"),
        ("GET", "/v1/editions/p-91-b1-e001/sections/figures/rows"),
        ("POST", "/v1/editions/p-91-b1-e012/submit"),
        ("POST", "/v1/outputs/p-91-b1-e001-o1/generate"),
        ("GET", "/v1/outputs/p-91-b1-e001-o1/download"),
    ] {
        assert_eq!(asking.send(method, path, None).status, 404, "{path}");
    }
    let theirs = json!({ "blueprint": "p-91-b1", "title": "x" });
    let created = asking.post("/v1/editions?project=p-91", &theirs);
    assert_eq!(created.status, 404, "{created:?}");
}

#[test]
fn b6_editions_are_made_and_generated() {
    let product = PROGRAM.start();
    let asking = product.with_key("admin");
    let new = json!({ "blueprint": "p-1-b1", "title": "Next quarter", "project": "p-1" });
    let created = asking.post("/v1/editions?project=p-1", &new);
    assert_eq!(created.status, 201, "{created:?}");
    let (edition, output) = (created.text("/id"), created.text("/outputs/0/id"));
    let (submit, generate, download) = (
        format!("/v1/editions/{edition}/submit"),
        format!("/v1/outputs/{output}/generate"),
        format!("/v1/outputs/{output}/download"),
    );
    assert_eq!(asking.get(&download).status, 409, "there is no file yet");
    assert_eq!(asking.send("POST", &generate, None).body["generated"], 1);
    assert_eq!(asking.get(&download).status, 200);
    assert_eq!(asking.send("POST", &submit, None).status, 200);
    assert_eq!(asking.send("POST", &submit, None).status, 409);
    let path = format!("/v1/editions/{edition}");
    assert_eq!(asking.get(&path).text("/state"), "submitted");
    let siblings = asking.get("/v1/blueprints/p-1-b1/editions");
    assert_eq!(siblings.items("/items").len(), 13);

    for (path, body, status) in [
        // Without a project to check, every key is refused.
        ("/v1/editions", &new, 403),
        ("/v1/editions?project=p-1&project=p-1", &new, 403),
        ("/v1/editions?project=p-2", &new, 422),
        (
            "/v1/editions?project=p-2",
            &json!({ "blueprint": "p-1-b1", "title": "x" }),
            422,
        ),
        (
            "/v1/editions?project=p-1",
            &json!({ "blueprint": "p-1-b1", "title": "x", "project": "p-2" }),
            422,
        ),
        (
            "/v1/editions?project=p-1",
            &json!({ "blueprint": "p-1-b1" }),
            422,
        ),
    ] {
        let refused = asking.post(path, body);
        assert_eq!(refused.status, status, "{path} {body}: {refused:?}");
    }
    let siblings = asking.get("/v1/blueprints/p-1-b1/editions");
    assert_eq!(siblings.items("/items").len(), 13, "nothing came of those");
}

#[test]
fn b10_revoked_keys_are_401_at_once() {
    let product = PROGRAM.start();
    let revoked = product.revokes_at_once(&product.key("read:workspace"));
    assert_eq!(revoked.text("/title"), "Nightly sync");
}
