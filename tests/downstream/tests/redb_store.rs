//! The backend's own part: the file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use downstream::RedbStore;
use keyward::audit::{ChainHead, Event, EventAction, verify_chain};
use keyward::key::{Digest, KeyId, Principal, RevokeReason, StoredKey, TenantId, Title};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Cursor, CutoffScope, FeedPage, KeyStore, ListQuery, Outcome,
    Precondition, Segments, StoreError, Usage,
};
use keyward::time::{Date, OffsetDateTime};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

const KEYS: TableDefinition<u128, &[u8]> = TableDefinition::new("keys");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

fn key(id: u128) -> StoredKey {
    StoredKey {
        id: KeyId::from_u128(id),
        tenant: tenant(),
        owner: Principal::user("alice").unwrap(),
        title: Title::new("title").unwrap(),
        created_at: at(1_000) + Duration::from_micros(7),
        revocation: None,
        expires_at: Some(at(9_000)),
        predecessor: Some(KeyId::from_u128(77)),
        lineage: KeyId::from_u128(77),
        digest: Digest::new("$keyward-sha256$canary").unwrap(),
        revision: 1,
        schema: 3,
        document: b"\n{\"opaque\":\n\xff}".as_slice().into(),
        cutoff: None,
    }
}

fn insert(id: u128) -> Change {
    Change::Insert(Box::new(key(id)))
}

fn revoke(id: u128) -> Change {
    Change::Revoke {
        id: KeyId::from_u128(id),
        at: at(2_000),
        reason: RevokeReason::other("left the company").unwrap(),
    }
}

fn event(id: u128, at: OffsetDateTime) -> Event {
    Event {
        at,
        tenant: Some(tenant()),
        actor: Principal::user("alice").unwrap(),
        action: EventAction::KeyIssued,
        key: Some(KeyId::from_u128(id)),
        title: None,
        changes: Vec::new(),
        request: None,
        client: None,
    }
}

fn change_id() -> ChangeId {
    ChangeId::generate(&OsRandom)
}

fn set(changes: impl IntoIterator<Item = Change>) -> ChangeSet {
    ChangeSet::new(change_id(), changes).unwrap()
}

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.redb");
    (dir, path)
}

async fn head(store: &RedbStore) -> Cursor {
    match store.changes(None, Duration::ZERO).await.unwrap() {
        FeedPage::Resync { next } => next,
        page @ FeedPage::Next { .. } => panic!("{page:?}"),
    }
}

/// Puts a row into a closed file, past the store.
fn plant(path: &Path, id: u128, row: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut keys = transaction.open_table(KEYS).unwrap();
        let old = keys.remove(1).unwrap().unwrap().value().to_vec();
        keys.insert(id, row(old).as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_reopened_file_keeps_every_commit() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let first = head(&store).await;
    let retried = set([insert(1), insert(2), insert(3)])
        .with_event_of(0, event(1, at(1_000)))
        .with_event_of(1, event(2, at(1_000)));
    let committed = store.commit(&retried).await.unwrap();
    let cutoff = Change::Cutoff {
        scope: CutoffScope::from(&tenant()),
        before: at(1_500),
    };
    let setting = Change::Setting {
        name: "name".into(),
        value: "first".into(),
    };
    store
        .commit(&set([revoke(2), cutoff, setting]))
        .await
        .unwrap();
    let used = Usage::new(at(3_000), 4, 5);
    let batch = (change_id(), [(KeyId::from_u128(1), used)]);
    let usage = store.usage().unwrap();
    usage.merge(batch.0, &batch.1).await.unwrap();

    let all = ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked);
    let before = store.list(&all).await.unwrap();
    let news = store.changes(Some(&first), Duration::ZERO).await.unwrap();
    let last = head(&store).await;
    let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.list(&all).await.unwrap(), before);
    let listed: Vec<_> = before.items.iter().map(|key| key.id.as_u128()).collect();
    assert_eq!(listed, [3, 1, 2]);
    let read = store.get(KeyId::from_u128(1)).await.unwrap().unwrap();
    let cut = Some(at(1_500));
    assert_eq!(
        read,
        StoredKey {
            cutoff: cut,
            ..key(1)
        }
    );
    assert_eq!(
        head(&store).await,
        last,
        "the history and the position stay"
    );
    let again = store.changes(Some(&first), Duration::ZERO).await.unwrap();
    assert_eq!(again, news);
    assert_eq!(store.commit(&retried).await.unwrap(), committed);
    let log = store.events().unwrap();
    assert_eq!(log.read(None, 0, 10).await.unwrap(), events);
    assert_eq!(log.read(Some(&tenant()), 1, 10).await.unwrap(), events[1..]);
    let stands = Change::Setting {
        name: "name".into(),
        value: "second".into(),
    };
    let outcomes = store.commit(&set([stands])).await.unwrap().outcomes;
    let stands = "first".to_owned();
    assert_eq!(outcomes, [Outcome::Setting { stands }]);
    let usage = store.usage().unwrap();
    usage.merge(batch.0, &batch.1).await.unwrap();
    let ids = [1, 2].map(KeyId::from_u128);
    assert_eq!(usage.read(&ids).await.unwrap(), [Some(used), None]);

    // The chain of events and the positions go on where they were.
    let more = set([insert(4)]).with_event(event(4, at(1_000)));
    let position = store.commit(&more).await.unwrap().position;
    assert_eq!(position, last.position + 1);
    let events = log.read(None, 0, 10).await.unwrap();
    assert_eq!(events.len(), 3);
    verify_chain(ChainHead::default(), &events).unwrap();
}

