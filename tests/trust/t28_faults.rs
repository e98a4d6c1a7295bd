//! Promise 28: a fault of store, clock or random source never turns into a grant. Each call that a verification
//! makes fails in turn, in every way that it can.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyward::Keyward;
use keyward::hashing::{Argon2Params, Hashing, Pepper};
use keyward::key::{KeyId, Networks, PresentedKey, RevokeReason, StoredKey};
use keyward::manager::{
    Actor, KeyQuery, ManageError, NewKey, Operation, Policy, PolicyError, Ruling,
};
use keyward::store::{
    ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, MemoryStore, Outcome,
    Page, StoreError, UsageStore,
};
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

use crate::common::{READ, actor, builder, class, clock, new_key, tenant};

/// How a call fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Unavailable,
    Corrupt,
    Indeterminate,
    /// The commit takes place, and its answer is lost.
    LostAnswer,
    Unsupported,
    /// The store answers with another key than was asked for.
    OtherKey,
    /// The store says that there is no such key.
    Missing,
    /// The store's outcomes do not match the changes.
    OtherOutcome,
}

/// A memory store whose calls fail from one on, for as many as are told.
#[derive(Debug, Clone)]
struct Faulty {
    store: MemoryStore,
    calls: Arc<AtomicU64>,
    /// Which fault, from which call on, for how many.
    fails: Vec<(Fault, u64, u64)>,
    other: Option<KeyId>,
    /// Whether each call has to wait before anything is done.
    yields: bool,
}

impl Faulty {
    fn over(store: &MemoryStore, fault: Fault, from: u64, count: u64) -> Self {
        Self {
            store: store.clone(),
            calls: Arc::default(),
            fails: vec![(fault, from, count)],
            other: None,
            yields: false,
        }
    }

    async fn fault(&self) -> Option<Fault> {
        if self.yields {
            tokio::task::yield_now().await;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let is_due = |(_, from, count): &&(Fault, u64, u64)| {
            (*from..from.saturating_add(*count)).contains(&call)
        };
        self.fails.iter().find(is_due).map(|(fault, ..)| *fault)
    }

    fn error(fault: Fault) -> StoreError {
        match fault {
            Fault::Corrupt => StoreError::Corrupt("planted".into()),
            Fault::Indeterminate | Fault::LostAnswer => StoreError::Indeterminate("planted".into()),
            Fault::Unsupported => StoreError::Unsupported,
            _ => StoreError::Unavailable("planted".into()),
        }
    }
}

#[async_trait]
impl KeyStore for Faulty {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        match self.fault().await {
            None => self.store.get(id).await,
            Some(Fault::Missing) => Ok(None),
            Some(Fault::OtherKey) => self.store.get(self.other.unwrap_or(id)).await,
            Some(fault) => Err(Self::error(fault)),
        }
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        match self.fault().await {
            None => self.store.list(query).await,
            Some(fault) => Err(Self::error(fault)),
        }
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        match self.fault().await {
            None => self.store.commit(set).await,
            Some(Fault::LostAnswer) => {
                self.store.commit(set).await?;
                Err(Self::error(Fault::LostAnswer))
            }
            Some(Fault::OtherOutcome) => Ok(Committed {
                position: 0,
                outcomes: vec![Outcome::Missing, Outcome::Inserted],
            }),
            Some(fault) => Err(Self::error(fault)),
        }
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        self.store.changes(after, wait).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        self.store.events()
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.store.usage()
    }
}

const FAULTS: [Fault; 8] = [
    Fault::Unavailable,
    Fault::Corrupt,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Unsupported,
    Fault::OtherKey,
    Fault::Missing,
    Fault::OtherOutcome,
];

async fn open(store: impl KeyStore) -> Keyward {
    builder(store, clock()).open().await.unwrap()
}

