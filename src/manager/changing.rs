//! The calls that change a key.

use super::{Actor, KeyManager, KeyRef, KeyUpdate, ManageError, Operation};
use crate::key::{KeyId, KeyRecord, TenantId};

/// # Changing a key
impl KeyManager {
    /// Changes the fields that the update names. The change reaches other nodes as a revocation does.
    ///
    /// The manager checks the key against the actor's ceiling both before and after the change: an actor that may not
    /// issue such a key may not change it either. If nothing differs, nothing is done.
    ///
    /// The expiry of a key that has not ended moves both ways, within the actor's ceiling and the tenant's rules. A
    /// rotated key still ends with its overlap at the latest ([`InvalidKey::BeyondOverlap`]). An end is never taken
    /// back: if the old end comes while a later one is being committed, the manager revokes the key, and the answer is
    /// [`ManageError::Ended`]. Other nodes go by the end that they know until they learn of the change.
    ///
    /// # Errors
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`]; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`]; [`ManageError::Unreadable`], [`ManageError::Clock`], [`ManageError::Store`].
    ///
    /// [`InvalidKey::BeyondOverlap`]: super::InvalidKey::BeyondOverlap
    pub async fn update(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        update: KeyUpdate,
    ) -> Result<KeyRecord, ManageError> {
        let operation = Operation::Update {
            key: KeyRef::new(tenant, id),
            update: &update,
        };
        let key = self.authorize_on_key(actor, operation).await?;
        key.update(&update).await
    }

    /// Suspends a key until it is [resumed](Self::resume). [Revoke](Self::revoke) a key that may be in wrong hands
    /// instead.
    ///
    /// The manager asks the policy, but does not check the actor's ceiling, since a suspension gives no power.
    ///
    /// # Errors
    /// [`ManageError::AlreadySuspended`]; [`ManageError::NotFound`] if the tenant has no such key or is not the
    /// actor's; [`ManageError::Refused`] by policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`];
    /// [`ManageError::Unreadable`], [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn suspend(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Suspend { key });
        key.await?.suspend().await
    }

    /// Resumes a suspended key.
    ///
    /// This gives power back: the manager checks the key against the actor's ceiling and the tenant's rules, as a new
    /// one.
    ///
    /// # Errors
    /// [`ManageError::NotSuspended`]; [`ManageError::AboveCeiling`] and [`ManageError::Invalid`]; and as
    /// [`suspend`](Self::suspend).
    pub async fn resume(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Resume { key });
        key.await?.resume().await
    }
}
