//! The settings of limits, and the meters of cached keys.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::failures::Failures;
use super::plan::{KnownPlan, PlanBook, PlanError, PlanFallback, PlanSource, Plans, TenantPlan};
use super::{
    Charge, Limit, LimitRule, LimitSource, Limiter, LimiterError, LocalLimiter, Meter, Subject,
    TakeError, Taken, Tick,
};
use crate::key::{KeyRecord, Quota, QuotaSubject};
use crate::sync::within;

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
    limiter: Arc<dyn Limiter>,
    deadline: Duration,
    plans: Option<PlanSource>,
    failures: Option<NonZeroU32>,
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

    /// Gives all tenants this plan, such as a default quota for each key that has none of its own.
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

/// Finds the meters of requests.
pub(crate) struct Limiting {
    pub(crate) limiter: Arc<dyn Limiter>,
    /// `None`: failed authentications are not limited.
    pub(crate) failures: Option<Failures>,
    deadline: Duration,
    plans: Option<Arc<Plans>>,
}

/// A route's own quotas. Clones are the same quotas.
pub(crate) type RouteQuotas = Arc<[Quota]>;

/// The meters that a cached key was last counted with.
pub(crate) struct ParkedMeters {
    plan: Option<ParkedPlan>,
    /// One for each route with quotas, and one for all others. `None`: there is no limit.
    made: Vec<(MadeFor, Option<Arc<dyn Meter>>)>,
}

/// The requests that a meter was made for.
struct MadeFor {
    route: Option<RouteQuotas>,
    is_inner: bool,
}

struct ParkedPlan {
    entry: Arc<KnownPlan>,
    version: u64,
    /// The plan holds until then, in nanoseconds, without a look at it.
    holds_until: u64,
    plan: Arc<TenantPlan>,
}

/// Meters that a cached key keeps, at most. A further route takes the place of the first.
const MOST_PARKED: usize = 16;

/// The plan of the key's tenant has to be read first.
#[derive(Debug)]
pub(crate) struct PlanMissing;

impl Limiting {
    pub(crate) fn new(limits: RateLimiting) -> Self {
        let RateLimiting {
            limiter,
            deadline,
            plans,
            failures,
        } = limits;
        let plans = plans.map(|source| Plans::new(source, deadline));
        Self {
            limiter,
            failures: failures.map(Failures::new),
            deadline,
            plans: plans.map(Arc::new),
        }
    }

    /// Returns whether a key without limits of its own may have some of its tenant's.
    #[inline]
    pub(crate) fn has_plans(&self) -> bool {
        self.plans.is_some()
    }

    /// Returns the meter of requests with this key on a route with these quotas; `None` if no limit applies.
    ///
    /// # Errors
    /// [`PlanMissing`] if the plan has to be [loaded](Self::load_plan) first.
    #[inline(always)]
    pub(crate) fn meter<'a>(
        &self,
        parked: &'a mut Option<Box<ParkedMeters>>,
        record: &KeyRecord,
        route: Option<&RouteQuotas>,
        now: u64,
    ) -> Result<Option<&'a Arc<dyn Meter>>, PlanMissing> {
        self.meter_for(parked, record, route, false, now)
    }

    /// Returns the meter of requests at a guard inside another one: of the quotas of its route alone.
    ///
    /// # Errors
    /// As for [`meter`](Self::meter).
    pub(crate) fn inner_meter<'a>(
        &self,
        parked: &'a mut Option<Box<ParkedMeters>>,
        record: &KeyRecord,
        route: &RouteQuotas,
        now: u64,
    ) -> Result<Option<&'a Arc<dyn Meter>>, PlanMissing> {
        self.meter_for(parked, record, Some(route), true, now)
    }

    #[inline(always)]
    fn meter_for<'a>(
        &self,
        parked: &'a mut Option<Box<ParkedMeters>>,
        record: &KeyRecord,
        route: Option<&RouteQuotas>,
        is_inner: bool,
        now: u64,
    ) -> Result<Option<&'a Arc<dyn Meter>>, PlanMissing> {
        let parked = parked.get_or_insert_with(ParkedMeters::none);
        if let Some(plans) = &self.plans {
            if !parked.plan.as_ref().is_some_and(|plan| plan.holds(now)) {
                parked.renew_plan(plans, record, now)?;
            }
        }
        let index = parked.index_of(route, is_inner);
        let index = index.unwrap_or_else(|| self.make(parked, record, route, is_inner));
        Ok(parked.made.get(index).and_then(|(_, meter)| meter.as_ref()))
    }

    #[cold]
    fn make(
        &self,
        parked: &mut ParkedMeters,
        record: &KeyRecord,
        route: Option<&RouteQuotas>,
        is_inner: bool,
    ) -> usize {
        let plan = parked.plan.as_ref().map(|plan| &*plan.plan);
        let mut limits = limits_of(record, plan, route.map_or(&[], |route| route));
        limits.retain(|limit| !is_inner || limit.source == LimitSource::Route);
        let meter = (!limits.is_empty()).then(|| self.limiter.meter(limits));
        if parked.made.len() >= MOST_PARKED {
            parked.made.remove(0);
        }
        let route = route.cloned();
        parked.made.push((MadeFor { route, is_inner }, meter));
        parked.made.len() - 1
    }

    /// Reads the plan of the key's tenant, so that it holds now.
    pub(crate) async fn load_plan(&self, record: &KeyRecord, now: u64) -> Result<(), PlanError> {
        if let Some(plans) = &self.plans {
            let entry = plans.entry(record.tenant());
            plans.load(record.tenant(), &entry, now).await?;
        }
        Ok(())
    }

    /// Takes a charge of a meter that takes I/O.
    pub(crate) async fn take(
        &self,
        meter: &Arc<dyn Meter>,
        now: u64,
        charge: Charge,
    ) -> Result<Taken, TakeError> {
        let taken = within(self.deadline, meter.take(Tick::from_nanos(now), charge)).await;
        taken.unwrap_or_else(|| Err(LimiterError::TimedOut.into()))
    }

    /// Makes every plan be read again before its next use.
    pub(crate) fn forget_plans(&self) {
        if let Some(plans) = &self.plans {
            plans.forget_all();
        }
    }
}

