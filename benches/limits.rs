//! Measures what limits add to a verification, and other limiters, in one process and round by round.
//!
//! ```sh
//! cargo run --release --locked --manifest-path benches/peers/Cargo.toml --bin limits
//! ```
//!
//! With `-- --check-targets` a target that is missed is an error. It is a program of `benches/peers`, so that a build
//! of Keyward fetches no peer. The million keys take some 3 GB.
//!
//! No two of these limiters do the same. All state is in memory:
//!
//! | | admits in any window | all quotas or none | finds the counters |
//! |---|---|---|---|
//! | keyward | at most the limit | yes | with the key |
//! | governor, direct | up to twice the limit | no | is given them |
//! | governor, keyed | up to twice the limit | no | in a map for each quota |
//! | limitador | up to twice the limit | yes | by a context made for each request |
//!
//! The others read a clock for each quota. Keyward's verification has read one by then, so its limiter alone is given
//! the time.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark fails by panicking, and is run for what it prints"
)]

#[path = "measure.rs"]
mod measure;

use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, RateLimiter};
use keyward::key::{KeyFormat, KeyId, PresentedKey, Quota, QuotaSubject, Scope, TenantId};
use keyward::limiter::{
    Charge, Limit, LimitRule, LimitSource, Limiter, LocalLimiter, Meter,
    RateLimiting, Subject, TenantPlan, Tick,
};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, scope};
use limitador::limit::Limit as LimitadorLimit;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use self::measure::{Bench, Row, Target};

const READ: Scope = scope!("read:editions");
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const MILLION: usize = 1_000_000;

/// A limit that is counted and never reached.
const MOST: NonZeroU32 = NonZeroU32::MAX;

fn quota(name: &str, limit: NonZeroU32, window: Duration) -> Quota {
    Quota::new(name, limit, window).expect("a quota")
}

fn minute() -> Quota {
    quota("minute", MOST, MINUTE)
}

fn hour() -> Quota {
    quota("hour", MOST, HOUR)
}

/// A Keyward with the tenant and actor of its keys.
struct Fixture {
    keyward: Keyward,
    tenant: TenantId,
    actor: Actor,
}

impl Fixture {
    async fn open(limits: RateLimiting) -> Result<Self, Box<dyn Error>> {
        let limits = limits.limiter(LocalLimiter::with_max_bytes(4 << 30));
        let keyward = Keyward::builder(MemoryStore::new())
            .format(KeyFormat::new("acme")?.environment("live")?)
            .scopes([READ.described("Read")])
            .policy(AllowAll)
            .cache(
                KeyCache::new()
                    .max_bytes(8 << 30)
                    .lease(KeyCache::MAX_LEASE),
            )
            .rate_limiting(limits)
            .open()
            .await?;
        tokio::spawn(keyward.background());
        // A record read before the first feed poll would be read again.
        while keyward.verifier().stats().feed_polls == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self {
            keyward,
            tenant: TenantId::new("acme-inc")?,
            actor: Actor::system("bench"),
        })
    }

    fn key(&self) -> NewKey {
        let year = Duration::from_secs(365 * 86_400);
        NewKey::new(self.tenant.clone(), "measured", READ).expires_in(year)
    }

    /// Issues a key and uses it once.
    async fn warm(&self, key: NewKey, need: &Requirement) -> Result<String, Box<dyn Error>> {
        let issued = self.keyward.manager().issue(&self.actor, key).await?;
        let text = issued.api_key().expose().to_owned();
        let attempt = Attempt::new(PresentedKey::text(&text), need);
        self.keyward.verifier().verify(&attempt).await?;
        Ok(text)
    }

    /// Verifies at once. A key that needs the store is outside of this measurement, so it panics.
    fn ask<T: AsRef<[u8]> + ?Sized>(&self, text: &T, need: &Requirement, is_granted: bool) {
        let attempt = Attempt::new(PresentedKey::text(black_box(text)), need);
        match black_box(self.keyward.verifier().try_verify(&attempt)) {
            Some(verdict) => assert_eq!(verdict.is_ok(), is_granted),
            None => panic!("it was not decided at once"),
        }
    }

    fn row(&self, text: &str, need: &Requirement, is_granted: bool) -> impl FnMut(u64) {
        move |iterations| {
            for _ in 0..iterations {
                self.ask(text, need, is_granted);
            }
        }
    }
}

/// Keyward's limiter without a verification.
struct Ours {
    meter: Arc<dyn Meter>,
    /// In nanoseconds.
    now: Cell<u64>,
}

