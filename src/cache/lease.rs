//! The age of a read: by the clock and the feed, and in the order of this node's operations.
//!
//! # The lease
//! An answer may decide only if one of two conditions holds just before the verdict. Either its own read *began* less
//! than the bound ago, or the feed vouches for it: the answer belongs to the feed's present history, and the last
//! completed poll *began* less than the bound ago and has been applied. The start counts, since an answer that was sent
//! may lie in a buffer for as long as the process was frozen.

use std::time::Duration;

use super::key_cache::KeyCache;
use crate::key::KeyRecord;
use crate::store::CutoffScope;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// When a read began: before the request to the store was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The read's place in the order of operations that this node began and ended.
    pub(crate) epoch: u64,
    /// The monotonic clock, in nanoseconds.
    pub(crate) began: u64,
    /// The history of the feed at that time; 0 before the first.
    pub(super) history: u32,
}

/// The bound, and the progress of the feed.
pub(crate) struct Lease {
    /// The bound in nanoseconds. With 0, no read decides on another request than its own.
    bound: u64,
    /// Counted from 1; 0 before the first poll.
    history: AtomicU64,
    /// When the last completed poll began, in nanoseconds and plus one; 0 before the first.
    round: AtomicU64,
}

impl Lease {
    pub(crate) fn new(bound: u64) -> Self {
        Self {
            bound,
            history: AtomicU64::new(0),
            round: AtomicU64::new(0),
        }
    }

    pub(crate) fn bound(&self) -> u64 {
        self.bound
    }

    /// Returns how long a request waits for a read, and a read decides on the request that waited for it.
    pub(crate) fn patience(&self) -> Duration {
        match self.bound {
            0 => KeyCache::DEFAULT_LEASE,
            bound => Duration::from_nanos(bound),
        }
    }

    /// Returns whether a read with that stamp may decide now.
    ///
    /// Call it under the key's lock and before the fence, so that a caller that sees a completed poll sees its changes
    /// too.
    pub(super) fn covers(&self, stamp: Stamp, now: u64) -> bool {
        if self.is_fresh(stamp.began, now) {
            return true;
        }
        // In this order: a poll of the present history never vouches for an entry of an older one.
        let round = self.round.load(Ordering::Acquire);
        let history = self.history.load(Ordering::Acquire);
        history != 0
            && u64::from(stamp.history) == history
            && round
                .checked_sub(1)
                .is_some_and(|began| self.is_fresh(began, now))
    }

    /// Returns when a read with that stamp stops being covered, unless another poll completes. In nanoseconds of the
    /// monotonic clock.
    pub(super) fn end(&self, stamp: Stamp) -> u64 {
        // In the order of `covers`.
        let round = self.round.load(Ordering::Acquire);
        let history = self.history.load(Ordering::Acquire);
        let is_followed = history != 0 && u64::from(stamp.history) == history;
        let round = round.checked_sub(1).filter(|_| is_followed);
        let began = stamp.began.max(round.unwrap_or(0));
        began.saturating_add(self.bound)
    }

    /// If the clock is earlier than the start, nothing is fresh.
    fn is_fresh(&self, began: u64, now: u64) -> bool {
        now.checked_sub(began).is_some_and(|age| age < self.bound)
    }

