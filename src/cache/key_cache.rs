//! The settings of a node's key cache: its size, its lease and its reads.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Settings of a node's key cache: its size, its lease, and its reads of the store.
///
/// ```
/// use std::time::Duration;
/// use keyward::verifier::KeyCache;
///
/// let small = KeyCache::new().max_bytes(16 << 20).lease(Duration::from_secs(2));
/// # let _ = small;
/// ```
///
/// # How many keys fit in the bound?
/// A key takes some 320 bytes for its compiled record and counters, plus the record itself: together 1 to 1.5 kB for a
/// key with a few scopes and no metadata. The default bound of 256 MiB holds about 200,000 such keys. One part in
/// sixteen is for keys that were presented only with wrong secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCache {
    pub(crate) lease: Duration,
    pub(super) max_bytes: u64,
    pub(crate) reads: NonZeroUsize,
}

impl KeyCache {
    pub(super) const DEFAULT_LEASE: Duration = Duration::from_secs(5);

    /// Longest lease.
    pub const MAX_LEASE: Duration = Duration::from_secs(10 * 60);

    /// Creates the default settings: a lease of five seconds, 256 MiB, and 64 reads at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lease: Self::DEFAULT_LEASE,
            max_bytes: 256 << 20,
            reads: NonZeroUsize::MIN.saturating_add(63),
        }
    }

    /// Caches nothing: every request is decided on a read of the store that began after the request came.
    #[must_use]
    pub fn off() -> Self {
        Self::new().lease(Duration::ZERO)
    }

    /// Sets for how long a node may decide on its read of a key.
    ///
    /// The time counts from the start of the read, or from the start of the last completed poll of the change feed that
    /// the [background work](crate::Keyward::background) has applied. Five seconds by default; zero caches nothing.
    /// With more than [ten minutes](Self::MAX_LEASE), [`Builder::open`] fails.
    ///
    /// The lease bounds how long a revocation on another node can go unnoticed here if the change feed stops. The
    /// [monotonic clock](crate::Builder::monotonic_clock) measures it: a machine that is paused from outside, without
    /// noticing, may be late by up to a lease after it wakes.
    ///
    /// [`Builder::open`]: crate::Builder::open
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the approximate maximum of memory for cached keys, in bytes; 256 MiB by default.
    ///
    /// When it is reached, the cache evicts keys that were not used lately. Their next use reads the store again, and
    /// computes the stored hash again: with Argon2id that is a slow hash. Requests in flight of an evicted key stay
    /// counted.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the maximum number of reads of the store at once; others wait.
    ///
    /// At most half of them are for requests that have not presented a secret proven on this node before, unless there
    /// is only one read.
    #[must_use]
    pub fn max_concurrent_reads(mut self, reads: NonZeroUsize) -> Self {
        self.reads = reads;
        self
    }

    /// Returns the lease, if it is longer than [`MAX_LEASE`](Self::MAX_LEASE).
    pub(crate) fn excessive_lease(&self) -> Option<Duration> {
        (self.lease > Self::MAX_LEASE).then_some(self.lease)
    }
}

impl Default for KeyCache {
    fn default() -> Self {
        Self::new()
    }
}
