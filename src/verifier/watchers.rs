//! Who waits for a key to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::key::KeyId;

/// Those who wait, key by key. Keys that nobody waits for take no room.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<KeyId, Arc<Notify>>>);

impl Watchers {
    /// What is woken whenever something becomes known of the key.
    pub(super) fn watch(&self, id: KeyId) -> Arc<Notify> {
        Arc::clone(self.all().entry(id).or_default())
    }

    /// Nobody waits any more, unless others do.
    pub(super) fn leave(&self, id: KeyId, watched: &Arc<Notify>) {
        let mut all = self.all();
        // Whoever leaves holds one, and the list another.
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
