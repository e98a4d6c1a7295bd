//! Counting after the verdict, and the present state of limits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::attempt::Attempt;
use super::checks::KeyUse;
use super::denial::{Denial, DenialReason, DeniedKey, Limited};
use super::grant::{Grant, Permit};
use super::requirement::Requirement;
use super::{Shared, Verifier};
use crate::cache::{Home as _, Slot};
use crate::key::{KeyId, KeyRecord, TenantId, Title};
use crate::limiter::{
    Charge, LimitState, Meter, Metered, ParkedMeters, PlanMissing, RouteQuotas, TakeError, Taken,
    Tick,
};
use crate::sync::lock;

/// Which limits a request is counted with.
#[derive(Clone, Copy)]
enum Applied<'a> {
    /// All, with these quotas of its route.
    All(Option<&'a RouteQuotas>),
    /// The quotas of its route alone.
    Inner(&'a RouteQuotas),
}

/// Why a request was not counted, and its limits.
type Uncounted = (DenialReason, Option<Limited>);

/// Attempts at finding a meter; each may find that the plan has to be read again.
const TRIES: u32 = 3;

impl Verifier {
    /// Takes the cost of an admitted request of its quotas, if that was [put off](Attempt::count_later).
    ///
    /// The cost is added to `permit`. Middleware that decides whether to serve a request after it was
    /// admitted, by a look-up for example, calls it last. It records the request in the key's
    /// [usage](crate::store::Usage).
    ///
    /// # Errors
    /// [`Denial`] if a quota does not have it, or the limiter cannot tell: nothing is taken.
    pub async fn count(
        &self,
        grant: &Grant,
        attempt: &Attempt<'_>,
        permit: &mut Permit,
    ) -> Result<(), Denial> {
        let applied = Applied::All(attempt.requirement.quotas());
        let counted = self.shared.count(grant, attempt, applied).await;
        let counted = counted.map_err(|refused| self.refused(grant, refused));
        self.record_use(
            grant,
            match &counted {
                Ok(_) => Some(KeyUse::Granted),
                Err(denial) => KeyUse::of_denied(denial.class()),
            },
        );
        if let Some(metered) = counted? {
            permit.add_cost(metered, grant);
        }
        Ok(())
    }

    /// Records how a request used its key, if it was admitted to be [counted later](Attempt::count_later). `None` if
    /// it did not.
    pub(crate) fn record_use(&self, grant: &Grant, used: Option<KeyUse>) {
        if let Some(used) = used {
            used.record_later(&self.shared.cache, grant.key_id());
        }
    }

    /// Takes the cost of a request that an outer guard has admitted of the quotas of this route.
    ///
    /// # Errors
    /// As for [`count`](Self::count).
    pub(crate) async fn count_inner(
        &self,
        grant: &Grant,
        attempt: &Attempt<'_>,
    ) -> Result<Permit, Denial> {
        let Some(route) = attempt.requirement.quotas() else {
            return Ok(Permit::inner(None, grant, attempt));
        };
        let counted = self.shared.count(grant, attempt, Applied::Inner(route));
        let metered = counted
            .await
            .map_err(|refused| self.refused(grant, refused))?;
        Ok(Permit::inner(metered, grant, attempt))
    }

    /// Denies an admitted request that was to be counted.
    fn refused(&self, grant: &Grant, (reason, limited): Uncounted) -> Denial {
        let key = DeniedKey::Proven(Arc::clone(grant.cached()));
        let denial = Denial::new(key, reason, limited);
        self.shared.note(&denial);
        denial
    }

    /// Returns the present state of the limits of a key, on routes with this requirement, without taking anything.
    ///
    /// It serves an endpoint that tells clients about themselves. The states are in the order: the key's own quotas,
    /// those of its tenant's plan, those of the route, and the limit on concurrent requests.
    ///
    /// # Errors
    /// [`Denial`] if the plan of the tenant cannot be read.
    pub async fn limits_of(
        &self,
        grant: &Grant,
        requirement: &Requirement,
    ) -> Result<Vec<LimitState>, Denial> {
        let denied = |reason| Denial::of_key(grant.cached(), reason);
        let meter = self
            .shared
            .meter_of(grant, Applied::All(requirement.quotas()))
            .await
            .map_err(denied)?;
        let now = self.shared.now().map_err(denied)?;
        let cost = requirement.cost_of_quotas().get();
        Ok(meter.map_or_else(Vec::new, |meter| meter.states(now, cost)))
    }

    /// Returns the keys that have used most of a quota, with that quota: those nearest to their limits first.
    ///
    /// It looks at the keys that this node has cached, which takes a while if they are many.
    #[must_use]
    pub fn nearest_limits(&self, most: usize) -> Vec<NearLimit> {
        let Ok(now) = self.shared.now() else {
            return Vec::new();
        };
        let mut nearest: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
        self.shared.cache.slots.map.for_each(|key, slot| {
            let found = {
                let slot = lock(slot);
                slot.entry.as_ref().and_then(|entry| {
                    let meters = entry.meters.as_ref()?.meters();
                    let states = meters.flat_map(|meter| meter.states(now, 1));
                    let tightest = states
                        .filter(LimitState::is_quota)
                        .max_by_key(LimitState::used_millionths)?;
                    let record = entry.snapshot.compiled.record();
                    Some(NearLimit {
                        key,
                        tenant: record.tenant().clone(),
                        title: record.title().clone(),
                        state: tightest,
                    })
                })
            };
            let Some(found) = found.filter(|found| found.state.used_millionths() > 0) else {
                return;
            };
            nearest.push(Reverse(Ranked(found.state.used_millionths(), found)));
            if nearest.len() > most {
                nearest.pop();
            }
        });
        let sorted = nearest.into_sorted_vec().into_iter();
        sorted.map(|Reverse(Ranked(_, near))| near).collect()
    }

    /// Returns the states of the limits that apply to a request. Empty if the clock fails.
    pub(crate) fn states_of(&self, limited: &Limited) -> Vec<LimitState> {
        let now = self.shared.now();
        now.map_or_else(
            |_| Vec::new(),
            |now| limited.meter.states(now, limited.cost),
        )
    }

    /// Returns the wall clock's time. `None` if the clock fails.
    pub(crate) fn wall_time(&self) -> Option<OffsetDateTime> {
        self.shared.cache.clock.now().ok()
    }

    /// Frees some memory of counters that are not needed any more.
    ///
    /// Returns whether there may be more.
    pub(crate) fn sweep_limits(&self) -> bool {
        let Ok(now) = self.shared.now() else {
            return false;
        };
        let limiting = &self.shared.limiting;
        if let Some(failures) = &limiting.failures {
            failures.sweep(now.as_nanos());
        }
        limiting.limiter.sweep(now)
    }
}

/// A key that has used much of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearLimit {
    /// The key's id.
    pub key: KeyId,
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The key's title.
    pub title: Title,
    /// The state of the quota of which the largest part is used.
    pub state: LimitState,
}

