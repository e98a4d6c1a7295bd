//! Emptying the write-ahead log after a commit that replaced or removed digests.
//!
//! SQLite overwrites the old row in the file, but the log holds earlier versions of its pages until it is emptied.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::fault::Fault;
use super::work::Shared;
use crate::store::{Committed, Outcome};

/// Time from a commit until the log is emptied: commits meanwhile share one checkpoint.
const DELAY: Duration = Duration::from_secs(1);

/// Longest time between attempts while another process reads or the file fails.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Time for which a checkpoint waits for readers, while commits wait for it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Time limit of a checkpoint.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the log is to be emptied, and by which task.
#[derive(Default)]
pub(super) struct Emptying {
    is_needed: bool,
    /// Alive as long as the task. A task also ends with its runtime.
    task: Weak<()>,
}

impl Shared {
    /// Empties the log in a moment if the commit replaced or removed a digest.
    pub(super) fn empty_log_after(self: &Arc<Self>, committed: &Committed) {
        let is_old = |outcome: &Outcome| matches!(outcome, Outcome::Rehashed | Outcome::Purged);
        if !committed.outcomes.iter().any(is_old) {
            return;
        }
        let mut emptying = self.emptying();
        emptying.is_needed = true;
        // A commit runs on a thread of the runtime.
        if let (None, Ok(runtime)) = (emptying.task.upgrade(), Handle::try_current()) {
            let task = Arc::new(());
            emptying.task = Arc::downgrade(&task);
            runtime.spawn(empty_log(Arc::downgrade(self), task));
        }
    }

    fn emptying(&self) -> MutexGuard<'_, Emptying> {
        self.emptying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries until the log is empty. Ends with the store.
async fn empty_log(shared: Weak<Shared>, _task: Arc<()>) {
    let mut delay = DELAY;
    loop {
        sleep(delay).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // Before the attempt: a commit that follows it needs another one.
        shared.emptying().is_needed = false;
        let is_emptied = shared.maintain(LIMIT, empty_at_once).await.is_ok();
        let mut emptying = shared.emptying();
        if is_emptied && !emptying.is_needed {
            emptying.task = Weak::new();
            return;
        }
        delay = match is_emptied {
            true => DELAY,
            false => (delay * 2).min(LONGEST_DELAY),
        };
    }
}

/// Empties the log unless a reader needs it for longer than a moment.
fn empty_at_once(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(PATIENCE)?;
    truncate(connection)
}

/// Moves the log into the file, and truncates it.
///
/// # Errors
/// [`Fault::LogInUse`] if a reader needs the log for longer than the connection waits.
pub(super) fn truncate(connection: &Connection) -> Result<(), Fault> {
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_in_use: bool = connection.query_row(truncate, [], |row| row.get(0))?;
    if is_in_use {
        return Err(Fault::LogInUse);
    }
    Ok(())
}
