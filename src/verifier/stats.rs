//! Counters of a node's verifications and their cost.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::cache::CacheStats;
use crate::hashing::Hasher;

/// Counters of a [`Verifier`](super::Verifier) since it started.
///
/// Hashes include those of issuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifierStats {
    /// Credentials that were rejected as malformed, before any other step.
    pub malformed: u64,
    /// Secrets compared with one that an earlier request has proven, by one block of SHA-256.
    pub cache_hits: u64,
    /// Keys read from the store.
    pub store_reads: u64,
    /// SHA-256 and HMAC-SHA-256 digests computed.
    pub fast_hashes: u64,
    /// Argon2id digests computed.
    pub slow_hashes: u64,
    /// Digests replaced by better ones.
    pub rehashed: u64,
    /// Digests that were not replaced because a hash or a commit failed, or another node did it first; a later use
    /// tries again. Digests put off for lack of a permit are not counted.
    pub rehashes_failed: u64,
    /// Polls of the store's change feed that were applied.
    pub feed_polls: u64,
    /// Polls of the store's change feed that failed. Watch it: while it grows, other nodes' changes are noticed late.
    pub feed_poll_failures: u64,
    /// Whether the change feed is current, so that cached keys need not be read again: a poll that began less than a
    /// [lease](super::KeyCache::lease) ago was applied. Watch it; it is always `false` if the cache is off.
    pub feed_is_current: bool,
    /// Keys in memory.
    pub resident_keys: u64,
    /// Approximate memory of these keys, in bytes.
    pub resident_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Counters {
    /// Counters that every request writes, separate for each thread: a shared counter would slow all threads down.
    often: Box<[Stripe]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            often: (0..=OWN_STRIPES).map(|_| Stripe::default()).collect(),
        }
    }
}

/// Number of threads with a stripe of their own. All later threads share one more stripe.
const OWN_STRIPES: usize = 64;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    malformed: AtomicU64,
    cache_hits: AtomicU64,
}

thread_local! {
    static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
}

fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            let stripe = THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_STRIPES);
            mine.set(Some(stripe));
            stripe
        })
    })
}

impl Counters {
    pub(super) fn malformed(&self) {
        self.count(|stripe| &stripe.malformed);
    }

    #[inline]
    pub(super) fn cache_hit(&self) {
        self.count(|stripe| &stripe.cache_hits);
    }

    #[inline]
    fn count(&self, of: impl FnOnce(&Stripe) -> &AtomicU64) {
        let mine = stripe();
        let Some(counter) = self.often.get(mine).map(of) else {
            return;
        };
        if mine < OWN_STRIPES {
            // No other thread writes this stripe: an atomic step across processors is not needed.
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(
        &self,
        hasher: &Hasher,
        cache: &CacheStats,
        (rehashed, rehashes_failed): (u64, u64),
    ) -> VerifierStats {
        let (fast_hashes, slow_hashes) = hasher.hashes();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let often =
            |of: fn(&Stripe) -> &AtomicU64| self.often.iter().map(|stripe| read(of(stripe))).sum();
        VerifierStats {
            malformed: often(|stripe| &stripe.malformed),
            cache_hits: often(|stripe| &stripe.cache_hits),
            store_reads: cache.store_reads,
            fast_hashes,
            slow_hashes,
            rehashed,
            rehashes_failed,
            feed_polls: cache.feed_polls,
            feed_poll_failures: cache.feed_poll_failures,
            feed_is_current: cache.feed_is_current,
            resident_keys: u64::try_from(cache.resident_keys).unwrap_or(u64::MAX),
            resident_bytes: cache.resident_bytes,
        }
    }
}
