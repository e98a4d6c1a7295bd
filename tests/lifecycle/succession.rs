//! Lines of keys that took each other's place, under a cap, and with others at the same key.

use std::num::NonZeroU32;

use keyward::audit::EventAction;
use keyward::key::{KeyStatus, RevokeReason};
use keyward::manager::{Actor, InvalidKey, KeyQuery, ManageError, Overlap, Rotation, TenantRules};

use crate::common::*;

async fn capped(most: u32) -> Fixture {
    let rules = TenantRules::new().max_keys(NonZeroU32::new(most).unwrap());
    Fixture::with(|builder| builder.tenant_rules(rules)).await
}

#[tokio::test]
async fn a_lineage_keeps_its_first_key() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("key").await.record().id();
    let mut last = first;
    for _ in 0..5 {
        let next = fixture.rotate(last, Overlap::For(DAY)).await.unwrap();
        assert_eq!(
            (next.record().predecessor(), next.record().lineage()),
            (Some(last), first)
        );
        last = next.record().id();
    }
}

#[tokio::test]
async fn a_key_has_one_living_successor() {
    let fixture = Fixture::new().await;
    let old = fixture.issue_key(new_key("key").expires_in(DAY * 30)).await;
    let id = old.record().id();
    let first = fixture
        .rotate(id, Overlap::For(DAY))
        .await
        .unwrap()
        .record()
        .id();
    for overlap in [Overlap::None, Overlap::For(HOUR), Overlap::UntilRevoked] {
        let refused = fixture.rotate(id, overlap).await;
        assert!(
            matches!(refused, Err(ManageError::AlreadyRotated { successor }) if successor == first)
        );
    }
    // Switched off is not revoked.
    fixture
        .manager()
        .suspend(&system(), &tenant(), first)
        .await
        .unwrap();
    let refused = fixture.rotate(id, Overlap::None).await;
    assert!(matches!(refused, Err(ManageError::AlreadyRotated { .. })));

    fixture.revoke(first).await;
    fixture.told().await;
    // The overlap that was given once is not lengthened by another.
    let ends = fixture.now() + DAY;
    for overlap in [
        Overlap::For(DAY * 9),
        Overlap::UntilRevoked,
        Overlap::For(HOUR),
    ] {
        let next = fixture.rotate(id, overlap).await.unwrap();
        assert_eq!(
            (next.record().predecessor(), next.record().lineage()),
            (Some(id), id)
        );
        let record = fixture.record(id).await;
        assert_eq!(record.rotation().unwrap().successor, next.record().id());
        let expected = if overlap == Overlap::For(HOUR) {
            fixture.now() + HOUR
        } else {
            ends
        };
        assert_eq!(
            record.restrictions().expires_at,
            Some(expected),
            "{overlap:?}"
        );
        let told = fixture.told().await;
        assert_eq!(
            actions(&told),
            [EventAction::KeyIssued, EventAction::KeyRotated]
        );
        assert_eq!(fixture.answer(old.api_key()).await, Answer::Admitted);
        fixture.revoke(next.record().id()).await;
        fixture.told().await;
    }
    fixture.later(HOUR);
    assert_eq!(fixture.answer(old.api_key()).await, Answer::Superseded);
    let refused = fixture.rotate(id, Overlap::None).await;
    assert!(matches!(
        refused,
        Err(ManageError::Ended(KeyStatus::Revoked))
    ));
}

