//! The work of a store: reads and write transactions that run off the executor, each in its turn.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::checkpoint::Emptying;
use super::connect::{File, Identity};
use super::fault::Fault;
use super::meta;
use super::readers::Readers;
use super::turns::{Turns, WriteQueue};
use crate::key::TenantId;
use crate::store::StoreError;

/// Number of connections that read lists, events and usage.
pub(super) const LISTS: usize = 2;

/// The connections of an open file, and the queues for them.
pub(super) struct Shared {
    pub(super) file: File,
    identity: Identity,
    patience: Duration,
    /// The connection that writes; calls that wait for it hold no thread. `None` after a failed commit: the next write
    /// opens a new connection, and so trusts no state of the old one.
    pub(super) writer: Arc<Mutex<Option<Connection>>>,
    /// Each kind of read waits for its own connections: no list delays a verification or the change feed.
    pub(super) lookups: Readers,
    pub(super) feed: Readers,
    pub(super) lists: Readers,
    pub(super) list_turns: Turns<TenantId>,
    commit_turns: Turns<WriteQueue>,
    /// The position after this process's last commit, for calls that wait for one.
    pub(super) position: watch::Sender<u64>,
    pub(super) emptying: std::sync::Mutex<Emptying>,
}

impl Shared {
    pub(super) fn new(
        file: File,
        writer: Connection,
        readers: usize,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let position = meta::Meta::read(&writer)?.position;
        Ok(Self {
            identity: file.identity()?,
            lookups: Readers::new(file.clone(), File::reader, readers),
            feed: Readers::new(file.clone(), File::reader, 1),
            lists: Readers::new(file.clone(), File::list_reader, LISTS),
            list_turns: Turns::default(),
            commit_turns: Turns::default(),
            file,
            patience,
            writer: Arc::new(Mutex::new(Some(writer))),
            position: watch::Sender::new(position),
            emptying: std::sync::Mutex::default(),
        })
    }

    /// Runs a read on one of `readers` off the executor, in its own transaction: the read sees the store at one moment.
    /// If a tenant is given, the read first waits for that tenant's turn.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        readers: impl Fn(&Shared) -> &Readers + Send + 'static,
        tenant: Option<&TenantId>,
        look: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let turn = timeout(shared.patience, async {
            let tenants = match tenant {
                Some(tenant) => shared.list_turns.turn(tenant.clone()).await,
                None => None,
            };
            (tenants, readers(&shared).turn().await)
        });
        let turn = turn
            .await
            .map_err(|late| StoreError::Unavailable(late.into()))?;
        let patience = shared.patience;
        let work = move || {
            let _turn = turn;
            let check_file = || shared.check_file();
            readers(&shared).read(check_file, |connection| {
                let transaction = connection.transaction()?;
                meta::check(&transaction)?;
                look(&transaction)
            })
        };
        match off_executor(patience, work).await? {
            Ended::Done(answer) => Ok(answer),
            Ended::Panicked => Err(StoreError::Unavailable("the read panicked".into())),
            Ended::Late => Err(StoreError::Unavailable("the read takes too long".into())),
        }
    }

    /// Runs a write transaction off the executor and commits it. The work continues to its end, even if no caller waits
    /// for it any more. If a queue is given, the call first waits for its turn in that.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        line: Option<WriteQueue>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
        on_change: impl FnOnce(&Arc<Shared>, &T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let turn = timeout(shared.patience, async {
            let first_in_line = match line {
                Some(line) => shared.commit_turns.turn(line).await,
                None => None,
            };
            (first_in_line, Arc::clone(&shared.writer).lock_owned().await)
        });
        let turn = turn.await;
        let (first_in_line, mut turn) =
            turn.map_err(|late| StoreError::Unavailable(late.into()))?;
        let patience = shared.patience;
        let due = Instant::now() + patience;
        let work = move || {
            let _first_in_line = first_in_line;
            // The caller has given up on this work if the runtime had no thread for it until now: it must not begin
            // long after.
            if Instant::now() > due {
                return Err(Fault::Late);
            }
            shared.check_file()?;
            // Taken out, and put back only if the commit succeeded or was rolled back.
            let mut connection = match turn.take() {
                Some(connection) => connection,
                None => {
                    let opened = shared.file.writer()?;
                    shared.check_file()?;
                    opened
                }
            };
            let mut transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            match change(&mut transaction) {
                Ok(changed) => {
                    transaction.commit().map_err(Fault::Commit)?;
                    *turn = Some(connection);
                    on_change(&shared, &changed);
                    Ok(changed)
                }
                Err(fault) => {
                    // The rollback fails if SQLite has rolled back already. The connection is then not used again.
                    if transaction.rollback().is_ok() {
                        *turn = Some(connection);
                    }
                    Err(fault)
                }
            }
        };
        match off_executor(patience * 2, work).await? {
            Ended::Done(answer) => Ok(answer),
            Ended::Panicked => Err(StoreError::Indeterminate("the commit panicked".into())),
            Ended::Late => Err(StoreError::Indeterminate(
                "the commit takes too long".into(),
            )),
        }
    }

    /// Does maintenance off the executor on a connection of its own, while no call of this process writes. The
    /// connection that commits keeps its prepared statements and its settings.
    pub(super) async fn maintain(
        self: &Arc<Self>,
        limit: Duration,
        work: fn(&Connection) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        let shared = Arc::clone(self);
        let turn = timeout(shared.patience, Arc::clone(&shared.writer).lock_owned()).await;
        let turn = turn.map_err(|late| StoreError::Unavailable(late.into()))?;
        let work = move || {
            let _turn = turn;
            shared.check_file()?;
            let connection = shared.file.writer()?;
            shared.check_file()?;
            work(&connection)
        };
        match off_executor(limit, work).await? {
            Ended::Done(()) => Ok(()),
            Ended::Panicked => Err(StoreError::Unavailable("the work panicked".into())),
            Ended::Late => Err(StoreError::Unavailable("the work takes too long".into())),
        }
    }

    /// Checks that the file at the path is the one that was opened.
    fn check_file(&self) -> Result<(), Fault> {
        if self.file.identity()? == self.identity {
            Ok(())
        } else {
            Err(Fault::Replaced)
        }
    }
}

/// The way in which work off the executor ended.
enum Ended<T> {
    Done(T),
    Panicked,
    Late,
}

async fn off_executor<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<Ended<T>, StoreError> {
    let runtime = Handle::try_current().map_err(|none| StoreError::Unavailable(none.into()))?;
    match timeout(patience, runtime.spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(Ended::Done(done?)),
        // The runtime is shutting down, and the work never began.
        Ok(Err(stopped)) if stopped.is_cancelled() => Err(StoreError::Unavailable(stopped.into())),
        Ok(Err(_)) => Ok(Ended::Panicked),
        Err(_) => Ok(Ended::Late),
    }
}