impl ParkedMeters {
    #[cold]
    fn none() -> Box<Self> {
        Box::new(Self {
            plan: None,
            made: Vec::with_capacity(1),
        })
    }

    #[inline]
    fn index_of(&self, route: Option<&RouteQuotas>, is_inner: bool) -> Option<usize> {
        self.made.iter().position(|(made_for, _)| {
            let is_same = match (&made_for.route, route) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            is_same && made_for.is_inner == is_inner
        })
    }

    /// Takes up the plan that holds now, and drops the meters that were made for another.
    #[cold]
    fn renew_plan(
        &mut self,
        plans: &Arc<Plans>,
        record: &KeyRecord,
        now: u64,
    ) -> Result<(), PlanMissing> {
        let tenant = record.tenant();
        let entry = match &self.plan {
            Some(parked) => Arc::clone(&parked.entry),
            None => plans.entry(tenant),
        };
        // Before the plan: if it changes in between, it is looked at again.
        let version = entry.version();
        let Some((plan, holds_until)) = plans.current(tenant, &entry, now) else {
            return Err(PlanMissing);
        };
        let parked = self.plan.as_ref();
        let is_same = parked.is_some_and(|parked| Arc::ptr_eq(&parked.plan, &plan));
        if !is_same {
            self.made.clear();
        }
        self.plan = Some(ParkedPlan {
            entry,
            version,
            holds_until,
            plan,
        });
        Ok(())
    }

    /// Returns the meters.
    pub(crate) fn meters(&self) -> impl Iterator<Item = &Arc<dyn Meter>> {
        self.made.iter().filter_map(|(_, meter)| meter.as_ref())
    }
}

impl ParkedPlan {
    #[inline]
    fn holds(&self, now: u64) -> bool {
        now < self.holds_until && self.version == self.entry.version()
    }
}

/// Returns the limits that apply to requests with a key on a route.
fn limits_of(record: &KeyRecord, plan: Option<&TenantPlan>, route: &[Quota]) -> Vec<Limit> {
    let own = record.restrictions();
    let limit = |source: LimitSource, quota: &Quota| {
        let tenant = record.tenant().clone();
        let subject = match quota.subject() {
            QuotaSubject::Key => Subject::Key(tenant, record.id()),
            QuotaSubject::Lineage => Subject::Lineage(tenant, record.lineage()),
            QuotaSubject::Owner => Subject::Owner(tenant, record.owner().clone()),
            QuotaSubject::Tenant => Subject::Tenant(tenant),
        };
        Limit::new(subject, source, LimitRule::Quota(quota.clone()))
    };
    let mut limits: Vec<Limit> = own
        .quotas
        .iter()
        .map(|quota| limit(LimitSource::Key, quota))
        .collect();
    if let Some(plan) = plan {
        let is_replaced = |quota: &Quota| {
            let mut named = own.quotas.iter().map(Quota::name);
            quota.subject() == QuotaSubject::Key && named.any(|name| name == quota.name())
        };
        let applied = plan.quotas().iter().filter(|quota| !is_replaced(quota));
        limits.extend(applied.map(|quota| match quota.subject() {
            // As the key's own, whose place it can take: earlier requests still count.
            QuotaSubject::Key => limit(LimitSource::Key, quota),
            _ => limit(LimitSource::Plan, quota),
        }));
    }
    let of_route = |quota| plan.map_or(quota, |plan| plan.of_route(quota));
    limits.extend(
        route
            .iter()
            .map(|quota| limit(LimitSource::Route, of_route(quota))),
    );
    let most_at_once: Option<NonZeroU32> = own.concurrency.or_else(|| plan?.most_at_once());
    if let Some(most) = most_at_once {
        let subject = Subject::Key(record.tenant().clone(), record.id());
        limits.push(Limit::new(
            subject,
            LimitSource::Key,
            LimitRule::Concurrency(most),
        ));
    }
    limits
}

/// A charge that was taken of a meter. Dropping it gives its place back, and, unless the request is served, its cost.
pub(crate) struct Metered {
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) taken: Taken,
    /// Whether the request is served.
    is_served: bool,
}

impl Metered {
    pub(crate) fn new(meter: Arc<dyn Meter>, taken: Taken) -> Self {
        Self {
            meter,
            taken,
            is_served: false,
        }
    }

    /// Records that the request is served: its cost is used.
    #[inline(always)]
    pub(crate) fn served(mut self) -> Self {
        self.is_served = true;
        self
    }

    /// Gives the cost back, at once.
    pub(crate) fn refund(&mut self) {
        if self.taken.charge.cost > 0 {
            self.meter.settle(self.taken.at, self.taken, 0);
            self.taken.charge.cost = 0;
        }
    }
}

impl Drop for Metered {
    #[inline]
    fn drop(&mut self) {
        if !self.is_served {
            self.refund();
        }
        if self.taken.charge.counts_in_flight {
            self.meter.release(self.taken);
        }
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered")
            .field("taken", &self.taken)
            .field("is_served", &self.is_served)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ParkedMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedMeters")
            .field("made", &self.made.len())
            .finish_non_exhaustive()
    }
}
