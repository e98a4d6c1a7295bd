//! A key that was purged is gone from the file, through a process that opens it again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use keyward::key::{KeyId, Principal, RevokeReason, StoredKey, Title};
use keyward::random::OsRandom;
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, Outcome, SqliteStore, StoreError};
use keyward::time::OffsetDateTime;
use sqlite_store::{OWNER, TITLE};
use test_support::fixture::stored_key;

fn key(id: u128, owner: &str, title: &str) -> StoredKey {
    let document = format!("{{\"created_by\":\"user:{owner}\"}}");
    StoredKey {
        owner: Principal::user(owner).unwrap(),
        title: Title::new(title).unwrap(),
        created_at: at(1_000),
        document: document.into_bytes().into(),
        ..stored_key(KeyId::from_u128(id))
    }
}

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

async fn commit(store: &SqliteStore, change: Change) -> Result<Outcome, StoreError> {
    let set = ChangeSet::one(ChangeId::generate(&OsRandom), change);
    let committed = store.commit(&set).await?;
    Ok(committed.outcomes.into_iter().next().unwrap())
}

fn holds(dir: &std::path::Path, text: &str) -> bool {
    sqlite_store::holds(dir, text).unwrap()
}

#[tokio::test]
async fn a_purged_key_is_gone_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let inserted = Change::Insert(Box::new(key(1, OWNER, TITLE)));
    commit(&store, inserted.clone()).await.unwrap();
    let living = key(2, "alice", "living");
    commit(&store, Change::Insert(Box::new(living)))
        .await
        .unwrap();
    let (id, reason) = (KeyId::from_u128(1), RevokeReason::Requested);
    let revoke = Change::Revoke {
        id,
        at: at(2_000),
        reason,
    };
    commit(&store, revoke).await.unwrap();
    assert!(holds(dir.path(), OWNER) && holds(dir.path(), TITLE));
    let ended_before = at(3_000);
    let purged = commit(&store, Change::Purge { id, ended_before }).await;
    assert_eq!(purged.unwrap(), Outcome::Purged);
    drop(store);

    // Empties the write-ahead log, as the last process that closes the file does.
    let file = rusqlite::Connection::open(&path).unwrap();
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    file.query_row(truncate, [], |_| Ok(())).unwrap();
    drop(file);
    assert!(!holds(dir.path(), OWNER), "the owner is in the file");
    assert!(!holds(dir.path(), TITLE), "the title is in the file");
    assert!(holds(dir.path(), "alice"), "the living key is there");

    let store = SqliteStore::open(&path).unwrap();
    assert!(store.get(id).await.unwrap().is_none());
    let again = commit(&store, inserted).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists)), "{again:?}");
}
