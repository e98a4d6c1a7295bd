//! The ends of keys that this process has seen pass.

use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

use crate::clock::{Clock, ClockError, from_unix_micros, unix_micros};

/// The latest end of a key that this process has seen pass.
///
/// Every key that ends at that instant or earlier counts as ended, whatever the clock says: for expiry, time does not
/// run back.
///
/// The manager and the verifier of a Keyward share this one instant for all keys, so they decide alike and memory is
/// bounded. The instant moves with the ends that are seen, not with the clock. A clock that leaps ahead for a moment
/// therefore does not end keys that expire after the last end that was checked.
#[derive(Debug)]
pub(crate) struct PassedEnds(AtomicI64);

impl Default for PassedEnds {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl PassedEnds {
    /// Returns whether an end, in microseconds of Unix time, is at or before the latest end that was seen to pass.
    #[inline]
    pub(crate) fn include(&self, end: i64) -> bool {
        self.0.load(Ordering::SeqCst) >= end
    }

    /// Records that an end was seen to pass.
    pub(crate) fn add(&self, end: i64) {
        self.0.fetch_max(end, Ordering::SeqCst);
    }

    /// Forgets the ends that lie in the clock's future, and returns the latest of them.
    pub(crate) fn forget_future(
        &self,
        clock: &dyn Clock,
    ) -> Result<Option<OffsetDateTime>, ClockError> {
        loop {
            // Load before reading the clock: an end that is added meanwhile may be later than that reading, and must
            // be kept.
            let latest = self.0.load(Ordering::SeqCst);
            let now = unix_micros(clock.now()?);
            if latest <= now {
                return Ok(None);
            }
            let is_lowered =
                self.0
                    .compare_exchange(latest, now, Ordering::SeqCst, Ordering::SeqCst);
            if is_lowered.is_ok() {
                return Ok(from_unix_micros(latest));
            }
        }
    }
}
