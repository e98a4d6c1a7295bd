//! One request id, one key: two callers that make the same request at once, and a store that loses the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use keyward::Keyward;
use keyward::key::KeyId;
use keyward::manager::{Issued, KeyQuery, ManageError, Overlap, Rotation};
use keyward::store::{ChangeSet, Committed, KeyStore, StoreError};
use keyward::testkit::{Call, Fault, FaultyStore};
use keyward::verifier::{Attempt, Requirement};
use tokio::sync::Barrier;

use crate::common::{actor, builder, clock, new_key, tenant};
use crate::store::{IS_ON_DISK, Store};

const CALLERS: usize = 3;

/// A store whose next commits begin together, once all callers have come to theirs.
#[derive(Debug, Clone)]
struct Meeting {
    store: Store,
    awaited: Arc<AtomicUsize>,
    door: Arc<Barrier>,
}

#[async_trait]
impl KeyStore for Meeting {
    test_support::passes_on!(store: get list tenants changes events usage);

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let one_less = |left: usize| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.awaited.fetch_update(order, order, one_less).is_ok() {
            self.door.wait().await;
        }
        self.store.commit(set).await
    }
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Issue,
    Rotate(KeyId, Overlap),
}

async fn ask(keyward: &Keyward, asked: Asked) -> Result<Issued, ManageError> {
    let manager = keyward.manager();
    match asked {
        Asked::Issue => manager.issue(&actor(), new_key().request_id("r")).await,
        Asked::Rotate(id, overlap) => {
            let rotation = Rotation::new(overlap).request_id("r");
            manager.rotate(&actor(), &tenant(), id, rotation).await
        }
    }
}

async fn live(keyward: &Keyward) -> Vec<KeyId> {
    let query = KeyQuery::of(&tenant());
    let list = keyward.manager().list(&actor(), &query).await.unwrap();
    list.keys.iter().map(|key| key.id()).collect()
}

async fn is_granted(keyward: &Keyward, issued: &Issued) -> bool {
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    keyward.verifier().verify(&attempt).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_meet_get_one_key() {
    for _ in 0..if IS_ON_DISK { 10 } else { 100 } {
        for overlap in [None, Some(Overlap::None), Some(Overlap::UntilRevoked)] {
            let store = Meeting {
                store: Store::new(),
                awaited: Arc::default(),
                door: Arc::new(Barrier::new(CALLERS)),
            };
            let keyward = builder(store.clone(), clock()).open().await.unwrap();
            let asked = match overlap {
                None => Asked::Issue,
                Some(overlap) => {
                    let old = keyward.manager().issue(&actor(), new_key()).await;
                    Asked::Rotate(old.unwrap().record().id(), overlap)
                }
            };
            store.awaited.store(CALLERS, Ordering::SeqCst);
            let callers = (0..CALLERS).map(|_| {
                let keyward = keyward.clone();
                tokio::spawn(async move { ask(&keyward, asked).await })
            });
            let (mut issued, mut told) = (Vec::new(), Vec::new());
            for caller in callers.collect::<Vec<_>>() {
                match caller.await.unwrap() {
                    Ok(key) => issued.push(key),
                    Err(ManageError::AlreadyIssued { id }) => told.push(id),
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(store.awaited.load(Ordering::SeqCst), 0, "all of them met");
            let [key] = &issued[..] else {
                panic!("{issued:?}")
            };
            assert_eq!(told, [key.record().id(); CALLERS - 1]);
            assert!(is_granted(&keyward, key).await);
            let lives = live(&keyward).await;
            let kept = usize::from(overlap == Some(Overlap::UntilRevoked));
            assert_eq!(lives.len(), 1 + kept);
            assert!(lives.contains(&key.record().id()));
        }
    }
}

#[tokio::test]
async fn no_lost_answer_leaves_a_second_key() {
    const LOSSES: [Fault; 3] = [Fault::Unavailable, Fault::Indeterminate, Fault::LostAnswer];
    for seed in 0..if IS_ON_DISK { 20 } else { 200 } {
        let store = FaultyStore::over(Store::new());
        let keyward = builder(store.clone(), clock()).open().await.unwrap();
        let old = keyward.manager().issue(&actor(), new_key()).await.unwrap();
        let old = old.record().id();
        for asked in [Asked::Issue, Asked::Rotate(old, Overlap::None)] {
            let faulty = store.clone().at_random(seed, 2, LOSSES);
            let answer = loop {
                match ask(&keyward, asked).await {
                    Err(ManageError::Store(
                        StoreError::Indeterminate(_) | StoreError::Unavailable(_),
                    )) => {}
                    answer => break answer,
                }
            };
            faulty.heal();
            let id = match answer {
                Ok(issued) => {
                    assert!(is_granted(&keyward, &issued).await);
                    issued.record().id()
                }
                Err(ManageError::AlreadyIssued { id }) => id,
                Err(other) => panic!("{other:?}"),
            };
            let mut lives = live(&keyward).await;
            lives.retain(|live| *live != old);
            assert!(lives.contains(&id));
            assert_eq!(
                lives.len(),
                if matches!(asked, Asked::Issue) { 1 } else { 2 }
            );
        }
        assert!(!live(&keyward).await.contains(&old));
        assert!(store.calls(Call::Commit) >= 3);
    }
}
