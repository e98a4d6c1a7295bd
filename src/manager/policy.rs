//! The host's yes or no to each management operation.

use std::fmt::Debug;

use async_trait::async_trait;

use time::OffsetDateTime;

use super::{Actor, ImportedKey, KeyRequest, KeyUpdate, Rotation};
use crate::key::{KeyId, KeyRecord, Principal, RevokeReason, TenantId};
use crate::store::CutoffScope;

/// The host's yes or no to each management operation, such as "only administrators of the tenant".
///
/// An operation on one key is asked about once the key's owner has been read, and nothing else is done before. For a
/// key that does not exist the owner is `None`, and a refusal looks the same: [`ManageError::Refused`]. If another
/// call changes the key meanwhile, it is read again, and the policy is asked again. Every other operation is asked
/// about before the store is read. [`find_owner`] and [`revoke_leaked`] ask twice: before anything is read, and once
/// the text's secret is proven.
///
/// Neither an update nor a rotation changes a key's owner. So the owner that the policy is told is the owner before and
/// after the operation; for a new key, the owner it is to have.
///
/// # Own keys only
/// Compare [`Operation::owner`] with the actor. What is about keys of several owners has the owner `None`, and is
/// refused:
/// ```
/// # use keyward::{Keyward, key::{Access, KeyFormat, TenantId}, store::MemoryStore};
/// use keyward::manager::{Actor, Ceiling, KeyQuery, ManageError, NewKey, Operation, Overlap, Policy, PolicyError, Ruling};
///
/// #[derive(Debug)]
/// struct OwnKeysOnly;
///
/// #[keyward::async_trait]
/// impl Policy for OwnKeysOnly {
///     async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
///         let is_own = operation.owner() == Some(actor.principal());
///         Ok(if is_own { Ruling::Allow } else { Ruling::Refuse })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let format = KeyFormat::new("acme")?.environment("live")?;
/// # let keyward = Keyward::builder(MemoryStore::new()).format(format).policy(OwnKeysOnly).open().await?;
/// # let (manager, tenant) = (keyward.manager(), TenantId::new("acme-inc")?);
/// let alice = Actor::user("alice", tenant.clone(), Ceiling::Unlimited)?;
/// let bob = Actor::user("bob", tenant.clone(), Ceiling::Unlimited)?;
/// let key = manager.issue(&alice, NewKey::new(tenant.clone(), "ETL", Access::Full)).await?;
///
/// let id = key.record().id();
/// let by_bob = manager.rotate(&bob, &tenant, id, Overlap::None).await;
/// assert!(matches!(by_bob, Err(ManageError::Refused)));
/// manager.rotate(&alice, &tenant, id, Overlap::None).await?;
///
/// let all = KeyQuery::of(&tenant);
/// assert!(manager.list(&alice, &all).await.is_err());
/// assert_eq!(manager.list(&alice, &all.owner(alice.principal())).await?.keys.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// [`find_owner`]: super::KeyManager::find_owner
/// [`revoke_leaked`]: super::KeyManager::revoke_leaked
/// [`ManageError::Refused`]: super::ManageError::Refused
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Policy`",
    note = "implement `Policy` to decide who may manage keys, or use `AllowAll` where your own code decides before it calls Keyward"
)]
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
        /// The key as asked for, its tenant and its owner included.
        key: &'a KeyRequest,
    },
    /// Look at a key.
    Get {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
    },
    /// List a tenant's keys, or those of one of its owners.
    List {
        /// Whose keys.
        tenant: &'a TenantId,
        /// Only this owner's.
        owner: Option<&'a Principal>,
    },
    /// Change fields of a key.
    Update {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
        /// What is to change.
        update: &'a KeyUpdate,
    },
    /// Switch a key off.
    Suspend {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
    },
    /// Switch a key on again.
    Resume {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
    },
    /// Issue a successor to a key.
    Rotate {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
        /// How.
        rotation: &'a Rotation,
    },
    /// Revoke a key.
    Revoke {
        /// Whose key.
        tenant: &'a TenantId,
        /// Which key.
        id: KeyId,
        /// The key's owner; `None` if the tenant has no such key.
        owner: Option<&'a Principal>,
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
    /// Move a cutoff that lies in the future back to now.
    LowerCutoff {
        /// Whose keys.
        scope: &'a CutoffScope,
    },
    /// Bring in a key that another system issued. Whoever may, can make a key of any text.
    Import {
        /// The key as asked for, its tenant and its owner included.
        key: &'a KeyRequest,
        /// The key as it is held elsewhere.
        imported: &'a ImportedKey,
    },
    /// Find out whose key a text is, of whichever tenant that the actor acts for.
    FindOwner {
        /// The key that the text is. `None` the first time, before anything is read: whether the actor may look up
        /// texts at all.
        found: Option<&'a KeyRecord>,
    },
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
    /// Remove a tenant: end and remove all its keys, and what else is stored of it but for its events.
    RemoveTenant {
        /// Which tenant.
        tenant: &'a TenantId,
    },
    /// Remove the events of all tenants that are older than an instant.
    CutEvents {
        /// The instant before which they were recorded.
        before: OffsetDateTime,
    },
    /// Export what a tenant's keys may do at most.
    ExportRestrictions {
        /// Whose.
        tenant: &'a TenantId,
    },
    /// Take from the keys of a restored backup what they had lost since.
    ReplayRestrictions {
        /// Whose keys.
        tenant: &'a TenantId,
    },
}

impl<'a> Operation<'a> {
    /// The same on a key that is this owner's.
    pub(super) fn on_key_of(mut self, of: &'a Principal) -> Self {
        if let Self::Get { owner, .. }
        | Self::Update { owner, .. }
        | Self::Suspend { owner, .. }
        | Self::Resume { owner, .. }
        | Self::Rotate { owner, .. }
        | Self::Revoke { owner, .. } = &mut self
        {
            *owner = Some(of);
        }
        self
    }

    /// Whose keys it is about; none where it is about everybody's, or is only found out.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Issue { key } | Self::Import { key, .. } => Some(&key.tenant),
            Self::Get { tenant, .. }
            | Self::List { tenant, .. }
            | Self::Update { tenant, .. }
            | Self::Suspend { tenant, .. }
            | Self::Resume { tenant, .. }
            | Self::Rotate { tenant, .. }
            | Self::Revoke { tenant, .. }
            | Self::RevokeAll { tenant, .. }
            | Self::Purge { tenant, .. }
            | Self::RemoveTenant { tenant }
            | Self::ReadEvents { tenant }
            | Self::ExportRestrictions { tenant }
            | Self::ReplayRestrictions { tenant } => Some(tenant),
            Self::DenyIssuedBefore { scope, .. } | Self::LowerCutoff { scope } => scope.tenant(),
            Self::FindOwner { found } => found.map(KeyRecord::tenant),
            Self::CutEvents { .. } => None,
        }
    }

    /// The only owner whose keys it is about.
    ///
    /// `None` if it is about keys of several owners, such as a list without
    /// [`KeyQuery::owner`](super::KeyQuery::owner), if there is no such key, or if the key is still to be found. Refuse
    /// what has no owner unless you allow it by name.
    #[must_use]
    pub fn owner(&self) -> Option<&Principal> {
        match self {
            Self::Issue { key } | Self::Import { key, .. } => key.owner.as_ref(),
            Self::Get { owner, .. }
            | Self::List { owner, .. }
            | Self::Update { owner, .. }
            | Self::Suspend { owner, .. }
            | Self::Resume { owner, .. }
            | Self::Rotate { owner, .. }
            | Self::Revoke { owner, .. }
            | Self::RevokeAll { owner, .. } => *owner,
            Self::FindOwner { found } => found.map(KeyRecord::owner),
            Self::DenyIssuedBefore { scope, .. } | Self::LowerCutoff { scope } => scope.owner(),
            Self::Purge { .. }
            | Self::RemoveTenant { .. }
            | Self::CutEvents { .. }
            | Self::ReadEvents { .. }
            | Self::ExportRestrictions { .. }
            | Self::ReplayRestrictions { .. } => None,
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

#[cfg(test)]
mod tests;
