//! Decides whether a request is admitted.
//!
//! # In which order are requests checked?
//! 1. The verifier parses the credential: no store call, no hash, no clock.
//! 2. It proves possession against the stored digest, or against the tag that an earlier proof has left in memory.
//! 3. It checks environment, format, tenant, status, expiry and network. A failure of any of these, or of an earlier
//!    step, gives one and the same refusal. A caller without the secret learns nothing else.
//! 4. It checks scopes and resources: forbidden.
//! 5. It checks requests in flight: throttled.
//!
//! A request that cannot be decided is refused as undecidable: it is never granted, and its key is never called wrong.
//!
//! # Which requests need the store?
//! The warm path ([`try_verify`](Verifier::try_verify)) decides on this node's cache entry of the key: one lookup, one
//! block of SHA-256, one small lock that no other key shares. It allocates nothing and waits for nothing. The cold path
//! reads the store, proves the secret against the stored digest, and fills the cache entry for the warm path.

mod attempt;
mod cold;
mod denial;
mod explanation;
mod grant;
mod permit;
mod rehashing;
mod requirement;
mod stats;

pub use attempt::Attempt;
pub use denial::{Denial, DenialClass, DenialReason};
pub use explanation::{Explanation, Step, StepOutcome};
pub use grant::{Admitted, Grant, Only, ResourceDenied};
pub use permit::Permit;
pub use requirement::{Requirement, RequirementError};
pub use stats::VerifierStats;

pub use crate::cache::KeyCache;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::grant::Duties;
use self::rehashing::Rehashing;
use self::requirement::CatalogId;
use self::stats::Counters;
use crate::cache::compiled::{CachedRecord, CheckInput, CompiledRecord, WallClockReading};
use crate::cache::lease::Lease;
use crate::cache::reads::Places;
use crate::cache::slot::{Match, Slot};
use crate::cache::tag::{Tag, Tagger};
use crate::cache::{FencedStore, PassedEnds, Slots};
use crate::clock::{Clock, MonotonicClock};
use crate::credential::{Credential, Credentials};
use crate::key::{KeyFormat, KeyTextError, ScopeCatalog};
use crate::random::{RandomError, RandomSource};

/// How far this node's clock may lag behind the clock that dated a key, before a key with an expiry is undecidable: a
/// clock earlier than the key's issue cannot show that the key has expired.
pub(crate) const MAX_CLOCK_LAG_MICROS: i64 = 5 * 60 * 1_000_000;

/// Decides whether requests are admitted.
///
/// Clones are cheap and share their state.
///
/// ```
/// use keyward::key::PresentedKey;
/// use keyward::scope;
/// use keyward::verifier::{Attempt, Requirement, Verifier};
///
/// # async fn f(verifier: &Verifier, text: &str) {
/// let requirement = Requirement::scope(scope!("read:editions"));
/// let attempt = Attempt::new(PresentedKey::text(text), &requirement);
/// match verifier.verify(&attempt).await {
///     Ok(admitted) => println!("200, for {}", admitted.grant().title()),
///     Err(denial) => {
///         eprintln!("{}", denial.reason()); // for the operator
///         println!("{} {denial}", denial.class().status()); // for the caller
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Verifier {
    core: Arc<Core>,
}

/// The dependencies of a verifier.
#[derive(Debug)]
pub(crate) struct VerifierParts {
    pub(crate) store: Arc<FencedStore>,
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) catalog_id: CatalogId,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) passed: Arc<PassedEnds>,
}

/// State shared by all clones of a verifier.
pub(crate) struct Core {
    pub(crate) parts: VerifierParts,
    pub(crate) slots: Arc<Slots>,
    tagger: Tagger,
    pub(crate) places: Places,
    pub(crate) patience: Duration,
    rehashing: Arc<Rehashing>,
    pub(crate) counters: Counters,
    pub(crate) me: Weak<Self>,
}

/// Creates the slots of a node, for the parts that share them.
pub(crate) fn slots(
    cache: KeyCache,
    keeps_usage: bool,
    monotonic: Arc<dyn MonotonicClock>,
) -> Arc<Slots> {
    let bound = u64::try_from(cache.lease.as_nanos()).unwrap_or(u64::MAX);
    Arc::new(Slots::new(
        Lease::new(bound),
        cache.max_bytes,
        keeps_usage,
        monotonic,
    ))
}

