//! Requests as a host application reads them from JSON.
//!
//! The forms hold nothing that decides whose key it is: tenant, owner and actor come from the host's session.

mod members;
mod query;
mod unrepeated;

pub use query::KeyQueryForm;

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, de};
use time::OffsetDateTime;

use self::members::{Members, Problem};
use super::rotate::Asked;
use super::{Expiry, KeyUpdate, NewKey, Rotation};
use crate::key::{Access, Metadata, Networks, Quota, Resources, RevokeReason, TenantId, Title};

/// A request for a new key as JSON, such as the body of a `POST`. It names neither tenant nor owner.
///
/// `title` and `access` are required. A member that is absent restricts nothing, and so does `null` for `concurrency`,
/// `not_before` and `expires_at`. The expiry is one of `expires_at` (RFC 3339), `expires_on` (the last day, in UTC) and
/// `expires_in_seconds`. An unknown member, one that is given twice, and a list or text past its bound are refused.
/// The package's `docs/json-schema.json` is the schema.
///
/// ```
/// use keyward::{key::{Principal, TenantId}, manager::NewKeyForm};
///
/// let form: NewKeyForm = serde_json::from_str(r#"{
///     "title": "Nightly Snowflake ETL",
///     "access": {"type": "scopes", "scopes": ["read:editions"]},
///     "resources": {"type": "only", "resources": ["project:p-17"]},
///     "expires_on": "2027-03-31"
/// }"#)?;
/// // Tenant and owner are those of the person who is logged in.
/// let new = form.for_tenant(TenantId::new("acme-inc")?).owner(Principal::user("alice")?);
/// let new = new.request_id("8e03978e-40d5-43dd-bc93-6894a57f9324"); // of the `Idempotency-Key` header
/// # let _ = new;
/// let misspelled = serde_json::from_str::<NewKeyForm>(r#"{"title": "x", "acess": {"type": "full"}}"#);
/// assert!(misspelled.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Security
/// An error names the member and its rule, and never quotes a text, which may hold a key.
#[derive(Clone)]
#[non_exhaustive]
pub struct NewKeyForm {
    /// Title of the key.
    pub title: Title,
    /// Access of the key.
    pub access: Access,
    /// Environment of the key. `None`: the format's first.
    pub environment: Option<String>,
    /// Resources to which the key is restricted.
    pub resources: Resources,
    /// Networks from which the key may be used.
    pub networks: Networks,
    /// Quotas of the key.
    pub quotas: Vec<Quota>,
    /// Maximum number of requests in flight at once. `None`: no limit.
    pub concurrency: Option<NonZeroU32>,
    /// Metadata to attach.
    pub metadata: Metadata,
    /// First instant at which the key is valid. `None`: from the start.
    pub not_before: Option<OffsetDateTime>,
    /// End of the key's validity. `None`: never.
    pub expiry: Option<Expiry>,
}

impl NewKeyForm {
    /// Returns the request for a key of this tenant, which the manager checks when it issues the key.
    #[must_use]
    pub fn for_tenant(self, tenant: TenantId) -> NewKey {
        let mut new = NewKey::new(tenant, self.title, self.access)
            .resources(self.resources)
            .networks(self.networks)
            .metadata(self.metadata);
        new.request.environment = self.environment;
        let restrictions = &mut new.request.restrictions;
        restrictions.quotas = self.quotas;
        restrictions.concurrency = self.concurrency;
        restrictions.not_before = self.not_before;
        new.expiry = self.expiry;
        new
    }
}

impl<'de> Deserialize<'de> for NewKeyForm {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(source)?;
        Self::read(members).map_err(de::Error::custom)
    }
}

impl NewKeyForm {
    const MEMBERS: &[&str] = &[
        "title",
        "access",
        "environment",
        "resources",
        "networks",
        "quotas",
        "concurrency",
        "metadata",
        "not_before",
        EXPIRY[0],
        EXPIRY[1],
        EXPIRY[2],
    ];

    fn read(mut members: Members) -> Result<Self, Problem> {
        members.only(Self::MEMBERS)?;
        Ok(Self {
            title: members.title()?.ok_or(Problem::missing("title"))?,
            access: members.access()?.ok_or(Problem::missing("access"))?,
            environment: members.environment()?,
            resources: members.resources()?.unwrap_or_default(),
            networks: members.networks()?.unwrap_or_default(),
            quotas: members.quotas()?.unwrap_or_default(),
            concurrency: members.concurrency()?.flatten(),
            metadata: members.metadata()?.unwrap_or_default(),
            not_before: members.instant("not_before")?.flatten(),
            expiry: members.expiry()?.flatten(),
        })
    }
}

