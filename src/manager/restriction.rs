//! The most that a key may do, as exported, and cutting a key down to it.
//!
//! INVARIANT: cutting never gives a key anything. On each axis the key keeps the part that both it and the export
//! allow. If they have nothing in common that a key can express, the key is suspended.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{InvalidKey, ManagerParts};
use crate::clock::normalized;
use crate::key::{
    Access, KeyId, KeyRecord, Networks, Quota, Resources, RevokeReason, Scope, ScopeCatalog,
    ScopeSet, StoredKey, TenantId,
};

/// The most that a key may do, as exported, to be kept apart from the store: one line of JSON, and no secret.
///
/// It holds the key's restrictions, and neither title, owner nor metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Restriction {
    /// Id of the key.
    pub id: KeyId,
    /// Tenant of the key.
    pub tenant: TenantId,
    /// The most that the key may do.
    pub bound: Bound,
}

/// The most that a key may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Bound {
    /// Nothing: the key was revoked, or a kill switch has ended it.
    Revoked {
        /// Instant of the revocation.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
        /// Reason for the revocation.
        reason: RevokeReason,
    },
    /// At most these limits.
    Limited(Box<KeyLimits>),
    /// Nothing: the stored key could not be read.
    Unreadable,
}

/// The most that a key may do, on each axis that can change.
///
/// Deserializes only if every field is present and there is no other: half-reading a restriction would lift it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KeyLimits {
    /// Access of the key.
    pub access: Access,
    /// Resources that the key may touch.
    pub resources: Resources,
    /// Networks from which the key may be used.
    pub networks: Networks,
    /// Quotas of the key.
    pub quotas: Vec<Quota>,
    /// Most requests of the key in flight at once on one node. `None`: no limit.
    #[serde(deserialize_with = "Option::deserialize")]
    pub concurrency: Option<NonZeroU32>,
    /// First instant at which the key is no longer valid, by its expiry or a rotation. `None`: valid until revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Instant of the suspension. `None`: not suspended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
}

/// Reason with which a replay revokes a key that a kill switch had ended.
const CUT_OFF: &str = "cut off";

impl Restriction {
    /// Records that this key of this tenant was revoked at an instant, for a reason: for host applications that keep
    /// records of their own.
    #[must_use]
    pub fn revoked(id: KeyId, tenant: TenantId, at: OffsetDateTime, reason: RevokeReason) -> Self {
        let bound = Bound::Revoked { at, reason };
        Self { id, tenant, bound }
    }

    /// Returns the most that this key may do.
    pub(super) fn of(stored: StoredKey) -> Self {
        let (id, tenant) = (stored.id, stored.tenant.clone());
        let cutoff = stored.cutoff.filter(|cutoff| stored.created_at < *cutoff);
        let bound = match (&stored.revocation, cutoff) {
            (Some(revocation), _) => Bound::Revoked {
                at: revocation.at,
                reason: revocation.reason.clone(),
            },
            (None, Some(at)) => Bound::Revoked {
                at,
                reason: RevokeReason::from_stored(CUT_OFF),
            },
            (None, None) => match KeyRecord::decode(stored) {
                Ok(record) => Bound::Limited(Box::new(KeyLimits::of(&record))),
                Err(_) => Bound::Unreadable,
            },
        };
        Self { id, tenant, bound }
    }
}

/// The record of a key after a replay.
pub(super) struct Cut {
    pub(super) record: KeyRecord,
    /// Whether the record is within the limits. If not, it is suspended.
    pub(super) is_within: bool,
}

impl Cut {
    /// Suspends the key.
    pub(super) fn suspended(record: &KeyRecord, now: OffsetDateTime) -> Self {
        let mut with = record.clone();
        with.suspended_at = with.suspended_at.or(Some(now));
        Self {
            record: with,
            is_within: false,
        }
    }
}

impl KeyLimits {
    fn of(record: &KeyRecord) -> Self {
        let overlap_ends = record.rotation().and_then(|one| one.overlap_ends);
        Self {
            access: record.access().clone(),
            resources: record.resources().clone(),
            networks: record.networks().clone(),
            quotas: record.quotas().to_vec(),
            concurrency: record.concurrency(),
            expires_at: least(record.expires_at(), overlap_ends),
            suspended_at: record.suspended_at(),
        }
    }

