//! The part of a key that a host may show.

use std::num::NonZeroU32;

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Access, Environment, KeyId, KeyRecord, KeyStatus, Metadata, Networks, Principal, Quota,
    Resources, RevokeReason, TenantId, Title,
};

/// A key as a host may send it to a browser: everything except the digest of its secret.
///
/// It serializes instants as RFC 3339. Title and metadata are text that a person typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyView {
    /// The key's id, 36 characters.
    pub id: KeyId,
    /// The part of the key's text that may be shown, such as `acme_live_2Nq8vR1x`.
    pub display_prefix: String,
    /// The key's title.
    pub title: Title,
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The user, integration or part of the system that the key was issued to.
    pub owner: Principal,
    /// The environment for which the key was issued.
    #[serde(serialize_with = "as_text")]
    pub environment: Environment,
    /// The key's state when the view was created.
    pub status: KeyStatus,
    /// The key's access: everything, or scopes.
    pub access: Access,
    /// The resources to which the key is restricted.
    pub resources: Resources,
    /// The networks from which the key may be used.
    pub networks: Networks,
    /// The quotas declared on the key.
    pub quotas: Vec<Quota>,
    /// Maximum number of requests in flight at once on one node; `None` if there is no limit.
    pub concurrency: Option<NonZeroU32>,
    /// The metadata that the host attached, which is untrusted.
    pub metadata: Metadata,
    /// The instant at which the key was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The actor who issued the key.
    pub created_by: Principal,
    /// The first instant at which the key is valid; `None` if it is valid from the start.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// The first instant at which the key is no longer valid; `None` if it is valid until revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// The instant at which the key was suspended; `None` if it is not suspended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
    /// The instant at which the key was revoked; `None` if it is not revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// The reason for the revocation; `None` if the key is not revoked.
    pub revoke_reason: Option<RevokeReason>,
    /// The key that this one replaces; `None` if it did not come from a rotation.
    pub predecessor: Option<KeyId>,
    /// The key that replaces this one; `None` if the key was not rotated.
    pub successor: Option<KeyId>,
    /// The first instant at which only the successor is valid; `None` if the overlap has no set end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub overlap_ends: Option<OffsetDateTime>,
}

impl KeyView {
    pub(super) fn new(record: &KeyRecord, now: OffsetDateTime) -> Self {
        let revocation = record.revocation();
        Self {
            id: record.id,
            display_prefix: record.display_prefix(),
            title: record.title.clone(),
            tenant: record.tenant.clone(),
            owner: record.owner.clone(),
            environment: record.environment.clone(),
            status: record.status(now),
            access: record.access.clone(),
            resources: record.resources.clone(),
            networks: record.networks.clone(),
            quotas: record.quotas.clone(),
            concurrency: record.concurrency,
            metadata: record.metadata.clone(),
            created_at: record.created_at,
            created_by: record.created_by.clone(),
            not_before: record.not_before,
            expires_at: record.expires_at,
            suspended_at: record.suspended_at,
            revoked_at: revocation.map(|revocation| revocation.at),
            revoke_reason: revocation.map(|revocation| revocation.reason.clone()),
            predecessor: record.predecessor,
            successor: record.rotation.map(|rotated| rotated.successor),
            overlap_ends: record.rotation.and_then(|rotated| rotated.overlap_ends),
        }
    }
}

fn as_text<S: serde::Serializer>(
    environment: &Environment,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(environment.as_str())
}
