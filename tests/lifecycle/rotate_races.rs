//! Rotating under a cap, with others at the same key, and over a store that loses answers.

use std::num::NonZeroU32;

use keyward::key::RevokeReason;
use keyward::manager::{Issued, KeyQuery, ManageError, Overlap, Rotation, TenantRules};
use keyward::store::{Change, CutoffScope, StoreError};

use crate::common::*;
use crate::store::Loss;

async fn capped(most: u32) -> Fixture {
    let rules = TenantRules::new().max_keys(NonZeroU32::new(most).unwrap());
    Fixture::with(|builder| builder.tenant_rules(rules)).await
}

#[track_caller]
fn needs_place(refused: &Result<Issued, ManageError>, most: u32) {
    let is_so =
        matches!(refused, Err(ManageError::OverlapNeedsPlace { limit }) if limit.get() == most);
    assert!(is_so, "{refused:?}");
}

#[track_caller]
fn is_full(refused: &Result<Issued, ManageError>, most: u32) {
    let is_so = matches!(refused, Err(ManageError::TenantFull { limit }) if limit.get() == most);
    assert!(is_so, "{refused:?}");
}

#[tokio::test]
async fn an_ending_overlap_shares_its_place() {
    let fixture = capped(2).await;
    let old = [fixture.issue("a").await, fixture.issue("b").await];
    let mut new = Vec::new();
    for (key, overlap) in old
        .iter()
        .zip([Overlap::For(DAY * 90), Overlap::Until(fixture.now() + HOUR)])
    {
        new.push(fixture.rotate(key.record().id(), overlap).await.unwrap());
    }
    for key in old.iter().chain(&new) {
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    let one_more = async || fixture.manager().issue(&system(), new_key("new")).await;
    is_full(&one_more().await, 2);
    // One more for each key, not for each rotation.
    let id = new[1].record().id();
    needs_place(&fixture.rotate(id, Overlap::For(SECOND)).await, 2);
    fixture.later(HOUR);
    let third = fixture.rotate(id, Overlap::For(SECOND)).await.unwrap();
    is_full(&one_more().await, 2);
    fixture.later(DAY * 90);
    for key in old.iter().chain(&new[1..]) {
        assert_ne!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    for key in [&new[0], &third] {
        let id = key.record().id();
        fixture.rotate(id, Overlap::None).await.unwrap();
    }
    assert_eq!(titles(&fixture, all()).await, ["a", "b"]);
    is_full(&one_more().await, 2);
}

#[tokio::test]
async fn no_tenant_has_twice_its_keys_and_more() {
    let fixture = capped(1).await;
    let old = fixture.issue("key").await.record().id();
    let brief = || Rotation::new(Overlap::For(DAY)).expires_in(HOUR);
    fixture.rotate(old, brief()).await.unwrap();
    // The successor ends first: the old key may be rotated again, but ended keys count.
    fixture.later(HOUR);
    let refused = fixture.rotate(old, brief()).await;
    is_full(&refused, 1);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("maximum of 1 keys"), "{said}");
    assert!(fixture.rotate(old, Overlap::None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_overlaps_obey_the_cap() {
    for _ in 0..50 {
        let fixture = capped(2).await;
        let mut ids = Vec::new();
        for title in ["a", "b"] {
            ids.push(fixture.issue(title).await.record().id());
        }
        let mut tasks = Vec::new();
        for id in ids.into_iter().cycle().take(6) {
            let other = fixture.clone();
            let rotated = async move { other.rotate(id, Overlap::For(HOUR)).await };
            tasks.push(tokio::spawn(rotated));
            let other = fixture.clone();
            let key = new_key("new");
            let issued = async move { other.manager().issue(&system(), key).await };
            tasks.push(tokio::spawn(issued));
        }
        let mut added = 0;
        for task in tasks {
            added += usize::from(task.await.unwrap().is_ok());
        }
        let list = fixture.manager().list(&system(), &all()).await.unwrap();
        let heads = list.keys.iter().filter(|key| key.rotation().is_none());
        assert_eq!((added, list.keys.len(), heads.count()), (2, 4, 2));
    }
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
    let too_long = Overlap::For(DAY * 90 + SECOND);
    for overlap in [too_long, Overlap::UntilRevoked] {
        let refused = fixture.rotate(ids[0], overlap).await;
        needs_place(&refused, 3);
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("3 keys") && said.contains("90 days"),
            "{said}"
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
        matches!(full, Err(ManageError::TenantFull { .. })),
        "not one more than the cap"
    );
    fixture.revoke(ids[0]).await;
    let next = fixture.rotate(ids[1], Overlap::UntilRevoked).await.unwrap();
    let refused = fixture.rotate(ids[2], Overlap::UntilRevoked).await;
    // Both count until one is revoked.
    needs_place(&refused, 3);
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
