//! Following the store's news.
//!
//! A round is a question and its answer: its start is taken down before the question is put, and it counts once all
//! that the answer tells has been applied, and the answer has told all there was. While rounds come, what was read
//! stays good without a read; when they stay away, it is read again.

use std::time::Duration;

use super::Core;
use super::reads::within;
use crate::store::{Changed, Cursor, FeedPage, KeyStore as _, StoreError};
use crate::sync::{Planted, planted};

/// How much longer than it was asked to wait a store may take for an answer before it is asked anew.
const GRACE: Duration = Duration::from_secs(10);

/// The least time between two rounds.
const BREATH: Duration = Duration::from_millis(5);

/// The wait after a failed round.
const PAUSE: Duration = Duration::from_millis(200);

impl Core {
    /// Follows the news, for as long as it is polled.
    pub(super) async fn follow(&self) {
        let lease = Duration::from_nanos(self.slots.lease.bound());
        // So that a round ends well before the one before it grows old.
        let most = match lease {
            Duration::ZERO => Duration::from_secs(1), // It vouches for nothing, and wakes those who wait.
            lease => (lease / 5).clamp(Duration::from_millis(1), Duration::from_secs(5)),
        };
        let mut cursor = None;
        let mut wait = Duration::ZERO;
        loop {
            match self.round(&mut cursor, wait).await {
                Ok(true) => wait = Duration::ZERO,
                Ok(false) => {
                    wait = most;
                    // News that come thick are told together, and a store that never waits is not asked without end.
                    tokio::time::sleep(BREATH.min(most)).await;
                }
                Err(_) => {
                    self.counters.feed_poll_failed();
                    wait = Duration::ZERO;
                    tokio::time::sleep(PAUSE.min(most)).await;
                }
            }
        }
    }

    /// Asks once, and applies what is told; whether there may be more already.
    pub(super) async fn round(
        &self,
        cursor: &mut Option<Cursor>,
        wait: Duration,
    ) -> Result<bool, StoreError> {
        let began = self.slots.now();
        let page = within(
            wait + GRACE,
            self.parts.store.changes(cursor.as_ref(), wait),
        )
        .await;
        let page =
            page.unwrap_or_else(|| Err(StoreError::Unavailable("no answer in time".into())))?;
        let began = if planted(Planted::StampAfterAnswer) {
            self.slots.now()
        } else {
            began
        };
        let (next, has_more) = match page {
            FeedPage::Resync { next } => {
                if !planted(Planted::HistoryForgotten) || self.slots.lease.history() == 0 {
                    self.slots.lease.begin_history();
                }
                self.slots.watchers.wake_all();
                (next, false)
            }
            FeedPage::Next {
                items,
                next,
                has_more,
            } => {
                if planted(Planted::RoundBeforeNews) {
                    self.complete(began);
                }
                items.iter().for_each(|item| self.apply(item));
                (next, has_more)
            }
        };
        *cursor = Some(next);
        if !has_more || planted(Planted::PartialRound) {
            self.complete(began);
        }
        Ok(has_more)
    }

    fn complete(&self, began: Result<u64, crate::clock::ClockError>) {
        // A round of which nobody knows when it began vouches for nothing.
        if let Ok(began) = began {
            self.slots.lease.complete_round(began);
            self.counters.feed_polled();
        }
    }

    fn apply(&self, item: &Changed) {
        match item {
            Changed::Key { id, revision } => self.slots.on_feed_change(*id, *revision),
            Changed::Cutoff { .. } if planted(Planted::CutoffPassedOver) => {}
            Changed::Cutoff { scope } => self.slots.cut_off(scope),
            Changed::EventsCut { .. } => {}
        }
    }
}
