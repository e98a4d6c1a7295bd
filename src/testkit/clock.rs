//! A clock that tests set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock, ClockError, later};

/// A clock that stands still until it is set. Clones share their time.
///
/// ```
/// use std::time::Duration;
/// use keyward::{clock::Clock, testkit::ManualClock};
///
/// let clock = ManualClock::new(time::OffsetDateTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now()?.unix_timestamp(), 60);
/// # Ok::<(), keyward::clock::ClockError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Result<OffsetDateTime, ClockError>>>);

impl ManualClock {
    /// A clock that stands at this instant.
    #[must_use]
    pub fn new(now: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(Ok(now))))
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: OffsetDateTime) {
        self.replace(|_| Ok(now));
    }

    /// Moves the clock forwards; past the end of time it fails.
    pub fn advance(&self, by: Duration) {
        self.replace(|now| now.and_then(|now| later(now, by).ok_or(ClockError)));
    }

    /// Makes the clock fail until it is set again.
    pub fn fail(&self) {
        self.replace(|_| Err(ClockError));
    }

    fn replace(
        &self,
        change: impl FnOnce(Result<OffsetDateTime, ClockError>) -> Result<OffsetDateTime, ClockError>,
    ) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = change(*now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Result<OffsetDateTime, ClockError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}
