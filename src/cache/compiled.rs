//! A record in the form that the verifier decides on: scopes as bits, instants as integers, and the rest behind one
//! pointer.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use super::PassedEnds;
use crate::clock::{COARSE_LAG_MICROS, Clock, from_unix_micros, unix_micros};
use crate::credential::Credential;
use crate::key::{Access, Bits, Environment, KeyRecord, Networks, Resources};
use crate::verifier::{Attempt, Core, DenialReason, MAX_CLOCK_LAG_MICROS, VerifierParts};

/// A key's record as this node caches it, shared by its slot and all its grants.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    pub(crate) record: KeyRecord,
    /// The verifier that read it.
    pub(crate) home: Weak<Core>,
    /// Approximate size in memory, in bytes.
    pub(crate) bytes: u32,
}

/// A record compiled for deciding: scopes as bits, instants as integers.
#[derive(Debug, Clone)]
pub(crate) struct CompiledRecord {
    pub(crate) cached: Arc<CachedRecord>,
    reach: Reach,
    /// The first instant at which the key is valid, and the first at which it is not any more, in microseconds of Unix
    /// time.
    starts: i64,
    pub(crate) ends: i64,
    /// For a key with an expiry, the earliest instant at which a clock can be right.
    sane_from: i64,
    pub(crate) revision: u64,
    pub(crate) concurrency: Option<NonZeroU32>,
    standing: Standing,
    /// Index of the key's environment among those of the format.
    environment: u8,
    /// Whether the key is of the application's own format.
    pub(crate) is_ours: bool,
    is_restricted: bool,
    has_networks: bool,
    /// Whether guesses at the secret could succeed, and so are throttled.
    pub(crate) is_weak: bool,
}

/// Scopes that the key reaches.
#[derive(Debug, Clone)]
enum Reach {
    Full,
    /// The first 64 scopes, which are the only ones of most applications.
    Few(u64),
    Many(Box<Bits>),
}

/// The part of the status that time alone cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    Ended,
    Suspended,
    OtherEnvironment,
}

/// The input of a key's checks: one request, and the time.
pub(crate) struct CheckInput<'a> {
    pub(crate) parts: &'a VerifierParts,
    pub(crate) credential: &'a Credential<'a>,
    pub(crate) attempt: &'a Attempt<'a>,
    pub(crate) wall: WallClockReading<'a>,
}

/// A check that follows the proof of the secret, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Environment,
    Format,
    Tenant,
    Status,
    Network,
    Access,
    Resources,
}

impl Check {
    pub(crate) const ALL: [Self; 7] = [
        Self::Environment,
        Self::Format,
        Self::Tenant,
        Self::Status,
        Self::Network,
        Self::Access,
        Self::Resources,
    ];
}

impl CompiledRecord {
    pub(crate) fn new(cached: Arc<CachedRecord>, parts: &VerifierParts) -> Self {
        let record = &cached.record;
        let reach = match record.access() {
            Access::Full => Reach::Full,
            Access::Scopes(held) => {
                let bits = parts.catalog.reach(held);
                let few = bits.as_first_word().map(Reach::Few);
                few.unwrap_or_else(|| Reach::Many(Box::new(bits)))
            }
        };
        let mut environments = parts.format.environments();
        let environment = environments.position(|accepted| accepted == record.environment());
        let environment = environment.and_then(|index| u8::try_from(index).ok());
        let standing = if environment.is_none() {
            Standing::OtherEnvironment
        } else if record.revocation().is_some() || record.is_cut_off() {
            Standing::Ended
        } else if record.suspended_at().is_some() {
            Standing::Suspended
        } else {
            Standing::Good
        };
        Self {
            reach,
            starts: record.not_before().map_or(i64::MIN, unix_micros),
            ends: record.end().map_or(i64::MAX, unix_micros),
            sane_from: match record.expires_at() {
                Some(_) => unix_micros(record.created_at()).saturating_sub(MAX_CLOCK_LAG_MICROS),
                None => i64::MIN,
            },
            revision: record.revision(),
            concurrency: record.concurrency(),
            standing,
            environment: environment.unwrap_or(u8::MAX),
            has_networks: *record.networks() != Networks::Any,
            is_ours: record.prefix() == parts.format.prefix() && record.legacy_format().is_none(),
            is_restricted: *record.resources() != Resources::Any,
            is_weak: !record.origin().is_strong(),
            cached,
        }
    }

