//! The calls that remove keys and events.

use super::{Actor, KeyManager, ManageError, Operation, PageCursor, Purged};
use crate::key::{TenantId, Timestamp, instant_of};

/// # Removing keys and events
impl KeyManager {
    /// Removes keys of a tenant that ended before an instant, with their usage: one page of the tenant's keys a call.
    ///
    /// A key has ended if it was revoked or has expired. Keys that only a cutoff ended are removed once they have
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
    /// instant has not come; [`InvalidKey::Instant`]; [`ManageError::Cursor`] if the cursor belongs to another list;
    /// [`ManageError::Clock`]; [`ManageError::Store`], after which some of the page's keys may have been removed.
    ///
    /// [`EventAction::KeyPurged`]: crate::audit::EventAction::KeyPurged
    /// [`InvalidKey::Instant`]: super::InvalidKey::Instant
    pub async fn purge(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        ended_before: impl Into<Timestamp>,
        after: Option<PageCursor>,
    ) -> Result<Purged, ManageError> {
        let ended_before = instant_of(ended_before);
        let operation = Operation::Purge {
            tenant,
            ended_before,
        };
        let by = self.authorize(actor, operation).await?;
        by.purge(tenant, ended_before, after).await
    }

    /// Removes a tenant: ends all its keys, removes them with their usage, and removes the names of owners that kill
    /// switches left. Returns the number of keys that this call removed.
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
    ///
    /// [`EventAction::KeyRevoked`]: crate::audit::EventAction::KeyRevoked
    /// [`EventAction::KeyPurged`]: crate::audit::EventAction::KeyPurged
    /// [`EventAction::TenantRemoved`]: crate::audit::EventAction::TenantRemoved
    pub async fn remove_tenant(
        &self,
        actor: &Actor,
        tenant: &TenantId,
    ) -> Result<u64, ManageError> {
        let by = self.authorize(actor, Operation::RemoveTenant { tenant });
        by.await?.remove_tenant(tenant).await
    }

    /// Removes the events of all tenants that were recorded before an instant, and keeps the rest of the log
    /// [verifiable](crate::audit::verify_log). Returns the number of events that this call removed.
    ///
    /// It removes only the oldest events, up to the first one that is dated at the instant or later: it never removes
    /// an event before one that was committed earlier. Events dated after now, by a clock that was wrong, do not keep
    /// the events before them, and go with the next event that is old enough.
    ///
    /// Each commit adds an event, [`EventAction::EventsCut`], with the numbers of the first and the last event that it
    /// removed, and the hash of the last. Keep the newest [head] outside the store before the cut: an older
    /// one can no longer be compared.
    ///
    /// The call reads and verifies the whole log first. Repeat it after an error or a crash: it continues.
    ///
    /// # Errors
    /// [`ManageError::Refused`] unless the actor acts for all tenants, or by policy; [`ManageError::InTheFuture`] if
    /// the instant has not come; [`InvalidKey::Instant`]; [`ManageError::Clock`]; [`ManageError::Store`], with
    /// [`StoreError::Corrupt`] if the log does not verify, in which case nothing is removed, and
    /// [`StoreError::Unsupported`] from a store that keeps no events.
    ///
    /// [head]: crate::audit::ChainHead
    /// [`EventAction::EventsCut`]: crate::audit::EventAction::EventsCut
    /// [`StoreError::Corrupt`]: crate::store::StoreError::Corrupt
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    /// [`InvalidKey::Instant`]: super::InvalidKey::Instant
    pub async fn cut_events(
        &self,
        actor: &Actor,
        before: impl Into<Timestamp>,
    ) -> Result<u64, ManageError> {
        let before = instant_of(before);
        let by = self.authorize(actor, Operation::CutEvents { before });
        by.await?.cut_events(before).await
    }
}
