//! Removing a tenant.
//!
//! 1. A cutoff ends every key of the tenant that was issued before the call, on every node, as
//!    [`revoke_all`](super::KeyManager::revoke_all) does.
//! 2. The manager revokes the keys that are not revoked yet, and removes all of them: at most sixteen changes in one
//!    commit. These include keys that another node's clock dated later.
//! 3. Once no key is left, one commit removes everything else that is stored of the tenant. The latest of its cutoffs
//!    stays, as the tenant's.
//!
//! A call that was interrupted at any point can be repeated. Ids stay taken, and the cutoff does not move back, so
//! neither a late commit nor a repeated import brings a key back.

use time::OffsetDateTime;

use super::{Authorized, ManageError, broken_store};
use crate::audit::{Event, EventAction, FieldChange};
use crate::key::{RevokeReason, StoredKey, TenantId};
use crate::store::{Change, ChangeSet, CutoffScope, Outcome, StoreError};

/// Most keys in one read.
const PAGE: u16 = 128;

/// Most passes over the list, if keys are issued at the same time.
const PASSES: u32 = 3;

impl Authorized<'_> {
    pub(super) async fn remove_tenant(self, tenant: &TenantId) -> Result<u64, ManageError> {
        let now = self.now()?;
        let reason = RevokeReason::Decommissioned;
        let cut_off = self.cut_off(CutoffScope::from(tenant), now, now, Some(&reason));
        cut_off.await?;
        let removal = Removal {
            by: self,
            tenant,
            now,
            reason,
        };
        let removed = removal.run().await;
        removed.map_err(|source| ManageError::Unfinished {
            before: now,
            source,
        })
    }
}

/// The state of one call after the cutoff is set.
struct Removal<'a> {
    by: Authorized<'a>,
    tenant: &'a TenantId,
    now: OffsetDateTime,
    reason: RevokeReason,
}

impl Removal<'_> {
    async fn run(&self) -> Result<u64, StoreError> {
        let mut keys = 0;
        for _ in 0..PASSES {
            keys += self.remove_keys().await?;
            if self.remove_rest(keys).await? {
                return Ok(keys);
            }
        }
        Err(StoreError::Conflict)
    }

    /// Removes the listed keys, and returns how many.
    async fn remove_keys(&self) -> Result<u64, StoreError> {
        let (mut removed, mut after) = (0, None);
        loop {
            let page = self.by.read_all(self.tenant, PAGE, after).await?;
            let mut batch = Vec::new();
            for key in &page.items {
                let changes = self.changes(key);
                if batch.len() + changes.len() > ChangeSet::MAX_CHANGES {
                    removed += self.commit(std::mem::take(&mut batch)).await?;
                }
                batch.extend(changes);
            }
            removed += self.commit(batch).await?;
            if page.next.is_none() {
                return Ok(removed);
            }
            after = page.next;
        }
    }

    /// Builds the changes that remove a key, and that revoke it first unless it is revoked, each with its event.
    fn changes(&self, key: &StoredKey) -> Vec<(Change, Event)> {
        let id = key.id;
        let mut changes = Vec::new();
        let revoked_at = match &key.revocation {
            Some(revocation) => revocation.at,
            None => {
                let (now, reason) = (self.now, self.reason.clone());
                let (change, event) = self.by.revocation(now, key, now, reason);
                changes.push((
                    change,
                    Event {
                        title: None,
                        ..event
                    },
                ));
                now
            }
        };
        // The key must not come back, regardless of when it was revoked and by which clock.
        let ended_before = revoked_at.checked_add(time::Duration::microseconds(1));
        let ended_before = ended_before.unwrap_or(revoked_at);
        let mut event = self.event(EventAction::KeyPurged, Vec::new());
        event.key = Some(id);
        changes.push((Change::Purge { id, ended_before }, event));
        changes
    }

    fn event(&self, action: EventAction, fields: Vec<FieldChange>) -> Event {
        let tenant = Some(self.tenant.clone());
        self.by.event(self.now, action, tenant, fields)
    }

    /// Commits changes, and returns how many keys they removed.
    async fn commit(&self, changes: Vec<(Change, Event)>) -> Result<u64, StoreError> {
        let mut purged = 0;
        for outcome in self.by.commit_all(changes).await? {
            match outcome {
                Outcome::Purged => purged += 1,
                // Another call removed the key first, or revoked it a moment ago: the next pass removes it.
                Outcome::Revoked
                | Outcome::AlreadyRevoked { .. }
                | Outcome::Missing
                | Outcome::NotPurged => {}
                _ => return Err(broken_store()),
            }
        }
        Ok(purged)
    }

    /// Removes everything stored of the tenant besides keys. `false` if the tenant has keys again.
    async fn remove_rest(&self, keys: u64) -> Result<bool, StoreError> {
        let fields = vec![FieldChange::set("keys", keys.to_string())];
        let event = self.event(EventAction::TenantRemoved, fields);
        let tenant = self.tenant.clone();
        match self
            .by
            .commit_one(Change::RemoveTenant { tenant }, event)
            .await?
        {
            Outcome::TenantRemoved => Ok(true),
            Outcome::TenantHasKeys => Ok(false),
            _ => Err(broken_store()),
        }
    }
}
