//! The meters of cached keys.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::failures::Failures;
use super::plan::{KnownPlan, PlanError, Plans, TenantPlan};
use super::settings::RateLimiting;
use super::{
    Charge, Limit, LimitRule, LimitSource, Limiter, LimiterError, Meter, Subject, TakeError, Taken,
    Tick,
};
use crate::key::{KeyRecord, Quota, QuotaSubject};
use crate::sync::within;

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
