//! Promise 23: expired at `now >= expires_at`; within one process a clock running backwards never revives a key
//! seen expired; no overflow at the ends of time.
//!
//! Planted bugs that the property test catches: `now > expires_at` in place of `>=`, a Keyward that forgets what it
//! saw, and a coarse clock that decides.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Fixture, READ, actor, class, new_key, tenant};
use crate::store::{IS_ON_DISK, Store};
use keyward::clock::Clock;
use keyward::key::KeyStatus;
use keyward::manager::{InvalidKey, Issued, KeyQuery, KeyUpdate, ManageError, NewKey, Overlap};
use keyward::time::{Date, Duration as Span, Month, OffsetDateTime, UtcOffset};
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};
use tokio::sync::Barrier;

fn at(fixture: &Fixture) -> OffsetDateTime {
    fixture.clock.now().unwrap()
}

#[tokio::test]
async fn an_ended_key_is_never_revived() {
    world::holds(Store::new, if IS_ON_DISK { 10 } else { 150 }).await;
}

#[tokio::test]
async fn the_property_catches_planted_bugs() {
    world::catches_planted_bugs(Store::new).await;
}

/// By how much the coarse clock may be wrong.
fn lags() -> [Span; 5] {
    let most = Span::milliseconds(100);
    let least = Span::microseconds(1);
    [-most, -least, Span::ZERO, least, most]
}

/// What a key's verification, its status, an explanation of it and its grant say; all must agree. `None` if it is good.
async fn reason(fixture: &Fixture, issued: &Issued) -> Option<String> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let verifier = fixture.keyward.verifier();
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
    let record = fixture
        .keyward
        .manager()
        .get(&actor(), &tenant(), id)
        .await
        .unwrap();
    let is_active = record.status(at(fixture)) == KeyStatus::Active;
    assert_eq!(is_active, said.is_none(), "{record:?}");
    said
}

const MICRO: Duration = Duration::from_micros(1);

#[tokio::test]
async fn every_microsecond_counts() {
    for (lag, cache) in lags()
        .into_iter()
        .flat_map(|lag| world::caches().map(|cache| (lag, cache)))
    {
        let fixture = Fixture::built(|builder| builder.cache(cache)).await;
        fixture.clock.set_coarse_lag(lag);
        let (start, minute) = (at(&fixture), Duration::from_secs(60));
        let manager = fixture.keyward.manager();
        let cut = fixture.issue(new_key()).await;
        fixture.clock.set(start + MICRO);
        let kept = fixture.issue(new_key()).await;
        let mortal = fixture.issue(new_key().expires_at(start + minute)).await;
        let later = fixture.issue(new_key().not_before(start + minute)).await;
        let rotated = fixture.issue(new_key()).await;
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

        let is_good = async |key| reason(&fixture, key).await.is_none();
        for (now, comes) in [(start + minute - MICRO, false), (start + minute, true)] {
            fixture.clock.set(now);
            assert!(!is_good(&cut).await && is_good(&kept).await, "lag {lag}");
            assert_eq!(is_good(&mortal).await, !comes, "expiry, lag {lag}");
            assert_eq!(is_good(&later).await, comes, "start, lag {lag}");
            assert_eq!(is_good(&rotated).await, !comes, "overlap, lag {lag}");
        }
    }
}

