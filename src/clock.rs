//! What time it is, as the host says.
//!
//! Nothing in Keyward asks the operating system for the time by itself: the clock is handed in, so that
//! tests can set it. A clock may fail, and a request that needs the time is then undecidable, not granted.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Tells the present instant.
///
/// # Contract
/// `now` is UTC wall-clock time. It may step in either direction when the machine's clock is corrected;
/// callers cope with that.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present instant.
    ///
    /// # Errors
    /// [`ClockError`] if the time cannot be told. Whatever depends on it is then refused.
    fn now(&self) -> Result<OffsetDateTime, ClockError>;

    /// Whether this clock is set by a test rather than by the world.
    ///
    /// A [`Keyward`](crate::Keyward) with such a clock opens only for the `test` environment.
    fn is_for_tests(&self) -> bool;

    /// The present instant in microseconds of Unix time, at most [`COARSE_LAG_MICROS`] from [`now`](Self::now) where
    /// that is cheaper to read.
    ///
    /// Read for each verification. Where the difference could matter, [`now`](Self::now) is read too, and decides.
    ///
    /// # Errors
    /// As [`now`](Self::now).
    fn coarse_micros(&self) -> Result<i64, ClockError> {
        self.now().map(unix_micros)
    }
}

/// How far [`Clock::coarse_micros`] may be from [`Clock::now`], in microseconds: ten ticks of the slowest kernel timer.
pub const COARSE_LAG_MICROS: i64 = 100_000;

/// Measures how much time has passed, whatever the wall clock does.
///
/// # Contract
/// `elapsed` never runs back, and goes on while the machine is suspended: how old a cached answer is depends on it.
pub trait MonotonicClock: Debug + Send + Sync + 'static {
    /// The time since some moment that stays the same as long as this clock lives.
    ///
    /// # Errors
    /// [`ClockError`] if it cannot be told. Nothing cached is then used.
    fn elapsed(&self) -> Result<Duration, ClockError>;

    /// Whether this clock is set by a test rather than by the world. As [`Clock::is_for_tests`].
    fn is_for_tests(&self) -> bool;
}

/// The time cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock cannot tell the time")]
pub struct ClockError;

/// The operating system's real-time clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Result<OffsetDateTime, ClockError> {
        // `OffsetDateTime::now_utc` panics where the machine's clock is outside the years it can hold.
        let now = SystemTime::now();
        let nanos = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()),
            Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
        };
        OffsetDateTime::from_unix_timestamp_nanos(nanos.map_err(|_| ClockError)?)
            .map_err(|_| ClockError)
    }

    fn is_for_tests(&self) -> bool {
        false
    }

    /// The kernel's coarse clock (`CLOCK_REALTIME_COARSE`), some eight times cheaper to read.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn coarse_micros(&self) -> Result<i64, ClockError> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        now.tv_sec
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(now.tv_nsec / 1_000))
            .ok_or(ClockError)
    }
}

/// The time since the machine was started, suspension included: `CLOCK_BOOTTIME` on Linux, `CLOCK_MONOTONIC` on
/// macOS and iOS (which count it there), the performance counter on Windows.
///
/// On other systems the monotonic clock may not count suspension: there the wall clock is asked too, and the later of
/// both counts. One that is set forwards only makes caches be read anew, and fences lift before their time.
#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    start: (std::time::Instant, SystemTime),
}

impl BootClock {
    /// The machine's.
    #[must_use]
    pub fn new() -> Self {
        Self {
            #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
            start: (std::time::Instant::now(), SystemTime::now()),
        }
    }
}

impl Default for BootClock {
    fn default() -> Self {
        Self::new()
    }
}

impl MonotonicClock for BootClock {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn elapsed(&self) -> Result<Duration, ClockError> {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(target_vendor = "apple")]
        const BOOT: ClockId = ClockId::Monotonic;
        #[cfg(not(target_vendor = "apple"))]
        const BOOT: ClockId = ClockId::Boottime;
        let now = clock_gettime(BOOT);
        let seconds = u64::try_from(now.tv_sec).map_err(|_| ClockError)?;
        let nanos = u32::try_from(now.tv_nsec).map_err(|_| ClockError)?;
        Ok(Duration::new(seconds, nanos))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn elapsed(&self) -> Result<Duration, ClockError> {
        let elapsed = self.start.0.elapsed();
        if cfg!(windows) {
            return Ok(elapsed);
        }
        Ok(elapsed.max(self.start.1.elapsed().unwrap_or_default()))
    }

    fn is_for_tests(&self) -> bool {
        false
    }
}

/// The instant in microseconds of Unix time, rounded down.
pub(crate) fn unix_micros(at: OffsetDateTime) -> i64 {
    at.unix_timestamp()
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(at.microsecond()))
}

/// The instant of these microseconds of Unix time; none outside the years that can be written.
pub(crate) fn from_unix_micros(micros: i64) -> Option<OffsetDateTime> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
    normalized(at)
}

/// The same instant in UTC and in whole microseconds, the precision every backend can keep.
///
/// `None` where the instant in UTC falls outside the years 0000 to 9999, which RFC 3339 cannot write.
pub(crate) fn normalized(at: OffsetDateTime) -> Option<OffsetDateTime> {
    let utc = at.checked_to_offset(UtcOffset::UTC)?;
    if !(0..=9_999).contains(&utc.year()) {
        return None;
    }
    utc.replace_nanosecond(utc.microsecond().checked_mul(1_000)?)
        .ok()
}

/// `at + duration`, or `None` past the end of time.
pub(crate) fn later(at: OffsetDateTime, duration: Duration) -> Option<OffsetDateTime> {
    at.checked_add(time::Duration::try_from(duration).ok()?)
}

/// The instant as RFC 3339 writes it, such as `2026-11-21T09:39:09.655084Z`.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    // Instants that were normalized can always be written so.
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_time_do_not_panic() {
        let last = time::Date::MAX
            .with_hms_nano(23, 59, 59, 999_999_999)
            .unwrap();
        let west = last.assume_offset(UtcOffset::from_hms(-12, 0, 0).unwrap());
        assert_eq!(normalized(west), None, "UTC would be in the year 10000");
        assert!(normalized(last.assume_utc()).is_some());
        assert_eq!(normalized(time::Date::MIN.midnight().assume_utc()), None);
        assert_eq!(later(last.assume_utc(), Duration::from_nanos(1)), None);
        assert_eq!(later(last.assume_utc(), Duration::MAX), None);
    }

    #[test]
    fn instants_keep_microseconds() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_789).unwrap();
        assert_eq!(
            normalized(at).unwrap().unix_timestamp_nanos(),
            1_700_000_000_123_456_000
        );
    }

    #[test]
    fn the_system_clock_tells_a_plausible_time() {
        assert!(SystemClock.now().unwrap().year() >= 2025);
    }
}
