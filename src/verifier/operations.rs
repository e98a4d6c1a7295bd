//! What verifying costs, counted.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::hashing::Hasher;

/// What has been done, counted since the start. Hashes include those of issuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Operations {
    /// Credentials that were refused before anything else was done.
    pub unreadable: u64,
    /// Secrets that were compared with what an earlier request had proven, by one block of SHA-256.
    pub tags: u64,
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
    /// Polls of the store's change feed that were applied.
    pub rounds: u64,
    /// Polls of the store's change feed that failed. Watch it: while it grows, other nodes' changes are noticed late.
    pub rounds_failed: u64,
    /// Whether the change feed is being followed, so that cached keys need not be read again: a poll that began less
    /// than a [lease](super::KeyCache::lease) ago was applied. Watch it; it is always false where nothing is kept.
    pub is_followed: bool,
    /// Keys in memory.
    pub resident_keys: u64,
    /// About how many bytes they take.
    pub resident_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Counters {
    /// What every request counts, apart for each thread: one count for all would slow them all down.
    often: Box<[Stripe]>,
    store_reads: AtomicU64,
    rehashed: AtomicU64,
    rehashes_failed: AtomicU64,
    rounds: AtomicU64,
    rounds_failed: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            often: (0..=OWN_STRIPES).map(|_| Stripe::default()).collect(),
            store_reads: AtomicU64::default(),
            rehashed: AtomicU64::default(),
            rehashes_failed: AtomicU64::default(),
            rounds: AtomicU64::default(),
            rounds_failed: AtomicU64::default(),
        }
    }
}

/// So many threads have a stripe each. All later ones share the one behind.
const OWN_STRIPES: usize = 64;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    unreadable: AtomicU64,
    tags: AtomicU64,
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
    pub(super) fn unreadable(&self) {
        self.count(|stripe| &stripe.unreadable);
    }

    #[inline]
    pub(super) fn tag(&self) {
        self.count(|stripe| &stripe.tags);
    }

    #[inline]
    fn count(&self, of: impl FnOnce(&Stripe) -> &AtomicU64) {
        let mine = stripe();
        let Some(counter) = self.often.get(mine).map(of) else {
            return;
        };
        if mine < OWN_STRIPES {
            // Nobody else writes here: no need for a step that is one for all processors.
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn store_read(&self) {
        self.store_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn round_completed(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn round_failed(&self) {
        self.rounds_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rehashed(&self, replaced: bool) {
        let counter = if replaced {
            &self.rehashed
        } else {
            &self.rehashes_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(
        &self,
        hasher: &Hasher,
        is_followed: bool,
        (resident_keys, resident_bytes): (usize, u64),
    ) -> Operations {
        let (fast_hashes, slow_hashes) = hasher.hashes();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let often =
            |of: fn(&Stripe) -> &AtomicU64| self.often.iter().map(|stripe| read(of(stripe))).sum();
        Operations {
            unreadable: often(|stripe| &stripe.unreadable),
            tags: often(|stripe| &stripe.tags),
            store_reads: read(&self.store_reads),
            fast_hashes,
            slow_hashes,
            rehashed: read(&self.rehashed),
            rehashes_failed: read(&self.rehashes_failed),
            rounds: read(&self.rounds),
            rounds_failed: read(&self.rounds_failed),
            is_followed,
            resident_keys: u64::try_from(resident_keys).unwrap_or(u64::MAX),
            resident_bytes,
        }
    }
}
