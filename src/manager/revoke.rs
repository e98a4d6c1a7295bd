//! Ending one key.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, broken_contract};
use crate::audit::{EventAction, FieldChange};
use crate::clock::normalized;
use crate::key::{KeyId, RevokeReason, StoredKey, TenantId, Title};
use crate::store::{Change, ChangeId, ChangeSet, Outcome};

impl KeyManager {
    /// Revokes a key: at once, for good, and regardless of concurrent changes to it.
    ///
    /// Once this has returned, no verification that starts on this node is granted. Other nodes refuse the key as soon
    /// as they read the change from the store's change feed, and at the latest one
    /// [lease](crate::verifier::KeyCache::lease) after the start of their last completed poll, or of their read of the
    /// key.
    ///
    /// It needs neither a readable document, nor a random source, nor a clock: without a clock the revocation is dated
    /// at the key's own creation. It commits even if the event log cannot take its event. The manager asks the policy,
    /// but does not check the actor's ceiling, since ending a key gives no power. The text of a key in the reason is
    /// masked.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRevoked`] the second time, [`ManageError::NotFound`] if the tenant has no such key or is
    /// not the actor's, [`ManageError::Refused`] by policy, [`ManageError::Store`]. After
    /// [`StoreError::Indeterminate`](crate::store::StoreError::Indeterminate) call it again: the key may have been
    /// revoked.
    pub async fn revoke(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        reason: RevokeReason,
    ) -> Result<Revoked, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let reason = reason.masked(&self.parts.format.redactor());
        let operation = Operation::Revoke {
            tenant,
            id,
            owner: None,
            reason: &reason,
        };
        let stored = self.find_for(actor, tenant, id, operation).await?;
        self.revoke_stored(actor, stored, reason).await
    }

    /// Revokes a key that was read. The actor must act for its tenant.
    pub(super) async fn revoke_stored(
        &self,
        actor: &Actor,
        stored: StoredKey,
        reason: RevokeReason,
    ) -> Result<Revoked, ManageError> {
        if let Some(revocation) = stored.revocation {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.parts.clock.now().ok().and_then(normalized);
        let (set, at) = self.revocation(actor, &stored, now.unwrap_or(stored.created_at), &reason);
        match self.commit(&set).await?.outcomes.as_slice() {
            [Outcome::Revoked] => Ok(Revoked {
                id: stored.id,
                title: stored.title,
                at,
                reason,
            }),
            [Outcome::AlreadyRevoked { at }] => Err(ManageError::AlreadyRevoked { at: *at }),
            [Outcome::Missing] => Err(ManageError::NotFound),
            _ => Err(broken_contract()),
        }
    }

    /// Builds the change set that revokes a key, and returns it with the instant of the revocation.
    pub(super) fn revocation(
        &self,
        actor: &Actor,
        stored: &StoredKey,
        at: OffsetDateTime,
        reason: &RevokeReason,
    ) -> (ChangeSet, OffsetDateTime) {
        let changes = vec![FieldChange::set("revoked", reason.as_str())];
        let redactor = self.parts.format.redactor();
        let event = actor.event(at, EventAction::KeyRevoked, stored, changes, &redactor);
        let change = Change::Revoke {
            id: stored.id,
            at,
            reason: reason.clone(),
        };
        let id = ChangeId::generate(&*self.parts.random);
        (ChangeSet::one(id, change).with_event(event), at)
    }
}

/// A newly revoked key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Revoked {
    /// Id of the key.
    pub id: KeyId,
    /// Title of the key.
    pub title: Title,
    /// Instant of the revocation.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Reason for the revocation.
    pub reason: RevokeReason,
}
