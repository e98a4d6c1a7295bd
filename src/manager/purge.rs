//! Removing keys that ended long ago.
//!
//! The manager removes a key that was revoked or has expired longer ago than the operator says. The store checks that
//! again inside the commit, so that a key stays if its end was moved meanwhile. A call looks at one page of the
//! tenant's keys and commits at most sixteen removals at a time: the write transactions are short, and an interrupted
//! call can be repeated.
//!
//! INVARIANT: a key is removed after its predecessor. Rotation walks from a key to its successors, and takes a missing
//! successor for the end of the line; a gap in the middle would let the line be rotated twice.

use time::OffsetDateTime;

use super::revoke::past;
use super::{Authorized, KeyQuery, ManageError, PageCursor, broken_store};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{KeyId, StoredKey, TenantId};
use crate::store::{Change, ChangeSet, Outcome, StoreError};

/// Most keys that one call looks at.
const PAGE: u16 = 128;

/// The keys that a purge removed, and where to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// The removed keys.
    pub keys: Vec<KeyId>,
    /// Cursor for the next call. `None` after the last page.
    pub next: Option<PageCursor>,
}

impl Authorized<'_> {
    pub(super) async fn purge(
        self,
        tenant: &TenantId,
        ended_before: OffsetDateTime,
        after: Option<PageCursor>,
    ) -> Result<Purged, ManageError> {
        let now = self.now()?;
        let ended_before = past(ended_before, now)?;
        let listed = KeyQuery::exporting(tenant);
        let after = after.map(|cursor| listed.position_of(cursor)).transpose()?;
        let page = self.read_all(tenant, PAGE, after).await?;
        let next = page.next.map(|place| listed.cursor(place));
        let has_ended =
            |key: &StoredKey| Outcome::of_purge(Some(key), ended_before) == Outcome::Purged;
        let mut due: Vec<_> = page.items.into_iter().filter(has_ended).collect();
        // Sorts predecessors before their successors.
        due.sort_by_key(|key| key.created_at);
        let fields = vec![FieldChange::set("ended_before", rfc3339(ended_before))];
        let mut purging = Purging {
            event: self.event(now, EventAction::KeyPurged, Some(tenant.clone()), fields),
            by: self,
            ended_before,
            batch: Vec::new(),
            purged: Vec::new(),
        };
        for key in due {
            purging.add(&key).await?;
        }
        purging.commit().await?;
        let keys = purging.purged;
        Ok(Purged { keys, next })
    }
}

/// The removals of one call.
struct Purging<'a> {
    by: Authorized<'a>,
    ended_before: OffsetDateTime,
    /// Template of the removal events, without the key.
    event: Event,
    /// Keys to remove in the next commit.
    batch: Vec<KeyId>,
    purged: Vec<KeyId>,
}

impl Purging<'_> {
    /// Adds a key, unless its predecessor is still stored.
    async fn add(&mut self, key: &StoredKey) -> Result<(), StoreError> {
        if let Some(predecessor) = key.predecessor {
            if self.batch.contains(&predecessor) {
                self.commit().await?;
            }
            if self.by.read(predecessor).await?.is_some() {
                return Ok(());
            }
        }
        self.batch.push(key.id);
        if self.batch.len() == ChangeSet::MAX_CHANGES {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let ended_before = self.ended_before;
        let batch = std::mem::take(&mut self.batch);
        let changes = batch.iter().map(|id| {
            let (id, mut event) = (*id, self.event.clone());
            event.key = Some(id);
            (Change::Purge { id, ended_before }, event)
        });
        let outcomes = self.by.commit_all(changes.collect()).await?;
        for (id, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Purged => self.purged.push(id),
                // Another call removed the key first, or its expiry was moved.
                Outcome::Missing | Outcome::NotPurged => {}
                _ => return Err(broken_store()),
            }
        }
        Ok(())
    }
}