impl Ours {
    fn new() -> Result<Self, Box<dyn Error>> {
        let subject = Subject::Key(TenantId::new("acme-inc")?, KeyId::from_u128(7));
        let limit = |rule| Limit::new(subject.clone(), LimitSource::Key, rule);
        let limits = vec![
            limit(LimitRule::Quota(minute())),
            limit(LimitRule::Quota(hour())),
            limit(LimitRule::Concurrency(MOST)),
        ];
        Ok(Self {
            meter: LocalLimiter::new().meter(limits),
            now: Cell::new(0),
        })
    }

    fn take(&self) -> bool {
        let now = self.now.get() + 50;
        self.now.set(now);
        let charge = Charge::new(1, true);
        let taken = self.meter.try_take(Tick::from_nanos(now), charge);
        let Some(Ok(taken)) = black_box(taken) else {
            return false;
        };
        self.meter.release(taken);
        true
    }
}

/// `governor`, with a limiter for each key and quota.
struct Direct([DefaultDirectRateLimiter; 2]);

/// `governor`, with a map of keys for each quota.
struct Keyed([DefaultKeyedRateLimiter<u128>; 2]);

fn governor_quotas() -> [governor::Quota; 2] {
    [
        governor::Quota::per_minute(MOST),
        governor::Quota::per_hour(MOST),
    ]
}

impl Direct {
    fn new() -> Self {
        Self(governor_quotas().map(RateLimiter::direct))
    }

    fn take(&self) -> bool {
        self.0.iter().all(|limiter| limiter.check().is_ok())
    }
}

impl Keyed {
    fn new() -> Self {
        Self(governor_quotas().map(RateLimiter::keyed))
    }

    fn take(&self, key: u128) -> bool {
        self.0.iter().all(|limiter| limiter.check_key(&key).is_ok())
    }
}

/// `limitador`, with its counters in memory.
struct Limitador {
    limiter: limitador::RateLimiter,
    namespace: limitador::limit::Namespace,
}

impl Limitador {
    fn new() -> Result<Self, Box<dyn Error>> {
        let limiter = limitador::RateLimiter::new(2 * MILLION as u64);
        for window in [MINUTE, HOUR] {
            let none = Vec::new();
            let key = vec!["key".try_into()?];
            let (most, seconds) = (MOST.get().into(), window.as_secs());
            limiter.add_limit(LimitadorLimit::new("api", most, seconds, none, key));
        }
        Ok(Self {
            limiter,
            namespace: "api".into(),
        })
    }

