//! The limiter in this process's memory.
//!
//! # How is it all or nothing?
//! A meter locks the counters of all its subjects, in one order for all meters, then checks every limit and then counts
//! in every limit. A request that is refused has counted nowhere, and no request sees another's half.
//!
//! # How is memory bounded, and freed?
//! The counters of a subject are shared by all meters that count on them, and stay in the map until no meter holds them
//! and all their windows have drained. Each shard of the map has a queue of instants at which to look at a subject
//! again. Requests advance the queues, a few subjects at a time, and so does the background work: no task of its own is
//! needed. A subject that finds no memory left is refused as undecidable, since to make room would be to forget
//! the use of others.

mod counters;
mod meter;
mod subjects;

use std::fmt;
use std::sync::Arc;

use self::meter::LocalMeter;
use self::subjects::Subjects;
use super::{Limit, Limiter, Meter, Tick};
use crate::sync::Ordering;

/// Counts in this process's memory: it never admits more than a limit, and may refuse for up to a sixtieth of the
/// window longer than an exact log of all requests would.
///
/// It is the default. Clones share their counters.
///
/// A subject takes some 130 bytes, and 80 for each of its quotas; a quota in steady use takes 61 to 244 more. Subjects
/// without use in their longest window take nothing, unless their key is cached. A cached key with two quotas takes
/// some 370 bytes more for its meter, and likewise for each route with quotas that it has used lately, at most sixteen.
///
/// ```
/// use keyward::limiter::{RateLimiting, LocalLimiter};
///
/// let limiter = LocalLimiter::with_max_bytes(64 << 20);
/// let rate_limiting = RateLimiting::new().limiter(limiter.clone());
/// println!("{} subjects in {} bytes", limiter.subjects(), limiter.bytes());
/// # let _ = rate_limiting;
/// ```
#[derive(Clone)]
pub struct LocalLimiter {
    subjects: Arc<Subjects>,
}

impl LocalLimiter {
    /// The default bound of memory: 256 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

    /// Creates a limiter with the [default bound](Self::DEFAULT_MAX_BYTES) of memory.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_bytes(Self::DEFAULT_MAX_BYTES)
    }

    /// Creates a limiter whose counters take at most about this many bytes. The counters of cached keys that are idle
    /// are among them: a key with two quotas takes 300.
    ///
    /// If the bound is reached, requests that need more memory for their counters are undecidable
    /// ([`LimiterError::Full`](super::LimiterError::Full)): counters that have not drained are never dropped.
    #[must_use]
    pub fn with_max_bytes(max_bytes: u64) -> Self {
        Self {
            subjects: Arc::new(Subjects::new(max_bytes)),
        }
    }

    /// Returns the number of subjects with counters.
    #[must_use]
    pub fn subjects(&self) -> u64 {
        self.subjects.count.load(Ordering::Relaxed)
    }

    /// Returns about how many bytes the counters take, and the meters of cached keys.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.subjects.memory.taken()
    }
}

impl Limiter for LocalLimiter {
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter> {
        Arc::new(LocalMeter::new(Arc::clone(&self.subjects), limits))
    }

    fn sweep(&self, now: Tick) -> bool {
        self.subjects.sweep(now.as_nanos())
    }
}

impl Default for LocalLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimiter")
            .field("subjects", &self.subjects())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
