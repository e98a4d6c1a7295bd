//! Decides whether a request is admitted.
//!
//! # The order of checks
//! 1. The credential is read: no store call, no hash, no clock.
//! 2. Possession is proven against the stored digest, or against the tag that an earlier proof has left in memory.
//! 3. Environment, format, tenant, status, expiry and network: all of these, and all before, give one and the
//!    same refusal. Whoever lacks the secret learns nothing else.
//! 4. Scopes and resources: forbidden.
//! 5. Requests in flight: throttled.
//!
//! Whatever cannot be decided is refused as undecidable, never granted and never called wrong.
//!
//! # Two ways
//! The warm way ([`try_verify`](Verifier::try_verify)) decides on what this node holds of the key: one lookup, one
//! block of SHA-256, one small lock that no other key shares; it allocates nothing and waits for nothing. The cold way
//! reads the store, proves the secret against what is stored, and leaves what it learned for the warm one.
//!
//! # Why the warm way may be trusted
//! Three rules stand between an entry and a verdict:
//! - *The fence* (`slot.rs`): a snapshot of the record is kept for later requests only while no commit of this node and
//!   no change from the feed has overtaken it. A node that revokes fences the key before it commits
//!   (`fenced_store.rs`), until the outcome is known. A request that came before the read began is decided on it even
//!   if it was overtaken, unless a hash was computed since: a key that is being changed is not undecidable.
//! - *The lease* (`lease.rs`): what was read decides for a bounded time after the read began, or for as long as rounds
//!   of news keep coming. Without them every key is read again once per bound; without the store nothing is granted.
//! - *The tag* (`tag.rs`): a presented secret is wrong for good only if it was compared with what was proven against
//!   the very digest that the entry holds.

mod attempt;
mod cold;
mod compiled;
mod denial;
mod explanation;
mod fenced_store;
mod following;
mod grant;
mod key_cache;
mod lasting;
mod lease;
mod permit;
mod reads;
mod rehashing;
mod requirement;
mod slot;
mod slots;
mod stats;
mod tag;
mod watchers;
mod weight;

pub use attempt::Attempt;
pub use denial::{Denial, DenialClass, DenialReason};
pub use explanation::{Explanation, Step, StepOutcome};
pub(crate) use fenced_store::FencedStore;
pub use grant::{Admitted, Grant, Only, ResourceDenied};
pub use key_cache::KeyCache;
pub use permit::Permit;
pub use requirement::{Requirement, RequirementError};
pub(crate) use slots::Slots;
pub use stats::VerifierStats;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::compiled::{CachedRecord, CheckInput, CompiledRecord, WallClockReading};
use self::grant::Duties;
use self::lease::Lease;
use self::reads::Places;
use self::rehashing::Rehashing;
use self::requirement::CatalogId;
use self::slot::{Match, Slot};
use self::stats::Counters;
use self::tag::{Tag, Tagger};
use crate::clock::{Clock, MonotonicClock};
use crate::hashing::{Credential, Hasher};
use crate::key::{KeyFormat, KeyTextError, ScopeCatalog};
use crate::passed_ends::PassedEnds;
use crate::random::{RandomError, RandomSource};

/// How far this node's clock may lag behind the one that dated a key before a key with an end is undecidable:
/// a clock that stands before the key was issued cannot tell that it has expired.
const MAX_CLOCK_LAG_MICROS: i64 = 5 * 60 * 1_000_000;

/// Decides whether requests are admitted. Cheap to clone.
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
    catalog_id: CatalogId,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    passed: Arc<PassedEnds>,
}

/// What all clones of a verifier share.
struct Core {
    parts: VerifierParts,
    slots: Arc<Slots>,
    tagger: Tagger,
    places: Places,
    patience: Duration,
    rehashing: Arc<Rehashing>,
    counters: Counters,
    me: Weak<Self>,
}

/// The slots of a node, for the parts that share them.
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
        hasher: Arc<Hasher>,
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
            hasher,
            clock,
            random,
            passed,
        }
    }
}

impl Verifier {
    /// # Errors
    /// [`RandomError`] if there is no key for tags to be had.
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

