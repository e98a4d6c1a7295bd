//! Permissions to manage keys, and rotation.

use std::thread::sleep;
use std::time::{Duration, Instant};

use example_driver::text;
use serde_json::json;

use crate::needs::routes;
use crate::{PROGRAM, restricted};

#[test]
fn b9_rotation_overlaps_and_keeps_expiry() {
    let product = PROGRAM.start();
    let mut form = restricted("Nightly sync", &["read:workspace"], &["p-2"]);
    form["expires_on"] = json!("2099-12-31");
    let old = product.issue(&form);
    let week = json!({ "overlap_seconds": 604_800 });
    let next = product.rotate(&old, &week).body;
    for member in ["title", "access", "resources", "expires_at"] {
        assert_eq!(next[member], old[member], "{member}");
    }
    let (asking, asking_next) = (product.asking(&old), product.asking(&next));
    for asking in [&asking, &asking_next] {
        let projects = asking.get("/v1/projects");
        assert_eq!(projects.each("/items", "id"), ["p-2"]);
    }
    assert_eq!(product.act(&old, "revoke").status, 200);
    assert_eq!(asking.get("/v1/projects").status, 401);
    assert_eq!(asking_next.get("/v1/projects").status, 200);

    // With an overlap that has no end, both keys are valid until the old one is revoked.
    let last = product
        .rotate(&next, &json!({ "overlap_until": null }))
        .body;
    assert_eq!(asking_next.get("/v1/projects").status, 200);
    assert_eq!(product.asking(&last).get("/v1/projects").status, 200);
    // With a set overlap, the old key ends by itself.
    let begun = Instant::now();
    let second = product.rotate(&last, &json!({ "overlap_seconds": 1 })).body;
    // It may meet its limit before: 429.
    while product.asking(&last).get("/v1/projects").status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
        sleep(Duration::from_millis(20));
    }
    assert!(
        begun.elapsed() > Duration::from_millis(900),
        "it ended early"
    );
    assert_eq!(product.asking(&second).get("/v1/projects").status, 200);
    // Without any overlap, it ends at once.
    let after = product
        .rotate(&second, &json!({ "overlap_seconds": 0 }))
        .body;
    assert_eq!(product.asking(&second).get("/v1/projects").status, 401);
    assert_eq!(product.asking(&after).get("/v1/projects").status, 200);
    // A rotation says how long both are valid.
    assert_eq!(product.rotate(&after, &json!({})).status, 422);
}

#[test]
fn b9_keys_past_an_age_are_listed() {
    let product = PROGRAM.start();
    let (old, revoked) = (product.key("admin"), product.key("admin"));
    assert_eq!(product.act(&revoked, "revoke").status, 200);
    let rotated = product.key("admin");
    let next = product.rotate(&rotated, &json!({ "overlap_seconds": 60 }));
    let due = |seconds: u32| {
        let path = format!("/admin/keys?due_for_rotation_seconds={seconds}");
        product.admin.get(&path)
    };
    assert!(due(86_400).items("/keys").is_empty());
    // All keys are zero days old. An administrator has already dealt with the revoked key and the rotated one.
    assert_eq!(
        due(0).each("/keys", "id"),
        [next.text("/id"), text(&old, "id")]
    );
    let wrong = product.admin.get("/admin/keys?due_for_years=1");
    assert_eq!(wrong.status, 400);
}

#[test]
fn b13_only_workspace_admins_manage_keys() {
    let product = PROGRAM.start();
    product.refuses_to_manage(&product.person("member"), 403, "read:workspace");
    product.refuses_to_manage(&product.client(), 401, "read:workspace");
    product.hides_keys_from(&product.person("Borealis"), "read:workspace");
}

#[test]
fn b13_sessions_and_keys_are_separate() {
    let routes = routes().map(|(method, path, _)| (method, path));
    PROGRAM
        .start()
        .separates_sessions_and_keys("admin", &routes);
}
