//! The host application's decision on each management operation.

use std::fmt::Debug;

use async_trait::async_trait;

use time::OffsetDateTime;

use super::{Actor, KeyRequest, KeyUpdate, Rotation};
use crate::codes::codes;
use crate::import::ImportedKey;
use crate::key::{KeyId, KeyRecord, Principal, RevokeReason, TenantId};
use crate::store::CutoffScope;

/// The host application's decision on each management operation, such as "only administrators of the tenant".
///
/// The manager asks about an operation on one key after it has read the key's owner, and does nothing else before. For
/// a key that does not exist the owner is `None`, and a refusal looks the same: [`ManageError::Refused`]. If another
/// call changes the key meanwhile, the manager reads it again and asks again. It asks about every other operation
/// before it reads the store. [`find_owner`] and [`revoke_leaked`] ask twice: before they read anything, and once the
/// text's secret is proven. [`find_by_id`] asks twice as well: before it reads anything, and once it has found the key.
///
/// Neither an update nor a rotation changes a key's owner. The owner that the policy sees is therefore the owner
/// before and after the operation; for a new key, it is the requested owner.
///
/// # Own keys only
/// Compare [`Operation::owner`] with the actor. Operations on keys of several owners have the owner `None`, and this
/// policy refuses them:
/// ```
/// # use keyward::{Keyward, key::{Access, KeyFormat, TenantId}, store::MemoryStore};
/// use keyward::manager::{
///     Actor, Ceiling, KeyQuery, ManageError, NewKey, Operation, Overlap, Policy, PolicyError, Ruling,
/// };
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
/// [`find_by_id`]: super::KeyManager::find_by_id
/// [`find_owner`]: super::KeyManager::find_owner
/// [`revoke_leaked`]: super::KeyManager::revoke_leaked
/// [`ManageError::Refused`]: super::ManageError::Refused
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Policy`",
    note = "implement `Policy` to decide who may manage keys, with `#[keyward::async_trait]` on the `impl`",
    note = "where your own code decides before it calls Keyward, use `AllowAll`"
)]
#[async_trait]
pub trait Policy: Debug + Send + Sync + 'static {
    /// Decides whether the actor may do this operation.
    ///
    /// # Errors
    /// [`PolicyError`] if the policy cannot decide. The operation is then not done.
    // rustc shows the next line, with its comment, for an `impl` without the attribute.
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError>; // #[async_trait]
}

/// A policy's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// The actor may do the operation.
    Allow,
    /// The actor may not do the operation.
    Refuse,
}

/// An operation that an actor asks for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Issue a key.
    Issue {
        /// The requested key, with its tenant and its owner.
        key: &'a KeyRequest,
    },
    /// Read a key.
    Get {
        /// The key.
        key: KeyRef<'a>,
    },
    /// List a tenant's keys, or those of one of its owners.
    List {
        /// Tenant of the keys.
        tenant: &'a TenantId,
        /// Owner of the listed keys. `None`: all owners.
        owner: Option<&'a Principal>,
    },
    /// List the tenants that have keys, among those that the actor acts for.
    ListTenants,
    /// Change fields of a key.
    Update {
        /// The key.
        key: KeyRef<'a>,
        /// The fields to change.
        update: &'a KeyUpdate,
    },
    /// Suspend a key.
    Suspend {
        /// The key.
        key: KeyRef<'a>,
    },
    /// Resume a suspended key.
    Resume {
        /// The key.
        key: KeyRef<'a>,
    },
    /// Issue a successor to a key.
    Rotate {
        /// The key.
        key: KeyRef<'a>,
        /// Overlap of the two keys and expiry of the successor.
        rotation: &'a Rotation,
    },
    /// Revoke a key.
    Revoke {
        /// The key.
        key: KeyRef<'a>,
        /// Reason for the revocation.
        reason: &'a RevokeReason,
    },
    /// Revoke all keys of a tenant, or of one of its owners.
    RevokeAll {
        /// Tenant of the keys.
        tenant: &'a TenantId,
        /// Owner of the keys. `None`: all owners.
        owner: Option<&'a Principal>,
        /// Only keys issued before this instant. `None`: all keys.
        before: Option<OffsetDateTime>,
        /// Reason for the revocation.
        reason: &'a RevokeReason,
    },
    /// End all keys of a scope that were issued before an instant.
    DenyIssuedBefore {
        /// Scope of the keys: an owner's, a tenant's, or all.
        scope: &'a CutoffScope,
        /// First instant of issue that is still valid.
        instant: OffsetDateTime,
    },
    /// Move a cutoff that lies in the future back to now.
    LowerCutoff {
        /// Scope of the keys: an owner's, a tenant's, or all.
        scope: &'a CutoffScope,
    },
    /// Import a key that another system issued. An actor with this permission can make any text a key.
    Import {
        /// The requested key, with its tenant and its owner.
        key: &'a KeyRequest,
        /// The key as the other system holds it.
        imported: &'a ImportedKey,
    },
    /// Find the key that a text belongs to, among the tenants that the actor acts for.
    FindOwner {
        /// The key that the text belongs to. `None` the first time, before the manager reads anything: may the actor
        /// look up texts at all?
        found: Option<&'a KeyRecord>,
    },
    /// Find a key by its id, among the tenants that the actor acts for.
    FindById {
        /// The id.
        id: KeyId,
        /// The key with this id. `None` the first time, before the manager reads anything: may the actor look up ids
        /// at all?
        found: Option<KeyRef<'a>>,
    },
    /// Read the events of a tenant's keys.
    ReadEvents {
        /// Tenant of the keys.
        tenant: &'a TenantId,
    },
    /// Read the events of a key.
    ReadEventsOf {
        /// The key.
        key: KeyRef<'a>,
    },
    /// Remove a tenant's keys that ended before an instant.
    Purge {
        /// Tenant of the keys.
        tenant: &'a TenantId,
        /// The instant before which the keys must have ended.
        ended_before: OffsetDateTime,
    },
    /// Remove a tenant: end and remove all its keys, and everything else stored of it except its events.
    RemoveTenant {
        /// The tenant.
        tenant: &'a TenantId,
    },
    /// Remove the events of all tenants that are older than an instant.
    CutEvents {
        /// The instant before which the events were recorded.
        before: OffsetDateTime,
    },
    /// Export the most that each of a tenant's keys may do.
    ExportRestrictions {
        /// Tenant of the keys.
        tenant: &'a TenantId,
    },
    /// Take from the keys of a restored backup the powers that they had lost since.
    ReplayRestrictions {
        /// Tenant of the keys.
        tenant: &'a TenantId,
    },
}

