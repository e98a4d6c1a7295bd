//! The most that a key may do, as exported, and cutting a key down to it.
//!
//! INVARIANT: cutting never gives a key anything. On each axis the key keeps the part that both it and the export
//! allow. If they have nothing in common that a key can express, the key is suspended.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::amend::set_expiry;
use super::draft::{check_sizes, normalize};
use super::{InvalidKey, ManagerParts};
use crate::clock::normalized;
use crate::key::{
    KeyId, KeyRecord, Restrictions, RevokeReason, ScopeCatalog, StoredKey, TenantId, Timestamp,
    ValueError, instant_of, tagged_form,
};

/// The most that a key may do, as exported, to be kept apart from the store: one line of JSON, and no secret.
///
/// It holds the key's restrictions, and neither title, owner nor metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyBound {
    /// Id of the key.
    pub id: KeyId,
    /// Tenant of the key.
    pub tenant: TenantId,
    /// The most that the key may do.
    pub bound: Bound,
}

/// The most that a key may do.
///
/// In JSON it is an object with a `type`: `revoked`, `limited` or `unreadable`. Deserializes only if every field of the
/// type is present and there is no other, as [`Restrictions`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BoundForm", into = "BoundForm")]
#[non_exhaustive]
pub enum Bound {
    /// Nothing: the key was revoked, or a cutoff has ended it.
    Revoked {
        /// Instant of the revocation.
        at: OffsetDateTime,
        /// Reason for the revocation.
        reason: RevokeReason,
    },
    /// At most these restrictions.
    Limited {
        /// The key's restrictions. They expire when the key does, by its expiry or a rotation.
        restrictions: Box<Restrictions>,
        /// Instant of the suspension. `None`: not suspended.
        suspended_at: Option<OffsetDateTime>,
    },
    /// Nothing: the stored key could not be read.
    Unreadable,
}

tagged_form!(
    Bound, BoundForm, BoundType {
        Revoked { at => at: Instant, reason => reason: RevokeReason },
        Limited { restrictions => restrictions: Box<Restrictions>, suspended_at => suspended_at: MaybeInstant },
        Unreadable {},
    },
    BOUND
);

