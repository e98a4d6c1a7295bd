//! Changing a key that exists.

use time::OffsetDateTime;

use super::{Actor, InvalidKey, KeyManager, ManageError, broken_contract};
use crate::audit::{EventAction, FieldChange};
use crate::key::{KeyId, KeyRecord, KeyStatus, TenantId};
use crate::store::{Change, ChangeId, ChangeSet, Outcome, StoreError};

/// How often a change is made anew because somebody else changed the key meanwhile.
pub(super) const AMEND_TRIES: u32 = 8;

/// A record as it is to be, and what the event tells of it.
pub(super) struct Amendment {
    pub(super) record: KeyRecord,
    pub(super) action: EventAction,
    pub(super) changes: Vec<FieldChange>,
}

impl KeyManager {
    /// Reads a key, changes it, and commits that on the condition that nobody else changed it meanwhile; if
    /// somebody did, all is read and judged again.
    ///
    /// `None` is nothing to do.
    pub(super) async fn amend(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        change: impl Fn(&KeyRecord, OffsetDateTime) -> Result<Option<Amendment>, ManageError>,
    ) -> Result<KeyRecord, ManageError> {
        for _ in 0..AMEND_TRIES {
            let (record, now) = self.find_live(tenant, id).await?;
            let Some(amendment) = change(&record, now)? else {
                return Ok(record);
            };
            let Amendment {
                record: mut with,
                action,
                changes,
            } = amendment;
            let stored = with.encode().map_err(InvalidKey::Unwritable)?;
            let redactor = self.parts.format.redactor();
            let event = actor.event(now, action, &stored, changes, &redactor);
            let replace = Change::Replace {
                expected: record.revision,
                with: Box::new(stored),
            };
            let change_id = ChangeId::generate(&*self.parts.random);
            let set = ChangeSet::one(change_id, replace).with_event(event);
            match self.commit(&set).await {
                Ok(committed) if committed.outcomes == [Outcome::Replaced] => {
                    with.revision = record.revision.saturating_add(1);
                    return Ok(with);
                }
                Ok(_) => return Err(broken_contract()),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The key, if it is the tenant's and has not ended, and the instant at which that was so.
    pub(super) async fn find_live(
        &self,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<(KeyRecord, OffsetDateTime), ManageError> {
        let stored = self.find(tenant, id).await?;
        let record = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
        if let Some(revocation) = record.revocation() {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.now()?;
        match record.status(now) {
            status @ (KeyStatus::Revoked | KeyStatus::Expired) => Err(ManageError::Ended(status)),
            KeyStatus::Active | KeyStatus::NotYetValid | KeyStatus::Suspended => Ok((record, now)),
        }
    }
}