/// The members of which one may name the expiry.
const EXPIRY: [&str; 3] = ["expires_at", "expires_on", "expires_in_seconds"];

/// An update as JSON, such as the body of a `PATCH`. A member that is absent leaves its field as it is.
///
/// The members are those of a [`NewKeyForm`] except `environment` and `not_before`. `null` lifts the limit for
/// `concurrency` and the expiry for `expires_at`, and is refused elsewhere: other restrictions are lifted by
/// `{"type":"any"}` or an empty list of quotas. Errors are as there.
///
/// ```
/// use keyward::manager::KeyUpdate;
///
/// let update: KeyUpdate = serde_json::from_str(r#"{"title": "Power BI (EU)", "concurrency": null}"#)?;
/// assert_eq!(update.concurrency, Some(None)); // lifted
/// assert_eq!(update.networks, None); // unchanged
/// assert!(serde_json::from_str::<KeyUpdate>(r#"{"networks": null}"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for KeyUpdate {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(source)?;
        read_update(members).map_err(de::Error::custom)
    }
}

const UPDATABLE: &[&str] = &[
    "title",
    "metadata",
    "access",
    "resources",
    "networks",
    "quotas",
    "concurrency",
    EXPIRY[0],
    EXPIRY[1],
    EXPIRY[2],
];

fn read_update(mut members: Members) -> Result<KeyUpdate, Problem> {
    members.only(UPDATABLE)?;
    Ok(KeyUpdate {
        title: members.title()?.map(|title| title.as_str().to_owned()),
        metadata: members.metadata()?,
        access: members.access()?,
        resources: members.resources()?,
        networks: members.networks()?,
        quotas: members.quotas()?,
        concurrency: members.concurrency()?,
        expiry: members.expiry()?,
    })
}

/// The members of which one names the overlap.
const OVERLAP: [&str; 2] = ["overlap_seconds", "overlap_until"];

/// A rotation as JSON, such as the body of a `POST`.
///
/// One of `overlap_seconds` (0: no overlap) and `overlap_until` (RFC 3339, `null`: until the old key is revoked) is
/// required. The expiry of the successor is one of the members of a [`NewKeyForm`]; `null` for `expires_at` means
/// never, and without one the successor expires when the key would have. Errors are as there.
///
/// ```
/// use keyward::manager::{Overlap, Rotation};
///
/// let rotation: Rotation = serde_json::from_str(r#"{"overlap_seconds": 604800, "expires_on": "2027-03-31"}"#)?;
/// assert!(matches!(rotation.overlap(), Overlap::For(_)));
/// let rotation: Rotation = serde_json::from_str(r#"{"overlap_seconds": 0}"#)?;
/// assert_eq!(rotation.overlap(), Overlap::None);
/// assert!(serde_json::from_str::<Rotation>("{}").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for Rotation {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(source)?;
        read_rotation(members).map_err(de::Error::custom)
    }
}

fn read_rotation(mut members: Members) -> Result<Rotation, Problem> {
    members.only(&[OVERLAP[0], OVERLAP[1], EXPIRY[0], EXPIRY[1], EXPIRY[2]])?;
    let mut rotation = Rotation::new(members.overlap()?);
    rotation.expiry = match members.expiry()? {
        None => Asked::AsBefore,
        Some(None) => Asked::Never,
        Some(Some(expiry)) => Asked::Expires(expiry),
    };
    Ok(rotation)
}

/// The reason of a revocation as JSON, such as `{"reason": "leaked"}`. Errors are as those of a [`NewKeyForm`].
///
/// `reason` is required: `requested`, `leaked`, `rotated`, `decommissioned`, or other words of one line, up to 100
/// characters.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RevokeForm {
    /// Reason for the revocation.
    pub reason: RevokeReason,
}

impl<'de> Deserialize<'de> for RevokeForm {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let mut members = Members::deserialize(source)?;
        let read = members.only(&["reason"]).and_then(|()| members.reason());
        let reason = read.and_then(|reason| reason.ok_or(Problem::missing("reason")));
        reason
            .map(|reason| Self { reason })
            .map_err(de::Error::custom)
    }
}

/// Omits the texts: they may hold a key.
impl fmt::Debug for NewKeyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKeyForm")
            .field("networks", &self.networks)
            .field("quotas", &self.quotas)
            .field("concurrency", &self.concurrency)
            .field("not_before", &self.not_before)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}
