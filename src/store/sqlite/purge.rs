//! Removing keys that have ended, and tenants without keys.
//!
//! The writer connection overwrites deleted content (`secure_delete`). Copies can remain where SQLite has moved rows
//! between pages, and in the write-ahead log until that is emptied: [`vacuum`] removes these.

use rusqlite::{Connection, Transaction, params};
use time::OffsetDateTime;

use super::fault::Fault;
use super::{checkpoint, feed, meta, row};
use crate::key::{KeyId, TenantId};
use crate::store::{Changed, CutoffScope, Outcome};

/// Removes the key and its usage if the key ended before the instant. Its id stays taken.
pub(super) fn purge(
    transaction: &Transaction<'_>,
    id: KeyId,
    ended_before: OffsetDateTime,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    // The end of a key can be read even if its row can be read only in part, and such a key must be removable too.
    let stored = row::find(transaction, id)?;
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

/// Removes the cutoffs of a tenant without keys and of its owners, and keeps the latest of them as the tenant's.
pub(super) fn remove_tenant(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    // Each half uses the index of its segment.
    let has_keys = "SELECT 1 FROM keyward_keys WHERE tenant = ?1 AND revoked_position IS NULL \
         UNION ALL SELECT 1 FROM keyward_keys WHERE tenant = ?1 AND revoked_position IS NOT NULL";
    let mut has_keys = transaction.prepare_cached(has_keys)?;
    if has_keys.exists([tenant.as_str()])? {
        return Ok(Outcome::TenantHasKeys);
    }
    let scope = CutoffScope::from(tenant);
    // Names of tenants hold no space: these scopes are those of the tenant's owners, and no others. `!` is the
    // character after the space.
    let (first, end) = (format!("owner {tenant} "), format!("owner {tenant}!"));
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO keyward_cutoffs (scope, instant) SELECT ?1, latest FROM \
             (SELECT max(instant) AS latest FROM keyward_cutoffs WHERE scope = ?1 OR (scope >= ?2 AND scope < ?3)) \
             WHERE latest IS NOT NULL",
        )?
        .execute(params![scope.to_string(), first, end])?;
    transaction
        .prepare_cached("DELETE FROM keyward_cutoffs WHERE scope >= ?1 AND scope < ?2")?
        .execute([&first, &end])?;
    feed::forget_owners(transaction, tenant)?;
    for news in &mut *news {
        news.forget_owner(tenant);
    }
    news.push(Changed::Cutoff { scope });
    Ok(Outcome::TenantRemoved)
}

/// Rewrites the whole file, and empties the write-ahead log.
pub(super) fn vacuum(connection: &Connection) -> Result<(), Fault> {
    meta::check(connection)?;
    connection.execute_batch("VACUUM")?;
    checkpoint::truncate(connection)
}

/// Returns whether a key with this id was purged.
pub(super) fn is_purged(connection: &Connection, id: KeyId) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM keyward_purged WHERE id = ?1")?;
    Ok(statement.exists([id.to_bytes()])?)
}
