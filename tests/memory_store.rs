//! The memory store: the conformance suite, and what is its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use keyward::key::KeyId;
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Changed, Cursor, FeedPage, KeyStore, MemoryStore, StoreError,
};
use keyward::testkit::FaultyStore;
use keyward::testkit::conformance::{Failure, Suite};
use test_support::fixture::stored_key;

keyward::testkit::conformance!(
    || async {
        let store = MemoryStore::new();
        Ok((store.clone(), store))
    },
    forget: forget,
    damages_nothing
);

/// The feed keeps 65,536 changes: commits, until those up to the position are pushed out.
fn forget(store: &MemoryStore, position: u64) -> impl Future<Output = Result<(), Failure>> + use<> {
    let store = store.clone();
    async move {
        // The suite has made one change a commit.
        let kept = u128::from(head(&store).await.position - position);
        let more: Vec<_> = (kept..65_536).map(|n| insert(u128::MAX - n)).collect();
        for changes in more.chunks(ChangeSet::MAX_CHANGES) {
            commit(&store, changes.to_vec()).await;
        }
        Ok(())
    }
}

#[test]
fn wrapped_stores_conform() -> Result<(), Failure> {
    let shared = || async {
        let store = MemoryStore::new();
        let shared: Arc<dyn KeyStore> = Arc::new(store.clone());
        Ok((store, shared))
    };
    let boxed = || async {
        let store = MemoryStore::new();
        let boxed: Box<dyn KeyStore> = Box::new(store.clone());
        Ok((store, boxed))
    };
    let wrapped = || async {
        let store = MemoryStore::new();
        Ok((store.clone(), FaultyStore::over(store)))
    };
    for suite in [Suite::new(shared), Suite::new(boxed), Suite::new(wrapped)] {
        suite
            .sequences(4)
            .forgetting(forget)
            .damaging_nothing()
            .run_all()?;
    }
    Ok(())
}

fn insert(id: u128) -> Change {
    Change::Insert(Box::new(stored_key(KeyId::from_u128(id))))
}

async fn commit(store: &MemoryStore, changes: impl IntoIterator<Item = Change>) {
    let set = ChangeSet::new(ChangeId::generate(&OsRandom), changes).unwrap();
    store.commit(&set).await.unwrap();
}

async fn follow(store: &MemoryStore, after: Option<&Cursor>) -> FeedPage {
    store.changes(after, Duration::ZERO).await.unwrap()
}

async fn head(store: &MemoryStore) -> Cursor {
    match follow(store, None).await {
        FeedPage::Resync { next } => next,
        FeedPage::Next { .. } => panic!("no cursor was given"),
    }
}

#[tokio::test]
async fn waiters_are_woken_by_a_change() {
    let store = MemoryStore::new();
    for id in 0..200 {
        let cursor = head(&store).await;
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                let hour = Duration::from_secs(3_600);
                store.changes(Some(&cursor), hour).await.unwrap()
            }
        });
        if id % 2 == 0 {
            tokio::task::yield_now().await;
        }
        commit(&store, [insert(id)]).await;
        let page = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let FeedPage::Next { items, .. } = page.expect("the waiter slept on").unwrap() else {
            panic!("resync");
        };
        let id = KeyId::from_u128(id);
        assert_eq!(items, [Changed::Key { id, revision: 1 }]);
    }
}

#[test]
fn no_runtime_is_an_error() {
    use std::task::{Context, Poll, Waker};
    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }
    let store = MemoryStore::new();
    let Poll::Ready(Ok(FeedPage::Resync { next })) = poll(store.changes(None, Duration::MAX))
    else {
        panic!("the first look waits for nothing");
    };
    let waiting = poll(store.changes(Some(&next), Duration::from_secs(1)));
    assert!(matches!(
        waiting,
        Poll::Ready(Err(StoreError::Unavailable(_)))
    ));
    let looking = poll(store.changes(Some(&next), Duration::ZERO));
    assert!(matches!(looking, Poll::Ready(Ok(FeedPage::Next { .. }))));
}
