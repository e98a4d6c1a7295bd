//! The checks that follow the proof of a secret, and the verdict on a request.

use std::sync::Arc;

use super::attempt::Attempt;
use super::denial::{DenialClass, DenialReason, Limited};
use super::requirement::Settled;
use crate::cache::{Cache, CachedRecord, CompiledRecord, Compiler, Reach, Slot, Standing};
use crate::clock::{WallClockReading, from_unix_micros};
use crate::credential::Credential;
use crate::key::{Environment, KeyId, KeyRecord, PrefixIndex, Resource, Resources};
use crate::limiter::{Limiting, Meter, Metered, ParkedMeters, PlanMissing, TakeError, Tick};

/// The input of a key's checks: one request, and the time.
pub(super) struct CheckInput<'a> {
    pub(super) cache: &'a Cache,
    pub(super) limiting: &'a Limiting,
    pub(super) credential: &'a Credential<'a>,
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) wall: WallClockReading<'a>,
    /// The monotonic clock, in nanoseconds.
    pub(super) now: u64,
}

/// The verdict on a request: admitted, with its charge; or denied, with the limits that apply.
pub(super) enum Verdict {
    Admitted(Arc<CachedRecord>, Option<Metered>),
    Denied(DenialReason, Option<Limited>),
}

/// The decision on a request that has proven the key's secret.
pub(super) enum Decision {
    Made(Verdict),
    /// The plan of the key's tenant has to be read first.
    NeedsPlan,
    /// This meter counts by I/O.
    NeedsTake(Arc<dyn Meter>),
}

/// Decides on a request that has proven the key's secret, and counts it if it is admitted. `parked` are the meters of
/// this very record. `taken` is the charge that was taken already.
#[inline(always)]
pub(super) fn decide(
    compiled: &CompiledRecord,
    input: &CheckInput<'_>,
    parked: &mut Option<Box<ParkedMeters>>,
    taken: &mut Option<Metered>,
) -> Decision {
    let judged = input.judge(compiled);
    if !input.is_limited(compiled) {
        return Decision::Made(match judged {
            Ok(()) => Verdict::Admitted(Arc::clone(&compiled.cached), None),
            Err(reason) => Verdict::Denied(reason, None),
        });
    }
    match judged {
        Ok(()) => input.count(compiled, parked, taken),
        Err(reason) => input.deny_limited(compiled, parked, reason),
    }
}

/// How a request used a key that it proved to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    Granted,
    Refused,
}

impl KeyUse {
    /// Returns the use of a denied request. `None`: an undecidable request did not use the key.
    pub(crate) fn of_denied(class: DenialClass) -> Option<Self> {
        (class != DenialClass::Undecidable).then_some(Self::Refused)
    }

    #[inline(always)]
    fn record(self, slot: &mut Slot, now: i64) {
        match self {
            Self::Granted => slot.granted = slot.granted.saturating_add(1),
            Self::Refused => slot.refused = slot.refused.saturating_add(1),
        }
        slot.last_used = now;
        slot.is_referenced = true;
    }

    /// Records the use of a key after the verdict. It is lost if the key has no slot by now.
    pub(super) fn record_later(self, cache: &Cache, id: KeyId) {
        if let Ok(now) = cache.clock.coarse_micros() {
            let record = |(), slot: &mut Slot| self.record(slot, now);
            cache.slots.map.find(id, || (), record);
        }
    }
}

/// Records the use of the key, unless the decision on the request is still to come. The caller holds the slot's lock.
#[inline(always)]
pub(super) fn record_usage(slot: &mut Slot, input: &CheckInput<'_>, verdict: &Verdict) {
    let used = match verdict {
        Verdict::Admitted(..) => input.attempt.use_if_admitted(),
        Verdict::Denied(reason, _) => KeyUse::of_denied(reason.class()),
    };
    if let Some(used) = used {
        used.record(slot, input.wall.coarse());
    }
}

/// A check that follows the proof of the secret, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Environment,
    Format,
    Tenant,
    Status,
    Network,
    Access,
    Resources,
}

impl Check {
    pub(super) const ALL: [Self; 7] = [
        Self::Environment,
        Self::Format,
        Self::Tenant,
        Self::Status,
        Self::Network,
        Self::Access,
        Self::Resources,
    ];
}

