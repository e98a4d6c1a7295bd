//! Storage of keys: the contract of a backend, the in-memory backend and, with the feature `sqlite`, a backend on one
//! file.
//!
//! A backend implements the six required methods of [`KeyStore`]. Four do the work; [`events`](KeyStore::events) and
//! [`usage`](KeyStore::usage) return `None`, or the backend's [`EventLog`] and [`UsageStore`]. A backend indexes a few
//! columns of [`key::StoredKey`](crate::key::StoredKey) and never looks into the document. The guide [Writing a
//! backend](crate::manual::writing_a_backend) shows how.

mod change;
mod change_set;
mod cutoff;
mod feed;
mod memory;
mod outcome;
mod pending_usage;
mod query;
#[cfg(feature = "sqlite")]
mod sqlite;
mod usage;

pub use change::{Applied, Change, Precondition};
pub use change_set::{ChangeId, ChangeSet};
pub use cutoff::CutoffScope;
pub use feed::{Changed, Cursor, FeedPage};
pub use memory::MemoryStore;
pub use outcome::{Committed, Outcome, StoreError};
pub(crate) use pending_usage::{PendingUsage, UsageSource};
pub use query::{KeyFilter, ListPosition, ListQuery, Page, Segments};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
pub use usage::{Usage, UsageStore};

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::audit::SealedEvent;
use crate::key::{KeyId, StoredKey, TenantId};

