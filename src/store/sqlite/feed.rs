//! What changed, in the order in which it was committed.

use rusqlite::{Connection, Transaction, params};

use super::fault::Fault;
use super::meta::{Meta, signed, unsigned};
use crate::key::TenantId;
use crate::store::{Changed, Cursor, CutoffScope, FeedPage};

/// Positions that the feed keeps.
const KEPT: u64 = 65_536;

/// Changes that one look at the feed brings at most, but for the rest of a commit.
const PAGE: usize = 1_024;

const WHAT: &str = "the feed of changes";

/// Adds the news of a commit, and forgets those that are older than the feed keeps.
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
        .execute([signed(begins(position))?])?;
    Ok(())
}

/// Puts a tenant in the place of its owners: whoever reads on does more than it has to, and nobody's name is left.
pub(super) fn forget_owners(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<(), Fault> {
    let unwritable = |_| Fault::Unwritable(WHAT);
    let scope = CutoffScope::from(tenant);
    let whole = serde_json::to_string(&Changed::Cutoff { scope }).map_err(unwritable)?;
    // As it stands within the text of a scope, but for the quotation mark that ends it.
    let owners = serde_json::to_string(&format!("owner {tenant} ")).map_err(unwritable)?;
    let owners = owners.strip_suffix('"').unwrap_or(&owners);
    transaction
        .prepare_cached("UPDATE keyward_feed SET news = ?1 WHERE instr(news, ?2) > 0")?
        .execute([&*whole, owners])?;
    Ok(())
}

/// The position after which the feed is whole.
fn begins(position: u64) -> u64 {
    position.saturating_sub(KEPT)
}

/// What changed after the cursor, as far as it is known. Within a transaction: the row of counters and the feed are to
/// be of one moment.
pub(super) fn changes(connection: &Connection, after: Option<&Cursor>) -> Result<FeedPage, Fault> {
    let meta = Meta::read(connection)?;
    let cursor = |position| Cursor {
        history: meta.history,
        position,
    };
    let known = after.filter(|after| {
        after.history == meta.history
            && (begins(meta.position)..=meta.position).contains(&after.position)
    });
    let Some(after) = known else {
        return Ok(FeedPage::Resync {
            next: cursor(meta.position),
        });
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
        // A commit is told whole: a cursor cannot point into it.
        if items.len() >= PAGE && position != reached {
            has_more = true;
            break;
        }
        reached = position;
        let news = row.get_ref(1)?.as_str().ok();
        let news = news.and_then(|news| serde_json::from_str::<Changed>(news).ok());
        items.push(news.ok_or(Fault::Unreadable(WHAT))?);
    }
    Ok(FeedPage::Next {
        items,
        next: cursor(reached),
        has_more,
    })
}

/// Whether there is something to tell whoever has this cursor.
pub(super) fn has_moved(connection: &Connection, after: &Cursor) -> Result<bool, Fault> {
    let meta = Meta::read(connection)?;
    Ok((meta.history, meta.position) != (after.history, after.position))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feed whose first `forgotten` positions are gone.
    fn feed(forgotten: u64) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let tables = include_str!("migrations/0001_create.sql");
        connection.execute_batch(tables).unwrap();
        let transaction = connection.transaction().unwrap();
        let scope = crate::store::CutoffScope::All;
        let news = [Changed::Cutoff { scope }];
        for position in 1..=KEPT + forgotten {
            append(&transaction, position, &news).unwrap();
        }
        transaction.commit().unwrap();
        let end = signed(KEPT + forgotten).unwrap();
        connection
            .execute("UPDATE keyward_meta SET position = ?1", [end])
            .unwrap();
        connection
    }

    #[test]
    fn a_cursor_one_too_old_starts_anew() {
        const FORGOTTEN: u64 = 3;
        let connection = feed(FORGOTTEN);
        let kept: i64 = connection
            .query_row("SELECT min(position) FROM keyward_feed", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(unsigned(kept).unwrap(), FORGOTTEN + 1);
        let history = Meta::read(&connection).unwrap().history;
        let read = |position| {
            let cursor = Cursor { history, position };
            changes(&connection, Some(&cursor)).unwrap()
        };
        // All that follows the oldest good cursor is still there.
        let mut cursor = FORGOTTEN;
        let mut told = 0;
        loop {
            let FeedPage::Next {
                items,
                next,
                has_more,
            } = read(cursor)
            else {
                panic!("position {cursor} is known");
            };
            told += items.len();
            cursor = next.position;
            if !has_more {
                break;
            }
        }
        assert_eq!(u64::try_from(told).unwrap(), KEPT);
        for too_old in [FORGOTTEN - 1, 0] {
            let position = FORGOTTEN + KEPT;
            let next = Cursor { history, position };
            assert_eq!(read(too_old), FeedPage::Resync { next });
        }
        let ahead = read(FORGOTTEN + KEPT + 1);
        assert!(matches!(ahead, FeedPage::Resync { .. }));
    }
}