    fn take(&self, key: &str) -> bool {
        let context = HashMap::from([("key".to_owned(), key.to_owned())]).into();
        let checked = self
            .limiter
            .check_rate_limited_and_update(&self.namespace, &context, 1);
        checked.is_ok_and(|checked| !checked.limited)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let plain = Requirement::scope(READ);
    let of_route = plain.clone().quota(minute()).quota(hour());
    let fixture = runtime.block_on(Fixture::open(RateLimiting::new()))?;
    let plan = TenantPlan::new()
        .quota(minute())
        .quota(hour().per(QuotaSubject::Tenant));
    let limits = RateLimiting::new().plan_for_all(plan);
    let planned = runtime.block_on(Fixture::open(limits))?;
    let warm = |fixture: &Fixture, key: NewKey| runtime.block_on(fixture.warm(key, &plain));
    let two_quotas = || fixture.key().quota(minute()).quota(hour());

    let free = warm(&fixture, fixture.key())?;
    let counted = warm(&fixture, two_quotas())?;
    let other = warm(&fixture, two_quotas())?;
    let bounded = warm(&fixture, fixture.key().concurrency(MOST))?;
    let both = warm(&fixture, two_quotas().concurrency(MOST))?;
    let one = quota("minute", NonZeroU32::MIN, HOUR);
    let used_up = warm(&fixture, fixture.key().quota(one).quota(hour()))?;
    let eight = (1..=8).fold(fixture.key(), |key, number| {
        key.quota(quota(&format!("quota{number}"), MOST, MINUTE * number))
    });
    let eight = warm(&fixture, eight)?;
    let by_plan = warm(&planned, planned.key())?;
    let by_route = runtime.block_on(fixture.warm(fixture.key(), &of_route))?;
    eprintln!("issuing and using {MILLION} keys …");
    let keys = runtime.block_on(async {
        let mut keys = Vec::with_capacity(MILLION);
        for _ in 0..MILLION {
            let key = fixture.warm(fixture.key(), &plain).await?;
            fixture.ask(&key, &of_route, true);
            keys.push(key);
        }
        Ok::<_, Box<dyn Error>>(keys)
    })?;
    let (ours, direct, keyed, limitador) =
        (Ours::new()?, Direct::new(), Keyed::new(), Limitador::new()?);

    let block = [7_u8; 64];
    let mut bench = Bench::new("SHA-256 of 64 B", |iterations| {
        for _ in 0..iterations {
            black_box(Sha256::digest(black_box(&block)));
        }
    });
    let accept = bench.row("no limits", None, fixture.row(&free, &plain, true));
    let add = |added| Some(Target::AddedTo(accept, added));
    let quotas = bench.row("two quotas", add(0.3), fixture.row(&counted, &plain, true));
    let permit = fixture.row(&bounded, &plain, true);
    bench.row("bounded requests in flight", add(0.4), permit);
    bench.row("both", None, fixture.row(&both, &plain, true));
    let route = fixture.row(&by_route, &of_route, true);
    bench.row("two quotas of the route", None, route);
    let plan = planned.row(&by_plan, &plain, true);
    bench.row("a plan: one of the key, one of the tenant", None, plan);
    bench.row("eight quotas", None, fixture.row(&eight, &plain, true));
    let refused = fixture.row(&used_up, &plain, false);
    bench.row(
        "refused: used up",
        Some(Target::TimesRow(quotas, 1.1)),
        refused,
    );
    bench.row_timed("two threads, a key each", None, |iterations| {
        two(|thread| {
            let key = if thread == 0 { &counted } else { &other };
            for _ in 0..iterations {
                fixture.ask(key, &plain, true);
            }
        })
    });
    bench.row_timed("two threads, one key", None, |iterations| {
        two(|_| {
            for _ in 0..iterations {
                fixture.ask(&counted, &plain, true);
            }
        })
    });
    for (count, text) in [(10_000, "10,000"), (MILLION, "1,000,000")] {
        for (name, need) in [
            ("no limits", &plain),
            ("two quotas of the route", &of_route),
        ] {
            let (keys, fixture) = (&keys[..count], &fixture);
            bench.row_timed(&format!("{text} keys, {name}"), None, move |iterations| {
                each(iterations, keys, |key| fixture.ask(key, need, true))
            });
        }
    }
    let alone = alone(&mut bench, "limiter alone, two quotas and a permit", || {
        ours.take()
    });
    let direct = self::alone(&mut bench, "governor, direct ×2", || direct.take());
    let keyed = self::alone(&mut bench, "governor, keyed ×2", || {
        keyed.take(black_box(7))
    });
    let limitador = self::alone(&mut bench, "limitador", || {
        limitador.take(black_box("0193f0c2-6a5b-7d3e-8f10-2b4c6d8e0f12"))
    });

    let results = bench.run();
    runtime.shutdown_background();
    for peer in [direct, keyed, limitador] {
        results.print_faster(alone, peer, None);
    }
    results.check_targets()
}

fn alone<'a>(bench: &mut Bench<'a>, name: &str, take: impl Fn() -> bool + 'a) -> Row {
    bench.row(name, None, move |iterations| {
        for _ in 0..iterations {
            assert!(black_box(take()), "refused while it was measured");
        }
    })
}

/// Measures requests with randomly chosen keys.
///
/// The keys are copied together before the measurement, since a request's own key was just received and is in the
/// cache.
fn each(iterations: u64, keys: &[String], mut ask: impl FnMut(&[u8])) -> Duration {
    const TOGETHER: u64 = 128;
    let mut at = Instant::now().elapsed().as_nanos() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut took = Duration::ZERO;
    let mut left = iterations;
    let mut texts = Vec::new();
    while left > 0 {
        let now = left.min(TOGETHER);
        texts.clear();
        for _ in 0..now {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let key = &keys[(at >> 33) as usize % keys.len()];
            texts.extend_from_slice(key.as_bytes());
        }
        let length = keys[0].len();
        let start = Instant::now();
        for text in texts.chunks_exact(length) {
            ask(text);
        }
        took += start.elapsed();
        left -= now;
    }
    took
}

/// Measures the time until both threads are done.
fn two(run: impl Fn(usize) + Sync) -> Duration {
    let ready = Barrier::new(3);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (ready, run) = (&ready, &run);
            scope.spawn(move || {
                ready.wait();
                run(thread);
                ready.wait();
            });
        }
        ready.wait();
        let start = Instant::now();
        ready.wait();
        start.elapsed()
    })
}
