//! Tasks that wait for a key to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::key::KeyId;

/// The waiting tasks, key by key. Keys without a waiting task take no memory.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<KeyId, Arc<Notify>>>);

impl Watchers {
    /// Watches a key until the result is dropped.
    pub(super) fn watch(&self, id: KeyId) -> Watching<'_> {
        let woken = Arc::clone(self.all().entry(id).or_default());
        Watching {
            watchers: self,
            id,
            woken,
        }
    }

    /// Stops watching, and removes the key unless other tasks wait for it.
    fn leave(&self, id: KeyId, watched: &Arc<Notify>) {
        let mut all = self.all();
        // The leaving task holds one reference, and the map another.
        if Arc::strong_count(watched) <= 2 {
            all.remove(&id);
        }
    }

    pub(super) fn wake(&self, id: KeyId) {
        if let Some(notify) = self.all().get(&id) {
            notify.notify_waiters();
        }
    }

    pub(super) fn wake_all(&self) {
        for notify in self.all().values() {
            notify.notify_waiters();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<KeyId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that waits for a key to change.
pub(super) struct Watching<'a> {
    watchers: &'a Watchers,
    id: KeyId,
    /// Notified whenever the key may have changed.
    pub(super) woken: Arc<Notify>,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.watchers.leave(self.id, &self.woken);
    }
}
