//! Keys survive the process, however it ends.

use serde_json::json;

use crate::Product;

const COUNTS: &str = "/v1/rollups/counts";

#[test]
fn keys_and_revocations_survive_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = Product::start_over(&file);
    let (kept, revoked) = (product.key("Power BI dashboard"), product.key("Lost"));
    assert_eq!(product.asking(&kept).get(COUNTS).status, 200);
    assert_eq!(product.revoke(&revoked).status, 200);
    assert!(product.server.stop().success());

    let product = Product::start_over(&file);
    assert_eq!(product.asking(&kept).get(COUNTS).status, 200);
    assert_eq!(product.asking(&revoked).get(COUNTS).status, 401);
    let list = product.admin.get("/admin/keys");
    // The digest's key has a successor with the same title.
    assert_eq!(
        list.each("/keys", "title"),
        ["Weekly digest", "Power BI dashboard"]
    );
    let (digest, used) = (&list.items("/keys")[0], &list.items("/keys")[1]);
    assert_eq!(digest["owner"], "integration:weekly-digest");
    assert_ne!(digest["predecessor"], json!(null));
    // One request before the stop, and one since.
    assert_eq!(used["usage"]["granted"], 2, "{used}");
    let events = product.admin.get("/admin/events");
    let actions: Vec<_> = events
        .items("")
        .iter()
        .map(|one| one["event"]["action"].clone())
        .collect();
    assert_eq!(
        actions[..4],
        ["key_issued", "key_issued", "key_issued", "key_revoked"]
    );
}

#[test]
fn a_revoked_integration_gets_no_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = Product::start_over(&file);
    let digest = product.admin.get("/admin/keys").items("/keys")[0].clone();
    assert_eq!(product.revoke(&digest).status, 200);
    assert!(product.server.stop().success());
    let product = Product::start_over(&file);
    assert!(product.admin.get("/admin/keys").items("/keys").is_empty());
}

#[test]
fn answered_changes_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    for _ in 0..3 {
        let product = Product::start_over(&file);
        let (kept, revoked) = (product.key("kept"), product.key("revoked"));
        assert_eq!(product.revoke(&revoked).status, 200);
        product.server.kill();
        let product = Product::start_over(&file);
        assert_eq!(product.asking(&kept).get(COUNTS).status, 200);
        assert_eq!(product.asking(&revoked).get(COUNTS).status, 401);
        product.server.kill();
    }
}
