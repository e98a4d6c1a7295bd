//! Decides whether a request is admitted.
//!
//! # In which order are requests checked?
//! 1. The verifier parses the credential: no store call, no hash, no clock.
//! 2. It proves possession against the stored digest, or against the tag that an earlier proof has left in memory. If
//!    memory cannot decide, and too many authentications from the client's address
//!    [have failed](crate::limiter::RateLimiting::failed_authentications), it refuses the request without a look at
//!    the key (429).
//! 3. It checks environment, format, tenant, status, expiry and network. A failure of any of these, or of an earlier
//!    step, gives one and the same refusal (401). A caller without the secret learns nothing else, except that it sent
//!    no credential, or several.
//! 4. It checks scopes and resources (403).
//! 5. It counts the request in all limits that apply to it (429).
//!
//! A request that cannot be decided is refused as undecidable: it is never granted, and its key is never called wrong.
//! An admitted request holds a [`Permit`], which the adapters keep until its response has been sent
//! (`http/response_body.rs`).
//!
//! # Which requests need the store?
//! The warm path ([`try_verify`](Verifier::try_verify)) decides on this node's cache entry of the key: one lookup, one
//! block of SHA-256, one small lock that no other key shares. It waits for no I/O and no slow hash. The cold path reads
//! the store, proves the secret against the stored digest, and fills the cache entry for the warm path.
//!
//! # Why may a cache entry decide after a revocation elsewhere?
//! It decides for a bounded time (the lease) after its read began, or while polls of the store's change feed keep
//! completing. `cache.rs` explains this, and how a commit of this node overtakes reads (the fence).

mod attempt;
mod checks;
mod cold;
mod denial;
mod explanation;
mod failure_limit;
mod grant;
mod limits;
mod requirement;
mod stats;

pub use attempt::Attempt;
pub(crate) use checks::KeyUse;
pub(crate) use denial::Limited;
pub use denial::{ClaimedKey, Denial, DenialClass, DenialReason};
pub use explanation::{Explanation, Step, StepOutcome};
pub use grant::{Admitted, Grant, Only, Permit, ResourceDenied};
pub use limits::NearLimit;
pub use requirement::{Requirement, RequirementError};
pub use stats::VerifierStats;

pub use crate::cache::KeyCache;

use std::fmt;
use std::sync::Arc;

use self::checks::{CheckInput, Decision, Verdict, decide, record_usage};
use self::cold::Prover;
use self::denial::DeniedKey;
use self::stats::Counters;
use crate::cache::{Cache, Home as _, Match, Slot, Tag, Tagger};
use crate::clock::WallClockReading;
use crate::credential::{Credential, Credentials, KeyForms};
use crate::key::{KeyFormat, KeyId};
use crate::limiter::Limiting;
use crate::random::{RandomError, RandomSource};
use crate::sync::{Count, Striped};

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
///         eprintln!("{}: {}", denial.reason().code(), denial.reason()); // for the operator
///         println!("{} {denial}", denial.class().status()); // for the caller
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

/// State shared by all clones of a verifier.
struct Shared {
    cache: Arc<Cache>,
    credentials: Arc<Credentials>,
    prover: Arc<Prover>,
    limiting: Arc<Limiting>,
    tagger: Tagger,
    counters: Striped<Counters>,
}

