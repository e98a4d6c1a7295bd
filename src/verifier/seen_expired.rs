//! Remembers which keys were seen expired.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use time::OffsetDateTime;

use crate::key::{KeyId, KeyRecord};

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
    /// With the end that was seen to pass: a later one, given since, is judged by the clock again.
    keys: HashMap<KeyId, OffsetDateTime>,
    latest_of_others: Option<OffsetDateTime>,
}

impl SeenExpired {
    /// The instant by which a key is judged: the clock's, or the key's own end if it was seen expired.
    pub(super) fn judged_at(&self, clock: OffsetDateTime, record: &KeyRecord) -> OffsetDateTime {
        let Some(end) = record.expires_at() else {
            return clock;
        };
        if clock >= end {
            self.remember(record.id(), end);
            return clock;
        }
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if seen.covers(record.id(), end) {
            end
        } else {
            clock
        }
    }

    fn remember(&self, key: KeyId, end: OffsetDateTime) {
        let is_known = {
            let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
            seen.covers(key, end)
        };
        if is_known {
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

impl Seen {
    fn covers(&self, key: KeyId, end: OffsetDateTime) -> bool {
        self.keys.get(&key).is_some_and(|seen| *seen >= end) || self.latest_of_others >= Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(second)
    }

    fn covers(seen: &SeenExpired, key: u128, end: u64) -> bool {
        let seen = seen.0.read().unwrap();
        seen.covers(KeyId::from_u128(key), at(end))
    }

    #[test]
    fn memory_is_bounded_and_what_it_forgets_it_refuses() {
        let seen = SeenExpired::default();
        for key in 0..100_000_u128 {
            seen.remember(KeyId::from_u128(key), at(100));
        }
        assert_eq!(seen.0.read().unwrap().keys.len(), MAX_KEYS);
        for key in [0, 65_535, 65_536, 99_999] {
            assert!(covers(&seen, key, 100), "{key}");
        }
        assert!(covers(&seen, 1_000_000, 100), "in doubt it counts as seen");
        assert!(!covers(&seen, 1_000_000, 101));
    }

    #[test]
    fn a_later_end_that_was_given_since_counts() {
        let seen = SeenExpired::default();
        seen.remember(KeyId::from_u128(1), at(100));
        assert!(covers(&seen, 1, 100));
        assert!(!covers(&seen, 1, 200));
        assert!(!covers(&seen, 2, 100), "and no other key");
        seen.remember(KeyId::from_u128(1), at(200));
        assert!(covers(&seen, 1, 100) && covers(&seen, 1, 200));
    }
}
