//! Cases about calls that the caller abandons by dropping the future.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::material::{
    Store, Verdict, commit, event, existing, get, head, insert, key, news, replace, revoke, set,
    tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::store::{Cursor, ListQuery, Outcome};

/// Exclusive upper bound of the polls after which a call is dropped.
const POLLS: u32 = 40;

/// Polls the future up to this many times, as often as it asks to be polled, and drops it. Returns whether it
/// completed.
async fn dropped_after<T>(polls: u32, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            // Drops it directly after its last poll, not when it is next woken.
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The visible effects of a set.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inserted: bool,
    replaced: bool,
    revoked: bool,
    published: usize,
}

impl Seen {
    fn is_whole(&self) -> bool {
        let parts = [
            self.inserted,
            self.replaced,
            self.revoked,
            self.published == 3,
        ];
        parts.iter().all(|done| *done) || (parts.iter().all(|done| !done) && self.published == 0)
    }
}

async fn look(store: &Store, old: u128, new: u128, before: &Cursor) -> Result<Seen, Failure> {
    let stored = existing(store, old).await?;
    Ok(Seen {
        inserted: get(store, new).await?.is_some(),
        replaced: stored.revision == 3,
        revoked: stored.revocation.is_some(),
        published: news(store, before).await?.len(),
    })
}

/// Waits until the visible effects are whole, and returns them. The work of a dropped call may continue for a while,
/// and the reads happen at different moments.
async fn settled(store: &Store, old: u128, new: u128, before: &Cursor) -> Result<Seen, Failure> {
    let mut seen = look(store, old, new, before).await?;
    for _ in 0..500 {
        if seen.is_whole() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = look(store, old, new, before).await?;
    }
    Ok(seen)
}

pub(super) async fn a_dropped_commit_is_done_or_not(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for polls in 0..POLLS {
        let (old, new) = (u128::from(polls) * 2, u128::from(polls) * 2 + 1);
        commit(&store, insert(key(old)?)).await?;
        let before = head(&store).await?;
        let changes = [insert(key(new)?), replace(old, 1, "new")?, revoke(old)?];
        let whole = set(changes)?.with_event_of(0, event(new)?);
        let ended = dropped_after(polls, store.commit(&whole)).await;
        let seen = settled(&store, old, new, &before).await?;
        check!(
            seen.is_whole(),
            "after {polls} polls a part is done: {seen:?}"
        );
        check!(seen.inserted || !ended, "what came to its end is done");
        // No lock is held: the same set and others can be committed, and a set takes effect once.
        let again = tokio::time::timeout(Duration::from_secs(60), store.commit(&whole));
        let again = again.await.map_err(|_| {
            Failure::new(format!("after {polls} polls something is still locked"))
        })??;
        let all = [Outcome::Inserted, Outcome::Replaced, Outcome::Revoked];
        check_eq!(
            again.outcomes,
            all,
            "the retry of a dropped commit says what the first did"
        );
        let seen = look(&store, old, new, &before).await?;
        check!(
            seen.inserted && seen.is_whole(),
            "and does it once: {seen:?}"
        );
    }
    Ok(())
}

pub(super) async fn a_dropped_read_leaves_nothing_open(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(0)?)).await?;
    let end = head(&store).await?;
    for polls in 0..POLLS {
        let _ = dropped_after(polls, store.get(key(0)?.id)).await;
        let _ = dropped_after(polls, store.list(&ListQuery::of(&tenant("t")?))).await;
        let _ = dropped_after(polls, store.changes(Some(&end), Duration::ZERO)).await;
        // A call that waits for feed items needs a timeout, since no write wakes it.
        let waiting = store.changes(Some(&end), Duration::from_secs(60));
        let _ = tokio::time::timeout(Duration::from_millis(1), waiting).await;
    }
    let shared = Arc::clone(&store);
    let writing = async move {
        let changes = replace(0, 1, "new")?;
        commit(&shared, changes).await
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), writing).await;
    let outcome = outcome.map_err(|_| Failure::new("dropped reads hold up a commit"))??;
    check_eq!(
        outcome,
        Outcome::Replaced,
        "a commit after many dropped reads"
    );
    Ok(())
}
