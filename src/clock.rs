//! Clocks, which the host application can replace.
//!
//! Keyward's logic never reads the operating system's time directly: it uses the clock that it was given, so that
//! tests can set it. A clock may fail. A request that needs the time is then undecidable, not granted.
//!
//! # Which types of instants does Keyward take, and return?
//! Keyward returns instants as [`OffsetDateTime`] of the crate [`time`], which it exports. Methods that take an instant
//! take `impl Into<`[`Timestamp`](crate::key::Timestamp)`>`: an [`OffsetDateTime`], a [`SystemTime`], or a parsed text
//! of RFC 3339. An instant that was returned converts with `SystemTime::from`, which holds every instant since 1970 on
//! each platform:
//! ```
//! use std::time::{Duration, SystemTime};
//! use keyward::{key::KeyRecord, manager::Overlap};
//!
//! fn ends(record: &KeyRecord) -> Option<SystemTime> {
//!     record.restrictions().expires_at.map(SystemTime::from)
//! }
//!
//! let in_a_week = SystemTime::now() + Duration::from_secs(7 * 86_400);
//! let Overlap::Until(end) = Overlap::until(in_a_week) else { unreachable!() };
//! assert_eq!(SystemTime::from(end), in_a_week);
//! # let _ = ends;
//! ```
//! The types of chrono and jiff convert from and into [`SystemTime`]:
//! ```text
//! let key = key.expires_at(SystemTime::from(end));                       // chrono::DateTime, jiff::Timestamp
//! let created = chrono::DateTime::<Utc>::from(SystemTime::from(record.created_at()));
//! let created = jiff::Timestamp::try_from(SystemTime::from(record.created_at()))?;
//! ```

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::codes::codes;

/// A source of the current time.
///
/// # Contract
/// `now` is UTC wall-clock time. It may step in either direction when the machine's clock is corrected; callers cope
/// with that.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the current instant.
    ///
    /// # Errors
    /// [`ClockError`] if the clock cannot tell the time. Keyward then refuses every operation that depends on it.
    fn now(&self) -> Result<OffsetDateTime, ClockError>;

    /// Returns whether a test sets this clock.
    ///
    /// A [`Keyward`](crate::Keyward) with such a clock opens only for the `test` environment.
    fn is_for_tests(&self) -> bool;

    /// Returns the current instant in microseconds of Unix time, up to 100 milliseconds off [`now`](Self::now) if
    /// that is cheaper to read.
    ///
    /// The verifier reads it for each verification. Where the difference could matter, the verifier reads
    /// [`now`](Self::now) too, and decides by that.
    ///
    /// # Errors
    /// As [`now`](Self::now).
    fn coarse_micros(&self) -> Result<i64, ClockError> {
        self.now().map(unix_micros)
    }
}

/// Largest difference between [`Clock::coarse_micros`] and [`Clock::now`] in microseconds: ten ticks of the slowest
/// kernel timer.
pub(crate) const COARSE_LAG_MICROS: i64 = 100_000;

/// A source of elapsed time that is independent of the wall clock.
///
/// # Contract
/// `elapsed` never runs back, and continues while the machine is suspended: the age of a cache entry depends on it.
pub trait MonotonicClock: Debug + Send + Sync + 'static {
    /// Returns the time since a fixed moment, which stays the same as long as this clock lives.
    ///
    /// # Errors
    /// [`ClockError`] if the clock cannot tell. The verifier then uses no cache entry.
    fn elapsed(&self) -> Result<Duration, ClockError>;

    /// Returns whether a test sets this clock, as [`Clock::is_for_tests`].
    fn is_for_tests(&self) -> bool;
}

/// A clock that cannot tell the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock cannot tell the time")]
pub struct ClockError;

codes! {
    ClockError;
    Self => "clock_failed",
}

/// The operating system's real-time clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Result<OffsetDateTime, ClockError> {
        of_system_time(SystemTime::now()).ok_or(ClockError)
    }

    fn is_for_tests(&self) -> bool {
        false
    }

    /// Reads the kernel's coarse clock (`CLOCK_REALTIME_COARSE`), which is some eight times cheaper.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn coarse_micros(&self) -> Result<i64, ClockError> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        now.tv_sec
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(now.tv_nsec / 1_000))
            .ok_or(ClockError)
    }
}

/// The time since the machine was started, including suspension.
///
/// It reads `CLOCK_BOOTTIME` on Linux, `CLOCK_MONOTONIC` on macOS and iOS (which includes suspension there), and the
/// performance counter on Windows.
///
/// On other systems the monotonic clock may not include suspension. There this clock also reads the wall clock, and
/// returns the larger of the two elapsed times. Setting the wall clock forwards has two effects only: cached keys are
/// read again early, and fences lift before their time.
#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    start: (std::time::Instant, SystemTime),
}

impl BootClock {
    /// Creates a clock that reads the machine's boot time.
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

/// The wall clock as one verification reads it: coarsely, and exactly only if that matters.
pub(crate) struct WallClockReading<'a> {
    clock: &'a dyn Clock,
    coarse: i64,
    exact: Cell<Option<i64>>,
}

