//! Keys survive the process, however it ends.

use serde_json::json;

use crate::{PROGRAM, PROJECTS, restricted};

#[test]
fn answered_changes_survive_restarts() {
    PROGRAM.changes_survive_restarts("read:workspace");
}

#[test]
fn restrictions_and_overlaps_survive_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = PROGRAM.start_over(&file);
    let restricted = product.issue(&restricted("One project", &["read:workspace"], &["p-1"]));
    let old = product.key("read:workspace");
    let week = json!({ "overlap_seconds": 604_800 });
    let new = product.rotate(&old, &week).body;
    assert!(product.server.stop().success());

    let product = PROGRAM.start_over(&file);
    let asking = product.asking(&restricted);
    assert_eq!(asking.get(PROJECTS).each("/items", "id"), ["p-1"]);
    assert_eq!(asking.get("/v1/projects/p-2/blueprints").status, 403);
    for key in [&old, &new] {
        assert_eq!(product.asking(key).get(PROJECTS).status, 200);
    }
}

#[test]
fn a_person_is_helped() {
    PROGRAM.start().helps_a_person();
}
