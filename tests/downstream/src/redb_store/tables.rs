//! The tables of the file.
//!
//! Values are bytes wherever they could be unreadable: redb panics on text that is not UTF-8.

use keyward::audit::ChainHead;
use keyward::random::{OsRandom, RandomSource};
use keyward::store::StoreError;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// A tenant, when its key was issued in microseconds, and which key. Read backwards: the newest first.
pub(super) type LivePlace = (&'static [u8], i64, u128);
/// A tenant, the position of the commit that revoked its key, and which key.
pub(super) type RevokedPlace = (&'static [u8], u64, u128);

pub(super) const KEYS: TableDefinition<u128, &[u8]> = TableDefinition::new("keys");
pub(super) const LIVE: TableDefinition<LivePlace, ()> = TableDefinition::new("live");
pub(super) const REVOKED: TableDefinition<RevokedPlace, ()> = TableDefinition::new("revoked");
/// The ids of keys that were purged: they stay taken.
pub(super) const PURGED: TableDefinition<u128, ()> = TableDefinition::new("purged");
/// By the scope's text, in microseconds.
pub(super) const CUTOFFS: TableDefinition<&str, i64> = TableDefinition::new("cutoffs");
pub(super) const SETTINGS: TableDefinition<&str, &[u8]> = TableDefinition::new("settings");
/// By the commit's id, what became of it.
pub(super) const COMMITS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("commits");
/// By position and place in the commit.
pub(super) const FEED: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("feed");
pub(super) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// A tenant and the numbers of its events, so that reading them skips no other tenant's.
pub(super) const TENANT_EVENTS: TableDefinition<(&[u8], u64), ()> =
    TableDefinition::new("tenant_events");
/// By key: last used in microseconds, granted, refused.
pub(super) const USAGE: TableDefinition<u128, (i64, u64, u64)> = TableDefinition::new("usage");
/// The ids of the batches that were merged.
pub(super) const MERGED: TableDefinition<&[u8; 16], ()> = TableDefinition::new("merged");
/// One row, under [`META_ROW`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const META_ROW: &str = "meta";

/// The row that every commit to the feed writes: only one transaction can write it at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    /// How the file is laid out; a later version's file is not read.
    layout: u16,
    pub(super) history: u64,
    pub(super) position: u64,
    pub(super) head: ChainHead,
}

impl Meta {
    const LAYOUT: u16 = 1;

    pub(super) fn read(
        table: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, Fault> {
        let row = table
            .get(META_ROW)?
            .ok_or(Fault::unreadable("the row of counters"))?;
        let meta: Self = decode("the row of counters", row.value())?;
        if meta.layout == Self::LAYOUT {
            Ok(meta)
        } else {
            Err(Fault::unreadable("the layout of the file"))
        }
    }

    pub(super) fn write(
        &self,
        table: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), Fault> {
        let row = encode("the row of counters", self)?;
        table.insert(META_ROW, row.as_slice())?;
        Ok(())
    }
}

/// Creates what is not there yet, so that reading finds every table.
pub(super) fn create(transaction: &WriteTransaction) -> Result<Meta, Fault> {
    let keys = transaction.open_table(KEYS)?;
    transaction.open_table(LIVE)?;
    transaction.open_table(REVOKED)?;
    transaction.open_table(PURGED)?;
    transaction.open_table(CUTOFFS)?;
    transaction.open_table(SETTINGS)?;
    transaction.open_table(COMMITS)?;
    transaction.open_table(FEED)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(TENANT_EVENTS)?;
    transaction.open_table(USAGE)?;
    transaction.open_table(MERGED)?;
    let mut table = transaction.open_table(META)?;
    // Keys without their counters are a damaged file, not a new one.
    if !table.is_empty()? || !keys.is_empty()? {
        return Meta::read(&table);
    }
    let mut history = [0; 8];
    let drawn = OsRandom.fill(&mut history);
    drawn.map_err(|error| StoreError::Unavailable(error.into()))?;
    let meta = Meta {
        layout: Meta::LAYOUT,
        history: u64::from_be_bytes(history),
        position: 0,
        head: ChainHead::default(),
    };
    meta.write(&mut table)?;
    Ok(meta)
}

pub(super) fn encode(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    // The cause is left out, as it may quote the value.
    serde_json::to_vec(value).map_err(|_| Fault::Unwritable { what })
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, row: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(row).map_err(|error| Fault::Unreadable {
        what,
        at: error.column(),
    })
}
