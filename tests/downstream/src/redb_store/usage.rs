//! How keys are used.

use keyward::clock::unix_micros;
use keyward::key::KeyId;
use keyward::store::{ChangeId, Usage};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::row::instant;
use super::tables::{KEYS, MERGED, USAGE};

/// Merges a batch, once.
pub(super) fn merge(
    transaction: &WriteTransaction,
    id: ChangeId,
    batch: &[(KeyId, Usage)],
) -> Result<(), Fault> {
    let mut merged = transaction.open_table(MERGED)?;
    if merged.insert(id.as_bytes(), ())?.is_some() {
        return Ok(());
    }
    let keys = transaction.open_table(KEYS)?;
    let mut table = transaction.open_table(USAGE)?;
    for (key, more) in batch {
        let key = key.as_u128();
        if keys.get(key)?.is_none() {
            continue;
        }
        let before = of(&table, key)?;
        let usage = before.map_or(*more, |usage| usage.merged(*more));
        let used = unix_micros(usage.last_used_at);
        table.insert(key, (used, usage.granted, usage.refused))?;
    }
    Ok(())
}

/// How these keys have been used, in the order asked.
pub(super) fn read(
    transaction: &ReadTransaction,
    ids: &[KeyId],
) -> Result<Vec<Option<Usage>>, Fault> {
    let table = transaction.open_table(USAGE)?;
    ids.iter().map(|id| of(&table, id.as_u128())).collect()
}

fn of(
    table: &impl ReadableTable<u128, (i64, u64, u64)>,
    key: u128,
) -> Result<Option<Usage>, Fault> {
    let Some(row) = table.get(key)? else {
        return Ok(None);
    };
    let (last_used_at, granted, refused) = row.value();
    Ok(Some(Usage::new(instant(last_used_at)?, granted, refused)))
}
