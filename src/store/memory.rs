//! The in-memory backend.

mod state;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::state::State;
use super::{
    ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Page,
    StoreError, Usage, UsageStore,
};
use crate::audit::SealedEvent;
use crate::key::{KeyId, StoredKey, TenantId};

/// Store in this process's memory, for tests and for applications that issue their keys anew at each start.
///
/// Clones share their keys. The store writes nothing to disk: its contents end with the process. It keeps keys, events
/// and the ids of commits as long as it lives, and the last 65,536 changes of the feed. Waiting for a change needs a
/// tokio runtime with its timer enabled.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<RwLock<State>>,
    /// The position after the last commit, for calls that wait for one.
    position: Arc<watch::Sender<u64>>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::new(RwLock::new(State::new())),
            position: Arc::new(watch::Sender::new(0)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // INVARIANT: a commit is checked whole before the first change, and no code between changes panics.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut state)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        Ok(self.read().get(id))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        Ok(self.read().list(query))
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.read().tenants(after, limit))
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let committed = self.write(|state| state.commit(set))?;
        self.position.send_if_modified(|position| {
            let moved = *position < committed.position;
            *position = committed.position.max(*position);
            moved
        });
        Ok(committed)
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        // Subscribed before the first read, so that no commit falls between the two.
        let mut position = self.position.subscribe();
        let page = self.read().changes(after);
        match &page {
            FeedPage::Next { items, .. } if items.is_empty() && !wait.is_zero() => {}
            _ => return Ok(page),
        }
        if Handle::try_current().is_err() {
            return Err(StoreError::Unavailable(
                "waiting needs a tokio runtime".into(),
            ));
        }
        // Either outcome only says when to read again.
        let _ = tokio::time::timeout(wait, position.changed()).await;
        Ok(self.read().changes(after))
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }
}

#[async_trait]
impl EventLog for MemoryStore {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        Ok(Self::read(self).events(tenant, after, limit))
    }
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        self.write(|state| state.merge_usage(id, batch));
        Ok(())
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        let state = Self::read(self);
        Ok(ids.iter().map(|id| state.usage(*id)).collect())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.read();
        f.debug_struct("MemoryStore")
            .field("keys", &state.key_count())
            .field("position", &state.position())
            .finish_non_exhaustive()
    }
}
