//! A store that counts the reads under way, and hangs on ids that it does not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::store::{KeyStore, MemoryStore, StoreError};

#[derive(Debug, Clone)]
pub(super) struct Watched {
    store: MemoryStore,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    hangs_on_unknown: AtomicBool,
    holds: AtomicBool,
}

/// A read under way, until it is answered or dropped.
struct UnderWay<'a>(&'a Counts);

impl<'a> UnderWay<'a> {
    fn begin(counts: &'a Counts) -> Self {
        counts.asked.fetch_add(1, Ordering::SeqCst);
        let now = counts.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(counts)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watched {
    pub(super) fn over(store: MemoryStore) -> Self {
        Self {
            store,
            counts: Arc::default(),
        }
    }

    pub(super) fn asked(&self) -> u64 {
        self.counts.asked.load(Ordering::SeqCst)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.counts.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn most_in_flight(&self) -> u64 {
        self.counts.most_in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn hang_on_unknown(&self) {
        self.counts.hangs_on_unknown.store(true, Ordering::SeqCst);
    }

    /// Whether reads wait before they are made.
    pub(super) fn hold(&self, holds: bool) {
        self.counts.holds.store(holds, Ordering::SeqCst);
    }

    /// Waits until this many reads have begun.
    pub(super) async fn is_asked(&self, times: u64) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl KeyStore for Watched {
    test_support::passes_on!(store: list tenants commit changes events usage);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let _under_way = UnderWay::begin(&self.counts);
        while self.counts.holds.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let answer = self.store.get(id).await?;
        if answer.is_none() && self.counts.hangs_on_unknown.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}
