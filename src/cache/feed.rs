//! Following the store's change feed.
//!
//! A round is one poll of the feed. Its start is recorded before the store is asked. It completes once its changes have
//! been applied, and the store has no more. While rounds complete, cached reads stay valid without another read;
//! without rounds, the verifier reads keys again.

use std::sync::Arc;
use std::time::Duration;

use super::fenced_store::FencedStore;
use super::slots::Slots;
use crate::clock::ClockError;
use crate::store::{Changed, Cursor, FeedPage, KeyStore as _, StoreError};
use crate::sync::{AtomicU64, Ordering, within};

/// How much longer than the requested wait a store may take for an answer before the verifier polls again.
const GRACE: Duration = Duration::from_secs(10);

/// The least time between two rounds.
const BREATH: Duration = Duration::from_millis(5);

/// The wait after a failed round.
const PAUSE: Duration = Duration::from_millis(200);

/// The store's change feed, as this node follows it.
pub(super) struct Feed {
    slots: Arc<Slots>,
    store: Arc<FencedStore>,
    /// Polls that were applied since the start.
    pub(super) polls: AtomicU64,
    /// Polls that failed.
    pub(super) failures: AtomicU64,
}

impl Feed {
    pub(super) fn new(slots: Arc<Slots>, store: Arc<FencedStore>) -> Self {
        Self {
            slots,
            store,
            polls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Follows the feed for as long as the future is polled.
    pub(crate) async fn follow(&self) {
        let lease = Duration::from_nanos(self.slots.lease.bound());
        // So that a round ends well before the previous one expires.
        let most = match lease {
            Duration::ZERO => Duration::from_secs(1), // It vouches for no read, and wakes requests that wait.
            lease => (lease / 5).clamp(Duration::from_millis(1), Duration::from_secs(5)),
        };
        let mut cursor = None;
        let mut wait = Duration::ZERO;
        loop {
            match self.round(&mut cursor, wait).await {
                Ok(true) => wait = Duration::ZERO,
                Ok(false) => {
                    wait = most;
                    // Frequent changes arrive in one page, and a store that never waits is not polled in a tight loop.
                    tokio::time::sleep(BREATH.min(most)).await;
                }
                Err(_) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    wait = Duration::ZERO;
                    tokio::time::sleep(PAUSE.min(most)).await;
                }
            }
        }
    }

    /// Polls once and applies the changes; returns whether there may be more already.
    pub(crate) async fn round(
        &self,
        cursor: &mut Option<Cursor>,
        wait: Duration,
    ) -> Result<bool, StoreError> {
        let began = self.slots.lease.now();
        let page = within(wait + GRACE, self.store.changes(cursor.as_ref(), wait)).await;
        let page =
            page.unwrap_or_else(|| Err(StoreError::Unavailable("no answer in time".into())))?;
        let (next, has_more) = match page {
            FeedPage::Resync { next } => {
                self.slots.lease.begin_history();
                self.slots.watchers.wake_all();
                (next, false)
            }
            FeedPage::Next {
                items,
                next,
                has_more,
            } => {
                items.iter().for_each(|item| self.apply(item));
                (next, has_more)
            }
        };
        *cursor = Some(next);
        if !has_more {
            self.complete(began);
        }
        Ok(has_more)
    }

    fn complete(&self, began: Result<u64, ClockError>) {
        // A round with an unknown start vouches for no read.
        if let Ok(began) = began {
            self.slots.lease.complete_round(began);
            self.polls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn apply(&self, item: &Changed) {
        match item {
            Changed::Key { id, revision } => self.slots.on_feed_change(*id, *revision),
            Changed::Cutoff { scope } => self.slots.cut_off(scope),
            Changed::EventsCut { .. } => {}
        }
    }
}
