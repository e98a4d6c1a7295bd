//! Revoking all keys while it is interrupted, and while others issue and revoke.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::key::{KeyId, KeyStatus, RevokeReason, StoredKey};
use keyward::manager::{Issued, KeyQuery, ManageError, NewKey, RevokeAll, RevokedAll};
use keyward::store::{Change, CutoffScope, KeyStore, StoreError};

use crate::common::*;
use crate::store::Loss;

const LEAKED: Answer = Answer::Revoked(RevokeReason::Leaked);

fn leaked() -> RevokeAll {
    RevokeAll::new(RevokeReason::Leaked)
}

async fn revoke_all(fixture: &Fixture, what: RevokeAll) -> Result<RevokedAll, ManageError> {
    fixture
        .manager()
        .revoke_all(&system(), &tenant(), what)
        .await
}

async fn forty(fixture: &Fixture) -> Vec<Issued> {
    let mut keys = Vec::new();
    for n in 0..40 {
        keys.push(fixture.issue(&format!("key {n}")).await);
    }
    keys
}

#[tokio::test]
async fn an_interrupted_sweep_can_be_resumed() {
    type Interruption = fn(&Fixture);
    let interruptions: [(Interruption, u64); 4] = [
        // One look goes to keys that are dated later, and finds none.
        (|fixture| fixture.store.answer_lists(Some(1)), 0),
        (|fixture| fixture.store.answer_lists(Some(2)), 16),
        (
            |fixture| fixture.store.lose([Loss::None, Loss::None, Loss::Away]),
            16,
        ),
        (
            |fixture| {
                fixture
                    .store
                    .lose([Loss::None, Loss::Answer, Loss::Commit, Loss::Commit]);
            },
            16,
        ),
    ];
    for (interrupt, done) in interruptions {
        let fixture = Fixture::new().await;
        let keys = forty(&fixture).await;
        fixture.later(SECOND);
        interrupt(&fixture);
        let stopped = revoke_all(&fixture, leaked()).await;
        let Err(ManageError::Unfinished { before, .. }) = stopped else {
            panic!("{stopped:?}");
        };
        assert_eq!(before, fixture.now());
        fixture.store.answer_lists(None);
        fixture.store.lose([]);
        let mut revoked = 0;
        for key in &keys {
            match fixture.answer(key.api_key()).await {
                Answer::CutOff => {}
                LEAKED => revoked += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(revoked, done);
        fixture.later(SECOND);
        let later = fixture.issue("issued since").await;
        let rest = revoke_all(&fixture, leaked().issued_before(before))
            .await
            .unwrap();
        assert_eq!(rest.revoked, 40 - done);
        for key in &keys {
            assert_eq!(fixture.answer(key.api_key()).await, LEAKED);
        }
        assert_eq!(fixture.answer(later.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn interruption_leaves_no_key_good() {
    let fixture = Fixture::new().await;
    let same = fixture.issue("of this instant").await;
    fixture.later(HOUR);
    let ahead = fixture.issue("dated by a clock that was ahead").await;
    fixture.clock.set(same.record().created_at());
    // Before anything has ended, nothing is promised.
    fixture.store.answer_lists(Some(0));
    let stopped = revoke_all(&fixture, leaked()).await;
    assert!(matches!(stopped, Err(ManageError::Store(_))), "{stopped:?}");
    fixture.store.answer_lists(Some(1));
    let stopped = revoke_all(&fixture, leaked()).await;
    assert!(
        matches!(stopped, Err(ManageError::Unfinished { .. })),
        "{stopped:?}"
    );
    for key in [same, ahead] {
        assert_ne!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn a_key_dated_ahead_meanwhile_ends_too() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    fixture.later(SECOND);
    let stored = fixture.store.inner().get(key.record().id()).await.unwrap();
    let ahead = StoredKey {
        id: KeyId::from_u128(7),
        created_at: fixture.now() + HOUR,
        ..stored.unwrap()
    };
    // After the look at keys that are dated later, and before the cutoff.
    fixture.store.first([Change::Insert(Box::new(ahead))]);
    assert_eq!(revoke_all(&fixture, leaked()).await.unwrap().revoked, 2);
    let record = fixture.record(KeyId::from_u128(7)).await;
    assert_eq!(record.revocation().unwrap().reason, RevokeReason::Leaked);
}

#[tokio::test]
async fn a_stray_key_is_neither_shown_nor_ended() {
    let fixture = Fixture::new().await;
    let mine = fixture.issue("mine").await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await;
    let stored = fixture
        .store
        .inner()
        .get(theirs.record().id())
        .await
        .unwrap();
    fixture.store.let_stray(stored.unwrap());
    let listed = fixture
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await;
    assert!(
        matches!(listed, Err(ManageError::Store(StoreError::Corrupt(_)))),
        "{listed:?}"
    );
    let exported = fixture
        .manager()
        .export_restrictions(&system(), &tenant(), None)
        .await;
    assert!(
        matches!(exported, Err(ManageError::Store(StoreError::Corrupt(_)))),
        "{exported:?}"
    );
    fixture.later(SECOND);
    assert_eq!(revoke_all(&fixture, leaked()).await.unwrap().revoked, 1);
    assert_eq!(fixture.answer(mine.api_key()).await, LEAKED);
    assert_eq!(fixture.answer(theirs.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn an_owners_list_shows_no_stray_key() {
    let fixture = Fixture::new().await;
    let others = fixture.issue("another's").await;
    let stored = fixture
        .store
        .inner()
        .get(others.record().id())
        .await
        .unwrap();
    fixture.store.let_stray(stored.unwrap());
    let own = KeyQuery::of(&tenant()).owner(alice(None).principal());
    let listed = fixture.manager().list(&alice(None), &own).await;
    assert!(
        matches!(listed, Err(ManageError::Store(StoreError::Corrupt(_)))),
        "{listed:?}"
    );
}

#[tokio::test]
async fn a_lost_answer_repeats_nothing() {
    let fixture = Fixture::new().await;
    forty(&fixture).await;
    fixture.later(SECOND);
    fixture.told().await;
    fixture.store.lose([
        Loss::Answer,
        Loss::Commit,
        Loss::None,
        Loss::Answer,
        Loss::Answer,
    ]);
    let done = revoke_all(&fixture, leaked()).await.unwrap();
    assert_eq!((done.revoked, fixture.told().await.len()), (40, 41));
}

#[tokio::test]
async fn an_overtaken_issue_is_refused() {
    let fixture = Fixture::new().await;
    fixture.later(SECOND);
    let (scope, before) = (CutoffScope::from(&tenant()), fixture.now() + SECOND);
    fixture.store.first([Change::Cutoff { scope, before }]);
    let refused = fixture.manager().issue(&system(), new_key("key")).await;
    assert!(matches!(
        refused,
        Err(ManageError::ClockBehindCutoff { .. })
    ));
    assert!(fixture.told().await.is_empty());
}

/// What had been issued when all were revoked is refused. What is good afterwards was dated no earlier than the
/// instant before which all have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_slips_through() {
    let fixture = Fixture::new().await;
    for round in 0..200 {
        let tenant = named(&format!("t{round}"));
        let issued = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (fixture, tenant, issued) = (fixture.clone(), tenant.clone(), Arc::clone(&issued));
            tasks.push(tokio::spawn(async move {
                for _ in 0..5 {
                    // In every other round all happens in one instant.
                    fixture.later(Duration::from_micros(round % 2));
                    let key = NewKey::new(tenant.clone(), "key", READ);
                    match fixture.manager().issue(&system(), key).await {
                        Ok(key) => issued.lock().unwrap().push(key),
                        // It was overtaken.
                        Err(ManageError::CutOff) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }));
        }
        while issued.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        let ids =
            |keys: &[Issued]| -> Vec<KeyId> { keys.iter().map(|key| key.record().id()).collect() };
        let had = ids(&issued.lock().unwrap());
        let done = fixture
            .manager()
            .revoke_all(&system(), &tenant, leaked())
            .await
            .unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        let key = NewKey::new(tenant.clone(), "next", READ);
        let next = fixture.issue_key(key).await;
        assert_eq!(fixture.answer(next.api_key()).await, Answer::Admitted);
        let issued = std::mem::take(&mut *issued.lock().unwrap());
        for key in issued {
            if fixture.answer(key.api_key()).await == Answer::Admitted {
                assert!(!had.contains(&key.record().id()), "it was there before");
                assert!(key.record().created_at() >= done.before, "round {round}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_sweeps_count_each_key_once() {
    for _ in 0..20 {
        let fixture = Fixture::new().await;
        let keys = forty(&fixture).await;
        fixture.told().await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let fixture = fixture.clone();
            tasks.push(tokio::spawn(async move {
                revoke_all(&fixture, leaked()).await.unwrap()
            }));
        }
        let mut revoked = 0;
        for task in tasks {
            revoked += task.await.unwrap().revoked;
        }
        assert_eq!((revoked, fixture.told().await.len()), (40, 41));
        assert_eq!(
            fixture.status(keys[0].record().id()).await,
            KeyStatus::Revoked
        );
    }
    let fixture = Fixture::new().await;
    let done = revoke_all(&fixture, leaked()).await.unwrap();
    assert_eq!(done.revoked, 0, "of a tenant without keys");
    let list = fixture
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await
        .unwrap();
    assert!(list.keys.is_empty());
}
