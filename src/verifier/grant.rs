//! The result of an admitted request: its grant, and its permit.

mod duties;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::duties::Duties;
use super::attempt::Attempt;
use super::denial::{Denial, DenialReason, Limited};
use crate::cache::CachedRecord;
use crate::codes::codes;
use crate::key::{Environment, KeyId, KeyRecord, Resource, TenantId, Title};
use crate::limiter::{Metered, Tick};

/// An admitted request: its grant, and its permit.
#[derive(Debug)]
pub struct Admitted {
    grant: Grant,
    permit: Permit,
}

impl Admitted {
    /// Admits the request, which took this of its limits. `None` if there are none.
    #[inline(always)]
    pub(super) fn new(
        cached: Arc<CachedRecord>,
        metered: Option<Metered>,
        attempt: &Attempt<'_>,
    ) -> Self {
        let duties = Duties::new(attempt, &cached).map(Arc::new);
        let permit = Permit {
            metered,
            counted_later: None,
            settlement: duties
                .as_ref()
                .filter(|duties| duties.is_estimate())
                .cloned(),
        };
        let grant = Grant { cached, duties };
        Self { grant, permit }
    }

    pub(crate) fn from_parts(grant: Grant, permit: Permit) -> Self {
        Self { grant, permit }
    }

    /// Returns the grant.
    ///
    /// Keep the whole `Admitted` until the response has been sent: dropping it gives the permit back.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Splits into the grant, and the permit to keep until the response has been sent.
    pub fn into_parts(self) -> (Grant, Permit) {
        (self.grant, self.permit)
    }
}

/// The key of an admitted request: its tenant, its record and the resources that it permits.
///
/// A grant is cheap to clone, and travels with the request.
#[derive(Clone)]
pub struct Grant {
    cached: Arc<CachedRecord>,
    /// `None` if the handler promised no check, so that most grants allocate nothing.
    duties: Option<Arc<Duties>>,
}

impl Grant {
    pub(super) fn cached(&self) -> &Arc<CachedRecord> {
        &self.cached
    }

    /// Returns the same grant with the further checks that the handler promised for this attempt.
    pub(super) fn owing(&self, attempt: &Attempt<'_>) -> Self {
        self.inner_guard_decided();
        let duties = match Duties::new(attempt, &self.cached) {
            Some(mut more) => {
                more.before.clone_from(&self.duties);
                Some(Arc::new(more))
            }
            None => self.duties.clone(),
        };
        Self {
            cached: Arc::clone(&self.cached),
            duties,
        }
    }

