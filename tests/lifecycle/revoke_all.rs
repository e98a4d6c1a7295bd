//! Revoking all keys of a tenant, or of one of its owners.

use std::time::Duration;

use keyward::audit::EventAction;
use keyward::key::{Principal, RevokeReason};
use keyward::manager::{Issued, Limits, ManageError, NewKey, RevokeAll, RevokedAll};
use keyward::scope;
use keyward::store::StoreError;
use serde_json::json;

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

#[tokio::test]
async fn every_key_of_the_tenant_ends() {
    let fixture = Fixture::new().await;
    let mut keys = Vec::new();
    // More than two pages of the sweep, several of one instant.
    for n in 0..40 {
        keys.push(fixture.issue(&format!("key {n}")).await);
        if n % 5 == 0 {
            fixture.later(SECOND);
        }
    }
    keys.push(
        fixture
            .issue_key(new_key("asleep").not_before(fixture.now() + HOUR))
            .await,
    );
    keys.push(
        fixture
            .issue_key(new_key("expired").expires_in(SECOND))
            .await,
    );
    let suspended = fixture.issue("suspended").await;
    let damaged = fixture.issue("damaged").await;
    let (manager, damaged_id) = (fixture.manager(), damaged.record().id());
    manager
        .suspend(&system(), &tenant(), suspended.record().id())
        .await
        .unwrap();
    fixture
        .tamper(damaged_id, "restrictions/access", json!(7))
        .await;
    keys.push(suspended);
    let other = NewKey::new(named("other"), "theirs", READ);
    let other = fixture.issue_key(other).await;
    let before = fixture.issue("revoked before").await;
    fixture.revoke(before.record().id()).await;
    fixture.later(SECOND);
    fixture.told().await;

    let done = manager
        .revoke_all(&alice(Limits::new(scope!("none"))), &tenant(), leaked())
        .await;
    let done = done.unwrap();
    assert_eq!((done.revoked, done.before), (44, fixture.now()));
    for key in &keys {
        assert_eq!(fixture.answer(key.api_key()).await, LEAKED);
        let record = fixture.record(key.record().id()).await;
        assert_eq!(record.revocation().unwrap().at, fixture.now());
    }
    let stored = keyward::store::KeyStore::get(&fixture.store, damaged_id)
        .await
        .unwrap()
        .unwrap();
    assert!(
        stored.revocation.is_some(),
        "what cannot be read can be revoked"
    );
    assert_eq!(fixture.answer(other.api_key()).await, Answer::Admitted);
    let kept = Answer::Revoked(RevokeReason::Requested);
    assert_eq!(
        fixture.answer(before.api_key()).await,
        kept,
        "the first reason stands"
    );

    let told = fixture.told().await;
    told.iter()
        .for_each(|event| is_alices(event, fixture.now()));
    assert_eq!(
        (told.len(), told[0].action, told[0].key),
        (45, EventAction::KeysCutOff, None)
    );
    let now = text(fixture.now());
    assert_eq!(
        fields(&told[0]),
        [
            ("scope", None, Some("tenant acme-inc")),
            ("before", None, Some(&*now)),
            ("revoked", None, Some("leaked")),
        ]
    );
    for event in &told[1..] {
        assert_eq!(event.action, EventAction::KeyRevoked);
        assert_eq!(fields(event), [("revoked", None, Some("leaked"))]);
    }
    let named = |key: &Issued| {
        told.iter()
            .any(|event| event.key == Some(key.record().id()))
    };
    assert!(keys.iter().all(named));

    // Again there is nothing left, and at the same instant nothing is told.
    assert_eq!(revoke_all(&fixture, leaked()).await.unwrap().revoked, 0);
    assert!(fixture.told().await.is_empty());
    let next = fixture.issue("issued after, in the same instant").await;
    assert_eq!(fixture.answer(next.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn only_the_named_owners_keys_end() {
    let fixture = Fixture::new().await;
    let (bob, robot) = (
        Principal::user("bob").unwrap(),
        Principal::integration("bob").unwrap(),
    );
    let bobs = fixture.issue_key(new_key("bob's").owner(bob.clone())).await;
    let robots = fixture.issue_key(new_key("robot's").owner(robot)).await;
    let theirs = NewKey::new(named("other"), "elsewhere", READ).owner(bob.clone());
    let theirs = fixture.issue_key(theirs).await;
    fixture.later(SECOND);
    fixture.told().await;
    let done = revoke_all(&fixture, leaked().owner(&bob)).await.unwrap();
    assert_eq!(done.revoked, 1);
    assert_eq!(fixture.answer(bobs.api_key()).await, LEAKED);
    for key in [robots, theirs] {
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    let told = fixture.told().await;
    assert_eq!(
        actions(&told),
        [EventAction::KeysCutOff, EventAction::KeyRevoked]
    );
    assert_eq!(
        fields(&told[0])[0],
        ("scope", None, Some("owner acme-inc user:bob"))
    );
}

#[tokio::test]
async fn an_instant_spares_later_keys() {
    let fixture = Fixture::new().await;
    let old = fixture.issue("old").await;
    fixture.later(SECOND);
    let (then, same) = (fixture.now(), fixture.issue("of that instant").await);
    fixture.later(SECOND);
    let new = fixture.issue("new").await;
    let done = revoke_all(&fixture, leaked().issued_before(then))
        .await
        .unwrap();
    assert_eq!((done.revoked, done.before), (1, then));
    assert_eq!(fixture.answer(old.api_key()).await, LEAKED);
    for key in [same, new] {
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    let future = fixture.now() + Duration::from_micros(1);
    let refused = revoke_all(&fixture, leaked().issued_before(future)).await;
    assert!(matches!(refused, Err(ManageError::InTheFuture)));
}

#[tokio::test]
async fn keys_dated_ahead_end_too() {
    let fixture = Fixture::new().await;
    let same = fixture.issue("of this instant").await;
    fixture.later(HOUR);
    let ahead = fixture.issue("dated by a clock that was ahead").await;
    fixture.clock.set(same.record().created_at());
    assert_eq!(revoke_all(&fixture, leaked()).await.unwrap().revoked, 2);
    for key in [same, ahead] {
        assert_eq!(fixture.answer(key.api_key()).await, LEAKED);
    }
}

#[tokio::test]
async fn a_reason_bears_no_key() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let words = format!("found {}", issued.api_key().expose());
    fixture.told().await;
    let what = RevokeAll::new(RevokeReason::other(&words).unwrap());
    revoke_all(&fixture, what).await.unwrap();
    let secret = issued.api_key().expose_secret();
    assert!(
        fixture
            .told()
            .await
            .iter()
            .all(|event| !event.to_line().contains(secret))
    );
    let record = fixture.record(issued.record().id()).await;
    assert!(
        !record
            .revocation()
            .unwrap()
            .reason
            .as_str()
            .contains(secret)
    );
}

#[tokio::test]
async fn no_clock_or_store_changes_nothing() {
    let fixture = Fixture::new().await;
    let (issued, now) = (fixture.issue("key").await, fixture.now());
    fixture.told().await;
    fixture.store.lose([Loss::Away]);
    let refused = revoke_all(&fixture, leaked()).await;
    assert!(matches!(
        refused,
        Err(ManageError::Store(StoreError::Unavailable(_)))
    ));
    fixture.clock.fail();
    assert!(matches!(
        revoke_all(&fixture, leaked()).await,
        Err(ManageError::Clock)
    ));
    fixture.clock.set(now);
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
    assert!(fixture.told().await.is_empty());
}
