//! Clocks that tests control.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock, ClockError, MonotonicClock, later, unix_micros};
use crate::key::{Timestamp, instant_of};

/// A clock that does not move until a test sets it. Clones share their time.
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
pub struct ManualClock(Arc<Mutex<Shown>>);

/// The state of a manual clock.
#[derive(Debug)]
struct Shown {
    now: Result<OffsetDateTime, ClockError>,
    coarse_lag: time::Duration,
}

impl ManualClock {
    /// Creates a clock at this instant.
    #[must_use]
    pub fn new(now: impl Into<Timestamp>) -> Self {
        Self(Arc::new(Mutex::new(Shown {
            now: Ok(instant_of(now)),
            coarse_lag: time::Duration::ZERO,
        })))
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: impl Into<Timestamp>) {
        let now = instant_of(now);
        self.replace(|_| Ok(now));
    }

    /// Moves the clock forwards. Past the largest representable time it fails.
    pub fn advance(&self, by: Duration) {
        self.replace(|now| now.and_then(|now| later(now, by).ok_or(ClockError)));
    }

    /// Makes the clock fail until it is set again.
    pub fn fail(&self) {
        self.replace(|_| Err(ClockError));
    }

    /// Makes the [coarse reading](Clock::coarse_micros) lag behind the exact one by this much, or run ahead of it if
    /// negative.
    ///
    /// The lag is zero at first. A correct clock stays within 100 milliseconds.
    pub fn set_coarse_lag(&self, lag: time::Duration) {
        self.shown().coarse_lag = lag;
    }

    fn replace(
        &self,
        change: impl FnOnce(Result<OffsetDateTime, ClockError>) -> Result<OffsetDateTime, ClockError>,
    ) {
        let mut shown = self.shown();
        shown.now = change(shown.now);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Result<OffsetDateTime, ClockError> {
        self.shown().now
    }

    fn is_for_tests(&self) -> bool {
        true
    }

    fn coarse_micros(&self) -> Result<i64, ClockError> {
        let shown = self.shown();
        let lag = i64::try_from(shown.coarse_lag.whole_microseconds()).map_err(|_| ClockError)?;
        Ok(unix_micros(shown.now?).saturating_sub(lag))
    }
}

/// A [`MonotonicClock`] that does not move until a test moves it. Clones share their time.
///
/// A node uses it to bound the age of its cached keys. It starts at zero.
///
/// ```
/// use std::time::Duration;
/// use keyward::{clock::MonotonicClock, testkit::ManualMonotonicClock};
///
/// let monotonic = ManualMonotonicClock::new();
/// monotonic.advance(Duration::from_secs(60));
/// assert_eq!(monotonic.elapsed()?, Duration::from_secs(60));
/// # Ok::<(), keyward::clock::ClockError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualMonotonicClock(Arc<Mutex<Result<Duration, ClockError>>>);

impl ManualMonotonicClock {
    /// Creates a clock at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Ok(Duration::ZERO))))
    }

    /// Sets the clock, forwards or back. A real monotonic clock must not go back.
    pub fn set(&self, elapsed: Duration) {
        self.replace(|_| Ok(elapsed));
    }

    /// Moves the clock forwards. Past the largest representable time it fails.
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

impl Default for ManualMonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl MonotonicClock for ManualMonotonicClock {
    fn elapsed(&self) -> Result<Duration, ClockError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}