impl VerifierParts {
    pub(crate) fn new(
        store: Arc<FencedStore>,
        format: KeyFormat,
        catalog: Arc<ScopeCatalog>,
        credentials: Arc<Credentials>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn RandomSource>,
        passed: Arc<PassedEnds>,
    ) -> Self {
        static CATALOGS: AtomicU64 = AtomicU64::new(0);
        Self {
            store,
            format,
            catalog,
            catalog_id: CatalogId(CATALOGS.fetch_add(1, Ordering::Relaxed)),
            credentials,
            clock,
            random,
            passed,
        }
    }
}

impl Verifier {
    /// Creates a verifier over these slots.
    ///
    /// # Errors
    /// [`RandomError`] if the random source provides no key for tags.
    pub(crate) fn new(
        parts: VerifierParts,
        slots: Arc<Slots>,
        cache: KeyCache,
    ) -> Result<Self, RandomError> {
        let tagger = Tagger::new(&*parts.random)?;
        let core = Arc::new_cyclic(|me| Core {
            parts,
            slots,
            tagger,
            places: Places::new(cache.reads),
            patience: cache.patience(),
            rehashing: Arc::default(),
            counters: Counters::default(),
            me: Weak::clone(me),
        });
        Ok(Self { core })
    }

    /// Decides at once from this node's cache; `None` if that takes a read of the store or a computation of the stored
    /// hash.
    ///
    /// After `None`, [`verify`](Self::verify) decides.
    ///
    /// The call allocates nothing, unless the requirement
    /// - has checks [by the handler](Requirement::checked_by_handler),
    /// - is used for the first time, or is shared with another Keyward: it is then compiled,
    /// - or names an [undeclared scope](DenialReason::UndeclaredScope) that is not a constant.
    #[must_use]
    pub fn try_verify(&self, attempt: &Attempt<'_>) -> Option<Result<Admitted, Denial>> {
        match self.core.read(attempt) {
            Ok(credential) => self.core.warm(&credential, attempt),
            Err(denial) => Some(Err(denial)),
        }
    }

    /// Decides whether the request is admitted.
    ///
    /// # Errors
    /// [`Denial`]: its [class](Denial::class) decides the answer, its `Display` is the text that the caller may see,
    /// and its [reason](Denial::reason) is for the operator.
    ///
    /// # Cancellation
    /// Dropping the future admits nothing and leaves nothing behind.
    ///
    /// # Runtime
    /// The verifier gives up on a store that does not answer after the [lease](KeyCache::lease), by tokio's timer: the
    /// runtime needs it enabled, as `#[tokio::main]` does. Without a runtime it waits for the store without a limit.
    pub async fn verify(&self, attempt: &Attempt<'_>) -> Result<Admitted, Denial> {
        let credential = self.core.read(attempt)?;
        if let Some(verdict) = self.core.warm(&credential, attempt) {
            return verdict;
        }
        // Boxed, to keep this future small: every request moves it.
        Box::pin(self.core.cold(&credential, attempt)).await
    }

    /// Decides whether an admitted request meets a second requirement.
    ///
    /// It serves a guard inside another one, where the credential is no longer available. It ignores the credential and
    /// the client address of the attempt, and checks the tenant and the environment that the attempt addresses. The
    /// returned grant owes the handler checks of both requirements. The call counts nothing a second time, and does not
    /// check the key's status again.
    ///
    /// # Errors
    /// [`Denial`], if the key is of another tenant or environment than the attempt addresses, or lacks the access or
    /// the resources that this requirement asks for; and if another Keyward has [granted](Self::has_admitted) the
    /// request, as its scopes and resources have other meanings.
    pub fn check_requirement(&self, grant: &Grant, attempt: &Attempt<'_>) -> Result<Grant, Denial> {
        if !self.has_admitted(grant) {
            return Err(Denial::of_key(grant.key_id(), DenialReason::UnknownKey));
        }
        let compiled = CompiledRecord::new(Arc::clone(grant.cached()), &self.core.parts);
        compiled
            .check_again(&self.core.parts, attempt)
            .map_err(|reason| Denial::of_key(grant.key_id(), reason))?;
        let duties = Duties::new(attempt.requirement.handler_checks());
        Ok(grant.owing(duties))
    }

