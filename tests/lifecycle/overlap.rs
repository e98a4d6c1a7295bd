//! How long a key and its successor are both good.

use std::time::Duration;

use keyward::key::{KeyStatus, RevokeReason};
use keyward::manager::{InvalidKey, Issued, ManageError, Overlap, Rotation};
use keyward::time::Date;

use crate::common::*;

async fn rotate(fixture: &Fixture, key: &Issued, how: impl Into<Rotation>) -> Issued {
    fixture.rotate(key.record().id(), how).await.unwrap()
}

#[tokio::test]
async fn both_are_good_until_the_overlap_ends() {
    for is_dated in [false, true] {
        let fixture = Fixture::new().await;
        let start = fixture.now();
        let overlap = match is_dated {
            true => Overlap::Until(start + HOUR),
            false => Overlap::For(HOUR),
        };
        let old = fixture.issue("key").await;
        let new = rotate(&fixture, &old, overlap).await;
        let (id, commits) = (old.record().id(), fixture.store.commits());
        fixture.later(HOUR - Duration::from_micros(1));
        assert_eq!(fixture.answer(old.api_key()).await, Answer::Admitted);
        assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
        fixture.later(Duration::from_micros(1));
        assert_eq!(fixture.answer(old.api_key()).await, Answer::Superseded);
        assert_eq!(fixture.status(id).await, KeyStatus::Revoked);
        assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
        assert_eq!(fixture.store.commits(), commits);
        // A clock that runs back does not bring it to life again.
        fixture.clock.set(start);
        assert_ne!(fixture.answer(old.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn revoking_the_old_key_ends_it() {
    let fixture = Fixture::new().await;
    for overlap in [Overlap::UntilRevoked, Overlap::For(DAY)] {
        let old = fixture
            .issue_key(new_key("key").expires_in(DAY * 365))
            .await;
        let new = rotate(&fixture, &old, overlap).await;
        let record = fixture.record(old.record().id()).await;
        if overlap == Overlap::UntilRevoked {
            assert_eq!(record.rotation().unwrap().overlap_ends, None);
            assert_eq!(
                record.restrictions().expires_at,
                old.record().restrictions().expires_at
            );
            fixture.later(DAY * 100);
        }
        assert_eq!(fixture.answer(old.api_key()).await, Answer::Admitted);
        fixture.revoke(old.record().id()).await;
        assert_eq!(
            fixture.answer(old.api_key()).await,
            Answer::Revoked(RevokeReason::Requested)
        );
        assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn the_old_keys_life_is_not_extended() {
    let fixture = Fixture::new().await;
    let far = fixture.now() + DAY * 3_650;
    for overlap in [
        Overlap::For(DAY),
        Overlap::Until(far),
        Overlap::UntilRevoked,
    ] {
        for rotation in [
            Rotation::new(overlap),
            Rotation::new(overlap).never_expires(),
            Rotation::new(overlap).expires_in(DAY * 30),
        ] {
            let old = fixture.issue_key(new_key("key").expires_in(HOUR)).await;
            let new = rotate(&fixture, &old, rotation.clone()).await;
            let record = fixture.record(old.record().id()).await;
            assert_eq!(
                record.restrictions().expires_at,
                old.record().restrictions().expires_at,
                "{rotation:?}"
            );
            fixture.later(HOUR);
            assert_ne!(
                fixture.answer(old.api_key()).await,
                Answer::Admitted,
                "{rotation:?}"
            );
            let lives =
                new.record().restrictions().expires_at != old.record().restrictions().expires_at;
            assert_eq!(
                fixture.answer(new.api_key()).await == Answer::Admitted,
                lives
            );
        }
    }
}

#[tokio::test]
async fn invalid_rotations_change_nothing() {
    let fixture = Fixture::new().await;
    let start = fixture.now() + HOUR;
    let issued = fixture
        .issue_key(new_key("key").not_before(start).expires_in(DAY))
        .await;
    let (id, now, commits) = (issued.record().id(), fixture.now(), fixture.store.commits());
    let end_of_time = Date::MAX.midnight().assume_utc();
    let new = Rotation::new;
    type Expected = fn(&InvalidKey) -> bool;
    let cases: [(Rotation, Expected); 9] = [
        (new(Overlap::Until(now)), |why| {
            matches!(why, InvalidKey::Overlap)
        }),
        (new(Overlap::Until(now - SECOND)), |why| {
            matches!(why, InvalidKey::Overlap)
        }),
        (new(Overlap::For(Duration::ZERO)), |why| {
            matches!(why, InvalidKey::Overlap)
        }),
        // Less than a microsecond is no time at all.
        (new(Overlap::For(Duration::from_nanos(999))), |why| {
            matches!(why, InvalidKey::Overlap)
        }),
        (new(Overlap::For(Duration::MAX)), |why| {
            matches!(why, InvalidKey::Instant)
        }),
        (new(Overlap::None).expires_at(now), |why| {
            matches!(why, InvalidKey::Expired)
        }),
        (new(Overlap::None).expires_in(Duration::ZERO), |why| {
            matches!(why, InvalidKey::Expired)
        }),
        (new(Overlap::None).expires_in(Duration::MAX), |why| {
            matches!(why, InvalidKey::Instant)
        }),
        (new(Overlap::None).expires_at(start), |why| {
            matches!(why, InvalidKey::NeverValid)
        }),
    ];
    for (rotation, expected) in cases {
        let refused = fixture
            .manager()
            .rotate(&system(), &tenant(), id, rotation)
            .await;
        assert!(
            matches!(&refused, Err(ManageError::Invalid(why)) if expected(why)),
            "{refused:?}"
        );
    }
    assert_eq!(
        (fixture.record(id).await.revision(), fixture.store.commits()),
        (1, commits)
    );
    let rotation = Rotation::new(Overlap::Until(end_of_time));
    assert!(
        fixture
            .manager()
            .rotate(&system(), &tenant(), id, rotation)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_successor_keeps_not_before() {
    let fixture = Fixture::new().await;
    let start = fixture.now() + DAY;
    // The overlap may end before the key was ever good.
    let old = fixture.issue_key(new_key("key").not_before(start)).await;
    let new = rotate(&fixture, &old, Overlap::For(HOUR)).await;
    assert_eq!(new.record().restrictions().not_before, Some(start));
    assert_eq!(fixture.answer(new.api_key()).await, Answer::NotYetValid);
    assert_eq!(fixture.answer(old.api_key()).await, Answer::NotYetValid);
    fixture.clock.set(start);
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    assert_eq!(fixture.answer(old.api_key()).await, Answer::Superseded);
}
