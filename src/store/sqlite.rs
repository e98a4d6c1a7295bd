//! Keys in one SQLite file (feature `sqlite`).
//!
//! | file | subject |
//! |---|---|
//! | `migrations/*.sql` | the tables, which an operator can read and create by hand |
//! | `connect.rs` | connections, and the file's schema |
//! | `meta.rs` | the row with the store's position and head of the event chain |
//! | `row.rs` | one key as its row stores it |
//! | `commit.rs` | making a set of changes |
//! | `list.rs`, `feed.rs`, `events.rs`, `usage.rs` | reading, and merging usage |
//! | `readers.rs` | connections that read, in parallel |
//! | `checkpoint.rs` | emptying the write-ahead log |
//! | `work.rs` | running reads and write transactions off the executor |
//! | `turns.rs` | queues per tenant for lists and writes |
//! | `fault.rs` | private errors, and their mapping to the public one |

mod checkpoint;
mod commit;
mod connect;
mod events;
mod fault;
mod feed;
mod list;
mod meta;
mod purge;
mod readers;
mod row;
mod turns;
mod usage;
mod work;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::time::{Instant, timeout};

use self::commit::Events;
use self::connect::File;
use self::fault::Fault;
use self::turns::WriteQueue;
use self::work::Shared;
use super::{
    ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Page,
    StoreError, Usage, UsageStore,
};
use crate::audit::SealedEvent;
use crate::key::{KeyId, StoredKey, TenantId};

/// Store in one SQLite file, which several processes of one machine may have open.
///
/// Clones share their connections: one that writes, some that look keys up for verifications, one that follows the
/// change feed, and two that read lists, events and usage. All work runs off the executor, on at most one thread for
/// each connection. The store needs a tokio runtime with its timer enabled.
///
/// ```no_run
/// use keyward::store::SqliteStore;
///
/// let store = SqliteStore::open("keys.db")?; // creates it, or brings it to this version's schema
/// # Ok::<(), keyward::store::StoreError>(())
/// ```
///
/// # How long is data kept?
/// A commit is on the disk when it returns (write-ahead log, `synchronous = FULL`). The store remembers the ids of
/// commits while they are among the last 100,000, and for at least a day. The change feed keeps the last 65,536
/// positions. Usage of keys since the last [flush](crate::Keyward::flush_usage) is lost when the process is killed.
///
/// # How long do calls take?
/// A call waits for its turn, and then for SQLite, which waits for other processes. Each of the two takes at most
/// [`SqliteOptions::patience`]; for a commit the second takes at most twice that. A commit that has not begun by then
/// never begins.
///
/// Of one tenant's commits, one waits for the connection that writes, and the others wait for that one, so that many
/// imports of one tenant delay no change of other tenants. A commit that only revokes keys waits for no other commit of
/// its tenant. Of one tenant's lists and reads of events, one runs at a time, and a list with filters scans some
/// thousand keys for one [page](KeyStore::list), so that many searches of one tenant delay neither verifications nor
/// the lists of other tenants.
///
/// A call that waits for changes ends within the wait asked for, plus the time of two such calls. It notices commits of
/// other processes within some 25 milliseconds.
///
/// # Where can the file be?
/// All tables are named `keyward_…`, so that they may share a file of the host application. The file has to be on a
/// local disk: SQLite's locks do not work over a network. Back it up with SQLite's own means
/// (`sqlite3 keys.db ".backup …"`), not by copying it while it is open.
///
/// # How do I restore a backup?
/// A backup brings back keys as they were: those that were revoked or suspended since the backup was made, and powers
/// that keys have lost since.
///
/// 1. Stop all processes that have the file open.
/// 2. Put the backup in its place, and remove the files beside it with names that end in `-wal` and `-shm`.
/// 3. Open it, and call [`begin_new_history`](Self::begin_new_history), so that no process mistakes the old change feed
///    for the new one.
/// 4. [Replay](crate::manager::KeyManager::replay_restrictions) the restrictions that you exported, for each tenant.
///    Without an export call [`deny_issued_before`](crate::manager::KeyManager::deny_issued_before), which ends all
///    keys.
/// 5. Repeat each [purge](crate::manager::KeyManager::purge), removal and cut made since the backup.
/// 6. Start the processes.
///
/// On Unix the store notices when another file is renamed into the place of the open one, or when the open one is
/// removed: every call then fails until the process is restarted. It does not notice a file that is copied over the
/// open one.
///
/// # Security
/// The file holds no secret, but it holds names, and digests from which an attacker could guess a weak secret. Protect
/// it, and the files beside it, as you would a table of passwords.
///
/// On Unix a new file, and the files that SQLite puts beside it, are readable and writable by the process's user only
/// (mode 600, or [another](SqliteOptions::mode)). A file that exists keeps its permissions.
///
/// SQLite overwrites a digest that was replaced, and a key that was purged, at once. Its write-ahead log has copies:
/// the store empties the log about a second after such a commit, or as soon as no process reads an older state. A
/// process that is killed before that leaves them until the next such commit, or until the last process closes the
/// file in an orderly way. [`vacuum`](Self::vacuum) also removes copies that are left where SQLite moved rows.
///
/// # Which versions open a file?
/// This version opens a file of a later version if that file allows it (`oldest_reader`).
///
/// # Which damage does the store notice?
/// A row that was edited by hand into nonsense is an unreadable key: lists show it as such, it is never granted, and it
/// can still be revoked. A row with an unreadable tenant is in no tenant's list, and [`StoreError::Corrupt`]. Damaged
/// pages are [`StoreError::Corrupt`] if SQLite notices. The store keeps no checksums: it believes a change behind its
/// back that still makes sense. An event filed under another tenant than its own is [`StoreError::Corrupt`] to a reader
/// of that tenant's events or of all events; the event's own tenant misses it, and cannot detect the loss.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

