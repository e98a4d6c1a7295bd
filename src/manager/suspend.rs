//! Suspending and resuming a key.

use super::amend::Amendment;
use super::{Actor, KeyManager, ManageError, Operation};
use crate::audit::{EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{KeyId, KeyRecord, TenantId};

impl KeyManager {
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
