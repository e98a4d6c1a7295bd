use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::key::{KeyId, Quota, QuotaSubject, TenantId};
use crate::limiter::{Charge, LimitRule, LimitSource, LimiterError, Subject, TakeError, Taken};

const SECOND: u64 = 1_000_000_000;

fn quota(name: &str, limit: u32, seconds: u64) -> Quota {
    let limit = NonZeroU32::new(limit).unwrap();
    Quota::new(name, limit, Duration::from_secs(seconds)).unwrap()
}

fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

fn key(id: u128) -> Subject {
    Subject::Key(tenant(), KeyId::from_u128(id))
}

fn limit(subject: Subject, quota: Quota) -> Limit {
    Limit::new(subject, LimitSource::Key, LimitRule::Quota(quota))
}

fn take(meter: &Arc<dyn Meter>, at: u64, cost: u32) -> Result<Taken, TakeError> {
    meter.try_take(Tick(at), Charge::new(cost, true)).unwrap()
}

/// Takes one after the other until one is refused, and returns how many were taken.
fn taken(meter: &Arc<dyn Meter>, at: u64) -> u32 {
    let mut count = 0;
    while let Ok(taken) = take(meter, at, 1) {
        meter.release(taken);
        count += 1;
    }
    count
}

#[test]
fn a_refused_request_uses_nothing_of_any_limit() {
    let limiter = LocalLimiter::new();
    let one = NonZeroU32::MIN;
    let meter = limiter.meter(vec![
        limit(key(1), quota("wide", 10, 60)),
        limit(Subject::Tenant(tenant()), quota("tight", 3, 60)),
        Limit::new(key(1), LimitSource::Key, LimitRule::Concurrency(one)),
    ]);
    let held = take(&meter, 0, 1).unwrap();
    for _ in 0..5 {
        assert!(matches!(
            take(&meter, 0, 1),
            Err(TakeError::TooManyInFlight { .. })
        ));
    }
    meter.release(held);
    assert_eq!(taken(&meter, 0), 2);
    for _ in 0..5 {
        let Err(TakeError::Exceeded { limits, .. }) = take(&meter, 0, 1) else {
            panic!("the tight quota is used up");
        };
        assert!(limits.contains(1) && !limits.contains(0) && !limits.contains(2));
    }
    let remaining: Vec<_> = meter
        .states(Tick(0), 1)
        .iter()
        .map(|state| state.remaining)
        .collect();
    assert_eq!(remaining, [7, 0, 1]);
    assert!(
        matches!(take(&meter, 0, 4), Err(TakeError::CostAboveLimit { limits }) if limits.first() == Some(1))
    );
}

#[test]
fn subjects_are_shared_as_said() {
    let limiter = LocalLimiter::new();
    let of = |subject: Subject| limiter.meter(vec![limit(subject, quota("q", 3, 60))]);
    let id = KeyId::from_u128(1);
    let subjects = [
        key(1),
        key(2),
        Subject::Lineage(tenant(), id),
        Subject::Owner(tenant(), "user:ann".parse().unwrap()),
        Subject::Owner(tenant(), "user:bob".parse().unwrap()),
        Subject::Owner(TenantId::new("other").unwrap(), "user:ann".parse().unwrap()),
        Subject::Tenant(tenant()),
    ];
    for subject in subjects {
        let (one, other) = (of(subject.clone()), of(subject));
        let _ = take(&one, 0, 1).unwrap();
        assert_eq!(taken(&other, 0), 2);
        assert_eq!(taken(&one, 0), 0);
    }
    assert_eq!(
        quota("q", 1, 1).per(QuotaSubject::Owner).subject(),
        QuotaSubject::Owner
    );
}

