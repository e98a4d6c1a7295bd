//! The log of events.

use rusqlite::{Connection, Row, Transaction, params};

use super::fault::Fault;
use super::meta::{signed, unsigned};
use crate::audit::{ChainHead, Event, SealedEvent};
use crate::key::TenantId;
use crate::store::{ChangeSet, Changed, Outcome};

const WHAT: &str = "an event";
const MOVED: &str = "an event that stands under another tenant than it tells of";

/// Appends the events of a commit to the chain, and returns the head after them.
pub(super) fn append(
    transaction: &mut Transaction<'_>,
    set: &ChangeSet,
    head: ChainHead,
    outcomes: &[Outcome],
) -> Result<ChainHead, Fault> {
    let (sealed, next) = set.seal(head, outcomes);
    // All events or none: the chain never holds half of them.
    let mut savepoint = transaction.savepoint()?;
    let appended = sealed
        .iter()
        .try_for_each(|event| insert(&savepoint, event));
    match appended {
        Ok(()) => {
            savepoint.commit()?;
            Ok(next)
        }
        // No failure of the log stops a revocation.
        Err(fault) if only_revokes(outcomes) => {
            // SQLite may have undone the whole transaction by itself, for example because the disk is full. The commit
            // cannot continue then, as SQLite would commit each later change on its own.
            if savepoint.rollback().is_err() {
                return Err(Fault::LogUndidAll(Box::new(fault)));
            }
            savepoint.commit()?;
            Ok(head)
        }
        Err(fault) => Err(fault),
    }
}

fn insert(connection: &Connection, sealed: &SealedEvent) -> Result<(), Fault> {
    let event = serde_json::to_string(&sealed.event).map_err(|_| Fault::Unwritable(WHAT))?;
    let tenant = sealed.event.tenant.as_ref().map(TenantId::as_str);
    connection
        .prepare_cached(
            "INSERT INTO keyward_events (number, tenant, event, hash) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![signed(sealed.number)?, tenant, event, sealed.hash])?;
    Ok(())
}

/// Removes the events up to one, if it is stored with this hash.
pub(super) fn cut(
    transaction: &Transaction<'_>,
    through: ChainHead,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    let Ok(last) = i64::try_from(through.events) else {
        return Ok(Outcome::EventsNotCut);
    };
    let is_stored = "SELECT 1 FROM keyward_events WHERE number = ?1 AND hash = ?2";
    let mut is_stored = transaction.prepare_cached(is_stored)?;
    if !is_stored.exists(params![last, through.hash])? {
        return Ok(Outcome::EventsNotCut);
    }
    let mut delete = transaction.prepare_cached("DELETE FROM keyward_events WHERE number <= ?1")?;
    delete.execute([last])?;
    let through = through.events;
    news.push(Changed::EventsCut { through });
    Ok(Outcome::EventsCut)
}

fn only_revokes(outcomes: &[Outcome]) -> bool {
    let mut news = outcomes.iter().filter(|outcome| outcome.is_published());
    news.all(|outcome| *outcome == Outcome::Revoked)
}

/// Returns up to `limit` events after the given number, of one tenant or of all.
///
/// The column that finds a tenant's events is outside of the chain, and is compared with the tenant in the event. If an
/// event was moved to another tenant, a reader of that tenant's events or of all events gets an error; a reader of the
/// event's own tenant misses it without notice.
pub(super) fn read(
    connection: &Connection,
    tenant: Option<&TenantId>,
    after: u64,
    limit: usize,
) -> Result<Vec<SealedEvent>, Fault> {
    let Ok(after) = i64::try_from(after) else {
        return Ok(Vec::new());
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut events = Vec::new();
    let mut statement;
    let mut rows = match tenant {
        None => {
            statement = connection.prepare_cached(
                "SELECT number, event, hash, tenant FROM keyward_events WHERE number > ?1 ORDER BY number LIMIT ?2",
            )?;
            statement.query(params![after, limit])?
        }
        Some(tenant) => {
            statement = connection.prepare_cached(
                "SELECT number, event, hash, tenant FROM keyward_events WHERE tenant = ?3 AND number > ?1 \
                 ORDER BY number LIMIT ?2",
            )?;
            statement.query(params![after, limit, tenant.as_str()])?
        }
    };
    while let Some(row) = rows.next()? {
        events.push(sealed(row)?);
    }
    Ok(events)
}

fn sealed(row: &Row<'_>) -> Result<SealedEvent, Fault> {
    let event = row.get_ref(1)?.as_str().ok();
    let event = event.and_then(|event| serde_json::from_str(event).ok());
    let event: Event = event.ok_or(Fault::Unreadable(WHAT))?;
    let filed = row.get_ref(3)?.as_str_or_null();
    let filed = filed.map_err(|_| Fault::Unreadable(MOVED))?;
    if filed != event.tenant.as_ref().map(TenantId::as_str) {
        return Err(Fault::Unreadable(MOVED));
    }
    Ok(SealedEvent {
        number: unsigned(row.get(0)?)?,
        event,
        hash: row.get(2)?,
    })
}
