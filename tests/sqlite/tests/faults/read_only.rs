//! Files and folders that may not be written to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::child::{self, BOUND_BY_PERMISSIONS, OWN_MOUNTS};
use crate::common::{
    Came, Keys, Node, SHORT, all_came_to, beside, came, open, reads, told, writes,
};

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// That permissions bind whoever runs this.
fn assert_bound(dir: &Path) {
    let probe = dir.join("probe");
    fs::write(&probe, "").unwrap();
    permit(&probe, 0o444);
    let opened = fs::File::options().write(true).open(&probe);
    assert!(opened.is_err(), "permissions do not bind this process");
}

#[tokio::test]
async fn unwritable_files_are_not_opened() {
    let test = "read_only::unwritable_files_are_not_opened";
    let Some(dir) = child::dir_or_run(BOUND_BY_PERMISSIONS, "true", test) else {
        return;
    };
    assert_bound(&dir);
    let path = dir.join("keys.db");
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    drop(node);
    for (what, to, back) in [(&path, 0o444, 0o644), (&dir, 0o555, 0o755)] {
        permit(what, to);
        assert_eq!(came(&open(&path, SHORT)), Came::Unavailable, "{what:?}");
        permit(what, back);
        // SQLite makes what it keeps beside a file with the file's own permissions.
        for suffix in ["-wal", "-shm"] {
            if fs::exists(beside(&path, suffix)).unwrap() {
                permit(&beside(&path, suffix), 0o644);
            }
        }
        keys.are_as_before(&Node::open(&path).await).await;
    }
    permit(&path, 0);
    assert_eq!(came(&open(&path, SHORT)), Came::Unavailable);
    permit(&path, 0o644);
    assert_eq!(
        came(&open(&dir.join("no/such/folder.db"), SHORT)),
        Came::Unavailable
    );
    assert_eq!(came(&open(&dir, SHORT)), Came::Unavailable, "a folder");
}

#[tokio::test]
async fn becoming_read_only_loses_nothing() {
    let test = "read_only::becoming_read_only_loses_nothing";
    let Some(dir) = child::dir_or_run(BOUND_BY_PERMISSIONS, "true", test) else {
        return;
    };
    assert_bound(&dir);
    let path = dir.join("keys.db");
    // A write that is refused is refused at once. It is not patient without end, in case SQLite waits for what it may
    // not have.
    let node = Node::over(open(&path, Duration::from_secs(5)).unwrap()).await;
    let keys = Keys::of(&node).await;
    let files = [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")];
    for file in &files {
        permit(file, 0o444);
    }
    permit(&dir, 0o555);
    // What is open stays open to it; what is opened anew may be refused, and is not half done.
    for _ in 0..2 {
        for (call, came) in reads(&node.store, keys.warm.id()).await {
            let is_known = matches!(came, Came::Fine | Came::Unavailable);
            assert!(is_known, "{call}: {came:?}");
        }
        for (call, came) in writes(&node.store, keys.warm.id()).await {
            let is_known = matches!(came, Came::Fine | Came::Unavailable);
            assert!(is_known, "{call}: {came:?}");
        }
    }
    assert_eq!(
        came(&open(&path, SHORT)),
        Came::Unavailable,
        "another process"
    );
    let revoked = told(node.revoke(keys.cold.id()).await);
    permit(&dir, 0o755);
    for file in &files {
        permit(file, 0o644);
    }
    node.forget();
    assert!(node.is_granted(&keys.warm).await);
    assert_eq!(node.is_granted(&keys.cold).await, revoked != Came::Fine);
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
    drop(node);
    let node = Node::open(&path).await;
    assert_eq!(node.is_granted(&keys.cold).await, revoked != Came::Fine);
    assert!(node.is_revoked(&keys.revoked).await);
}

fn remount(dir: &Path, how: &str) {
    let options = format!("remount,bind,{how}");
    let status = Command::new("mount")
        .args(["-o", &options])
        .arg(dir)
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn read_only_mounts_are_not_opened() {
    let test = "read_only::read_only_mounts_are_not_opened";
    let Some(dir) = child::dir_or_run(OWN_MOUNTS, "mount --bind \"$0\" \"$0\" && cd /", test)
    else {
        return;
    };
    let path = dir.join("keys.db");
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    drop(node);
    remount(&dir, "ro");
    assert!(
        fs::write(dir.join("probe"), "").is_err(),
        "it is not read-only"
    );
    assert_eq!(came(&open(&path, SHORT)), Came::Unavailable);
    assert_eq!(came(&open(&dir.join("new.db"), SHORT)), Came::Unavailable);
    remount(&dir, "rw");
    keys.are_as_before(&Node::open(&path).await).await;
}