    /// Returns the key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.cached.record.id()
    }

    /// Returns the tenant that the key belongs to.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.cached.record.tenant()
    }

    /// Returns the title that people gave the key.
    #[must_use]
    pub fn title(&self) -> &Title {
        self.cached.record.title()
    }

    /// Returns the environment that the key was issued for.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        self.cached.record.environment()
    }

    /// Returns the key's whole record, as it was when the request was admitted.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.cached.record
    }

    /// Checks whether the key is permitted this resource.
    ///
    /// The call counts as the check that a route promised with
    /// [`checked_by_handler`](super::Requirement::checked_by_handler).
    ///
    /// # Errors
    /// [`ResourceDenied`] if the key is not permitted the resource: the handler answers 403, or 404 if the client must
    /// not learn whether the resource exists.
    pub fn permits(&self, kind: &str, value: &str) -> Result<(), ResourceDenied> {
        self.done(kind);
        if self
            .cached
            .record
            .restrictions()
            .resources
            .permit(kind, value)
        {
            return Ok(());
        }
        if let Some(duties) = &self.duties {
            duties.refused(kind);
        }
        Err(ResourceDenied)
    }

    /// Returns the filter for a list of resources of this kind.
    ///
    /// The call counts as a check, as [`permits`](Self::permits) does.
    #[must_use]
    pub fn only(&self, kind: &str) -> Only<'_> {
        self.done(kind);
        match self.cached.record.restrictions().resources.values(kind) {
            [] => Only::Any,
            values => Only::These(values),
        }
    }

    /// Returns a kind of resource that the handler promised to check and has not; `None` if it has checked all.
    ///
    /// An adapter then answers 500 in place of a success, whatever the key, so that the omission shows on the first
    /// try.
    #[must_use]
    pub fn unchecked(&self) -> Option<&str> {
        self.duties.as_ref().and_then(|duties| duties.first_open())
    }

    /// Returns the denial by the handler, if [`permits`](Self::permits) has refused a resource of a kind that the
    /// handler promised to check. `None` if there is none, or it was taken before.
    pub(crate) fn take_refusal(&self) -> Option<Denial> {
        let kind = self.duties.as_ref()?.take_refused()?.into();
        let reason = DenialReason::ResourceRefused { kind };
        Some(Denial::of_key(&self.cached, reason))
    }

    /// Returns whether the request was admitted on the condition that [an inner
    /// guard](super::Requirement::checked_by_inner_guard) decides on it, and none has.
    pub(crate) fn awaits_inner_guard(&self) -> bool {
        let duties = self.duties.as_ref();
        duties.is_some_and(|duties| duties.awaits_inner_guard.load(Ordering::Acquire))
    }

    /// Records that an inner guard has decided on the request.
    pub(crate) fn inner_guard_decided(&self) {
        if let Some(duties) = &self.duties {
            duties.awaits_inner_guard.store(false, Ordering::Release);
        }
    }

    /// Sets the true cost of the request, in place of the [estimate](super::Requirement::estimate) that was taken.
    ///
    /// The last call before the response has ended counts. It may be more than a quota has left: the key then waits
    /// until the quota has drained. Without an estimate the call does nothing.
    pub fn settle(&self, cost: u32) {
        if let Some(duties) = &self.duties {
            duties.settle(cost);
        }
    }

    /// Returns whether the key is still valid, as far as this node knows at this moment without asking the store.
    ///
    /// It returns `false` once the key is revoked, suspended, expired or superseded, and also if this node has no
    /// [recent enough](super::KeyCache::lease) read to decide on: [`ended`](Self::ended) asks the store then. The key's
    /// rights may have changed since; the grant holds those of its admission.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let home = self.cached.home.upgrade();
        home.is_some_and(|home| home.is_good(self.key_id()) == Some(true))
    }

    /// Resolves when the key stops being valid: it is revoked, here or on another node, suspended, superseded, or it
    /// expires.
    ///
    /// A host application cuts a long response short with it.
    ///
    /// The future notices a change as fast as a verification would. If the store does not answer, it resolves when
    /// verifications stop being granted: at most one [lease](super::KeyCache::lease) after the start of the last
    /// successful read of the key, or poll of the change feed. It needs a tokio runtime with its timer enabled.
    ///
    /// ```
    /// # async fn f(admitted: keyward::verifier::Admitted, send: impl Future<Output = ()>) {
    /// let grant = admitted.grant();
    /// tokio::select! {
    ///     () = send => {}           // the response has been sent
    ///     () = grant.ended() => {}  // the key ended first: cut the response
    /// }
    /// # }
    /// ```
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let cached = Arc::clone(&self.cached);
        async move {
            // Without the verifier no check is possible.
            if let Some(home) = cached.home.upgrade() {
                home.wait_until_ended(cached.record.id()).await;
            }
        }
    }

    fn done(&self, kind: &str) {
        if let Some(duties) = &self.duties {
            duties.done(kind);
        }
    }
}

/// Shows the key's id, tenant and title only.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("key_id", &self.key_id())
            .field("tenant", self.tenant())
            .field("title", self.title())
            .finish_non_exhaustive()
    }
}

/// The filter for a list of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only<'a> {
    /// The key is not restricted in this kind.
    Any,
    /// Only these resources, in ascending order of their values. Never empty.
    These(&'a [Resource]),
}

