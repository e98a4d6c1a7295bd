//! Rotating under a cap, with others at the same key, and over a store that loses answers.

use std::num::NonZeroU32;

use keyward::key::RevokeReason;
use keyward::manager::{KeyQuery, ManageError, Overlap, TenantRules};
use keyward::store::{Change, CutoffScope, StoreError};

use crate::common::*;
use crate::store::Loss;

async fn capped(most: u32) -> Fixture {
    let rules = TenantRules::new().max_keys(NonZeroU32::new(most).unwrap());
    Fixture::with(|builder| builder.tenant_rules(rules)).await
}

#[tokio::test]
async fn rotation_never_exceeds_the_cap() {
    let fixture = capped(3).await;
    let other = named("other");
    let theirs = keyward::manager::NewKey::new(other, "not counted", READ);
    fixture.issue_key(theirs).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fixture.issue(&format!("key {n}")).await.record().id());
    }
    let (commits, told) = (fixture.store.commits(), fixture.told().await.len());
    assert_eq!(told, 4);
    for overlap in [Overlap::For(HOUR), Overlap::UntilRevoked] {
        let refused = fixture.rotate(ids[0], overlap).await;
        assert!(
            matches!(refused, Err(ManageError::TenantFull)),
            "{overlap:?}"
        );
    }
    assert_eq!(
        (fixture.store.commits(), fixture.told().await.len()),
        (commits + 2, 0)
    );
    assert!(fixture.record(ids[0]).await.rotation().is_none());
    for id in &mut ids {
        *id = fixture
            .rotate(*id, Overlap::None)
            .await
            .unwrap()
            .record()
            .id();
    }
    let full = fixture
        .manager()
        .issue(&system(), new_key("one more"))
        .await;
    assert!(
        matches!(full, Err(ManageError::TenantFull)),
        "not one more than the cap"
    );
    fixture.revoke(ids[0]).await;
    let next = fixture.rotate(ids[1], Overlap::UntilRevoked).await.unwrap();
    let refused = fixture.rotate(ids[2], Overlap::UntilRevoked).await;
    assert!(
        matches!(refused, Err(ManageError::TenantFull)),
        "both count until one is revoked"
    );
    fixture.revoke(ids[1]).await;
    assert!(
        fixture
            .rotate(next.record().id(), Overlap::UntilRevoked)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_rotations_obey_the_cap() {
    for _ in 0..50 {
        let fixture = capped(4).await;
        let (mut tasks, mut ids) = (Vec::new(), Vec::new());
        for n in 0..3 {
            ids.push(fixture.issue(&format!("key {n}")).await.record().id());
        }
        for id in ids {
            for overlap in [Overlap::None, Overlap::UntilRevoked] {
                let fixture = fixture.clone();
                tasks.push(tokio::spawn(async move {
                    fixture.rotate(id, overlap).await.is_ok()
                }));
            }
            let fixture = fixture.clone();
            let key = new_key("new");
            tasks.push(tokio::spawn(async move {
                fixture.manager().issue(&system(), key).await.is_ok()
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let query = KeyQuery::of(&tenant());
        let list = fixture.manager().list(&system(), &query).await.unwrap();
        assert_eq!(list.keys.len(), 4);
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_one_successor() {
    let fixture = Fixture::new().await;
    for losses in [vec![Loss::Answer], vec![Loss::Commit, Loss::Answer]] {
        let old = fixture.issue("key").await;
        fixture.told().await;
        fixture.store.lose(losses);
        let new = fixture
            .rotate(old.record().id(), Overlap::None)
            .await
            .unwrap();
        assert_eq!(fixture.told().await.len(), 3);
        assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    }
    // Never settled: a successor that nobody holds may stand in the list, and can be rotated.
    let old = fixture.issue("unsettled").await.record().id();
    fixture
        .store
        .lose([Loss::Answer, Loss::Commit, Loss::Commit]);
    let unsettled = fixture.rotate(old, Overlap::None).await;
    assert!(matches!(
        unsettled,
        Err(ManageError::Store(StoreError::Indeterminate(_)))
    ));
    let rotated = fixture.rotate(old, Overlap::None).await;
    assert!(matches!(rotated, Err(ManageError::AlreadyRevoked { .. })));
    let query = KeyQuery::of(&tenant()).title_prefix("unsettled");
    let list = fixture.manager().list(&system(), &query).await.unwrap();
    let [stray] = &list.keys[..] else {
        panic!("{list:?}")
    };
    let new = fixture.rotate(stray.id(), Overlap::None).await.unwrap();
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    assert_eq!(new.record().lineage(), old);
}

#[tokio::test]
async fn an_ended_key_gets_no_successor() {
    let fixture = Fixture::new().await;
    for overlap in [Overlap::None, Overlap::For(HOUR), Overlap::UntilRevoked] {
        let id = fixture.issue("key").await.record().id();
        let (at, reason) = (fixture.now(), RevokeReason::Leaked);
        fixture.store.first([Change::Revoke { id, at, reason }]);
        let refused = fixture.rotate(id, overlap).await;
        assert!(matches!(refused, Err(ManageError::AlreadyRevoked { .. })));
        assert_eq!(
            fixture.record(id).await.revocation().unwrap().reason,
            RevokeReason::Leaked
        );
    }
    let id = fixture.issue("key").await.record().id();
    let (scope, before) = (CutoffScope::from(&tenant()), fixture.now() + SECOND);
    fixture.store.first([Change::Cutoff { scope, before }]);
    let refused = fixture.rotate(id, Overlap::UntilRevoked).await;
    assert!(matches!(
        refused,
        Err(ManageError::ClockBehindCutoff { .. })
    ));
    let live = fixture
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await
        .unwrap();
    assert!(live.keys.is_empty());
    // One that ends the key, but nothing that is issued now: the successor would outlive it.
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    fixture.later(HOUR);
    let (scope, before) = (CutoffScope::from(&tenant()), fixture.now() - SECOND);
    fixture.store.first([Change::Cutoff { scope, before }]);
    let refused = fixture.rotate(id, Overlap::UntilRevoked).await;
    assert!(matches!(refused, Err(ManageError::CutOff)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_rotations_succeed_once() {
    let fixture = Fixture::new().await;
    for round in 0..100 {
        let overlap = [Overlap::None, Overlap::UntilRevoked][round % 2];
        let id = fixture.issue("key").await.record().id();
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let fixture = fixture.clone();
            tasks.push(tokio::spawn(
                async move { fixture.rotate(id, overlap).await },
            ));
        }
        let mut issued = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(new) => issued.push(new.record().id()),
                Err(ManageError::AlreadyRevoked { .. }) => assert_eq!(overlap, Overlap::None),
                Err(ManageError::AlreadyRotated { .. }) => assert_ne!(overlap, Overlap::None),
                Err(other) => panic!("{other:?}"),
            }
        }
        let successor = fixture.record(id).await.rotation().unwrap().successor;
        assert_eq!(issued, [successor], "round {round}");
    }
}