/// The key that an operation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRef<'a> {
    /// Tenant of the key.
    pub tenant: &'a TenantId,
    /// Id of the key.
    pub id: KeyId,
    /// Owner of the key. `None` if the tenant has no such key.
    pub owner: Option<&'a Principal>,
}

impl<'a> KeyRef<'a> {
    pub(super) fn new(tenant: &'a TenantId, id: KeyId) -> Self {
        let owner = None;
        Self { tenant, id, owner }
    }
}

impl<'a> From<&'a KeyRecord> for KeyRef<'a> {
    fn from(record: &'a KeyRecord) -> Self {
        Self {
            tenant: record.tenant(),
            id: record.id(),
            owner: Some(record.owner()),
        }
    }
}

impl<'a> Operation<'a> {
    /// Returns the same operation on a key of this owner.
    pub(super) fn on_key_of(mut self, owner: &'a Principal) -> Self {
        if let Self::Get { key }
        | Self::ReadEventsOf { key }
        | Self::Update { key, .. }
        | Self::Suspend { key }
        | Self::Resume { key }
        | Self::Rotate { key, .. }
        | Self::Revoke { key, .. } = &mut self
        {
            key.owner = Some(owner);
        }
        self
    }

    /// Returns the key that the operation names. `None` if it names none, or the key is still to be found.
    pub(super) fn key(&self) -> Option<KeyRef<'a>> {
        match self {
            Self::Get { key }
            | Self::ReadEventsOf { key }
            | Self::Update { key, .. }
            | Self::Suspend { key }
            | Self::Resume { key }
            | Self::Rotate { key, .. }
            | Self::Revoke { key, .. } => Some(*key),
            Self::FindOwner { found } => found.map(KeyRef::from),
            Self::FindById { found, .. } => *found,
            _ => None,
        }
    }

    /// Returns the tenant of the keys in the operation. `None` if it is about all tenants, or the key is still to be
    /// found.
    #[must_use]
    pub fn tenant(&self) -> Option<&'a TenantId> {
        match self {
            Self::Issue { key } | Self::Import { key, .. } => Some(&key.tenant),
            Self::List { tenant, .. }
            | Self::RevokeAll { tenant, .. }
            | Self::Purge { tenant, .. }
            | Self::RemoveTenant { tenant }
            | Self::ReadEvents { tenant }
            | Self::ExportRestrictions { tenant }
            | Self::ReplayRestrictions { tenant } => Some(tenant),
            Self::DenyIssuedBefore { scope, .. } | Self::LowerCutoff { scope } => scope.tenant(),
            _ => self.key().map(|key| key.tenant),
        }
    }

    /// Returns the owner of the keys in the operation, if it is about keys of one owner only.
    ///
    /// `None` if it is about keys of several owners, such as a list without
    /// [`KeyQuery::owner`](super::KeyQuery::owner), if there is no such key, or if the key is still to be found.
    /// Refuse operations without an owner unless you allow them by name.
    #[must_use]
    pub fn owner(&self) -> Option<&'a Principal> {
        match self {
            Self::Issue { key } | Self::Import { key, .. } => key.owner.as_ref(),
            Self::List { owner, .. } | Self::RevokeAll { owner, .. } => *owner,
            Self::DenyIssuedBefore { scope, .. } | Self::LowerCutoff { scope } => scope.owner(),
            _ => self.key().and_then(|key| key.owner),
        }
    }
}

/// The policy could not decide.
#[derive(Debug, thiserror::Error)]
#[error("the policy failed to decide")]
pub struct PolicyError(#[source] Box<dyn std::error::Error + Send + Sync>);

codes! {
    PolicyError;
    Self(_) => "policy_failed",
}

impl PolicyError {
    /// Creates an error with the host application's cause.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// A policy that allows every operation, for host applications that decide before they call, and for tests.
///
/// The tenants and the ceiling of an [`Actor`] still apply.
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
