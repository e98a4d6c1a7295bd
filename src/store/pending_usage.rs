//! Usage that this node has recorded and not yet sent to the store.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ChangeId, KeyStore, StoreError, Usage};
use crate::key::KeyId;
use crate::random::RandomSource;

/// Maximum number of keys in one batch.
const BATCH: usize = 1_000;

/// Usage per key that is still to be merged into the store.
///
/// The verifier records usage, and this type collects it from there. Batches in flight keep their id until the store
/// has taken them, so that a lost answer counts nothing twice.
pub(crate) struct PendingUsage {
    store: Arc<dyn KeyStore>,
    source: Arc<dyn UsageSource>,
    in_flight: Mutex<VecDeque<Arc<Batch>>>,
}

/// The recorder of usage.
pub(crate) trait UsageSource: fmt::Debug + Send + Sync {
    /// Takes all usage recorded since the last call.
    fn collect(&self) -> Vec<(KeyId, Usage)>;
    /// Reads a monotonic clock.
    fn elapsed(&self) -> Option<Duration>;
    /// Returns a key's usage that is not yet collected.
    fn peek(&self, id: KeyId) -> Option<Usage>;
}

/// Usage on its way to the store, under one change id.
struct Batch {
    id: ChangeId,
    entries: Vec<(KeyId, Usage)>,
    at: Option<Duration>,
}

/// Maximum number of batches in flight. Beyond it, usage stays with its source.
const MOST_IN_FLIGHT: usize = 1_000;

/// Time for which a batch may be retried: a store remembers its id for ten minutes, and would count it twice
/// afterwards.
const MOST_TIME: Duration = Duration::from_secs(9 * 60);

impl PendingUsage {
    pub(crate) fn new(store: Arc<dyn KeyStore>, source: Arc<dyn UsageSource>) -> Self {
        Self {
            store,
            source,
            in_flight: Mutex::default(),
        }
    }

    /// Sends the usage recorded until now to the store, and returns the number of keys.
    ///
    /// A batch that the store refuses for good is dropped: the loss of some usage is harmless, and the batch would
    /// block all later ones.
    pub(crate) async fn flush(&self, random: &dyn RandomSource) -> Result<usize, StoreError> {
        let usage = self.store.usage().ok_or(StoreError::Unsupported)?;
        let mut keys = 0;
        // Usage recorded from here on belongs to the next flush, so that this one ends.
        for batch in self.begin(random) {
            let (id, entries) = (&batch.id, &batch.entries);
            let merged = usage.merge(*id, entries).await;
            let may_succeed_later = matches!(
                merged,
                Err(StoreError::Unavailable(_) | StoreError::Indeterminate(_))
            );
            if !may_succeed_later {
                // By id: another flush may have completed the same batch.
                self.in_flight().retain(|in_flight| in_flight.id != *id);
            }
            merged?;
            keys += entries.len();
        }
        Ok(keys)
    }

    /// Returns how these keys have been used, as far as the store and this node know; `None` if the store keeps no
    /// usage.
    pub(crate) async fn read(
        &self,
        ids: &[KeyId],
    ) -> Result<Option<Vec<Option<Usage>>>, StoreError> {
        let Some(usage) = self.store.usage() else {
            return Ok(None);
        };
        // Before the store is asked: usage that a flush moves meanwhile is then seen twice rather than missed.
        let here = self.known_of(ids);
        let stored = usage.read(ids).await?;
        if stored.len() != ids.len() {
            return Err(StoreError::Corrupt(
                "the store's usage does not match the keys".into(),
            ));
        }
        let known = stored.into_iter().zip(ids).map(|(stored, id)| {
            let here = here.get(id).copied();
            stored.into_iter().chain(here).reduce(Usage::merged)
        });
        Ok(Some(known.collect()))
    }

    /// Returns this node's usage of these keys. Of a batch in flight, which the store may have merged already, it takes
    /// only the instant: that may be merged twice without harm.
    fn known_of(&self, ids: &[KeyId]) -> HashMap<KeyId, Usage> {
        let (peeked, in_flight): (HashMap<_, _>, Vec<_>) = {
            // Under the lock of the batches: usage collected between the two reads would appear in neither.
            let in_flight = self.in_flight();
            let peeked = ids.iter().map(|id| (*id, self.source.peek(*id)));
            (peeked.collect(), in_flight.iter().map(Arc::clone).collect())
        };
        let mut known = peeked;
        for (id, usage) in in_flight.iter().flat_map(|batch| &batch.entries) {
            if let Some(known) = known.get_mut(id) {
                let instant = Usage {
                    granted: 0,
                    refused: 0,
                    ..*usage
                };
                *known = Some(known.map_or(instant, |known| known.merged(instant)));
            }
        }
        let known = known.into_iter();
        known.filter_map(|(id, usage)| Some((id, usage?))).collect()
    }

    /// Returns the batches in flight and all usage recorded since, cut into batches.
    fn begin(&self, random: &dyn RandomSource) -> Vec<Arc<Batch>> {
        let now = self.source.elapsed();
        let mut in_flight = self.in_flight();
        in_flight.retain(|batch| {
            let age = batch.at.and_then(|at| now?.checked_sub(at));
            age.is_some_and(|age| age < MOST_TIME)
        });
        if in_flight.len() < MOST_IN_FLIGHT {
            for entries in self.source.collect().chunks(BATCH) {
                in_flight.push_back(Arc::new(Batch {
                    id: ChangeId::generate(random),
                    entries: entries.to_vec(),
                    at: now,
                }));
            }
        }
        in_flight.iter().map(Arc::clone).collect()
    }

    fn in_flight(&self) -> MutexGuard<'_, VecDeque<Arc<Batch>>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PendingUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUsage")
            .field("batches", &self.in_flight().len())
            .finish_non_exhaustive()
    }
}
