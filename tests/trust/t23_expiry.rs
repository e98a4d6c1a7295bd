//! Promise 23: expired at `now >= expires_at`; within one process a clock running backwards never revives a key
//! seen expired; no overflow at the ends of time.
//!
//! Planted bugs that the property test catches: `now > expires_at` in place of `>=`, a Keyward that forgets what it
//! saw, and a coarse clock that decides.

mod world;

use std::time::Duration;

use crate::common::{House, READ, actor, class, new_key, tenant};
use crate::held_up::{HeldUp, slow, verify, waiting};
use keyward::clock::{COARSE_LAG_MICROS, Clock};
use keyward::key::KeyStatus;
use keyward::manager::{InvalidKey, Issued, KeyQuery, ManageError, NewKey, Overlap};
use keyward::store::MemoryStore;
use keyward::time::{Date, Duration as Span, Month, OffsetDateTime, UtcOffset};
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

fn at(house: &House) -> OffsetDateTime {
    house.clock.now().unwrap()
}

#[tokio::test]
async fn no_answer_revives_a_key_that_was_seen_ended() {
    world::holds(MemoryStore::new, 150).await;
}

#[tokio::test]
async fn the_property_catches_the_planted_bugs() {
    world::catches_planted_bugs(MemoryStore::new).await;
}

/// By how much the coarse clock may be wrong.
fn lags() -> [Span; 5] {
    let most = Span::microseconds(COARSE_LAG_MICROS);
    let least = Span::microseconds(1);
    [-most, -least, Span::ZERO, least, most]
}

/// What a key's verification, its status, an explanation of it and its grant say; all must agree. `None` if it is good.
async fn reason(house: &House, issued: &Issued) -> Option<String> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let verifier = house.keyward.verifier();
    let verdict = verifier.verify(&attempt).await;
    let explained = verifier.explain(&attempt).await;
    let said = verdict
        .as_ref()
        .err()
        .map(|denial| denial.reason().to_string());
    let explained = explained.denial().map(|denial| denial.reason().to_string());
    assert_eq!(said, explained);
    if let Ok(admitted) = &verdict {
        let again = verifier.reverify(admitted.grant(), &attempt).await;
        assert!(again.is_ok());
    }
    let id = issued.record().id();
    let record = house
        .keyward
        .manager()
        .get(&actor(), &tenant(), id)
        .await
        .unwrap();
    let is_active = record.status(at(house)) == KeyStatus::Active;
    assert_eq!(is_active, said.is_none(), "{record:?}");
    said
}

const MICRO: Duration = Duration::from_micros(1);

#[tokio::test]
async fn every_instant_counts_to_the_microsecond() {
    for (lag, cache) in lags()
        .into_iter()
        .flat_map(|lag| world::caches().map(|cache| (lag, cache)))
    {
        let house = House::built(|builder| builder.cache(cache)).await;
        house.clock.set_coarse_lag(lag);
        let (start, minute) = (at(&house), Duration::from_secs(60));
        let manager = house.keyward.manager();
        let cut = house.issue(new_key()).await;
        house.clock.set(start + MICRO);
        let kept = house.issue(new_key()).await;
        let mortal = house.issue(new_key().expires_at(start + minute)).await;
        let later = house.issue(new_key().not_before(start + minute)).await;
        let rotated = house.issue(new_key()).await;
        let overlap = Overlap::Until(start + minute);
        let id = rotated.record().id();
        manager
            .rotate(&actor(), &tenant(), id, overlap)
            .await
            .unwrap();
        manager
            .deny_issued_before(&actor(), start + MICRO, &tenant())
            .await
            .unwrap();

        let is_good = async |key| reason(&house, key).await.is_none();
        for (now, comes) in [(start + minute - MICRO, false), (start + minute, true)] {
            house.clock.set(now);
            assert!(!is_good(&cut).await && is_good(&kept).await, "lag {lag}");
            assert_eq!(is_good(&mortal).await, !comes, "expiry, lag {lag}");
            assert_eq!(is_good(&later).await, comes, "start, lag {lag}");
            assert_eq!(is_good(&rotated).await, !comes, "overlap, lag {lag}");
        }
    }
}