    pub(crate) fn record(&self) -> &KeyRecord {
        &self.cached.record
    }

    /// Runs all checks, in order.
    #[inline]
    pub(crate) fn judge(&self, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        // In the order of `Check::ALL`. A loop would cost a dispatch for each check.
        self.check(Check::Environment, input)?;
        self.check(Check::Format, input)?;
        self.check(Check::Tenant, input)?;
        self.check(Check::Status, input)?;
        self.check(Check::Network, input)?;
        self.check(Check::Access, input)?;
        self.check(Check::Resources, input)
    }

    #[inline(always)]
    pub(crate) fn check(&self, check: Check, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        match check {
            Check::Environment => self.check_environment(input),
            Check::Format => self.check_format(input),
            Check::Tenant => self.check_tenant(input.attempt),
            Check::Status => self.check_status(input),
            Check::Network => self.check_network(input),
            Check::Access => self.check_access(input.parts, input.attempt),
            Check::Resources => self.check_resources(input.attempt),
        }
    }

    #[inline]
    fn check_environment(&self, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        // Compares with the format's environments: the record's own is behind one more pointer.
        let mut accepted = input.parts.format.environments();
        let environment = accepted.nth(self.environment.into());
        let named = [input.credential.environment, input.attempt.environment];
        let mut named = named.into_iter().flatten();
        // The environment in a key's text is mostly this very object.
        let is_same = |a: &Environment, b: &Environment| std::ptr::eq(a, b) || a == b;
        let is_as_named = |environment| named.all(|named| is_same(named, environment));
        if self.standing != Standing::OtherEnvironment && environment.is_some_and(is_as_named) {
            return Ok(());
        }
        Err(DenialReason::OtherEnvironment)
    }

    /// Checks that the key is presented in its one form: the text that its client was given.
    #[inline]
    fn check_format(&self, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        let presented = input.credential.legacy;
        let is_as_given = if self.is_ours {
            presented.is_none()
        } else {
            let (record, format) = (self.record(), &input.parts.format);
            record.prefix() == format.prefix() && record.legacy_format() == presented
        };
        if is_as_given {
            Ok(())
        } else {
            Err(DenialReason::OtherFormat)
        }
    }

    #[inline]
    fn check_tenant(&self, attempt: &Attempt<'_>) -> Result<(), DenialReason> {
        match attempt.tenant {
            Some(tenant) if tenant != self.record().tenant() => Err(DenialReason::OtherTenant),
            _ => Ok(()),
        }
    }

    #[inline]
    fn check_status(&self, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        if self.standing == Standing::Ended {
            return Err(self.why_ended());
        }
        let wall = &input.wall;
        if self.is_over(wall, &input.parts.passed)? {
            return Err(self.why_over(wall));
        }
        if self.standing == Standing::Suspended {
            return Err(DenialReason::Suspended);
        }
        if self.starts != i64::MIN && !wall.has_reached(self.starts)? {
            return Err(DenialReason::NotYetValid);
        }
        if self.sane_from != i64::MIN && !wall.has_reached(self.sane_from)? {
            return Err(DenialReason::ClockBehind);
        }
        Ok(())
    }

    #[inline]
    fn check_network(&self, input: &CheckInput<'_>) -> Result<(), DenialReason> {
        let client = input.attempt.client;
        if !self.has_networks || self.record().networks().permit(client) {
            return Ok(());
        }
        Err(match client {
            Some(_) => DenialReason::OutsideNetworks,
            None => DenialReason::AddressUnknown,
        })
    }

    /// Checks an admitted key against another attempt: the environment and the tenant that it addresses, access and
    /// resources.
    pub(crate) fn check_again(
        &self,
        parts: &VerifierParts,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        let addressed = attempt.environment;
        if addressed.is_some_and(|addressed| addressed != self.record().environment()) {
            return Err(DenialReason::OtherEnvironment);
        }
        self.check_tenant(attempt)?;
        self.check_access(parts, attempt)?;
        self.check_resources(attempt)
    }