    /// Decides as [`check_requirement`](Self::check_requirement), and refuses a key that has ended since the request
    /// was admitted.
    ///
    /// It serves a request that has waited since then. It reads the store only if this node's cache cannot decide.
    ///
    /// # Errors
    /// [`Denial`], as [`verify`](Self::verify) and [`check_requirement`](Self::check_requirement).
    pub async fn reverify(&self, grant: &Grant, attempt: &Attempt<'_>) -> Result<Grant, Denial> {
        let rechecked = self.check_requirement(grant, attempt)?;
        let id = grant.key_id();
        let is_good = match self.core.is_good(id) {
            Some(is_good) => is_good,
            None => {
                let read = self.core.is_still_good(id).await;
                read.map_err(|reason| Denial::of_key(id, reason))?
            }
        };
        if is_good {
            Ok(rechecked)
        } else {
            Err(Denial::of_key(id, DenialReason::Ended))
        }
    }

    /// Returns whether this verifier, or a clone of it, issued the grant.
    #[must_use]
    pub fn has_admitted(&self, grant: &Grant) -> bool {
        Weak::ptr_eq(&grant.cached().home, &self.core.me)
    }

    /// Explains the decision on a request, check by check, for an operator who asks why a key is refused.
    ///
    /// It reads the store and hashes as a first verification does, and changes no counter, limit or cache. A key that
    /// it reports as expired stays expired if the clock runs back. The text names the key's id and its rights, and
    /// nothing of its secret.
    pub async fn explain(&self, attempt: &Attempt<'_>) -> Explanation {
        self.core.explain(attempt).await
    }

    /// Checks at start that a requirement can be met, and returns it.
    ///
    /// An unchecked requirement with a misspelt scope denies every key without full access, request by request
    /// ([`DenialReason::UndeclaredScope`]).
    ///
    /// # Errors
    /// [`RequirementError`] if it names a scope that is not declared, or a malformed kind of resource.
    pub fn prepare(&self, requirement: Requirement) -> Result<Requirement, RequirementError> {
        requirement.check(&self.core.parts.catalog)?;
        Ok(requirement)
    }

    /// Makes the verifier read every key again at its next use.
    ///
    /// Call it after a change of the store behind Keyward's back, such as by hand or from a backup, to take effect
    /// before the [lease](KeyCache::lease) ends.
    pub fn forget_all(&self) {
        self.core.slots.forget_all();
    }

    /// Returns the format of the accepted keys.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.core.parts.format
    }

    /// Returns the counters since this verifier was created.
    #[must_use]
    pub fn stats(&self) -> VerifierStats {
        let core = &self.core;
        let feed_is_current = core
            .slots
            .now()
            .is_ok_and(|now| core.slots.lease.is_followed(now));
        core.counters.read(
            &core.parts.credentials.hasher,
            feed_is_current,
            core.slots.occupancy(),
        )
    }

    /// Polls the store's change feed once, for the exploration of schedules, which has no timer.
    #[cfg(keyward_shuttle)]
    #[doc(hidden)]
    pub async fn explore_round(
        &self,
        cursor: &mut Option<crate::store::Cursor>,
    ) -> Result<bool, crate::store::StoreError> {
        self.core.round(cursor, Duration::ZERO).await
    }

    /// Follows the store's change feed for as long as the future is polled. It never ends.
    pub(crate) async fn follow(&self) {
        self.core.follow().await;
    }
}

/// The verdict of a locked slot on a request.
enum Verdict {
    Admitted(Arc<CachedRecord>, bool),
    Denied(DenialReason),
}

impl Core {
    #[inline(always)]
    fn read<'a>(&'a self, attempt: &Attempt<'a>) -> Result<Credential<'a>, Denial> {
        let (format, credentials) = (&self.parts.format, &self.parts.credentials);
        credentials
            .read(attempt.presented, format)
            .map_err(|error| {
                self.counters.malformed();
                malformed(error)
            })
    }

    /// Computes the tag of the presented credential: of the whole text of an imported key, and of the secret of one of
    /// the application's own keys.
    #[inline]
    fn tag(&self, credential: &Credential<'_>) -> Tag {
        self.counters.cache_hit();
        self.tagger.tag(credential.text)
    }

