//! The limits of all keys of a tenant, and how long this node uses them.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::codes::codes;
use crate::key::{Quota, TenantId};
use crate::sync::{AtomicU64, Mutex, Ordering, lock, within};

/// The limits of all keys of a tenant, including keys that are issued later.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::{key::{Quota, QuotaSubject}, limiter::TenantPlan};
///
/// let minute = Duration::from_secs(60);
/// let number = |number| NonZeroU32::new(number).ok_or("zero");
/// let plan = TenantPlan::new()
///     .quota(Quota::new("minute", number(100)?, minute)?) // each key
///     .quota(Quota::new("all-keys", number(1_000)?, minute)?.per(QuotaSubject::Tenant))
///     .route_quota(Quota::new("exports", number(50)?, minute)?); // where routes have a quota of this name
/// # let _ = plan;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantPlan {
    quotas: Vec<Quota>,
    routes: Vec<Quota>,
    concurrency: Option<NonZeroU32>,
}

impl TenantPlan {
    /// Creates a plan without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a quota, at most 16. It replaces one of the same name.
    ///
    /// A quota that counts each key apart is a default: a key's own quota of the same name takes its place. If a key's
    /// own quota has another name, both hold. A quota of a lineage, an owner or the tenant always holds.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        put(&mut self.quotas, quota);
        self
    }

    /// Sets the quota of routes for this tenant: where a [route has a quota](crate::verifier::Requirement::quota) of
    /// this name, this one takes its place, with its limit, window and subject.
    #[must_use]
    pub fn route_quota(mut self, quota: Quota) -> Self {
        put(&mut self.routes, quota);
        self
    }

    /// Sets how many requests may be in flight at once with each key that has no such number of its own.
    #[must_use]
    pub fn concurrency(mut self, most: NonZeroU32) -> Self {
        self.concurrency = Some(most);
        self
    }

    pub(super) fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    pub(super) fn of_route<'a>(&'a self, quota: &'a Quota) -> &'a Quota {
        let mut same = self.routes.iter();
        same.find(|own| own.name() == quota.name()).unwrap_or(quota)
    }

    pub(super) fn most_at_once(&self) -> Option<NonZeroU32> {
        self.concurrency
    }
}

/// Adds a quota to a list, in place of one with the same name.
pub(crate) fn put(quotas: &mut Vec<Quota>, quota: Quota) {
    match quotas.iter_mut().find(|other| other.name() == quota.name()) {
        Some(other) => *other = quota,
        None => quotas.push(quota),
    }
}

/// A source of each tenant's plan, such as a table of the host application.
///
/// One plan for all tenants needs no source: [`RateLimiting::plan_for_all`](super::RateLimiting::plan_for_all).
#[async_trait]
pub trait PlanBook: fmt::Debug + Send + Sync + 'static {
    /// Returns the plan of this tenant.
    ///
    /// # Errors
    /// [`PlanError`] if the source cannot read it: see [`PlanFallback`].
    async fn plan_of(&self, tenant: &TenantId) -> Result<TenantPlan, PlanError>;
}

