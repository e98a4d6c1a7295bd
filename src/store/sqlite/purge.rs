//! Removing keys that have ended.
//!
//! The writer connection overwrites deleted content (`secure_delete`). The write-ahead log holds the old pages until it
//! is checkpointed and reused.

use rusqlite::{Connection, Transaction};
use time::OffsetDateTime;

use super::fault::Fault;
use super::row;
use crate::key::KeyId;
use crate::store::{Changed, Outcome};

/// Removes the key and its usage if it ended before the instant. Its id stays taken.
pub(super) fn purge(
    transaction: &Transaction<'_>,
    id: KeyId,
    ended_before: OffsetDateTime,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    // The end of a key whose row can only be read in part is known, and such a key must be removable too.
    let stored = row::find(transaction, id)?.map(|read| read.key);
    let outcome = Outcome::of_purge(stored.as_ref(), ended_before);
    let Some(key) = stored.filter(|_| outcome == Outcome::Purged) else {
        return Ok(outcome);
    };
    for sql in [
        "DELETE FROM keyward_keys WHERE id = ?1",
        "DELETE FROM keyward_usage WHERE id = ?1",
        "INSERT OR IGNORE INTO keyward_purged (id) VALUES (?1)",
    ] {
        transaction.prepare_cached(sql)?.execute([id.to_bytes()])?;
    }
    let revision = key.revision.saturating_add(1);
    news.push(Changed::Key { id, revision });
    Ok(outcome)
}

/// Whether a key with this id was purged.
pub(super) fn is_purged(connection: &Connection, id: KeyId) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM keyward_purged WHERE id = ?1")?;
    Ok(statement.exists([id.to_bytes()])?)
}