/// Storage of keys, implemented by a backend.
///
/// The trait is the minimum that a backend must do; users call the [`KeyManager`](crate::manager::KeyManager). The
/// guide [Writing a backend](crate::manual::writing_a_backend) builds one from an empty file. The conformance suite of
/// the `testkit` checks a backend against the contract below, as far as one open store can show it.
///
/// # Contract
/// **Reading.** [`get`](Self::get) sees every commit that returned before it was called, on any node: it reads the
/// primary, never a replica. [`list`](Self::list) may lag, unless the query [demands the
/// latest](ListQuery::must_be_latest). Both fill in [`StoredKey::cutoff`]: the latest cutoff among the [scopes that
/// bind](CutoffScope::binding) the key.
///
/// **Listing.** A list shows one tenant's keys in two segments. The first holds the keys that are not revoked as
/// stored, descending by creation in whole microseconds and then by id. The second holds the revoked keys, ascending by
/// the position of the commit that revoked them and then by id. Expiry and cutoffs neither order nor filter the list. A
/// page begins after the given [position](ListQuery::position), whether or not a key is still there, holds at most [as
/// many keys](ListQuery::page_size) as asked for, and says [where the list continues](Page::next). A page shows the
/// store at one moment. A backend may bound how many keys it scans for one page, so that a search through many keys
/// delays no other call: a page may then hold fewer keys than asked for, or zero, and still have a `next`, which lies
/// beyond the given position. The bound is more than 1,000 keys.
///
/// [`tenants`](Self::tenants) is optional. It must not take longer the more keys a tenant has.
///
/// **Committing.** A [`ChangeSet`] lands whole or not at all, under serializable isolation: the backend checks
/// preconditions and assigns positions inside the commit. It makes changes in their order, each on the state that the
/// changes before it left.
/// - *Once.* A set with an id that was committed before changes nothing and returns the answer of the first time. A
///   backend remembers an id for at least ten minutes, and documents for how long. The id of a failed set is free.
/// - *[`Change::apply`] decides* how a change alters a key. Insert never overwrites ([`StoreError::AlreadyExists`]).
///   Replace requires the revision that was read and a key that is not revoked ([`StoreError::Conflict`]); id, tenant,
///   owner, creation and digest stay as stored. Revoke wins: it has no condition on the revision, raises it by one, is
///   final, and no failure of the event log stops it. Rehash compares and sets the digest of a key that is not revoked,
///   and is not published.
/// - *A purge* removes the key and its usage if [`Outcome::of_purge`] says so. The feed reports it as a change of the
///   key, at one revision above its last. The id stays taken for good: no later insert succeeds
///   ([`StoreError::AlreadyExists`]), so that an import repeated later cannot bring a revoked key back. Besides its id,
///   the store keeps only the events of a purged key.
/// - *A removal of a tenant* requires that the tenant has no keys, revoked ones included; otherwise the outcome is
///   [`Outcome::TenantHasKeys`]. It removes the cutoffs of the tenant's owners, and leaves the tenant the latest cutoff
///   among these and its own: no cutoff moves back. The feed reports it as a cutoff of the tenant, and in the entries
///   that the feed still keeps, the tenant replaces its owners. The store then names these owners only in events.
/// - *A cut of events* removes all events up to the one that it names by number and hash, or is
///   [`Outcome::EventsNotCut`] if that event is not stored. Numbers and the head of the chain continue as if no event
///   had been removed. The feed reports it as [`Changed::EventsCut`]. A store that keeps no events answers
///   [`StoreError::Unsupported`].
/// - *A cutoff* moves forward only: an earlier or equal one is [`Outcome::AlreadyCutOff`]. Only [`Change::LowerCutoff`]
///   moves it back, if [`Outcome::of_lowering`] says so, and the feed reports that as a change of the cutoff.
/// - *A setting* is written once: the first value under a name stays.
/// - *Preconditions* are checked against the state before the first change: [`StoreError::PreconditionFailed`] names
///   the first that does not hold.
/// - *A change is published* if [`Outcome::is_published`] says so. If a commit publishes at least one change, the
///   position is one higher than before; otherwise it stays.
/// - *Positions* follow the order of commits: a reader that sees position *n* in [`changes`](Self::changes) never later
///   sees one below it. Assign them from one counter row inside the commit, as a database sequence does not keep that
///   order.
/// - *Events* get their place from [`ChangeSet::seal`] inside the commit, under the same lock. A store that keeps
///   events commits no change without its event, except a revocation.
/// - *If the log cannot take an event*, a set that publishes only revocations is committed without it, and any other
///   set fails whole.
///
/// **Values.** Instants that reach a store are UTC, in whole microseconds, of the years 0 to 9999. Documents are bytes,
/// and may be any bytes. Texts, including those in events, do not contain U+0000.
///
/// **Ending.** Every call ends, within a time that the backend documents. A commit has ended after ten minutes at most,
/// even if its caller has gone; a commit that the backend gives up for lack of time is
/// [`Indeterminate`](StoreError::Indeterminate).
///
/// **Failing.** An error other than [`Indeterminate`](StoreError::Indeterminate) means that this attempt changed
/// nothing. If the caller drops the future, the call does all of its work or nothing of it: work that has begun may
/// continue to its end, and then releases every lock and transaction. An unknown kind of change, precondition or
/// filter, or a value that the backend cannot keep, is [`Unsupported`](StoreError::Unsupported); a backend never
/// ignores it. Data that cannot be read is [`Corrupt`](StoreError::Corrupt), never missing.
///
/// **Damage.** Damage to one key affects no other, nor a list. Where the row of a key is damaged, but its id, tenant,
/// creation, revocation and revision can be read, [`get`](Self::get) and [`list`](Self::list) return
/// [`StoredKey::damaged`]. Such a key counts as one in preconditions, for [`tenants`](Self::tenants), and for cutoffs
/// and removals of its tenant. It can be revoked, and then purged, and is not changed otherwise. The revocation writes
/// its own columns and the revision: it neither repairs nor overwrites the rest of the row, which is evidence. A key of
/// which less is readable is [`Corrupt`](StoreError::Corrupt).
///
/// **Following.** [`changes`](Self::changes) reads published changes in commit order after a cursor: for each commit
/// its keys and cutoffs, all of them on one page. A page without `has_more` holds, with the pages before it, every
/// change that was committed before the call began; a [`get`](Self::get) that begins later sees the changes on the
/// page. If the backend does not know for sure what follows the cursor (no cursor was given, or it is of another
/// history, too old, or ahead), the answer is [`FeedPage::Resync`]. A backend that sends a wake-up sends it after the
/// commit, and ignores its failure.
///
/// # Wrappers
/// `Arc<S>` and `Box<S>` are stores for every store `S`, `dyn KeyStore` included.
///
/// # Security
/// Errors and `Debug` of a backend must not show digests or documents.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyStore`",
    note = "`MemoryStore` and `SqliteStore` (feature `sqlite`) are stores",
    note = "the guide `keyward::manual::writing_a_backend` shows how to implement `KeyStore`",
    note = "its `impl` needs `#[keyward::async_trait]`"
)]
#[async_trait]
pub trait KeyStore: Debug + Send + Sync + 'static {
    /// Returns the key as last committed, or `None` if the id is unknown.
    ///
    /// # Errors
    /// [`StoreError`]; a key that cannot be read is never reported as missing.
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError>;

    /// Returns one page of a tenant's keys.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError>;

    /// Returns the tenants that have keys, revoked ones included, in the order of the bytes of their ids: those after
    /// the given one, the next `limit` of them, and fewer only at the end. It may lag.
    ///
    /// By default it is [`Unsupported`](StoreError::Unsupported).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let _ = (after, limit);
        Err(StoreError::Unsupported)
    }

    /// Commits a set of changes.
    ///
    /// # Errors
    /// [`StoreError`]; see the contract.
    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError>;

    /// Returns the changes after the cursor.
    ///
    /// Waits up to `wait` for a change, and may return earlier.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn changes(&self, after: Option<&Cursor>, wait: Duration)
    -> Result<FeedPage, StoreError>;

    /// Returns the log of events; `None` if the store keeps no events.
    fn events(&self) -> Option<&dyn EventLog>;

    /// Returns the usage of keys; `None` if the store keeps no usage.
    fn usage(&self) -> Option<&dyn UsageStore>;
}

/// Read access to the committed events.
#[async_trait]
pub trait EventLog: Debug + Send + Sync {
    /// Returns up to `limit` events after the given number, in ascending order, of one tenant or of all.
    ///
    /// Only the events of all tenants together allow the chain to be checked. One tenant's events may lack an event
    /// that was removed, or filed under another tenant, behind the store's back: an audit reads all events.
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

/// Forwards every call to the store behind the pointer.
macro_rules! forward {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: KeyStore + ?Sized> KeyStore for $pointer<S> {
            async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
                (**self).get(id).await
            }

            async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
                (**self).list(query).await
            }

            async fn tenants(
                &self,
                after: Option<&TenantId>,
                limit: usize,
            ) -> Result<Vec<TenantId>, StoreError> {
                (**self).tenants(after, limit).await
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
    };
}

forward!(Arc);
forward!(Box);
