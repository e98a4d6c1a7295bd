//! Clocks that tests set.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock, ClockError, SteadyClock, later};

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

/// A [`SteadyClock`] that stands still until it is moved, for how old what a node holds of a key may be. Clones share
/// their time. It begins at zero.
///
/// ```
/// use std::time::Duration;
/// use keyward::{clock::SteadyClock, testkit::ManualSteadyClock};
///
/// let steady = ManualSteadyClock::new();
/// steady.advance(Duration::from_secs(60));
/// assert_eq!(steady.elapsed()?, Duration::from_secs(60));
/// # Ok::<(), keyward::clock::ClockError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualSteadyClock(Arc<Mutex<Result<Duration, ClockError>>>);

impl ManualSteadyClock {
    /// A clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Ok(Duration::ZERO))))
    }

    /// Sets the clock, forwards or back, as no real one of its kind may be.
    pub fn set(&self, elapsed: Duration) {
        self.replace(|_| Ok(elapsed));
    }

    /// Moves the clock forwards; past the end of time it fails.
    pub fn advance(&self, by: Duration) {
        self.replace(|elapsed| {
            elapsed.and_then(|elapsed| elapsed.checked_add(by).ok_or(ClockError))
        });
    }

    /// Makes the clock fail until it is set again.
    pub fn fail(&self) {
        self.replace(|_| Err(ClockError));
    }

    fn replace(
        &self,
        change: impl FnOnce(Result<Duration, ClockError>) -> Result<Duration, ClockError>,
    ) {
        let mut elapsed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *elapsed = change(*elapsed);
    }
}

impl Default for ManualSteadyClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SteadyClock for ManualSteadyClock {
    fn elapsed(&self) -> Result<Duration, ClockError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}
