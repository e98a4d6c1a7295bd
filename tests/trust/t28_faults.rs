//! Promise 28: a fault of store, clock, RNG or limiter never turns into a grant, except where the limiter's outage
//! choice says *allow* in so many words. Each call that a verification makes fails in turn, in every way that it can;
//! so does each call of every operation of the manager, where it must not turn into a false success either.

mod limiter;
mod management;
mod refusals;

use std::ops::Range;

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::key::{KeyId, Networks, PresentedKey, RevokeReason};
use keyward::manager::ManageError;
use keyward::store::{KeyStore, MemoryStore, StoreError};
use keyward::testkit::{Call, Fault, FaultyStore};
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

use crate::common::{Fixture, READ, actor, builder, class, clock, new_key, now, tenant};
use crate::held_up::{HeldUp, ask, guess, slow, verify};

/// How a read fails.
const READ_FAULTS: [Fault; 8] = [
    Fault::Unavailable,
    Fault::Corrupt,
    Fault::Conflict,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Unsupported,
    Fault::OtherKey(NOBODYS),
    Fault::Missing,
];
/// How a commit fails.
const COMMIT_FAULTS: [Fault; 7] = [
    Fault::Unavailable,
    Fault::Corrupt,
    Fault::Conflict,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Unsupported,
    Fault::OtherOutcomes,
];
/// Stands for whichever other key a test names.
const NOBODYS: KeyId = KeyId::from_u128(0);

/// The fault, which answers with this key where it is another one's turn.
fn naming(fault: Fault, other: KeyId) -> Fault {
    match fault {
        Fault::OtherKey(_) => Fault::OtherKey(other),
        fault => fault,
    }
}

/// A store whose calls fail so, from one on, for as many as are told.
fn faulty(store: &MemoryStore, fault: Fault, which: Range<u64>) -> FaultyStore {
    FaultyStore::over(store.clone()).on_any(which, fault)
}

async fn open(store: impl KeyStore) -> Keyward {
    builder(store, clock()).open().await.unwrap()
}

