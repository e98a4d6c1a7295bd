//! Keys in one redb file.
//!
//! | file | what it is about |
//! |---|---|
//! | `tables.rs` | the tables of the file, and the row with the counters |
//! | `row.rs` | one key, as the file has it |
//! | `commit.rs` | making a set of changes |
//! | `list.rs`, `feed.rs`, `events.rs`, `usage.rs` | reading, and merging usage |
//! | `fault.rs` | failures, and the errors that callers get for them |

mod commit;
mod events;
mod fault;
mod feed;
mod list;
mod row;
mod tables;
mod usage;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, StoredKey, TenantId};
use keyward::store::{
    ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Page,
    StoreError, Usage, UsageStore,
};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use self::fault::Fault;

/// Keys in one redb file, which one process has open at a time.
///
/// Clones share the file. A commit is on disk when it returns. Every call ends within twice [`LIMIT`](Self::LIMIT),
/// and `changes` within the wait asked for besides. It needs a tokio runtime with its timer enabled.
///
/// The ids of commits are remembered for ever: pruning them would need a clock that can be trusted not to jump, to
/// save some hundred bytes a commit. The feed keeps the last 65,536 positions.
///
/// After a commit whose outcome is unknown ([`StoreError::Indeterminate`]), redb refuses to write
/// until the file is opened anew: the process should end and start again.
///
/// A file that was restored from a backup goes on with the history it had. Restart all readers of its feed.
#[derive(Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    /// Whose turn it is to write: those who wait hold no thread.
    writer: Arc<Mutex<()>>,
    /// The position after the last commit, for those who wait for one.
    position: watch::Sender<u64>,
}

impl RedbStore {
    /// How long a call waits for its turn to write, and how long for the disk, before it gives up. Long, since giving
    /// up a commit leaves open whether it takes place.
    pub const LIMIT: Duration = Duration::from_secs(30);

    /// Opens the file, or creates it.
    ///
    /// Reads the whole file to check it, and blocks meanwhile: call it once, at start.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened or somebody else has it open; [`StoreError::Corrupt`]
    /// if it is damaged, or a later version's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let (database, position) = open(path.as_ref())?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                writer: Arc::default(),
                position: watch::Sender::new(position),
            }),
        })
    }

    /// Forgets what changed up to this position, as it does by itself once that is old: readers of the feed who stand
    /// before it start anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_changes(&self, position: u64) -> Result<(), StoreError> {
        self.change(
            move |transaction| feed::forget(transaction, position),
            |_, ()| {},
        )
        .await
    }

    /// Edits the row of a key behind the store's back, for tests: a file that is open in a process opens in no other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn edit_row(
        &self,
        id: KeyId,
        edit: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change(
            move |transaction| row::edit(transaction, id, edit),
            |_, ()| {},
        )
        .await
    }

    /// Runs a read transaction off the executor.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let work = move || look(&shared.database.begin_read()?);
        match off_executor(work).await? {
            Ended::Done(answer) => Ok(answer),
            // redb panics on some files that were damaged since they were opened.
            Ended::Panicked => Err(StoreError::Corrupt("the read panicked".into())),
            Ended::Late => Err(StoreError::Unavailable("the read takes too long".into())),
        }
    }

    /// Runs a write transaction off the executor and commits it: to its end, even if the caller no longer waits.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Fault> + Send + 'static,
        told: impl FnOnce(&Shared, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = timeout(Self::LIMIT, Arc::clone(&self.shared.writer).lock_owned()).await;
        let turn = turn.map_err(|late| StoreError::Unavailable(late.into()))?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let _turn = turn;
            let transaction = shared.database.begin_write()?;
            let changed = change(&transaction)?;
            transaction.commit()?;
            told(&shared, &changed);
            Ok(changed)
        };
        match off_executor(work).await? {
            Ended::Done(answer) => Ok(answer),
            Ended::Panicked => Err(StoreError::Indeterminate("the commit panicked".into())),
            Ended::Late => Err(StoreError::Indeterminate(
                "the commit takes too long".into(),
            )),
        }
    }
}

fn open(path: &Path) -> Result<(Database, u64), Fault> {
    let database = Database::builder()
        // Without it a damaged file may panic, now or later.
        .set_check_integrity_on_open(true)
        .create(path)?;
    let transaction = database.begin_write()?;
    let meta = tables::create(&transaction)?;
    transaction.commit()?;
    Ok((database, meta.position))
}

/// How a transaction ended.
enum Ended<T> {
    Done(T),
    Panicked,
    Late,
}

async fn off_executor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<Ended<T>, StoreError> {
    let runtime = Handle::try_current().map_err(|none| StoreError::Unavailable(none.into()))?;
    match timeout(RedbStore::LIMIT, runtime.spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(Ended::Done(done?)),
        // The runtime is shutting down, and never began it.
        Ok(Err(stopped)) if stopped.is_cancelled() => Err(StoreError::Unavailable(stopped.into())),
        Ok(Err(_)) => Ok(Ended::Panicked),
        Err(_) => Ok(Ended::Late),
    }
}

#[async_trait]
impl KeyStore for RedbStore {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.look(move |transaction| list::get(transaction, id))
            .await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let query = query.clone();
        self.look(move |transaction| list::list(transaction, &query))
            .await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let after = after.cloned();
        self.look(move |transaction| list::tenants(transaction, after.as_ref(), limit))
            .await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let set = set.clone();
        self.change(
            move |transaction| commit::commit(transaction, &set),
            |shared, committed| {
                shared.position.send_if_modified(|position| {
                    let moved = *position < committed.position;
                    *position = committed.position.max(*position);
                    moved
                });
            },
        )
        .await
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        // Subscribed before the first look, so that no commit falls between the two.
        let mut position = self.shared.position.subscribe();
        let after = after.cloned();
        let again = after.clone();
        let page = self
            .look(move |transaction| feed::changes(transaction, after.as_ref()))
            .await?;
        match &page {
            FeedPage::Next { items, .. } if items.is_empty() && !wait.is_zero() => {}
            _ => return Ok(page),
        }
        // Either outcome only says when to look again.
        let _ = timeout(wait, position.changed()).await;
        self.look(move |transaction| feed::changes(transaction, again.as_ref()))
            .await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }
}

#[async_trait]
impl EventLog for RedbStore {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let tenant = tenant.cloned();
        self.look(move |transaction| events::read(transaction, tenant.as_ref(), after, limit))
            .await
    }
}

#[async_trait]
impl UsageStore for RedbStore {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        let batch = batch.to_vec();
        self.change(
            move |transaction| usage::merge(transaction, id, &batch),
            |_, ()| {},
        )
        .await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        let ids = ids.to_vec();
        self.look(move |transaction| usage::read(transaction, &ids))
            .await
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("position", &*self.shared.position.borrow())
            .finish_non_exhaustive()
    }
}
