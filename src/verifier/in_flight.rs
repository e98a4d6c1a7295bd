//! How many requests of a key are in flight on this node.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::KeyId;

/// The requests in flight of each key that bounds them. A key with none takes no room.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<KeyId, u32>>);

impl InFlight {
    /// A permit, or `None` if the limit is reached. A key without a limit is not counted.
    pub(super) fn admit(self: &Arc<Self>, key: KeyId, limit: Option<NonZeroU32>) -> Option<Permit> {
        let Some(limit) = limit else {
            return Some(Permit(None));
        };
        let mut counts = self.counts();
        let count = counts.entry(key).or_default();
        if *count >= limit.get() {
            return None;
        }
        *count += 1;
        Some(Permit(Some((Arc::clone(self), key))))
    }

    fn give_back(&self, key: KeyId) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<KeyId, u32>> {
        // Every change is a single step: a panic elsewhere cannot leave a count half-made.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the requests of a key that may be in flight at once. Given back when dropped: keep it until
/// the response has been sent.
#[must_use = "dropping the permit gives its place back"]
pub struct Permit(Option<(Arc<InFlight>, KeyId)>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((in_flight, key)) = self.0.take() {
            in_flight.give_back(key);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_counted = self.0.is_some();
        f.debug_struct("Permit")
            .field("is_counted", &is_counted)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn at_most_the_limit_is_ever_in_flight() {
        let in_flight = Arc::new(InFlight::default());
        let (key, limit) = (KeyId::from_u128(1), NonZeroU32::new(3));
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(permit) = in_flight.admit(key, limit) {
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 3);
        assert!(in_flight.counts().is_empty(), "idle keys take no room");
    }

    #[test]
    fn keys_do_not_share_places() {
        let in_flight = Arc::new(InFlight::default());
        let limit = NonZeroU32::new(1);
        let first = in_flight.admit(KeyId::from_u128(1), limit);
        assert!(first.is_some());
        assert!(in_flight.admit(KeyId::from_u128(1), limit).is_none());
        assert!(in_flight.admit(KeyId::from_u128(2), limit).is_some());
        drop(first);
        assert!(in_flight.admit(KeyId::from_u128(1), limit).is_some());
    }
}
