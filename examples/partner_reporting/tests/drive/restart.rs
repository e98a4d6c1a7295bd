//! Keys survive the process, however it ends.

use serde_json::json;

use crate::{COUNTS, PROGRAM};

#[test]
fn answered_changes_survive_restarts() {
    PROGRAM.changes_survive_restarts("Power BI dashboard");
}

#[test]
fn usage_owners_and_events_survive_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = PROGRAM.start_over(&file);
    let key = product.key("Power BI dashboard");
    assert_eq!(product.asking(&key).get(COUNTS).status, 200);
    assert!(product.server.stop().success());

    let product = PROGRAM.start_over(&file);
    assert_eq!(product.asking(&key).get(COUNTS).status, 200);
    let list = product.admin.get("/admin/keys");
    let titles = list.each("/keys", "title");
    assert_eq!(titles, ["Weekly digest", "Power BI dashboard"]);
    // The digest's key has a successor with the same title.
    let (digest, used) = (&list.items("/keys")[0], &list.items("/keys")[1]);
    assert_eq!(digest["owner"], "integration:weekly-digest");
    assert_ne!(digest["predecessor"], json!(null));
    // One request before the stop, and one since.
    assert_eq!(used["usage"]["granted"], 2, "{used}");
    let events = product.admin.get("/admin/keys/events");
    let events = events.items("/events").iter();
    let actions: Vec<_> = events.map(|one| &one["event"]["action"]).collect();
    assert_eq!(actions[..2], ["key_issued", "key_issued"]);
    assert_eq!(actions[2..], ["key_issued", "key_rotated", "key_revoked"]);
}

#[test]
fn a_revoked_integration_gets_no_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = PROGRAM.start_over(&file);
    let digest = product.admin.get("/admin/keys").items("/keys")[0].clone();
    assert_eq!(product.act(&digest, "revoke").status, 200);
    assert!(product.server.stop().success());
    let product = PROGRAM.start_over(&file);
    assert!(product.admin.get("/admin/keys").items("/keys").is_empty());
}

#[test]
fn a_person_is_helped() {
    PROGRAM.start().helps_a_person();
}
