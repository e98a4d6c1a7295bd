//! What a node may keep of the keys it verifies, and for how long.

use std::num::NonZeroUsize;
use std::time::Duration;

/// What a node keeps of the keys it verifies, and for how long it may decide on it.
///
/// ```
/// use std::time::Duration;
/// use keyward::verifier::KeyCache;
///
/// let small = KeyCache::new().max_bytes(16 << 20).lease(Duration::from_secs(2));
/// # let _ = small;
/// ```
///
/// # What a bound means
/// A key takes some 320 bytes for what is decided on and counted, and its record besides: together 1 to 1.5 kB for a
/// key with a few scopes and no metadata. The default bound of 256 MiB holds about 200,000 such keys. One part in
/// sixteen is for keys at which only wrong secrets were presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCache {
    pub(super) lease: Duration,
    pub(super) max_bytes: u64,
    pub(super) reads: NonZeroUsize,
}

impl KeyCache {
    /// Longest lease.
    pub const MAX_LEASE: Duration = Duration::from_secs(10 * 60);

    /// A lease of five seconds, 256 MiB, and 64 reads at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lease: Duration::from_secs(5),
            max_bytes: 256 << 20,
            reads: NonZeroUsize::MIN.saturating_add(63),
        }
    }

    /// Keeps nothing: every request is decided on a read of the store that began after it came.
    #[must_use]
    pub fn off() -> Self {
        Self::new().lease(Duration::ZERO)
    }

    /// For how long a node may decide on what it read of a key: counted from the start of the read, or from the start
    /// of the last completed poll of the change feed that the [background work](crate::Keyward::background) has
    /// applied. Five seconds by default; zero keeps nothing. With more than [ten minutes](Self::MAX_LEASE),
    /// [`Builder::open`] fails.
    ///
    /// This bounds how long a revocation on another node can go unnoticed here if the change feed stops. It is measured
    /// by the [monotonic clock](crate::Builder::monotonic_clock): a machine that is paused from outside, without
    /// noticing, may be late by up to a lease after it wakes.
    ///
    /// [`Builder::open`]: crate::Builder::open
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Most bytes that cached keys take in memory, about; 256 MiB by default.
    ///
    /// When it is reached, keys that were not used lately are dropped. Their next use reads the store again, and
    /// computes the stored hash again: with Argon2id that is a slow hash. Requests in flight of a dropped key stay
    /// counted.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Most reads of the store at once; others wait. Half of them at most are for requests that have not presented what
    /// was proven on this node before, unless there is but one.
    #[must_use]
    pub fn max_concurrent_reads(mut self, reads: NonZeroUsize) -> Self {
        self.reads = reads;
        self
    }

    /// The lease, if it is longer than it may be.
    pub(crate) fn excessive_lease(&self) -> Option<Duration> {
        (self.lease > Self::MAX_LEASE).then_some(self.lease)
    }

    /// How long a read is waited for. A record that comes later is stale.
    pub(super) fn patience(&self) -> Duration {
        if self.lease.is_zero() {
            Self::new().lease
        } else {
            self.lease
        }
    }
}

impl Default for KeyCache {
    fn default() -> Self {
        Self::new()
    }
}
