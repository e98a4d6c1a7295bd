//! Stores that do not keep the promise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Committed, KeyStore, StoreError, Usage, UsageStore,
};

use crate::store::Store;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// The changes of a set are committed one by one.
    SetIsTorn,
    /// A lock is given back by the commit itself, not by what is dropped with it.
    LockIsKept,
    /// What is cached is forgotten after the commit, by its caller.
    CacheToldLate,
    /// A batch of usage that was merged is merged again.
    UsageCountsTwice,
}

/// A store with one of these in front of it.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    inner: Store,
    bug: Bug,
    locked: Arc<AtomicBool>,
    cache: Arc<Mutex<HashMap<KeyId, StoredKey>>>,
}

impl Broken {
    pub(super) fn with(bug: Bug, inner: Store) -> Self {
        Self {
            inner,
            bug,
            locked: Arc::default(),
            cache: Arc::default(),
        }
    }

    async fn tear(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut all = Committed {
            position: 0,
            outcomes: Vec::new(),
        };
        for (index, change) in set.changes().iter().enumerate() {
            let one = ChangeSet::one(ChangeId::generate(&OsRandom), change.clone());
            let events = set.events().filter(|(of, _)| *of == index);
            let one = events.fold(one, |one, (_, event)| one.with_event(event.clone()));
            all.outcomes.extend(self.inner.commit(&one).await?.outcomes);
            tokio::task::yield_now().await;
        }
        Ok(all)
    }
}

#[async_trait]
impl KeyStore for Broken {
    test_support::passes_on!(inner: list tenants changes events);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let row = self.inner.get(id).await?;
        if self.bug != Bug::CacheToldLate {
            return Ok(row);
        }
        let mut cache = self.cache.lock().unwrap();
        Ok(row.map(|row| cache.entry(id).or_insert(row).clone()))
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        match self.bug {
            Bug::SetIsTorn => self.tear(set).await,
            Bug::LockIsKept => {
                if self.locked.swap(true, Ordering::SeqCst) {
                    return Err(StoreError::Unavailable("locked".into()));
                }
                tokio::task::yield_now().await;
                let committed = self.inner.commit(set).await;
                self.locked.store(false, Ordering::SeqCst);
                committed
            }
            Bug::CacheToldLate => {
                let committed = self.inner.commit(set).await;
                tokio::task::yield_now().await;
                let mut cache = self.cache.lock().unwrap();
                let ids = set.changes().iter().filter_map(Change::key_id);
                ids.for_each(|id| drop(cache.remove(&id)));
                committed
            }
            Bug::None | Bug::UsageCountsTwice => self.inner.commit(set).await,
        }
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }
}

#[async_trait]
impl UsageStore for Broken {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        let anew = ChangeId::generate(&OsRandom);
        let is_anew = self.bug == Bug::UsageCountsTwice;
        let usage = self.inner.usage().unwrap();
        usage.merge(if is_anew { anew } else { id }, batch).await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        self.inner.usage().unwrap().read(ids).await
    }
}