#[derive(Serialize, Deserialize)]
struct Instant(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

impl From<Instant> for OffsetDateTime {
    fn from(at: Instant) -> Self {
        at.0
    }
}

impl From<OffsetDateTime> for Instant {
    fn from(at: OffsetDateTime) -> Self {
        Self(at)
    }
}

#[derive(Serialize, Deserialize)]
struct MaybeInstant(#[serde(with = "time::serde::rfc3339::option")] Option<OffsetDateTime>);

impl From<MaybeInstant> for Option<OffsetDateTime> {
    fn from(at: MaybeInstant) -> Self {
        at.0
    }
}

impl From<Option<OffsetDateTime>> for MaybeInstant {
    fn from(at: Option<OffsetDateTime>) -> Self {
        Self(at)
    }
}

const BOUND: ValueError = ValueError::malformed(
    "bound",
    "of a type `revoked`, `limited` or `unreadable`, with the members of that type",
);

/// Reason with which a replay revokes a key that a cutoff had ended.
const CUT_OFF: &str = "cut off";

impl KeyBound {
    /// Records that this key of this tenant was revoked at an instant, for a reason: for host applications that keep
    /// records of their own.
    #[must_use]
    pub fn revoked(
        id: KeyId,
        tenant: TenantId,
        at: impl Into<Timestamp>,
        reason: RevokeReason,
    ) -> Self {
        let at = instant_of(at);
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
                Ok(record) => Bound::of(&record),
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

impl Bound {
    fn of(record: &KeyRecord) -> Self {
        let restrictions = Restrictions {
            expires_at: record.end(),
            ..record.restrictions.clone()
        };
        Self::Limited {
            restrictions: restrictions.into(),
            suspended_at: record.suspended_at,
        }
    }

    /// Cuts a key down to this bound.
    pub(super) fn cut(
        &self,
        record: &KeyRecord,
        catalog: &ScopeCatalog,
        now: OffsetDateTime,
    ) -> Cut {
        let mut with = record.clone();
        let (is_within, suspended_at) = match self {
            Self::Limited {
                restrictions,
                suspended_at,
            } => {
                let (narrowed, is_within) = with.restrictions.narrowed(restrictions, catalog);
                with.restrictions = narrowed;
                let end = with.restrictions.expires_at;
                if end != record.restrictions.expires_at {
                    set_expiry(&mut with, end);
                }
                let at = suspended_at.map(|at| normalized(at).map_or(now, |at| at.min(now)));
                (is_within, at)
            }
            Self::Revoked { .. } | Self::Unreadable => (false, None),
        };
        let suspended_at = suspended_at.or((!is_within).then_some(now));
        with.suspended_at = with.suspended_at.or(suspended_at);
        Cut {
            record: with,
            is_within,
        }
    }
}

impl ManagerParts {
    /// Refuses a restriction that no key can carry, and normalizes its instants.
    pub(super) fn check_restriction(&self, restriction: &mut KeyBound) -> Result<(), InvalidKey> {
        let Bound::Limited { restrictions, .. } = &mut restriction.bound else {
            return Ok(());
        };
        self.check_access_texts(&restrictions.access)?;
        self.check_resource_texts(&restrictions.resources)?;
        check_sizes(restrictions)?;
        normalize(restrictions)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::key::{Access, Networks, NonEmpty, Quota, Resources, Scope};
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

    fn bound(random: &SeededRandom) -> Bound {
        let instant =
            |seconds: usize| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
        let restrictions = Restrictions {
            access: some(random, &SCOPES).map_or(Access::Full, Access::Scopes),
            resources: some(random, &RESOURCES).map_or(Resources::Any, Resources::Only),
            networks: some(random, &NETWORKS).map_or(Networks::Any, Networks::Only),
            quotas: ["a", "b"]
                .into_iter()
                .filter_map(|name| quota(random, name))
                .collect(),
            concurrency: NonZeroU32::new(u32::try_from(random.below(4)).unwrap()),
            not_before: Some(random.below(4))
                .filter(|start| *start > 0)
                .map(instant),
            expires_at: Some(random.below(4)).filter(|end| *end > 0).map(instant),
        };
        Bound::Limited {
            restrictions: restrictions.into(),
            suspended_at: (random.below(2) == 0).then(|| instant(1)),
        }
    }

    fn bounded(record: &KeyRecord, by: &Bound) -> KeyRecord {
        let Bound::Limited {
            restrictions,
            suspended_at,
        } = by
        else {
            return record.clone();
        };
        KeyRecord {
            restrictions: (**restrictions).clone(),
            suspended_at: *suspended_at,
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
        if let Access::Scopes(scopes) = &key.restrictions().access {
            let declared = scopes.iter().filter(|scope| catalog.declares(scope));
            match Access::scopes(declared.cloned()) {
                Ok(access) => key.restrictions.access = access,
                Err(_) => return true,
            }
        }
        let ceiling = crate::manager::Ceiling::Limited(Limits::of_key(than));
        key.restrictions.not_before >= than.restrictions.not_before
            && ceiling.exceeded_by(&key, catalog).is_none()
    }

    #[tokio::test]
    async fn a_cut_narrows_to_the_limits() {
        let (record, catalog) = (record().await, catalog());
        let now = OffsetDateTime::from_unix_timestamp(9).unwrap();
        let random = SeededRandom::new(1);
        for _ in 0..1_000 {
            let (was, most) = (bound(&random), bound(&random));
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
            let had_been_off = key.suspended_at.or(most_key.suspended_at).is_some();
            assert!(is_off == (had_been_off || !cut.is_within));
            if is_no_more(&key, &most_key, &catalog)
                && !matches!(key.restrictions().access, Access::Scopes(_))
            {
                assert!(cut.is_within, "limits that hold already change nothing");
            }
            let again = most.cut(&cut.record, &catalog, now);
            assert_eq!(&again.record, &cut.record, "a second time changes nothing");
            assert_eq!(again.is_within, cut.is_within);
        }
    }
}
