//! The change feed: published changes in commit order.

use rusqlite::{Connection, Transaction, params};

use super::fault::Fault;
use super::meta::{Meta, signed, unsigned};
use crate::key::TenantId;
use crate::store::{Changed, Cursor, CutoffScope, FeedPage};

/// Number of positions that the feed keeps.
const KEPT: u64 = 65_536;

/// Maximum number of changes on a page, except for the rest of a commit.
const PAGE: usize = 1_024;

const WHAT: &str = "the feed of changes";

/// Appends the published changes of a commit, and deletes those older than the feed keeps.
pub(super) fn append(
    transaction: &Transaction<'_>,
    position: u64,
    news: &[Changed],
) -> Result<(), Fault> {
    let mut insert = transaction
        .prepare_cached("INSERT INTO keyward_feed (position, place, news) VALUES (?1, ?2, ?3)")?;
    for (place, news) in (0_i64..).zip(news) {
        let news = serde_json::to_string(news).map_err(|_| Fault::Unwritable(WHAT))?;
        insert.execute(params![signed(position)?, place, news])?;
    }
    transaction
        .prepare_cached("DELETE FROM keyward_feed WHERE position <= ?1")?
        .execute([signed(position.saturating_sub(KEPT))?])?;
    Ok(())
}

/// Replaces the owners of a tenant by the tenant. Readers then discard more than necessary, which is safe, and the feed
/// names no owner of the tenant.
pub(super) fn forget_owners(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<(), Fault> {
    let unwritable = |_| Fault::Unwritable(WHAT);
    let scope = CutoffScope::from(tenant);
    let whole = serde_json::to_string(&Changed::Cutoff { scope }).map_err(unwritable)?;
    // As the text of a scope begins, without the quotation mark that ends it. The name of an owner may hold such a text
    // too, so it has to be in the scope's place.
    let place = whole.split("\"tenant ").next().unwrap_or_default();
    let owners = serde_json::to_string(&format!("owner {tenant} ")).map_err(unwritable)?;
    let owners = owners.strip_suffix('"').unwrap_or(&owners);
    let owners = format!("{place}{owners}");
    transaction
        .prepare_cached("UPDATE keyward_feed SET news = ?1 WHERE substr(news, 1, length(?2)) = ?2")?
        .execute([&whole, &owners])?;
    Ok(())
}

/// Returns the changes after the cursor, as far as the feed keeps them. The caller provides a transaction: the row of
/// counters and the feed must be of one moment.
///
/// Each position has at least one change. If those of a position are missing, because they expired or were deleted, the
/// answer is `Resync`.
pub(super) fn changes(connection: &Connection, after: Option<&Cursor>) -> Result<FeedPage, Fault> {
    let meta = Meta::read(connection)?;
    let cursor = |position| Cursor {
        history: meta.history,
        position,
    };
    let resync = FeedPage::Resync {
        next: cursor(meta.position),
    };
    let known =
        after.filter(|after| after.history == meta.history && after.position <= meta.position);
    let Some(after) = known else {
        return Ok(resync);
    };
    let mut statement = connection.prepare_cached(
        "SELECT position, news FROM keyward_feed WHERE position > ?1 ORDER BY position, place",
    )?;
    let mut rows = statement.query([signed(after.position)?])?;
    let mut items = Vec::new();
    let mut reached = after.position;
    let mut has_more = false;
    while let Some(row) = rows.next()? {
        let position = unsigned(row.get(0)?)?;
        // A page holds whole commits: a cursor cannot point into one.
        if items.len() >= PAGE && position != reached {
            has_more = true;
            break;
        }
        if position > reached.saturating_add(1) {
            return Ok(resync);
        }
        reached = position;
        let news = row.get_ref(1)?.as_str().ok();
        let news = news.and_then(|news| serde_json::from_str::<Changed>(news).ok());
        items.push(news.ok_or(Fault::Unreadable(WHAT))?);
    }
    if !has_more && reached != meta.position {
        return Ok(resync);
    }
    Ok(FeedPage::Next {
        items,
        next: cursor(reached),
        has_more,
    })
}

/// Returns whether a poll with this cursor has something to report.
pub(super) fn has_moved(connection: &Connection, after: &Cursor) -> Result<bool, Fault> {
    let meta = Meta::read(connection)?;
    Ok((meta.history, meta.position) != (after.history, after.position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CutoffScope;

    /// Creates a feed of this many positions.
    fn feed(positions: u64) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let tables = include_str!("migrations/0001_create.sql");
        connection.execute_batch(tables).unwrap();
        let transaction = connection.transaction().unwrap();
        let scope = CutoffScope::All;
        let news = [Changed::Cutoff { scope }];
        for position in 1..=positions {
            append(&transaction, position, &news).unwrap();
        }
        transaction.commit().unwrap();
        let end = signed(positions).unwrap();
        let sql = "UPDATE keyward_meta SET position = ?1";
        connection.execute(sql, [end]).unwrap();
        connection
    }

    #[test]
    fn the_last_65536_positions_are_kept() {
        let connection = feed(KEPT + 3);
        let sql = "SELECT min(position), max(position), count(*) FROM keyward_feed";
        let kept = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let (first, last, count) = (4_i64, signed(KEPT + 3).unwrap(), signed(KEPT).unwrap());
        assert_eq!(kept.unwrap(), (first, last, count));
    }

    #[test]
    fn a_missing_position_resyncs() {
        for missing in 1..=5 {
            let connection = feed(5);
            let sql = "DELETE FROM keyward_feed WHERE position = ?1";
            connection.execute(sql, [signed(missing).unwrap()]).unwrap();
            let history = Meta::read(&connection).unwrap().history;
            for position in 0..=5 {
                let cursor = Cursor { history, position };
                let page = changes(&connection, Some(&cursor)).unwrap();
                let is_known = matches!(page, FeedPage::Next { .. });
                assert_eq!(
                    is_known,
                    position >= missing,
                    "{position}, without {missing}"
                );
            }
        }
    }
}