    /// Cuts a key down to these limits.
    pub(super) fn cut(
        &self,
        record: &KeyRecord,
        catalog: &ScopeCatalog,
        now: OffsetDateTime,
    ) -> Cut {
        let mut with = record.clone();
        let access = common_access(&record.access, &self.access, catalog);
        let resources = record.resources.common(&self.resources);
        let networks = record.networks.common(&self.networks);
        let quotas = common_quotas(&record.quotas, &self.quotas);
        let is_within =
            access.is_some() && resources.is_some() && networks.is_some() && quotas.is_some();
        with.access = access.unwrap_or(with.access);
        with.resources = resources.unwrap_or(with.resources);
        with.networks = networks.unwrap_or(with.networks);
        with.quotas = quotas.unwrap_or(with.quotas);
        with.concurrency = least(with.concurrency, self.concurrency);
        let end = self.expires_at.map(|end| normalized(end).unwrap_or(now));
        with.expires_at = least(with.expires_at, end);
        let suspended_at = self
            .suspended_at
            .map(|at| normalized(at).map_or(now, |at| at.min(now)))
            .or((!is_within).then_some(now));
        with.suspended_at = with.suspended_at.or(suspended_at);
        Cut {
            record: with,
            is_within,
        }
    }
}

/// Returns the lower of two limits, where `None` means no limit.
fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Returns the access that both allow. `None` if they have nothing in common.
fn common_access(held: &Access, most: &Access, catalog: &ScopeCatalog) -> Option<Access> {
    let (held, most) = match (held, most) {
        (_, Access::Full) => return Some(held.clone()),
        (Access::Full, Access::Scopes(_)) => return Some(most.clone()),
        (Access::Scopes(held), Access::Scopes(most)) => (held, most),
    };
    // An undeclared scope grants nothing now, but may be declared again.
    let grants = |set: &ScopeSet, scope: &Scope| {
        set.contains(scope) || catalog.covers(set, &ScopeSet::one(scope.clone()))
    };
    let kept = held.iter().filter(|scope| grants(most, scope));
    if kept.clone().count() == held.len() {
        return Some(Access::Scopes(held.clone()));
    }
    let cut = most.iter().filter(|scope| grants(held, scope));
    Access::scopes(kept.chain(cut).cloned()).ok()
}

/// Returns quotas that satisfy both lists. `None` if a key cannot carry them.
fn common_quotas(held: &[Quota], most: &[Quota]) -> Option<Vec<Quota>> {
    let mut quotas = held.to_vec();
    for bound in most {
        if quotas.iter().any(|quota| quota.is_within(bound)) {
            continue;
        }
        let mut named = quotas.iter_mut();
        match named.find(|quota| quota.name() == bound.name()) {
            Some(quota) if bound.is_within(quota) => *quota = bound.clone(),
            Some(_) => return None,
            None => quotas.push(bound.clone()),
        }
    }
    (quotas.len() <= Quota::MAX_PER_KEY).then_some(quotas)
}