impl<'a> WallClockReading<'a> {
    pub(crate) fn read(clock: &'a dyn Clock) -> Result<Self, ClockError> {
        Ok(Self {
            coarse: clock.coarse_micros()?,
            clock,
            exact: Cell::new(None),
        })
    }

    pub(crate) fn coarse(&self) -> i64 {
        self.coarse
    }

    /// Returns whether the instant has come.
    #[inline]
    pub(crate) fn has_reached(&self, instant: i64) -> Result<bool, ClockError> {
        // Far from the instant the coarse reading decides: it costs an eighth of the exact one.
        if self.coarse.saturating_sub(COARSE_LAG_MICROS) >= instant {
            return Ok(true);
        }
        if self.coarse.saturating_add(COARSE_LAG_MICROS) < instant {
            return Ok(false);
        }
        Ok(self.exact()? >= instant)
    }

    #[cold]
    pub(crate) fn exact(&self) -> Result<i64, ClockError> {
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let exact = unix_micros(self.clock.now()?);
        self.exact.set(Some(exact));
        Ok(exact)
    }
}

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

    /// Returns whether an end, in microseconds of Unix time, has come or was seen to pass before; `i64::MAX` never
    /// comes. An end that has come is remembered.
    #[inline]
    pub(crate) fn has_passed(
        &self,
        end: i64,
        wall: &WallClockReading<'_>,
    ) -> Result<bool, ClockError> {
        if end == i64::MAX {
            return Ok(false);
        }
        if self.include(end) {
            return Ok(true);
        }
        let has_come = wall.has_reached(end)?;
        if has_come {
            self.add(end);
        }
        Ok(has_come)
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

/// Start of the year 0, the first that RFC 3339 can write, in seconds of Unix time.
const YEAR_0: i64 = -62_167_219_200;

/// Returns the instant in microseconds of Unix time, rounded down, before 1970 too.
///
/// A backend keeps instants in this form where its database has no type for them.
#[must_use]
pub fn unix_micros(at: OffsetDateTime) -> i64 {
    at.unix_timestamp()
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(at.microsecond()))
}

/// Returns the instant at these microseconds of Unix time; `None` outside the years 0000 to 9999.
#[must_use]
pub fn from_unix_micros(micros: i64) -> Option<OffsetDateTime> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
    normalized(at)
}

/// Returns the same instant in UTC and in whole microseconds, the precision every backend can keep.
///
/// `None` if the instant in UTC is outside the years 0000 to 9999, which RFC 3339 cannot write.
pub(crate) fn normalized(at: OffsetDateTime) -> Option<OffsetDateTime> {
    let utc = at.checked_to_offset(UtcOffset::UTC)?;
    if !(0..=9_999).contains(&utc.year()) {
        return None;
    }
    utc.replace_nanosecond(utc.microsecond().checked_mul(1_000)?)
        .ok()
}

/// Returns the instant; `None` if it is outside the years that [`OffsetDateTime`] can hold, where the conversion of
/// `time` panics.
pub(crate) fn of_system_time(at: SystemTime) -> Option<OffsetDateTime> {
    let nanos = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()),
        Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
    };
    OffsetDateTime::from_unix_timestamp_nanos(nanos.ok()?).ok()
}

/// Returns `at + duration`; `None` past the last instant that can be represented.
pub(crate) fn later(at: OffsetDateTime, duration: Duration) -> Option<OffsetDateTime> {
    at.checked_add(time::Duration::try_from(duration).ok()?)
}

/// Returns `at - duration`, or the start of the year 0 if that is later.
pub(crate) fn earlier(at: OffsetDateTime, duration: Duration) -> OffsetDateTime {
    let start = OffsetDateTime::from_unix_timestamp(YEAR_0).unwrap_or(at);
    let earlier = time::Duration::try_from(duration).ok();
    let earlier = earlier.and_then(|duration| at.checked_sub(duration));
    earlier.map_or(start, |earlier| earlier.max(start))
}

/// Formats the instant as in RFC 3339, such as `2026-11-21T09:39:09.655084Z`.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    // Normalized instants can always be written as RFC 3339.
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
        for age in [Duration::from_secs(99_999_999_999), Duration::MAX] {
            let start = earlier(OffsetDateTime::UNIX_EPOCH, age);
            assert_eq!(rfc3339(start), "0000-01-01T00:00:00Z");
        }
    }

    #[test]
    fn microseconds_round_down_before_1970() {
        for (nanos, micros) in [
            (-1, -1),
            (-1_000, -1),
            (-1_001, -2),
            (-1_500_000_001, -1_500_001),
            (999, 0),
        ] {
            let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
            assert_eq!(unix_micros(at), micros, "{nanos}");
            let kept = from_unix_micros(micros);
            assert_eq!(normalized(at), kept, "{nanos}");
        }
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
    fn the_system_clock_is_plausible() {
        assert!(SystemClock.now().unwrap().year() >= 2025);
    }
}
