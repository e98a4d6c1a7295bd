//! Stores that do not keep the promise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey};
use keyward::random::OsRandom;
use keyward::store::{Change, ChangeId, ChangeSet, Committed, KeyStore, Outcome, StoreError};

use crate::store::{Store, opened_again};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Some reads are answered from a snapshot that was taken at the first.
    StaleReads,
    /// The last one to write a row wins, a revocation included.
    ReplaceUndoes,
    /// A new digest is written with the whole row around it, as it was read.
    RehashUndoes,
    /// A revocation is answered, and then done.
    AnswersEarly,
    /// What is cached is forgotten after the commit, by its caller.
    CacheToldLate,
    /// The changes of a set are committed one by one.
    SetIsTorn,
}

/// A store with one of these.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) inner: Store,
    bug: Bug,
    reads: Arc<AtomicU64>,
    seen: Arc<Mutex<HashMap<KeyId, StoredKey>>>,
    shown: Arc<Mutex<HashMap<KeyId, StoredKey>>>,
}

impl Broken {
    pub(super) fn with(bug: Bug) -> Self {
        Self {
            inner: Store::new(),
            bug,
            reads: Arc::default(),
            seen: Arc::default(),
            shown: Arc::default(),
        }
    }

    /// What another node sees of it.
    pub(super) fn opened_again(&self) -> Self {
        let inner = opened_again(&self.inner);
        Self {
            inner,
            ..self.clone()
        }
    }

    fn show(&self, row: StoredKey) {
        self.shown.lock().unwrap().insert(row.id, row);
    }

    async fn tear(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut all = Committed {
            position: 0,
            outcomes: Vec::new(),
        };
        for change in set.changes() {
            let one = ChangeSet::one(ChangeId::generate(&OsRandom), change.clone());
            all.outcomes.extend(self.inner.commit(&one).await?.outcomes);
            tokio::task::yield_now().await;
        }
        Ok(all)
    }
}

#[async_trait]
impl KeyStore for Broken {
    test_support::passes_on!(inner: list tenants changes events usage);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let row = self.inner.get(id).await?;
        let mut seen = self.seen.lock().unwrap();
        let (first, latest) = (seen.get(&id).cloned(), row.clone());
        if let Some(row) = latest.filter(|row| row.revocation.is_none()) {
            match self.bug {
                Bug::StaleReads | Bug::CacheToldLate => seen.entry(id).or_insert(row),
                _ => seen.entry(id).insert_entry(row).into_mut(),
            };
        }
        Ok(match self.bug {
            Bug::StaleReads if self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => row,
            Bug::StaleReads | Bug::CacheToldLate => first.or(row),
            _ => self.shown.lock().unwrap().get(&id).cloned().or(row),
        })
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let answer = |outcome| {
            let outcomes = vec![outcome; set.changes().len()];
            Ok(Committed {
                position: 0,
                outcomes,
            })
        };
        match (self.bug, set.changes()) {
            (Bug::AnswersEarly, [Change::Revoke { .. }, ..]) => {
                let (store, set) = (self.inner.clone(), set.clone());
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    store.commit(&set).await
                });
                answer(Outcome::Revoked)
            }
            (Bug::ReplaceUndoes, [Change::Replace { with, .. }]) => {
                match self.inner.commit(set).await {
                    Err(StoreError::Conflict) => {
                        self.show((**with).clone());
                        answer(Outcome::Replaced)
                    }
                    other => other,
                }
            }
            (Bug::RehashUndoes, [Change::Rehash { id, to, .. }]) => {
                let committed = self.inner.commit(set).await?;
                let seen = self.seen.lock().unwrap().get(id).cloned();
                if let Some(mut row) = seen {
                    row.digest = to.clone();
                    self.show(row);
                }
                Ok(committed)
            }
            (Bug::CacheToldLate, changes) => {
                let committed = self.inner.commit(set).await;
                tokio::task::yield_now().await;
                let ids = changes.iter().filter_map(Change::key_id);
                ids.for_each(|id| drop(self.seen.lock().unwrap().remove(&id)));
                committed
            }
            (Bug::SetIsTorn, _) => self.tear(set).await,
            _ => self.inner.commit(set).await,
        }
    }
}
