//! A limiter that counts by I/O, as one with a server does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keyward::limiter::{
    Charge, Limit, LimitState, Limiter, LimiterError, LocalLimiter, Meter, TakeError, Taken, Tick,
};
use tokio::sync::Semaphore;

/// How a call is answered.
#[derive(Debug, Clone)]
pub(super) enum Answers {
    /// After so many polls.
    After(u32),
    /// Once the semaphore has a permit for it.
    Gated(Arc<Semaphore>),
    Never,
    Fails,
}

/// Counts in a limiter of this process, after a wait.
#[derive(Debug, Clone)]
pub(super) struct SlowLimiter {
    inner: LocalLimiter,
    answers: Answers,
    /// Calls that have begun.
    pub(super) calls: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowMeter {
    inner: Arc<dyn Meter>,
    of: SlowLimiter,
}

impl SlowLimiter {
    pub(super) fn over(inner: &LocalLimiter, answers: Answers) -> Self {
        Self {
            inner: inner.clone(),
            answers,
            calls: Arc::default(),
        }
    }
}

impl Limiter for SlowLimiter {
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter> {
        Arc::new(SlowMeter {
            inner: self.inner.meter(limits),
            of: self.clone(),
        })
    }
}

#[keyward::async_trait]
impl Meter for SlowMeter {
    fn limits(&self) -> &[Limit] {
        self.inner.limits()
    }

    fn try_take(&self, _: Tick, _: Charge) -> Option<Result<Taken, TakeError>> {
        None
    }

    async fn take(&self, now: Tick, charge: Charge) -> Result<Taken, TakeError> {
        self.of.calls.fetch_add(1, Ordering::SeqCst);
        match &self.of.answers {
            Answers::After(polls) => {
                for _ in 0..*polls {
                    tokio::task::yield_now().await;
                }
            }
            Answers::Gated(gate) => gate.acquire().await.unwrap().forget(),
            Answers::Never => std::future::pending().await,
            Answers::Fails => {
                let why = Arc::new(std::io::Error::other("away"));
                return Err(LimiterError::Unavailable(why).into());
            }
        }
        self.inner.try_take(now, charge).unwrap()
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
