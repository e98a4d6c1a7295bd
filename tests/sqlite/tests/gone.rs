//! Promises 3 and 17 of the trust in a store: while the file cannot be had, nothing is granted beyond the lease, and
//! what cannot be decided is a 503: never a 401, never a grant. When it is back, so is everything else.
//!
//! Planted bug that it catches: a file that is put in its place is taken for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "faults/child.rs"]
mod child;
#[path = "faults/common.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward::key::ApiKey;
use keyward::verifier::{DenialClass, DenialReason};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::child::{Holder, hold};
use crate::common::{
    BOUND, Came, INSTANT, Keys, Node, TRIES, all_came_to, behind, beside, file, in_time, reads,
    writes,
};

/// Asks for each of these keys many times at once; that all were told that it cannot be decided.
async fn all_are_undecidable(node: &Node, keys: &[&Arc<ApiKey>]) {
    let asking = keys.iter().cycle().take(keys.len() * 20).map(|key| {
        let (keyward, key) = (node.keyward.clone(), Arc::clone(key));
        tokio::spawn(async move {
            let any = keyward::verifier::Requirement::any_key();
            let attempt = keyward::verifier::Attempt::new(key.presented(), &any);
            keyward.verifier().verify(&attempt).await
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        let denial = in_time(asked).await.unwrap().expect_err("a grant");
        assert_eq!(denial.class(), DenialClass::Undecidable);
        assert_eq!(denial.class().status(), 503);
        let is_for_the_store = matches!(
            denial.reason(),
            DenialReason::Store(_) | DenialReason::StaleCache
        );
        assert!(is_for_the_store, "{}", denial.reason());
    }
}

/// The file goes, the lease ends, it comes back.
async fn outlasts(go: impl FnOnce(&Path), come_back: impl FnOnce(&Path)) {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    go(&path);
    keys.end_at_the_bound(&node).await;
    all_are_undecidable(&node, &[&keys.warm, &keys.cold, &keys.revoked]).await;
    node.monotonic.advance(BOUND * 1_000);
    all_are_undecidable(&node, &[&keys.warm, &keys.cold, &keys.revoked]).await;
    come_back(&path);
    is_back(&node, &keys).await;
}

async fn is_back(node: &Node, keys: &Keys) {
    in_time(async {
        while !node.is_granted(&keys.warm).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    keys.are_as_before(node).await;
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Fine);
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
    node.revoke(keys.warm.id()).await.unwrap();
    assert!(node.is_revoked(&keys.warm).await);
}

#[tokio::test]
async fn it_outlasts_a_missing_file() {
    let away = |path: &Path| beside(path, ".away");
    let go = |path: &Path| fs::rename(path, away(path)).unwrap();
    outlasts(go, |path| fs::rename(away(path), path).unwrap()).await;
}

#[tokio::test]
async fn it_outlasts_a_replaced_file() {
    let away = |path: &Path| beside(path, ".away");
    let go = |path: &Path| {
        fs::rename(path, away(path)).unwrap();
        // Without any key, and of a store's own making.
        let other = beside(path, ".other");
        drop(keyward::store::SqliteStore::open(&other).unwrap());
        fs::rename(&other, path).unwrap();
    };
    outlasts(go, |path| fs::rename(away(path), path).unwrap()).await;
}

#[tokio::test]
async fn it_outlasts_missing_tables() {
    let rename = |path: &Path, from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        behind(path).execute_batch(&sql).unwrap();
    };
    let go = |path: &Path| rename(path, "keyward_keys", "gone");
    outlasts(go, |path| rename(path, "gone", "keyward_keys")).await;
}

/// Takes all the locks by which readers and writers find their place in the log, and holds them.
fn hold_the_index(path: &Path) {
    let index = beside(path, "-shm");
    let index = File::options().read(true).write(true).open(index).unwrap();
    // The eight bytes that SQLite locks there: https://sqlite.org/walformat.html, "WAL Locks".
    let locks = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 120,
        l_len: 8,
        l_pid: 0,
    };
    fcntl(&index, FcntlArg::F_SETLK(&locks)).unwrap();
    hold();
}

/// As a process does that recovers the log after a crash, and one that was stopped meanwhile.
#[tokio::test]
async fn it_outlasts_a_locked_file() {
    if let Some(dir) = child::dir() {
        return hold_the_index(&dir.join("keys.db"));
    }
    let (dir, path) = file();
    let keys = Keys::of(&Node::open(&path).await).await;
    // It is told of the locks by waiting for them.
    let node = Node::impatient(&path).await;
    assert!(node.decides(&keys.warm).await.is_ok());
    let holder = Holder::of("it_outlasts_a_locked_file", dir.path());
    keys.end_at_the_bound(&node).await;
    all_are_undecidable(&node, &[&keys.warm, &keys.cold, &keys.revoked]).await;
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Unavailable);
    for (call, came) in writes(&node.store, keys.warm.id()).await {
        // Told by SQLite, or given up for the time that it took.
        let is_known = matches!(came, Came::Unavailable | Came::Indeterminate);
        assert!(is_known, "{call}: {came:?}");
    }
    holder.let_go();
    keys.are_decided_as_before(&node).await;
    // Each call works again, though not each time: its store is not patient with this machine.
    let mut work = BTreeSet::new();
    for _ in 0..TRIES * 10 {
        let read = reads(&node.store, keys.warm.id()).await;
        let written = writes(&node.store, keys.warm.id()).await;
        let fine = read.iter().chain(&written);
        work.extend(fine.filter_map(|(call, came)| (*came == Came::Fine).then_some(*call)));
        if work.len() == read.len() + written.len() {
            break;
        }
    }
    assert_eq!(work.len(), 9, "only these work: {work:?}");
    is_back(&Node::open(&path).await, &keys).await;
    node.forget();
    assert!(node.decides(&keys.warm).await.is_err(), "revoked meanwhile");
}

#[tokio::test]
async fn a_follower_stops_at_the_bound() {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    let background = tokio::spawn(node.keyward.background());
    let stats = || node.keyward.verifier().stats();
    let until = |met: fn(keyward::verifier::VerifierStats) -> bool| {
        in_time(async move {
            while !met(stats()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    until(|stats| stats.feed_is_current).await;
    assert!(node.is_granted(&keys.warm).await);
    let away = beside(&path, ".away");
    fs::rename(&path, &away).unwrap();
    until(|stats| stats.feed_poll_failures > 0).await;
    node.monotonic.advance(BOUND - INSTANT);
    node.monotonic.advance(INSTANT);
    for key in [&keys.warm, &keys.cold, &keys.revoked] {
        assert!(node.is_undecidable(key).await);
    }
    assert!(!stats().feed_is_current);
    fs::rename(&away, &path).unwrap();
    until(|stats| stats.feed_is_current).await;
    keys.are_as_before(&node).await;
    background.abort();
}
