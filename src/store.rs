//! Where keys live: the contract that a backend keeps, and the backend in memory.
//!
//! A backend implements [`KeyStore`], and [`EventLog`] and [`UsageStore`] if it keeps those too. It indexes a few
//! columns of [`StoredKey`], and never looks into the document.

mod change;
mod error;
mod feed;
mod memory;
mod query;
mod usage;

pub use change::{Change, ChangeId, ChangeSet, Committed, Outcome, Precondition};
pub use error::StoreError;
pub use feed::{Changed, Cursor, FeedPage};
pub use memory::MemoryStore;
pub use query::{CursorError, KeyQuery, ListPosition, Page, PageCursor};
pub use usage::{Usage, UsageStore};

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::audit::SealedEvent;
use crate::key::{KeyId, StoredKey, TenantId};

/// Where keys live.
///
/// # Contract
/// **Reading.** [`get`](Self::get) sees every commit that returned before it was called, on any node: it reads the
/// primary, never a replica. [`list`](Self::list) may lag. Both fill in [`StoredKey::cutoff`].
///
/// **Committing.** A [`ChangeSet`] lands whole or not at all, under serializable isolation: preconditions are
/// checked and positions handed out inside it.
/// - *Once.* A set whose id was committed before changes nothing and gives the answer of the first time. An id
///   is remembered for at least ten minutes; a backend says for how long.
/// - *Insert never overwrites*: [`StoreError::AlreadyExists`].
/// - *Replace is conditional*: [`StoreError::Conflict`] unless the key is at the revision expected and not
///   revoked. Id, tenant, creation and digest stay as stored.
/// - *Revoke wins.* It has no condition on the revision, raises it by one, and is final. A second one is
///   [`Outcome::AlreadyRevoked`] and changes nothing.
/// - *Rehash* compares and sets the digest of a key that is not revoked; it changes no revision and is no news.
/// - *A cutoff* moves forward only.
/// - *Nothing changed, nothing told*: where no outcome [is news](Outcome::is_news), the set's events are not
///   recorded and the position stays.
/// - *Positions* follow the order of commits: whoever sees position *n* in [`changes`](Self::changes) never later
///   sees one below it. Hand them out from one counter row inside the commit, as a database sequence does not
///   keep that order.
/// - *Events* are given their place by [`ChangeSet::seal`] inside the commit, under the same lock.
///
/// **Ending.** Every call ends, in a time that the backend states: a verification waits for its read, and has no
/// limit of its own.
///
/// **Failing.** An error other than [`Indeterminate`](StoreError::Indeterminate) means that nothing was changed. A
/// future that is dropped has done all or nothing. An unknown kind of change is
/// [`Unsupported`](StoreError::Unsupported); it is never passed over.
///
/// **Telling.** [`changes`](Self::changes) reads news in commit order after a cursor. Where what follows the cursor is
/// not known for sure (none was given, it is of another history, too old, or ahead), the answer is
/// [`FeedPage::Resync`].
///
/// # Security
/// Errors and `Debug` of a backend must not show digests or documents.
#[async_trait]
pub trait KeyStore: Debug + Send + Sync + 'static {
    /// The key as last committed, or `None`.
    ///
    /// # Errors
    /// [`StoreError`]; a key that cannot be read is never reported as missing.
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError>;

    /// One page of a tenant's keys.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, query: &KeyQuery) -> Result<Page<StoredKey>, StoreError>;

    /// Commits a set of changes.
    ///
    /// # Errors
    /// [`StoreError`]; see the contract.
    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError>;

    /// What changed after the cursor. Waits up to `wait` for something to change, and may return earlier.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn changes(&self, after: Option<&Cursor>, wait: Duration)
    -> Result<FeedPage, StoreError>;

    /// The log of events, if the store keeps one.
    fn events(&self) -> Option<&dyn EventLog>;

    /// How keys are used, if the store keeps that.
    fn usage(&self) -> Option<&dyn UsageStore>;
}

/// Reads the events that were committed.
#[async_trait]
pub trait EventLog: Debug + Send + Sync {
    /// Up to `limit` events after the number given, in ascending order; of one tenant, or of all.
    ///
    /// The chain can be checked over the events of all tenants only.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError>;
}

/// A shared store is a store.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KeyStore + ?Sized> KeyStore for Arc<S> {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        (**self).get(id).await
    }

    async fn list(&self, query: &KeyQuery) -> Result<Page<StoredKey>, StoreError> {
        (**self).list(query).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        (**self).commit(set).await
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        (**self).changes(after, wait).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        (**self).events()
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        (**self).usage()
    }
}
