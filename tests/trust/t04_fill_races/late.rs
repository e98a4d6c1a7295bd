//! A store whose answers come some time after it has made them, and whose commits do not depend on who asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::store::{
    ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, MemoryStore, Page,
    StoreError, UsageStore,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Late {
    store: MemoryStore,
    is_from_before: bool,
    is_in_background: bool,
    before: Arc<Mutex<HashMap<KeyId, StoredKey>>>,
    calls: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
    landed: Arc<AtomicU64>,
}

impl Late {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Planted: a read may be answered with what another read saw before.
    pub(super) fn answering_from_before(self) -> Self {
        Self {
            is_from_before: true,
            ..self
        }
    }

    /// A commit that has begun ends by itself, later, whoever goes away.
    pub(super) fn committing_in_the_background(self) -> Self {
        Self {
            is_in_background: true,
            ..self
        }
    }

    pub(super) fn inner(&self) -> &MemoryStore {
        &self.store
    }

    pub(super) fn commits_begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn commits_landed(&self) -> u64 {
        self.landed.load(Ordering::SeqCst)
    }

    /// Waits up to three polls, by turns.
    async fn dawdle(&self) {
        for _ in 0..self.calls.fetch_add(1, Ordering::SeqCst) % 4 {
            tokio::task::yield_now().await;
        }
    }

    async fn land(self, set: ChangeSet) -> Result<Committed, StoreError> {
        self.dawdle().await;
        let committed = self.store.commit(&set).await;
        self.landed.fetch_add(1, Ordering::SeqCst);
        self.dawdle().await;
        committed
    }
}

#[async_trait]
impl KeyStore for Late {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.dawdle().await;
        let mut answer = self.store.get(id).await?;
        if let (true, Some(now)) = (self.is_from_before, &answer) {
            let mut before = self.before.lock().unwrap();
            answer = before.insert(id, now.clone()).or(answer);
        }
        // What follows is what may come in between.
        self.dawdle().await;
        Ok(answer)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        self.store.list(query).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let landing = self.clone().land(set.clone());
        if self.is_in_background {
            tokio::spawn(landing).await.unwrap()
        } else {
            landing.await
        }
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        self.store.changes(after, wait).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        self.store.events()
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.store.usage()
    }
}
