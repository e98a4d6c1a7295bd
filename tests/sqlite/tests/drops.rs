//! Promise 16 for each call of the store: a future dropped after its k-th poll, for every k, leaves no open
//! transaction. Each is dropped at once after the poll, and also a while later, when what it waited for was done and
//! nobody had heard of it. What is open shows to a second connection, which has to get the lock, and to empty the log,
//! which it cannot while anybody reads. The manager's operations are `tests/trust/t16_dropped_futures.rs`.
//!
//! A planted bug that it catches: a transaction that is begun in one step of the future and committed in another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use keyward::key::KeyId;
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, EventLog, FeedPage, KeyStore, ListQuery, SqliteStore, Usage,
    UsageStore,
};
use keyward::time::OffsetDateTime;
use rusqlite::Connection;
use sqlite_store::{assert_nothing_is_open, fast_folder, open_patiently};
use test_support::fixture::{poll_times, stored_key, tenant};

/// Long enough for what was begun to be done.
const WHILE: Duration = Duration::from_millis(4);

/// Adds two keys.
fn two(id: u128) -> ChangeSet {
    let changes = [id, id + 1].map(|id| Change::Insert(Box::new(stored_key(KeyId::from_u128(id)))));
    ChangeSet::new(ChangeId::generate(&OsRandom), changes).unwrap()
}

/// How many keys of a set are there.
async fn landed(store: &SqliteStore, set: &ChangeSet) -> usize {
    let mut there = 0;
    for id in set.changes().iter().filter_map(Change::key_id) {
        there += usize::from(store.get(id).await.unwrap().is_some());
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_leaves_nothing_open() {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    let store = open_patiently(&path).unwrap();
    store.commit(&two(0)).await.unwrap();
    let (first, second) = (KeyId::from_u128(0), KeyId::from_u128(1));
    let query = ListQuery::of(&tenant());
    let used = Usage::new(OffsetDateTime::UNIX_EPOCH, 1, 0);
    let mut used_times = 0;
    for (round, polls) in (1..).zip((0..6).chain(0..6)) {
        let pass = if round > 6 { WHILE } else { Duration::ZERO };
        let FeedPage::Resync { next } = store.changes(None, Duration::ZERO).await.unwrap() else {
            panic!("no cursor was given");
        };
        let _ = poll_times(store.get(first), polls, pass).await;
        let _ = poll_times(store.list(&query), polls, pass).await;
        let _ = poll_times(store.changes(Some(&next), Duration::ZERO), polls, pass).await;
        let waiting = store.changes(Some(&next), Duration::from_secs(60));
        let _ = poll_times(waiting, polls, pass).await;
        let _ = poll_times(EventLog::read(&store, None, 0, 9), polls, pass).await;
        let _ = poll_times(UsageStore::read(&store, &[first, second]), polls, pass).await;
        let _ = poll_times(store.begin_new_history(), polls, pass).await;
        assert_nothing_is_open(&store, &path).await;

        let set = two(round * 10);
        let ended = poll_times(store.commit(&set), polls, pass).await;
        assert_nothing_is_open(&store, &path).await;
        let keys = landed(&store, &set).await;
        assert!(keys == 2 || keys == 0 && ended.is_none(), "{polls}: {keys}");
        store.commit(&set).await.unwrap();
        assert_eq!(landed(&store, &set).await, 2);

        let batch = (ChangeId::generate(&OsRandom), [(first, used)]);
        let _ = poll_times(store.merge(batch.0, &batch.1), polls, pass).await;
        assert_nothing_is_open(&store, &path).await;
        store.merge(batch.0, &batch.1).await.unwrap();
        used_times += 1;
        let usage = UsageStore::read(&store, &[first]).await.unwrap();
        assert_eq!(usage[0].map(|usage| usage.granted), Some(used_times));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_under_a_lock_are_safe() {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    let store = open_patiently(&path).unwrap();
    let process = Connection::open(&path).unwrap();
    for (round, polls) in (1..).zip(0..6) {
        process.execute_batch("BEGIN IMMEDIATE").unwrap();
        // One has its turn and waits for the lock; the others wait for their turn.
        let sets = [
            two(round * 100),
            two(round * 100 + 10),
            two(round * 100 + 20),
        ];
        let calls = sets.each_ref().map(|set| {
            let (store, set) = (store.clone(), set.clone());
            let most = Duration::from_millis(30);
            tokio::spawn(async move {
                let commit = poll_times(store.commit(&set), polls, Duration::ZERO);
                tokio::time::timeout(most, commit)
                    .await
                    .is_ok_and(|ended| ended.is_some())
            })
        });
        for call in calls {
            assert!(!call.await.unwrap(), "nothing is committed under the lock");
        }
        process.execute_batch("COMMIT").unwrap();
        assert_nothing_is_open(&store, &path).await;
        let mut began = 0;
        for set in &sets {
            let keys = landed(&store, set).await;
            assert!(matches!(keys, 0 | 2), "{keys}");
            began += keys / 2;
            store.commit(set).await.unwrap();
            assert_eq!(landed(&store, set).await, 2);
        }
        assert!(began <= 1, "who never had a turn does nothing: {began}");
    }
}