    /// Returns the present history, for a read that is about to begin.
    pub(super) fn history(&self) -> u32 {
        u32::try_from(self.history.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Begins a new history: the feed no longer vouches for earlier reads.
    pub(super) fn begin_history(&self) {
        self.history.fetch_add(1, Ordering::SeqCst);
    }

    /// Records that a poll that began then has been applied whole.
    pub(super) fn complete_round(&self, began: u64) {
        self.round
            .fetch_max(began.saturating_add(1), Ordering::AcqRel);
    }

    /// Returns whether the feed vouches for any read now.
    pub(super) fn is_followed(&self, now: u64) -> bool {
        let round = self.round.load(Ordering::Acquire);
        round
            .checked_sub(1)
            .is_some_and(|began| self.is_fresh(began, now))
    }
}

/// The node's logical clock, and the fence of cutoffs, which marks the reads that a cutoff may have made old.
///
/// An epoch numbers an operation that the node begins or ends. Every read of the store writes the count and every
/// verification reads the fence, so the two are on different cache lines.
#[derive(Default)]
pub(crate) struct Epochs {
    fence: Padded<Fence>,
    count: Padded<AtomicU64>,
    /// The scopes of pending cutoffs, each as often as it is pending.
    scopes: Mutex<Vec<CutoffScope>>,
}

#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Default)]
struct Fence {
    /// Reads of this epoch and earlier are old, whatever their key.
    barrier: AtomicU64,
    /// Commits of cutoffs with an unknown outcome.
    pending: AtomicU32,
}

impl Epochs {
    /// Begins an epoch, later than all before.
    pub(crate) fn next(&self) -> u64 {
        self.count.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Returns the latest epoch. Any operation that begins from here on is later.
    pub(crate) fn latest(&self) -> u64 {
        self.count.0.load(Ordering::SeqCst)
    }

    /// Returns whether a read of this epoch began after all reads were last marked as old.
    #[inline]
    pub(crate) fn admits(&self, epoch: u64) -> bool {
        epoch > self.fence.0.barrier.load(Ordering::SeqCst)
    }

    /// Returns whether a cutoff by this node that binds the key may be in progress.
    #[inline]
    pub(super) fn is_pending(&self, record: &KeyRecord) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0 && self.binds(record)
    }

    #[cold]
    fn binds(&self, record: &KeyRecord) -> bool {
        let (tenant, owner) = (record.tenant(), record.owner());
        lock(&self.scopes)
            .iter()
            .any(|scope| scope.binds(tenant, owner))
    }

    /// Returns whether any cutoff by this node may be in progress.
    pub(super) fn is_any_pending(&self) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0
    }

    pub(super) fn invalidate_all(&self) {
        let epoch = self.next();
        self.fence.0.barrier.fetch_max(epoch, Ordering::SeqCst);
    }

    pub(super) fn begin_cutoff(&self, scope: &CutoffScope) {
        lock(&self.scopes).push(scope.clone());
        self.fence.0.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a cutoff, once all reads of the keys in scope are marked as old.
    pub(super) fn end_cutoff(&self, scope: &CutoffScope) {
        self.fence.0.pending.fetch_sub(1, Ordering::SeqCst);
        let mut scopes = lock(&self.scopes);
        if let Some(place) = scopes.iter().position(|pending| pending == scope) {
            scopes.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(began: u64, history: u32) -> Stamp {
        Stamp {
            epoch: 1,
            began,
            history,
        }
    }

    #[test]
    fn a_read_decides_within_the_bound() {
        let lease = Lease::new(100);
        for (now, covered) in [
            (50, true),
            (149, true),
            (150, false),
            (u64::MAX, false),
            (49, false),
        ] {
            assert_eq!(lease.covers(stamp(50, 0), now), covered, "{now}");
        }
        assert!(
            !Lease::new(0).covers(stamp(50, 0), 50),
            "no bound, no second use"
        );
    }

    #[test]
    fn a_round_covers_its_own_history() {
        let lease = Lease::new(100);
        lease.complete_round(1_000);
        assert!(!lease.covers(stamp(0, 0), 1_050), "there is no history yet");
        lease.begin_history();
        assert!(lease.covers(stamp(0, 1), 1_099));
        assert_eq!(lease.end(stamp(0, 1)), 1_100);
        assert_eq!(lease.end(stamp(0, 0)), 100, "no round vouches for it");
        assert!(!lease.covers(stamp(0, 1), 1_100));
        lease.begin_history();
        assert!(
            !lease.covers(stamp(0, 1), 1_050),
            "an entry of the history before"
        );
        assert!(lease.covers(stamp(0, 2), 1_050));
        lease.complete_round(900);
        assert!(
            lease.covers(stamp(0, 2), 1_050),
            "a round that overtook an older one stands"
        );
    }
}
