//! Changing a key that exists.

use time::OffsetDateTime;

use super::{Actor, InvalidKey, KeyManager, ManageError, Operation, broken_contract};
use crate::audit::{EventAction, FieldChange};
use crate::key::{KeyRecord, KeyStatus, StoredKey};
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
    /// Changes a key, and commits that on the condition that it is still as it was read; if somebody else changed it
    /// meanwhile, it is read and judged again, and the policy is asked again about the operation.
    ///
    /// `None` is nothing to do.
    pub(super) async fn amend(
        &self,
        actor: &Actor,
        mut stored: StoredKey,
        operation: Operation<'_>,
        change: impl Fn(&KeyRecord, OffsetDateTime) -> Result<Option<Amendment>, ManageError>,
    ) -> Result<KeyRecord, ManageError> {
        for _ in 0..AMEND_TRIES {
            let (tenant, id) = (stored.tenant.clone(), stored.id);
            let (record, now) = self.live(stored)?;
            let Some(amendment) = change(&record, now)? else {
                return Ok(record);
            };
            let Amendment {
                record: mut with,
                action,
                changes,
            } = amendment;
            let encoded = with.encode().map_err(InvalidKey::Unwritable)?;
            let redactor = self.parts.format.redactor();
            let event = actor.event(now, action, &encoded, changes, &redactor);
            let replace = Change::Replace {
                expected: record.revision,
                with: Box::new(encoded),
            };
            let change_id = ChangeId::generate(&*self.parts.random);
            let set = ChangeSet::one(change_id, replace).with_event(event);
            match self.commit(&set).await {
                Ok(committed) if committed.outcomes == [Outcome::Replaced] => {
                    with.revision = record.revision.saturating_add(1);
                    return Ok(with);
                }
                Ok(_) => return Err(broken_contract()),
                Err(StoreError::Conflict) => {
                    stored = self.find_for(actor, &tenant, id, operation).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The key, if it has not ended, and the instant at which that was so.
    pub(super) fn live(
        &self,
        stored: StoredKey,
    ) -> Result<(KeyRecord, OffsetDateTime), ManageError> {
        let record = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
        if let Some(revocation) = record.revocation() {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.now()?;
        let record = self.judge(record, Some(now));
        match record.status(now) {
            status @ (KeyStatus::Revoked | KeyStatus::Expired) => Err(ManageError::Ended(status)),
            KeyStatus::Active | KeyStatus::NotYetValid | KeyStatus::Suspended => Ok((record, now)),
        }
    }
}
