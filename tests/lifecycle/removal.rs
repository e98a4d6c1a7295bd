//! A tenant that is removed is gone, and nobody else.

use keyward::audit::EventAction;
use keyward::key::{KeyId, Principal, RevokeReason};
use keyward::manager::{ManageError, NewKey, Overlap, RevokeAll};
use keyward::store::{
    Change, ChangeId, ChangeSet, CutoffScope, KeyStore, ListQuery, Segments, StoreError, UsageStore,
};
use keyward::testkit::SeededRandom;

use crate::common::*;
use crate::store::Loss;

/// Every key of the tenant as it is stored.
async fn stored(house: &House) -> Vec<KeyId> {
    let query = ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked);
    let page = house.store.inner().list(&query.limit(1_000)).await.unwrap();
    page.items.into_iter().map(|key| key.id).collect()
}

fn owned(owner: &str) -> NewKey {
    new_key("owned").owner(Principal::user(owner).unwrap())
}

async fn cut_off_owner(house: &House, owner: &str) {
    let owner = Principal::user(owner).unwrap();
    let scope = CutoffScope::Owner {
        tenant: tenant(),
        owner,
    };
    let done = house
        .manager()
        .deny_issued_before(&system(), house.now(), scope)
        .await;
    done.unwrap();
}

#[tokio::test]
async fn every_key_goes_whatever_its_state() {
    let house = House::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = house.issue_key(theirs).await;
    let mut keys = Vec::from(house.ended_keys().await);
    let expiring = new_key("expiring").expires_at(house.now() + SECOND);
    keys.push(house.issue_key(expiring).await);
    let suspended = house.issue("suspended").await;
    let id = suspended.record().id();
    let manager = house.manager();
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    keys.push(suspended);
    house.later(SECOND);
    let rotated = house.issue("rotated").await;
    let id = rotated.record().id();
    keys.push(house.rotate(id, Overlap::UntilRevoked).await.unwrap());
    keys.push(rotated);
    for n in 0..40 {
        keys.push(house.issue(&format!("key {n}")).await);
    }
    let live = keys.last().unwrap();
    assert_eq!(house.answer(live.api_key()).await, Answer::Admitted);
    assert_eq!(house.answer(theirs.api_key()).await, Answer::Admitted);
    house.keyward.flush_usage().await.unwrap();
    let all = stored(&house).await;
    assert!(
        all.len() > keys.len(),
        "and the successor of one that ended"
    );
    house.told().await;

    let removed = manager.remove_tenant(&alice(None), &tenant()).await;
    assert_eq!(removed.unwrap().keys, all.len() as u64);
    assert!(stored(&house).await.is_empty());
    for key in &keys {
        let answer = house.answer(key.api_key()).await;
        assert!(matches!(answer, Answer::Other(_)), "{answer:?}");
    }
    let store = house.store.inner();
    let usage = UsageStore::read(store, &all).await.unwrap();
    assert!(usage.iter().all(Option::is_none));
    assert_eq!(house.answer(theirs.api_key()).await, Answer::Admitted);
    house.keyward.flush_usage().await.unwrap();
    let usage = UsageStore::read(store, &[theirs.record().id()]).await;
    assert_eq!(usage.unwrap()[0].unwrap().granted, 2);

    let told = house.told().await;
    for event in &told {
        is_alices(event, house.now());
        assert_eq!(event.title, None, "a removal writes no title anew");
    }
    let count = |action| told.iter().filter(|event| event.action == action).count();
    assert_eq!(count(EventAction::KeyPurged), all.len());
    let first = told.first().unwrap();
    assert_eq!(
        first.action,
        EventAction::KeysCutOff,
        "the revocation is first"
    );
    let last = told.last().unwrap();
    assert_eq!((last.action, last.key), (EventAction::TenantRemoved, None));
    let count = all.len().to_string();
    assert_eq!(fields(last), [("keys", None, Some(&*count))]);
    let text = format!("{told:?}");
    assert!(
        !text.contains("key 7") && !text.contains("suspended"),
        "{text}"
    );
}

