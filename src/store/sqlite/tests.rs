//! Which calls wait for which connections.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use time::OffsetDateTime;

use super::work::LISTS;
use super::*;
use crate::key::{Digest, Principal, RevokeReason, Title};
use crate::random::OsRandom;
use crate::store::Change;

/// A folder with a store in its own file, removed on drop.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("keyward-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self) -> SqliteStore {
        let patience = Duration::from_secs(60);
        let options = SqliteOptions::new().readers(1).patience(patience);
        options.open(self.0.join("keys.db")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_pending(future: impl Future) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut context).is_pending()
}

#[tokio::test]
async fn lists_block_neither_keys_nor_feed() {
    let folder = Folder::new("lists");
    let store = folder.open();
    let id = KeyId::from_u128(1);
    let mut held = Vec::new();
    for _ in 0..LISTS {
        held.push(store.shared.lists.turn().await.unwrap());
    }
    assert_eq!(store.get(id).await.unwrap(), None);
    store.changes(None, Duration::ZERO).await.unwrap();
    // A list waits: it takes no connection of another kind.
    let query = ListQuery::of(&TenantId::new("flood").unwrap());
    let mut list = pin!(store.list(&query));
    assert!(is_pending(list.as_mut()));
    drop(held);
    assert!(list.await.unwrap().items.is_empty());
}

#[tokio::test]
async fn lookups_do_not_block_the_feed() {
    let folder = Folder::new("lookups");
    let store = folder.open();
    let held = store.shared.lookups.turn().await.unwrap();
    store.changes(None, Duration::ZERO).await.unwrap();
    let query = ListQuery::of(&TenantId::new("other").unwrap());
    store.list(&query).await.unwrap();
    drop(held);
}

#[tokio::test]
async fn lists_of_a_tenant_block_no_other() {
    let folder = Folder::new("tenants");
    let store = folder.open();
    let [flood, other] = ["flood", "other"].map(|name| TenantId::new(name).unwrap());
    let held = store.shared.list_turns.turn(flood.clone()).await.unwrap();
    let query = ListQuery::of(&flood);
    let mut floods: Vec<_> = (0..300).map(|_| Box::pin(store.list(&query))).collect();
    for list in &mut floods {
        assert!(is_pending(list.as_mut()));
    }
    store.list(&ListQuery::of(&other)).await.unwrap();
    store.commit(&insert(&flood, 1)).await.unwrap();
    drop((floods, held));
}

#[test]
fn options_are_clamped() {
    const MOST: Duration = Duration::from_secs(2 * 60);
    for (asked, taken) in [
        (Duration::ZERO, Duration::ZERO),
        (MOST, MOST),
        (MOST + Duration::from_nanos(1), MOST),
        (Duration::MAX, MOST),
    ] {
        assert_eq!(SqliteOptions::new().patience(asked).patience, taken);
    }
    for (asked, taken) in [(0, 1), (1, 1), (100, 100)] {
        assert_eq!(SqliteOptions::new().readers(asked).readers, taken);
    }
}

fn key(tenant: &TenantId, id: u128) -> StoredKey {
    let id = KeyId::from_u128(id);
    StoredKey {
        id,
        tenant: tenant.clone(),
        owner: Principal::user("alice").unwrap(),
        title: Title::new("title").unwrap(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        revocation: None,
        expires_at: None,
        predecessor: None,
        lineage: id,
        digest: Digest::new("$digest").unwrap(),
        revision: 1,
        schema: 1,
        document: b"{}".as_slice().into(),
        cutoff: None,
    }
}

fn set(change: Change) -> ChangeSet {
    ChangeSet::one(ChangeId::generate(&OsRandom), change)
}

fn insert(tenant: &TenantId, id: u128) -> ChangeSet {
    set(Change::Insert(Box::new(key(tenant, id))))
}

#[tokio::test]
async fn commits_of_a_tenant_block_no_other() {
    let folder = Folder::new("commits");
    let store = folder.open();
    let [flood, other] = ["flood", "other"].map(|name| TenantId::new(name).unwrap());
    store.commit(&insert(&flood, 0)).await.unwrap();
    let rehash = |id| {
        let from = Digest::new("$digest").unwrap();
        let to = Digest::new("$better").unwrap();
        let id = KeyId::from_u128(id);
        set(Change::Rehash { id, from, to })
    };
    let imports = (1..=100).map(|id| insert(&flood, id));
    let rehashes = (0..100).map(rehash);
    let revoke = set(Change::Revoke {
        id: KeyId::from_u128(0),
        at: OffsetDateTime::UNIX_EPOCH,
        reason: RevokeReason::Leaked,
    });
    let others = [insert(&other, 1_000), revoke];
    // The calls arrive in this order, while a commit is under way.
    let writing = Arc::clone(&store.shared.writer).lock_owned().await;
    let mut waiting = Vec::new();
    for set in imports.chain(rehashes).chain(others) {
        let store = store.clone();
        waiting.push(tokio::spawn(async move { store.commit(&set).await }));
        // This runtime has one thread, so the task has been polled once after the yield.
        tokio::task::yield_now().await;
    }
    drop(writing);
    let mut positions = Vec::new();
    for commit in waiting {
        positions.push(commit.await.unwrap().unwrap().position);
    }
    // Positions follow the order of commits. The first of the flood already had its turn, and no rehash has a position.
    assert_eq!(positions[0], 2);
    assert_eq!(positions[200..], [3, 4], "{positions:?}");
}