impl ManagerParts {
    /// Refuses a restriction that no key can carry.
    pub(super) fn check_restriction(&self, restriction: &Restriction) -> Result<(), InvalidKey> {
        let Bound::Limited(limits) = &restriction.bound else {
            return Ok(());
        };
        self.check_access_texts(&limits.access)?;
        self.check_resource_texts(&limits.resources)?;
        self.check_sizes(&limits.resources, &limits.networks, &limits.quotas)?;
        match limits.expires_at {
            Some(end) if normalized(end).is_none() => Err(InvalidKey::Instant),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::NonEmpty;
    use crate::manager::{Actor, Limits, NewKey};
    use crate::store::MemoryStore;
    use crate::testkit::{self, SeededRandom};

    const SCOPES: [&str; 4] = ["admin", "read", "write", "gone"];
    const RESOURCES: [&str; 5] = [
        "client:x",
        "client:y",
        "project:a",
        "project:b",
        "region:eu",
    ];
    const NETWORKS: [&str; 5] = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.128.0.0/9",
        "::/0",
        "2001:db8::/32",
    ];

    /// Declares `admin`, which implies all, `write`, which implies `read`, and no longer `gone`.
    fn catalog() -> ScopeCatalog {
        let scope = |name: &str| name.parse::<Scope>().unwrap();
        let admin = scope("admin").described("All").implies_all();
        let write = scope("write").described("Write").implies([scope("read")]);
        ScopeCatalog::new([admin, write, scope("read").described("Read")]).unwrap()
    }

    /// Draws some of these texts, parsed. `None` if it draws none.
    fn some<T: std::str::FromStr + Ord>(random: &SeededRandom, of: &[&str]) -> Option<NonEmpty<T>> {
        let is_bounded = random.below(4) > 0;
        let drawn = of.iter().filter(|_| is_bounded && random.below(2) == 0);
        NonEmpty::new(drawn.filter_map(|text| text.parse().ok())).ok()
    }

    fn quota(random: &SeededRandom, name: &str) -> Option<Quota> {
        let limit = NonZeroU32::new(u32::try_from(random.below(4)).unwrap())?;
        let window = Duration::from_secs(1 + random.below(3) as u64);
        Some(Quota::new(name, limit, window).unwrap())
    }

    fn limits(random: &SeededRandom) -> KeyLimits {
        let instant =
            |seconds: usize| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
        KeyLimits {
            access: some(random, &SCOPES).map_or(Access::Full, Access::Scopes),
            resources: some(random, &RESOURCES).map_or(Resources::Any, Resources::Only),
            networks: some(random, &NETWORKS).map_or(Networks::Any, Networks::Only),
            quotas: ["a", "b"]
                .into_iter()
                .filter_map(|name| quota(random, name))
                .collect(),
            concurrency: NonZeroU32::new(u32::try_from(random.below(4)).unwrap()),
            expires_at: Some(random.below(4)).filter(|end| *end > 0).map(instant),
            suspended_at: (random.below(2) == 0).then(|| instant(1)),
        }
    }

    fn bounded(record: &KeyRecord, by: &KeyLimits) -> KeyRecord {
        KeyRecord {
            access: by.access.clone(),
            resources: by.resources.clone(),
            networks: by.networks.clone(),
            quotas: by.quotas.clone(),
            concurrency: by.concurrency,
            expires_at: by.expires_at,
            suspended_at: by.suspended_at,
            ..record.clone()
        }
    }

    async fn record() -> KeyRecord {
        let keyward = testkit::builder(MemoryStore::new(), [])
            .open()
            .await
            .unwrap();
        let tenant = TenantId::new("acme-inc").unwrap();
        let new = NewKey::new(tenant, "key", Access::Full);
        let issued = keyward.manager().issue(&Actor::system("test"), new).await;
        issued.unwrap().into_parts().1
    }

    /// Returns whether a key can do no more than another, by the check for ceilings.
    fn is_no_more(key: &KeyRecord, than: &KeyRecord, catalog: &ScopeCatalog) -> bool {
        // An undeclared scope grants nothing, but a ceiling allows no key that holds one.
        let mut key = key.clone();
        if let Access::Scopes(scopes) = &key.access {
            let declared = scopes.iter().filter(|scope| catalog.declares(scope));
            match Access::scopes(declared.cloned()) {
                Ok(access) => key.access = access,
                Err(_) => return true,
            }
        }
        let ceiling = crate::manager::Ceiling::Limited(Limits::of_key(than));
        ceiling.exceeded_by(&key, catalog).is_none()
    }

    #[tokio::test]
    async fn a_cut_narrows_to_the_limits() {
        let (record, catalog) = (record().await, catalog());
        let now = OffsetDateTime::from_unix_timestamp(9).unwrap();
        let random = SeededRandom::new(1);
        for _ in 0..1_000 {
            let (was, most) = (limits(&random), limits(&random));
            let (key, most_key) = (bounded(&record, &was), bounded(&record, &most));
            let cut = most.cut(&key, &catalog, now);
            let is_off = cut.record.suspended_at.is_some();
            assert!(
                is_no_more(&cut.record, &key, &catalog),
                "gives: {:?}",
                cut.record
            );
            assert!(
                is_off || is_no_more(&cut.record, &most_key, &catalog),
                "leaves: {:?}",
                cut.record
            );
            assert!(cut.is_within || is_off);
            let had_been_off = was.suspended_at.or(most.suspended_at).is_some();
            assert!(is_off == (had_been_off || !cut.is_within));
            if is_no_more(&key, &most_key, &catalog) && !matches!(key.access, Access::Scopes(_)) {
                assert!(cut.is_within, "what is within is not cut off");
            }
            let again = most.cut(&cut.record, &catalog, now);
            assert_eq!(&again.record, &cut.record, "a second time changes nothing");
            assert_eq!(again.is_within, cut.is_within);
        }
    }
}