#[test]
fn a_changed_limit_applies_at_once() {
    let limiter = LocalLimiter::new();
    let of =
        |limit_of: u32, seconds| limiter.meter(vec![limit(key(1), quota("q", limit_of, seconds))]);
    let before = of(5, 60);
    assert_eq!(taken(&before, 0), 5);
    assert_eq!(taken(&of(8, 60), 0), 3, "what was used before counts");
    assert_eq!(taken(&of(2, 60), 0), 0);
    assert_eq!(taken(&before, 0), 0, "a request with the old record, too");
    // The window changes, and both are in use for a while.
    let hour = of(20, 3_600);
    assert_eq!(taken(&hour, 0), 12);
    assert_eq!(taken(&before, 60 * SECOND), 0);
    let after = 61 * SECOND;
    assert_eq!(
        taken(&before, after),
        5,
        "each is as strict as its own window"
    );
    assert_eq!(
        taken(&hour, after),
        0,
        "the old window's requests counted in the new one, too"
    );
    assert_eq!(taken(&hour, 3_661 * SECOND), 15);
}

#[test]
fn an_estimate_is_settled_either_way() {
    let limiter = LocalLimiter::new();
    let meter = limiter.meter(vec![limit(key(1), quota("tokens", 100, 60))]);
    let remaining = |at| meter.states(Tick(at), 1)[0].remaining;
    let taken = take(&meter, 0, 40).unwrap();
    meter.settle(Tick(5 * SECOND), taken, 10);
    assert_eq!(remaining(5 * SECOND), 90);
    let taken = take(&meter, 5 * SECOND, 40).unwrap();
    meter.settle(Tick(30 * SECOND), taken, 300);
    assert_eq!(remaining(30 * SECOND), 0);
    assert_eq!(
        remaining(67 * SECOND),
        0,
        "what exceeded the estimate counts when it was known"
    );
    assert_eq!(remaining(91 * SECOND), 100);
    let taken = take(&meter, 91 * SECOND, 40).unwrap();
    meter.settle(Tick(91 * SECOND), taken, 0);
    assert_eq!(remaining(91 * SECOND), 100);
}