#[tokio::test]
async fn what_the_manager_called_ended_is_refused_from_then_on() {
    const MINUTE: Duration = Duration::from_secs(60);
    for way in 0..6 {
        let house = House::new().await;
        let (manager, start) = (house.keyward.manager(), at(&house));
        let mortal = house.issue(new_key().expires_in(MINUTE)).await;
        let rotated = house.issue(new_key()).await;
        let overlap = Overlap::For(MINUTE);
        let id = rotated.record().id();
        let successor = manager
            .rotate(&actor(), &tenant(), id, overlap)
            .await
            .unwrap();
        house.clock.set(start + MINUTE);
        for key in [&mortal, &rotated] {
            let id = key.record().id();
            match way {
                0 => drop(manager.get(&actor(), &tenant(), id).await.unwrap()),
                1 => drop(
                    manager
                        .list(&actor(), &KeyQuery::of(&tenant()))
                        .await
                        .unwrap(),
                ),
                2 => {
                    let found = manager
                        .find_owner(&actor(), key.api_key().presented())
                        .await;
                    assert_ne!(found.unwrap().status, KeyStatus::Active);
                }
                3 => {
                    let refused = manager.suspend(&actor(), &tenant(), id).await;
                    assert!(matches!(refused, Err(ManageError::Ended(_))), "{refused:?}");
                }
                4 => {
                    let refused = manager.rotate(&actor(), &tenant(), id, Overlap::None).await;
                    assert!(matches!(refused, Err(ManageError::Ended(_))), "{refused:?}");
                }
                _ => {
                    let any = Requirement::any_key();
                    let attempt = Attempt::new(key.api_key().presented(), &any);
                    let verifier = house.keyward.verifier();
                    assert!(verifier.explain(&attempt).await.denial().is_some());
                }
            }
        }
        house.clock.set(start + MINUTE - MICRO);
        for key in [&mortal, &rotated] {
            assert!(reason(&house, key).await.is_some(), "way {way}");
        }
        assert_eq!(reason(&house, &successor).await, None);
        // What ends by then would be dead from the start.
        let stillborn = new_key().expires_at(start + MINUTE);
        let refused = manager.issue(&actor(), stillborn).await;
        let expired = matches!(refused, Err(ManageError::Invalid(InvalidKey::Expired)));
        assert!(expired, "{refused:?}");
        let id = successor.record().id();
        let overlap = Overlap::Until(start + MINUTE);
        let refused = manager.rotate(&actor(), &tenant(), id, overlap).await;
        let over = matches!(refused, Err(ManageError::Invalid(InvalidKey::Overlap)));
        assert!(over, "{refused:?}");
    }
}

#[tokio::test]
async fn there_is_a_way_back_from_a_leap_of_the_clock() {
    const DAY: Duration = Duration::from_hours(24);
    let house = House::new().await;
    let (start, keyward) = (at(&house), &house.keyward);
    let short = house
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let long = house.issue(new_key().expires_in(DAY)).await;
    assert_eq!(keyward.forget_future_ends().unwrap(), None);
    house.clock.set(start + DAY);
    for key in [&short, &long] {
        assert!(reason(&house, key).await.is_some());
    }
    // The clock is right again.
    house.clock.set(start + Duration::from_secs(60));
    keyward.verifier().forget_all();
    assert!(reason(&house, &long).await.is_some());
    let query = KeyQuery::of(&tenant()).status(KeyStatus::Expired);
    let listed = keyward.manager().list(&actor(), &query).await.unwrap();
    let views = listed.view(at(&house)).keys;
    assert_eq!(views.len(), 2);
    assert!(
        views
            .iter()
            .all(|key| key.view.status == KeyStatus::Expired)
    );

    house.clock.fail();
    assert!(keyward.forget_future_ends().is_err());
    house.clock.set(start + Duration::from_secs(60));
    assert_eq!(keyward.forget_future_ends().unwrap(), Some(start + DAY));
    assert_eq!(reason(&house, &long).await, None);
    assert_eq!(keyward.forget_future_ends().unwrap(), None);
    // What has ended by the right clock stays so, whether or not that was noticed by it.
    house.clock.set(start + Duration::from_secs(59));
    assert!(reason(&house, &short).await.is_some());
    assert_eq!(reason(&house, &long).await, None);
}

#[tokio::test]
async fn a_key_is_expired_from_its_end_on() {
    let house = House::new().await;
    let issued = house
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let (key, end) = (issued.api_key(), issued.record().expires_at().unwrap());
    house.clock.set(end - Duration::from_nanos(1));
    assert!(house.verify(key.presented()).await.is_ok());
    house.clock.set(end);
    let denial = house.verify(key.presented()).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::Expired));
    assert_eq!(issued.record().status(end), KeyStatus::Expired);
    house.clock.set(end - Duration::from_secs(30));
    assert_eq!(
        class(house.verify(key.presented()).await),
        Some(DenialClass::Unauthenticated),
        "the clock ran back"
    );
    let other = house
        .issue(new_key().expires_in(Duration::from_secs(3_600)))
        .await;
    assert!(
        house.verify(other.api_key().presented()).await.is_ok(),
        "other keys live on"
    );
}

#[tokio::test]
async fn a_key_that_expires_while_its_slow_hash_waits_is_refused() {
    let house = House::with(slow()).await;
    let key = new_key().expires_in(Duration::from_secs(60));
    let issued = house.issue(key).await;
    let held = HeldUp::over(&house, |builder| builder).await;
    let verified = waiting(verify(&held.node, issued.api_key().presented()));
    house.clock.set(issued.record().expires_at().unwrap());
    held.release();
    let denial = verified.await.expect_err("granted after it expired");
    assert!(matches!(denial.reason(), DenialReason::Expired));
}

