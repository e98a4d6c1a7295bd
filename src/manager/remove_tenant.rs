//! Removing a tenant.
//!
//! 1. A cutoff ends every key of the tenant that was issued before the call, on every node, as
//!    [`revoke_all`](KeyManager::revoke_all) does.
//! 2. The manager revokes the keys that are not revoked yet, and removes all of them: at most sixteen changes in one
//!    commit. These include keys that another node's clock dated later.
//! 3. Once no key is left, one commit removes everything else that is stored of the tenant. The latest of its cutoffs
//!    stays, as the tenant's.
//!
//! A call that was interrupted at any point can be repeated. Ids stay taken, and the cutoff does not move back, so
//! neither a late commit nor a repeated import brings a key back.

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, broken_store};
use crate::audit::{Event, EventAction, FieldChange};
use crate::key::{RevokeReason, StoredKey, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, CutoffScope, ListQuery, Outcome, Segments, StoreError,
};

/// Most keys in one read.
const PAGE: u16 = 128;

/// Most passes over the list, if keys are issued at the same time.
const PASSES: u32 = 3;

/// The result of removing a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedTenant {
    /// Number of keys that this call removed.
    pub keys: u64,
}

impl KeyManager {
    /// Removes a tenant: ends all its keys, removes them with their usage, and removes the names of owners that kill
    /// switches left.
    ///
    /// From the first commit on, before any key is removed, this node refuses the keys, and other nodes refuse them at
    /// most a [lease](crate::verifier::KeyCache::lease) later. Keys that are issued at the same time are removed too,
    /// or refused, or dated no earlier than this call; stop issuing first.
    ///
    /// The ids of the keys stay taken. The tenant's latest cutoff stays, and so do the tenant's events, until
    /// [`cut_events`](Self::cut_events) removes them. The removal adds to these [`EventAction::KeyRevoked`] and
    /// [`EventAction::KeyPurged`] for each key, without its title and owner, and one [`EventAction::TenantRemoved`].
    /// Keys that are issued later under the tenant's name inherit nothing.
    ///
    /// Repeat the call after an error or a crash: it continues. On a tenant without keys it only records the call.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy. [`ManageError::Unfinished`] if every
    /// key that was issued before the call has ended, but not all have been removed. After any other error keys may
    /// still be valid: [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn remove_tenant(
        &self,
        actor: &Actor,
        tenant: &TenantId,
    ) -> Result<RemovedTenant, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::RemoveTenant { tenant }).await?;
        let now = self.now()?;
        let reason = RevokeReason::Decommissioned;
        let scope = CutoffScope::from(tenant);
        self.cut_off(actor, scope, now, now, Some(&reason)).await?;
        let removal = Removal {
            manager: self,
            actor,
            tenant,
            now,
            reason,
        };
        let keys = removal.run().await;
        let keys = keys.map_err(|source| ManageError::Unfinished {
            before: now,
            source,
        })?;
        Ok(RemovedTenant { keys })
    }
}

/// The state of one call after the cutoff is set.
struct Removal<'a> {
    manager: &'a KeyManager,
    actor: &'a Actor,
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
        let mut query = ListQuery::of(self.tenant)
            .listing(Segments::LiveThenRevoked)
            .limit(PAGE)
            .at_latest();
        let mut removed = 0;
        loop {
            let page = self.manager.read_page(&query).await?;
            if page.items.iter().any(|key| key.tenant != *self.tenant) {
                let cause = "the store listed another tenant's key";
                return Err(StoreError::Corrupt(cause.into()));
            }
            let mut batch = Vec::new();
            for key in &page.items {
                let changes = self.changes(key);
                if batch.len() + changes.len() > ChangeSet::MAX_CHANGES {
                    removed += self.commit(std::mem::take(&mut batch)).await?;
                }
                batch.extend(changes);
            }
            removed += self.commit(batch).await?;
            match page.next {
                Some(place) => query = query.after(place),
                None => return Ok(removed),
            }
        }
    }

    /// Builds the changes that remove a key, and that revoke it first unless it is revoked, each with its event.
    fn changes(&self, key: &StoredKey) -> Vec<(Change, Event)> {
        let id = key.id;
        let mut changes = Vec::new();
        let revoked_at = match &key.revocation {
            Some(revocation) => revocation.at,
            None => {
                let (at, reason) = (self.now, self.reason.clone());
                let fields = vec![FieldChange::set("revoked", reason.as_str())];
                let event = self.event(EventAction::KeyRevoked, fields);
                changes.push((Change::Revoke { id, at, reason }, event));
                at
            }
        };
        // The key must not come back, regardless of when it was revoked and by which clock.
        let ended_before = revoked_at.checked_add(time::Duration::microseconds(1));
        let ended_before = ended_before.unwrap_or(revoked_at);
        let event = self.event(EventAction::KeyPurged, Vec::new());
        changes.push((Change::Purge { id, ended_before }, event));
        for (_, event) in &mut changes {
            event.key = Some(id);
        }
        changes
    }

    /// Builds an event without a key's title and owner.
    fn event(&self, action: EventAction, fields: Vec<FieldChange>) -> Event {
        let redactor = self.manager.parts.format.redactor();
        let tenant = Some(self.tenant.clone());
        self.actor
            .event_of_many(self.now, action, tenant, fields, &redactor)
    }

    /// Commits changes, and returns how many keys they removed.
    async fn commit(&self, changes: Vec<(Change, Event)>) -> Result<u64, StoreError> {
        let (changes, events): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let id = ChangeId::generate(&*self.manager.parts.random);
        let Some(set) = ChangeSet::new(id, changes) else {
            return Ok(0); // No changes: a batch never exceeds the limit of a set.
        };
        let events = events.into_iter().enumerate();
        let set = events.fold(set, |set, (change, event)| set.with_event_of(change, event));
        let outcomes = self.manager.commit(&set).await?.outcomes;
        if outcomes.len() != set.changes().len() {
            return Err(broken_store());
        }
        let mut purged = 0;
        for outcome in outcomes {
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
        let id = ChangeId::generate(&*self.manager.parts.random);
        let tenant = self.tenant.clone();
        let set = ChangeSet::one(id, Change::RemoveTenant { tenant }).with_event(event);
        match self.manager.commit(&set).await?.outcomes.as_slice() {
            [Outcome::TenantRemoved] => Ok(true),
            [Outcome::TenantHasKeys] => Ok(false),
            _ => Err(broken_store()),
        }
    }
}
