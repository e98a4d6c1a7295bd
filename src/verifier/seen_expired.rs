//! Remembers which keys were seen expired.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::key::KeyId;

/// Most keys that are remembered one by one.
const MAX_KEYS: usize = 65_536;

/// The keys that this process saw expired: a clock that runs back does not revive them.
///
/// Bounded: past [`MAX_KEYS`] only the latest end that was seen to pass is remembered, and every key that ends no
/// later counts as expired. That can refuse a live key after a clock leapt far ahead and back, and grant none.
#[derive(Debug, Default)]
pub(super) struct SeenExpired(RwLock<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// With the end that was seen to pass, in microseconds of Unix time: a later one, given since, is judged by the
    /// clock again.
    keys: HashMap<KeyId, i64>,
    latest_of_others: Option<i64>,
}

impl SeenExpired {
    /// The latest end of the key's that may have been seen to pass; the least of all instants if none was.
    pub(super) fn latest(&self, key: KeyId) -> i64 {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let latest = seen.keys.get(&key).copied().max(seen.latest_of_others);
        latest.unwrap_or(i64::MIN)
    }

    /// Takes down that this end of the key's was seen to pass.
    pub(super) fn remember(&self, key: KeyId, end: i64) {
        if self.latest(key) >= end {
            return;
        }
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if seen.keys.len() < MAX_KEYS || seen.keys.contains_key(&key) {
            let latest = seen.keys.entry(key).or_insert(end);
            *latest = end.max(*latest);
        } else {
            seen.latest_of_others = seen.latest_of_others.max(Some(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(seen: &SeenExpired, key: u128) -> i64 {
        seen.latest(KeyId::from_u128(key))
    }

    #[test]
    fn memory_is_bounded_and_what_it_forgets_it_refuses() {
        let seen = SeenExpired::default();
        for key in 0..100_000_u128 {
            seen.remember(KeyId::from_u128(key), 100);
        }
        assert_eq!(seen.0.read().unwrap().keys.len(), MAX_KEYS);
        for key in [0, 65_535, 65_536, 99_999] {
            assert_eq!(latest(&seen, key), 100, "{key}");
        }
        assert_eq!(latest(&seen, 1_000_000), 100, "in doubt it counts as seen");
    }

    #[test]
    fn the_latest_end_counts() {
        let seen = SeenExpired::default();
        assert_eq!(latest(&seen, 1), i64::MIN);
        for (end, expected) in [(100, 100), (200, 200), (150, 200)] {
            seen.remember(KeyId::from_u128(1), end);
            assert_eq!(latest(&seen, 1), expected);
        }
        assert_eq!(latest(&seen, 2), i64::MIN, "and of no other key");
    }
}
