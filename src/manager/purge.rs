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

use super::{
    Actor, InvalidKey, KeyManager, KeyQuery, ManageError, Operation, PageCursor, broken_contract,
};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::{normalized, rfc3339};
use crate::key::{KeyId, StoredKey, TenantId};
use crate::store::{Change, ChangeId, ChangeSet, ListQuery, Outcome, Segments, StoreError};

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

impl KeyManager {
    /// Removes keys of a tenant that ended before an instant, with their usage: one page of the tenant's keys a call.
    ///
    /// A key has ended if it was revoked or has expired. Keys that only a kill switch ended are removed once they have
    /// expired or are stored as revoked, which [`revoke_all`](Self::revoke_all) does. Keys of a line of rotations are
    /// removed oldest first, so a long line may take several runs over the list, and a successor stays while its
    /// predecessor is stored.
    ///
    /// Purge only keys that ended before the oldest backup that you would restore. If a key is live in the backup and
    /// was purged since, no [export](Self::export_restrictions) names it, and a restore would bring it back.
    ///
    /// The id of a removed key stays taken: [`import`](Self::import) of the same key returns [`ManageError::IdTaken`].
    /// The removed key's earlier events stay in the log. Each removal has an event, [`EventAction::KeyPurged`], which
    /// names the id and neither title nor owner.
    ///
    /// Start without a cursor and repeat with [`Purged::next`] until it is `None`. After an error or a crash, call it
    /// again with the same cursor, or start over.
    ///
    /// ```
    /// # use keyward::manager::{Actor, KeyManager, ManageError};
    /// # use keyward::{key::TenantId, time::OffsetDateTime};
    /// # async fn purge(
    /// #     manager: &KeyManager, actor: &Actor, tenant: &TenantId, a_year_ago: OffsetDateTime,
    /// # ) -> Result<(), ManageError> {
    /// let mut cursor = None;
    /// loop {
    ///     let purged = manager.purge(actor, tenant, a_year_ago, cursor).await?;
    ///     println!("{} keys removed", purged.keys.len());
    ///     cursor = purged.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::InTheFuture`] if the
    /// instant has not come; [`ManageError::Cursor`] if the cursor belongs to another list; [`ManageError::Clock`];
    /// [`ManageError::Store`], after which some of the page's keys may have been removed.
    pub async fn purge(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        ended_before: OffsetDateTime,
        after: Option<PageCursor>,
    ) -> Result<Purged, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        let operation = Operation::Purge {
            tenant,
            ended_before,
        };
        self.ask(actor, &operation).await?;
        let now = self.now()?;
        let ended_before = normalized(ended_before).ok_or(InvalidKey::Instant)?;
        if ended_before > now {
            return Err(ManageError::InTheFuture);
        }
        let listed = KeyQuery::exporting(tenant);
        let mut query = ListQuery::of(tenant)
            .listing(Segments::LiveThenRevoked)
            .limit(PAGE)
            .at_latest();
        if let Some(cursor) = after {
            query = query.after(listed.position_of(cursor)?);
        }
        let page = self.read_page(&query).await?;
        if page.items.iter().any(|key| key.tenant != *tenant) {
            let cause = "the store listed another tenant's key";
            return Err(ManageError::Store(StoreError::Corrupt(cause.into())));
        }
        let next = page.next.map(|place| listed.cursor(place));
        let has_ended =
            |key: &StoredKey| Outcome::of_purge(Some(key), ended_before) == Outcome::Purged;
        let mut due: Vec<_> = page.items.into_iter().filter(has_ended).collect();
        // Sorts predecessors before their successors.
        due.sort_by_key(|key| key.created_at);
        let mut purging = Purging {
            manager: self,
            ended_before,
            event: actor.event_of_many(
                now,
                EventAction::KeyPurged,
                Some(tenant.clone()),
                vec![FieldChange::set("ended_before", rfc3339(ended_before))],
                &self.parts.format.redactor(),
            ),
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
    manager: &'a KeyManager,
    ended_before: OffsetDateTime,
    /// Template of the removal events, without the key.
    event: Event,
    /// Keys to remove in the next commit.
    batch: Vec<KeyId>,
    purged: Vec<KeyId>,
}

impl Purging<'_> {
    /// Adds a key, unless its predecessor is still stored.
    async fn add(&mut self, key: &StoredKey) -> Result<(), ManageError> {
        if let Some(predecessor) = key.predecessor {
            if self.batch.contains(&predecessor) {
                self.commit().await?;
            }
            if self.manager.read(predecessor).await?.is_some() {
                return Ok(());
            }
        }
        self.batch.push(key.id);
        if self.batch.len() == ChangeSet::MAX_CHANGES {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ManageError> {
        let ended_before = self.ended_before;
        let batch = std::mem::take(&mut self.batch);
        let changes = batch.iter().map(|id| Change::Purge {
            id: *id,
            ended_before,
        });
        let id = ChangeId::generate(&*self.manager.parts.random);
        let Some(set) = ChangeSet::new(id, changes) else {
            return Ok(()); // An empty batch: it never exceeds the limit of a set.
        };
        let events = batch.iter().map(|id| Event {
            key: Some(*id),
            ..self.event.clone()
        });
        let events = events.enumerate();
        let set = events.fold(set, |set, (change, event)| set.with_event_of(change, event));
        let outcomes = self.manager.commit(&set).await?.outcomes;
        if outcomes.len() != batch.len() {
            return Err(broken_contract());
        }
        for (id, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Outcome::Purged => self.purged.push(*id),
                // Another call removed the key first, or its expiry was moved.
                Outcome::Missing | Outcome::NotPurged => {}
                _ => return Err(broken_contract()),
            }
        }
        Ok(())
    }
}