#[tokio::test]
async fn a_clock_from_before_the_key_cannot_tell_and_denies() {
    let house = House::new().await;
    let created = at(&house);
    let mortal = house
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let immortal = house.issue(new_key()).await;
    let later = house
        .issue(new_key().not_before(created + Duration::from_secs(1)))
        .await;
    house.clock.set(created - Duration::from_mins(5));
    assert!(
        house.verify(mortal.api_key().presented()).await.is_ok(),
        "nodes' clocks differ a little"
    );
    house.clock.set(OffsetDateTime::UNIX_EPOCH); // a machine that lost its clock
    let denial = house
        .verify(mortal.api_key().presented())
        .await
        .unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::ClockBehind));
    assert_eq!(denial.class(), DenialClass::Undecidable);
    assert!(house.verify(immortal.api_key().presented()).await.is_ok());
    let early = house.verify(later.api_key().presented()).await.unwrap_err();
    assert!(matches!(early.reason(), DenialReason::NotYetValid));
}

#[tokio::test]
async fn the_ends_of_time_overflow_nowhere() {
    let house = House::new().await;
    let last = Date::MAX.with_hms_nano(23, 59, 59, 999_999_999).unwrap();
    let first = Date::MIN.midnight();
    let year_zero = Date::from_calendar_date(0, Month::January, 1)
        .unwrap()
        .midnight();
    let offset = |hours| UtcOffset::from_hms(hours, 0, 0).unwrap();
    let new = || NewKey::new(tenant(), "end", READ);
    let refused = [
        new().expires_in(Duration::MAX),
        new().expires_in(Duration::from_secs(u64::MAX / 2)),
        new().expires_at(last.assume_offset(offset(-12))),
        new().expires_on(Date::MAX),
        new().not_before(first.assume_utc()),
        new().not_before(first.assume_offset(offset(14))),
        new().not_before(last.assume_offset(offset(-12))),
    ];
    for key in refused {
        let refusal = house.keyward.manager().issue(&actor(), key).await;
        assert!(
            matches!(refusal, Err(ManageError::Invalid(InvalidKey::Instant))),
            "{refusal:?}"
        );
    }
    for past in [first.assume_utc(), year_zero.assume_utc(), at(&house)] {
        let refusal = house
            .keyward
            .manager()
            .issue(&actor(), new().expires_at(past))
            .await;
        let invalid = matches!(
            refusal,
            Err(ManageError::Invalid(
                InvalidKey::Expired | InvalidKey::Instant
            ))
        );
        assert!(invalid, "{refusal:?}");
    }
    for expiry in [Duration::ZERO, Duration::from_nanos(999)] {
        let refusal = house
            .keyward
            .manager()
            .issue(&actor(), new().expires_in(expiry))
            .await;
        assert!(matches!(
            refusal,
            Err(ManageError::Invalid(InvalidKey::Expired))
        ));
    }

    let longest = house.issue(new().expires_at(last.assume_utc())).await;
    for instant in [
        last.assume_utc(),
        year_zero.assume_utc(),
        first.assume_utc(),
        last.assume_offset(offset(-12)),
    ] {
        house.clock.set(instant);
        let verdict = house.verify(longest.api_key().presented()).await;
        // Before it was issued nothing is granted, and at the end of time it has expired.
        assert!(verdict.is_err(), "{instant}");
    }

    // Years that RFC 3339 cannot write are no time to issue keys at.
    for instant in [first.assume_utc(), last.assume_offset(offset(-12))] {
        house.clock.set(instant);
        let refusal = house.keyward.manager().issue(&actor(), new()).await;
        assert!(matches!(refusal, Err(ManageError::Clock)), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_day_is_valid_to_its_end_in_utc() {
    let house = House::new().await;
    let day = Date::from_calendar_date(2028, Month::February, 29).unwrap();
    let issued = house.issue(new_key().expires_on(day)).await;
    let end = day.next_day().unwrap().midnight().assume_utc();
    assert_eq!(issued.record().expires_at(), Some(end));
    house.clock.set(end - Duration::from_micros(1));
    assert!(house.verify(issued.api_key().presented()).await.is_ok());
    house.clock.set(end);
    assert!(house.verify(issued.api_key().presented()).await.is_err());
}

#[tokio::test]
async fn a_key_that_could_never_be_valid_is_not_issued() {
    let house = House::new().await;
    let start = at(&house) + Duration::from_secs(60);
    for end in [start, start - Duration::from_secs(1)] {
        let key = new_key().not_before(start).expires_at(end);
        let refusal = house.keyward.manager().issue(&actor(), key).await;
        assert!(matches!(
            refusal,
            Err(ManageError::Invalid(InvalidKey::NeverValid))
        ));
    }
}