impl CheckInput<'_> {
    /// Returns whether any limit may apply.
    #[inline(always)]
    fn is_limited(&self, compiled: &CompiledRecord) -> bool {
        compiled.is_limited
            || self.limiting.has_plans()
            || self.attempt.requirement.quotas().is_some()
    }

    /// Returns the meter that counts the request.
    #[inline(always)]
    fn meter<'a>(
        &self,
        compiled: &CompiledRecord,
        parked: &'a mut Option<Box<ParkedMeters>>,
    ) -> Result<Option<&'a Arc<dyn Meter>>, PlanMissing> {
        let route = self.attempt.requirement.quotas();
        self.limiting
            .meter(parked, compiled.record(), route, self.now)
    }

    /// Takes the request's cost of all limits that apply.
    fn count(
        &self,
        compiled: &CompiledRecord,
        parked: &mut Option<Box<ParkedMeters>>,
        taken: &mut Option<Metered>,
    ) -> Decision {
        let admit =
            |metered| Decision::Made(Verdict::Admitted(Arc::clone(&compiled.cached), metered));
        if let Some(taken) = taken.take() {
            return admit(Some(taken.served()));
        }
        let meter = match self.meter(compiled, parked) {
            Ok(Some(meter)) => meter,
            Ok(None) => return admit(None),
            Err(PlanMissing) => return Decision::NeedsPlan,
        };
        let charge = self.attempt.charge();
        match meter.try_take(Tick::from_nanos(self.now), charge) {
            Some(Ok(taken)) => admit(Some(Metered::new(Arc::clone(meter), taken).served())),
            Some(Err(error)) => {
                let has_failed = matches!(error, TakeError::Failed(_));
                let (reason, limited) = Limited::refused(meter, charge.cost, error);
                if has_failed {
                    // The limiter may make a better one for the next request.
                    *parked = None;
                }
                Decision::Made(Verdict::Denied(reason, limited))
            }
            None => Decision::NeedsTake(Arc::clone(meter)),
        }
    }

    /// Denies a request, with the limits that apply if the caller may know them.
    #[cold]
    fn deny_limited(
        &self,
        compiled: &CompiledRecord,
        parked: &mut Option<Box<ParkedMeters>>,
        reason: DenialReason,
    ) -> Decision {
        let limited = match reason.class() {
            DenialClass::Forbidden => match self.meter(compiled, parked) {
                Ok(meter) => {
                    meter.map(|meter| Limited::by(meter, self.attempt.cost_of_quotas().get()))
                }
                Err(PlanMissing) => return Decision::NeedsPlan,
            },
            _ => None,
        };
        Decision::Made(Verdict::Denied(reason, limited))
    }

    /// Runs all checks, in order.
    #[inline(always)]
    pub(super) fn judge(&self, compiled: &CompiledRecord) -> Result<(), DenialReason> {
        // In the order of `Check::ALL`. A loop would cost a dispatch for each check.
        self.check(Check::Environment, compiled)?;
        self.check(Check::Format, compiled)?;
        self.check(Check::Tenant, compiled)?;
        self.check(Check::Status, compiled)?;
        self.check(Check::Network, compiled)?;
        self.check(Check::Access, compiled)?;
        self.check(Check::Resources, compiled)
    }

    #[inline(always)]
    pub(super) fn check(
        &self,
        check: Check,
        compiled: &CompiledRecord,
    ) -> Result<(), DenialReason> {
        match check {
            Check::Environment => self.check_environment(compiled),
            Check::Format => self.check_format(compiled),
            Check::Tenant => check_tenant(compiled, self.attempt),
            Check::Status => self.check_status(compiled),
            Check::Network => self.check_network(compiled),
            Check::Access => check_access(compiled, &self.cache.reads.compiler, self.attempt),
            Check::Resources => check_resources(compiled, self.attempt),
        }
    }

    #[inline]
    fn check_environment(&self, compiled: &CompiledRecord) -> Result<(), DenialReason> {
        // Compares with the format's environments: the record's own is behind one more pointer.
        let mut accepted = self.cache.reads.compiler.format.environments();
        let environment = accepted.nth(compiled.environment.into());
        let named = [self.credential.environment, self.attempt.environment];
        let mut named = named.into_iter().flatten();
        // The environment in a key's text is mostly this very object.
        let is_same = |a: &Environment, b: &Environment| std::ptr::eq(a, b) || a == b;
        let is_as_named = |environment| named.all(|named| is_same(named, environment));
        if compiled.standing != Standing::OtherEnvironment && environment.is_some_and(is_as_named) {
            return Ok(());
        }
        Err(DenialReason::OtherEnvironment)
    }

    /// Checks that the key is presented in its one form: the text that its client was given.
    #[inline]
    fn check_format(&self, compiled: &CompiledRecord) -> Result<(), DenialReason> {
        let is_as_given = match self.credential.legacy {
            // A pair has no prefix.
            None => {
                let is_same = |named| named == compiled.prefix;
                compiled.is_ours && self.credential.prefix.is_none_or(is_same)
            }
            legacy => {
                let is_known = compiled.prefix != PrefixIndex::NONE;
                is_known && compiled.record().legacy_format() == legacy
            }
        };
        if is_as_given {
            Ok(())
        } else {
            Err(DenialReason::OtherFormat)
        }
    }

    #[inline]
    fn check_status(&self, compiled: &CompiledRecord) -> Result<(), DenialReason> {
        if compiled.standing == Standing::Ended {
            return Err(why_ended(compiled.record()));
        }
        let wall = &self.wall;
        let is_over = self.cache.passed.has_passed(compiled.ends, wall);
        if is_over.map_err(DenialReason::Clock)? {
            return Err(why_over(compiled, wall));
        }
        if compiled.standing == Standing::Suspended {
            return Err(DenialReason::Suspended);
        }
        let has_reached = |instant| wall.has_reached(instant).map_err(DenialReason::Clock);
        if compiled.starts != i64::MIN && !has_reached(compiled.starts)? {
            return Err(DenialReason::NotYetValid);
        }
        if compiled.sane_from != i64::MIN && !has_reached(compiled.sane_from)? {
            return Err(DenialReason::ClockBehind);
        }
        Ok(())
    }

    #[inline]
    fn check_network(&self, compiled: &CompiledRecord) -> Result<(), DenialReason> {
        let client = self.attempt.client;
        if !compiled.has_networks || compiled.record().restrictions().networks.permit(client) {
            return Ok(());
        }
        Err(match client {
            Some(_) => DenialReason::OutsideNetworks,
            None => DenialReason::AddressUnknown,
        })
    }
}

