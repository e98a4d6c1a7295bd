//! Usage that this node has seen and not yet handed to the store.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use super::{ChangeId, KeyStore, StoreError, Usage};
use crate::key::KeyId;
use crate::random::RandomSource;

/// Most keys in one batch.
const BATCH: usize = 1_000;

/// Usage that is still to be merged into the store, key by key.
///
/// Only keys whose secret was proven have an entry, so that strangers cannot make it grow. Batches that were begun
/// keep their id until the store has taken them, so that an answer that was lost counts nothing twice.
pub(crate) struct PendingUsage {
    store: Arc<dyn KeyStore>,
    state: Mutex<State>,
}

type Batch = Arc<(ChangeId, Vec<(KeyId, Usage)>)>;

#[derive(Default)]
struct State {
    seen: HashMap<KeyId, Usage>,
    begun: VecDeque<Batch>,
}

impl PendingUsage {
    pub(crate) fn new(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            state: Mutex::default(),
        }
    }

    /// Takes down one request, if the store keeps usage at all.
    pub(crate) fn record(&self, key: KeyId, at: OffsetDateTime, is_granted: bool) {
        if self.store.usage().is_none() {
            return;
        }
        let one = Usage {
            last_used_at: at,
            granted: u64::from(is_granted),
            refused: u64::from(!is_granted),
        };
        let mut state = self.state();
        let usage = state.seen.entry(key).or_insert(Usage {
            granted: 0,
            refused: 0,
            ..one
        });
        *usage = usage.merged(one);
    }

    /// Hands all that was seen to the store; for how many keys.
    pub(crate) async fn flush(&self, random: &dyn RandomSource) -> Result<usize, StoreError> {
        let usage = self.store.usage().ok_or(StoreError::Unsupported)?;
        let mut keys = 0;
        while let Some(batch) = self.next_batch(random) {
            let (id, entries) = &*batch;
            usage.merge(*id, entries).await?;
            keys += entries.len();
            // By id: another flush may have brought the same batch home.
            self.state().begun.retain(|begun| begun.0 != *id);
        }
        Ok(keys)
    }

    /// How these keys have been used, as far as the store and this node know; none if the store keeps no usage.
    pub(crate) async fn read(
        &self,
        ids: &[KeyId],
    ) -> Result<Option<Vec<Option<Usage>>>, StoreError> {
        let Some(usage) = self.store.usage() else {
            return Ok(None);
        };
        let stored = usage.read(ids).await?;
        if stored.len() != ids.len() {
            return Err(StoreError::Corrupt(
                "the store's usage does not match the keys".into(),
            ));
        }
        let state = self.state();
        let known = ids.iter().zip(stored).map(|(id, stored)| {
            let seen = state.seen.get(id).copied();
            // What is on its way may be in the store already: only its instant can be counted twice without harm.
            let begun = state.begun.iter().flat_map(|batch| &batch.1);
            let begun = begun.filter(|(key, _)| key == id).map(|(_, usage)| Usage {
                granted: 0,
                refused: 0,
                ..*usage
            });
            stored
                .into_iter()
                .chain(seen)
                .chain(begun)
                .reduce(Usage::merged)
        });
        Ok(Some(known.collect()))
    }

    fn next_batch(&self, random: &dyn RandomSource) -> Option<Batch> {
        let mut state = self.state();
        if let Some(begun) = state.begun.front() {
            return Some(Arc::clone(begun));
        }
        let ids: Vec<_> = state.seen.keys().take(BATCH).copied().collect();
        let entries = ids
            .into_iter()
            .filter_map(|id| Some((id, state.seen.remove(&id)?)));
        let entries: Vec<_> = entries.collect();
        if entries.is_empty() {
            return None;
        }
        let batch = Arc::new((ChangeId::generate(random), entries));
        state.begun.push_back(Arc::clone(&batch));
        Some(batch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PendingUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("PendingUsage")
            .field("keys", &state.seen.len())
            .field("batches", &state.begun.len())
            .finish_non_exhaustive()
    }
}
