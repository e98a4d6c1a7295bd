//! Promise 23: expired at `now >= expires_at`; within one process a clock running backwards never revives a key
//! seen expired; no overflow at the ends of time.
//!
//! Planted bugs that the property test catches: `now > expires_at` in place of `>=`, and a verifier that
//! forgets what it saw.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use keyward::clock::Clock;
use keyward::hashing::{Argon2Params, Hashing};
use keyward::key::{ApiKey, KeyStatus};
use keyward::manager::{InvalidKey, ManageError, NewKey};
use keyward::time::{Date, Month, OffsetDateTime, UtcOffset};
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};
use proptest::prelude::*;

use crate::common::{House, READ, actor, builder, class, new_key, now, tenant};

fn at(house: &House) -> OffsetDateTime {
    house.clock.now().unwrap()
}

/// What the verifier should say of one key, by its own memory of what was seen.
#[derive(Default)]
struct Model {
    seen_expired: bool,
    is_forgetful: bool,
    is_late: bool,
}

impl Model {
    fn admits(&mut self, now: i64, created: i64, expires: i64) -> bool {
        let expired = if self.is_late {
            now > expires
        } else {
            now >= expires
        };
        self.seen_expired |= expired && !self.is_forgetful;
        !expired && !self.seen_expired && created - now <= 300_000_000
    }
}

/// Moves the clock as told, and verifies each key after each move, against the model.
fn agrees(keys: &[u64], moves: &[(bool, u64)], model: fn() -> Model) -> bool {
    let house = now(House::new());
    let start = at(&house);
    let mut watched: Vec<(ApiKey, i64, Model)> = Vec::new();
    for micros in keys {
        let end = Duration::from_micros(*micros);
        let (key, _) = now(house.issue(new_key().expires_in(end))).into_parts();
        watched.push((key, i64::try_from(*micros).unwrap(), model()));
    }
    let mut shown: i64 = 0;
    for (back, micros) in moves {
        let step = i64::try_from(*micros).unwrap();
        shown += if *back { -step } else { step };
        let to = start + keyward::time::Duration::microseconds(shown);
        house.clock.set(to);
        for (key, expires, model) in &mut watched {
            let expected = model.admits(shown, 0, *expires);
            if now(house.verify(key.presented())).is_ok() != expected {
                return false;
            }
        }
    }
    true
}

fn lives() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(1_u64..1_000, 1..4)
}

/// Small steps among the ends of the keys, and large ones past all tolerance.
fn moves() -> impl Strategy<Value = Vec<(bool, u64)>> {
    let step = prop_oneof![9 => 0_u64..600, 1 => 299_999_000_u64..300_001_000];
    prop::collection::vec((any::<bool>(), step), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_key_seen_expired_stays_expired(keys in lives(), moves in moves()) {
        prop_assert!(agrees(&keys, &moves, Model::default));
    }
}

#[test]
fn the_property_catches_the_planted_bugs() {
    // The verifier stands for the truth, and the model bears the bug: they must come apart.
    let late = || Model {
        is_late: true,
        ..Model::default()
    };
    let forgetful = || Model {
        is_forgetful: true,
        ..Model::default()
    };
    assert!(!agrees(&[100], &[(false, 100)], late));
    assert!(!agrees(&[100], &[(false, 100), (true, 50)], forgetful));
    assert!(agrees(&[100], &[(false, 100), (true, 50)], Model::default));
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
    let slow = || Hashing::argon2id(Argon2Params::OWASP);
    // Whether it was refused; none where the hash was done before the request was seen to wait, as where the processor is taken
    // away meanwhile.
    let is_refused = async |kept| {
        let house = House::with(kept).await;
        let key = new_key().expires_in(Duration::from_secs(60));
        let issued = house.issue(key).await;
        let keyward = builder(house.store.clone(), house.clock.clone()).hashing(slow());
        let keyward = keyward.open().await.unwrap();
        let any = Requirement::any_key();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        let mut waiting = Box::pin(keyward.verifier().verify(&attempt));
        let mut context = Context::from_waker(Waker::noop());
        if waiting.as_mut().poll(&mut context).is_ready() {
            return None;
        }
        house.clock.set(issued.record().expires_at().unwrap());
        let denial = waiting.await.expect_err("granted after it expired");
        Some(matches!(denial.reason(), DenialReason::Expired))
    };
    // Once where the key is kept under the slow hash, once where it is about to move there.
    for kept in [slow, Hashing::recommended] {
        let mut seen = None;
        for _ in 0..20 {
            seen = is_refused(kept()).await;
            if seen.is_some() {
                break;
            }
        }
        assert_eq!(seen, Some(true));
    }
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
