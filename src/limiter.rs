//! Counting requests against limits.
//!
//! # Which limits apply to a request?
//! All of these together, and each must hold:
//! - the key's own: its [quotas](crate::manager::NewKey::quota) and its limit on concurrent requests;
//! - the route's: [`Requirement::quota`](crate::verifier::Requirement::quota);
//! - those of the tenant's [plan](TenantPlan), if the application has a [source](PlanBook) of them.
//!
//! A quota counts each key apart, or all requests of a [lineage, an owner or a tenant](crate::key::QuotaSubject)
//! together.
//!
//! # Which requests count?
//! The requests that are admitted, last of all checks. A request that is refused uses nothing of any limit (except that
//! a limiter with I/O may have counted one that it did not answer in time). A request may
//! [cost](crate::verifier::Requirement::cost) more than one. If its cost is known only when it is done, an
//! [estimate](crate::verifier::Requirement::estimate) is taken and settled afterwards.
//!
//! # Where is it counted, and how strictly?
//! In a [`Limiter`]. The default is [`LocalLimiter`], which counts in this process's memory: several nodes together
//! admit several times as much. Never more than a quota's limit is admitted in any interval of its window's length,
//! and no request is refused later than a sixtieth of the window after an exact log of all requests would have
//! admitted it. Time is that of the [monotonic clock](crate::Builder::monotonic_clock): a wall clock that is set
//! changes nothing.
//!
//! A limiter of your own implements two small traits, [`Limiter`] and [`Meter`].

mod failures;
mod local;
mod metering;
mod plan;
mod ring;
mod settings;

pub(crate) use self::failures::{Begun, Failures, Place};
pub use self::local::LocalLimiter;
pub(crate) use self::metering::{Limiting, Metered, ParkedMeters, PlanMissing, RouteQuotas};
pub(crate) use self::plan::put;
pub use self::plan::{PlanBook, PlanError, PlanFallback, TenantPlan};
pub use self::settings::RateLimiting;

use std::error::Error;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::codes::codes;
use crate::key::{KeyId, Principal, Quota, TenantId};

/// Counts requests against limits.
///
/// # Contract
/// Two meters of limits with the same [subject](Limit::subject), [source](Limit::source) and
/// [name](Limit::name) count together, whatever their numbers, and for as long as anything that one of them counted
/// is in its window. A limit that changes applies at once, also to earlier requests.
pub trait Limiter: Debug + Send + Sync + 'static {
    /// Returns the meter of requests that these limits apply to.
    ///
    /// The verifier keeps it with the cached key, and asks again after a change of the key, its plan or the route. It
    /// calls with a lock held: the call must not wait.
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter>;

    /// Frees some memory of subjects without use in any window, and returns whether there may be more. The [background
    /// work](crate::Keyward::background) calls it each second, again and again until there is none.
    fn sweep(&self, now: Tick) -> bool {
        let _ = now;
        false
    }
}

/// Counts the requests that the same limits apply to.
#[async_trait]
pub trait Meter: Debug + Send + Sync + 'static {
    /// Returns the limits, in the order that [`LimitSet`]s refer to.
    fn limits(&self) -> &[Limit];

    /// Takes a charge of all limits or of none; `None` if that takes I/O. A meter that may return `None` implements
    /// [`take`](Self::take), too.
    ///
    /// The verifier calls with a lock held: the call must not wait.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    fn try_take(&self, now: Tick, charge: Charge) -> Option<Result<Taken, TakeError>>;

    /// Takes a charge of all limits or of none.
    ///
    /// # Errors
    /// [`TakeError`] if a limit does not have it, or if the limiter cannot tell.
    ///
    /// # Cancellation
    /// The verifier drops the future at its [deadline](RateLimiting::deadline). If the limiter cannot tell then whether
    /// the charge was taken, it counts as taken, but a place among the concurrent requests must not stay taken for
    /// ever.
    async fn take(&self, now: Tick, charge: Charge) -> Result<Taken, TakeError> {
        let taken = self.try_take(now, charge);
        taken.unwrap_or_else(|| Err(TakeError::Failed(LimiterError::TimedOut)))
    }

    /// Corrects the cost of a charge that was taken to the true cost, which may be more than a limit has
    /// left. It is called at most once for a charge, before [`release`](Self::release), and must not wait.
    fn settle(&self, now: Tick, taken: Taken, cost: u32);

    /// Gives back the place among the concurrent requests. It is called once for each charge that took one, and must
    /// not wait.
    fn release(&self, taken: Taken);

    /// Returns the state of each limit, in their order, for a request of this cost. It takes nothing. A limiter that
    /// counts elsewhere returns the states as it last knew them.
    fn states(&self, now: Tick, cost: u32) -> Vec<LimitState>;
}

/// An instant of the [monotonic clock](crate::Builder::monotonic_clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// Creates an instant from nanoseconds of the monotonic clock.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds of the monotonic clock.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// A limit on the requests of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// The requests that are counted together.
    pub subject: Subject,
    /// Who set it. Limits of different sources count apart, even under the same name.
    pub source: LimitSource,
    /// The limit.
    pub rule: LimitRule,
}

/// The requests that a limit counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Those of a key of this tenant.
    Key(TenantId, KeyId),
    /// Those of all keys of a lineage of this tenant, which has the id of its first key.
    Lineage(TenantId, KeyId),
    /// Those of all keys of an owner in this tenant.
    Owner(TenantId, Principal),
    /// Those of all keys of this tenant.
    Tenant(TenantId),
}

impl Subject {
    /// Returns the tenant that the subject belongs to.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        match self {
            Self::Key(tenant, _)
            | Self::Lineage(tenant, _)
            | Self::Owner(tenant, _)
            | Self::Tenant(tenant) => tenant,
        }
    }
}

