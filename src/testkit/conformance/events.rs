//! What the log of events holds, where the store keeps one.

use std::sync::Arc;

use super::material::{Verdict, event, insert, key, revoke, set, tenant};
use super::{Failure, Suite, check, check_eq};
use crate::audit::{ChainHead, Event, verify_chain};

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
    let numbers: Vec<_> = events.iter().map(|sealed| sealed.number).collect();
    let expected: Vec<u64> = (1..=80).collect();
    check_eq!(numbers, expected, "numbered from 1, without a gap");
    let head = verify_chain(ChainHead::default(), &events)?;
    check_eq!(head.events, 80, "the chain holds");
    for (index, sealed) in events.iter().enumerate() {
        let id = sealed.event.key.map(|id| id.as_u128());
        let first = events.iter().position(|other| other.event == sealed.event);
        check!(first <= Some(index) && id.is_some(), "as they were given");
    }
    Ok(())
}

pub(super) async fn an_event_is_recorded_if_its_change_is_news(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    store
        .commit(&set([insert(key(1)?), insert(key(2)?)])?)
        .await?;
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

pub(super) async fn events_are_read_by_tenant_and_page_by_page(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(log) = store.events() else {
        return Ok(());
    };
    // Of two tenants by turns, and of nobody's.
    for id in 0..9_u128 {
        let tenant = match id % 3 {
            0 => Some(tenant("t")?),
            1 => Some(tenant("u")?),
            _ => None,
        };
        let told = Event {
            tenant,
            ..event(id)?
        };
        store
            .commit(&set([insert(key(id)?)])?.with_event(told))
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
                read.extend(page.iter().map(|sealed| sealed.number));
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