#[tokio::test]
async fn a_fault_never_grants() {
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
    for fault in READ_FAULTS {
        for call in 0..4 {
            for attempt in &refusals {
                let fault = naming(fault, good.record().id());
                let faulty = faulty(&store, fault, call..u64::MAX);
                let verdict = open(faulty).await.verifier().verify(attempt).await;
                assert!(verdict.is_err(), "{fault:?} at {call}");
            }
            // A good key is refused where its record was not to be had, and as undecidable where that was a fault.
            let fault = naming(fault, revoked.record().id());
            let faulty = faulty(&store, fault, call..u64::MAX);
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
async fn a_failed_rehash_changes_no_verdict() {
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    let hashing = Hashing::recommended().pepper(pepper);
    let read = Requirement::scope(READ);
    for fault in COMMIT_FAULTS {
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
        let faulty = faulty(&store, fault, 2..3);
        let keyward = builder(faulty, clock())
            .hashing(hashing.clone())
            .open()
            .await
            .unwrap();
        let verdict = keyward.verifier().verify(&attempt).await;
        assert!(verdict.is_ok(), "{fault:?}");
        let stats = keyward.verifier().stats();
        assert_eq!((stats.rehashed, stats.rehashes_failed), (0, 1), "{fault:?}");
    }
    // What is read again must be had.
    for fault in READ_FAULTS {
        let store = MemoryStore::new();
        let plain = open(store.clone()).await;
        let issued = plain.manager().issue(&actor(), new_key()).await.unwrap();
        let other = plain.manager().issue(&actor(), new_key()).await.unwrap();
        let other = other.record().id();
        let attempt = Attempt::new(issued.api_key().presented(), &read);
        let faulty = faulty(&store, naming(fault, other), 3..4);
        let keyward = builder(faulty, clock())
            .hashing(hashing.clone())
            .open()
            .await
            .unwrap();
        let verdict = keyward.verifier().verify(&attempt).await;
        assert!(verdict.is_err(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_hanging_rehash_delays_no_verdict() {
    const KEYS: u64 = 100;
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    let read = Requirement::scope(READ);
    for fault in [Fault::Hang, Fault::HangAfter] {
        let store = MemoryStore::new();
        let plain = open(store.clone()).await;
        let mut keys = Vec::new();
        for _ in 0..KEYS {
            keys.push(plain.manager().issue(&actor(), new_key()).await.unwrap());
        }
        let hanging = FaultyStore::over(store).on(Call::Commit, 1..u64::MAX, fault);
        let keyward = builder(hanging.clone(), clock())
            .hashing(Hashing::recommended().pepper(pepper.clone()))
            .open()
            .await
            .unwrap();
        let opened = hanging.calls(Call::Commit);
        for key in &keys {
            for _ in 0..2 {
                let attempt = Attempt::new(key.api_key().presented(), &read);
                let verdict = now(keyward.verifier().verify(&attempt));
                assert!(verdict.is_ok(), "{fault:?}");
            }
        }
        let begun = hanging.calls(Call::Commit) - opened;
        assert!((1..KEYS).contains(&begun), "{begun} commits wait");
    }
}

#[tokio::test]
async fn a_rehash_ends_after_its_verdict() {
    let store = MemoryStore::new();
    let key = open(store.clone()).await;
    let key = key.manager().issue(&actor(), new_key()).await.unwrap();
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    let slow = FaultyStore::over(store.clone()).on(Call::Commit, 1..2, Fault::Yield(3));
    let keyward = builder(slow, clock())
        .hashing(Hashing::recommended().pepper(pepper))
        .open()
        .await
        .unwrap();
    let read = Requirement::scope(READ);
    let attempt = Attempt::new(key.api_key().presented(), &read);
    let verifier = keyward.verifier();
    assert!(now(verifier.verify(&attempt)).is_ok());
    assert_eq!(verifier.stats().rehashed, 0);
    while verifier.stats().rehashed == 0 {
        tokio::task::yield_now().await;
    }
    let stored = store.get(key.record().id()).await.unwrap().unwrap();
    assert!(stored.digest.expose().starts_with("$keyward-hmac"));
    assert_eq!(verifier.stats().rehashes_failed, 0);
    assert!(verifier.verify(&attempt).await.is_ok());
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
async fn a_lost_answer_is_asked_for_again() {
    for fault in [Fault::LostAnswer, Fault::Indeterminate] {
        for failures in 1..=2 {
            let store = MemoryStore::new();
            let keyward = open(faulty(&store, fault, 0..failures)).await;
            let issued = keyward.manager().issue(&actor(), new_key()).await.unwrap();
            let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
            assert_eq!(events.len(), 1, "issued once");

            // A revocation reads first, and then commits.
            let keyward = open(faulty(&store, fault, 1..1 + failures)).await;
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
        let faulty = faulty(&store, Fault::LostAnswer, 0..1).on_any(1..u64::MAX, last);
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
    let keyward = open(faulty(&store, Fault::Indeterminate, 0..3)).await;
    let unsettled = keyward.manager().issue(&actor(), new_key()).await;
    assert!(matches!(
        unsettled,
        Err(ManageError::Store(StoreError::Indeterminate(_)))
    ));
}

#[tokio::test]
async fn saturated_hashing_is_undecidable() {
    let fixture = Fixture::with(slow()).await;
    let issued = fixture.issue(new_key()).await;
    let held = HeldUp::over(&fixture, |builder| {
        builder.hashing(slow().slow_hash_queue(1))
    })
    .await;
    let guesses = (0..40).map(|number| ask(guess(&held.node, issued.record().id(), number)));
    let guesses: Vec<_> = guesses.collect();
    held.release();
    let (mut wrong, mut undecidable) = (0, 0);
    for guess in guesses {
        match class(guess.await) {
            Some(DenialClass::Unauthenticated) => wrong += 1,
            Some(DenialClass::Undecidable) => undecidable += 1,
            other => panic!("{other:?}"),
        }
    }
    // One in the hands of the thread, and one in the queue.
    assert_eq!((wrong, undecidable), (2, 38));
    let verified = verify(&held.node, issued.api_key().presented()).await;
    assert!(verified.is_ok(), "and then it is free again");
}

#[tokio::test]
async fn a_wrong_pepper_fails_the_open() {
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
    for fault in COMMIT_FAULTS {
        let faulty = faulty(&store, fault, 0..u64::MAX);
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