impl Verifier {
    /// Creates a verifier over this cache.
    ///
    /// # Errors
    /// [`RandomError`] if the random source provides no key for tags.
    pub(crate) fn new(
        cache: Arc<Cache>,
        credentials: Arc<Credentials>,
        limiting: Arc<Limiting>,
        random: Arc<dyn RandomSource>,
    ) -> Result<Self, RandomError> {
        let shared = Shared {
            tagger: Tagger::new(&*random)?,
            prover: Arc::new(Prover::new(
                Arc::clone(&cache),
                Arc::clone(&credentials),
                Arc::clone(&limiting),
                random,
            )),
            limiting,
            cache,
            credentials,
            counters: Striped::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Decides at once from this node's cache; `None` if that takes a read of the store, a computation of the stored
    /// hash, or the replacement of an outdated digest.
    ///
    /// After `None`, [`verify`](Self::verify) decides.
    ///
    /// The call allocates nothing, unless the requirement
    /// - has checks [by the handler](Requirement::checked_by_handler),
    /// - is used for the first time, or is shared with another Keyward: it is then compiled,
    /// - or names an [undeclared scope](DenialReason::UndeclaredScope) that is not a constant.
    ///
    /// Counting allocates the first time that a key with limits is used on a route with quotas of its own, or after a
    /// change of the key or of its tenant's plan, and when the counters of a window grow: once after its first
    /// sixtieth, and where more than 255 or 65,535 are counted within one.
    #[must_use]
    pub fn try_verify(&self, attempt: &Attempt<'_>) -> Option<Result<Admitted, Denial>> {
        match self.shared.read(attempt) {
            Ok(credential) => self.shared.warm(&credential, attempt),
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
    /// Dropping the future admits nothing and holds no place. A slow hash that has begun ends by itself.
    ///
    /// # Runtime
    /// The verifier gives up on a store that does not answer after the [lease](KeyCache::lease), by tokio's timer: the
    /// runtime needs it enabled, as `#[tokio::main]` does. Without a runtime it waits for the store without a limit.
    pub async fn verify(&self, attempt: &Attempt<'_>) -> Result<Admitted, Denial> {
        let credential = self.shared.read(attempt)?;
        if let Some(verdict) = self.shared.warm(&credential, attempt) {
            return verdict;
        }
        // Boxed, to keep this future small: every request moves it.
        Box::pin(self.shared.cold(&credential, attempt)).await
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
    /// the resources that this requirement asks for; and if another Keyward has admitted the request
    /// ([`DenialReason::OtherKeyward`]), as its scopes and resources have other meanings.
    pub fn check_requirement(&self, grant: &Grant, attempt: &Attempt<'_>) -> Result<Grant, Denial> {
        if !self.has_admitted(grant) {
            // The other Keyward has proven the key, and this one has no key with that id.
            return Err(Denial::naming(grant.key_id(), DenialReason::OtherKeyward));
        }
        let compiler = &self.shared.cache.reads.compiler;
        let compiled = compiler.compile_again(Arc::clone(grant.cached()));
        checks::check_again(&compiled, compiler, attempt)
            .map_err(|reason| Denial::of_key(grant.cached(), reason))?;
        Ok(grant.owing(attempt))
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
        let (id, cache) = (grant.key_id(), &self.shared.cache);
        let is_good = match cache.is_good(id) {
            Some(is_good) => is_good,
            None => {
                let read = cache.is_still_good(id).await;
                read.map_err(|error| Denial::of_key(grant.cached(), error.into()))?
            }
        };
        if is_good {
            Ok(rechecked)
        } else {
            Err(Denial::of_key(grant.cached(), DenialReason::Ended))
        }
    }

    /// Returns whether one verifier is a clone of the other.
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Returns whether this verifier, or a clone of it, issued the grant.
    #[must_use]
    pub(crate) fn has_admitted(&self, grant: &Grant) -> bool {
        let compiler = &self.shared.cache.reads.compiler;
        compiler.has_compiled(grant.cached())
    }

    /// Explains the decision on a request, check by check, for an operator who asks why a key is refused.
    ///
    /// It reads the store and hashes as a first verification does, and changes no counter, limit or cached record. But
    /// a key that it reports as expired stays expired if the clock runs back. The text names the key's id and its
    /// rights, and nothing of its secret.
    pub async fn explain(&self, attempt: &Attempt<'_>) -> Explanation {
        let Shared {
            cache,
            credentials,
            limiting,
            ..
        } = &*self.shared;
        Explanation::of(cache, credentials, limiting, attempt).await
    }

    /// Explains what would be decided on a request with the key of this id, for an operator who has the id from a log
    /// and no secret.
    ///
    /// It takes the secret for proven, and says that it did not check it. It ignores the credential of the attempt:
    /// use [`Attempt::of`] with the requirement of the route, the client's address and the resources that the request
    /// names. Otherwise it works as [`explain`](Self::explain).
    ///
    /// ```
    /// use keyward::{key::KeyId, scope, verifier::{Attempt, Requirement, Verifier}};
    ///
    /// # async fn f(verifier: &Verifier, id: KeyId) -> Result<(), std::net::AddrParseError> {
    /// let requirement = Requirement::scope(scope!("read:editions"));
    /// let attempt = Attempt::of(&requirement).client("203.0.113.7".parse()?);
    /// println!("{}", verifier.explain_key(id, &attempt).await);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Security
    /// It asks no policy and no proof: show its result only to operators who may see every tenant's keys. For others
    /// let [`KeyManager::find_by_id`](crate::manager::KeyManager::find_by_id) decide first.
    pub async fn explain_key(&self, id: KeyId, attempt: &Attempt<'_>) -> Explanation {
        let Shared {
            cache, limiting, ..
        } = &*self.shared;
        Explanation::of_key(cache, limiting, id, attempt).await
    }

    /// Checks at start that a requirement can be met, and returns it.
    ///
    /// An unchecked requirement with a misspelt scope denies every key without full access, request by request
    /// ([`DenialReason::UndeclaredScope`]).
    ///
    /// # Errors
    /// [`RequirementError`] if it names a scope that is not declared, or a malformed kind of resource.
    pub fn prepare(&self, requirement: Requirement) -> Result<Requirement, RequirementError> {
        requirement.check(&self.shared.cache.reads.compiler.catalog)?;
        Ok(requirement)
    }

    /// Makes the verifier read every key, and every tenant's plan, again at its next use.
    ///
    /// Call it after a change of the store behind Keyward's back, such as by hand or from a backup, to take effect
    /// before the [lease](KeyCache::lease) ends, or after a change of plans. Nothing that was counted is forgotten.
    pub fn forget_all(&self) {
        self.shared.cache.slots.forget_all();
        self.shared.limiting.forget_plans();
    }

    /// Returns the format of the accepted keys.
    #[must_use]
    pub(crate) fn format(&self) -> &KeyFormat {
        &self.shared.cache.reads.compiler.format
    }

    /// Returns the forms of the texts that could be keys.
    pub(crate) fn key_forms(&self) -> KeyForms<'_> {
        self.shared.credentials.forms(self.format())
    }

    /// Returns the counters since this verifier was created.
    #[must_use]
    pub fn stats(&self) -> VerifierStats {
        let Shared {
            cache,
            credentials,
            prover,
            counters,
            ..
        } = &*self.shared;
        VerifierStats::read(
            counters,
            &credentials.hasher,
            &cache.stats(),
            prover.rehashes(),
        )
    }

    /// Polls the store's change feed once, for the exploration of schedules, which has no timer.
    #[cfg(keyward_shuttle)]
    #[doc(hidden)]
    pub async fn explore_round(
        &self,
        cursor: &mut Option<crate::store::Cursor>,
    ) -> Result<bool, crate::store::StoreError> {
        self.shared.cache.round(cursor).await
    }

    /// Follows the store's change feed for as long as the future is polled. It never ends.
    pub(crate) async fn follow(&self) {
        self.shared.cache.follow().await;
    }
}

/// The warm path: it reads the credential (`credential.rs`), finds the key's cache entry, asks whether the entry may
/// decide (`cache/lease.rs`), compares the tags (`cache/slot.rs`) and runs the checks (`checks.rs`). Like the cold path
/// (`cold.rs`), it ends in a [`Grant`] or a [`Denial`]; `http/answer.rs` says what the caller learns of a denial.
impl Shared {
    #[inline(always)]
    fn read<'a>(&'a self, attempt: &Attempt<'a>) -> Result<Credential<'a>, Denial> {
        let format = &self.cache.reads.compiler.format;
        let read = self.credentials.read(attempt.presented, format);
        read.map_err(|error| {
            self.counters.add_one(|counters| &counters.malformed);
            Denial::malformed(error)
        })
    }

    /// Computes the tag of the presented credential: of the whole text of an imported key, and of the secret of one of
    /// the application's own keys.
    #[inline]
    fn tag(&self, credential: &Credential<'_>) -> Tag {
        self.counters.add_one(|counters| &counters.tag_hashes);
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
        let place = self.cache.slots.map.find(
            credential.id,
            || self.tag(credential),
            |tag, slot| match self.decide_warm(credential, attempt, tag, slot)? {
                Verdict::Admitted(cached, metered) => Some(Some((cached, metered))),
                Verdict::Denied(reason, limited) => {
                    let key = match &slot.entry {
                        Some(entry) => DeniedKey::cached(&entry.snapshot.compiled.cached, &reason),
                        None => DeniedKey::Named(credential.id),
                    };
                    refused = Some(Denial::new(key, reason, limited));
                    Some(None)
                }
            },
        );
        match (place??, refused) {
            (Some((cached, metered)), _) => Some(Ok(Admitted::new(cached, metered, attempt))),
            (None, Some(denial)) => {
                self.note(&denial);
                Some(Err(denial))
            }
            (None, None) => None,
        }
    }

    /// Counts a denial by its cause.
    fn note(&self, denial: &Denial) {
        let counter: fn(&Counters) -> &Count = match denial.reason() {
            DenialReason::QuotaExceeded { .. } => |counters| &counters.quota_exceeded,
            DenialReason::TooManyInFlight => |counters| &counters.too_many_in_flight,
            DenialReason::CostAboveLimit { .. } => |counters| &counters.cost_above_limit,
            DenialReason::TooManyFailures { .. } => |counters| &counters.too_many_failures,
            DenialReason::Limiter(_) | DenialReason::Plan(_) => |counters| &counters.limits_unknown,
            _ => return,
        };
        self.counters.add_one(counter);
    }

    #[inline(always)]
    fn decide_warm(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        tag: Tag,
        slot: &mut Slot,
    ) -> Option<Verdict> {
        let now = self.cache.slots.lease.now().ok()?;
        self.cache.slots.lease.usable(slot, now)?;
        match slot.compare(tag, credential.legacy.is_none()) {
            Match::Unknown => return None,
            Match::Refuted => return Some(Verdict::Denied(DenialReason::WrongSecret, None)),
            Match::Proven => {}
        }
        let entry = slot.entry.as_mut()?;
        if entry.is_rehash_due(now) {
            return None;
        }
        let wall = match WallClockReading::read(&*self.cache.clock) {
            Ok(wall) => wall,
            Err(error) => return Some(Verdict::Denied(DenialReason::Clock(error), None)),
        };
        let input = CheckInput {
            cache: &self.cache,
            limiting: &self.limiting,
            credential,
            attempt,
            wall,
            now,
        };
        match decide(
            &entry.snapshot.compiled,
            &input,
            &mut entry.meters,
            &mut None,
        ) {
            Decision::Made(verdict) => {
                record_usage(slot, &input, &verdict);
                Some(verdict)
            }
            Decision::NeedsPlan | Decision::NeedsTake(_) => None,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("format", self.format())
            .field("store", &self.shared.cache.store)
            .field("slots", &self.shared.cache.slots)
            .finish_non_exhaustive()
    }
}