#[tokio::test]
async fn ended_ancestors_are_revoked() {
    let fixture = capped(2).await;
    let first = fixture.issue("key").await.record().id();
    let second = fixture
        .rotate(first, Overlap::For(HOUR))
        .await
        .unwrap()
        .record()
        .id();
    let refused = fixture.rotate(second, Overlap::For(HOUR)).await;
    assert!(
        matches!(refused, Err(ManageError::OverlapNeedsPlace { .. })),
        "the overlap goes on"
    );
    assert!(fixture.record(first).await.revocation().is_none());
    fixture.told().await;
    fixture.later(HOUR);
    let alice = alice(None);
    let third = fixture
        .manager()
        .rotate(&alice, &tenant(), second, Overlap::For(HOUR))
        .await;
    let third = third.unwrap().record().id();
    let record = fixture.record(first).await;
    let revocation = record.revocation().unwrap();
    assert_eq!(
        (revocation.at, &revocation.reason),
        (fixture.now(), &RevokeReason::Rotated)
    );
    let told = fixture.told().await;
    let expected = [
        EventAction::KeyRevoked,
        EventAction::KeyIssued,
        EventAction::KeyRotated,
    ];
    assert_eq!(actions(&told), expected);
    is_alices(&told[0], fixture.now());
    assert_eq!(told[0].key, Some(first));
    fixture.later(HOUR);
    assert!(fixture.rotate(third, Overlap::None).await.is_ok());
    assert!(fixture.record(second).await.revocation().is_some());
}

