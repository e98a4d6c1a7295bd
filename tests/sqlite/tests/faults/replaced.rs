//! Another file is put in the place of one that is open, or it is removed.

use std::fs;

use keyward::store::{KeyStore, SqliteOptions};

use crate::common::{Came, Keys, Node, SHORT, all_came_to, came, file, open, reads, told, writes};

async fn all_is_unavailable(node: &Node, keys: &Keys) {
    for key in [&keys.warm, &keys.cold, &keys.revoked] {
        assert!(node.is_undecidable(key).await);
    }
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Unavailable);
    all_came_to(
        &writes(&node.store, keys.warm.id()).await,
        Came::Unavailable,
    );
    assert_eq!(told(node.try_issue().await), Came::Unavailable);
    assert_eq!(told(node.revoke(keys.cold.id()).await), Came::Unavailable);
    assert_eq!(told(node.list().await), Came::Unavailable);
}

#[tokio::test]
async fn a_replacing_file_is_not_touched() {
    let (dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    let (away, other) = (dir.path().join("away.db"), dir.path().join("other.db"));
    let elsewhere = Node::open(&other).await;
    let others = elsewhere.issue().await;
    drop(elsewhere);
    fs::rename(&path, &away).unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(node.is_undecidable(&others).await);
    keys.end_at_the_bound(&node).await;
    all_is_unavailable(&node, &keys).await;
    fs::rename(&path, &other).unwrap();
    let elsewhere = Node::open(&other).await;
    assert!(elsewhere.is_granted(&others).await);
    assert_eq!(elsewhere.list().await.unwrap().keys.len(), 1, "left alone");

    fs::rename(&away, &path).unwrap();
    keys.are_as_before(&node).await;
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
}

#[tokio::test]
async fn a_removed_file_is_not_recreated() {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    fs::remove_file(&path).unwrap();
    keys.end_at_the_bound(&node).await;
    all_is_unavailable(&node, &keys).await;
    assert!(!path.exists());
    // A folder, and a file that is no database.
    fs::create_dir(&path).unwrap();
    all_is_unavailable(&node, &keys).await;
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    all_is_unavailable(&node, &keys).await;
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "left alone");
}

#[tokio::test]
async fn a_new_process_uses_the_new_file() {
    let (dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    let copy = dir.path().join("copy.db");
    crate::common::back_up(&path, &copy);
    // What the log holds of the old file is not to be taken for the new one's.
    node.revoke(keys.cold.id()).await.unwrap();
    fs::rename(&copy, &path).unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(crate::common::beside(&path, suffix)).unwrap();
    }
    keys.end_at_the_bound(&node).await;
    all_is_unavailable(&node, &keys).await;
    let after = Node::open(&path).await;
    assert!(
        after.is_granted(&keys.cold).await,
        "of before the revocation"
    );
    assert!(after.is_revoked(&keys.revoked).await);
    all_is_unavailable(&node, &keys).await;
    drop(node);
    keys.are_as_before(&after).await;
    assert_eq!(came(&open(&path, SHORT)), Came::Fine);
}

#[tokio::test]
async fn a_file_that_must_exist_is_not_made() {
    let (dir, path) = file();
    let must_exist = |path: &std::path::Path| SqliteOptions::new().must_exist().open(path);
    let lost = dir.path().join("lost.db");
    assert_eq!(came(&must_exist(&lost)), Came::Unavailable);
    assert!(!lost.exists(), "none was made");
    fs::write(&lost, "").unwrap();
    assert_eq!(came(&must_exist(&lost)), Came::Unavailable);
    assert_eq!(fs::metadata(&lost).unwrap().len(), 0, "left alone");

    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    drop(node);
    let again = must_exist(&path).unwrap();
    assert!(again.get(keys.warm.id()).await.unwrap().is_some());
}
