//! Cases about the event log, for stores that keep one.

use std::sync::Arc;

use super::material::{
    Store, Verdict, check_refused, event, head, insert, inserts, key, news, only, revoke, set,
    tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::audit::{ChainHead, Event, EventAction, SealedEvent, verify_chain, verify_log};
use crate::store::{Change, ChangeSet, Changed, EventLog, Outcome, StoreError};

pub(super) async fn events_are_chained_in_commit_order(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    let mut tasks = Vec::new();
    for task in 0..4_u128 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            for n in 0..10 {
                let id = task * 10 + n;
                let issued = set([insert(key(id)?)])?.with_event(event(id)?);
                store.commit(&issued).await?;
                let revoked = set([revoke(id)?])?.with_event(event(id)?);
                store.commit(&revoked).await?;
            }
            Ok::<_, Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let events = log.read(None, 0, 1_000).await?;
    check_eq!(events.len(), 80, "an event for each commit");
    let expected: Vec<u64> = (1..=80).collect();
    check_eq!(numbers(&events), expected, "numbered from 1, without a gap");
    let head = verify_chain(ChainHead::default(), &events)?;
    check_eq!(head.events, 80, "the chain holds");
    for (index, sealed) in events.iter().enumerate() {
        let id = sealed.event.key.map(|id| id.as_u128());
        let first = events.iter().position(|other| other.event == sealed.event);
        check!(first <= Some(index) && id.is_some(), "as they were given");
    }
    Ok(())
}

pub(super) async fn only_effective_changes_are_recorded(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    store.commit(&inserts(1..3)?).await?;
    store.commit(&set([revoke(1)?])?).await?;
    check!(
        log.read(None, 0, 10).await?.is_empty(),
        "a change without an event has none"
    );
    let mixed = set([revoke(1)?, revoke(2)?, revoke(3)?])?
        .with_event_of(0, event(1)?)
        .with_event_of(1, event(2)?)
        .with_event_of(2, event(3)?)
        .with_event_of(9, event(9)?);
    store.commit(&mixed).await?;
    let events = log.read(None, 0, 10).await?;
    let recorded: Vec<_> = events.into_iter().map(|sealed| sealed.event).collect();
    check_eq!(
        recorded,
        [event(2)?],
        "only what changed anything is recorded"
    );
    Ok(())
}

pub(super) async fn events_are_read_by_tenant_in_pages(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    // Events of two tenants and of no tenant, in turn.
    for id in 0..9_u128 {
        let tenant = match id % 3 {
            0 => Some(tenant("t")?),
            1 => Some(tenant("u")?),
            _ => None,
        };
        let recorded = Event {
            tenant,
            ..event(id)?
        };
        store
            .commit(&set([insert(key(id)?)])?.with_event(recorded))
            .await?;
    }
    for (of, expected) in [
        (None, (1..=9).collect::<Vec<u64>>()),
        (Some("t"), vec![1, 4, 7]),
        (Some("u"), vec![2, 5, 8]),
        (Some("nobody"), vec![]),
    ] {
        let of = of.map(tenant).transpose()?;
        for limit in 1..5 {
            let (mut read, mut after) = (Vec::new(), 0);
            loop {
                let page = log.read(of.as_ref(), after, limit).await?;
                check!(
                    page.len() <= limit,
                    "a page of {limit} holds {}",
                    page.len()
                );
                let Some(last) = page.last() else { break };
                after = last.number;
                read.extend(numbers(&page));
            }
            check_eq!(read, expected, "events of {of:?}, {limit} to a page");
        }
    }
    check!(
        log.read(None, u64::MAX, 5).await?.is_empty(),
        "none after the last"
    );
    check!(log.read(None, 0, 0).await?.is_empty(), "none are asked for");
    Ok(())
}

/// Returns a set that cuts the log, with the event that records it.
fn cut(through: ChainHead) -> Result<ChangeSet, Failure> {
    let recorded = Event {
        tenant: None,
        action: EventAction::EventsCut,
        key: None,
        title: None,
        changes: Event::cut_fields(1, through),
        ..event(0)?
    };
    Ok(set([Change::CutEvents { through }])?.with_event(recorded))
}

/// Issues keys with an event each, for `t` and `u` in turn.
async fn issue(store: &Store, ids: std::ops::Range<u128>) -> Verdict {
    for id in ids {
        let of = if id % 2 == 0 { "t" } else { "u" };
        let recorded = Event {
            tenant: Some(tenant(of)?),
            ..event(id)?
        };
        store
            .commit(&set([insert(key(id)?)])?.with_event(recorded))
            .await?;
    }
    Ok(())
}

async fn all(log: &dyn EventLog) -> Result<Vec<SealedEvent>, Failure> {
    Ok(log.read(None, 0, 10_000).await?)
}

fn numbers(events: &[SealedEvent]) -> Vec<u64> {
    events.iter().map(|sealed| sealed.number).collect()
}

/// Returns the chain head after this event.
fn head_at(events: &[SealedEvent], number: u64) -> Result<ChainHead, Failure> {
    let mut events = events.iter().map(SealedEvent::head);
    let found = events.find(|head| head.events == number);
    found.ok_or_else(|| Failure::new(format!("event {number} is missing")))
}

pub(super) async fn the_rest_of_a_cut_log_verifies(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    issue(&store, 0..10).await?;
    let before = head(&store).await?;
    let whole = all(log).await?;
    let first = cut(head_at(&whole, 4)?)?;
    let committed = store.commit(&first).await?;
    check_eq!(committed.outcomes, [Outcome::EventsCut], "four events");
    check_eq!(store.commit(&first).await?, committed, "and once");
    let rest = all(log).await?;
    check_eq!(numbers(&rest), [5, 6, 7, 8, 9, 10, 11], "the rest");
    check_eq!(rest.get(..6), whole.get(4..), "as it was");
    verify_log(&rest)?;
    let items = news(&store, &before).await?;
    check_eq!(items, [Changed::EventsCut { through: 4 }], "the feed");
    // Events keep their numbers, and a page may begin after any number.
    for (of, after, expected) in [
        ("t", 0, vec![5, 7, 9]),
        ("t", 2, vec![5, 7, 9]),
        ("t", 5, vec![7, 9]),
        ("u", 0, vec![6, 8, 10]),
        ("u", 9, vec![10]),
    ] {
        let of = tenant(of)?;
        let read = log.read(Some(&of), after, 10).await?;
        check_eq!(numbers(&read), expected, "events of {of} after {after}");
    }
    check_eq!(
        numbers(&log.read(None, 1, 2).await?),
        [5, 6],
        "a page after an event that was cut"
    );
    // The chain continues and is cut again, including the record of the first cut.
    issue(&store, 10..12).await?;
    let again = all(log).await?;
    store.commit(&cut(head_at(&again, 12)?)?).await?;
    let rest = all(log).await?;
    check_eq!(numbers(&rest), [13, 14], "after the second cut");
    let end = verify_log(&rest)?;
    // Cut all events.
    store.commit(&cut(end)?).await?;
    let rest = all(log).await?;
    check_eq!(numbers(&rest), [15], "only the record of the last cut");
    verify_log(&rest)?;
    issue(&store, 12..13).await?;
    verify_log(&all(log).await?)?;
    check!(
        store.get(key(0)?.id).await?.is_some(),
        "a cut of events touches no key"
    );
    Ok(())
}

pub(super) async fn a_mismatched_cut_changes_nothing(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    issue(&store, 0..6).await?;
    let whole = all(log).await?;
    let position = head(&store).await?;
    let third = head_at(&whole, 3)?;
    let mut forged = third;
    forged.hash = head_at(&whole, 4)?.hash;
    for (through, what) in [
        (forged, "the hash of another event"),
        (ChainHead { events: 4, ..third }, "the number of another"),
        (ChainHead { events: 7, ..third }, "an event to come"),
        (
            ChainHead {
                events: u64::MAX,
                ..third
            },
            "no event ever",
        ),
        (ChainHead::default(), "the beginning"),
    ] {
        let outcome = only(store.commit(&cut(through)?).await?.outcomes)?;
        check_eq!(outcome, Outcome::EventsNotCut, "{what}");
        check_eq!(all(log).await?, whole, "{what}");
    }
    check_eq!(head(&store).await?, position, "nothing changed");
    // A set that fails cuts nothing.
    let fails = set([Change::CutEvents { through: third }, insert(key(1)?)])?;
    check_refused!(
        store,
        fails,
        StoreError::AlreadyExists,
        "it holds a key that exists"
    );
    check_eq!(all(log).await?, whole, "a set that failed");
    // Twice, under two ids.
    store.commit(&cut(third)?).await?;
    let rest = all(log).await?;
    let outcome = only(store.commit(&cut(third)?).await?.outcomes)?;
    check_eq!(outcome, Outcome::EventsNotCut, "it was cut before");
    check_eq!(all(log).await?, rest, "it was cut before");
    Ok(())
}

pub(super) async fn a_log_cut_during_writes_verifies(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    if store.events().is_none() {
        return Ok(());
    }
    let mut tasks = Vec::new();
    for task in 0..3_u128 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            issue(&store, task * 100..task * 100 + 20).await
        }));
    }
    for _ in 0..2 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let Some(log) = store.events() else {
                return Ok(());
            };
            for _ in 0..10 {
                let events = all(log).await?;
                verify_log(&events)?;
                if let Some(middle) = events.get(events.len() / 2) {
                    store.commit(&cut(middle.head())?).await?;
                }
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let Some(log) = store.events() else {
        return Ok(());
    };
    verify_log(&all(log).await?)?;
    issue(&store, 1_000..1_001).await?;
    verify_log(&all(log).await?)?;
    Ok(())
}
