//! Switching a key off, and on again.

use std::sync::Arc;

use keyward::audit::EventAction;
use keyward::key::{Access, KeyStatus, RevokeReason};
use keyward::manager::{Axis, Limits, ManageError, NewKey};
use keyward::store::Change;

use crate::common::*;
use crate::store::Loss;

#[tokio::test]
async fn a_suspended_key_resumes_unchanged() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue_key(new_key("key").expires_in(DAY)).await;
    let id = issued.record().id();
    fixture.told().await;
    fixture.later(SECOND);
    let (manager, alice, since) = (fixture.manager(), alice(None), fixture.now());
    let suspended = manager.suspend(&alice, &tenant(), id).await.unwrap();
    assert_eq!(suspended, fixture.record(id).await);
    assert_eq!(
        (suspended.suspended_at(), suspended.revision()),
        (Some(since), 2)
    );
    assert_eq!(fixture.status(id).await, KeyStatus::Suspended);
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Suspended);

    fixture.later(HOUR);
    let again = manager.suspend(&alice, &tenant(), id).await;
    assert!(matches!(again, Err(ManageError::AlreadySuspended { at }) if at == since));
    let resumed = manager.resume(&alice, &tenant(), id).await.unwrap();
    assert_eq!(resumed, fixture.record(id).await);
    assert_eq!((resumed.suspended_at(), resumed.revision()), (None, 3));
    assert_eq!(
        resumed.restrictions().expires_at,
        issued.record().restrictions().expires_at,
        "its life goes on meanwhile"
    );
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
    let again = manager.resume(&alice, &tenant(), id).await;
    assert!(matches!(again, Err(ManageError::NotSuspended)));

    let told = fixture.told().await;
    assert_eq!(
        actions(&told),
        [EventAction::KeySuspended, EventAction::KeyResumed]
    );
    is_alices(&told[0], since);
    is_alices(&told[1], fixture.now());
    let at = text(since);
    assert_eq!(fields(&told[0]), [("suspended_at", None, Some(&*at))]);
    assert_eq!(fields(&told[1]), [("suspended_at", Some(&*at), None)]);
}

#[tokio::test]
async fn ended_keys_cannot_be_switched() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let [revoked, cut_off, superseded] = fixture.ended_keys().await;
    let expired = fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await;
    let asleep = fixture
        .issue_key(new_key("suspended").expires_in(SECOND))
        .await;
    let id = asleep.record().id();
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    fixture.later(SECOND);
    assert_eq!(fixture.answer(asleep.api_key()).await, Answer::Expired);
    fixture.told().await;
    for (key, expected) in [
        (revoked, None),
        (cut_off, Some(KeyStatus::Revoked)),
        (superseded, Some(KeyStatus::Revoked)),
        (expired, Some(KeyStatus::Expired)),
        (asleep, Some(KeyStatus::Expired)),
    ] {
        let id = key.record().id();
        for done in [
            manager.suspend(&system(), &tenant(), id).await,
            manager.resume(&system(), &tenant(), id).await,
        ] {
            match done.unwrap_err() {
                ManageError::AlreadyRevoked { .. } => assert_eq!(expected, None),
                ManageError::Ended(status) => assert_eq!(Some(status), expected),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn a_sleeping_key_can_be_suspended() {
    let fixture = Fixture::new().await;
    let issued = fixture
        .issue_key(new_key("key").not_before(fixture.now() + HOUR))
        .await;
    let (manager, id) = (fixture.manager(), issued.record().id());
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Suspended);
    fixture.later(HOUR);
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Suspended);
    fixture.clock.set(issued.record().created_at());
    manager.resume(&system(), &tenant(), id).await.unwrap();
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::NotYetValid);
}

#[tokio::test]
async fn the_ceiling_binds_resuming_only() {
    let fixture = Fixture::new().await;
    let (manager, low) = (fixture.manager(), alice(Limits::new(READ)));
    let short = alice(Limits::new(READ).expires_by(fixture.now() + HOUR));
    let full = NewKey::new(tenant(), "full", Access::Full);
    let full = fixture.issue_key(full).await.record().id();
    let lasting = fixture
        .issue_key(new_key("lasting").expires_in(DAY))
        .await
        .record()
        .id();
    // Whether it is suspended is not told to whoever may not switch it on.
    let refused = manager.resume(&low, &tenant(), full).await;
    assert!(matches!(
        refused,
        Err(ManageError::AboveCeiling(Axis::Access))
    ));
    for (actor, id, exceeded) in [(&low, full, Axis::Access), (&short, lasting, Axis::Expiry)] {
        manager.suspend(actor, &tenant(), id).await.unwrap();
        let refused = manager.resume(actor, &tenant(), id).await;
        assert!(matches!(refused, Err(ManageError::AboveCeiling(axis)) if axis == exceeded));
        assert_eq!(fixture.status(id).await, KeyStatus::Suspended);
    }
    assert!(manager.resume(&low, &tenant(), lasting).await.is_ok());
}

#[tokio::test]
async fn a_revoked_key_is_not_resumed() {
    let fixture = Fixture::new().await;
    let (manager, issued) = (fixture.manager(), fixture.issue("key").await);
    let id = issued.record().id();
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    let (at, reason) = (fixture.now(), RevokeReason::Leaked);
    fixture.store.first([Change::Revoke { id, at, reason }]);
    let refused = manager.resume(&system(), &tenant(), id).await;
    assert!(matches!(refused, Err(ManageError::AlreadyRevoked { .. })));
    assert_eq!(
        fixture.answer(issued.api_key()).await,
        Answer::Revoked(RevokeReason::Leaked)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_suspends_succeed_once() {
    let fixture = Fixture::new().await;
    for round in 0..100 {
        let issued = Arc::new(fixture.issue("key").await);
        fixture.told().await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (fixture, issued) = (fixture.clone(), Arc::clone(&issued));
            tasks.push(tokio::spawn(async move {
                let id = issued.record().id();
                let done = fixture.manager().suspend(&system(), &tenant(), id).await;
                (done.is_ok(), fixture.answer(issued.api_key()).await)
            }));
        }
        let mut succeeded = 0;
        for task in tasks {
            let (is_done, answer) = task.await.unwrap();
            succeeded += u32::from(is_done);
            assert_ne!(
                answer,
                Answer::Admitted,
                "whoever was answered finds it switched off"
            );
        }
        assert_eq!(
            (succeeded, fixture.told().await.len()),
            (1, 1),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn a_lost_answer_suspends_once() {
    let fixture = Fixture::new().await;
    let (manager, id) = (fixture.manager(), fixture.issue("key").await.record().id());
    fixture.told().await;
    fixture.store.lose([Loss::Answer, Loss::Answer]);
    let suspended = manager.suspend(&system(), &tenant(), id).await.unwrap();
    assert_eq!((suspended.revision(), fixture.told().await.len()), (2, 1));
    fixture.store.lose([Loss::Answer, Loss::Commit]);
    let resumed = manager.resume(&system(), &tenant(), id).await.unwrap();
    assert_eq!((resumed.revision(), fixture.told().await.len()), (3, 1));
}

#[tokio::test]
async fn suspending_needs_a_clock() {
    let fixture = Fixture::new().await;
    let (manager, id, now) = (
        fixture.manager(),
        fixture.issue("key").await.record().id(),
        fixture.now(),
    );
    fixture.told().await;
    fixture.clock.fail();
    let refused = manager.suspend(&system(), &tenant(), id).await;
    assert!(matches!(refused, Err(ManageError::Clock)));
    fixture.clock.set(now);
    assert!(fixture.told().await.is_empty());
}
