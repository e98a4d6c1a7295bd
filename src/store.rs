//! Where keys are stored: the contract of a backend, the backend in memory, and with the feature `sqlite` one in a
//! file.
//!
//! A backend implements the six required methods of [`KeyStore`]. Four do the work; [`events`](KeyStore::events) and
//! [`usage`](KeyStore::usage) return `None`, or the backend's [`EventLog`] and [`UsageStore`]. It indexes a few
//! columns of [`key::StoredKey`](crate::key::StoredKey), and never looks into the document. The guide [Writing a
//! backend](crate::manual::writing_a_backend) shows how.

mod change;
mod change_set;
mod cutoff;
mod error;
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
pub use cutoff::{CutoffScope, CutoffScopeError};
pub use error::StoreError;
pub use feed::{Changed, Cursor, FeedCursorError, FeedPage};
pub use memory::MemoryStore;
pub use outcome::{Committed, Outcome};
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

/// Where keys live.
///
/// The least that a backend must do; what users call is the [`KeyManager`](crate::manager::KeyManager). The guide
/// [Writing a backend](crate::manual::writing_a_backend) builds one from an empty file, and the conformance suite of
/// the `testkit` holds it to what is below, as far as one open store can show it.
///
/// # Contract
/// **Reading.** [`get`](Self::get) sees every commit that returned before it was called, on any node: it reads the
/// primary, never a replica. [`list`](Self::list) may lag, unless the query says that it
/// [must not](ListQuery::must_be_latest). Both fill in [`StoredKey::cutoff`]: the latest cutoff among the
/// [scopes that bind](CutoffScope::binding) the key.
///
/// **Listing.** One tenant's keys, in two segments: first those that are not revoked as stored, descending by creation
/// in whole microseconds and then by id; then the revoked ones, ascending by the position of the commit that revoked
/// them and then by id. Expiry and cutoffs are no order and no filter. A page begins after the
/// [position](ListQuery::position) given, whether or not a key still stands there, holds at most
/// [as many](ListQuery::page_size) as asked for, and says [where the list goes on](Page::next). All of a page is of one
/// moment. A backend may bound how many keys it looks at for one page, so that a search through many keys holds up no
/// other call: a page may then hold fewer keys than asked for, or none, and still have a `next`, which lies beyond the
/// position given. The bound is more than [`ListQuery::MAX_LIMIT`] keys.
///
/// **Committing.** A [`ChangeSet`] lands whole or not at all, under serializable isolation: preconditions are
/// checked and positions handed out inside it. Changes are made in their order, each on what those before it left.
/// - *Once.* A set whose id was committed before changes nothing and gives the answer of the first time. An id
///   is remembered for at least ten minutes; a backend says for how long. An id whose set failed is free.
/// - *[`Change::apply`] decides* what a change makes of a key. Insert never overwrites
///   ([`StoreError::AlreadyExists`]). Replace is conditional on the revision that was read and on a key that is not
///   revoked ([`StoreError::Conflict`]); id, tenant, owner, creation and digest stay as stored. Revoke wins: it has no
///   condition on the revision, raises it by one, is final, and no failure of the event log stops it. Rehash compares
///   and sets the digest of a key that is not revoked, and is no news.
/// - *A purge* removes the key and its usage if [`Outcome::of_purge`] says so, and is told as a change of the key, at
///   one revision above its last. The id stays taken for good: no later insert succeeds
///   ([`StoreError::AlreadyExists`]), so that an import repeated later cannot bring a revoked key back. Of a purged key
///   nothing else is kept but its events.
/// - *A removal of a tenant* finds no key of the tenant, revoked ones included, or is [`Outcome::TenantHasKeys`]. It
///   removes the cutoffs of the tenant's owners, and leaves the tenant the latest cutoff that there was among these and
///   its own: none moves back. It is told as a cutoff of the tenant, and in what the feed still keeps, the tenant takes
///   the place of its owners. So the store names no owner any more but in events.
/// - *A cut of events* removes all up to the one that it names by number and hash, or is [`Outcome::EventsNotCut`] if
///   that one is not stored. Numbers and the head of the chain go on as if nothing had been removed. It is told as
///   [`Changed::EventsCut`]. A store that keeps no events answers [`StoreError::Unsupported`].
/// - *A cutoff* moves forward only: an earlier or equal one is [`Outcome::AlreadyCutOff`]. It is moved back by
///   [`Change::LowerCutoff`] alone, if [`Outcome::of_lowering`] says so, and that is told as a change of the cutoff.
/// - *A setting* is written once: the first value under a name stands.
/// - *Preconditions* are checked against what stood before the first change:
///   [`StoreError::PreconditionFailed`] names the first that does not hold.
/// - *Nothing changed, nothing told*: where no outcome [is news](Outcome::is_news), the position stays. Where some
///   are, it is one higher than before.
/// - *Positions* follow the order of commits: whoever sees position *n* in [`changes`](Self::changes) never later
///   sees one below it. Hand them out from one counter row inside the commit, as a database sequence does not
///   keep that order.
/// - *Events* are given their place by [`ChangeSet::seal`] inside the commit, under the same lock. A store that keeps
///   events commits no change without its event, but for a revocation.
///
/// - *Where the log cannot take an event*, a set whose news are revocations alone is committed without it, and any
///   other fails whole.
///
/// **Instants** that reach a store are UTC, in whole microseconds, of the years 0 to 9999.
///
/// **Ending.** Every call ends, in a time that the backend states. A commit has ended after ten minutes at most,
/// whoever went away meanwhile; one that is given up for its time is [`Indeterminate`](StoreError::Indeterminate).
///
/// **Failing.** An error other than [`Indeterminate`](StoreError::Indeterminate) means that this try changed nothing. A
/// future that is dropped does all or nothing: work that has begun may go on by itself to its end, and then lets go of
/// every lock and transaction. An unknown kind of change, precondition or filter, or a value that the backend cannot
/// keep, is [`Unsupported`](StoreError::Unsupported); it is never passed over. What cannot be read is
/// [`Corrupt`](StoreError::Corrupt), never missing.
///
/// **Telling.** [`changes`](Self::changes) reads news in commit order after a cursor: for each commit its keys and
/// cutoffs, the whole of it on one page. A page that says there is no more holds, with those before it, all that was
/// committed before the call began; what it tells of, a [`get`](Self::get) that begins later sees. Where what follows
/// the cursor is not known for sure (none was given, it is of another history, too old, or ahead), the answer is
/// [`FeedPage::Resync`]. A wake-up, where a backend sends one, is sent after the commit, and its failure is ignored.
///
/// # Wrappers
/// `Arc<S>` and `Box<S>` are stores wherever `S` is, `dyn KeyStore` included.
///
/// # Security
/// Errors and `Debug` of a backend must not show digests or documents.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `KeyStore`",
    note = "use `MemoryStore`, `SqliteStore` (feature `sqlite`), or implement `KeyStore` as the guide `manual::writing_a_backend` shows"
)]
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
    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError>;

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
    /// The chain can be checked over the events of all tenants only. What is read of one tenant may lack an event that
    /// was removed, or filed under another tenant, behind the store's back: an audit reads all.
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

/// Passes every call on to the store that it points to.
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