/// Checks an admitted key against another attempt: the environment and the tenant that it addresses, access and
/// resources.
pub(super) fn check_again(
    compiled: &CompiledRecord,
    compiler: &Compiler,
    attempt: &Attempt<'_>,
) -> Result<(), DenialReason> {
    let addressed = attempt.environment;
    if addressed.is_some_and(|addressed| addressed != compiled.record().environment()) {
        return Err(DenialReason::OtherEnvironment);
    }
    check_tenant(compiled, attempt)?;
    check_access(compiled, compiler, attempt)?;
    check_resources(compiled, attempt)
}

#[inline]
fn check_tenant(compiled: &CompiledRecord, attempt: &Attempt<'_>) -> Result<(), DenialReason> {
    match attempt.tenant {
        Some(tenant) if tenant != compiled.record().tenant() => Err(DenialReason::OtherTenant),
        _ => Ok(()),
    }
}

#[inline]
fn check_access(
    compiled: &CompiledRecord,
    compiler: &Compiler,
    attempt: &Attempt<'_>,
) -> Result<(), DenialReason> {
    let requirement = attempt.requirement;
    let has_access = match &compiled.reach {
        Reach::Full => true,
        Reach::Few(bits) => requirement.is_met(compiler.catalog_id, &compiler.catalog, |index| {
            index < 64 && bits & (1 << index) != 0
        }),
        Reach::Many(bits) => requirement.is_met(compiler.catalog_id, &compiler.catalog, |index| {
            bits.contains(index)
        }),
    };
    if has_access {
        return Ok(());
    }
    Err(match requirement.undeclared(&compiler.catalog) {
        Some(scope) => DenialReason::UndeclaredScope(scope.clone()),
        None => DenialReason::MissingAccess,
    })
}

#[inline]
fn check_resources(compiled: &CompiledRecord, attempt: &Attempt<'_>) -> Result<(), DenialReason> {
    // Most routes settle no kind of resource, and most requests name none.
    let settles_none = attempt.requirement.settled().is_empty();
    if !compiled.is_restricted && settles_none && !attempt.has_too_many {
        return Ok(());
    }
    check_each_resource(&compiled.record().restrictions().resources, attempt)
}

fn check_each_resource(resources: &Resources, attempt: &Attempt<'_>) -> Result<(), DenialReason> {
    let settled = attempt.requirement.settled();
    let settles_all = attempt.requirement.settles_all();
    for first in resources.first_of_each_kind() {
        if !settles_all && !settled.iter().any(|(kind, _)| **kind == *first.kind()) {
            let kind = first.shared_kind();
            return Err(DenialReason::ResourceUnsettled { kind });
        }
    }
    if attempt.has_too_many {
        return Err(DenialReason::TooManyResources);
    }
    for (kind, way) in settled {
        let mut named = attempt.named_resources().map(|(named, _)| named);
        if *way == Settled::Named && !named.any(|named| named == &**kind) {
            let kind = Arc::clone(kind);
            return Err(DenialReason::ResourceUnbound { kind });
        }
    }
    // Each named resource must be permitted, whatever settles its kind.
    for (kind, value) in attempt.named_resources() {
        if !resources.permit(kind, value) {
            let of_kind = resources.values(kind).first();
            let kind = of_kind.map_or_else(|| kind.into(), Resource::shared_kind);
            return Err(DenialReason::ResourceRefused { kind });
        }
    }
    Ok(())
}

#[cold]
fn why_ended(record: &KeyRecord) -> DenialReason {
    match record.revocation() {
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
fn why_over(compiled: &CompiledRecord, wall: &WallClockReading<'_>) -> DenialReason {
    let record = compiled.record();
    // Most keys were never rotated, and then the reading need not be converted to a date.
    let is_superseded = record.rotation().is_some()
        && from_unix_micros(wall.coarse().max(compiled.ends))
            .is_some_and(|now| record.is_superseded(now));
    if is_superseded {
        DenialReason::Superseded
    } else {
        DenialReason::Expired
    }
}
