//! Ending all that was issued before an instant.

use std::time::Duration;

use keyward::audit::EventAction;
use keyward::key::{KeyStatus, Principal, RevokeReason};
use keyward::manager::{Actor, CutoffChange, KeyQuery, ManageError, NewKey, RevokeAll};
use keyward::store::{Change, CutoffScope};
use keyward::time::Date;

use crate::common::*;
use crate::store::Loss;

#[tokio::test]
async fn it_ends_keys_issued_earlier() {
    let fixture = Fixture::new().await;
    let old = fixture.issue("old").await;
    fixture.later(SECOND);
    let (then, same) = (fixture.now(), fixture.issue("of that instant").await);
    let other = fixture
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    fixture.later(SECOND);
    fixture.told().await;
    let (manager, alice) = (fixture.manager(), alice(None));
    manager
        .deny_issued_before(&alice, then, &tenant())
        .await
        .unwrap();
    assert_eq!(fixture.answer(old.api_key()).await, Answer::CutOff);
    for key in [&same, &other] {
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    let id = old.record().id();
    let record = manager.get(&system(), &tenant(), id).await.unwrap();
    assert!(record.is_cut_off() && record.revocation().is_none());
    assert_eq!(
        (record.revision(), record.status(fixture.now())),
        (1, KeyStatus::Revoked)
    );

    let told = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::KeysCutOff]);
    is_alices(&told[0], fixture.now());
    let then = text(then);
    let expected = [
        ("scope", None, Some("tenant acme-inc")),
        ("before", None, Some(&*then)),
    ];
    assert_eq!(fields(&told[0]), expected);
    assert_eq!((told[0].key, &told[0].title), (None, &None));

    // It is revoked for good all the same where somebody says so.
    fixture.revoke(id).await;
    assert_eq!(
        fixture.answer(old.api_key()).await,
        Answer::Revoked(RevokeReason::Requested)
    );
}

#[tokio::test]
async fn each_scope_ends_its_own() {
    let fixture = Fixture::new().await;
    let bob = Principal::user("bob").unwrap();
    let bobs = fixture.issue_key(new_key("bob's").owner(bob.clone())).await;
    let mine = fixture.issue("another's").await;
    let theirs = NewKey::new(named("other"), "theirs", READ).owner(bob.clone());
    let theirs = fixture.issue_key(theirs).await;
    fixture.later(SECOND);
    let manager = fixture.manager();
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
            .deny_issued_before(&system(), fixture.now(), scope)
            .await
            .unwrap();
        for (key, has_ended) in [&bobs, &mine, &theirs].into_iter().zip(ended) {
            assert_eq!(
                fixture.answer(key.api_key()).await == Answer::CutOff,
                has_ended
            );
        }
    }
    assert_eq!(fixture.told().await.last().unwrap().tenant, None);
}

#[tokio::test]
async fn it_only_moves_forward() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("first").await;
    fixture.later(SECOND);
    let second = fixture.issue("second").await;
    fixture.later(SECOND);
    fixture.told().await;
    let (manager, now) = (fixture.manager(), fixture.now());
    let deny = async |instant| {
        manager
            .deny_issued_before(&system(), instant, &tenant())
            .await
    };
    let set = deny(second.record().created_at()).await.unwrap();
    assert_eq!(set, CutoffChange::Set);
    for earlier in [SECOND, Duration::from_secs(2), DAY] {
        let change = deny(now - earlier).await.unwrap();
        assert_eq!(change, CutoffChange::Unchanged);
        assert_eq!(fixture.answer(first.api_key()).await, Answer::CutOff);
        assert_eq!(fixture.answer(second.api_key()).await, Answer::Admitted);
    }
    assert_eq!(fixture.told().await.len(), 1);
    // Less than a microsecond is not kept.
    deny(now - SECOND + Duration::from_nanos(999))
        .await
        .unwrap();
    assert_eq!(fixture.answer(second.api_key()).await, Answer::Admitted);
    deny(now).await.unwrap();
    assert_eq!(fixture.answer(second.api_key()).await, Answer::CutOff);
    assert_eq!(fixture.told().await.len(), 1);
}