/// A key, by the part of a quota that it has used.
struct Ranked(u32, NearLimit);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1.key).cmp(&(other.0, other.1.key))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl Shared {
    fn now(&self) -> Result<Tick, DenialReason> {
        let now = self.cache.slots.lease.now();
        now.map(Tick::from_nanos).map_err(DenialReason::Clock)
    }

    /// Returns the meter of requests of an admitted key; `None` if no limit applies.
    async fn meter_of(
        &self,
        grant: &Grant,
        applied: Applied<'_>,
    ) -> Result<Option<Arc<dyn Meter>>, DenialReason> {
        for _ in 0..TRIES {
            let now = self.now()?.as_nanos();
            let meter_of = |parked: &mut Option<Box<ParkedMeters>>, record: &KeyRecord| {
                let meter = match applied {
                    Applied::All(route) => self.limiting.meter(parked, record, route, now),
                    Applied::Inner(route) => self.limiting.inner_meter(parked, record, route, now),
                };
                meter.map(Option::<&Arc<_>>::cloned)
            };
            let parked = self.cache.slots.map.find(
                grant.key_id(),
                || (),
                |(), slot| {
                    let entry = slot.entry.as_mut()?;
                    let record = entry.snapshot.compiled.record();
                    Some(meter_of(&mut entry.meters, record))
                },
            );
            let meter = match parked.flatten() {
                Some(meter) => meter,
                None => meter_of(&mut None, grant.record()),
            };
            match meter {
                Ok(meter) => return Ok(meter),
                Err(PlanMissing) => {
                    let loaded = self.limiting.load_plan(grant.record(), now).await;
                    loaded.map_err(DenialReason::Plan)?;
                }
            }
        }
        Err(DenialReason::StaleCache)
    }

    async fn count(
        &self,
        grant: &Grant,
        attempt: &Attempt<'_>,
        applied: Applied<'_>,
    ) -> Result<Option<Metered>, Uncounted> {
        let meter = self.meter_of(grant, applied).await;
        let Some(meter) = meter.map_err(|reason| (reason, None))? else {
            return Ok(None);
        };
        let now = self.now().map_err(|reason| (reason, None))?;
        let cost = attempt.cost_of_quotas().get();
        let charge = Charge::new(cost, false);
        if let Some(taken) = meter.try_take(now, charge) {
            return self.metered(grant, meter, charge, taken);
        }
        let taken = self.limiting.take(&meter, now.as_nanos(), charge).await;
        let metered = self.metered(grant, meter, charge, taken)?;
        // The key may have ended while the limiter took its time. The charge is given back then.
        let id = grant.key_id();
        let is_good = match self.cache.is_good(id) {
            Some(is_good) => Ok(is_good),
            None => self.cache.is_still_good(id).await,
        };
        match is_good {
            Ok(true) => Ok(metered),
            Ok(false) => Err((DenialReason::Ended, None)),
            Err(error) => Err((error.into(), None)),
        }
    }

    /// Turns the answer of a meter into a charge that is given back unless the request is served.
    fn metered(
        &self,
        grant: &Grant,
        meter: Arc<dyn Meter>,
        charge: Charge,
        taken: Result<Taken, TakeError>,
    ) -> Result<Option<Metered>, Uncounted> {
        match taken {
            Ok(taken) => Ok(Some(Metered::new(meter, taken))),
            Err(error) => {
                if matches!(error, TakeError::Failed(_)) {
                    // The limiter may make a better one for the next request.
                    let unpark = |slot: &mut Slot| {
                        if let Some(entry) = &mut slot.entry {
                            entry.meters = None;
                        }
                    };
                    let map = &self.cache.slots.map;
                    map.find(grant.key_id(), || (), |(), slot| unpark(slot));
                }
                Err(Limited::refused(&meter, charge.cost, error))
            }
        }
    }
}
