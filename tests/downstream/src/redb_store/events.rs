//! The log of events.

use keyward::audit::{ChainHead, SealedEvent};
use keyward::key::TenantId;
use keyward::store::{ChangeSet, Changed, Outcome};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::tables::{EVENTS, TENANT_EVENTS, decode, encode};

const WHAT: &str = "an event";

/// Adds the events of a commit to the chain; the head after them.
pub(super) fn append(
    transaction: &WriteTransaction,
    set: &ChangeSet,
    head: ChainHead,
    outcomes: &[Outcome],
) -> Result<ChainHead, Fault> {
    let (sealed, next) = set.seal(head, outcomes);
    // All before the first is written, so that a chain is never left with half of them.
    let rows = sealed.iter().map(|event| encode(WHAT, event));
    let rows = match rows.collect::<Result<Vec<_>, _>>() {
        Ok(rows) => rows,
        // No failure of the log stops a revocation.
        Err(_) if only_revokes(outcomes) => return Ok(head),
        Err(unwritable) => return Err(unwritable),
    };
    let mut events = transaction.open_table(EVENTS)?;
    let mut by_tenant = transaction.open_table(TENANT_EVENTS)?;
    for (event, row) in sealed.iter().zip(rows) {
        events.insert(event.number, row.as_slice())?;
        if let Some(tenant) = &event.event.tenant {
            by_tenant.insert((tenant.as_str().as_bytes(), event.number), ())?;
        }
    }
    Ok(next)
}

/// Removes the events up to one, if it is stored with this hash.
pub(super) fn cut(
    transaction: &WriteTransaction,
    through: ChainHead,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    let mut events = transaction.open_table(EVENTS)?;
    let stored = match events.get(through.events)? {
        Some(row) => Some(decode::<SealedEvent>(WHAT, row.value())?),
        None => None,
    };
    if stored.is_none_or(|sealed| sealed.hash != through.hash) {
        return Ok(Outcome::EventsNotCut);
    }
    events.retain_in(..=through.events, |_, _| false)?;
    let mut by_tenant = transaction.open_table(TENANT_EVENTS)?;
    by_tenant.retain(|(_, number), ()| number > through.events)?;
    let through = through.events;
    news.push(Changed::EventsCut { through });
    Ok(Outcome::EventsCut)
}

fn only_revokes(outcomes: &[Outcome]) -> bool {
    let mut news = outcomes.iter().filter(|outcome| outcome.is_published());
    news.all(|outcome| *outcome == Outcome::Revoked)
}

/// Up to `limit` events after the number given, of one tenant or of all.
pub(super) fn read(
    transaction: &ReadTransaction,
    tenant: Option<&TenantId>,
    after: u64,
    limit: usize,
) -> Result<Vec<SealedEvent>, Fault> {
    let Some(first) = after.checked_add(1) else {
        return Ok(Vec::new());
    };
    let events = transaction.open_table(EVENTS)?;
    let Some(tenant) = tenant else {
        let rows = events.range(first..)?.take(limit);
        return rows.map(|row| decode(WHAT, row?.1.value())).collect();
    };
    let by_tenant = transaction.open_table(TENANT_EVENTS)?;
    let tenant = tenant.as_str().as_bytes();
    let places = by_tenant.range((tenant, first)..=(tenant, u64::MAX))?;
    let read_at = |number| {
        let row = events.get(number)?.ok_or(Fault::unreadable(WHAT))?;
        decode(WHAT, row.value())
    };
    let places = places.take(limit);
    places.map(|place| read_at(place?.0.value().1)).collect()
}
