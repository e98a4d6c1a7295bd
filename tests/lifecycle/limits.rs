//! Requests that are counted against limits, through changes of keys, plans and caches.

mod bad_input;
mod changes;
mod memory;
mod plans;
mod refusals;
mod settling;
mod slow;

use std::num::NonZeroU32;

use keyward::Builder;
use keyward::key::{ApiKey, Quota};
use keyward::limiter::{LimitState, LocalLimiter, RateLimiting};
use keyward::manager::NewKey;
use keyward::testkit::ManualMonotonicClock;
use keyward::verifier::{Attempt, Denial, DenialReason, Grant, Requirement};

use crate::common::*;

/// A Keyward that counts in a limiter, on a monotonic clock, that the test holds.
struct World {
    fixture: Fixture,
    elapsed: ManualMonotonicClock,
    limiter: LocalLimiter,
}

impl World {
    async fn new() -> Self {
        Self::with(|limits| limits, |builder| builder).await
    }

    async fn with(
        limits: impl FnOnce(RateLimiting) -> RateLimiting,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let (elapsed, limiter) = (ManualMonotonicClock::new(), LocalLimiter::new());
        elapsed.advance(DAY);
        let limits = limits(RateLimiting::new().limiter(limiter.clone()));
        let fixture = Fixture::with(|builder| {
            more(
                builder
                    .monotonic_clock(elapsed.clone())
                    .rate_limiting(limits),
            )
        });
        Self {
            fixture: fixture.await,
            elapsed,
            limiter,
        }
    }

    async fn issue(&self, key: NewKey) -> ApiKey {
        self.fixture.issue_key(key).await.into_parts().0
    }

    /// Sends a request.
    async fn send(&self, key: &ApiKey, need: &Requirement) -> Result<(), Denial> {
        let attempt = Attempt::new(key.presented(), need);
        let verdict = self.fixture.keyward.verifier().verify(&attempt).await;
        verdict.map(drop)
    }

    /// Sends requests until a quota refuses one, and returns how many were admitted.
    async fn use_up(&self, key: &ApiKey, need: &Requirement) -> u32 {
        let mut admitted = 0;
        loop {
            match self.send(key, need).await {
                Ok(()) => admitted += 1,
                Err(denial) => match denial.reason() {
                    DenialReason::QuotaExceeded { .. } => return admitted,
                    other => panic!("{other}"),
                },
            }
        }
    }

    /// Admits a request that uses nothing of the quotas.
    async fn grant(&self, key: &ApiKey, need: &Requirement) -> Grant {
        let attempt = Attempt::new(key.presented(), need).count_later();
        let verdict = self.fixture.keyward.verifier().verify(&attempt).await;
        verdict.unwrap().into_parts().0
    }

    async fn states(&self, key: &ApiKey, need: &Requirement) -> Vec<LimitState> {
        let grant = self.grant(key, need).await;
        let verifier = self.fixture.keyward.verifier();
        verifier.limits_of(&grant, need).await.unwrap()
    }

    /// What remains of each limit.
    async fn left(&self, key: &ApiKey, need: &Requirement) -> Vec<u32> {
        let states = self.states(key, need).await.into_iter();
        states.map(|state| state.remaining).collect()
    }
}

fn any() -> Requirement {
    Requirement::any_key()
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn quota(name: &str, limit: u32, seconds: u64) -> Quota {
    let window = std::time::Duration::from_secs(seconds);
    Quota::new(name, number(limit), window).unwrap()
}

fn is_undecidable(verdict: &Result<(), Denial>) -> bool {
    let class = verdict.as_ref().err().map(Denial::class);
    class == Some(keyward::verifier::DenialClass::Undecidable)
}
