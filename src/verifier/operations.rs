//! What verifying costs, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hashing::Hasher;

/// What has been done, counted since the start. Hashes include those of issuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Operations {
    /// Credentials that were refused before anything else was done.
    pub unreadable: u64,
    /// Keys read from the store.
    pub store_reads: u64,
    /// SHA-256 and HMAC-SHA-256 digests computed.
    pub fast_hashes: u64,
    /// Argon2id digests computed.
    pub slow_hashes: u64,
    /// Digests replaced by better ones.
    pub rehashed: u64,
    /// Digests that were not replaced because a hash or a commit failed, or somebody else did it first; a later
    /// use tries again. Those put off for want of a permit are not counted.
    pub rehashes_failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    unreadable: AtomicU64,
    store_reads: AtomicU64,
    rehashed: AtomicU64,
    rehashes_failed: AtomicU64,
}

impl Counters {
    pub(super) fn unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn store_read(&self) {
        self.store_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rehashed(&self, replaced: bool) {
        let counter = if replaced {
            &self.rehashed
        } else {
            &self.rehashes_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, hasher: &Hasher) -> Operations {
        let (fast_hashes, slow_hashes) = hasher.hashes();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Operations {
            unreadable: read(&self.unreadable),
            store_reads: read(&self.store_reads),
            fast_hashes,
            slow_hashes,
            rehashed: read(&self.rehashed),
            rehashes_failed: read(&self.rehashes_failed),
        }
    }
}
