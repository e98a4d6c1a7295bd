//! Removing old events.
//!
//! The manager verifies the log from its first event to its last before it removes any, so that a cut hides no
//! tampering. Each commit removes at most a thousand events and adds the one that records it: the write transactions
//! are short, and an interrupted call leaves a log that verifies.

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, broken_contract};
use crate::audit::{ChainBreak, ChainHead, Event, EventAction, FieldChange, LogCheck};
use crate::clock::rfc3339;
use crate::store::{Change, ChangeId, ChangeSet, EventLog, Outcome, StoreError};

/// Number of events in one read.
const PAGE: usize = 1_000;

/// Most events that one commit removes, not counting those dated after now.
const MOST: u64 = 1_000;

/// The result of a cut of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutEvents {
    /// Number of events that this call removed.
    pub events: u64,
}

impl KeyManager {
    /// Removes the events of all tenants that were recorded before an instant, and keeps the rest of the log
    /// [verifiable](crate::audit::verify_log).
    ///
    /// It removes only the oldest events, up to the first one that is dated at the instant or later: it never removes
    /// an event before one that was committed earlier. Events dated after now, by a clock that was wrong, do not keep
    /// the events before them, and go with the next event that is old enough.
    ///
    /// Each commit adds an event, [`EventAction::EventsCut`], with the numbers of the first and the last event that it
    /// removed, and the hash of the last. Keep the newest [head](ChainHead) outside the store before the cut: an older
    /// one can no longer be compared.
    ///
    /// The call reads and verifies the whole log first. Repeat it after an error or a crash: it continues.
    ///
    /// # Errors
    /// [`ManageError::Refused`] unless the actor acts for all tenants, or by policy; [`ManageError::InTheFuture`] if
    /// the instant has not come; [`ManageError::Clock`]; [`ManageError::Store`], with [`StoreError::Corrupt`] if the
    /// log does not verify, in which case nothing is removed, and [`StoreError::Unsupported`] from a store that keeps
    /// no events.
    pub async fn cut_events(
        &self,
        actor: &Actor,
        before: OffsetDateTime,
    ) -> Result<CutEvents, ManageError> {
        if !actor.acts_for_all() {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::CutEvents { before }).await?;
        let now = self.now()?;
        let before = self.past(before, now)?;
        let log = self.parts.store.events();
        let log = log.ok_or(StoreError::Unsupported)?;
        let redactor = self.parts.format.redactor();
        let mut cut = CutEvents { events: 0 };
        for (from, through) in due(log, before, now).await? {
            let mut fields = Event::cut_fields(from, through);
            fields.push(FieldChange::set("before", rfc3339(before)));
            let action = EventAction::EventsCut;
            let event = actor.event_of_many(now, action, None, fields, &redactor);
            let id = ChangeId::generate(&*self.parts.random);
            let set = ChangeSet::one(id, Change::CutEvents { through }).with_event(event);
            match self.commit(&set).await?.outcomes.as_slice() {
                [Outcome::EventsCut] => cut.events += through.events.saturating_sub(from) + 1,
                // Another call removed these events first.
                [Outcome::EventsNotCut] => {}
                _ => return Err(broken_contract()),
            }
        }
        Ok(cut)
    }
}

/// Verifies the whole log and returns the pieces to cut: for each, the number of its first event, and the head at its
/// last.
async fn due(
    log: &dyn EventLog,
    before: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Vec<(u64, ChainHead)>, StoreError> {
    let mut check = LogCheck::default();
    let broken = |broken: ChainBreak| StoreError::Corrupt(broken.into());
    let mut pieces: Vec<(u64, ChainHead)> = Vec::new();
    let (mut after, mut is_due, mut from) = (0, true, None);
    loop {
        let page = log.read(None, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for sealed in &page {
            check.add(sealed).map_err(broken)?;
            let (number, at) = (sealed.number, sealed.event.at);
            let first = *from.get_or_insert(number);
            is_due &= at < before || at > now;
            if !is_due || at > now {
                continue;
            }
            let through = sealed.head();
            match pieces.last_mut() {
                Some((start, end)) if number.saturating_sub(*start) < MOST => *end = through,
                _ => pieces.push((first, through)),
            }
            from = Some(number.saturating_add(1));
        }
    }
    check.end().map_err(broken)?;
    Ok(pieces)
}
