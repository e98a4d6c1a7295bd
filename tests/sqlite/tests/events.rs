//! Promise 18 where the table of events fails: a log that takes no event, or only some, stops everything but a
//! revocation. That events and operations match is `tests/trust/t18_events.rs`.
//!
//! Planted bugs that it catches: events that are added outside the transaction; a log without the savepoint that
//! undoes half of a commit's events; a revocation that goes on in a transaction that SQLite has rolled back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use keyward::audit::{ChainHead, SealedEvent, verify_chain};
use keyward::key::{KeyId, RevokeReason, TenantId};
use keyward::manager::{KeyUpdate, Overlap};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Changed, EventLog, FeedPage, KeyStore, Outcome, SqliteStore,
    StoreError,
};
use rusqlite::Connection;
use sqlite_store::{actor, builder, fast_folder, is_granted, new_key, tenant};
use tempfile::TempDir;

fn file() -> (TempDir, PathBuf) {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    (dir, path)
}

async fn log(store: &SqliteStore) -> Vec<SealedEvent> {
    let events = EventLog::read(store, None, 0, usize::MAX).await.unwrap();
    verify_chain(ChainHead::default(), &events).unwrap();
    events
}

/// All that changed since the store was empty.
async fn feed(store: &SqliteStore) -> Vec<Changed> {
    let FeedPage::Resync { mut next } = store.changes(None, Duration::ZERO).await.unwrap() else {
        panic!("no cursor was given");
    };
    next.position = 0;
    let mut all = Vec::new();
    loop {
        let page = store.changes(Some(&next), Duration::ZERO).await.unwrap();
        let FeedPage::Next {
            items,
            next: reached,
            has_more,
        } = page
        else {
            panic!("the feed is whole");
        };
        all.extend(items);
        if !has_more {
            return all;
        }
        next = reached;
    }
}

/// Has the log refuse the events of which this holds.
fn plant(path: &Path, when: &str, how: &str) {
    let sql = format!(
        "CREATE TRIGGER planted BEFORE INSERT ON keyward_events WHEN {when} BEGIN SELECT RAISE({how}, 'planted'); END"
    );
    Connection::open(path).unwrap().execute_batch(&sql).unwrap();
}

fn heal(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("DROP TRIGGER planted").unwrap();
}