    /// Decides at once, if that takes neither the store nor a hash as it is stored; `None` if it does:
    /// [`verify`](Self::verify) then does.
    ///
    /// Allocates nothing, unless the requirement has checks [by the handler](Requirement::checked_by_handler), is used
    /// for the first time, or is shared with another Keyward, for each of which it is compiled; or names an [undeclared
    /// scope](DenialReason::UndeclaredScope) that is no constant.
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
    /// [`Denial`]: its [class](Denial::class) says how to answer, its `Display` is what the caller may see, and
    /// its [reason](Denial::reason) is for the operator.
    ///
    /// # Cancellation
    /// Dropping the future admits nothing and leaves nothing behind.
    ///
    /// # Runtime
    /// A store that does not answer is given up after the [lease](KeyCache::lease), by tokio's timer: the runtime needs
    /// it enabled, as `#[tokio::main]` does. Without a runtime the store is waited for.
    pub async fn verify(&self, attempt: &Attempt<'_>) -> Result<Admitted, Denial> {
        let credential = self.core.read(attempt)?;
        if let Some(verdict) = self.core.warm(&credential, attempt) {
            return verdict;
        }
        // Kept out of this future, which is moved about in every request.
        Box::pin(self.core.cold(&credential, attempt)).await
    }

    /// Decides whether a request that was admitted once meets a second requirement: for a guard inside another one,
    /// where the credential is gone. What the attempt says of its credential and its address is not looked at; the
    /// tenant and the environment it addresses are.
    ///
    /// The grant that comes back owes the checks that both requirements leave to the handler. Nothing is counted twice,
    /// and the key's status is that of its first admission.
    ///
    /// # Errors
    /// [`Denial`], if the key is of another tenant or environment than the attempt addresses, has not the access, or is
    /// not permitted the resources, that this requirement asks for; and if another Keyward has
    /// [granted](Self::has_admitted) it, whose scopes and resources mean something else.
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

    /// As [`check_requirement`](Self::check_requirement), for a request that has waited since it was admitted: a key
    /// that has ended meanwhile is refused. Reads the store only if this node does not know.
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

    /// Whether this grant is this verifier's.
    #[must_use]
    pub fn has_admitted(&self, grant: &Grant) -> bool {
        Weak::ptr_eq(&grant.cached().home, &self.core.me)
    }

    /// What would be decided on this request and why, check by check: for an operator who asks why a key is refused.
    ///
    /// Reads the store and hashes as a first verification does, and touches nothing: no counter, no limit, no cache. A
    /// key that it calls expired stays so if the clock runs back. The text names the key's id and what it may do, and
    /// nothing of its secret.
    pub async fn explain(&self, attempt: &Attempt<'_>) -> Explanation {
        self.core.explain(attempt).await
    }

    /// Checks at start that a requirement can be met, and hands it back. Unchecked, a misspelt scope denies every key
    /// but those with full access, request by request ([`DenialReason::UndeclaredScope`]).
    ///
    /// # Errors
    /// [`RequirementError`] if it names a scope that is not declared, or a malformed kind of resource.
    pub fn prepare(&self, requirement: Requirement) -> Result<Requirement, RequirementError> {
        requirement.check(&self.core.parts.catalog)?;
        Ok(requirement)
    }

    /// Reads every key anew at its next use. For whoever has changed the store behind Keyward's back, such as by hand
    /// or from a backup, and does not want to wait for the [lease](KeyCache::lease) to end.
    pub fn forget_all(&self) {
        self.core.slots.forget_all();
    }

    /// The format whose keys are accepted.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.core.parts.format
    }

    /// Counters since this verifier was made.
    #[must_use]
    pub fn stats(&self) -> VerifierStats {
        let core = &self.core;
        let feed_is_current = core
            .slots
            .now()
            .is_ok_and(|now| core.slots.lease.is_followed(now));
        core.counters
            .read(&core.parts.hasher, feed_is_current, core.slots.occupancy())
    }

    /// One round of the store's news, for the exploration of schedules: there is no timer there.
    #[cfg(keyward_shuttle)]
    #[doc(hidden)]
    pub async fn explore_round(
        &self,
        cursor: &mut Option<crate::store::Cursor>,
    ) -> Result<bool, crate::store::StoreError> {
        self.core.round(cursor, Duration::ZERO).await
    }

    /// Follows the store's news for as long as it is polled. It never ends.
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
        let (format, imported) = (&self.parts.format, self.parts.hasher.imported_keys());
        Credential::read(attempt.presented, format, imported).map_err(|error| {
            self.counters.malformed();
            malformed(error)
        })
    }

    /// The tag of what was presented: of all of it, and of one of the application's own keys that is the secret.
    #[inline]
    fn tag(&self, credential: &Credential<'_>) -> Tag {
        self.counters.cache_hit();
        self.tagger.tag(credential.text)
    }

    /// Decides on what the key's slot holds; none if that is not enough.
    #[inline(always)]
    fn warm(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Option<Result<Admitted, Denial>> {
        // A refusal goes its own way: a grant would have to wait for the room that one takes up.
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

/// The verdict on a request that has proven the key's secret.
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

/// Counts an admitted request in flight, and records how the key was used. Under the slot's lock.
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
