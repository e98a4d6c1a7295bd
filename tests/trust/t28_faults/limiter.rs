//! Faults of the limiter, and of the source of plans. There is no choice that says *allow*.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyward::Keyward;
use keyward::key::{Networks, PresentedKey, Quota, RevokeReason, TenantId};
use keyward::limiter::{
    Charge, Limit, LimitState, Limiter, LimiterError, LocalLimiter, Meter, PlanBook, PlanError,
    PlanFallback, RateLimiting, TakeError, Taken, TenantPlan, Tick,
};
use keyward::manager::NewKey;
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

use crate::common::{READ, WRITE, actor, builder, clock, new_key, tenant};

/// How the limiter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Full,
    TimedOut,
    Unavailable,
    /// It never answers.
    Hangs,
}

/// A limiter of which one call fails.
#[derive(Debug, Clone)]
struct FaultyLimiter {
    inner: LocalLimiter,
    fails: Fails,
    /// Whether it counts by I/O.
    is_remote: bool,
    call: u64,
    calls: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FaultyMeter {
    inner: Arc<dyn Meter>,
    of: FaultyLimiter,
}

impl Limiter for FaultyLimiter {
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter> {
        Arc::new(FaultyMeter {
            inner: self.inner.meter(limits),
            of: self.clone(),
        })
    }
}

impl FaultyMeter {
    /// Returns how this call fails; `None` if it does not.
    fn fault(&self) -> Option<Fails> {
        let call = self.of.calls.fetch_add(1, Ordering::SeqCst);
        (call == self.of.call).then_some(self.of.fails)
    }
}

fn error(fails: Fails) -> TakeError {
    TakeError::Failed(match fails {
        Fails::Full => LimiterError::Full,
        Fails::TimedOut | Fails::Hangs => LimiterError::TimedOut,
        Fails::Unavailable => LimiterError::Unavailable(Arc::new(std::io::Error::other("planted"))),
    })
}

#[async_trait]
impl Meter for FaultyMeter {
    fn limits(&self) -> &[Limit] {
        self.inner.limits()
    }

    fn try_take(&self, now: Tick, charge: Charge) -> Option<Result<Taken, TakeError>> {
        if self.of.is_remote {
            return None;
        }
        match self.fault() {
            Some(fails) => Some(Err(error(fails))),
            None => self.inner.try_take(now, charge),
        }
    }

    async fn take(&self, now: Tick, charge: Charge) -> Result<Taken, TakeError> {
        match self.fault() {
            Some(Fails::Hangs) => std::future::pending().await,
            Some(fails) => Err(error(fails)),
            None => self.inner.try_take(now, charge).unwrap(),
        }
    }

    fn settle(&self, now: Tick, taken: Taken, cost: u32) {
        self.inner.settle(now, taken, cost);
    }

    fn release(&self, taken: Taken) {
        self.inner.release(taken);
    }

    fn states(&self, now: Tick, cost: u32) -> Vec<LimitState> {
        self.inner.states(now, cost)
    }
}

/// A source of plans that fails, or never answers.
#[derive(Debug)]
struct FaultyBook {
    hangs: bool,
}

#[async_trait]
impl PlanBook for FaultyBook {
    async fn plan_of(&self, _: &TenantId) -> Result<TenantPlan, PlanError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(PlanError::new("planted"))
    }
}

fn limited() -> NewKey {
    let ten = NonZeroU32::new(10).unwrap();
    let quota = Quota::new("minute", ten, Duration::from_secs(60)).unwrap();
    new_key().quota(quota).concurrency(NonZeroU32::MIN)
}

async fn open(settings: RateLimiting) -> Keyward {
    builder(MemoryStore::new(), clock())
        .rate_limiting(settings.deadline(Duration::from_millis(1)))
        .open()
        .await
        .unwrap()
}

/// Sends requests that must be refused, and some that a good key makes, and returns the classes of the refusals of the
/// latter; `None` for a grant.
async fn run(keyward: &Keyward, what: &str) -> Vec<Option<DenialClass>> {
    let (manager, verifier) = (keyward.manager(), keyward.verifier());
    let issue = |key| async { manager.issue(&actor(), key).await.unwrap() };
    let [good, revoked] = [issue(limited()).await, issue(limited()).await];
    let abroad = Networks::only(["203.0.113.0/24".parse().unwrap()]).unwrap();
    let abroad = issue(limited().networks(abroad)).await;
    let id = revoked.record().id();
    manager
        .revoke(&actor(), &tenant(), id, RevokeReason::Leaked)
        .await
        .unwrap();
    let (read, write) = (Requirement::scope(READ), Requirement::scope(WRITE));
    let costly = Requirement::scope(READ).cost(NonZeroU32::MAX);
    let right_id = good.record().id().to_string();
    let wrong = PresentedKey::pair(&right_id, revoked.api_key().expose_secret());
    let refusals = [
        Attempt::new(revoked.api_key().presented(), &read),
        Attempt::new(abroad.api_key().presented(), &read),
        Attempt::new(good.api_key().presented(), &write),
        Attempt::new(good.api_key().presented(), &costly),
        Attempt::new(wrong, &read),
    ];
    let mut seen = Vec::new();
    for _ in 0..4 {
        for attempt in &refusals {
            let verdict = verifier.verify(attempt).await;
            assert!(verdict.is_err(), "{what}");
        }
        let attempt = Attempt::new(good.api_key().presented(), &read);
        let verdict = verifier.verify(&attempt).await.map(drop);
        seen.push(verdict.err().map(|denial| {
            let reason = denial.reason();
            let is_of_limits = matches!(reason, DenialReason::Limiter(_) | DenialReason::Plan(_));
            assert!(is_of_limits, "{what}: {reason}");
            denial.class()
        }));
    }
    seen
}

#[tokio::test]
async fn a_failing_limiter_never_grants() {
    for fails in [
        Fails::Full,
        Fails::TimedOut,
        Fails::Unavailable,
        Fails::Hangs,
    ] {
        for is_remote in [true, false] {
            for call in 0..8 {
                let what = format!("{fails:?} at {call}, remote {is_remote}");
                let limiter = FaultyLimiter {
                    inner: LocalLimiter::new(),
                    fails,
                    is_remote,
                    call,
                    calls: Arc::default(),
                };
                let calls = Arc::clone(&limiter.calls);
                let keyward = open(RateLimiting::new().limiter(limiter)).await;
                let seen = run(&keyward, &what).await;
                let refused: Vec<_> = seen.iter().flatten().collect();
                assert!(refused.len() <= 1, "{what}: {seen:?}");
                assert!(
                    refused
                        .iter()
                        .all(|class| **class == DenialClass::Undecidable)
                );
                assert_eq!(keyward.verifier().stats().limits_unknown, 1, "{what}");
                assert!(calls.load(Ordering::SeqCst) > call, "{what}: it did fail");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_plan_never_grants() {
    for hangs in [true, false] {
        for fallback in [PlanFallback::LastKnown, PlanFallback::Undecidable] {
            let book = FaultyBook { hangs };
            let settings = RateLimiting::new().plans(book, Duration::from_secs(60), fallback);
            let seen = run(&open(settings).await, "a plan").await;
            assert_eq!(seen, [Some(DenialClass::Undecidable); 4]);
        }
    }
}