    /// Decides on the key's cache entry; `None` if that is not enough.
    #[inline(always)]
    fn warm(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Option<Result<Admitted, Denial>> {
        // A denial leaves through its own variable: in a shared result, a grant would wait for the space that a denial
        // takes.
        let mut refused = None;
        let place = self.slots.find(
            credential.id,
            || self.tag(credential),
            |tag, slot| match self.decide_warm(credential, attempt, tag, slot)? {
                Verdict::Admitted(cached, is_counted) => Some(Some((cached, is_counted))),
                Verdict::Denied(reason) => {
                    refused = Some(reason);
                    Some(None)
                }
            },
        );
        match (place??, refused) {
            (Some((cached, is_counted)), _) => Some(Ok(admitted(cached, is_counted, attempt))),
            (None, Some(reason)) => Some(Err(Denial::of_key(credential.id, reason))),
            (None, None) => None,
        }
    }

    #[inline(always)]
    fn decide_warm(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        tag: Tag,
        slot: &mut Slot,
    ) -> Option<Verdict> {
        let now = self.slots.now().ok()?;
        self.usable(slot, now)?;
        match slot.compare(tag, credential.legacy.is_none()) {
            Match::Unknown => return None,
            Match::Refuted => return Some(Verdict::Denied(DenialReason::WrongSecret)),
            Match::Proven => {}
        }
        let entry = slot.entry.as_ref()?;
        if entry.is_rehash_due(now) {
            return None;
        }
        let wall = match WallClockReading::read(&*self.parts.clock) {
            Ok(wall) => wall,
            Err(reason) => return Some(Verdict::Denied(reason)),
        };
        let input = self.check_input(credential, attempt, wall);
        let verdict = decide(&entry.compiled, &input, slot.in_flight);
        record_usage(slot, &input, &verdict);
        Some(verdict)
    }

    #[inline]
    fn check_input<'a>(
        &'a self,
        credential: &'a Credential<'a>,
        attempt: &'a Attempt<'a>,
        wall: WallClockReading<'a>,
    ) -> CheckInput<'a> {
        CheckInput {
            parts: &self.parts,
            credential,
            attempt,
            wall,
        }
    }
}

/// Decides on a request that has proven the key's secret.
#[inline(always)]
fn decide(compiled: &CompiledRecord, input: &CheckInput<'_>, in_flight: u32) -> Verdict {
    let limit = compiled.concurrency;
    match compiled.judge(input) {
        Ok(()) if limit.is_some_and(|limit| in_flight >= limit.get()) => {
            Verdict::Denied(DenialReason::TooManyInFlight)
        }
        Ok(()) => Verdict::Admitted(Arc::clone(&compiled.cached), limit.is_some()),
        Err(reason) => Verdict::Denied(reason),
    }
}

/// Counts an admitted request in flight, and records the use of the key. The caller holds the slot's lock.
#[inline(always)]
fn record_usage(slot: &mut Slot, input: &CheckInput<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Admitted(_, is_counted) => {
            slot.in_flight += u32::from(*is_counted);
            slot.granted = slot.granted.saturating_add(1);
        }
        // An undecidable request did not use the key.
        Verdict::Denied(reason) if reason.class() == DenialClass::Undecidable => return,
        Verdict::Denied(_) => slot.refused = slot.refused.saturating_add(1),
    }
    slot.last_used = input.wall.coarse();
    slot.is_referenced = true;
}

#[inline(always)]
fn admitted(cached: Arc<CachedRecord>, is_counted: bool, attempt: &Attempt<'_>) -> Admitted {
    let permit = if is_counted {
        Permit::of(&cached)
    } else {
        Permit::uncounted()
    };
    let duties = Duties::new(attempt.requirement.handler_checks());
    Admitted::new(Grant::new(cached, duties), permit)
}

fn malformed(error: KeyTextError) -> Denial {
    Denial::unreadable(match error {
        KeyTextError::Absent => DenialReason::NoCredential,
        KeyTextError::Ambiguous => DenialReason::SeveralCredentials,
        error => DenialReason::Malformed(error),
    })
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("format", &self.core.parts.format)
            .field("store", &self.core.parts.store)
            .field("slots", &self.core.slots)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}
