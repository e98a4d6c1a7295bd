//! Measures the memory of limiters at a million keys with two quotas each, and the memory that remains after their
//! windows have drained.
//!
//! ```sh
//! cargo run --release --locked --manifest-path benches/peers/Cargo.toml --bin limits_memory
//! ```
//!
//! Bytes are those asked of the allocator. A key of Keyward's that is cached has a meter beside its counters; both are
//! in the bytes that [`LocalLimiter::bytes`] estimates. The test `limiter_memory` asserts the same for fewer keys.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a benchmark fails by panicking, and is run for what it prints"
)]

use std::alloc::System;
use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, RateLimiter};
use keyward::key::{KeyId, Quota, TenantId};
use keyward::limiter::{
    Charge, Limit, LimitRule, LimitSource, Limiter, LocalLimiter, Meter, Subject, Tick,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: u128 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const MOST: NonZeroU32 = NonZeroU32::MAX;

/// The bytes that are allocated since its creation and not freed.
struct Allocated(Region<'static, System>);

impl Allocated {
    fn new() -> Self {
        Self(Region::new(ALLOCATOR))
    }

    fn bytes(&self) -> f64 {
        let stats = self.0.change();
        (stats.bytes_allocated as isize - stats.bytes_deallocated as isize) as f64
    }

    fn print(&self, what: &str) {
        println!("{what:60} {:8.0} bytes a key", self.bytes() / KEYS as f64);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ours()?;
    governor();
    limitador()
}

fn ours() -> Result<(), Box<dyn Error>> {
    let tenant = TenantId::new("acme-inc")?;
    let quotas = [
        Quota::new("minute", MOST, MINUTE)?,
        Quota::new("hour", MOST, HOUR)?,
    ];
    let mut meters: Vec<Arc<dyn Meter>> = Vec::with_capacity(KEYS as usize);
    let allocated = Allocated::new();
    let limiter = LocalLimiter::with_max_bytes(64 << 30);
    let meter = |id| {
        let subject = Subject::Key(tenant.clone(), KeyId::from_u128(id));
        let limit = |quota: &Quota| {
            let rule = LimitRule::Quota(quota.clone());
            Limit::new(subject.clone(), LimitSource::Key, rule)
        };
        limiter.meter(quotas.iter().map(limit).collect())
    };
    let print = |what: &str| {
        allocated.print(what);
        let ratio = limiter.bytes() as f64 / allocated.bytes();
        println!("{:60} {ratio:8.2} of that", "  estimated");
        assert!(
            (0.8..1.2).contains(&ratio),
            "the estimate is near the truth"
        );
    };
    meters.extend((0..KEYS).map(meter));
    let take = |meters: &[Arc<dyn Meter>], at, cost| {
        for meter in meters {
            let taken = meter.try_take(Tick::from_nanos(at), Charge::new(cost, true));
            assert!(matches!(taken, Some(Ok(_))), "it is within its quotas");
        }
    };
    take(&meters, SECOND, 1);
    print("keyward: one request each, cached");
    for minute in 0..3 {
        take(&meters, (2 + 61 * minute) * SECOND, 1);
        take(&meters, (9 + 61 * minute) * SECOND, 1);
    }
    print("keyward: in steady use, cached");
    take(&meters, 300 * SECOND, 300);
    take(&meters, 400 * SECOND, 300);
    print("keyward: in steady use with costs above 255, cached");
    meters.clear();
    print("keyward: the same, pushed out of the cache");
    while limiter.sweep(Tick::from_nanos(4_200 * SECOND)) {}
    allocated.print("keyward: when the windows have drained");
    assert_eq!((limiter.subjects(), limiter.bytes()), (0, 0));
    assert!(allocated.bytes() < 65_536.0, "the memory is back");
    Ok(())
}

fn governor() {
    let allocated = Allocated::new();
    let quotas = [
        governor::Quota::per_minute(MOST),
        governor::Quota::per_hour(MOST),
    ];
    let limiters: [DefaultKeyedRateLimiter<u128>; 2] = quotas.map(RateLimiter::keyed);
    for key in 0..KEYS {
        for limiter in &limiters {
            assert!(limiter.check_key(&key).is_ok());
        }
    }
    allocated.print("governor, keyed ×2");
    println!("{:60} when the host calls `retain_recent`", "  freed");
}

fn limitador() -> Result<(), Box<dyn Error>> {
    let allocated = Allocated::new();
    let limiter = limitador::RateLimiter::new(2 * KEYS as u64);
    for window in [MINUTE, HOUR] {
        let (none, key) = (Vec::new(), vec!["key".try_into()?]);
        let (most, seconds) = (MOST.get().into(), window.as_secs());
        limiter.add_limit(limitador::limit::Limit::new(
            "api", most, seconds, none, key,
        ));
    }
    let namespace = "api".into();
    for key in 0..KEYS {
        let key = KeyId::from_u128(key << 64).to_string();
        let context = HashMap::from([("key".to_owned(), key)]).into();
        let checked = limiter.check_rate_limited_and_update(&namespace, &context, 1)?;
        assert!(!checked.limited);
    }
    allocated.print("limitador");
    println!("{:60} when others take their places", "  freed");
    Ok(())
}
