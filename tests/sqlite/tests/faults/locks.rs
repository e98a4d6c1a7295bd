//! Others hold the file for longer than the store is patient.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use keyward::key::PresentedKey;
use keyward::store::{FeedPage, KeyStore, SqliteOptions, SqliteStore};
use keyward::verifier::{Attempt, DenialClass, Requirement};
use rusqlite::Connection;

use crate::child::{self, Holder, hold};
use crate::common::{
    BOUND, Came, Keys, Node, PATIENCE, SHORT, TRIES, actor, all_came_to, behind, came, file,
    for_certain, in_time, open, reads, tenant, told, writes,
};

/// Keeps others from writing.
fn lock(path: &Path) -> Connection {
    let connection = behind(path);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Each call that writes waits for SQLite, and then gives up, having done nothing. One that gave up too soon to know
/// that much is made again.
async fn writes_give_up(store: &SqliteStore, keys: &Keys) {
    let begun = Instant::now();
    let mut certain = BTreeSet::new();
    for _ in 0..TRIES {
        let calls = writes(store, keys.warm.id()).await;
        let told = calls
            .iter()
            .filter(|(_, came)| *came != Came::Indeterminate);
        let told: Vec<_> = told.copied().collect();
        all_came_to(&told, Came::Unavailable);
        certain.extend(told.iter().map(|(call, _)| *call));
        if certain.len() == calls.len() {
            break;
        }
        tokio::time::sleep(SHORT * 3).await;
    }
    assert_eq!(certain.len(), 4, "only these ever knew: {certain:?}");
    assert!(begun.elapsed() >= SHORT * 4, "{:?}", begun.elapsed());
}

/// While somebody else is writing, all that reads goes on, and what writes gives up having done nothing.
async fn survives_a_writer(node: &Node, impatient: &Node, keys: &Keys) {
    writes_give_up(&impatient.store, keys).await;
    all_came_to(&reads(&node.store, keys.warm.id()).await, Came::Fine);
    let issued = for_certain(async || told(impatient.try_issue().await)).await;
    assert_eq!(issued, Came::Unavailable);
    let revoked = for_certain(async || told(impatient.revoke(keys.cold.id()).await)).await;
    assert_eq!(revoked, Came::Unavailable);
    for node in [node, impatient] {
        node.monotonic.advance(BOUND);
    }
    keys.are_as_before(node).await;
    keys.are_decided_as_before(impatient).await;
    assert_eq!(node.list().await.unwrap().keys.len(), 2, "nothing was done");
}

async fn works_again(node: &Node, keys: &Keys) {
    keys.are_as_before(node).await;
    all_came_to(&writes(&node.store, keys.warm.id()).await, Came::Fine);
    node.revoke(keys.cold.id()).await.unwrap();
    assert!(node.is_revoked(&keys.cold).await);
    let fresh = node.issue().await;
    assert!(node.is_granted(&fresh).await);
}

#[tokio::test]
async fn another_connection_blocks_writes_only() {
    let (_dir, path) = file();
    let (node, impatient) = (Node::open(&path).await, Node::impatient(&path).await);
    let keys = Keys::of(&node).await;
    let held = lock(&path);
    survives_a_writer(&node, &impatient, &keys).await;
    drop(held);
    works_again(&node, &keys).await;
}

/// While the lock is held nothing that writes comes to its end. So whatever does come to its end meanwhile has not
/// waited for the lock.
#[tokio::test]
async fn verifications_wait_for_no_writer() {
    let (_dir, path) = file();
    let first = Node::open(&path).await;
    let keys = Keys::of(&first).await;
    // More than have their digests replaced at the same time.
    let mut outdated = Vec::new();
    for _ in 0..80 {
        outdated.push(first.issue().await);
    }
    // Far more patient than `in_time`.
    let store = open(&path, Duration::from_mins(2)).unwrap();
    let node = Arc::new(Node::given_a_pepper(store).await);
    let digest = async |id| node.store.get(id).await.unwrap().unwrap().digest;
    let before = digest(outdated[0].id()).await;
    // A key that is warm, of use that is to be written.
    let warm = node.issue().await;
    assert!(node.is_granted(&warm).await);

    let held = lock(&path);
    let writer = Arc::clone(&node);
    let flushing = tokio::spawn(async move { writer.keyward.flush_usage().await });
    let writer = Arc::clone(&node);
    let issuing = tokio::spawn(async move { writer.try_issue().await });
    in_time(async {
        for _ in 0..2 {
            for key in outdated.iter().chain([&keys.warm, &keys.cold, &warm]) {
                assert!(node.is_granted(key).await);
            }
            assert!(node.is_revoked(&keys.revoked).await);
            let id = keys.cold.id().to_string();
            let wrong = PresentedKey::pair(&id, warm.expose_secret());
            let denial = node.verify_presented(wrong).await.unwrap_err();
            assert_eq!(denial.class(), DenialClass::Unauthenticated);
            node.forget();
        }
        let any = Requirement::any_key();
        for (key, is_granted) in [(&warm, true), (&outdated[0], true), (&keys.revoked, false)] {
            let attempt = Attempt::new(key.presented(), &any);
            let explained = node.keyward.verifier().explain(&attempt).await;
            assert_eq!(explained.denial().is_none(), is_granted);
        }
        assert_eq!(node.list().await.unwrap().keys.len(), 50);
        let (actor, tenant) = (actor(), tenant());
        let record = node.keyward.manager().get(&actor, &tenant, warm.id());
        assert_eq!(record.await.unwrap().id(), warm.id());
    })
    .await;
    assert!(
        !flushing.is_finished() && !issuing.is_finished(),
        "they write"
    );
    assert_eq!(digest(outdated[0].id()).await, before);
    drop(held);

    in_time(async {
        assert!(flushing.await.unwrap().unwrap() > 0);
        let issued = issuing.await.unwrap().unwrap();
        assert!(node.is_granted(&issued).await);
        // Some task has replaced it, or the next one to be asked about it does.
        while digest(outdated[0].id()).await == before {
            node.forget();
            assert!(node.is_granted(&outdated[0]).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn another_process_blocks_writes_only() {
    if let Some(dir) = child::dir() {
        let _held = lock(&dir.join("keys.db"));
        return hold();
    }
    let (dir, path) = file();
    let (node, impatient) = (Node::open(&path).await, Node::impatient(&path).await);
    let keys = Keys::of(&node).await;
    let holder = Holder::of("locks::another_process_blocks_writes_only", dir.path());
    survives_a_writer(&node, &impatient, &keys).await;
    holder.let_go();
    works_again(&node, &keys).await;
}

/// Keeps others from reading as well. It can be had only while nobody has the file open.
fn lock_exclusively(path: &Path) -> Connection {
    let connection = behind(path);
    connection
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .unwrap();
    connection
}

#[tokio::test]
async fn an_exclusive_lock_fails_the_open() {
    if let Some(dir) = child::dir() {
        let _held = lock_exclusively(&dir.join("keys.db"));
        return hold();
    }
    let (dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    drop(node);
    let holder = Holder::of("locks::an_exclusive_lock_fails_the_open", dir.path());
    let begun = Instant::now();
    assert_eq!(came(&open(&path, SHORT)), Came::Unavailable);
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
    holder.let_go();
    keys.are_as_before(&Node::open(&path).await).await;
}

#[tokio::test]
async fn a_patient_store_waits_for_the_lock() {
    let (_dir, path) = file();
    let node = Node::over(open(&path, PATIENCE).unwrap()).await;
    let key = node.issue().await;
    let held = lock(&path);
    let is_let_go = Arc::new(AtomicBool::new(false));
    let letting_go = Arc::clone(&is_let_go);
    let letting_go = tokio::task::spawn_blocking(move || {
        std::thread::sleep(SHORT * 3);
        letting_go.store(true, Ordering::SeqCst);
        drop(held);
    });
    node.revoke(key.id()).await.unwrap();
    assert!(is_let_go.load(Ordering::SeqCst), "it did not wait");
    assert!(node.is_revoked(&key).await);
    letting_go.await.unwrap();
}

/// A commit that was given up is not to land long after, when nobody expects it any more.
#[test]
fn a_commit_given_up_never_lands() {
    let (_dir, path) = file();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (node, impatient) = (Node::open(&path).await, Node::impatient(&path).await);
        let (release, held) = mpsc::channel();
        let busy = tokio::task::spawn_blocking(move || held.recv_timeout(PATIENCE).unwrap());
        assert_eq!(told(impatient.try_issue().await), Came::Indeterminate);
        release.send(()).unwrap();
        busy.await.unwrap();
        // Whatever was waiting for the thread has had it before this.
        assert!(node.list().await.unwrap().keys.is_empty());
        let issued = async || told(impatient.try_issue().await);
        in_time(async { while issued().await != Came::Fine {} }).await;
    });
}

#[tokio::test]
async fn extreme_options_are_accepted() {
    let (_dir, path) = file();
    let options = SqliteOptions::new().patience(Duration::MAX).readers(0);
    let node = Node::over(options.open(&path).unwrap()).await;
    let changes = node.store.changes(None, Duration::MAX).await;
    assert!(matches!(changes, Ok(FeedPage::Resync { .. })));
    node.try_issue().await.unwrap();
}
