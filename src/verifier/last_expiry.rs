//! Remembers that a key was seen expired.

use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

/// The latest end of a key that was seen expired by this process.
///
/// One number stands for all keys: time that has once ended a key has also ended every key with an earlier end.
/// It is written only when a key is seen expired past it, so that live keys share no line that is written.
#[derive(Debug)]
pub(super) struct LastExpiry(AtomicI64);

impl LastExpiry {
    /// The instant by which a key that ends at `end` is judged: the clock's, unless that has run back behind an
    /// end that was seen to pass and is not before this one.
    pub(super) fn not_before(
        &self,
        clock: OffsetDateTime,
        end: Option<OffsetDateTime>,
    ) -> OffsetDateTime {
        let Some(end) = end else {
            return clock;
        };
        let end_micros = micros(end);
        if clock >= end {
            // Not a plain maximum on every request: see above.
            if self.0.load(Ordering::Acquire) < end_micros {
                self.0.fetch_max(end_micros, Ordering::AcqRel);
            }
            return clock;
        }
        if self.0.load(Ordering::Acquire) >= end_micros {
            end
        } else {
            clock
        }
    }
}

impl Default for LastExpiry {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

/// Microseconds since the Unix epoch, the precision of stored instants.
fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
