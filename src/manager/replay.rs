//! Restoring lost restrictions after a backup was restored.

use time::OffsetDateTime;

use super::amend::{AMEND_TRIES, Amendment, differences};
use super::list::give_way;
use super::restriction::{Bound, Cut, KeyBound};
use super::{Authorized, KeyQuery, ManageError, PageCursor};
use crate::audit::EventAction;
use crate::clock::normalized;
use crate::key::{KeyId, KeyRecord, StoredKey, TenantId};
use crate::store::{ChangeSet, ListPosition, ListQuery, StoreError};

/// A page of an export: the most that each key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestrictionPage {
    /// The most that each key may do. First the keys that are not revoked, newest first, then the revoked ones, in the
    /// order in which they were revoked.
    pub restrictions: Vec<KeyBound>,
    /// Cursor at which to continue. `None` if the tenant has no keys.
    pub next: Option<PageCursor>,
    /// Whether the tenant has more keys already.
    pub has_more: bool,
}

/// The result of replaying restrictions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Replayed {
    /// Number of keys that this call revoked.
    pub revoked: u64,
    /// Number of keys that this call narrowed or suspended.
    pub narrowed: u64,
    /// Number of keys that could already do no more than the export says.
    pub already: u64,
    /// Number of ids without a key of the tenant, such as those of keys issued after the backup was made.
    pub missing: u64,
    /// Keys that stay suspended for an operator to review. The powers that such a key has now and those in the export
    /// have nothing in common that a key can express, or the key could not be read when it was exported. Each replay
    /// names these keys again.
    pub suspended: Vec<KeyId>,
    /// Keys that cannot be read, and so were not narrowed. The verifier does not grant them as long as they cannot be
    /// read. Revoke them, or replay again once they can be read.
    pub unreadable: Vec<KeyId>,
}

impl Authorized<'_> {
    pub(super) async fn export_restrictions(
        &self,
        tenant: &TenantId,
        after: Option<PageCursor>,
    ) -> Result<RestrictionPage, ManageError> {
        let listed = KeyQuery::exporting(tenant);
        let position = after.map(|cursor| listed.position_of(cursor)).transpose()?;
        let page = self.read_all(tenant, ListQuery::MAX_LIMIT, position);
        let page = page.await?;
        let place = page.next.or(page.items.last().map(ListPosition::of));
        let mut restrictions = Vec::with_capacity(page.items.len());
        for (index, key) in page.items.into_iter().enumerate() {
            give_way(index).await;
            restrictions.push(KeyBound::of(key));
        }
        Ok(RestrictionPage {
            next: place.map(|place| listed.cursor(place)).or(after),
            restrictions,
            has_more: page.next.is_some(),
        })
    }

    pub(super) async fn replay_restrictions(
        &self,
        mut restrictions: Vec<KeyBound>,
    ) -> Result<Replayed, ManageError> {
        for restriction in &mut restrictions {
            self.check_restriction(restriction)?;
        }
        let now = self.now()?;
        let redactor = self.format.redactor();
        let mut replayed = Replayed::default();
        for batch in restrictions.chunks(ChangeSet::MAX_CHANGES) {
            let mut revocations = Vec::new();
            for restriction in batch {
                let key = match self.find(&restriction.tenant, restriction.id).await {
                    Ok(key) => key,
                    Err(ManageError::NotFound) => {
                        replayed.missing += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                match &restriction.bound {
                    _ if key.revocation.is_some() => replayed.already += 1,
                    Bound::Revoked { at, reason } => {
                        let at = normalized(*at).map_or(now, |at| at.min(now));
                        let reason = reason.clone().masked(&redactor);
                        revocations.push(self.revocation(now, &key, at, reason));
                    }
                    bound => self.narrow(key, bound, now, &mut replayed).await?,
                }
            }
            let swept = self.revoke_each(revocations).await?;
            replayed.revoked += swept.revoked;
            replayed.already += swept.already;
            replayed.missing += swept.missing;
        }
        Ok(replayed)
    }

    /// Cuts a key down to a bound, and counts the result.
    async fn narrow(
        &self,
        mut stored: StoredKey,
        bound: &Bound,
        now: OffsetDateTime,
        replayed: &mut Replayed,
    ) -> Result<(), ManageError> {
        let id = stored.id;
        for _ in 0..AMEND_TRIES {
            if stored.revocation.is_some() {
                replayed.already += 1;
                return Ok(());
            }
            let tenant = stored.tenant.clone();
            let Ok(record) = KeyRecord::decode(stored) else {
                replayed.unreadable.push(id);
                return Ok(());
            };
            let Cut {
                record: with,
                is_within,
            } = bound.cut(&record, &self.catalog, now);
            let is_narrowed = with != record;
            let is_done = !is_narrowed || {
                let amendment = Amendment {
                    action: if with.suspended_at == record.suspended_at {
                        EventAction::KeyUpdated
                    } else {
                        EventAction::KeySuspended
                    },
                    changes: differences(&record, &with),
                    record: with,
                };
                self.replace(&record, amendment, now).await?.is_some()
            };
            if is_done {
                replayed.narrowed += u64::from(is_narrowed);
                replayed.already += u64::from(!is_narrowed);
                if !is_within {
                    replayed.suspended.push(id);
                }
                return Ok(());
            }
            stored = match self.find(&tenant, id).await {
                Err(ManageError::NotFound) => {
                    replayed.missing += 1;
                    return Ok(());
                }
                found => found?,
            };
        }
        Err(StoreError::Conflict.into())
    }
}
