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
/// A key takes some 320 bytes for what is decided on and counted, and its record besides: together 1 to 1.5 kB for a key with a few
/// scopes and no metadata. The default bound of 256 MiB holds about 200,000 such keys. One part in sixteen is for
/// keys with which wrong secrets alone were presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCache {
    pub(super) lease: Duration,
    pub(super) max_bytes: u64,
    pub(super) reads: NonZeroUsize,
}

impl KeyCache {
    /// Longest lease.
    pub const MAX_LEASE: Duration = Duration::from_mins(10);

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

    /// For how long what was read may be decided on after the read began, or after the last round of news that the
    /// [background work](crate::Keyward::background) has applied began. Longest ten minutes; zero keeps nothing.
    ///
    /// The bound of how long a revocation on another node can go unnoticed here when the news stay away.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.min(Self::MAX_LEASE);
        self
    }

    /// Most bytes that keys take in memory.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Most reads of the store at once; others wait. Half of them at most are for requests that have not presented what
    /// was proven on this node before, unless there is but one.
    #[must_use]
    pub fn reads_at_once(mut self, reads: NonZeroUsize) -> Self {
        self.reads = reads;
        self
    }

    /// How long a read is waited for. What comes later is too old to decide on.
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