#[tokio::test]
async fn another_node_refuses_the_keys_before_they_go() {
    let house = House::new().await;
    let key = house.issue("key").await;
    house.later(SECOND);
    // The first commit is done, and the store is away from then on.
    let away = [Loss::None].into_iter().chain([Loss::Away; 9]);
    house.store.lose(away);
    let removed = house.manager().remove_tenant(&system(), &tenant()).await;
    let now = house.now();
    assert!(
        matches!(removed, Err(ManageError::Unfinished { before, .. }) if before == now),
        "{removed:?}"
    );
    assert_eq!(stored(&house).await, [key.record().id()]);
    let other = house.beside(|builder| builder).await;
    for node in [&house, &other] {
        assert_eq!(node.answer(key.api_key()).await, Answer::CutOff);
    }
}

#[tokio::test]
async fn a_removal_that_was_interrupted_continues() {
    for losses in 0..8 {
        for loss in [Loss::Away, Loss::Answer, Loss::Commit] {
            let house = House::new().await;
            let mut keys = Vec::new();
            for n in 0..20 {
                keys.push(house.issue(&format!("key {n}")).await);
            }
            house.later(SECOND);
            let done = std::iter::repeat_n(Loss::None, losses);
            house.store.lose(done.chain([loss; 3]));
            let interrupted = house.manager().remove_tenant(&system(), &tenant()).await;
            house.store.lose([]);
            let before = stored(&house).await.len();
            if interrupted.is_ok() {
                assert_eq!(before, 0);
            }
            let removed = house.manager().remove_tenant(&system(), &tenant()).await;
            assert_eq!(removed.unwrap().keys, before as u64);
            assert!(stored(&house).await.is_empty());
            let told = actions(&house.told().await);
            let of = |action| told.iter().filter(|told| **told == action).count();
            assert_eq!(of(EventAction::KeyPurged), 20, "each is told once");
            assert_eq!(of(EventAction::KeyRevoked), 20);
            assert_eq!(told.last(), Some(&EventAction::TenantRemoved));
        }
    }
}

