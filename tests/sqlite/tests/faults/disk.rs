//! A disk that is full, writes that fail, and descriptors that have run out.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rusqlite::Connection;

use crate::child::{self, OWN_MOUNTS};
use crate::common::{Came, Keys, Node, PATIENCE, all_came_to, beside, open, reads, told, writes};

/// While nothing more can be written: commits fail, reads go on; what was acknowledged stays.
async fn nothing_is_lost(path: &Path, begin: impl FnOnce(), end: impl FnOnce()) {
    let node = Node::open(path).await;
    let keys = Keys::of(&node).await;
    begin();
    // The log has a little room left, in the block that it ends in.
    let mut acknowledged = Vec::new();
    let failure = loop {
        match node.try_issue().await {
            Ok(key) => acknowledged.push(key),
            Err(error) => break told::<()>(Err(error)),
        }
        assert!(acknowledged.len() < 1_000, "it is not full");
    };
    let failed = [Came::Unavailable, Came::Indeterminate];
    assert!(failed.contains(&failure), "{failure:?}");
    for _ in 0..3 {
        for (call, came) in writes(&node.store, keys.warm.id()).await {
            // The smallest may find room.
            assert!(
                came == Came::Fine || failed.contains(&came),
                "{call}: {came:?}"
            );
        }
    }
    assert!(failed.contains(&told(node.revoke(keys.cold.id()).await)));
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Fine);
    node.forget();
    assert!(node.is_granted(&keys.warm).await);
    assert!(node.is_revoked(&keys.revoked).await);

    end();
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
    keys.are_as_before(&node).await;
    acknowledged.push(node.issue().await);
    node.revoke(keys.warm.id()).await.unwrap();
    drop(node);
    let node = Node::open(path).await;
    for key in &acknowledged {
        assert!(node.is_granted(key).await, "acknowledged, and lost");
    }
    assert!(node.is_granted(&keys.cold).await);
    assert!(node.is_revoked(&keys.warm).await && node.is_revoked(&keys.revoked).await);
    let sound: String = Connection::open(path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let test = "disk::a_full_disk_loses_nothing";
    let Some(dir) = child::dir_or_run(OWN_MOUNTS, "mount -t tmpfs -o size=2m none \"$0\"", test)
    else {
        return;
    };
    let filler = dir.join("filler");
    let fill = || {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        // Short of a page.
        while file.write_all(&[0]).is_ok() {}
    };
    let path = dir.join("keys.db");
    nothing_is_lost(&path, fill, || fs::remove_file(&filler).unwrap()).await;
}

/// Sets the limit that binds, and leaves alone the one that it may be raised to.
fn limit(resource: Resource, most: u64) -> u64 {
    let (before, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, most, hard).unwrap();
    before
}

/// A write beyond the limit fails as one does that the disk cannot make: SQLite calls both an I/O error.
#[tokio::test]
async fn failed_writes_lose_nothing() {
    let test = "disk::failed_writes_lose_nothing";
    let Some(dir) = child::dir_or_run(&[], "trap '' XFSZ", test) else {
        return;
    };
    let path = dir.join("keys.db");
    let unlimited = getrlimit(Resource::RLIMIT_FSIZE).unwrap().0;
    let log = beside(&path, "-wal");
    let begin = || {
        let length = fs::metadata(&log).unwrap().len();
        limit(Resource::RLIMIT_FSIZE, length + 10_000);
    };
    let end = || {
        limit(Resource::RLIMIT_FSIZE, unlimited);
    };
    nothing_is_lost(&path, begin, end).await;
}

#[tokio::test]
async fn no_descriptors_means_unavailable() {
    let test = "disk::no_descriptors_means_unavailable";
    let Some(dir) = child::dir_or_run(&[], "true", test) else {
        return;
    };
    let path = dir.join("keys.db");
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    drop(node);
    // It has opened none of the connections that read.
    let store = open(&path, PATIENCE).unwrap();
    let before = limit(Resource::RLIMIT_NOFILE, 0);
    all_came_to(&reads(&store, keys.warm.id()).await, Came::Unavailable);
    limit(Resource::RLIMIT_NOFILE, before);
    all_came_to(&reads(&store, keys.warm.id()).await, Came::Fine);
    keys.are_as_before(&Node::open(&path).await).await;
}