#[test]
fn waiting_as_told_is_enough() {
    let limiter = LocalLimiter::new();
    let meter = limiter.meter(vec![
        limit(key(1), quota("second", 3, 1)),
        limit(key(1), quota("minute", 7, 60)),
    ]);
    let mut now = 17;
    for request in 0..200_u32 {
        let cost = 1 + request % 3;
        match take(&meter, now, cost) {
            Ok(_) => now += u64::from(request) * 31_337_017 % 400_000_000,
            Err(TakeError::Exceeded { retry_after, .. }) => {
                let wait = u64::try_from(retry_after.as_nanos()).unwrap();
                assert!(wait > 0);
                let states = meter.states(Tick(now), cost);
                let longest = states
                    .iter()
                    .filter(|state| state.remaining < cost)
                    .map(|state| state.reset_after)
                    .max();
                assert_eq!(longest, Some(retry_after));
                assert!(
                    take(&meter, now + wait - 1, cost).is_err(),
                    "it is not told to wait longer than it must"
                );
                now += wait;
                let _ = take(&meter, now, cost).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn memory_is_given_back_when_windows_have_drained() {
    let limiter = LocalLimiter::new();
    let meters: Vec<_> = (0..2_000)
        .map(|id| {
            limiter.meter(vec![
                limit(key(id), quota("minute", 60, 60)),
                limit(key(id), quota("hour", 100, 3_600)),
            ])
        })
        .collect();
    for meter in &meters {
        let _ = take(meter, SECOND, 1).unwrap();
        let _ = take(meter, 3 * SECOND, 1).unwrap();
    }
    drop(meters);
    let full = limiter.bytes();
    assert_eq!(limiter.subjects(), 2_000);
    while limiter.sweep(Tick(3_600 * SECOND)) {}
    assert_eq!(limiter.subjects(), 2_000, "an hour has not drained");
    assert!(limiter.bytes() < full, "the minutes have");
    // One request after another, of one key, sweeps.
    let other = limiter.meter(vec![limit(key(5_000), quota("minute", 1_000, 1))]);
    for request in 0..2_000 {
        let _ = take(&other, (4_000 + request) * SECOND, 1);
    }
    assert_eq!(limiter.subjects(), 1);
    drop(other);
    while limiter.sweep(Tick(100_000 * SECOND)) {}
    assert_eq!((limiter.subjects(), limiter.bytes()), (0, 0));
}

#[test]
fn counters_outlive_their_meters_until_they_have_drained() {
    let limiter = LocalLimiter::new();
    let of = || limiter.meter(vec![limit(key(1), quota("minute", 5, 60))]);
    assert_eq!(taken(&of(), SECOND), 5);
    for second in 1..61 {
        while limiter.sweep(Tick(second * SECOND)) {}
        assert_eq!(taken(&of(), second * SECOND), 0);
    }
    while limiter.sweep(Tick(63 * SECOND)) {}
    assert_eq!(taken(&of(), 63 * SECOND), 5);
    let held = of();
    let meter = limiter.meter(vec![Limit::new(
        key(2),
        LimitSource::Key,
        LimitRule::Concurrency(NonZeroU32::MIN),
    )]);
    let place = take(&meter, 0, 0).unwrap();
    while limiter.sweep(Tick(1_000_000 * SECOND)) {}
    assert!(
        take(&meter, 1_000_000 * SECOND, 0).is_err(),
        "a request in flight stays counted"
    );
    meter.release(place);
    drop((held, meter));
    while limiter.sweep(Tick(2_000_000 * SECOND)) {}
    assert_eq!((limiter.subjects(), limiter.bytes()), (0, 0));
}

#[test]
fn a_full_limiter_forgets_nobody() {
    let limiter = LocalLimiter::with_max_bytes(20_000);
    let of = |id| limiter.meter(vec![limit(key(id), quota("minute", 2, 60))]);
    let mut counted = 0;
    while take(&of(counted), SECOND, 1).is_ok() {
        counted += 1;
    }
    assert!(counted > 20 && limiter.bytes() <= 20_000);
    assert!(matches!(
        take(&of(9_999), SECOND, 1),
        Err(TakeError::Failed(LimiterError::Full))
    ));
    for id in 0..counted {
        assert_eq!(taken(&of(id), SECOND), 1, "{id} is counted as before");
    }
    assert_eq!(
        taken(&of(9_999), 70 * SECOND),
        0,
        "it sweeps for the next one"
    );
    assert_eq!(taken(&of(9_999), 70 * SECOND), 2);
}

#[test]
fn renamed_quotas_leave_no_memory_behind() {
    let limiter = LocalLimiter::new();
    let mut most = 0;
    for change in 0..1_000_u64 {
        let name = format!("q{change}");
        let meter = limiter.meter(vec![limit(key(1), quota(&name, 5, 1))]);
        let _ = take(&meter, change * 3 * SECOND, 1).unwrap();
        most = most.max(limiter.bytes());
        while limiter.sweep(Tick(change * 3 * SECOND + 2 * SECOND)) {}
    }
    assert!(most < 6_000, "{most}");
}

#[test]
fn time_does_not_run_back() {
    let limiter = LocalLimiter::new();
    let meter = limiter.meter(vec![limit(key(1), quota("minute", 3, 60))]);
    let _ = take(&meter, 1_000 * SECOND, 1).unwrap();
    assert_eq!(taken(&meter, 0), 2);
    assert_eq!(taken(&meter, 1_059 * SECOND), 0);
    assert_eq!(taken(&meter, 1_061 * SECOND), 3);
}

#[test]
fn a_refund_finds_what_a_late_clock_took() {
    let limiter = LocalLimiter::new();
    let meter = limiter.meter(vec![limit(key(1), quota("minute", 10, 60))]);
    let others: [&dyn Fn(u64); 3] = [
        &|at| drop(meter.states(Tick(at), 1)),
        &|at| while limiter.sweep(Tick(at)) {},
        &|at| assert!(take(&meter, at, 10).is_err()),
    ];
    for (number, other) in (1..).zip(others) {
        // Another thread has read the clock later, and moved the ring on.
        let now = number * 1_000 * SECOND;
        let _ = take(&meter, now - 5 * SECOND, 3).unwrap();
        other(now);
        let taken = take(&meter, now - 2 * SECOND, 4).unwrap();
        meter.settle(taken.at, taken, 0);
        assert_eq!(meter.states(Tick(now), 1)[0].remaining, 7, "{number}");
    }
}

#[test]
fn the_extremes_are_counted() {
    let limiter = LocalLimiter::new();
    let widest = 366 * 86_400;
    let of = |id, most, seconds| limiter.meter(vec![limit(key(id), quota("q", most, seconds))]);
    let (one, most) = (of(1, 1, 1), of(2, u32::MAX, widest));
    assert_eq!(taken(&one, 0), 1);
    assert_eq!(taken(&one, SECOND), 0);
    assert_eq!(taken(&one, 2 * SECOND), 1);
    let _ = take(&most, 0, u32::MAX - 1).unwrap();
    assert_eq!(taken(&most, widest * SECOND), 1);
    let _ = take(&most, (widest + widest / 60 + 1) * SECOND, u32::MAX - 1).unwrap();
    let eight: Vec<_> = (1..=8)
        .map(|n| limit(key(3), quota(&format!("q{n}"), n, u64::from(n))))
        .collect();
    assert_eq!(taken(&limiter.meter(eight), 0), 1);
}

#[test]
fn windows_that_changed_leave_little_behind() {
    let limiter = LocalLimiter::new();
    let mut held = limiter.meter(vec![limit(key(1), quota("q", 1_000, 60))]);
    let mut most = 0;
    for change in 0..200_u64 {
        let seconds = if change % 2 == 0 {
            61 + change
        } else {
            600 - change
        };
        let next = limiter.meter(vec![limit(key(1), quota("q", 1_000, seconds))]);
        let _ = take(&next, change * SECOND, 1).unwrap();
        let used = 1_000 - next.states(Tick(change * SECOND), 1)[0].remaining;
        // Parts of the first windows are a second long, and those of the last are up to ten.
        assert!(u64::from(used) > change.min(seconds), "{used} of {change}");
        held = next;
        most = most.max(limiter.bytes());
    }
    drop(held);
    assert!(most < 3_000, "{most}");
}

#[test]
fn meters_take_no_room_of_counters() {
    let limiter = LocalLimiter::with_max_bytes(3_000);
    let of = |id| limiter.meter(vec![limit(key(id), quota("minute", 2, 60))]);
    let held: Vec<_> = (0..1_000).map(|_| of(1)).collect();
    assert!(limiter.bytes() > 100_000);
    for id in 1..=5 {
        assert_eq!(taken(&of(id), SECOND), 2);
    }
    drop(held);
    assert!(limiter.bytes() <= 3_000);
}

#[test]
fn more_subjects_than_a_request_has_are_refused() {
    let limiter = LocalLimiter::new();
    let five = (1..=5).map(|id| limit(key(id), quota("minute", 2, 60)));
    let meter = limiter.meter(five.collect());
    assert!(matches!(
        take(&meter, 0, 1),
        Err(TakeError::Failed(LimiterError::Full))
    ));
}

#[test]
fn a_sweep_ends_and_says_what_is_left() {
    let limiter = LocalLimiter::new();
    for id in 0..20_000 {
        let meter = limiter.meter(vec![limit(key(id), quota("minute", 2, 60))]);
        let _ = take(&meter, SECOND, 1).unwrap();
    }
    let mut sweeps = 1;
    while limiter.sweep(Tick(100 * SECOND)) {
        sweeps += 1;
    }
    assert!(sweeps > 5, "{sweeps}");
    assert_eq!(limiter.subjects(), 0);
}
