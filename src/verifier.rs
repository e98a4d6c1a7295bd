//! Decides whether a request is admitted.
//!
//! # The order of checks
//! 1. The credential is read: no store call, no hash, no clock.
//! 2. Possession is proven against the stored digest.
//! 3. Environment, format, tenant, status, expiry and network: all of these, and all before, give one and the
//!    same refusal. Whoever lacks the secret learns nothing else.
//! 4. Scopes and resources: forbidden.
//! 5. Requests in flight: throttled.
//!
//! Whatever cannot be decided is refused as undecidable, never granted and never called wrong.
//!
//! Each verification reads the store, and again after each slow hash, so that a revocation counts for all that is
//! decided after it was committed.

mod attempt;
mod denial;
mod grant;
mod in_flight;
mod operations;
mod rehashing;
mod requirement;
mod seen_expired;

pub use attempt::Attempt;
pub use denial::{Denial, DenialClass, DenialReason};
pub use grant::{Admitted, Grant, Only, Refused};
pub use in_flight::Permit;
pub use operations::Operations;
pub use requirement::{Requirement, RequirementError};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::grant::Duties;
use self::in_flight::InFlight;
use self::operations::Counters;
use self::rehashing::Rehashing;
use self::seen_expired::SeenExpired;
use crate::clock::{Clock, normalized};
use crate::hashing::{Binding, Credential, Hasher, HashingError, Possession};
use crate::key::{
    Access, DecodeError, Digest, KeyFormat, KeyId, KeyRecord, KeyStatus, KeyTextError, ScopeCatalog,
};
use crate::random::RandomSource;
use crate::store::{Change, ChangeId, ChangeSet, KeyStore, Outcome, PendingUsage};

/// How far this node's clock may lag behind the one that dated a key before a key with an end is undecidable:
/// a clock that stands before the key was issued cannot tell that it has expired.
const MAX_CLOCK_LAG: Duration = Duration::from_mins(5);

/// How often a secret is compared anew with a digest that was replaced while it was hashed. A digest only ever
/// improves, so that a second time is rare and a third unheard of.
const PROOF_TRIES: u32 = 3;

/// Decides whether requests are admitted. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    parts: Arc<Parts>,
    state: Arc<State>,
}

/// What a verifier is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) usage: Arc<PendingUsage>,
}

#[derive(Default)]
struct State {
    in_flight: Arc<InFlight>,
    seen_expired: SeenExpired,
    rehashing: Arc<Rehashing>,
    counters: Counters,
}

impl Verifier {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            state: Arc::default(),
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
    pub async fn verify(&self, attempt: &Attempt<'_>) -> Result<Admitted, Denial> {
        let (format, foreign) = (&self.parts.format, self.parts.hasher.foreign());
        let presented = match Credential::read(attempt.presented, format, foreign) {
            Ok(presented) => presented,
            Err(error) => {
                self.state.counters.unreadable();
                return Err(malformed(error));
            }
        };
        let deny = |reason| Denial::of_key(presented.id, reason);
        let (record, outdated) = self.prove(&presented).await.map_err(deny)?;
        let verdict = self.admit(&presented, record, outdated, attempt).await;
        self.note_use(presented.id, verdict.as_ref().err());
        verdict.map_err(deny)
    }

    /// Checks at start that a requirement can be met as meant, and hands it back.
    ///
    /// # Errors
    /// [`RequirementError`] if it names a scope that is not declared, or a malformed kind of resource.
    pub fn prepare(&self, requirement: Requirement) -> Result<Requirement, RequirementError> {
        requirement.check(&self.parts.catalog)?;
        Ok(requirement)
    }