#[tokio::test]
async fn a_fault_while_verifying_never_grants_what_would_be_refused() {
    let store = MemoryStore::new();
    let keyward = open(store.clone()).await;
    let good = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    let revoked = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    let abroad = Networks::only(["203.0.113.0/24".parse().unwrap()]).unwrap();
    let abroad = keyward
        .manager()
        .issue(&actor(), new_key().networks(abroad))
        .await
        .unwrap();
    let id = revoked.record().id();
    keyward
        .manager()
        .revoke(&actor(), &tenant(), id, RevokeReason::Leaked)
        .await
        .unwrap();

    let read = Requirement::scope(READ);
    let write = Requirement::full_access();
    let right_id = revoked.record().id().to_string();
    let refusals = [
        Attempt::new(revoked.api_key().presented(), &read),
        Attempt::new(abroad.api_key().presented(), &read),
        Attempt::new(good.api_key().presented(), &write),
        // The answer about another key must not be taken for one about this.
        Attempt::new(
            PresentedKey::pair(&right_id, good.api_key().expose_secret()),
            &read,
        ),
    ];
    for fault in FAULTS {
        for call in 0..4 {
            for attempt in &refusals {
                let mut faulty = Faulty::over(&store, fault, call, u64::MAX);
                faulty.other = Some(good.record().id());
                let verdict = open(faulty).await.verifier().verify(attempt).await;
                assert!(verdict.is_err(), "{fault:?} at {call}");
            }
            // A good key is refused where its record was not to be had, and as undecidable where that was a fault.
            let mut faulty = Faulty::over(&store, fault, call, u64::MAX);
            faulty.other = Some(revoked.record().id());
            let attempt = Attempt::new(good.api_key().presented(), &read);
            let verdict = class(open(faulty).await.verifier().verify(&attempt).await);
            let expected = match (call, fault) {
                (0, Fault::Missing) => Some(DenialClass::Unauthenticated),
                (0, _) => Some(DenialClass::Undecidable),
                _ => None,
            };
            assert_eq!(verdict, expected, "{fault:?} at {call}");
        }
    }
}

#[tokio::test]
async fn a_digest_that_cannot_be_improved_changes_no_verdict() {
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    let hashing = Hashing::recommended().pepper(pepper);
    let read = Requirement::scope(READ);
    for fault in FAULTS {
        let store = MemoryStore::new();
        let issued = open(store.clone())
            .await
            .manager()
            .issue(&actor(), new_key())
            .await
            .unwrap();
        let attempt = Attempt::new(issued.api_key().presented(), &read);
        // Opening commits the pepper's check value, verifying reads, then the better digest is committed, and
        // then the key is read again.
        let faulty = Faulty::over(&store, fault, 2, 1);
        let keyward = builder(faulty, clock())
            .hashing(hashing.clone())
            .open()
            .await
            .unwrap();
        let verdict = keyward.verifier().verify(&attempt).await;
        assert!(verdict.is_ok(), "{fault:?}");
        let operations = keyward.verifier().operations();
        assert_eq!(
            (operations.rehashed, operations.rehashes_failed),
            (0, 1),
            "{fault:?}"
        );

        // What is read again must be had.
        let store = MemoryStore::new();
        let issued = open(store.clone())
            .await
            .manager()
            .issue(&actor(), new_key())
            .await
            .unwrap();
        let attempt = Attempt::new(issued.api_key().presented(), &read);
        let faulty = Faulty::over(&store, fault, 3, 1);
        let keyward = builder(faulty, clock())
            .hashing(hashing.clone())
            .open()
            .await
            .unwrap();
        let verdict = keyward.verifier().verify(&attempt).await;
        let is_harmless = matches!(fault, Fault::OtherKey); // no other key was named: it is the same one
        assert_eq!(verdict.is_ok(), is_harmless, "{fault:?}");
    }
}

#[tokio::test]
async fn a_failing_clock_is_undecidable() {
    let clock = clock();
    let keyward = builder(MemoryStore::new(), clock.clone())
        .open()
        .await
        .unwrap();
    let manager = keyward.manager();
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    clock.fail();
    let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::Clock(_)));
    assert_eq!(denial.class(), DenialClass::Undecidable);
    let refused = manager.issue(&actor(), new_key()).await;
    assert!(matches!(refused, Err(ManageError::Clock)));

    // Revoking does not wait for a clock.
    let (id, created) = (issued.record().id(), issued.record().created_at());
    let revoked = manager
        .revoke(&actor(), &tenant(), id, RevokeReason::Leaked)
        .await
        .unwrap();
    assert_eq!(revoked.at, created);
    clock.set(created);
    assert_eq!(
        class(keyward.verifier().verify(&attempt).await),
        Some(DenialClass::Unauthenticated)
    );
}