#[tokio::test]
async fn an_end_seen_by_a_manager_holds() {
    const MINUTE: Duration = Duration::from_secs(60);
    for way in 0..6 {
        let fixture = Fixture::new().await;
        let (manager, start) = (fixture.keyward.manager(), at(&fixture));
        let mortal = fixture.issue(new_key().expires_in(MINUTE)).await;
        let rotated = fixture.issue(new_key()).await;
        let overlap = Overlap::For(MINUTE);
        let id = rotated.record().id();
        let successor = manager
            .rotate(&actor(), &tenant(), id, overlap)
            .await
            .unwrap();
        fixture.clock.set(start + MINUTE);
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
                    let verifier = fixture.keyward.verifier();
                    assert!(verifier.explain(&attempt).await.denial().is_some());
                }
            }
        }
        fixture.clock.set(start + MINUTE - MICRO);
        for key in [&mortal, &rotated] {
            assert!(reason(&fixture, key).await.is_some(), "way {way}");
        }
        assert_eq!(reason(&fixture, &successor).await, None);
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
async fn a_clock_leap_can_be_undone() {
    const DAY: Duration = Duration::from_secs(86_400);
    let fixture = Fixture::new().await;
    let (start, keyward) = (at(&fixture), &fixture.keyward);
    let short = fixture
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let long = fixture.issue(new_key().expires_in(DAY)).await;
    assert_eq!(keyward.forget_future_ends().unwrap(), None);
    fixture.clock.set(start + DAY);
    for key in [&short, &long] {
        assert!(reason(&fixture, key).await.is_some());
    }
    // The clock is right again.
    fixture.clock.set(start + Duration::from_secs(60));
    keyward.verifier().forget_all();
    assert!(reason(&fixture, &long).await.is_some());
    let query = KeyQuery::of(&tenant()).status(KeyStatus::Expired);
    let listed = keyward.manager().list(&actor(), &query).await.unwrap();
    let views = listed.view(at(&fixture)).keys;
    assert_eq!(views.len(), 2);
    assert!(
        views
            .iter()
            .all(|key| key.view.status == KeyStatus::Expired)
    );

    fixture.clock.fail();
    assert!(keyward.forget_future_ends().is_err());
    fixture.clock.set(start + Duration::from_secs(60));
    assert_eq!(keyward.forget_future_ends().unwrap(), Some(start + DAY));
    assert_eq!(reason(&fixture, &long).await, None);
    assert_eq!(keyward.forget_future_ends().unwrap(), None);
    // What has ended by the right clock stays so, whether or not that was noticed by it.
    fixture.clock.set(start + Duration::from_secs(59));
    assert!(reason(&fixture, &short).await.is_some());
    assert_eq!(reason(&fixture, &long).await, None);
}

#[tokio::test]
async fn expiry_is_exclusive() {
    let fixture = Fixture::new().await;
    let issued = fixture
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let (key, end) = (
        issued.api_key(),
        issued.record().restrictions().expires_at.unwrap(),
    );
    fixture.clock.set(end - Duration::from_nanos(1));
    assert!(fixture.verify(key.presented()).await.is_ok());
    fixture.clock.set(end);
    let denial = fixture.verify(key.presented()).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::Expired));
    assert_eq!(issued.record().status(end), KeyStatus::Expired);
    fixture.clock.set(end - Duration::from_secs(30));
    assert_eq!(
        class(fixture.verify(key.presented()).await),
        Some(DenialClass::Unauthenticated),
        "the clock ran back"
    );
    let other = fixture
        .issue(new_key().expires_in(Duration::from_secs(3_600)))
        .await;
    assert!(
        fixture.verify(other.api_key().presented()).await.is_ok(),
        "other keys live on"
    );
}

#[tokio::test]
async fn a_clock_before_the_key_denies() {
    let fixture = Fixture::new().await;
    let created = at(&fixture);
    let mortal = fixture
        .issue(new_key().expires_in(Duration::from_secs(60)))
        .await;
    let immortal = fixture.issue(new_key()).await;
    let later = fixture
        .issue(new_key().not_before(created + Duration::from_secs(1)))
        .await;
    fixture.clock.set(created - Duration::from_secs(5 * 60));
    assert!(
        fixture.verify(mortal.api_key().presented()).await.is_ok(),
        "nodes' clocks differ a little"
    );
    fixture.clock.set(OffsetDateTime::UNIX_EPOCH); // a machine that lost its clock
    let denial = fixture
        .verify(mortal.api_key().presented())
        .await
        .unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::ClockBehind));
    assert_eq!(denial.class(), DenialClass::Undecidable);
    assert!(fixture.verify(immortal.api_key().presented()).await.is_ok());
    let early = fixture
        .verify(later.api_key().presented())
        .await
        .unwrap_err();
    assert!(matches!(early.reason(), DenialReason::NotYetValid));
}

