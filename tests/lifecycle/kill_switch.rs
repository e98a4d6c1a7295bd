//! Ending all that was issued before an instant.

use std::time::Duration;

use keyward::audit::EventAction;
use keyward::key::{KeyStatus, Principal, RevokeReason};
use keyward::manager::{Actor, KeyQuery, ManageError, NewKey};
use keyward::store::CutoffScope;
use keyward::time::Date;

use crate::common::*;
use crate::store::Loss;

#[tokio::test]
async fn the_kill_switch_ends_what_was_issued_before_the_instant() {
    let house = House::new().await;
    let old = house.issue("old").await;
    house.later(SECOND);
    let (then, same) = (house.now(), house.issue("of that instant").await);
    let other = house
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    house.later(SECOND);
    house.told().await;
    let (manager, alice) = (house.manager(), alice(None));
    manager
        .deny_issued_before(&alice, then, &tenant())
        .await
        .unwrap();
    assert_eq!(house.answer(old.api_key()).await, Answer::CutOff);
    for key in [&same, &other] {
        assert_eq!(house.answer(key.api_key()).await, Answer::Admitted);
    }
    let id = old.record().id();
    let record = manager.get(&system(), &tenant(), id).await.unwrap();
    assert!(record.is_cut_off() && record.revocation().is_none());
    assert_eq!(
        (record.revision(), record.status(house.now())),
        (1, KeyStatus::Revoked)
    );

    let told = house.told().await;
    assert_eq!(actions(&told), [EventAction::KeysCutOff]);
    is_alices(&told[0], house.now());
    let then = text(then);
    let expected = [
        ("scope", None, Some("tenant acme-inc")),
        ("before", None, Some(&*then)),
    ];
    assert_eq!(fields(&told[0]), expected);
    assert_eq!((told[0].key, &told[0].title), (None, &None));

    // It is revoked for good all the same where somebody says so.
    house.revoke(id).await;
    assert_eq!(
        house.answer(old.api_key()).await,
        Answer::Revoked(RevokeReason::Requested)
    );
}

#[tokio::test]
async fn each_scope_ends_its_own() {
    let house = House::new().await;
    let bob = Principal::user("bob").unwrap();
    let bobs = house.issue_key(new_key("bob's").owner(bob.clone())).await;
    let mine = house.issue("another's").await;
    let theirs = NewKey::new(named("other"), "theirs", READ).owner(bob.clone());
    let theirs = house.issue_key(theirs).await;
    house.later(SECOND);
    let manager = house.manager();
    let owner = CutoffScope::Owner {
        tenant: tenant(),
        owner: bob,
    };
    for (scope, ended) in [
        (owner, [true, false, false]),
        (CutoffScope::from(&tenant()), [true, true, false]),
        (CutoffScope::All, [true, true, true]),
    ] {
        manager
            .deny_issued_before(&system(), house.now(), scope)
            .await
            .unwrap();
        for (key, has_ended) in [&bobs, &mine, &theirs].into_iter().zip(ended) {
            assert_eq!(
                house.answer(key.api_key()).await == Answer::CutOff,
                has_ended
            );
        }
    }
    assert_eq!(house.told().await.last().unwrap().tenant, None);
}

#[tokio::test]
async fn it_moves_forward_only_and_tells_only_what_is_news() {
    let house = House::new().await;
    let first = house.issue("first").await;
    house.later(SECOND);
    let second = house.issue("second").await;
    house.later(SECOND);
    house.told().await;
    let (manager, now) = (house.manager(), house.now());
    let deny = async |instant| {
        manager
            .deny_issued_before(&system(), instant, &tenant())
            .await
    };
    deny(second.record().created_at()).await.unwrap();
    for earlier in [SECOND, Duration::from_secs(2), DAY] {
        deny(now - earlier).await.unwrap();
        assert_eq!(house.answer(first.api_key()).await, Answer::CutOff);
        assert_eq!(house.answer(second.api_key()).await, Answer::Admitted);
    }
    assert_eq!(house.told().await.len(), 1);
    // Less than a microsecond is not kept.
    deny(now - SECOND + Duration::from_nanos(999))
        .await
        .unwrap();
    assert_eq!(house.answer(second.api_key()).await, Answer::Admitted);
    deny(now).await.unwrap();
    assert_eq!(house.answer(second.api_key()).await, Answer::CutOff);
    assert_eq!(house.told().await.len(), 1);
}

#[tokio::test]
async fn an_instant_in_the_future_is_refused() {
    let house = House::new().await;
    let (manager, now) = (house.manager(), house.now());
    for instant in [
        now + Duration::from_micros(1),
        now + DAY,
        Date::MAX.midnight().assume_utc(),
    ] {
        let refused = manager
            .deny_issued_before(&system(), instant, &tenant())
            .await;
        assert!(matches!(refused, Err(ManageError::InTheFuture)));
    }
    house.clock.fail();
    let refused = manager.deny_issued_before(&system(), now, &tenant()).await;
    assert!(matches!(refused, Err(ManageError::Clock)));
    assert!(house.told().await.is_empty());
}

#[tokio::test]
async fn whose_keys_an_actor_may_end_are_those_it_acts_for() {
    let house = House::new().await;
    let (manager, now) = (house.manager(), house.now());
    let owner = CutoffScope::Owner {
        tenant: named("other"),
        owner: Principal::user("alice").unwrap(),
    };
    for scope in [CutoffScope::All, CutoffScope::from(&named("other")), owner] {
        let refused = manager.deny_issued_before(&alice(None), now, scope).await;
        assert!(matches!(refused, Err(ManageError::Refused)));
    }
    let all = keyward::manager::Tenants::All;
    let root = Actor::user("root", all, keyward::manager::Ceiling::Unlimited).unwrap();
    manager
        .deny_issued_before(&root, now, CutoffScope::All)
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_can_be_issued_that_would_have_ended_already() {
    let house = House::new().await;
    house.later(HOUR);
    house.cut_off().await;
    house.clock.set(house.now() - SECOND);
    let refused = house.manager().issue(&system(), new_key("key")).await;
    assert!(matches!(refused, Err(ManageError::CutOff)));
    let other = NewKey::new(named("other"), "key", READ);
    assert!(house.manager().issue(&system(), other).await.is_ok());
    house.later(SECOND);
    assert!(
        house
            .manager()
            .issue(&system(), new_key("key"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn keys_that_it_ended_are_listed_as_revoked() {
    let house = House::new().await;
    let old = house.issue("old").await.record().id();
    house.later(SECOND);
    house.cut_off().await;
    let new = house.issue("new").await.record().id();
    let listed = async |query: KeyQuery| {
        let list = house.manager().list(&system(), &query).await.unwrap();
        list.keys
            .iter()
            .map(keyward::key::KeyRecord::id)
            .collect::<Vec<_>>()
    };
    let all = || KeyQuery::of(&tenant());
    assert_eq!(listed(all()).await, [new]);
    assert_eq!(listed(all().live_first()).await, [new, old]);
    assert_eq!(listed(all().status(KeyStatus::Revoked)).await, [old]);
    assert_eq!(listed(all().status(KeyStatus::Active)).await, [new]);
}

#[tokio::test]
async fn a_lost_answer_ends_them_once() {
    let house = House::new().await;
    let issued = house.issue("key").await;
    house.later(SECOND);
    house.told().await;
    house.store.lose([Loss::Answer, Loss::Commit]);
    house.cut_off().await;
    assert_eq!(house.answer(issued.api_key()).await, Answer::CutOff);
    assert_eq!(house.told().await.len(), 1);
}