/// What stands in the tables, but for what a commit is remembered by.
fn contents(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let quoted = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    [
        "SELECT position || ' ' || events || ' ' || quote(head) FROM keyward_meta",
        "SELECT quote(id) || revision || quote(revoked_at) || quote(document) FROM keyward_keys ORDER BY id",
        "SELECT position || ' ' || place || news FROM keyward_feed ORDER BY 1",
        "SELECT number || event FROM keyward_events ORDER BY number",
        "SELECT scope || instant FROM keyward_cutoffs",
    ]
    .into_iter()
    .flat_map(quoted)
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_faults_spare_only_revocation() {
    for how in ["ABORT", "FAIL"] {
        let (_dir, path) = file();
        let store = SqliteStore::open(&path).unwrap();
        let keyward = builder(store.clone()).open().await.unwrap();
        let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
        let issue = async || manager.issue(&actor, new_key(&tenant, "a key")).await;
        let (key, other) = (issue().await.unwrap(), issue().await.unwrap());
        let id = key.record().id();
        assert!(is_granted(&keyward, &key).await);

        plant(&path, "1", how);
        let before = contents(&path);
        issue().await.unwrap_err();
        for overlap in [Overlap::None, Overlap::UntilRevoked] {
            let rotated = manager.rotate(&actor, &tenant, id, overlap).await;
            rotated.unwrap_err();
        }
        let update = KeyUpdate::new().title("updated");
        let updated = manager.update(&actor, &tenant, id, update).await;
        updated.unwrap_err();
        manager.suspend(&actor, &tenant, id).await.unwrap_err();
        assert_eq!(contents(&path), before, "{how}");
        assert!(is_granted(&keyward, &key).await);

        let events = log(&store).await;
        let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Leaked);
        let revoked = revoked.await.unwrap();
        let row = store.get(id).await.unwrap().unwrap();
        assert_eq!(row.revocation.map(|of| of.at), Some(revoked.at));
        assert!(!is_granted(&keyward, &key).await);
        assert_eq!(log(&store).await, events);
        let news = Changed::Key { id, revision: 2 };
        assert_eq!(feed(&store).await.last(), Some(&news), "others hear of it");

        // The chain goes on where it was.
        heal(&path);
        let reason = RevokeReason::Requested;
        let revoked = manager.revoke(&actor, &tenant, other.record().id(), reason);
        revoked.await.unwrap();
        issue().await.unwrap();
        assert_eq!(log(&store).await.len(), events.len() + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_written_events_are_undone() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
    let mut keys = Vec::new();
    for _ in 0..3 {
        let key = manager
            .issue(&actor, new_key(&tenant, "a key"))
            .await
            .unwrap();
        keys.push(key.record().id());
    }
    let events = log(&store).await;
    plant(&path, "new.number = 5", "ABORT");
    let at = keyward::time::OffsetDateTime::UNIX_EPOCH;
    let reason = RevokeReason::Leaked;
    let revoke = |id: &KeyId| Change::Revoke {
        id: *id,
        at,
        reason: reason.clone(),
    };
    let set = ChangeSet::new(ChangeId::generate(&OsRandom), keys.iter().map(revoke)).unwrap();
    let told = events.iter().map(|sealed| sealed.event.clone()).enumerate();
    let set = told.fold(set, |set, (of, event)| set.with_event_of(of, event));
    let committed = store.commit(&set).await.unwrap();
    assert_eq!(
        committed.outcomes,
        [Outcome::Revoked, Outcome::Revoked, Outcome::Revoked]
    );
    assert_eq!(log(&store).await, events);
    for id in keys {
        assert!(store.get(id).await.unwrap().unwrap().revocation.is_some());
    }
}

/// The column by which a tenant's events are found is not under the chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_moved_between_tenants_shows() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor) = (keyward.manager(), actor());
    let [mine, theirs] = ["acme-inc", "another"].map(|name| tenant(name).unwrap());
    for whose in [&mine, &theirs, &mine] {
        let issued = manager.issue(&actor, new_key(whose, "a key")).await;
        issued.unwrap();
    }
    let before = log(&store).await;
    let count = async |tenant: &TenantId| {
        EventLog::read(&store, Some(tenant), 0, 10)
            .await
            .map(|of| of.len())
    };
    for (moved, their_count) in [
        ("NULL", Some(1)),
        ("''", Some(1)),
        ("CAST(x'ff' AS TEXT)", Some(1)),
        ("'another'", None),
    ] {
        let sql = format!("UPDATE keyward_events SET tenant = {moved} WHERE number = 3");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&sql)
            .unwrap();
        let all = EventLog::read(&store, None, 0, 10).await;
        assert!(
            matches!(all, Err(StoreError::Corrupt(_))),
            "{moved}: {all:?}"
        );
        let after = EventLog::read(&store, None, 0, 2).await.unwrap();
        assert_eq!(after, before[..2], "what comes before can be read");
        assert_eq!(
            count(&mine).await.unwrap(),
            1,
            "{moved}: nobody can tell here"
        );
        let their = count(&theirs).await;
        match their_count {
            Some(count) => assert_eq!(their.unwrap(), count, "{moved}"),
            None => assert!(matches!(their, Err(StoreError::Corrupt(_))), "{their:?}"),
        }
    }
    let back = "UPDATE keyward_events SET tenant = 'acme-inc' WHERE number = 3";
    Connection::open(&path)
        .unwrap()
        .execute_batch(back)
        .unwrap();
    assert_eq!(log(&store).await, before);
}

/// As SQLite does by itself where the disk is full, memory runs out or a write fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_spares_only_revocation() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
    let issued = manager.issue(&actor, new_key(&tenant, "a key"));
    let key = issued.await.unwrap();
    let id = key.record().id();
    plant(&path, "1", "ROLLBACK");
    let before = contents(&path);
    let issued = manager.issue(&actor, new_key(&tenant, "another")).await;
    assert!(issued.is_err());
    assert_eq!(contents(&path), before);
    let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Leaked);
    let revoked = revoked.await.unwrap();
    let row = store.get(id).await.unwrap().unwrap().revocation.unwrap();
    assert_eq!(row.at, revoked.at);
    assert!(!is_granted(&keyward, &key).await);
    heal(&path);
    // Nothing of it is left half done.
    manager
        .issue(&actor, new_key(&tenant, "a third"))
        .await
        .unwrap();
    let events = store.events().unwrap().read(None, 0, 100).await.unwrap();
    assert_eq!(events.len(), 2, "of the first and the third key");
    verify_chain(ChainHead::default(), &events).unwrap();
}
