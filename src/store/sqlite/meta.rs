//! The row with the store's history, position and head of the event chain.

use rusqlite::{Connection, params};

use super::connect::may_use;
use super::fault::Fault;
use crate::audit::ChainHead;

/// The store's history, position and head of the event chain.
pub(super) struct Meta {
    pub(super) history: u64,
    pub(super) position: u64,
    pub(super) head: ChainHead,
}

impl Meta {
    /// Reads the row, and fails if this version must no longer use the file.
    pub(super) fn read(connection: &Connection) -> Result<Self, Fault> {
        let mut statement = connection.prepare_cached(
            "SELECT oldest_reader, history, position, events, head FROM keyward_meta",
        )?;
        let (oldest, history, position, events, hash) = statement.query_row([], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, [u8; 32]>(4)?,
            ))
        })?;
        may_use(oldest)?;
        Ok(Self {
            history: u64::from_be_bytes(history.to_be_bytes()),
            position: unsigned(position)?,
            head: ChainHead {
                events: unsigned(events)?,
                hash,
            },
        })
    }

    pub(super) fn write(&self, connection: &Connection) -> Result<(), Fault> {
        let mut statement = connection
            .prepare_cached("UPDATE keyward_meta SET position = ?1, events = ?2, head = ?3")?;
        let (position, events) = (signed(self.position)?, signed(self.head.events)?);
        statement.execute(params![position, events, self.head.hash])?;
        Ok(())
    }
}

/// Fails if this version must no longer use the file.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached("SELECT oldest_reader FROM keyward_meta")?;
    may_use(statement.query_row([], |row| row.get(0))?)
}

pub(super) fn unsigned(number: i64) -> Result<u64, Fault> {
    u64::try_from(number).map_err(|_| Fault::Unreadable("a number"))
}

pub(super) fn signed(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).map_err(|_| Fault::Unwritable("a number"))
}