#[tokio::test]
async fn unreadable_rows_are_corrupt() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let swapped: Damage = |row| {
        let text = String::from_utf8_lossy(&row).into_owned();
        text.replace("1000000007", "\"$keyward-sha256$canary\"")
            .into()
    };
    let damages: [(u128, Damage); 4] = [
        (1, |_| Vec::new()),
        (1, |_| b"{}\n".to_vec()),
        (1, swapped),
        (2, |row| row), // another key's row
    ];
    for (case, (id, damage)) in damages.into_iter().enumerate() {
        let (_dir, path) = file();
        let store = RedbStore::open(&path).unwrap();
        store.commit(&set([insert(1)])).await.unwrap();
        drop(store);
        plant(&path, id, damage);

        let store = RedbStore::open(&path).unwrap();
        let id = KeyId::from_u128(id);
        let listed = store.list(&ListQuery::of(&tenant())).await.unwrap_err();
        let read = store.get(id).await.unwrap_err();
        let revoked = store.commit(&set([revoke(id.as_u128())])).await;
        for error in [listed, read, revoked.unwrap_err()] {
            assert!(matches!(error, StoreError::Corrupt(_)), "{case}: {error:?}");
            assert!(!format!("{error:?}").contains("canary"), "{case}");
        }
    }
}

#[tokio::test]
async fn unknown_layouts_are_not_opened() {
    for counters in [None, Some(b"{\"layout\":2}".as_slice())] {
        let (_dir, path) = file();
        let store = RedbStore::open(&path).unwrap();
        store.commit(&set([insert(1)])).await.unwrap();
        drop(store);
        {
            let database = Database::open(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            {
                let mut meta = transaction.open_table(META).unwrap();
                meta.remove("meta").unwrap();
                if let Some(counters) = counters {
                    meta.insert("meta", counters).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        let opened = RedbStore::open(&path);
        assert!(matches!(opened, Err(StoreError::Corrupt(_))), "{opened:?}");
    }
    let (_dir, path) = file();
    std::fs::write(&path, b"not a database at all".repeat(1_000)).unwrap();
    RedbStore::open(&path).unwrap_err();
}

#[tokio::test]
async fn clones_share_the_file_exclusively() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let clone = store.clone();
    let before = head(&clone).await;
    let waiting = tokio::spawn({
        let before = before.clone();
        async move { clone.changes(Some(&before), Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    store.commit(&set([insert(1)])).await.unwrap();
    let FeedPage::Next { items, next, .. } = waiting.await.unwrap().unwrap() else {
        panic!("resync");
    };
    assert_eq!((items.len(), next.position), (1, before.position + 1));
    assert!(matches!(
        RedbStore::open(&path),
        Err(StoreError::Unavailable(_))
    ));
    drop(store);
    RedbStore::open(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_commits_respect_the_cap() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let commits: Vec<_> = (0..24)
        .map(|id| {
            let store = store.clone();
            let set = set([insert(id)])
                .on_condition(Precondition::UnrevokedKeysBelow {
                    tenant: tenant(),
                    limit: 8.try_into().unwrap(),
                })
                .with_event(event(id, at(1_000)));
            tokio::spawn(async move { store.commit(&set).await })
        })
        .collect();
    let mut positions = Vec::new();
    for commit in commits {
        match commit.await.unwrap() {
            Ok(committed) => positions.push(committed.position),
            Err(error) => {
                let expected = StoreError::PreconditionFailed { index: 0 };
                assert_eq!(error.to_string(), expected.to_string());
            }
        }
    }
    positions.sort_unstable();
    assert_eq!(positions, (1..=8).collect::<Vec<_>>());
    let events = store.events().unwrap().read(None, 0, 100).await.unwrap();
    assert_eq!(events.len(), 8);
    verify_chain(ChainHead::default(), &events).unwrap();
}

#[tokio::test]
async fn a_dropped_commit_is_all_or_nothing() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    for (id, polls) in (0..20).zip([0, 1, 2, 3].into_iter().cycle()) {
        let torn = set([insert(id), insert(1_000 + id)]);
        let commit = store.commit(&torn);
        tokio::pin!(commit);
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut commit => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    // The next writer's turn comes after those that were dropped.
    store.commit(&set([insert(9_999)])).await.unwrap();
    for id in 0..20 {
        let first = store.get(KeyId::from_u128(id)).await.unwrap();
        let second = store.get(KeyId::from_u128(1_000 + id)).await.unwrap();
        assert_eq!(first.is_some(), second.is_some(), "{id}");
    }
}

#[tokio::test]
async fn event_faults_stop_all_but_revokes() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    store.commit(&set([insert(1)])).await.unwrap();
    let before_christ = Date::MIN.midnight().assume_utc();
    let issue = set([insert(2)]).with_event(event(2, before_christ));
    assert!(store.commit(&issue).await.is_err());
    assert!(store.get(KeyId::from_u128(2)).await.unwrap().is_none());
    let revoke = set([revoke(1)]).with_event(event(1, before_christ));
    let committed = store.commit(&revoke).await.unwrap();
    assert_eq!(committed.outcomes, [Outcome::Revoked]);

    store
        .commit(&set([insert(3)]).with_event(event(3, at(1_000))))
        .await
        .unwrap();
    let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    verify_chain(ChainHead::default(), &events).unwrap();
}

#[test]
fn no_runtime_means_unavailable() {
    let (_dir, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let mut call = store.get(KeyId::from_u128(1));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(answer) = call.as_mut().poll(&mut context) else {
        panic!("pending");
    };
    assert!(matches!(answer, Err(StoreError::Unavailable(_))));
}
