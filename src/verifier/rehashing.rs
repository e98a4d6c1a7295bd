//! Which keys' digests are being replaced at this moment.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::KeyId;

/// One request at a time replaces a key's digest: many at once would each compute the same slow hash.
#[derive(Debug, Default)]
pub(super) struct Rehashing(Mutex<HashSet<KeyId>>);

impl Rehashing {
    /// The turn to replace this key's digest, unless another request has it.
    pub(super) fn begin(self: &Arc<Self>, key: KeyId) -> Option<Turn> {
        let is_first = self.keys().insert(key);
        // Made only where it is had: a turn that is dropped ends somebody's.
        is_first.then(|| Turn {
            of: Arc::clone(self),
            key,
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped by all who share it. It goes with the work too, not with the request alone: one that went away
/// leaves its work behind, and no other begins it meanwhile.
pub(super) struct Turn {
    of: Arc<Rehashing>,
    key: KeyId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.keys().remove(&self.key);
    }
}