impl Only<'_> {
    /// Returns whether the list may show items that belong to this resource.
    #[must_use]
    pub fn permits(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(resources) => resources.iter().any(|resource| resource.value() == value),
        }
    }
}

/// Error for a resource that the key does not permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API key does not permit this")]
pub struct ResourceDenied;

codes! {
    ResourceDenied;
    Self => "resource_not_permitted",
}

/// The charge of an admitted request: its cost, and a place among the key's concurrent requests.
///
/// Dropping the permit gives the place back, and settles a cost that was [estimated](super::Requirement::estimate):
/// keep it until the response has been sent.
#[must_use = "dropping the permit gives its place back"]
pub struct Permit {
    metered: Option<Metered>,
    /// The cost, if it was counted after the place.
    counted_later: Option<Box<Metered>>,
    /// `None` unless the cost is an estimate.
    settlement: Option<Arc<Duties>>,
}

impl Permit {
    /// Sets the true cost of the request, as [`Grant::settle`] does.
    pub fn settle(&self, cost: u32) {
        if let Some(settlement) = &self.settlement {
            settlement.settle(cost);
        }
    }

    /// Gives the cost back, for a request that was refused after all. The place stays taken until the permit is
    /// dropped.
    pub fn refund(&mut self) {
        let later = self.counted_later.as_deref_mut();
        for metered in self.metered.iter_mut().chain(later) {
            metered.refund();
        }
        self.settlement = None;
    }

    /// Returns the limits that apply to the request. `None` if there are none.
    pub(crate) fn limited(&self) -> Option<Limited> {
        let later = self.counted_later.as_deref();
        let metered = later.or(self.metered.as_ref())?;
        // A request like this one costs 1 at least.
        let cost = metered.taken.charge.cost.max(1);
        Some(Limited::by(&metered.meter, cost))
    }

    /// Adds the cost, which was taken after the place.
    pub(super) fn add_cost(&mut self, metered: Metered, grant: &Grant) {
        self.counted_later = Some(Box::new(metered.served()));
        let duties = grant.duties.as_ref();
        self.settlement = duties.filter(|duties| duties.is_estimate()).cloned();
    }
}

impl Permit {
    /// Creates the permit of a request at a guard inside another one, which took this of its route's quotas.
    pub(super) fn inner(metered: Option<Metered>, grant: &Grant, attempt: &Attempt<'_>) -> Self {
        let duties = grant.duties.as_ref().filter(|_| attempt.is_estimate);
        Self {
            metered: metered.map(Metered::served),
            counted_later: None,
            settlement: duties.cloned(),
        }
    }

    /// Creates a permit of nothing.
    pub(crate) fn empty() -> Self {
        Self {
            metered: None,
            counted_later: None,
            settlement: None,
        }
    }

    /// Returns whether any limit applies to the request.
    #[cfg(any(feature = "actix", feature = "http"))]
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.metered.is_some() || self.counted_later.is_some()
    }

    /// Returns whether dropping the permit gives a place back, or settles a cost.
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(crate) fn is_held(&self) -> bool {
        let counts_in_flight = |metered: &Metered| metered.taken.charge.counts_in_flight;
        self.settlement.is_some() || self.metered.as_ref().is_some_and(counts_in_flight)
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some(settlement) = self.settlement.take() {
            self.settle_by(&settlement);
        }
    }
}

impl Permit {
    /// Settles the cost, if the true one was set.
    fn settle_by(&self, settlement: &Duties) {
        let later = self.counted_later.as_deref();
        if let (Some(metered), Some(cost)) = (later.or(self.metered.as_ref()), settlement.settled())
        {
            let now = settlement.home.upgrade().and_then(|home| home.now());
            let now = now.map_or(metered.taken.at, Tick::from_nanos);
            metered.meter.settle(now, metered.taken, cost);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("metered", &self.metered)
            .field("counted_later", &self.counted_later)
            .finish_non_exhaustive()
    }
}
