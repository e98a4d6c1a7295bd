//! The keys with a digest being replaced.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::KeyId;

/// Maximum number of keys with a digest being replaced at the same time.
///
/// It bounds the tasks that wait for a store that takes no writes; the digests of further keys are replaced later. The
/// number of concurrent slow hashes is bounded by the free permits.
const MAX_REHASHES: usize = 64;

/// The keys with a digest being replaced. One request at a time replaces a key's digest: many at once would each
/// compute the same slow hash.
#[derive(Debug, Default)]
pub(super) struct Rehashing {
    keys: Mutex<HashSet<KeyId>>,
    replaced: AtomicU64,
    failed: AtomicU64,
}

impl Rehashing {
    /// Takes the turn to replace this key's digest; `None` if another request has it, or if too many keys' digests are
    /// being replaced.
    pub(super) fn begin(self: &Arc<Self>, key: KeyId) -> Option<Turn> {
        let is_first = {
            let mut keys = self.keys();
            keys.len() < MAX_REHASHES && keys.insert(key)
        };
        // Created only if this request has the turn: dropping a turn ends it, whichever request holds it.
        is_first.then(|| Turn {
            of: Arc::clone(self),
            key,
        })
    }

    pub(super) fn count(&self, is_replaced: bool) {
        let counter = if is_replaced {
            &self.replaced
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the numbers of digests that were replaced, and that were not.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.replaced), count(&self.failed))
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn to replace one key's digest, given back when all its holders have dropped it. The work holds it as well as
/// the request: if the request goes away, the work continues, and no other request begins it again.
pub(super) struct Turn {
    of: Arc<Rehashing>,
    pub(super) key: KeyId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.keys().remove(&self.key);
    }
}
