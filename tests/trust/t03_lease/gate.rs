//! A store that tells its news when the test lets it, and holds its answers back for as long as the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::store::{Cursor, FeedPage, KeyStore, StoreError};
use tokio::sync::{Mutex, Notify, mpsc};

use crate::store::Store;

/// What is told of the news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// All there is.
    All,
    /// Nothing yet, but that there is more.
    MoreToCome,
    /// Nothing, and that this was all: what a broken store says.
    ThatWasAll,
    /// The history is lost.
    Lost,
    /// Nothing: the store fails.
    Failure,
}

#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) store: Store,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tell: mpsc::UnboundedSender<Tell>,
    told: Mutex<mpsc::UnboundedReceiver<Tell>>,
    /// Questions for news so far.
    asked: AtomicU64,
    holds: AtomicBool,
    loses: AtomicBool,
    held: AtomicU64,
    released: Notify,
}

impl Gate {
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            store: Store::new(),
            shared: Arc::new(Shared {
                tell,
                told: Mutex::new(told),
                asked: AtomicU64::new(0),
                holds: AtomicBool::new(false),
                loses: AtomicBool::new(false),
                held: AtomicU64::new(0),
                released: Notify::new(),
            }),
        }
    }

    /// Answers one question for news, and waits for the next.
    pub(super) async fn tell(&self, what: Tell) {
        let asked = self.is_asked(0).await;
        self.shared.tell.send(what).unwrap();
        self.is_asked(asked).await;
    }

    /// Waits until more questions than these have been asked; how many.
    async fn is_asked(&self, before: u64) -> u64 {
        loop {
            let asked = self.shared.asked.load(Ordering::SeqCst);
            if asked > before {
                return asked;
            }
            tokio::task::yield_now().await;
        }
    }

    /// From now on no key is there.
    pub(super) fn lose_keys(&self) {
        self.shared.loses.store(true, Ordering::SeqCst);
    }

    /// From now on what is read is read at once, and not answered before it is let go.
    pub(super) fn hold_answers(&self) {
        self.shared.holds.store(true, Ordering::SeqCst);
    }

    /// Waits until this many answers are held back.
    pub(super) async fn is_holding(&self, answers: u64) {
        while self.shared.held.load(Ordering::SeqCst) < answers {
            tokio::task::yield_now().await;
        }
    }

    /// From now on what is read is answered again; what is held stays so.
    pub(super) fn hold_no_more(&self) {
        self.shared.holds.store(false, Ordering::SeqCst);
    }

    pub(super) fn let_go(&self) {
        self.hold_no_more();
        self.shared.released.notify_waiters();
    }
}

#[async_trait]
impl KeyStore for Gate {
    test_support::passes_on!(store: list tenants commit events usage);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let released = self.shared.released.notified();
        let mut answer = self.store.get(id).await;
        if self.shared.loses.load(Ordering::SeqCst) {
            answer = Ok(None);
        }
        if self.shared.holds.load(Ordering::SeqCst) {
            self.shared.held.fetch_add(1, Ordering::SeqCst);
            released.await;
        } else {
            // So that requests of one moment meet.
            tokio::task::yield_now().await;
        }
        answer
    }

    async fn changes(&self, after: Option<&Cursor>, _: Duration) -> Result<FeedPage, StoreError> {
        let Some(after) = after else {
            return self.store.changes(None, Duration::ZERO).await;
        };
        self.shared.asked.fetch_add(1, Ordering::SeqCst);
        let tell = self.shared.told.lock().await.recv().await.unwrap();
        let nothing = |has_more| FeedPage::Next {
            items: Vec::new(),
            next: after.clone(),
            has_more,
        };
        match tell {
            Tell::All => self.store.changes(Some(after), Duration::ZERO).await,
            Tell::MoreToCome => Ok(nothing(true)),
            Tell::ThatWasAll => Ok(nothing(false)),
            Tell::Lost => self.store.changes(None, Duration::ZERO).await,
            Tell::Failure => Err(StoreError::Unavailable("planted by the test".into())),
        }
    }
}
