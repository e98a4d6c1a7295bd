//! Finding a key by its id alone.

use super::{Actor, Authorized, KeyManager, KeyRef, ManageError, Operation};
use crate::key::{KeyId, KeyRecord, StoredKey};
use crate::store::StoreError;

impl KeyManager {
    pub(super) async fn look_up_id(
        &self,
        actor: &Actor,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        let first = Operation::FindById { id, found: None };
        let by = self.authorize(actor, first).await?;
        let stored = by.read_own(id).await?;
        let found = KeyRef {
            tenant: &stored.tenant,
            id,
            owner: Some(&stored.owner),
        };
        let found = Operation::FindById {
            id,
            found: Some(found),
        };
        match by.further(found).await {
            // As for a key that does not exist.
            Err(ManageError::Refused) => return Err(ManageError::NotFound),
            asked => asked?,
        }
        let record = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
        Ok(by.judge(record, by.now().ok()))
    }
}

impl Authorized<'_> {
    /// Reads a key as stored, if it belongs to a tenant of the actor's.
    ///
    /// INVARIANT: for an actor of some tenants, another tenant's key and a key that does not exist give the same
    /// answer. The tenant of a damaged key is not known.
    async fn read_own(&self, id: KeyId) -> Result<StoredKey, ManageError> {
        let stored = match self.read(id).await {
            Err(StoreError::Corrupt(_)) if !self.actor().acts_for_all() => None,
            read => read?,
        };
        let stored = stored.filter(|stored| self.actor().acts_for(&stored.tenant));
        stored.ok_or(ManageError::NotFound)
    }
}