#[tokio::test]
async fn a_future_instant_is_refused() {
    let fixture = Fixture::new().await;
    let (manager, now) = (fixture.manager(), fixture.now());
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
    fixture.clock.fail();
    let refused = manager.deny_issued_before(&system(), now, &tenant()).await;
    assert!(matches!(refused, Err(ManageError::Clock)));
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn actors_are_held_to_their_tenants() {
    let fixture = Fixture::new().await;
    let (manager, now) = (fixture.manager(), fixture.now());
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
async fn already_ended_keys_are_not_issued() {
    let fixture = Fixture::new().await;
    fixture.later(HOUR);
    fixture.cut_off().await;
    fixture.clock.set(fixture.now() - SECOND);
    let refused = fixture.manager().issue(&system(), new_key("key")).await;
    let behind = |error| match error {
        Err(ManageError::ClockBehindCutoff { cutoff }) => cutoff == fixture.now() + SECOND,
        _ => false,
    };
    assert!(behind(refused));
    let other = NewKey::new(named("other"), "key", READ);
    assert!(fixture.manager().issue(&system(), other).await.is_ok());
    fixture.later(SECOND);
    assert!(
        fixture
            .manager()
            .issue(&system(), new_key("key"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn ended_keys_are_listed_as_revoked() {
    let fixture = Fixture::new().await;
    let old = fixture.issue("old").await.record().id();
    fixture.later(SECOND);
    fixture.cut_off().await;
    let new = fixture.issue("new").await.record().id();
    let listed = async |query: KeyQuery| {
        let list = fixture.manager().list(&system(), &query).await.unwrap();
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
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    fixture.later(SECOND);
    fixture.told().await;
    fixture.store.lose([Loss::Answer, Loss::Commit]);
    fixture.cut_off().await;
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::CutOff);
    assert_eq!(fixture.told().await.len(), 1);
}

#[tokio::test]
async fn a_sweep_reports_an_unchanged_cutoff() {
    let fixture = Fixture::new().await;
    fixture.later(HOUR);
    let all = || RevokeAll::new(RevokeReason::Leaked);
    let manager = fixture.manager();
    let sweep = async || manager.revoke_all(&system(), &tenant(), all()).await;
    assert_eq!(sweep().await.unwrap().cutoff, CutoffChange::Set);
    fixture.told().await;
    for _ in 0..2 {
        let swept = sweep().await.unwrap();
        assert_eq!((swept.revoked, swept.cutoff), (0, CutoffChange::Unchanged));
        fixture.clock.set(fixture.now() - SECOND);
    }
    assert_eq!(fixture.told().await, []);
}

#[tokio::test]
async fn a_future_cutoff_can_be_lowered() {
    let fixture = Fixture::new().await;
    let (manager, start) = (fixture.manager(), fixture.now());
    let lower = async |scope: CutoffScope| manager.lower_cutoff(&alice(None), scope).await;
    let old = fixture.issue("old").await;
    let scope = || CutoffScope::from(&tenant());
    assert_eq!(lower(scope()).await.unwrap(), None, "none was set");
    fixture.later(DAY);
    fixture.cut_off().await;
    let cutoff = fixture.now();
    assert_eq!(
        lower(scope()).await.unwrap(),
        None,
        "it is not in the future"
    );
    fixture.later(SECOND);
    assert_eq!(lower(scope()).await.unwrap(), None, "it is in the past");

    // The clock had leapt ahead.
    fixture.clock.set(start + HOUR);
    let refused = manager.issue(&system(), new_key("new")).await;
    let behind =
        matches!(refused, Err(ManageError::ClockBehindCutoff { cutoff: at }) if at == cutoff);
    assert!(behind);
    let refused = lower(CutoffScope::All).await;
    assert!(
        matches!(refused, Err(ManageError::Refused)),
        "not the actor's"
    );
    fixture.told().await;
    assert_eq!(lower(scope()).await.unwrap(), Some(cutoff));
    let told = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::CutoffLowered]);
    is_alices(&told[0], fixture.now());
    let (from, to) = (text(cutoff), text(fixture.now()));
    let expected = [
        ("scope", None, Some("tenant acme-inc")),
        ("before", Some(&*from), Some(&*to)),
    ];
    assert_eq!(fields(&told[0]), expected);

    assert_eq!(fixture.answer(old.api_key()).await, Answer::CutOff);
    let new = fixture.issue("new").await;
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    assert_eq!(lower(scope()).await.unwrap(), None);
}

#[tokio::test]
async fn lowering_never_revives_a_key() {
    let fixture = Fixture::new().await;
    let (manager, start) = (fixture.manager(), fixture.now());
    fixture.later(DAY);
    let ahead = fixture.issue("dated ahead").await;
    fixture.later(SECOND);
    fixture.cut_off().await;
    fixture.clock.set(start + HOUR);
    fixture.told().await;
    let lower = async || manager.lower_cutoff(&system(), &tenant()).await;
    assert!(matches!(lower().await, Err(ManageError::WouldRevive)));
    assert_eq!(fixture.answer(ahead.api_key()).await, Answer::CutOff);
    assert_eq!(fixture.told().await, []);
    let all = RevokeAll::new(RevokeReason::Leaked);
    manager.revoke_all(&system(), &tenant(), all).await.unwrap();
    assert!(lower().await.unwrap().is_some());
    let leaked = Answer::Revoked(RevokeReason::Leaked);
    assert_eq!(fixture.answer(ahead.api_key()).await, leaked);
}

#[tokio::test]
async fn lowering_keeps_a_later_cutoff() {
    let fixture = Fixture::new().await;
    let (manager, start) = (fixture.manager(), fixture.now());
    fixture.later(DAY);
    fixture.cut_off().await;
    fixture.clock.set(start + HOUR);
    // Another node is faster, between the look at the cutoff and the commit.
    let (name, value) = ("a name".to_owned(), "a value".to_owned());
    let lowered = Change::LowerCutoff {
        scope: CutoffScope::from(&tenant()),
        from: start + DAY,
        to: fixture.now(),
    };
    fixture.told().await;
    fixture
        .store
        .first([Change::Setting { name, value }, lowered]);
    assert_eq!(
        manager.lower_cutoff(&system(), &tenant()).await.unwrap(),
        None
    );
    assert_eq!(fixture.told().await, []);
    let issued = fixture.issue("key").await;
    fixture.later(SECOND);
    fixture.cut_off().await;
    assert_eq!(
        manager.lower_cutoff(&system(), &tenant()).await.unwrap(),
        None
    );
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::CutOff);
}
