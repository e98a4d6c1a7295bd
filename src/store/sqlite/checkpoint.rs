//! Emptying the write-ahead log after a commit that replaced or removed digests.
//!
//! SQLite overwrites the old row in the file, but the log holds earlier versions of its pages until it is emptied.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
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

impl Shared {
    /// Empties the log in a moment if the commit replaced or removed a digest.
    pub(super) fn empty_log_after(self: &Arc<Self>, committed: &Committed) {
        let is_old = |outcome: &Outcome| matches!(outcome, Outcome::Rehashed | Outcome::Purged);
        // A commit runs on a thread of the runtime.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if committed.outcomes.iter().any(is_old) && !self.empties_log.swap(true, Ordering::AcqRel) {
            runtime.spawn(empty_log(Arc::downgrade(self)));
        }
    }
}

/// Tries until the log is empty. Ends with the store.
async fn empty_log(shared: Weak<Shared>) {
    let mut delay = DELAY;
    loop {
        sleep(delay).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // Before the attempt: a commit that follows it has the log emptied again.
        shared.empties_log.store(false, Ordering::Release);
        let is_emptied = shared.maintain(LIMIT, empty_at_once).await.is_ok();
        if is_emptied || shared.empties_log.swap(true, Ordering::AcqRel) {
            return;
        }
        delay = (delay * 2).min(LONGEST_DELAY);
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
