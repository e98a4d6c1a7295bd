//! Changing a key that others change too, over a store that loses answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::key::{Access, RevokeReason};
use keyward::manager::{Axis, KeyUpdate, Limits, ManageError};
use keyward::store::{Change, StoreError};

use tokio::sync::Barrier;

use crate::common::*;
use crate::store::Loss;

#[tokio::test]
async fn a_changed_key_is_judged_again() {
    let fixture = Fixture::new().await;
    let (manager, alice) = (fixture.manager(), alice(Limits::new(READ)));
    let rename = || KeyUpdate::new().title("renamed");
    let replaced = async |access: Access, title: &str| {
        let issued = fixture.issue("key").await;
        let id = issued.record().id();
        let beside = KeyUpdate::new().access(access).title(title);
        let other = fixture.issue("key").await.record().id();
        let with = manager
            .update(&system(), &tenant(), other, beside)
            .await
            .unwrap();
        let mut with = with.encode().unwrap();
        with.id = id;
        (
            id,
            Change::Replace {
                expected: 1,
                with: Box::new(with),
            },
        )
    };
    let (id, widened) = replaced(Access::Full, "key").await;
    fixture.store.first([widened]);
    let refused = manager.update(&alice, &tenant(), id, rename()).await;
    assert!(matches!(
        refused,
        Err(ManageError::AboveCeiling(Axis::Access))
    ));

    let (id, renamed) = replaced(READ.into(), "renamed").await;
    fixture.store.first([renamed]);
    fixture.told().await;
    let kept = manager
        .update(&alice, &tenant(), id, rename())
        .await
        .unwrap();
    assert_eq!(
        (kept.revision(), fixture.told().await.len()),
        (2, 0),
        "it was done already"
    );

    let id = fixture.issue("key").await.record().id();
    let (at, reason) = (fixture.now(), RevokeReason::Leaked);
    fixture.store.first([Change::Revoke { id, at, reason }]);
    let refused = manager.update(&alice, &tenant(), id, rename()).await;
    assert!(matches!(refused, Err(ManageError::AlreadyRevoked { at: since }) if since == at));
    assert_eq!(fixture.record(id).await.title().as_str(), "key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revocation_beats_all_updates() {
    let fixture = Fixture::new().await;
    for _ in 0..200 {
        let issued = fixture.issue("key").await;
        let id = issued.record().id();
        let is_revoked = Arc::new(AtomicBool::new(false));
        // Every writer has updated the key once before it is revoked, and goes on until the revocation stops it:
        // they meet on every machine.
        let are_at_work = Arc::new(Barrier::new(4));
        let mut tasks = Vec::new();
        for n in 0..3 {
            let fixture = fixture.clone();
            let (is_revoked, are_at_work) = (Arc::clone(&is_revoked), Arc::clone(&are_at_work));
            tasks.push(tokio::spawn(async move {
                let mut done = 0_u64;
                loop {
                    let was_revoked = is_revoked.load(Ordering::SeqCst);
                    let update = KeyUpdate::new().title(format!("{n} {done}"));
                    let manager = fixture.manager();
                    match manager.update(&system(), &tenant(), id, update).await {
                        Ok(_) => assert!(!was_revoked, "changed after it was revoked"),
                        // The other writers were faster each time that it tried.
                        Err(ManageError::Store(StoreError::Conflict)) => continue,
                        Err(ManageError::AlreadyRevoked { .. }) => return done,
                        Err(other) => panic!("{other:?}"),
                    }
                    done += 1;
                    if done == 1 {
                        are_at_work.wait().await;
                    }
                    tokio::task::yield_now().await;
                }
            }));
        }
        are_at_work.wait().await;
        fixture.revoke(id).await;
        is_revoked.store(true, Ordering::SeqCst);
        let granted = fixture.answer(issued.api_key()).await == Answer::Admitted;
        assert!(!granted, "granted after it was revoked");
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        let revoked = Answer::Revoked(RevokeReason::Requested);
        assert_eq!(fixture.answer(issued.api_key()).await, revoked);
        let record = fixture.record(id).await;
        assert!(record.revocation().is_some());
        assert_eq!(
            record.revision(),
            2 + done,
            "each that was answered took place, and no other"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_of_two_fields_both_land() {
    let fixture = Fixture::new().await;
    for _ in 0..200 {
        let id = fixture.issue("key").await.record().id();
        let tasks = [
            KeyUpdate::new().title("new"),
            KeyUpdate::new().access(WRITE),
        ]
        .map(|update| {
            let fixture = fixture.clone();
            tokio::spawn(async move {
                fixture
                    .manager()
                    .update(&system(), &tenant(), id, update)
                    .await
                    .unwrap()
                    .revision()
            })
        });
        let mut revisions = Vec::new();
        for task in tasks {
            revisions.push(task.await.unwrap());
        }
        revisions.sort_unstable();
        assert_eq!(revisions, [2, 3]);
        let record = fixture.record(id).await;
        assert_eq!(
            (record.title().as_str(), &record.restrictions().access),
            ("new", &WRITE.into())
        );
    }
}

#[tokio::test]
async fn a_lost_answer_repeats_nothing() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let write = || KeyUpdate::new().access(WRITE);
    for losses in [
        vec![Loss::Answer],
        vec![Loss::Commit],
        vec![Loss::Answer, Loss::Commit],
    ] {
        let id = fixture.issue("key").await.record().id();
        fixture.told().await;
        fixture.store.lose(losses);
        let updated = manager
            .update(&system(), &tenant(), id, write())
            .await
            .unwrap();
        assert_eq!(updated, fixture.record(id).await);
        assert_eq!((updated.revision(), fixture.told().await.len()), (2, 1));
    }
    for (losses, is_known, revision) in [
        (vec![Loss::Answer, Loss::Commit, Loss::Commit], false, 2),
        (vec![Loss::Answer, Loss::Away], false, 2),
        (vec![Loss::Away], true, 1),
    ] {
        let id = fixture.issue("key").await.record().id();
        fixture.store.lose(losses);
        let error = manager
            .update(&system(), &tenant(), id, write())
            .await
            .unwrap_err();
        let unknown = matches!(error, ManageError::Store(StoreError::Indeterminate(_)));
        assert_eq!(!unknown, is_known, "{error:?}");
        assert_eq!(fixture.record(id).await.revision(), revision);
    }
}

#[tokio::test]
async fn endless_conflicts_are_given_up() {
    let fixture = Fixture::new().await;
    for (others, is_done) in [(7, true), (8, false)] {
        let id = fixture.issue("key").await.record().id();
        let stored = fixture.record(id).await.encode().unwrap();
        fixture
            .store
            .first((1..=others).map(|expected| Change::Replace {
                expected,
                with: Box::new(stored.clone()),
            }));
        let update = KeyUpdate::new().title("new");
        let updated = fixture
            .manager()
            .update(&system(), &tenant(), id, update)
            .await;
        match updated {
            Ok(record) => assert!(is_done && record.revision() == others + 2),
            Err(ManageError::Store(StoreError::Conflict)) => assert!(!is_done),
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(fixture.record(id).await.title().as_str() == "new", is_done);
    }
}
