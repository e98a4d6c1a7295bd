//! Promise 31: a key that is updated or rotated while it is used is never refused because of it, whether this node or
//! another one does it.
//!
//! Planted bugs that it catches: a read that a commit overtook is thrown away although it began after the request came;
//! a key is undecidable while a commit about it is under way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use keyward::key::{ApiKey, KeyId, StoredKey};
use keyward::manager::{KeyUpdate, Overlap};
use keyward::store::{KeyStore, StoreError};
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, async_trait};
use test_support::size;

use crate::common::{Fixture, actor, builder, clock, new_key, tenant};
use crate::store::{IS_ON_DISK, Store, opened_again};

const WRITERS: u64 = 3;
const VERIFIERS: u64 = 2;

/// Verifications for each way of changing keys.
fn verifications() -> u64 {
    size(
        "KEYWARD_VERIFICATIONS",
        if IS_ON_DISK { 2_000 } else { 10_000 },
    )
    .into()
}

/// The keys that must be granted at this moment.
type Keys = Mutex<Vec<Arc<ApiKey>>>;

/// Changes to keys, and whether they may stop.
#[derive(Default)]
struct Changes {
    made: AtomicU64,
    is_over: AtomicBool,
}

impl Changes {
    /// Counts a change, and lets others go on where there is one processor.
    async fn made(&self, is_made: bool) {
        self.made.fetch_add(u64::from(is_made), Ordering::SeqCst);
        tokio::task::yield_now().await;
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Verifies the keys over and over in several tasks while they are changed, then has the changes stop.
async fn verify_all(keyward: &Keyward, keys: &Arc<Keys>, changes: &Changes) {
    while changes.made.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let verifiers = (0..VERIFIERS).map(|_| {
        let verifying = verify_share(keyward.clone(), Arc::clone(keys));
        tokio::spawn(verifying)
    });
    for verifier in verifiers.collect::<Vec<_>>() {
        verifier.await.unwrap();
    }
    changes.is_over.store(true, Ordering::SeqCst);
}

async fn verify_share(keyward: Keyward, keys: Arc<Keys>) {
    let any = Requirement::any_key();
    for n in 0..verifications() / VERIFIERS {
        let presented = keys.lock().unwrap().clone();
        for key in presented {
            let attempt = Attempt::new(key.presented(), &any);
            let verdict = keyward.verifier().verify(&attempt).await;
            assert!(verdict.is_ok(), "verification {n}: {verdict:?}");
        }
        // So that writers get their turn where there is one processor.
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Verifies a key on one node while writers update it on one over the same store.
async fn update_without_end(verifying: &Keyward, updating: &Keyward) {
    let issued = updating.manager().issue(&actor(), new_key()).await.unwrap();
    let id = issued.record().id();
    let keys = Arc::new(Mutex::new(vec![Arc::new(issued.into_parts().0)]));
    let changes = Arc::<Changes>::default();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (keyward, changes) = (updating.clone(), Arc::clone(&changes));
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while !changes.is_over() {
                n += 1;
                let update = KeyUpdate::new().title(format!("{writer} {n}"));
                // The others may win eight times in a row: that is a conflict, and the next update tries again.
                let updated = keyward
                    .manager()
                    .update(&actor(), &tenant(), id, update)
                    .await;
                changes.made(updated.is_ok()).await;
            }
        }));
    }
    verify_all(verifying, &keys, &changes).await;
    for writer in writers {
        writer.await.unwrap();
    }
}

/// A store of which each read is overtaken by an update of the key before its answer arrives.
#[derive(Debug, Clone, Default)]
struct Overtaken {
    inner: Store,
    by: Arc<OnceLock<(Keyward, KeyId)>>,
    is_updating: Arc<AtomicBool>,
    updates: Arc<AtomicU64>,
}

#[async_trait]
impl KeyStore for Overtaken {
    test_support::passes_on!(inner: list tenants commit changes events usage);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let answer = self.inner.get(id).await;
        // The update reads the key too.
        if let Some((keyward, of)) = self.by.get()
            && *of == id
            && !self.is_updating.swap(true, Ordering::SeqCst)
        {
            let n = self.updates.fetch_add(1, Ordering::SeqCst);
            let update = KeyUpdate::new().title(format!("update {n}"));
            keyward
                .manager()
                .update(&actor(), &tenant(), id, update)
                .await
                .unwrap();
            self.is_updating.store(false, Ordering::SeqCst);
        }
        answer
    }
}

#[tokio::test]
async fn an_overtaken_read_decides() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let store = Overtaken::default();
        let keyward = builder(store.clone(), clock())
            .cache(cache)
            .open()
            .await
            .unwrap();
        let issued = keyward.manager().issue(&actor(), new_key()).await.unwrap();
        let id = issued.record().id();
        store.by.set((keyward.clone(), id)).unwrap();
        let any = Requirement::any_key();
        for _ in 0..10 {
            keyward.verifier().forget_all();
            let attempt = Attempt::new(issued.api_key().presented(), &any);
            let verdict = keyward.verifier().verify(&attempt).await;
            assert!(verdict.is_ok(), "{cache:?}: {verdict:?}");
        }
        let updates = store.updates.load(Ordering::SeqCst);
        assert!(updates >= 10, "each verification was overtaken: {updates}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_updated_here_is_granted() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let node = Fixture::built(|builder| builder.cache(cache)).await.keyward;
        update_without_end(&node, &node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_updated_elsewhere_is_granted() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let here = Fixture::built(|builder| builder.cache(cache)).await;
        let there = builder(opened_again(&here.store), here.clock.clone());
        let there = there.cache(cache).open().await.unwrap();
        let following = tokio::spawn(here.keyward.background());
        update_without_end(&here.keyward, &there).await;
        following.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_keys_of_a_rotation_are_granted() {
    let fixture = Fixture::new().await;
    let first = fixture.issue(new_key()).await;
    let mut id = first.record().id();
    let keys = Arc::new(Mutex::new(vec![Arc::new(first.into_parts().0)]));
    let changes = Arc::<Changes>::default();
    let rotator = {
        let (keyward, keys, changes) = (
            fixture.keyward.clone(),
            Arc::clone(&keys),
            Arc::clone(&changes),
        );
        tokio::spawn(async move {
            while !changes.is_over() {
                let rotated = keyward
                    .manager()
                    .rotate(&actor(), &tenant(), id, Overlap::UntilRevoked)
                    .await;
                let issued = rotated.unwrap();
                id = issued.record().id();
                let successor = Arc::new(issued.into_parts().0);
                {
                    let mut keys = keys.lock().unwrap();
                    keys.push(successor);
                    if keys.len() > 2 {
                        keys.remove(0);
                    }
                }
                changes.made(true).await;
            }
        })
    };
    verify_all(&fixture.keyward, &keys, &changes).await;
    rotator.await.unwrap();
}