/// Options for opening a file.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    readers: usize,
    patience: Duration,
    is_to_exist: bool,
    #[cfg(unix)]
    mode: u32,
}

/// Time limit of a vacuum.
const VACUUM_LIMIT: Duration = Duration::from_secs(3_600);

/// Interval at which a waiting call looks for commits of other processes.
const LOOK: Duration = Duration::from_millis(25);

impl SqliteOptions {
    /// Creates the default options: four connections that look keys up, and five seconds of patience.
    #[must_use]
    pub fn new() -> Self {
        Self {
            readers: 4,
            patience: Duration::from_secs(5),
            is_to_exist: false,
            #[cfg(unix)]
            mode: 0o600,
        }
    }

    /// Requires that the file already holds Keyward's tables: otherwise [`open`](Self::open) fails, and creates neither
    /// file nor tables.
    ///
    /// Set it for a store that has been in use, so that a lost, emptied or misnamed file is noticed at start, and not
    /// by the refusal of every key.
    #[must_use]
    pub fn must_exist(mut self) -> Self {
        self.is_to_exist = true;
        self
    }

    /// Sets the permissions of a file that [`open`](Self::open) creates, of which the process's `umask` may take some
    /// away. The default is 600: no other user reads it.
    ///
    /// For processes of different users, for instance, 660 in a folder of their common group. SQLite gives the files
    /// beside it the same permissions.
    #[cfg(unix)]
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the number of connections that look keys up for verifications: at least one.
    ///
    /// Besides these, one connection follows the change feed, and two read lists, events and usage.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Sets how long a call waits for its turn, and how long for SQLite.
    ///
    /// A commit that is given up after that time is [`Indeterminate`](StoreError::Indeterminate), so choose a time
    /// longer than any checkpoint takes. The maximum is two minutes, so that every commit has ended within ten.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(Duration::from_secs(2 * 60));
        self
    }

    /// Opens the file, creates it, or migrates it to this version's schema.
    ///
    /// The call blocks meanwhile: call it once, at start.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened or written, another process holds it for too long, it
    /// is too new for this version, or it [must exist](Self::must_exist) and does not; [`StoreError::Corrupt`] if it is
    /// damaged, or no database.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        Ok(self.open_file(path.as_ref())?)
    }

    fn open_file(self, path: &Path) -> Result<SqliteStore, Fault> {
        let file = File::new(path, self.patience)?;
        if !self.is_to_exist {
            #[cfg(unix)]
            file.create(self.mode)?;
        }
        let writer = file.prepare(self.is_to_exist)?;
        let shared = Shared::new(file, writer, self.readers, self.patience)?;
        Ok(SqliteStore {
            shared: Arc::new(shared),
        })
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SqliteStore {
    /// Opens the file with [`SqliteOptions::new`].
    ///
    /// # Errors
    /// As [`SqliteOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        SqliteOptions::new().open(path)
    }

    /// Makes all readers of the change feed resynchronize.
    ///
    /// An operator calls it after a backup was restored: the changes that readers saw before are of another history.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_new_history(&self) -> Result<(), StoreError> {
        self.shared
            .change(
                None,
                |transaction| {
                    meta::check(transaction)?;
                    transaction.execute("UPDATE keyward_meta SET history = random()", [])?;
                    Ok(())
                },
                // Wakes the calls that wait for changes.
                |shared, ()| shared.position.send_modify(|_| {}),
            )
            .await
    }

    /// Rewrites the whole file and empties the write-ahead log, so that neither keeps removed data.
    ///
    /// SQLite overwrites deleted rows at once, but copies can remain where it moved rows between pages, and in the
    /// write-ahead log. Call it after keys, tenants or events were removed, at a quiet time: commits of all processes
    /// wait meanwhile, those that wait for longer than their [patience](SqliteOptions::patience) fail, and the disk
    /// needs room for two more copies of the file. If the file holds tables of the host application without an
    /// `INTEGER PRIMARY KEY`, their row ids change.
    ///
    /// The work continues to its end if the future is dropped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if another process writes, or reads for longer than the patience; call it again
    /// then. Other [`StoreError`]s as for a commit.
    pub async fn vacuum(&self) -> Result<(), StoreError> {
        self.shared.maintain(VACUUM_LIMIT, purge::vacuum).await
    }

    async fn try_commit(
        &self,
        set: &ChangeSet,
        events: Events,
        noting: impl FnOnce(&Fault) + Send + 'static,
    ) -> Result<Committed, StoreError> {
        let set = set.clone();
        self.shared
            .change(
                WriteQueue::of(&set),
                move |transaction| commit::commit(transaction, &set, events).inspect_err(noting),
                |shared, committed| {
                    shared.position.send_if_modified(|position| {
                        let moved = *position < committed.position;
                        *position = committed.position.max(*position);
                        moved
                    });
                    shared.empty_log_after(committed);
                },
            )
            .await
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.shared
            .look(
                |shared| &shared.lookups,
                None,
                move |connection| row::find(connection, id),
            )
            .await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let (page, tenant) = (query.clone(), Some(query.tenant()));
        let list = move |connection: &Connection| list::list(connection, &page);
        self.shared.look(|shared| &shared.lists, tenant, list).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let after = after.cloned();
        let tenants =
            move |connection: &Connection| list::tenants(connection, after.as_ref(), limit);
        self.shared
            .look(|shared| &shared.lists, None, tenants)
            .await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let log_undid_all = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&log_undid_all);
        let noting = move |fault: &Fault| {
            let is_so = matches!(fault, Fault::LogUndidAll(_));
            note.store(is_so, Ordering::Release);
        };
        let committed = self.try_commit(set, Events::Appended, noting).await;
        // No failure of the log stops a revocation: retry without the log.
        if committed.is_err() && log_undid_all.load(Ordering::Acquire) {
            return self.try_commit(set, Events::LeftOut, |_| {}).await;
        }
        committed
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        // A day is longer than any caller waits, and the sum cannot overflow.
        let end = Instant::now() + wait.min(Duration::from_secs(86_400));
        // Subscribed before the first read, so that no commit falls between the two.
        let mut position = self.shared.position.subscribe();
        let look = || {
            let after = after.cloned();
            self.shared.look(
                |shared| &shared.feed,
                None,
                move |connection| feed::changes(connection, after.as_ref()),
            )
        };
        let page = look().await?;
        let reached = match &page {
            FeedPage::Next { items, next, .. } if items.is_empty() => next.clone(),
            _ => return Ok(page),
        };
        while Instant::now() < end {
            let nap = LOOK.min(end - Instant::now());
            let is_here = timeout(nap, position.changed()).await.is_ok();
            let reached = reached.clone();
            let moved = move |connection: &Connection| feed::has_moved(connection, &reached);
            if is_here || self.shared.look(|shared| &shared.feed, None, moved).await? {
                return look().await;
            }
        }
        Ok(page)
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }
}

#[async_trait]
impl EventLog for SqliteStore {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let whose = tenant.cloned();
        self.shared
            .look(
                |shared| &shared.lists,
                tenant,
                move |connection| events::read(connection, whose.as_ref(), after, limit),
            )
            .await
    }
}

#[async_trait]
impl UsageStore for SqliteStore {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        let batch = batch.to_vec();
        self.shared
            .change(
                None,
                move |transaction| usage::merge(transaction, id, &batch),
                |_, ()| {},
            )
            .await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        let ids = ids.to_vec();
        self.shared
            .look(
                |shared| &shared.lists,
                None,
                move |connection| usage::read(connection, &ids),
            )
            .await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("file", &self.shared.file)
            .field("position", &*self.shared.position.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