/// Who set a limit, as far as it is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitSource {
    /// The key, or its tenant's plan for each key apart.
    Key,
    /// The tenant's plan, for several keys together.
    Plan,
    /// The route.
    Route,
}

/// A limit's kind, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitRule {
    /// At most so much in any window.
    Quota(Quota),
    /// At most so many requests at once.
    Concurrency(NonZeroU32),
}

impl Limit {
    /// Creates a limit.
    #[must_use]
    pub fn new(subject: Subject, source: LimitSource, rule: LimitRule) -> Self {
        Self {
            subject,
            source,
            rule,
        }
    }

    /// Returns the name: the quota's, or `concurrency`.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.rule {
            LimitRule::Quota(quota) => quota.name(),
            LimitRule::Concurrency(_) => Quota::CONCURRENCY,
        }
    }

    /// Returns the largest number.
    #[must_use]
    pub fn most(&self) -> NonZeroU32 {
        match &self.rule {
            LimitRule::Quota(quota) => quota.limit(),
            LimitRule::Concurrency(most) => *most,
        }
    }
}

/// The use that one request makes of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// The cost, taken of each quota; 0 takes nothing.
    pub cost: u32,
    /// Whether it takes a place among the concurrent requests.
    pub counts_in_flight: bool,
}

impl Charge {
    /// Creates a charge.
    #[must_use]
    pub const fn new(cost: u32, counts_in_flight: bool) -> Self {
        Self {
            cost,
            counts_in_flight,
        }
    }
}

/// A charge that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "its place among the concurrent requests stays taken until it is released"]
#[non_exhaustive]
pub struct Taken {
    /// The instant at which it counts.
    pub at: Tick,
    /// The charge.
    pub charge: Charge,
    /// A number by which a limiter that counts elsewhere finds the charge again. Only the limiter reads it.
    pub token: u64,
}

impl Taken {
    /// Records that a charge was taken.
    pub const fn new(at: Tick, charge: Charge, token: u64) -> Self {
        Self { at, charge, token }
    }
}

/// Limits of a meter, by their index in [`Meter::limits`].
///
/// It holds indices below 64. A request has no more limits than that, as long as no list of quotas is longer than 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitSet(u64);

impl LimitSet {
    /// Adds a limit.
    pub fn insert(&mut self, index: usize) {
        if index < 64 {
            self.0 |= 1 << index;
        }
    }

    /// Returns whether a limit is in the set.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        index < 64 && self.0 & (1 << index) != 0
    }

    /// Returns whether no limit is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the lowest index in the set.
    #[must_use]
    pub fn first(self) -> Option<usize> {
        usize::try_from(self.0.trailing_zeros())
            .ok()
            .filter(|_| self.0 != 0)
    }
}

/// Why a charge was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Quotas do not have this much left.
    #[error("a quota is used up")]
    Exceeded {
        /// Those quotas.
        limits: LimitSet,
        /// How long until all of them have it, if nothing more is taken.
        retry_after: Duration,
    },
    /// As many requests as allowed are in flight.
    #[error("the maximum number of requests is in flight")]
    TooManyInFlight {
        /// The limits on concurrent requests.
        limits: LimitSet,
    },
    /// The cost is above a quota's limit, so that it can never be taken.
    #[error("the cost of the request is above a quota's limit")]
    CostAboveLimit {
        /// Those quotas.
        limits: LimitSet,
    },
    /// The limiter cannot tell.
    #[error(transparent)]
    Failed(#[from] LimiterError),
}

codes! {
    TakeError;
    Self::Exceeded { .. } => "quota_exceeded",
    Self::TooManyInFlight { .. } => "too_many_in_flight",
    Self::CostAboveLimit { .. } => "cost_above_limit",
    @ Self::Failed(error) => error.code_inside(), of LimiterError::codes_inside(),
}

/// Why a limiter cannot tell whether a request is within its limits.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LimiterError {
    /// Its memory is used up by subjects whose windows still count: see [`LocalLimiter::with_max_bytes`].
    #[error("the limiter's memory is used up")]
    Full,
    /// It did not answer by the [deadline](RateLimiting::deadline).
    #[error("the limiter did not answer in time")]
    TimedOut,
    /// Its server cannot be reached, or failed.
    #[error("the limiter is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

codes! {
    LimiterError, inside "limiter_";
    Self::Full => "full",
    Self::TimedOut => "timed_out",
    Self::Unavailable(_) => "unavailable",
}

/// The state of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitState {
    /// The limit.
    pub limit: Limit,
    /// How much is left, in requests or in the unit of their costs.
    pub remaining: u32,
    /// How long until a request of the cost that was asked for is within this quota and more is left than now, if
    /// nothing else is taken. Zero if the whole limit is left, and for a limit on concurrent requests.
    pub reset_after: Duration,
}

impl LimitState {
    pub(crate) fn is_quota(&self) -> bool {
        matches!(self.limit.rule, LimitRule::Quota(_))
    }

    /// Returns the part of the limit that is used, in millionths.
    pub(crate) fn used_millionths(&self) -> u32 {
        let most = u64::from(self.limit.most().get());
        let used = most.saturating_sub(self.remaining.into());
        u32::try_from(used * 1_000_000 / most).unwrap_or(u32::MAX)
    }

    /// Records a state. `remaining` is capped at the limit.
    #[must_use]
    pub fn new(limit: Limit, remaining: u32, reset_after: Duration) -> Self {
        Self {
            remaining: remaining.min(limit.most().get()),
            limit,
            reset_after,
        }
    }
}