    #[inline]
    fn check_access(
        &self,
        parts: &VerifierParts,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        let requirement = attempt.requirement;
        let has_access = match &self.reach {
            Reach::Full => true,
            Reach::Few(bits) => requirement.is_met(parts.catalog_id, &parts.catalog, |index| {
                index < 64 && bits & (1 << index) != 0
            }),
            Reach::Many(bits) => requirement.is_met(parts.catalog_id, &parts.catalog, |index| {
                bits.contains(index)
            }),
        };
        if has_access {
            return Ok(());
        }
        Err(match requirement.undeclared(&parts.catalog) {
            Some(scope) => DenialReason::UndeclaredScope(scope.clone()),
            None => DenialReason::MissingAccess,
        })
    }

    #[inline]
    fn check_resources(&self, attempt: &Attempt<'_>) -> Result<(), DenialReason> {
        let requirement = attempt.requirement;
        if self.is_restricted {
            return requirement.check_resources(self.record().resources(), attempt);
        }
        // Most routes settle no kind of resource, and most requests name none.
        if !requirement.settles_any() && !attempt.names_too_many() {
            return Ok(());
        }
        requirement.check_resources(&Resources::Any, attempt)
    }

    #[cold]
    fn why_ended(&self) -> DenialReason {
        match self.record().revocation() {
            Some(revocation) => DenialReason::Revoked {
                at: revocation.at,
                reason: revocation.reason.clone(),
            },
            None => DenialReason::CutOff,
        }
    }

    /// Returns which of the key's ends has come.
    ///
    /// An end that was seen to pass has come, whatever the clock says now. The coarse reading is enough, as only the
    /// operator's reason depends on it.
    #[cold]
    fn why_over(&self, wall: &WallClockReading<'_>) -> DenialReason {
        let record = self.record();
        // Most keys were never rotated, and then the reading need not be converted to a date.
        let is_superseded = record.rotation().is_some()
            && from_unix_micros(wall.coarse().max(self.ends))
                .is_some_and(|now| record.is_superseded(now));
        if is_superseded {
            DenialReason::Superseded
        } else {
            DenialReason::Expired
        }
    }

    /// Returns whether the key's end has come, or was seen to pass before. An end that has come is remembered.
    #[inline]
    fn is_over(
        &self,
        wall: &WallClockReading<'_>,
        passed: &PassedEnds,
    ) -> Result<bool, DenialReason> {
        if self.ends == i64::MAX {
            return Ok(false);
        }
        if passed.include(self.ends) {
            return Ok(true);
        }
        let has_come = wall.has_reached(self.ends)?;
        if has_come {
            passed.add(self.ends);
        }
        Ok(has_come)
    }

    /// Returns whether the key is good now: neither ended nor suspended.
    pub(crate) fn is_good(
        &self,
        wall: &WallClockReading<'_>,
        passed: &PassedEnds,
    ) -> Result<bool, DenialReason> {
        let is_good = self.standing == Standing::Good && !self.is_over(wall, passed)?;
        Ok(is_good && (self.sane_from == i64::MIN || wall.has_reached(self.sane_from)?))
    }
}

/// The wall clock as one verification reads it: coarsely, and exactly only if that matters.
pub(crate) struct WallClockReading<'a> {
    clock: &'a dyn Clock,
    coarse: i64,
    exact: Cell<Option<i64>>,
}

impl<'a> WallClockReading<'a> {
    pub(crate) fn read(clock: &'a dyn Clock) -> Result<Self, DenialReason> {
        Ok(Self {
            coarse: clock.coarse_micros().map_err(DenialReason::Clock)?,
            clock,
            exact: Cell::new(None),
        })
    }

    pub(crate) fn coarse(&self) -> i64 {
        self.coarse
    }

    /// Returns whether the instant has come.
    #[inline]
    fn has_reached(&self, instant: i64) -> Result<bool, DenialReason> {
        // Far from the instant the coarse reading decides: it costs an eighth of the exact one.
        if self.coarse.saturating_sub(COARSE_LAG_MICROS) >= instant {
            return Ok(true);
        }
        if self.coarse.saturating_add(COARSE_LAG_MICROS) < instant {
            return Ok(false);
        }
        Ok(self.exact()? >= instant)
    }

    #[cold]
    pub(crate) fn exact(&self) -> Result<i64, DenialReason> {
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let exact = unix_micros(self.clock.now().map_err(DenialReason::Clock)?);
        self.exact.set(Some(exact));
        Ok(exact)
    }
}
