//! Connections that read, in parallel.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::File;
use super::fault::Fault;

/// A bounded number of connections, opened when they are first needed.
pub(super) struct Readers {
    file: File,
    open: fn(&File) -> Result<Connection, Fault>,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(
        file: File,
        open: fn(&File) -> Result<Connection, Fault>,
        most: usize,
    ) -> Self {
        Self {
            file,
            open,
            turns: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
        }
    }

    /// Waits for a turn to read. A waiting call holds no thread.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Reads with one of the connections. A connection is not used again after a failed read, nor if the file at the
    /// path was another one when it was opened.
    pub(super) fn read<T>(
        &self,
        check_file: impl Fn() -> Result<(), Fault>,
        read: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        check_file()?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let next = idle().pop();
        let mut connection = match next {
            Some(connection) => connection,
            None => {
                let opened = (self.open)(&self.file)?;
                check_file()?;
                opened
            }
        };
        let answer = read(&mut connection)?;
        idle().push(connection);
        Ok(answer)
    }
}
