//! Usage of keys.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::fault::Fault;
use super::meta::{self, unsigned};
use super::row::instant;
use crate::clock::unix_micros;
use crate::key::KeyId;
use crate::store::{ChangeId, Usage};

/// Merges a batch, once. Ids of batches are remembered as those of commits are.
pub(super) fn merge(
    transaction: &Transaction<'_>,
    id: ChangeId,
    batch: &[(KeyId, Usage)],
) -> Result<(), Fault> {
    meta::check(transaction)?;
    let is_new = transaction
        .prepare_cached(
            "INSERT INTO keyward_merged (id, made_at) VALUES (?1, unixepoch()) ON CONFLICT (id) DO NOTHING",
        )?
        .execute([id.as_bytes()])?;
    if is_new == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "DELETE FROM keyward_merged WHERE abs(made_at - unixepoch()) > 86400 AND number IN \
             (SELECT number FROM keyward_merged WHERE number <= ?1 ORDER BY number LIMIT 2)",
        )?
        .execute([transaction.last_insert_rowid() - 100_000])?;
    let mut exists = transaction.prepare_cached("SELECT 1 FROM keyward_keys WHERE id = ?1")?;
    let mut write = transaction.prepare_cached(
        "INSERT OR REPLACE INTO keyward_usage (id, last_used_at, granted, refused) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (key, more) in batch {
        if !exists.exists([key.to_bytes()])? {
            continue;
        }
        let before = of(transaction, *key)?;
        let usage = before.map_or(*more, |usage| usage.merged(*more));
        // Counts stop at the largest number that SQLite can write.
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (granted, refused) = (count(usage.granted), count(usage.refused));
        write.execute(params![
            key.to_bytes(),
            unix_micros(usage.last_used_at),
            granted,
            refused
        ])?;
    }
    Ok(())
}

/// Returns how these keys have been used, in the order asked.
pub(super) fn read(connection: &Connection, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, Fault> {
    ids.iter().map(|id| of(connection, *id)).collect()
}

fn of(connection: &Connection, key: KeyId) -> Result<Option<Usage>, Fault> {
    let sql = "SELECT last_used_at, granted, refused FROM keyward_usage WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement
        .query_row([key.to_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((last_used_at, granted, refused)) = row else {
        return Ok(None);
    };
    let (granted, refused) = (unsigned(granted)?, unsigned(refused)?);
    Ok(Some(Usage::new(instant(last_used_at)?, granted, refused)))
}