    /// The format whose keys are accepted.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.parts.format
    }

    /// What has been done so far, counted since this verifier was made.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.state.counters.read(&self.parts.hasher)
    }

    /// What the possessor of a key's secret is told.
    async fn admit(
        &self,
        presented: &Credential<'_>,
        mut record: KeyRecord,
        outdated: bool,
        attempt: &Attempt<'_>,
    ) -> Result<Admitted, DenialReason> {
        self.check(presented, &record, attempt)?;
        if outdated && self.rehash(presented, &record).await {
            // Much may have happened meanwhile.
            record = self.read(presented).await?;
            self.check(presented, &record, attempt)?;
        }
        // From the last look at the store and at the clock to here nothing has been waited for.
        let in_flight = &self.state.in_flight;
        let permit = in_flight
            .admit(record.id(), record.concurrency())
            .ok_or(DenialReason::TooManyInFlight)?;
        let duties = Duties::new(attempt.requirement.handler_checks());
        Ok(Admitted::new(Grant::new(record, duties), permit))
    }

    /// Takes down that a key was used by whoever has its secret. What could not be decided was no use.
    fn note_use(&self, key: KeyId, denied: Option<&DenialReason>) {
        if denied.is_some_and(|reason| reason.class() == DenialClass::Undecidable) {
            return;
        }
        if let Some(now) = self.parts.clock.now().ok().and_then(normalized) {
            self.parts.usage.record(key, now, denied.is_none());
        }
    }

    async fn read(&self, presented: &Credential<'_>) -> Result<KeyRecord, DenialReason> {
        self.state.counters.store_read();
        let stored = self.parts.store.get(presented.id).await;
        let stored = stored.map_err(DenialReason::Store)?;
        let stored = stored.ok_or(DenialReason::UnknownKey)?;
        if stored.id != presented.id {
            return Err(DenialReason::Unreadable(DecodeError::Corrupt {
                source: None,
            }));
        }
        KeyRecord::decode(stored).map_err(DenialReason::Unreadable)
    }

    /// The record of the key, once the secret has proven to be its own, and whether its digest ranks lower than
    /// today's choice.
    ///
    /// A slow hash may have waited long for its turn: the record is then read again, and if its digest is another
    /// by now, the secret is compared with that one.
    async fn prove(&self, presented: &Credential<'_>) -> Result<(KeyRecord, bool), DenialReason> {
        let mut record = self.read(presented).await?;
        for _ in 0..PROOF_TRIES {
            let verdict = self.parts.hasher.verify(
                record.digest(),
                binding(&record),
                presented,
                record.origin(),
            );
            match verdict.await {
                Ok(Possession::Proven { outdated, slowly }) => {
                    if !slowly {
                        return Ok((record, outdated));
                    }
                    let now = self.read(presented).await?;
                    if now.digest() == record.digest() && now.environment() == record.environment()
                    {
                        return Ok((now, outdated));
                    }
                    record = now;
                }
                Ok(Possession::Refuted) => return Err(DenialReason::WrongSecret),
                Err(error) => return Err(DenialReason::Hashing(error)),
            }
        }
        Err(DenialReason::Hashing(HashingError::Unfinished))
    }

    /// All that the possessor of a key's secret may still be refused for.
    fn check(
        &self,
        presented: &Credential<'_>,
        record: &KeyRecord,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        self.check_credential(presented, record, attempt)?;
        self.check_requirement(record, attempt)
    }

    /// What the possessor of a secret may still be refused as a stranger for.
    fn check_credential(
        &self,
        presented: &Credential<'_>,
        record: &KeyRecord,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        let format = &self.parts.format;
        let environment = record.environment();
        let is_accepted = format
            .environments()
            .any(|accepted| accepted == environment);
        let is_as_named = [presented.environment, attempt.environment]
            .into_iter()
            .flatten()
            .all(|named| named == environment);
        if !is_accepted || !is_as_named {
            return Err(DenialReason::OtherEnvironment);
        }
        // A key has one form: the text that its client was given.
        if record.prefix() != format.prefix() || record.foreign_format() != presented.foreign {
            return Err(DenialReason::OtherFormat);
        }
        if attempt
            .tenant
            .is_some_and(|tenant| tenant != record.tenant())
        {
            return Err(DenialReason::OtherTenant);
        }
        self.check_status(record)?;
        if !record.networks().permit(attempt.client) {
            return Err(match attempt.client {
                Some(_) => DenialReason::OutsideNetworks,
                None => DenialReason::AddressUnknown,
            });
        }
        Ok(())
    }

    fn check_status(&self, record: &KeyRecord) -> Result<(), DenialReason> {
        let clock = self.parts.clock.now().map_err(DenialReason::Clock)?;
        let now = self.state.seen_expired.judged_at(clock, record);
        match record.status(now) {
            KeyStatus::Active => {}
            KeyStatus::Revoked => {
                return Err(match record.revocation() {
                    Some(revocation) => DenialReason::Revoked {
                        at: revocation.at,
                        reason: revocation.reason.clone(),
                    },
                    None if record.is_cut_off() => DenialReason::CutOff,
                    None => DenialReason::Superseded,
                });
            }
            KeyStatus::Expired => return Err(DenialReason::Expired),
            KeyStatus::Suspended => return Err(DenialReason::Suspended),
            KeyStatus::NotYetValid => return Err(DenialReason::NotYetValid),
        }
        if record.expires_at().is_some() && record.created_at() - clock > MAX_CLOCK_LAG {
            return Err(DenialReason::ClockBehind);
        }
        Ok(())
    }

    fn check_requirement(
        &self,
        record: &KeyRecord,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        let requirement = attempt.requirement;
        let has_access = match record.access() {
            Access::Full => true,
            Access::Scopes(_) if requirement.needs_full_access() => false,
            Access::Scopes(held) => requirement
                .scope_rule()
                .is_none_or(|rule| self.parts.catalog.grants(held, rule)),
        };
        if !has_access {
            return Err(DenialReason::MissingAccess);
        }
        requirement.check_resources(record.resources(), attempt)
    }

    /// Stores a better digest; whether anything was waited for. The verdict does not depend on its success: a
    /// later request tries again.
    async fn rehash(&self, presented: &Credential<'_>, record: &KeyRecord) -> bool {
        let Some(turn) = self.state.rehashing.begin(record.id()) else {
            return false; // Another request is at it.
        };
        let better = self.parts.hasher.improve(
            record.digest(),
            binding(record),
            presented.secret,
            record.origin(),
            turn,
        );
        let replaced = match better.await {
            Ok(Some(better)) => self.replace_digest(record, better).await,
            Ok(None) => return false,
            Err(_) => false,
        };
        self.state.counters.rehashed(replaced);
        true
    }

    async fn replace_digest(&self, record: &KeyRecord, to: Digest) -> bool {
        let change = Change::Rehash {
            id: record.id(),
            from: record.digest().clone(),
            to,
        };
        let set = ChangeSet::one(ChangeId::generate(&*self.parts.random), change);
        let committed = self.parts.store.commit(&set).await;
        committed.is_ok_and(|committed| committed.outcomes == [Outcome::Rehashed])
    }
}

fn binding(record: &KeyRecord) -> Binding<'_> {
    Binding {
        environment: record.environment(),
        id: record.id(),
    }
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
            .field("format", &self.parts.format)
            .field("store", &self.parts.store)
            .finish_non_exhaustive()
    }
}
