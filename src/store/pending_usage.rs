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

impl State {
    /// What this node knows of a key's use. What is on its way may be in the store already: of that, only the instant
    /// can be counted twice without harm.
    fn known_of(&self, id: KeyId) -> Option<Usage> {
        let begun = self.begun.iter().flat_map(|batch| &batch.1);
        let begun = begun.filter(|(key, _)| *key == id).map(|(_, usage)| Usage {
            granted: 0,
            refused: 0,
            ..*usage
        });
        let seen = self.seen.get(&id).copied();
        seen.into_iter().chain(begun).reduce(Usage::merged)
    }
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

    /// Hands what was seen until now to the store; for how many keys.
    ///
    /// A batch that the store refuses for good is given up: losing some usage harms nobody, and else no other would ever
    /// be handed on.
    pub(crate) async fn flush(&self, random: &dyn RandomSource) -> Result<usize, StoreError> {
        let usage = self.store.usage().ok_or(StoreError::Unsupported)?;
        let mut keys = 0;
        // What is seen from here on is the next one's, so that this one ends.
        for batch in self.begin(random) {
            let (id, entries) = &*batch;
            let merged = usage.merge(*id, entries).await;
            let may_succeed_later = matches!(
                merged,
                Err(StoreError::Unavailable(_) | StoreError::Indeterminate(_))
            );
            if !may_succeed_later {
                // By id: another flush may have brought the same batch home.
                self.state().begun.retain(|begun| begun.0 != *id);
            }
            merged?;
            keys += entries.len();
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
        // Before the store is asked: what a flush carries over meanwhile is then seen twice rather than not at all.
        let here: Vec<_> = {
            let state = self.state();
            ids.iter().map(|id| state.known_of(*id)).collect()
        };
        let stored = usage.read(ids).await?;
        if stored.len() != ids.len() {
            return Err(StoreError::Corrupt(
                "the store's usage does not match the keys".into(),
            ));
        }
        let known = stored.into_iter().zip(here);
        let known =
            known.map(|(stored, here)| stored.into_iter().chain(here).reduce(Usage::merged));
        Ok(Some(known.collect()))
    }

    /// The batches that are on their way already, and all that was seen since, cut into batches.
    fn begin(&self, random: &dyn RandomSource) -> Vec<Batch> {
        let mut state = self.state();
        let seen: Vec<_> = std::mem::take(&mut state.seen).into_iter().collect();
        for entries in seen.chunks(BATCH) {
            let batch = (ChangeId::generate(random), entries.to_vec());
            state.begun.push_back(Arc::new(batch));
        }
        state.begun.iter().map(Arc::clone).collect()
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
