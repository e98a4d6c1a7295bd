//! Keys survive the process, however it ends.

use serde_json::json;

use crate::Product;

#[test]
fn keys_survive_with_their_restrictions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = Product::start_over(&file);
    let form = json!({ "name": "One project", "scopes": ["read:workspace"], "projects": ["p-1"] });
    let kept = product.issue(&form);
    let old = product.key(&["read:workspace"]);
    let new = product
        .rotate(&old, &json!({ "overlap_seconds": 604_800 }))
        .body;
    let revoked = product.key(&["read:workspace"]);
    assert_eq!(product.revoke(&revoked).status, 200);
    assert!(product.server.stop().success());

    // The first restart follows a clean stop, the second one a kill, as in a power failure.
    for _ in 0..2 {
        let product = Product::start_over(&file);
        let projects = product.asking(&kept).get("/v1/projects");
        assert_eq!(
            (projects.status, projects.each("/items", "id")),
            (200, vec!["p-1"])
        );
        for (key, status) in [(&old, 200), (&new, 200), (&revoked, 401)] {
            assert_eq!(product.asking(key).get("/v1/projects").status, status);
        }
        let other = product.asking(&kept).get("/v1/projects/p-2/blueprints");
        assert_eq!(other.status, 403);
        product.server.kill();
    }
}