#[tokio::test]
async fn good_ancestors_stay() {
    let fixture = Fixture::new().await;
    let old = fixture.issue("key").await;
    let second = fixture
        .rotate(old.record().id(), Overlap::UntilRevoked)
        .await
        .unwrap();
    let third = fixture
        .rotate(second.record().id(), Overlap::For(DAY))
        .await
        .unwrap();
    fixture.later(HOUR);
    fixture
        .rotate(third.record().id(), Overlap::For(DAY))
        .await
        .unwrap();
    for key in [&old, &second, &third] {
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
    // One that goes on does not stand before one whose time is over.
    let first = fixture.issue("key").await;
    let second = fixture
        .rotate(first.record().id(), Overlap::For(HOUR))
        .await
        .unwrap();
    let third = fixture
        .rotate(second.record().id(), Overlap::UntilRevoked)
        .await
        .unwrap();
    fixture.later(HOUR);
    fixture
        .rotate(third.record().id(), Overlap::For(DAY))
        .await
        .unwrap();
    assert!(
        fixture
            .record(first.record().id())
            .await
            .revocation()
            .is_some()
    );
    assert_eq!(fixture.answer(second.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn ancestors_behind_revoked_ones_go_too() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("key").await.record().id();
    let second = fixture
        .rotate(first, Overlap::For(DAY))
        .await
        .unwrap()
        .record()
        .id();
    let third = fixture
        .rotate(second, Overlap::None)
        .await
        .unwrap()
        .record()
        .id();
    fixture.later(DAY);
    let fourth = fixture
        .rotate(third, Overlap::None)
        .await
        .unwrap()
        .record()
        .id();
    fixture.rotate(fourth, Overlap::None).await.unwrap();
    assert!(
        fixture.record(first).await.revocation().is_some(),
        "else it weighs on the cap for ever"
    );
}

#[tokio::test]
async fn a_long_line_is_retired_whole() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("key").await.record().id();
    let mut last = first;
    for _ in 0..12 {
        last = fixture
            .rotate(last, Overlap::For(DAY))
            .await
            .unwrap()
            .record()
            .id();
    }
    fixture.later(DAY);
    for _ in 0..4 {
        last = fixture
            .rotate(last, Overlap::None)
            .await
            .unwrap()
            .record()
            .id();
    }
    let live = fixture
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await
        .unwrap();
    assert_eq!(live.keys.len(), 1);
    assert!(fixture.record(first).await.revocation().is_some());
}

#[tokio::test]
async fn an_actors_name_holds_no_key() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let pasted = Actor::system(issued.api_key().expose());
    let id = issued.record().id();
    let refused = fixture
        .manager()
        .rotate(&pasted, &tenant(), id, Overlap::None)
        .await;
    let holds = |why: &InvalidKey| matches!(why, InvalidKey::HoldsKey { field: "actor" });
    assert!(
        matches!(&refused, Err(ManageError::Invalid(why)) if holds(why)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_second_successor_keeps_the_expiry() {
    for own_end in [None, Some(DAY * 90)] {
        let fixture = Fixture::new().await;
        let mut key = new_key("key");
        if let Some(life) = own_end {
            key = key.expires_in(life);
        }
        let old = fixture.issue_key(key).await;
        let id = old.record().id();
        let first = fixture.rotate(id, Overlap::For(DAY)).await.unwrap();
        fixture.revoke(first.record().id()).await;
        // The overlap shortened the old key's life; that is no reason to shorten its successor's.
        let second = fixture.rotate(id, Overlap::For(HOUR)).await.unwrap();
        assert_eq!(
            second.record().restrictions().expires_at,
            old.record().restrictions().expires_at
        );
        let shortened = fixture.record(id).await.restrictions().expires_at.unwrap();
        assert_eq!(shortened, fixture.now() + HOUR);
        fixture.revoke(second.record().id()).await;
        // And a longer overlap than before does not lengthen it.
        fixture.rotate(id, Overlap::For(DAY * 7)).await.unwrap();
        assert_eq!(
            fixture.record(id).await.restrictions().expires_at,
            Some(shortened)
        );
    }
}

#[tokio::test]
async fn a_line_does_not_fork() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("key").await.record().id();
    let second = fixture.rotate(first, Overlap::UntilRevoked).await.unwrap();
    let second = second.record().id();
    let third = fixture.rotate(second, Overlap::None).await.unwrap();
    let third = third.record().id();
    // The first one's own successor is revoked, but the line goes on behind it.
    let refused = fixture.rotate(first, Overlap::None).await;
    assert!(
        matches!(refused, Err(ManageError::AlreadyRotated { successor }) if successor == third),
        "{refused:?}"
    );
    fixture.revoke(third).await;
    assert!(fixture.rotate(first, Overlap::None).await.is_ok());

    // The last of the line is revoked, and the one before it is not.
    let first = fixture.issue("key").await.record().id();
    let second = fixture.rotate(first, Overlap::UntilRevoked).await.unwrap();
    let second = second.record().id();
    let third = fixture.rotate(second, Overlap::UntilRevoked).await.unwrap();
    fixture.revoke(third.record().id()).await;
    let refused = fixture.rotate(first, Overlap::None).await;
    assert!(
        matches!(refused, Err(ManageError::AlreadyRotated { successor }) if successor == second),
        "{refused:?}"
    );
    assert!(fixture.rotate(second, Overlap::None).await.is_ok());
}

#[tokio::test]
async fn an_expired_successor_is_replaced() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    let soon = Rotation::new(Overlap::UntilRevoked).expires_in(HOUR);
    fixture.rotate(id, soon).await.unwrap();
    fixture.later(HOUR);
    assert!(fixture.rotate(id, Overlap::None).await.is_ok());
}

#[tokio::test]
async fn a_lowered_cap_allows_replacement() {
    let fixture = Fixture::new().await;
    let ids = [
        fixture.issue("a").await.record().id(),
        fixture.issue("b").await.record().id(),
        fixture.issue("c").await.record().id(),
    ];
    let lowered = fixture
        .beside(|builder| {
            builder.tenant_rules(TenantRules::new().max_keys(NonZeroU32::new(2).unwrap()))
        })
        .await;
    for id in ids {
        assert!(lowered.rotate(id, Overlap::None).await.is_ok());
    }
    let id = lowered
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await;
    let id = id.unwrap().keys[0].id();
    let refused = lowered.rotate(id, Overlap::UntilRevoked).await;
    assert!(
        matches!(refused, Err(ManageError::OverlapNeedsPlace { limit }) if limit.get() == 2),
        "{refused:?}"
    );
    assert!(lowered.rotate(id, Overlap::For(HOUR)).await.is_ok());
}