#[tokio::test]
async fn a_fault_while_issuing_hands_out_no_key() {
    for fault in FAULTS {
        let store = MemoryStore::new();
        let keyward = open(Faulty::over(&store, fault, 0, u64::MAX)).await;
        let refused = keyward.manager().issue(&actor(), new_key()).await;
        // A store that wrongly answers "missing" to a commit is not told apart from one that is unavailable here.
        assert!(
            matches!(refused, Err(ManageError::Store(_))),
            "{fault:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_asking_again() {
    for fault in [Fault::LostAnswer, Fault::Indeterminate] {
        for failures in 1..=2 {
            let store = MemoryStore::new();
            let keyward = open(Faulty::over(&store, fault, 0, failures)).await;
            let issued = keyward.manager().issue(&actor(), new_key()).await.unwrap();
            let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
            assert_eq!(events.len(), 1, "issued once");

            // A revocation reads first, and then commits.
            let keyward = open(Faulty::over(&store, fault, 1, failures)).await;
            let id = issued.record().id();
            let manager = keyward.manager();
            let revoked = manager
                .revoke(&actor(), &tenant(), id, RevokeReason::Leaked)
                .await;
            assert!(
                revoked.is_ok(),
                "{revoked:?}: told from another's revocation"
            );
            let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
            assert_eq!(events.len(), 2, "revoked once");
        }
    }
    // The store goes away after the answer was lost: that is not the same as nothing having been done.
    for last in [Fault::Unavailable, Fault::Corrupt, Fault::Unsupported] {
        let store = MemoryStore::new();
        let mut faulty = Faulty::over(&store, Fault::LostAnswer, 0, 1);
        faulty.fails.push((last, 1, u64::MAX));
        let lost = open(faulty).await;
        let unsettled = lost.manager().issue(&actor(), new_key()).await;
        assert!(
            matches!(
                unsettled,
                Err(ManageError::Store(StoreError::Indeterminate(_)))
            ),
            "{last:?}: {unsettled:?}"
        );
        let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
        assert_eq!(events.len(), 1, "it did take place");
    }
    // Not settled within three tries: the caller is told that it is not known.
    let store = MemoryStore::new();
    let keyward = open(Faulty::over(&store, Fault::Indeterminate, 0, 3)).await;
    let unsettled = keyward.manager().issue(&actor(), new_key()).await;
    assert!(matches!(
        unsettled,
        Err(ManageError::Store(StoreError::Indeterminate(_)))
    ));
}

#[tokio::test]
async fn a_policy_that_cannot_tell_refuses() {
    #[derive(Debug)]
    struct Broken;
    #[async_trait]
    impl Policy for Broken {
        async fn rule(&self, _: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
            Err(PolicyError::new("planted"))
        }
    }
    let store = MemoryStore::new();
    let issued = open(store.clone())
        .await
        .manager()
        .issue(&actor(), new_key())
        .await
        .unwrap();
    let id = issued.record().id();
    let keyward = builder(store, clock()).policy(Broken).open().await.unwrap();
    let manager = keyward.manager();
    let is_policy = |error| matches!(error, ManageError::Policy(_));
    assert!(is_policy(
        manager.issue(&actor(), new_key()).await.unwrap_err()
    ));
    assert!(is_policy(
        manager.get(&actor(), &tenant(), id).await.unwrap_err()
    ));
    assert!(is_policy(
        manager
            .list(&actor(), &KeyQuery::of(&tenant()))
            .await
            .unwrap_err()
    ));
    let reason = RevokeReason::Leaked;
    assert!(is_policy(
        manager
            .revoke(&actor(), &tenant(), id, reason)
            .await
            .unwrap_err()
    ));
}

#[tokio::test]
async fn slow_hashing_that_is_saturated_is_undecidable() {
    let hashing = Hashing::argon2id(Argon2Params::OWASP)
        .slow_permits(std::num::NonZeroUsize::MIN)
        .slow_queue(1);
    let keyward = builder(MemoryStore::new(), clock())
        .hashing(hashing)
        .open()
        .await
        .unwrap();
    let issued = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    let id = issued.record().id().to_string();
    let mut guesses = Vec::new();
    for guess in 0..40 {
        let (keyward, id) = (keyward.clone(), id.clone());
        guesses.push(tokio::spawn(async move {
            let secret = format!("{guess:0>43}");
            let any = Requirement::any_key();
            let attempt = Attempt::new(PresentedKey::pair(&id, &secret), &any);
            class(keyward.verifier().verify(&attempt).await)
        }));
    }
    let (mut wrong, mut undecidable) = (0, 0);
    for guess in guesses {
        match guess.await.unwrap() {
            Some(DenialClass::Unauthenticated) => wrong += 1,
            Some(DenialClass::Undecidable) => undecidable += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        wrong >= 2 && undecidable > 0,
        "{wrong} wrong, {undecidable} undecidable"
    );
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    assert!(
        keyward.verifier().verify(&attempt).await.is_ok(),
        "and then it is free again"
    );
}

#[tokio::test]
async fn a_wrong_pepper_is_found_when_opening() {
    let store = MemoryStore::new();
    let with = |version, fill: u8| {
        let bytes: Vec<u8> = (0..32).map(|byte| byte ^ fill).collect();
        Pepper::new(version, bytes).unwrap()
    };
    let open = |hashing| builder(store.clone(), clock()).hashing(hashing).open();
    let recommended = Hashing::recommended;
    assert!(open(recommended().pepper(with(1, 0))).await.is_ok());
    assert!(
        open(recommended().pepper(with(1, 0))).await.is_ok(),
        "the same again"
    );
    for wrong in [
        recommended().pepper(with(1, 1)),
        recommended().pepper(with(2, 0)).accept_pepper(with(1, 1)),
    ] {
        let refused = open(wrong).await;
        assert!(matches!(
            refused,
            Err(keyward::OpenError::WrongPepper { .. })
        ));
    }
    assert!(
        open(recommended().pepper(with(3, 7)).accept_pepper(with(1, 0)))
            .await
            .is_ok()
    );
    for fault in FAULTS {
        let faulty = Faulty::over(&store, fault, 0, u64::MAX);
        let hashing = recommended().pepper(with(1, 0));
        assert!(
            builder(faulty, clock())
                .hashing(hashing)
                .open()
                .await
                .is_err(),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_verification_dropped_after_any_poll_leaves_nothing_behind() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let store = MemoryStore::new();
    let mut yielding = Faulty::over(&store, Fault::Unavailable, 0, 0);
    yielding.yields = true;
    let slow = Hashing::argon2id(Argon2Params::OWASP);
    let keyward = builder(yielding, clock())
        .hashing(slow.clone())
        .open()
        .await
        .unwrap();
    let any = Requirement::any_key();
    // One kept under a fast hash, which is about to be replaced, and one kept under the slow one.
    for hashing in [Hashing::recommended(), slow] {
        let issuing = builder(store.clone(), clock())
            .hashing(hashing)
            .open()
            .await
            .unwrap();
        let key = NewKey::new(tenant(), "one at a time", READ).concurrency(NonZeroU32::MIN);
        let issued = issuing.manager().issue(&actor(), key).await.unwrap();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        let mut longest = 0;
        for polls in 1..=12 {
            let mut verification = Box::pin(keyward.verifier().verify(&attempt));
            for poll in 1..=polls {
                let mut context = Context::from_waker(Waker::noop());
                if verification.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                longest = longest.max(poll);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(verification);
            let whole = keyward.verifier().verify(&attempt).await;
            assert!(
                whole.is_ok(),
                "after {polls} polls: {:?}",
                whole.err().map(|d| d.to_string())
            );
        }
        assert!(longest >= 3, "it was dropped at several places");
        let stored = store.get(issued.record().id()).await.unwrap().unwrap();
        assert!(
            stored.digest.expose().starts_with("$keyward-argon2id$"),
            "no turn was lost"
        );
    }
}