/// A tenant's plan could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the tenant's plan cannot be read")]
pub struct PlanError(#[source] Box<dyn Error + Send + Sync>);

codes! {
    PlanError;
    Self(_) => "plan_unavailable",
}

impl PlanError {
    /// Creates an error with the host application's cause.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// What happens to requests while a tenant's plan is too old, and cannot be read again.
///
/// While no plan of the tenant is known, they are undecidable in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanFallback {
    /// The plan that was read last holds, however old it is.
    LastKnown,
    /// Requests are undecidable.
    Undecidable,
}

/// Where plans come from.
#[derive(Debug)]
pub(super) enum PlanSource {
    /// The same plan for all tenants.
    Same(TenantPlan),
    /// A source that is read again.
    Book {
        book: Arc<dyn PlanBook>,
        max_age: Duration,
        fallback: PlanFallback,
    },
}

/// The source of a plan that is the same for all tenants.
#[derive(Debug)]
struct SameForAll(TenantPlan);

#[async_trait]
impl PlanBook for SameForAll {
    async fn plan_of(&self, _: &TenantId) -> Result<TenantPlan, PlanError> {
        Ok(self.0.clone())
    }
}

/// The plans that this node knows.
pub(super) struct Plans {
    /// The plan of all tenants. `None`: it is read for each.
    same_for_all: Option<Arc<TenantPlan>>,
    pub(super) book: Arc<dyn PlanBook>,
    /// How long a plan holds, in nanoseconds.
    pub(super) max_age: u64,
    pub(super) fallback: PlanFallback,
    /// How long a request waits for a read.
    pub(super) deadline: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    plans: HashMap<TenantId, Arc<KnownPlan>>,
    /// At how many the unused ones are dropped.
    dropped_at: usize,
}

/// A tenant's plan as this node last read it.
#[derive(Debug, Default)]
pub(super) struct KnownPlan {
    state: Mutex<Option<Read>>,
    /// Changes with each plan that differs from the one before; 0 before the first.
    version: AtomicU64,
    /// Until when no read begins, in nanoseconds, to spare a source that fails.
    rests_until: AtomicU64,
    /// Held by the task that reads it.
    reading: Arc<AsyncMutex<()>>,
    /// Whether the last read failed or was late: requests do not wait for the next one, as long as a plan is known.
    is_failing: AtomicBool,
}

#[derive(Debug, Clone)]
struct Read {
    plan: Arc<TenantPlan>,
    /// When the read began, in nanoseconds. `None`: it was to be forgotten since.
    began: Option<u64>,
}

impl Read {
    fn age(&self, now: u64) -> u64 {
        self.began
            .map_or(u64::MAX, |began| now.saturating_sub(began))
    }
}

/// How long a read may take: requests do not wait for so long, but the next ones have its result.
const LONGEST_READ: Duration = Duration::from_secs(10);

/// Quotas that a plan can have beside those of routes, at most.
const MOST_QUOTAS: usize = 16;

/// Attempts of a request at a plan that is forgotten meanwhile.
const TRIES: u32 = 4;

/// Plans of tenants without a cached key are dropped beyond this number.
const MOST_UNUSED: usize = 1_024;

impl Plans {
    pub(super) fn new(source: PlanSource, deadline: Duration) -> Self {
        let (same_for_all, book, max_age, fallback): (_, Arc<dyn PlanBook>, _, _) = match source {
            PlanSource::Same(plan) => {
                // A plan with too many quotas is read, which is an error as it is from any source.
                let is_valid = plan.quotas.len() <= MOST_QUOTAS;
                let same = is_valid.then(|| Arc::new(plan.clone()));
                let book = Arc::new(SameForAll(plan));
                (same, book, Duration::MAX, PlanFallback::Undecidable)
            }
            PlanSource::Book {
                book,
                max_age,
                fallback,
            } => (None, book, max_age, fallback),
        };
        Self {
            same_for_all,
            book,
            // A plan that took as long to read as a request waits has to hold for that request.
            max_age: u64::try_from(max_age.max(deadline).as_nanos()).unwrap_or(u64::MAX),
            fallback,
            deadline,
            known: Mutex::default(),
        }
    }

    /// Returns the tenant's entry.
    pub(super) fn entry(&self, tenant: &TenantId) -> Arc<KnownPlan> {
        let mut known = lock(&self.known);
        if let Some(entry) = known.plans.get(tenant) {
            return Arc::clone(entry);
        }
        if known.plans.len() >= known.dropped_at.max(MOST_UNUSED) {
            known.plans.retain(|_, entry| Arc::strong_count(entry) > 1);
            known.dropped_at = 2 * known.plans.len();
        }
        Arc::clone(known.plans.entry(tenant.clone()).or_default())
    }

    /// Makes all plans be read again before their next use.
    pub(super) fn forget_all(&self) {
        for entry in lock(&self.known).plans.values() {
            let mut state = lock(&entry.state);
            if let Some(read) = &mut *state {
                read.began = None;
            }
            entry.rests_until.store(0, Ordering::Release);
            entry.is_failing.store(false, Ordering::Release);
            // The meters made from it are made again, and a read in progress begins again.
            entry.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Returns the plan that holds now, and until when it need not be looked at; `None` if a request has to wait for a
    /// read of it. Begins a read in the background if the plan has reached half of its age.
    pub(super) fn current(
        self: &Arc<Self>,
        tenant: &TenantId,
        entry: &Arc<KnownPlan>,
        now: u64,
    ) -> Option<(Arc<TenantPlan>, u64)> {
        if let Some(plan) = &self.same_for_all {
            return Some((Arc::clone(plan), u64::MAX));
        }
        let read = lock(&entry.state).clone()?;
        let age = read.age(now);
        if age >= self.max_age / 2 {
            let is_begun = self.read_in_background(tenant, entry, now);
            // Requests wait for the source once, until its deadline.
            let is_awaited =
                !entry.is_failing.load(Ordering::Acquire) && entry.reading.try_lock().is_err();
            let may_hold = self.fallback == PlanFallback::LastKnown && is_begun && !is_awaited;
            if age >= self.max_age && !may_hold {
                return None;
            }
        }
        let looked_at_after = read.began.unwrap_or(0).saturating_add(self.max_age / 2);
        Some((read.plan, looked_at_after))
    }

    /// Begins a read of the plan, unless one is in progress or ended a moment ago. Returns `false` without a runtime.
    fn read_in_background(
        self: &Arc<Self>,
        tenant: &TenantId,
        entry: &Arc<KnownPlan>,
        now: u64,
    ) -> bool {
        if now < entry.rests_until.load(Ordering::Acquire) {
            return true;
        }
        match Arc::clone(&entry.reading).try_lock_owned() {
            Ok(turn) => self.spawn_read(tenant, entry, now, turn),
            Err(_) => Handle::try_current().is_ok(),
        }
    }

    /// Reads the plan in a task that has the turn to read it. Returns `false` without a runtime.
    fn spawn_read(
        self: &Arc<Self>,
        tenant: &TenantId,
        entry: &Arc<KnownPlan>,
        now: u64,
        turn: OwnedMutexGuard<()>,
    ) -> bool {
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        self.rest(entry, now);
        let (plans, tenant, entry) = (Arc::clone(self), tenant.clone(), Arc::clone(entry));
        runtime.spawn(async move {
            // After an error, a request begins another read.
            let read = within(LONGEST_READ, plans.read(&tenant, &entry, now)).await;
            if !matches!(read, Some(Ok(()))) {
                entry.is_failing.store(true, Ordering::Release);
            }
            drop(turn);
        });
        true
    }

    /// Records that a read begins, so that the next one does not begin at once if this one fails.
    fn rest(&self, entry: &KnownPlan, now: u64) {
        let pause = (self.max_age / 16).clamp(1_000_000, 1_000_000_000);
        let until = now.saturating_add(pause);
        entry.rests_until.store(until, Ordering::Release);
    }

    /// Reads the plan if the one that is known does not hold, and returns once one is known that holds.
    ///
    /// The read goes on if this future is dropped, or the deadline comes first.
    pub(super) async fn load(
        self: &Arc<Self>,
        tenant: &TenantId,
        entry: &Arc<KnownPlan>,
        now: u64,
    ) -> Result<(), PlanError> {
        if self.current(tenant, entry, now).is_some() {
            return Ok(());
        }
        let holds = |known: &Read| {
            self.fallback == PlanFallback::LastKnown || known.age(now) < self.max_age
        };
        let holds = || lock(&entry.state).as_ref().is_some_and(holds);
        if !self.read_in_background(tenant, entry, now) {
            self.rest(entry, now);
            let read = self.read(tenant, entry, now).await;
            entry.is_failing.store(read.is_err(), Ordering::Release);
            return if holds() { Ok(()) } else { read };
        }
        for _ in 0..TRIES {
            let turn = within(self.deadline, Arc::clone(&entry.reading).lock_owned()).await;
            if turn.is_none() {
                entry.is_failing.store(true, Ordering::Release);
            }
            if holds() {
                return Ok(());
            }
            // The plan may have been forgotten since it was read: then it is this request's turn to read it.
            let is_resting = now < entry.rests_until.load(Ordering::Acquire);
            match turn.filter(|_| !is_resting) {
                Some(turn) => self.spawn_read(tenant, entry, now, turn),
                None => break,
            };
        }
        Err(PlanError::new(
            "the source failed, or did not answer in time",
        ))
    }

    async fn read(
        &self,
        tenant: &TenantId,
        entry: &KnownPlan,
        began: u64,
    ) -> Result<(), PlanError> {
        loop {
            let version = entry.version();
            let plan = self.book.plan_of(tenant).await?;
            if plan.quotas.len() > MOST_QUOTAS {
                return Err(PlanError::new(format!(
                    "a plan has at most {MOST_QUOTAS} quotas"
                )));
            }
            let mut state = lock(&entry.state);
            if entry.version() != version {
                // It was forgotten meanwhile: the answer may be from before the change that it was forgotten for.
                continue;
            }
            let plan = match &*state {
                Some(before) if *before.plan == plan => Arc::clone(&before.plan),
                _ => {
                    entry.version.fetch_add(1, Ordering::AcqRel);
                    Arc::new(plan)
                }
            };
            let began = Some(began);
            *state = Some(Read { plan, began });
            entry.is_failing.store(false, Ordering::Release);
            return Ok(());
        }
    }
}

impl KnownPlan {
    /// Returns a number that changes with the plan.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}
