//! Reading the events of a tenant and of a key, and removing old ones.
//!
//! Before it removes any, the manager verifies the log from its first event to its last, so that a cut hides no
//! tampering. Each commit removes at most a thousand events and adds the one that records it: the write transactions
//! are short, and an interrupted call leaves a log that verifies.

use serde::Serialize;
use time::OffsetDateTime;

use super::revoke::past;
use super::{Authorized, ManageError, OnKey, broken_store};
use crate::audit::{ChainBreak, ChainHead, Event, EventAction, FieldChange, LogCheck, SealedEvent};
use crate::clock::rfc3339;
use crate::key::TenantId;
use crate::store::{Change, EventLog, Outcome, StoreError};

/// Most events in one read.
const PAGE: usize = 1_000;

/// Most pages of a tenant's events that one call searches for those of a key.
const MOST_PAGES: u32 = 10;

/// Most events that one commit removes, not counting those dated after now.
const MOST_CUT: u64 = 1_000;

/// A page of the events of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyEvents {
    /// The events, in commit order.
    pub events: Vec<SealedEvent>,
    /// The number after which to continue. `None` if there are no further events.
    pub next: Option<u64>,
}

impl OnKey<'_> {
    pub(super) async fn events(self, after: u64, limit: usize) -> Result<KeyEvents, ManageError> {
        let Self { by, stored, .. } = self;
        let limit = limit.clamp(1, PAGE);
        let (mut events, mut reached) = (Vec::new(), after);
        for _ in 0..MOST_PAGES {
            let page = by.events(&stored.tenant, reached, PAGE).await?;
            if page.is_empty() {
                return Ok(KeyEvents { events, next: None });
            }
            for sealed in page {
                if sealed.number <= reached {
                    let cause = "the store's events do not go on";
                    return Err(ManageError::Store(StoreError::Corrupt(cause.into())));
                }
                reached = sealed.number;
                if sealed.event.key == Some(stored.id) {
                    events.push(sealed);
                }
                if events.len() == limit {
                    let next = Some(reached);
                    return Ok(KeyEvents { events, next });
                }
            }
            // Lets other tasks run.
            tokio::task::yield_now().await;
        }
        let next = Some(reached);
        Ok(KeyEvents { events, next })
    }
}

impl Authorized<'_> {
    pub(super) async fn events(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, ManageError> {
        let log = self.event_log()?;
        let events = log.read(Some(tenant), after, limit.min(PAGE)).await?;
        let is_of_tenant = |sealed: &SealedEvent| sealed.event.tenant.as_ref() == Some(tenant);
        if !events.iter().all(is_of_tenant) {
            return Err(ManageError::Store(StoreError::Corrupt(
                "the store read another tenant's events".into(),
            )));
        }
        Ok(events)
    }

    pub(super) async fn cut_events(&self, before: OffsetDateTime) -> Result<u64, ManageError> {
        let now = self.now()?;
        let before = past(before, now)?;
        let mut cut = 0;
        for (from, through) in due(self.event_log()?, before, now).await? {
            let mut fields = Event::cut_fields(from, through);
            fields.push(FieldChange::set("before", rfc3339(before)));
            let event = self.event(now, EventAction::EventsCut, None, fields);
            match self
                .commit_one(Change::CutEvents { through }, event)
                .await?
            {
                Outcome::EventsCut => cut += through.events.saturating_sub(from) + 1,
                // Another call removed these events first.
                Outcome::EventsNotCut => {}
                _ => return Err(broken_store().into()),
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
                Some((start, end)) if number.saturating_sub(*start) < MOST_CUT => *end = through,
                _ => pieces.push((first, through)),
            }
            from = Some(number.saturating_add(1));
        }
    }
    check.end().map_err(broken)?;
    Ok(pieces)
}
