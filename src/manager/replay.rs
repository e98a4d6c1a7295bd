//! Carrying revocations over a restored backup.
//!
//! After a restore: bring in again what was imported since, [replay](KeyManager::replay_revocations) what was exported, set
//! cutoffs again, suspend again, and begin the export anew without a cursor, since positions begin again below the one
//! that was kept.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Actor, KeyManager, KeyQuery, ManageError, Operation, PageCursor};
use crate::clock::normalized;
use crate::key::{KeyId, RevokeReason, StoredKey, TenantId};
use crate::store::{ChangeSet, ListPosition, ListQuery, Segments, StoreError};

/// A revocation as it is exported, to be kept apart from the store: one line of JSON, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RevocationRecord {
    /// Which key.
    pub id: KeyId,
    /// Whose.
    pub tenant: TenantId,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevokeReason,
}

impl RevocationRecord {
    /// That this key of this tenant's was revoked at an instant, for a reason: for those who keep records of their own.
    #[must_use]
    pub fn new(id: KeyId, tenant: TenantId, at: OffsetDateTime, reason: RevokeReason) -> Self {
        Self {
            id,
            tenant,
            at,
            reason,
        }
    }
}

/// A page of exported revocations, in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationPage {
    /// The revocations.
    pub revocations: Vec<RevocationRecord>,
    /// Where to go on, now or later: kept with the export, it brings what was revoked since. None if nothing
    /// was ever revoked.
    pub next: Option<PageCursor>,
    /// Whether there are more already.
    pub has_more: bool,
}

/// What became of replayed revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Replayed {
    /// Keys that were live and are revoked now.
    pub revoked: u64,
    /// Keys that were revoked already.
    pub already: u64,
    /// Ids that the tenant has no key of: such as those issued after the backup was made.
    pub missing: u64,
}

impl KeyManager {
    /// A page of a tenant's revocations, after the one that bore this cursor.
    ///
    /// Exported regularly to a place of its own, they bring a restored backup up to date. Cutoffs are not among
    /// them: [set them again](Self::deny_issued_before). Nor are keys that only a rotation has ended: a backup from
    /// before the rotation knows nothing of their successors either, and they are rotated again.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Cursor`] if the cursor
    /// came of another tenant's export; [`ManageError::Store`].
    pub async fn export_revocations(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        after: Option<PageCursor>,
    ) -> Result<RevocationPage, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::ExportRevocations { tenant })
            .await?;
        let listed = KeyQuery::exporting(tenant);
        let mut query = ListQuery::of(tenant)
            .listing(Segments::Revoked)
            .limit(ListQuery::MAX_LIMIT)
            .at_latest();
        if let Some(cursor) = after {
            query = query.after(listed.position_of(cursor)?);
        }
        let page = self.read_page(&query).await?;
        let mut revocations = Vec::with_capacity(page.items.len());
        let mut next = after;
        for key in page.items {
            next = Some(listed.cursor(ListPosition::of(&key)));
            let (id, tenant) = (key.id, key.tenant);
            let revocation = key.revocation.filter(|_| tenant == *query.tenant());
            let revocation = revocation.ok_or_else(not_revoked)?;
            revocations.push(RevocationRecord {
                id,
                tenant,
                at: revocation.at,
                reason: revocation.reason,
            });
        }
        Ok(RevocationPage {
            revocations,
            next: page.next.map(|place| listed.cursor(place)).or(next),
            has_more: page.next.is_some(),
        })
    }

    /// Revokes the keys that are named, as they were revoked before: after a backup was restored.
    ///
    /// Call it again with all of them after an error: what was done stays done.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if a tenant is not the actor's, or by policy, before anything is done;
    /// [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn replay_revocations(
        &self,
        actor: &Actor,
        revocations: impl IntoIterator<Item = RevocationRecord>,
    ) -> Result<Replayed, ManageError> {
        let revocations: Vec<_> = revocations.into_iter().collect();
        let mut tenants: Vec<_> = revocations.iter().map(|record| &record.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            if !actor.acts_for(tenant) {
                return Err(ManageError::Refused);
            }
            self.ask(actor, &Operation::ReplayRevocations { tenant })
                .await?;
        }
        let now = self.now()?;
        let redactor = self.parts.format.redactor();
        let mut replayed = Replayed::default();
        for batch in revocations.chunks(ChangeSet::MAX_CHANGES) {
            let mut keys: Vec<(StoredKey, OffsetDateTime, RevokeReason)> = Vec::new();
            for record in batch {
                match self.find(&record.tenant, record.id).await {
                    Ok(key) if key.revocation.is_some() => replayed.already += 1,
                    Ok(key) => {
                        let at = normalized(record.at).map_or(now, |at| at.min(now));
                        keys.push((key, at, record.reason.clone().masked(&redactor)));
                    }
                    Err(ManageError::NotFound) => replayed.missing += 1,
                    Err(error) => return Err(error),
                }
            }
            let each = keys
                .iter()
                .map(|(key, at, reason)| (key, *at, reason.clone()));
            let swept = self.revoke_each(actor, now, each).await?;
            replayed.revoked += swept.revoked;
            replayed.already += swept.already;
            replayed.missing += swept.missing;
        }
        Ok(replayed)
    }
}

fn not_revoked() -> ManageError {
    ManageError::Store(StoreError::Corrupt(
        "the store listed a key that is not revoked, or another tenant's".into(),
    ))
}
