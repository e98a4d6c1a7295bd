//! The limiter's memory is as much as it says, and is given back when all windows have drained.
//!
//! A binary of its own, as its allocator counts what the whole process allocates. `benches/limits_memory.rs` does the
//! same for a million keys, and for other limiters.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::alloc::System;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use keyward::key::{KeyId, Quota, TenantId};
use keyward::limiter::{
    Charge, Limit, LimitRule, LimitSource, Limiter, LocalLimiter, Meter, Subject, Tick,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: usize = 20_000;
const SECOND: u64 = 1_000_000_000;

/// Returns the bytes allocated in the region and not freed.
fn grown(region: &Region<'_, System>) -> u64 {
    let stats = region.change();
    let grown = stats.bytes_allocated as isize - stats.bytes_deallocated as isize;
    grown.max(0) as u64
}

#[test]
fn memory_is_as_told_and_is_given_back() {
    let tenant = TenantId::new("acme-inc").unwrap();
    let quotas = [("minute", 60), ("hour", 3_600)].map(|(name, seconds)| {
        Quota::new(name, NonZeroU32::MAX, Duration::from_secs(seconds)).unwrap()
    });
    let mut meters: Vec<Arc<dyn Meter>> = Vec::with_capacity(KEYS);
    let region = Region::new(ALLOCATOR);
    let limiter = LocalLimiter::new();
    meters.extend((1..).take(KEYS).map(|id| {
        let subject = Subject::Key(tenant.clone(), KeyId::from_u128(id));
        let limit = |quota: &Quota| {
            let rule = LimitRule::Quota(quota.clone());
            Limit::new(subject.clone(), LimitSource::Key, rule)
        };
        limiter.meter(quotas.iter().map(limit).collect())
    }));
    let take = |meters: &[Arc<dyn Meter>], at, cost| {
        for meter in meters {
            let charge = Charge::new(cost, true);
            let taken = meter.try_take(Tick::from_nanos(at), charge);
            assert!(matches!(taken, Some(Ok(_))));
        }
    };
    let is_as_told = |most_a_key: u64| {
        let (told, grown) = (limiter.bytes(), grown(&region));
        assert!(
            told > grown / 10 * 8 && told < grown / 10 * 12,
            "{told} {grown}"
        );
        assert!(grown < most_a_key * KEYS as u64, "{grown}");
    };
    take(&meters, SECOND, 1);
    is_as_told(750);
    for second in [3, 70, 75, 200] {
        take(&meters, second * SECOND, 1);
    }
    is_as_told(900);
    take(&meters, 250 * SECOND, 70_000);
    take(&meters, 280 * SECOND, 1);
    take(&meters, 320 * SECOND, 1);
    is_as_told(1_250);
    meters.clear();
    is_as_told(850);
    while limiter.sweep(Tick::from_nanos(3_900 * SECOND)) {}
    assert!(limiter.subjects() == KEYS as u64);
    while limiter.sweep(Tick::from_nanos(4_000 * SECOND)) {}
    assert_eq!((limiter.subjects(), limiter.bytes()), (0, 0));
    let left = grown(&region);
    assert!(left < 32_768, "{left}");
}
