//! A store whose answers come some time after it has made them, and whose commits do not depend on who asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::store::{Change, ChangeSet, Committed, KeyStore, StoreError};
use tokio::sync::Semaphore;

use crate::store::Store;

#[derive(Debug, Clone, Default)]
pub(super) struct Late {
    store: Store,
    is_from_before: bool,
    /// Lets revocations land, one a permit.
    gate: Option<Arc<Semaphore>>,
    before: Arc<Mutex<HashMap<KeyId, StoredKey>>>,
    calls: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
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

    /// A commit that has begun ends by itself, whoever goes away; one that revokes, once it is let.
    pub(super) fn holding_revocations(self) -> Self {
        Self {
            gate: Some(Arc::new(Semaphore::new(0))),
            ..self
        }
    }

    /// Lets one revocation land that has begun, or that begins next.
    pub(super) fn let_one_land(&self) {
        if let Some(gate) = &self.gate {
            gate.add_permits(1);
        }
    }

    pub(super) fn inner(&self) -> &Store {
        &self.store
    }

    pub(super) fn commits_begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Waits up to three polls, by turns.
    async fn dawdle(&self) {
        for _ in 0..self.calls.fetch_add(1, Ordering::SeqCst) % 4 {
            tokio::task::yield_now().await;
        }
    }

    async fn land(self, set: ChangeSet) -> Result<Committed, StoreError> {
        let mut changes = set.changes().iter();
        if let Some(gate) = &self.gate
            && changes.any(|change| matches!(change, Change::Revoke { .. }))
        {
            gate.acquire().await.unwrap().forget();
        }
        self.dawdle().await;
        let committed = self.store.commit(&set).await;
        self.dawdle().await;
        committed
    }
}

#[async_trait]
impl KeyStore for Late {
    test_support::passes_on!(store: list tenants changes events usage);

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

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let landing = self.clone().land(set.clone());
        if self.gate.is_some() {
            tokio::spawn(landing).await.unwrap()
        } else {
            landing.await
        }
    }
}
