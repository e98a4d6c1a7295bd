//! What a host may show of a key.

use std::num::NonZeroU32;

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Access, Environment, KeyId, KeyRecord, KeyStatus, Metadata, Networks, Principal, Quota,
    Resources, RevokeReason, TenantId, Title,
};

/// A key as a host may send it to a browser: everything but what is kept of its secret.
///
/// Serializes with instants in RFC 3339. Title and metadata are text that somebody typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyView {
    /// The key's id, 36 characters.
    pub id: KeyId,
    /// The part of the key's text that may be shown, such as `acme_live_2Nq8vR1x`.
    pub display_prefix: String,
    /// What people call it.
    pub title: Title,
    /// Whose key it is.
    pub tenant: TenantId,
    /// Which user, integration or part of the system it was issued to.
    pub owner: Principal,
    /// The environment it was issued for.
    #[serde(serialize_with = "as_text")]
    pub environment: Environment,
    /// Its state when the view was made.
    pub status: KeyStatus,
    /// What it may do.
    pub access: Access,
    /// Which things it may touch.
    pub resources: Resources,
    /// From where it may be used.
    pub networks: Networks,
    /// The quotas declared on it.
    pub quotas: Vec<Quota>,
    /// Most requests in flight at once.
    pub concurrency: Option<NonZeroU32>,
    /// What the host attached. Untrusted.
    pub metadata: Metadata,
    /// When it was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Who issued it.
    pub created_by: Principal,
    /// The first instant at which it is valid.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// The first instant at which it is no longer valid.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was switched off.
    #[serde(with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// Why it was revoked.
    pub revoke_reason: Option<RevokeReason>,
    /// The key that it replaces.
    pub predecessor: Option<KeyId>,
    /// The key that takes its place.
    pub successor: Option<KeyId>,
    /// The first instant at which only the successor is good.
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