#[tokio::test]
async fn keys_that_a_clock_dated_ahead_go_too() {
    let house = House::new().await;
    house.later(HOUR);
    let ahead = house.issue("ahead").await;
    let revoked = house.issue("revoked ahead").await;
    house.revoke(revoked.record().id()).await;
    house.clock.set(house.now() - HOUR);
    let removed = house.manager().remove_tenant(&system(), &tenant()).await;
    assert_eq!(removed.unwrap().keys, 2);
    for key in [&ahead, &revoked] {
        let answer = house.answer(key.api_key()).await;
        assert!(matches!(answer, Answer::Other(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn keys_issued_meanwhile_go_or_the_call_says_so() {
    let house = House::new().await;
    let template = house.issue("key").await.record().id();
    let template = house.store.inner().get(template).await.unwrap().unwrap();
    let another = |n: u128| {
        let id = KeyId::from_u128(n);
        let key = keyward::key::StoredKey {
            id,
            lineage: id,
            ..template.clone()
        };
        Change::Insert(Box::new(key))
    };
    // Before each of the first commits somebody adds a key, behind the list that was read.
    house.store.first((1..5).map(another));
    let removed = house.manager().remove_tenant(&system(), &tenant()).await;
    assert_eq!(removed.unwrap().keys, 5);
    assert!(stored(&house).await.is_empty());
    // It does not go on for ever.
    house.store.first((10..100).map(another));
    let removed = house.manager().remove_tenant(&system(), &tenant()).await;
    assert!(
        matches!(removed, Err(ManageError::Unfinished { .. })),
        "{removed:?}"
    );
}

#[tokio::test]
async fn the_same_name_issued_anew_inherits_nothing() {
    let house = House::new().await;
    let leaked = house.issue_key(owned("zdenka.blau")).await;
    house.later(SECOND);
    cut_off_owner(&house, "zdenka.blau").await;
    let before = house.store.inner().get(leaked.record().id()).await.unwrap();
    house.later(SECOND);
    house
        .manager()
        .remove_tenant(&system(), &tenant())
        .await
        .unwrap();
    let removed_at = house.now();
    // Its owner's name stands under no cutoff: nothing of it moves any.
    let scope = CutoffScope::Owner {
        tenant: tenant(),
        owner: Principal::user("zdenka.blau").unwrap(),
    };
    let store = house.store.inner();
    let cutoff = Change::Cutoff {
        scope,
        before: house.now() - HOUR,
    };
    let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(1)), cutoff);
    let outcomes = store.commit(&set).await.unwrap().outcomes;
    assert_eq!(outcomes, [keyward::store::Outcome::CutOff]);

    house.later(SECOND);
    let anew = house.issue_key(owned("zdenka.blau")).await;
    assert_eq!(house.answer(anew.api_key()).await, Answer::Admitted);
    let record = house.record(anew.record().id()).await;
    assert!(!record.is_cut_off());
    // What was issued before the removal does not come back, by whichever way.
    assert!(matches!(
        house.answer(leaked.api_key()).await,
        Answer::Other(_)
    ));
    let again = Change::Insert(Box::new(before.unwrap()));
    let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(2)), again);
    let error = store.commit(&set).await.unwrap_err();
    assert!(matches!(error, StoreError::AlreadyExists), "{error:?}");
    house.clock.set(removed_at - SECOND);
    let late = house.manager().issue(&system(), owned("zdenka.blau")).await;
    assert!(
        matches!(late, Err(ManageError::ClockBehindCutoff { .. })),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_cutoff_that_is_later_than_the_removal_stays() {
    let house = House::new().await;
    house.issue_key(owned("alice")).await;
    house.later(HOUR);
    cut_off_owner(&house, "alice").await;
    let cut_off_at = house.now();
    house.clock.set(house.now() - SECOND);
    house
        .manager()
        .remove_tenant(&system(), &tenant())
        .await
        .unwrap();
    let issued = house.manager().issue(&system(), owned("alice")).await;
    assert!(
        matches!(issued, Err(ManageError::ClockBehindCutoff { .. })),
        "{issued:?}"
    );
    house.clock.set(cut_off_at);
    let issued = house.issue_key(owned("alice")).await;
    assert_eq!(house.answer(issued.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn a_stray_key_in_the_list_is_not_removed() {
    let house = House::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = house.issue_key(theirs).await;
    let stray = house.store.inner().get(theirs.record().id()).await.unwrap();
    house.store.let_stray(stray.unwrap());
    let removed = house.manager().remove_tenant(&system(), &tenant()).await;
    let Err(ManageError::Unfinished { source, .. }) = removed else {
        panic!("{removed:?}");
    };
    assert!(matches!(source, StoreError::Corrupt(_)), "{source:?}");
    assert_eq!(house.answer(theirs.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn a_tenant_without_keys_is_removed_too() {
    let house = House::new().await;
    let key = house.issue_key(owned("alice")).await;
    house.later(SECOND);
    let of_alice = RevokeAll::new(RevokeReason::Leaked);
    let of_alice = of_alice.owner(&Principal::user("alice").unwrap());
    let manager = house.manager();
    manager
        .revoke_all(&system(), &tenant(), of_alice)
        .await
        .unwrap();
    house.later(SECOND);
    let purged = manager.purge(&system(), &tenant(), house.now(), None).await;
    assert_eq!(purged.unwrap().keys, [key.record().id()]);
    house.told().await;
    for _ in 0..2 {
        let removed = manager.remove_tenant(&system(), &tenant()).await.unwrap();
        assert_eq!(removed.keys, 0);
        let told = house.told().await;
        assert_eq!(told.last().unwrap().action, EventAction::TenantRemoved);
        assert!(!format!("{told:?}").contains("alice"), "{told:?}");
    }
}
