//! Deciding on a key that is warm allocates nothing, whatever the verdict, and nothing when the verdict is dropped.
//!
//! A binary of its own: the allocator counts what the whole process allocates. It takes unsafe code, which is forbidden
//! in this package, tests included; a crate brings it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod refusals;
mod limits;

use std::alloc::System;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::hashing::Pepper;
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::{
    Access, Environment, KeyFormat, Network, Networks, PresentedKey, Resources, Scope, TenantId,
};
use keyward::limiter::RateLimiting;
use keyward::manager::{Actor, AllowAll, Issued, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{ManualClock, ManualMonotonicClock};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Admitted, Attempt, Denial, KeyCache, Requirement};
use keyward::{Builder, Keyward, scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const READ: Scope = scope!("read:editions");
const WRITE: Scope = scope!("write:editions");
const HOUR: Duration = Duration::from_secs(3_600);
const CLIENT: &str = "203.0.113.7";

type Verdict = Result<Admitted, Denial>;

struct Fixture {
    keyward: Keyward,
    store: MemoryStore,
    clock: ManualClock,
    monotonic: ManualMonotonicClock,
}

impl Fixture {
    async fn new() -> Self {
        Self::limited(RateLimiting::new()).await
    }

    async fn limited(limits: RateLimiting) -> Self {
        let monotonic = ManualMonotonicClock::new();
        let store = MemoryStore::new();
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let clock = ManualClock::new(start);
        let imported = ImportedKeys::under(Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap());
        let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
        let keyward = builder("acme", &store, &clock).imported_keys(imported.accept(legacy));
        let keyward = keyward
            .monotonic_clock(monotonic.clone())
            .rate_limiting(limits);
        Self {
            keyward: keyward.open().await.unwrap(),
            store,
            clock,
            monotonic,
        }
    }

    async fn issue(&self, key: NewKey) -> Issued {
        self.keyward.manager().issue(&actor(), key).await.unwrap()
    }

    /// Verifies once the cold way, and then a few times the warm way, which must say the same and allocate nothing.
    async fn costs_nothing(&self, what: &str, attempt: &Attempt<'_>, says: fn(&Verdict) -> bool) {
        let cold = self.keyward.verifier().verify(attempt).await;
        assert!(says(&cold), "{what}: {cold:?}");
        drop(cold);
        self.warm_costs_nothing(what, attempt, says);
    }

    fn warm_costs_nothing(&self, what: &str, attempt: &Attempt<'_>, says: fn(&Verdict) -> bool) {
        let verifier = self.keyward.verifier();
        for _ in 0..3 {
            let region = Region::new(ALLOCATOR);
            let verdict = verifier.try_verify(attempt);
            let is_said = verdict.as_ref().is_some_and(says);
            let decided = region.change();
            let shown = (!is_said).then(|| format!("{verdict:?}"));
            let region = Region::new(ALLOCATOR);
            drop(verdict);
            let dropped = region.change();
            assert_eq!(shown, None, "{what}");
            for (step, cost) in [("decided", decided), ("dropped", dropped)] {
                let calls = (cost.allocations, cost.reallocations, cost.deallocations);
                assert_eq!(calls, (0, 0, 0), "{what}, {step}");
            }
        }
    }
}

fn builder(prefix: &str, store: &MemoryStore, clock: &ManualClock) -> Builder {
    // More scopes than fit into one word.
    let many = (0..70).map(|n| format!("read:part{n}").parse::<Scope>().unwrap());
    Keyward::builder(store.clone())
        .format(KeyFormat::new(prefix).unwrap().environment("test").unwrap())
        .scopes([READ.described("Read"), WRITE.described("Write")])
        .scopes(many.map(|scope| scope.described("Read a part")))
        .policy(AllowAll)
        .clock(clock.clone())
        .cache(KeyCache::new().lease(KeyCache::MAX_LEASE))
}

fn actor() -> Actor {
    Actor::system("test")
}

fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

fn new_key(access: impl Into<Access>) -> NewKey {
    NewKey::new(tenant(), "a key with a title of some length", access)
}

fn network() -> Networks {
    Networks::only(["2001:db8::/32", "203.0.113.0/24"].map(|text| text.parse::<Network>().unwrap()))
        .unwrap()
}

fn projects() -> Resources {
    Resources::only(["project:p1", "project:p2"].map(|text| text.parse().unwrap())).unwrap()
}

fn text(key: &Issued) -> PresentedKey<'_> {
    key.api_key().presented()
}

#[tokio::test]
async fn a_warm_verdict_allocates_nothing() {
    let fixture = Fixture::new().await;
    it_would_show(&fixture).await;
    admitted(&fixture).await;
    refusals::unreadable(&fixture).await;
    refusals::not_this_key(&fixture).await;
    refusals::not_now(&fixture).await;
    refusals::not_from_there(&fixture).await;
    refusals::not_for_this(&fixture).await;
    refusals::in_flight(&fixture).await;
    limits::counted(&fixture).await;
    limits::refused(&fixture).await;
    refusals::without_a_clock(&fixture).await;
}

/// The one verdict that is documented to allocate: what the handler promised has to be kept somewhere.
async fn it_would_show(fixture: &Fixture) {
    let key = fixture.issue(new_key(READ)).await;
    let need = Requirement::scope(READ).checked_by_handler("project");
    let attempt = Attempt::new(text(&key), &need);
    assert!(fixture.keyward.verifier().verify(&attempt).await.is_ok());
    let region = Region::new(ALLOCATOR);
    let verdict = fixture.keyward.verifier().try_verify(&attempt);
    assert!(region.change().allocations > 0, "{verdict:?}");
}

async fn admitted(fixture: &Fixture) {
    let need = Requirement::scope(READ.or(WRITE)).resource("project");
    let (test, acme) = (Environment::new("test").unwrap(), tenant());
    let full = || {
        new_key([READ, WRITE])
            .expires_in(HOUR)
            .not_before(OffsetDateTime::UNIX_EPOCH)
            .networks(network())
            .resources(projects())
            .concurrency(NonZeroU32::new(2).unwrap())
    };
    let part: Scope = "read:part69".parse().unwrap();
    for (what, key, need) in [
        ("plain", new_key(READ), Requirement::scope(READ)),
        ("everything", full(), need),
        (
            "full access",
            new_key(Access::Full),
            Requirement::full_access(),
        ),
        ("scope 72", new_key(part.clone()), Requirement::scope(part)),
        (
            "a list",
            new_key(READ).resources(projects()),
            Requirement::scope(READ).filters("project"),
        ),
        (
            "expires within the coarse clock's lag",
            new_key(READ).expires_in(Duration::from_millis(50)),
            Requirement::any_key(),
        ),
    ] {
        let key = fixture.issue(key).await;
        let id = key.api_key().id().to_string();
        let pair = PresentedKey::pair(&id, key.api_key().expose_secret());
        for presented in [text(&key), pair] {
            let attempt = Attempt::new(presented, &need)
                .client(CLIENT.parse().unwrap())
                .tenant(&acme)
                .environment(&test);
            let attempt = match what {
                "everything" => attempt.resource("project", "p1").resource("project", "p2"),
                _ => attempt,
            };
            fixture.costs_nothing(what, &attempt, Result::is_ok).await;
        }
    }
}