#[tokio::test]
async fn the_ends_of_time_do_not_overflow() {
    let fixture = Fixture::new().await;
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
        let refusal = fixture.keyward.manager().issue(&actor(), key).await;
        assert!(
            matches!(refusal, Err(ManageError::Invalid(InvalidKey::Instant))),
            "{refusal:?}"
        );
    }
    for past in [first.assume_utc(), year_zero.assume_utc(), at(&fixture)] {
        let refusal = fixture
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
        let refusal = fixture
            .keyward
            .manager()
            .issue(&actor(), new().expires_in(expiry))
            .await;
        assert!(matches!(
            refusal,
            Err(ManageError::Invalid(InvalidKey::Expired))
        ));
    }

    let longest = fixture.issue(new().expires_at(last.assume_utc())).await;
    for instant in [
        last.assume_utc(),
        year_zero.assume_utc(),
        first.assume_utc(),
        last.assume_offset(offset(-12)),
    ] {
        fixture.clock.set(instant);
        let verdict = fixture.verify(longest.api_key().presented()).await;
        // Before it was issued nothing is granted, and at the end of time it has expired.
        assert!(verdict.is_err(), "{instant}");
    }

    // Years that RFC 3339 cannot write are no time to issue keys at.
    for instant in [first.assume_utc(), last.assume_offset(offset(-12))] {
        fixture.clock.set(instant);
        let refusal = fixture.keyward.manager().issue(&actor(), new()).await;
        assert!(matches!(refusal, Err(ManageError::Clock)), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_day_is_valid_to_its_end_in_utc() {
    let fixture = Fixture::new().await;
    let day = Date::from_calendar_date(2028, Month::February, 29).unwrap();
    let issued = fixture.issue(new_key().expires_on(day)).await;
    let end = day.next_day().unwrap().midnight().assume_utc();
    assert_eq!(issued.record().restrictions().expires_at, Some(end));
    fixture.clock.set(end - Duration::from_micros(1));
    assert!(fixture.verify(issued.api_key().presented()).await.is_ok());
    fixture.clock.set(end);
    assert!(fixture.verify(issued.api_key().presented()).await.is_err());
}

#[tokio::test]
async fn a_never_valid_key_is_not_issued() {
    let fixture = Fixture::new().await;
    let start = at(&fixture) + Duration::from_secs(60);
    for end in [start, start - Duration::from_secs(1)] {
        let key = new_key().not_before(start).expires_at(end);
        let refusal = fixture.keyward.manager().issue(&actor(), key).await;
        assert!(matches!(
            refusal,
            Err(ManageError::Invalid(InvalidKey::NeverValid))
        ));
    }
}

/// That no verification that begins after the end of a shortened life is granted, while other tasks verify the key and
/// this node reads it again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fill_outlives_a_shortened_life() {
    const READERS: usize = 3;
    for _ in 0..if IS_ON_DISK { 40 } else { 200 } {
        let fixture = Arc::new(Fixture::new().await);
        let key = new_key().expires_in(Duration::from_secs(3_600));
        let issued = Arc::new(fixture.issue(key).await);
        let is_over = Arc::new(AtomicBool::new(false));
        // Each reader has verified the key once before its life is shortened: they meet on every machine.
        let are_at_work = Arc::new(Barrier::new(READERS + 1));
        let readers = (0..READERS).map(|_| {
            let (fixture, issued) = (Arc::clone(&fixture), Arc::clone(&issued));
            let (is_over, are_at_work) = (Arc::clone(&is_over), Arc::clone(&are_at_work));
            tokio::spawn(async move {
                let key = issued.api_key();
                assert!(fixture.verify(key.presented()).await.is_ok());
                are_at_work.wait().await;
                loop {
                    let was_over = is_over.load(Ordering::SeqCst);
                    fixture.keyward.verifier().forget_all();
                    let is_granted = fixture.verify(key.presented()).await.is_ok();
                    assert!(!(was_over && is_granted), "granted after its new end");
                    if was_over {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        are_at_work.wait().await;
        let update = KeyUpdate::new().expires_in(MICRO);
        let (manager, id) = (fixture.keyward.manager(), issued.record().id());
        let shortened = manager.update(&actor(), &tenant(), id, update).await;
        fixture
            .clock
            .set(shortened.unwrap().restrictions().expires_at.unwrap());
        is_over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
