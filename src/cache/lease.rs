//! Which reads may decide: by the clock, by the feed, and in the order of this node's operations.
//!
//! # The lease
//! An answer may decide only if one of two conditions holds just before the verdict. Either its own read *began* less
//! than the bound ago, or the feed vouches for it: the answer belongs to the feed's present history, and the last
//! completed poll *began* less than the bound ago and has been applied. The start counts, since an answer that was sent
//! may lie in a buffer for as long as the process was frozen.

use std::sync::Arc;
use std::time::Duration;

use super::key_cache::KeyCache;
use super::slot::{Entry, Slot, Snapshot, Stamp};
use crate::clock::{ClockError, MonotonicClock};
use crate::key::KeyRecord;
use crate::store::CutoffScope;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// Says which reads may decide: the bound of their age, the progress of the feed, and the fence of all keys.
pub(crate) struct Lease {
    pub(crate) epochs: Epochs,
    /// The bound in nanoseconds. With 0, no read decides on another request than its own.
    bound: u64,
    /// Counted from 1; 0 before the first poll.
    history: AtomicU64,
    /// When the last completed poll began, in nanoseconds and plus one; 0 before the first.
    round: AtomicU64,
    pub(super) monotonic: Arc<dyn MonotonicClock>,
}

impl Lease {
    pub(super) fn new(bound: u64, monotonic: Arc<dyn MonotonicClock>) -> Self {
        Self {
            epochs: Epochs::default(),
            bound,
            history: AtomicU64::new(0),
            round: AtomicU64::new(0),
            monotonic,
        }
    }

    /// Returns whether a read may decide on a request now: the one answer to that question. Call it with the slot
    /// locked, and decide under the same lock.
    ///
    /// `request` is `None` for a request that came after the read. Such a read decides only if
    /// - *the lease* covers it: it began less than the bound ago, or the feed vouches for it;
    /// - no commit of this node about the key is in progress: its outcome is unknown, and it may be the key's end;
    /// - and *the fence* admits it: it began after the last commit about the key, or about all keys, that this node has
    ///   seen end; it shows no lower revision than the feed has reported; and no newer read has become the entry.
    ///
    /// The lease comes first. A poll that completes has applied the key's changes under this very lock, and the cutoffs
    /// before it: a request that sees the completed poll sees them too.
    ///
    /// A read that began after the request came, and not longer ago than a request waits, shows the key as the store
    /// had it during the request. It decides even if commits overtake it: a key under constant change would otherwise
    /// be undecidable. A change that returned before the request came was committed before that read began, so the read
    /// shows it. If a hash was computed since the read, commits may have overtaken it for as long as the hash took:
    /// then the fence must admit it, too.
    ///
    /// An end that this process has seen pass is no part of the question: whatever read decides, `PassedEnds` refuses
    /// the key.
    #[inline(always)]
    pub(crate) fn may_decide(
        &self,
        slot: &Slot,
        read: &Snapshot,
        request: Option<RequestEpochs>,
        now: u64,
    ) -> bool {
        let is_covered =
            self.covers(read.stamp, now) && !slot.is_pending() && !self.epochs.is_pending(read);
        let is_admitted = || slot.admits_snapshot(read) && self.epochs.admits(read.stamp.epoch);
        let Some(request) = request else {
            return is_covered && is_admitted();
        };
        let age = now.checked_sub(read.stamp.began);
        let is_own = read.stamp.epoch > request.came
            && age.is_some_and(|age| u128::from(age) < self.patience().as_nanos());
        is_own && (read.stamp.epoch > request.hashed || is_admitted())
            || is_covered && is_admitted()
    }

    /// Returns the slot's entry, if it may decide on a request that comes now.
    #[inline]
    pub(crate) fn usable<'a>(&self, slot: &'a Slot, now: u64) -> Option<&'a Entry> {
        let entry = slot.entry.as_ref()?;
        self.may_decide(slot, &entry.snapshot, None, now)
            .then_some(entry)
    }

    /// Reads the monotonic clock, in nanoseconds.
    pub(crate) fn now(&self) -> Result<u64, ClockError> {
        let elapsed = self.monotonic.elapsed()?;
        elapsed
            .as_secs()
            .checked_mul(1_000_000_000)
            .and_then(|nanos| nanos.checked_add(u64::from(elapsed.subsec_nanos())))
            .ok_or(ClockError)
    }

    /// Creates a stamp for a read that begins now.
    pub(super) fn stamp(&self) -> Result<Stamp, ClockError> {
        // The history first: an answer must not claim one that began after the read.
        let history = self.history();
        Ok(Stamp {
            history,
            epoch: self.epochs.next(),
            began: self.now()?,
        })
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

    /// Returns whether the lease covers a read with that stamp now.
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

/// When a request came, and when a hash was last computed for it, in epochs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestEpochs {
    pub(crate) came: u64,
    pub(crate) hashed: u64,
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
    pub(super) fn is_pending(&self, read: &Snapshot) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0 && self.binds(read.compiled.record())
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
    use std::sync::Weak;

    use super::*;
    use crate::cache::{Cache, Compiler};
    use crate::clock::BootClock;
    use crate::key::Access;
    use crate::testkit::keyward_with_key;

    fn lease(bound: u64) -> Lease {
        Lease::new(bound, Arc::new(BootClock::new()))
    }

    fn stamp(began: u64, history: u32) -> Stamp {
        Stamp {
            epoch: 1,
            began,
            history,
        }
    }

    #[test]
    fn a_read_decides_within_the_bound() {
        let lease = lease(100);
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
            !self::lease(0).covers(stamp(50, 0), 50),
            "no bound, no second use"
        );
    }

    #[test]
    fn a_round_covers_its_own_history() {
        let lease = lease(100);
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

    #[tokio::test]
    async fn lease_and_fence_say_which_read_decides() {
        let (keyward, key) = keyward_with_key([], Access::Full).await;
        let home = Weak::<Cache>::new();
        let compiler = Compiler::new(keyward.format().clone(), Arc::default(), home);
        let lease = lease(100);
        let stamp = Stamp {
            epoch: 5,
            began: 1_000,
            history: 0,
        };
        let compiled = compiler.compile(key.record().clone());
        let read = Snapshot { compiled, stamp };
        let later = |slot: &Slot, now| lease.may_decide(slot, &read, None, now);
        let own = |slot: &Slot, came, hashed| {
            let request = RequestEpochs { came, hashed };
            lease.may_decide(slot, &read, Some(request), 1_000)
        };

        let mut slot = Slot::default();
        for (now, decides) in [(999, false), (1_000, true), (1_099, true), (1_100, false)] {
            assert_eq!(later(&slot, now), decides, "{now}");
        }

        slot.begin_commit();
        assert!(!later(&slot, 1_000), "the commit's outcome is unknown");
        assert!(own(&slot, 4, 4), "the read began after the request came");
        assert!(!own(&slot, 5, 5), "the request came after the read began");

        slot.end_commit(6);
        assert!(!later(&slot, 1_000), "the commit has overtaken the read");
        assert!(own(&slot, 4, 4));
        assert!(!own(&slot, 4, 5), "a hash took time since the read");

        let mut slot = Slot::default();
        slot.raise_floor(read.revision() + 1, 0);
        assert!(!later(&slot, 1_000), "the feed has reported a change");
        assert!(!own(&slot, 4, 5));

        let slot = Slot::default();
        while lease.epochs.latest() < stamp.epoch {
            lease.epochs.invalidate_all();
        }
        assert!(!later(&slot, 1_000), "all reads until then are old");
        assert!(own(&slot, 4, 4));
    }
}
