//! A file that a later version has brought to its own schema.

use std::path::Path;

use rusqlite::params;

use crate::common::{
    Came, Keys, Node, SHORT, all_came_to, behind, came, file, open, reads, told, writes,
};

fn say(path: &Path, version: i64, oldest_reader: i64) {
    let sql = "UPDATE keyward_meta SET schema_version = ?1, oldest_reader = ?2";
    let changed = behind(path).execute(sql, params![version, oldest_reader]);
    assert_eq!(changed.unwrap(), 1);
}

#[tokio::test]
async fn a_compatible_later_schema_is_used() {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    say(&path, 2, 1);
    for node in [node, Node::open(&path).await] {
        keys.are_as_before(&node).await;
        all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Fine);
        all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
        node.issue().await;
    }
    let sql = "SELECT schema_version FROM keyward_meta";
    let version: i64 = behind(&path).query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn a_newer_schema_is_not_opened() {
    let (_dir, path) = file();
    drop(Node::open(&path).await);
    say(&path, 2, 2);
    let refused = open(&path, SHORT);
    assert_eq!(came(&refused), Came::Unavailable);
    let error = refused.err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("too new"), "{source}");
}

#[tokio::test]
async fn a_schema_upgrade_stops_the_store() {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    say(&path, 2, 2);
    keys.end_at_the_bound(&node).await;
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Unavailable);
    all_came_to(
        &writes(&node.store, keys.warm.id()).await,
        Came::Unavailable,
    );
    assert_eq!(told(node.try_issue().await), Came::Unavailable);
    assert_eq!(told(node.revoke(keys.cold.id()).await), Came::Unavailable);
    say(&path, 2, 1);
    keys.are_as_before(&node).await;
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
}

#[tokio::test]
async fn an_unknown_schema_is_corrupt() {
    let (_dir, path) = file();
    drop(Node::open(&path).await);
    say(&path, -1, 1);
    assert_eq!(came(&open(&path, SHORT)), Came::Corrupt);
}
