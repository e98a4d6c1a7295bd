//! The settings of limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{PlanBook, PlanFallback, PlanSource, TenantPlan};
use super::{Limiter, LocalLimiter};

/// How requests are counted against limits, and the source of tenants' plans.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::{key::Quota, limiter::{RateLimiting, TenantPlan}};
///
/// // 100 requests a minute for each key that has no quota of its own named `minute`.
/// let hundred = NonZeroU32::new(100).ok_or("zero")?;
/// let default = Quota::new("minute", hundred, Duration::from_secs(60))?;
/// let limited = RateLimiting::new().plan_for_all(TenantPlan::new().quota(default));
/// # let _ = limited;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "settings do nothing until a builder has them"]
pub struct RateLimiting {
    pub(super) limiter: Arc<dyn Limiter>,
    pub(super) deadline: Duration,
    pub(super) plans: Option<PlanSource>,
    pub(super) failures: Option<NonZeroU32>,
}

impl RateLimiting {
    /// The default of [`failed_authentications`](Self::failed_authentications): 100.
    pub const DEFAULT_FAILED_AUTHENTICATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

    /// Counts in [this process's memory](LocalLimiter), without plans, with a deadline of 100 milliseconds.
    pub fn new() -> Self {
        Self {
            limiter: Arc::new(LocalLimiter::new()),
            deadline: Duration::from_millis(100),
            plans: None,
            failures: Some(Self::DEFAULT_FAILED_AUTHENTICATIONS),
        }
    }

    /// Counts in this limiter.
    pub fn limiter(mut self, limiter: impl Limiter) -> Self {
        self.limiter = Arc::new(limiter);
        self
    }

    /// Sets how long a request waits for the limiter, and for its tenant's plan. After that it is undecidable, except
    /// as [`PlanFallback`] says.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Gives all tenants this plan, such as a default quota for each key without one of its own.
    ///
    /// A quota of the plan is a default [by its name](TenantPlan::quota).
    #[doc(alias = "default_quota")]
    pub fn plan_for_all(mut self, plan: TenantPlan) -> Self {
        self.plans = Some(PlanSource::Same(plan));
        self
    }

    /// Takes each tenant's plan from this source.
    ///
    /// A plan holds for `max_age` after it was read, or for the [deadline](Self::deadline) if that is longer. From
    /// half of that on, the next request begins to read it again in the background, and waits for nothing. A request
    /// that finds it older waits for the read, until the deadline; after that, and until the source answers again,
    /// `fallback` decides.
    pub fn plans(mut self, book: impl PlanBook, max_age: Duration, fallback: PlanFallback) -> Self {
        let book = Arc::new(book);
        self.plans = Some(PlanSource::Book {
            book,
            max_age,
            fallback,
        });
        self
    }

    /// Sets how many authentications from one IPv4 address, or from one IPv6 /64, may fail in any minute; `None`: any
    /// number.
    ///
    /// An IPv6 /56 may have four times as many, and a /48 sixteen times. A client that has had them is refused
    /// ([`TooManyFailures`], 429) until the oldest are a minute ago, at most a second later. This counts on each node,
    /// in some 12 MB at most, which is enough for 65,536 addresses and networks. Beyond that, those with the fewest
    /// failures are forgotten.
    ///
    /// # Which requests are limited?
    /// Those that take a read of the store or a hash: their key is unknown to this node, or its secret was not proven
    /// here. A key that was proven here is decided as ever while it is [cached](crate::verifier::KeyCache), so that
    /// clients lose nothing which share an address with an attacker. An authentication has failed if there is no key
    /// with this id, or the secret is wrong. Nothing else counts: no success, no credential that cannot be read, no key
    /// that has expired or is revoked, no request that is undecidable, or is given up by the caller.
    ///
    /// Of one address, no more are in progress at once than may still fail. Others wait for their turn.
    ///
    /// # Which address is it?
    /// The [client's](crate::verifier::Attempt::client). Without one, nothing is limited. Behind a proxy that is not
    /// [configured](crate::http::Edge::trust_proxies), all clients have one address: there the limit is off for
    /// requests with a forwarding header, as [`Proxies`](crate::http::Proxies) describes. If a proxy or a load
    /// balancer adds no such header and hides the client's address, switch the limit off.
    ///
    /// [`TooManyFailures`]: crate::verifier::DenialReason::TooManyFailures
    pub fn failed_authentications(mut self, most: Option<NonZeroU32>) -> Self {
        self.failures = most;
        self
    }
}

impl Default for RateLimiting {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RateLimiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiting")
            .field("limiter", &self.limiter)
            .field("deadline", &self.deadline)
            .field("plans", &self.plans)
            .field("failed_authentications", &self.failures)
            .finish()
    }
}
