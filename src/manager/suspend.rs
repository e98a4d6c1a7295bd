//! Switching a key off, and on again.

use super::amend::Amendment;
use super::{Actor, KeyManager, ManageError, Operation};
use crate::audit::{EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{KeyId, KeyRecord, TenantId};

impl KeyManager {
    /// Switches a key off until it is [resumed](Self::resume). A key that may be in wrong hands is
    /// [revoked](Self::revoke) instead.
    ///
    /// The actor's ceiling does not bind it, since it gives nobody more; the policy does.
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
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let operation = Operation::Suspend {
            tenant,
            id,
            owner: None,
        };
        let stored = self.find_for(actor, tenant, id, operation).await?;
        self.amend(actor, stored, operation, |record, now| {
            if let Some(at) = record.suspended_at {
                return Err(ManageError::AlreadySuspended { at });
            }
            let mut with = record.clone();
            with.suspended_at = Some(now);
            Ok(Some(Amendment {
                record: with,
                action: EventAction::KeySuspended,
                changes: vec![FieldChange::set("suspended_at", rfc3339(now))],
            }))
        })
        .await
    }

    /// Switches a suspended key on again.
    ///
    /// It gives power back: the key is held against the actor's ceiling and the tenant's rules, as one that is issued.
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
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let operation = Operation::Resume {
            tenant,
            id,
            owner: None,
        };
        let stored = self.find_for(actor, tenant, id, operation).await?;
        let rules = self.rules_of(tenant).await?;
        self.amend(actor, stored, operation, |record, _| {
            self.check_ceiling(actor, record)?;
            let at = record.suspended_at.ok_or(ManageError::NotSuspended)?;
            rules.check(record, &self.parts.catalog)?;
            let mut with = record.clone();
            with.suspended_at = None;
            let change = FieldChange::of("suspended_at", Some(rfc3339(at)), None);
            Ok(Some(Amendment {
                record: with,
                action: EventAction::KeyResumed,
                changes: vec![change],
            }))
        })
        .await
    }
}
