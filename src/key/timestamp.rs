//! An instant as a host application has it.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::ValueError;
use crate::clock::{normalized, of_system_time};

/// An instant that a host application passes to Keyward: an [`OffsetDateTime`], a [`SystemTime`], or a text of RFC 3339
/// to parse.
///
/// A method that takes `impl Into<Timestamp>` takes the first two as they are. Keyward keeps instants in whole
/// microseconds, rounded down.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use keyward::{key::{Access, TenantId, Timestamp}, manager::NewKey};
///
/// let new = || NewKey::new(TenantId::new("acme-inc").unwrap(), "Audit", Access::Full);
///
/// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
/// let key = new().expires_at(tomorrow);
///
/// let end: Timestamp = "2027-03-31T00:00:00+02:00".parse()?;
/// let key = new().expires_at(end);
/// # let _ = key;
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
///
/// # Instants out of range
/// The manager refuses an instant outside the years 0000 to 9999 of UTC with [`InvalidKey::Instant`]. No conversion
/// panics, and none moves such an instant into that range: one that [`OffsetDateTime`] cannot hold becomes another
/// instant outside it, on the same side. Where an instant is only compared with those of a key, as by [`Limits`] and
/// [`KeyRecord::status`], it compares as earlier or later than all of them.
///
/// [`KeyRecord::status`]: super::KeyRecord::status
/// [`Limits`]: crate::manager::Limits
/// [`InvalidKey::Instant`]: crate::manager::InvalidKey::Instant
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// An instant before the year 0000.
    const BEFORE_ALL: OffsetDateTime = PrimitiveDateTime::MIN.assume_utc();

    /// Returns an instant after the year 9999 of UTC: the last date and time of `time`, read west of Greenwich.
    fn after_all() -> OffsetDateTime {
        let west = UtcOffset::from_hms(-1, 0, 0);
        west.map_or(Self::BEFORE_ALL, |west| {
            PrimitiveDateTime::MAX.assume_offset(west)
        })
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self(at)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        Self(of_system_time(at).unwrap_or_else(|| {
            if at < UNIX_EPOCH {
                Self::BEFORE_ALL
            } else {
                Self::after_all()
            }
        }))
    }
}

/// Parses a date and time of [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339), in the years 0000 to 9999 of UTC.
impl FromStr for Timestamp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok();
        at.and_then(normalized).map(Self).ok_or(MALFORMED)
    }
}

const MALFORMED: ValueError = ValueError::malformed(
    "instant",
    "a date and time of RFC 3339 with its offset, such as `2027-03-31T00:00:00Z`, in the years 0000 to 9999 of UTC",
);

impl From<Timestamp> for OffsetDateTime {
    fn from(at: Timestamp) -> Self {
        at.0
    }
}

/// Returns the instant that a host application passed.
pub(crate) fn instant_of(at: impl Into<Timestamp>) -> OffsetDateTime {
    at.into().0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::from_unix_micros;

    fn of(at: SystemTime) -> OffsetDateTime {
        Timestamp::from(at).into()
    }

    #[test]
    fn a_system_time_keeps_its_instant() {
        for (at, micros) in [
            (UNIX_EPOCH, 0),
            (UNIX_EPOCH + Duration::from_nanos(1_500), 1),
            (UNIX_EPOCH - Duration::from_nanos(1_500), -2),
            (
                UNIX_EPOCH + Duration::from_secs(253_402_300_799),
                253_402_300_799_000_000,
            ),
        ] {
            assert_eq!(normalized(of(at)), from_unix_micros(micros), "{micros}");
        }
        let now = SystemTime::now();
        assert_eq!(SystemTime::from(of(now)), now);
    }

    #[test]
    fn far_system_times_stay_out_of_range() {
        let year_10000 = Duration::from_secs(253_402_300_800);
        let latest = (0..64).map(|bit| Duration::from_secs(u64::MAX >> bit));
        let latest = latest
            .chain([year_10000])
            .filter(|after| *after >= year_10000);
        for at in latest.filter_map(|after| UNIX_EPOCH.checked_add(after)) {
            let (at, last) = (of(at), PrimitiveDateTime::MAX.assume_utc());
            assert_eq!(normalized(at), None, "{at}");
            assert!(at > last, "{at}");
        }
        let before_0 = Duration::from_secs(62_167_219_201);
        let earliest = (0..64).map(|bit| Duration::from_secs(u64::MAX >> bit));
        let earliest = earliest
            .chain([before_0])
            .filter(|before| *before >= before_0);
        for at in earliest.filter_map(|before| UNIX_EPOCH.checked_sub(before)) {
            let at = of(at);
            assert_eq!(normalized(at), None, "{at}");
            assert!(at < OffsetDateTime::UNIX_EPOCH, "{at}");
        }
    }

    #[test]
    fn rfc_3339_is_read_with_its_offset() {
        let of = |text: &str| text.parse().map(|at: Timestamp| OffsetDateTime::from(at));
        let noon = from_unix_micros(1_806_408_000_123_456).unwrap();
        for text in [
            "2027-03-30T12:00:00.123456Z",
            "2027-03-30T12:00:00.123456789z",
            "2027-03-30t12:00:00.123456+00:00",
            "2027-03-30T12:00:00.123456-00:00",
            "2027-03-30T17:30:00.123456+05:30",
            "2027-03-29T23:00:00.123456-13:00",
        ] {
            assert_eq!(of(text), Ok(noon), "{text}");
        }
        assert!(of("0000-01-01T00:00:00Z").is_ok());
        assert!(of("9999-12-31T23:59:59.999999999Z").is_ok());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "never",
            "2027-03-30",
            "12:00:00Z",
            "1806408000",
            "2027-03-30T12:00:00",
            "2027-03-30T12:00Z",
            "2027-03-30T12:00:00Z ",
            " 2027-03-30T12:00:00Z",
            "2027-03-30T12:00:00+0200",
            "2027-03-30T12:00:00+02:00[Europe/Paris]",
            "2027-02-29T12:00:00Z",
            "2027-03-30T24:00:00Z",
            "2027-03-30T12:00:00.Z",
            "-001-03-30T12:00:00Z",
            "+2027-03-30T12:00:00Z",
            "10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(MALFORMED), "{text}");
        }
        assert_eq!(
            MALFORMED.to_string(),
            "instant must be a date and time of RFC 3339 with its offset, such as `2027-03-31T00:00:00Z`, in the \
             years 0000 to 9999 of UTC"
        );
    }
}
