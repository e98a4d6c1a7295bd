//! The host's yes or no to each management operation.

use std::fmt::Debug;

use async_trait::async_trait;

use time::OffsetDateTime;

use super::{Actor, ForeignKey, KeyRequest, KeyUpdate, Rotation};
use crate::key::{KeyId, Principal, RevokeReason, TenantId};
use crate::store::CutoffScope;

/// The host's yes or no to each management operation, such as "only administrators of the tenant".
///
/// Asked before the store is read, so that its answer cannot depend on whether a key exists. Only
/// [`revoke_leaked`](super::KeyManager::revoke_leaked) asks a second time, once it knows which key a text is.
///
/// ```
/// use keyward::manager::{Actor, Operation, Policy, PolicyError, Ruling};
///
/// #[derive(Debug)]
/// struct PeopleOnly;
///
/// #[keyward::async_trait]
/// impl Policy for PeopleOnly {
///     async fn rule(&self, actor: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
///         Ok(if actor.principal().is_user() { Ruling::Allow } else { Ruling::Refuse })
///     }
/// }
/// ```
#[async_trait]
pub trait Policy: Debug + Send + Sync + 'static {
    /// Whether the actor may do this.
    ///
    /// # Errors
    /// [`PolicyError`] if it cannot be told; the operation is then not done.
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError>;
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// Yes.
    Allow,
    /// No.
    Refuse,
}

/// What an actor asks to do.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Issue a key.
    Issue {
        /// The key as asked for, its tenant included.
        key: &'a KeyRequest,
    },
    /// Look at a key.
    Get {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
    },
    /// List a tenant's keys.
    List {
        /// Whose keys.
        tenant: &'a TenantId,
    },
    /// Change fields of a key.
    Update {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// What is to change.
        update: &'a KeyUpdate,
    },
    /// Switch a key off.
    Suspend {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
    },
    /// Switch a key on again.
    Resume {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
    },
    /// Issue a successor to a key.
    Rotate {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// How.
        rotation: &'a Rotation,
    },
    /// Revoke a key.
    Revoke {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// Why.
        reason: &'a RevokeReason,
    },
    /// Revoke all keys of a tenant, or of one of its owners.
    RevokeAll {
        /// Whose keys.
        tenant: &'a TenantId,
        /// Only this owner's.
        owner: Option<&'a Principal>,
        /// Only those issued before this instant; none: all.
        before: Option<OffsetDateTime>,
        /// Why.
        reason: &'a RevokeReason,
    },
    /// End all keys of a scope that were issued before an instant.
    DenyIssuedBefore {
        /// Whose keys.
        scope: &'a CutoffScope,
        /// The first instant of issue that is still good.
        instant: OffsetDateTime,
    },
    /// Bring in a key that another system issued. Whoever may, can make a key of any text.
    Import {
        /// The key as asked for, its tenant included.
        key: &'a KeyRequest,
        /// The key as it is held elsewhere.
        foreign: &'a ForeignKey,
    },
    /// Find out whose key a text is, of whichever tenant that the actor acts for.
    FindOwner,
    /// Read what was done with a tenant's keys.
    ReadEvents {
        /// Whose keys.
        tenant: &'a TenantId,
    },
    /// Remove a tenant's keys that ended before an instant.
    Purge {
        /// Whose keys.
        tenant: &'a TenantId,
        /// The instant before which they must have ended.
        ended_before: OffsetDateTime,
    },
    /// Export a tenant's revocations.
    ExportRevocations {
        /// Whose.
        tenant: &'a TenantId,
    },
    /// Revoke again what was revoked before a backup was restored.
    ReplayRevocations {
        /// Whose keys.
        tenant: &'a TenantId,
    },
}

impl Operation<'_> {
    /// Whose keys it is about; none where it is about everybody's, or is only found out.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Issue { key } | Self::Import { key, .. } => Some(&key.tenant),
            Self::Get { tenant, .. }
            | Self::List { tenant }
            | Self::Update { tenant, .. }
            | Self::Suspend { tenant, .. }
            | Self::Resume { tenant, .. }
            | Self::Rotate { tenant, .. }
            | Self::Revoke { tenant, .. }
            | Self::RevokeAll { tenant, .. }
            | Self::Purge { tenant, .. }
            | Self::ReadEvents { tenant }
            | Self::ExportRevocations { tenant }
            | Self::ReplayRevocations { tenant } => Some(tenant),
            Self::DenyIssuedBefore { scope, .. } => scope.tenant(),
            Self::FindOwner => None,
        }
    }
}

/// The policy cannot tell.
#[derive(Debug, thiserror::Error)]
#[error("the policy cannot tell")]
pub struct PolicyError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl PolicyError {
    /// An error with the cause that the host found.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// Allows every operation: for hosts that decide before they call, and for tests.
///
/// The bounds of an [`Actor`], its tenants and its ceiling, hold all the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

#[async_trait]
impl Policy for AllowAll {
    async fn rule(&self, _: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
        Ok(Ruling::Allow)
    }
}
