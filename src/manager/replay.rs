//! Restoring lost restrictions after a backup was restored.

use time::OffsetDateTime;

use super::amend::{AMEND_TRIES, Amendment, differences};
use super::list::give_way;
use super::restriction::{Bound, Cut, Restriction};
use super::{Actor, KeyManager, KeyQuery, ManageError, Operation, PageCursor};
use crate::audit::EventAction;
use crate::clock::normalized;
use crate::key::{KeyId, KeyRecord, RevokeReason, StoredKey, TenantId};
use crate::store::{ChangeSet, ListPosition, ListQuery, Segments, StoreError};

/// A page of an export: the most that each key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestrictionPage {
    /// The most that each key may do. First the keys that are not revoked, newest first, then the revoked ones, in the
    /// order in which they were revoked.
    pub restrictions: Vec<Restriction>,
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

impl KeyManager {
    /// Exports a page of the most that each of a tenant's keys may do, after the page that returned this cursor.
    ///
    /// Export regularly, and keep the export apart from the store: if it is [replayed](Self::replay_restrictions), it
    /// takes from a restored backup the powers that the keys had lost since. Begin without a cursor, and continue with
    /// [`next`](RestrictionPage::next) while [`has_more`](RestrictionPage::has_more). Keep the last cursor with the
    /// export: it returns the keys that were revoked since. Keys that were suspended or narrowed since need a new
    /// export.
    ///
    /// Each key is exported as it is when its page is read. Keys that a kill switch has ended are exported as revoked.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Cursor`] if the cursor
    /// belongs to another tenant's export; [`ManageError::Store`].
    pub async fn export_restrictions(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        after: Option<PageCursor>,
    ) -> Result<RestrictionPage, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::ExportRestrictions { tenant })
            .await?;
        let listed = KeyQuery::exporting(tenant);
        let mut query = ListQuery::of(tenant)
            .listing(Segments::LiveThenRevoked)
            .limit(ListQuery::MAX_LIMIT)
            .at_latest();
        if let Some(cursor) = after {
            query = query.after(listed.position_of(cursor)?);
        }
        let page = self.read_page(&query).await?;
        if page.items.iter().any(|key| key.tenant != *tenant) {
            let cause = "the store listed another tenant's key";
            return Err(StoreError::Corrupt(cause.into()).into());
        }
        let place = page.next.or(page.items.last().map(ListPosition::of));
        let mut restrictions = Vec::with_capacity(page.items.len());
        for (index, key) in page.items.into_iter().enumerate() {
            give_way(index).await;
            restrictions.push(Restriction::of(key));
        }
        Ok(RestrictionPage {
            next: place.map(|place| listed.cursor(place)).or(after),
            restrictions,
            has_more: page.next.is_some(),
        })
    }

    /// Takes from the named keys the powers that they did not have when they were exported, after a backup was
    /// restored.
    ///
    /// It only ever takes. It revokes a key that was revoked. Any other key keeps, of its access, resources, networks,
    /// quotas, limit on concurrent requests and expiry, the part that both it and the export allow, and is suspended
    /// if it was. If the two have nothing in common that a key can express, the manager suspends the key and
    /// [names](Replayed::suspended) it: update it, and [resume](Self::resume) it. The manager checks neither the
    /// actor's ceiling nor the tenant's rules.
    ///
    /// Repeat the call with the whole export after an error or a crash: completed changes stay.
    ///
    /// # After a restore
    /// 1. Restore with all processes stopped. The documentation of `SqliteStore` says how.
    /// 2. Import again the keys that were [imported](Self::import) since the backup.
    /// 3. Replay the latest export of each tenant, to its last page.
    /// 4. Purge and remove again the keys and tenants that were purged or removed since the backup.
    /// 5. Start the processes, and begin the next export without a cursor: positions begin again below the kept one.
    ///
    /// Then no key that is named in the export can do more than it could when it was exported. Not covered are:
    /// - *Restrictions after the export*: export often, or use [`deny_issued_before`](Self::deny_issued_before), which
    ///   ends every key of the backup.
    /// - *Keys that were [purged](Self::purge)* between the backup and the export: no export names them, and the
    ///   backup brings them back. Purge only keys that ended before your oldest backup: they had ended in it as well.
    /// - *Cutoffs.* The keys that a cutoff ended are revoked one by one. The cutoff itself is gone, so it does not end
    ///   a key that is imported later with an earlier date: set it again if you need that.
    /// - *Titles and metadata*, which are as in the backup.
    /// - *Additions after the backup.* They are gone: scopes that were added, and successors that a rotation has
    ///   issued, so their clients need new keys. A predecessor ends when its overlap would have ended.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if a tenant is not the actor's, or by policy, and [`ManageError::Invalid`] for a
    /// restriction that no key can carry, both before anything is done; [`ManageError::Clock`],
    /// [`ManageError::Store`].
    pub async fn replay_restrictions(
        &self,
        actor: &Actor,
        restrictions: impl IntoIterator<Item = Restriction>,
    ) -> Result<Replayed, ManageError> {
        let restrictions: Vec<_> = restrictions.into_iter().collect();
        let mut tenants: Vec<_> = restrictions.iter().map(|one| &one.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            if !actor.acts_for(tenant) {
                return Err(ManageError::Refused);
            }
            self.ask(actor, &Operation::ReplayRestrictions { tenant })
                .await?;
        }
        for restriction in &restrictions {
            self.check_restriction(restriction)?;
        }
        let now = self.now()?;
        let redactor = self.parts.format.redactor();
        let mut replayed = Replayed::default();
        for batch in restrictions.chunks(ChangeSet::MAX_CHANGES) {
            let mut revoked: Vec<(StoredKey, OffsetDateTime, RevokeReason)> = Vec::new();
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
                        revoked.push((key, at, reason.clone().masked(&redactor)));
                    }
                    bound => self.narrow(actor, key, bound, now, &mut replayed).await?,
                }
            }
            let each = revoked
                .iter()
                .map(|(key, at, reason)| (key, *at, reason.clone()));
            let swept = self.revoke_each(actor, now, each).await?;
            replayed.revoked += swept.revoked;
            replayed.already += swept.already;
            replayed.missing += swept.missing;
        }
        Ok(replayed)
    }

    /// Cuts a key down to a bound, and counts the result.
    async fn narrow(
        &self,
        actor: &Actor,
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
            } = match bound {
                Bound::Limited(limits) => limits.cut(&record, &self.parts.catalog, now),
                _ => Cut::suspended(&record, now),
            };
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
                self.replace(actor, &record, amendment, now)
                    .await?
                    .is_some()
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
