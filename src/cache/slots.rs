//! The slots of all keys in use on this node, in bounded memory.
//!
//! # Which keys stay cached?
//! A key with a proven secret is in the main segment. A known key that was presented only with wrong secrets is on
//! probation, a small segment of its own; unknown ids are not cached. A flood of unproven requests therefore evicts no
//! key with a proven secret. A full segment finds a victim by sampling: of some slots picked at random, it evicts the
//! first that was not used since it was last picked (second chance).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::key_cache::KeyCache;
use super::lease::{Epochs, Lease, Stamp};
use super::map::SlotMap;
use super::segments::CacheSegments;
use super::slot::{CacheSegment, Entry, Proof, Slot, Snapshot};
use super::watchers::Watchers;
use super::weight::ALLOCATION;
use crate::clock::{ClockError, MonotonicClock, from_unix_micros};
use crate::key::{KeyId, StoredKey};
use crate::store::{CutoffScope, Usage, UsageSource};
use crate::sync::{Mutex, lock};

/// The slots, and the state that concerns all of them.
pub(crate) struct Slots {
    map: SlotMap,
    pub(crate) epochs: Epochs,
    pub(crate) lease: Lease,
    segments: CacheSegments,
    pub(super) watchers: Watchers,
    /// Usage of keys that lost their slot before it was collected.
    left_behind: Mutex<HashMap<KeyId, Usage>>,
    keeps_usage: bool,
    monotonic: Arc<dyn MonotonicClock>,
}

/// Maximum number of keys in `left_behind`. The loss of some usage is harmless.
const MOST_LEFT_BEHIND: usize = 65_536;

/// The bytes of a slot, its place in the map (up to twice as large as necessary, and the id), and in its segment.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
const SLOT_BYTES: u32 = (size_of::<Slot>() + ALLOCATION + 96) as u32;

/// When a request came, and when a hash was last computed for it, in epochs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestEpochs {
    pub(crate) came: u64,
    pub(crate) hashed: u64,
}

impl Slots {
    pub(crate) fn new(
        settings: KeyCache,
        keeps_usage: bool,
        monotonic: Arc<dyn MonotonicClock>,
    ) -> Self {
        let bound = u64::try_from(settings.lease.as_nanos()).unwrap_or(u64::MAX);
        Self {
            keeps_usage,
            map: SlotMap::new(),
            epochs: Epochs::default(),
            lease: Lease::new(bound),
            segments: CacheSegments::new(settings.max_bytes),
            watchers: Watchers::default(),
            left_behind: Mutex::new(HashMap::new()),
            monotonic,
        }
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

    /// Visits the key's slot; `None` if it has no slot. `prepare` runs before the slot is locked, and only if there is
    /// one.
    #[inline]
    pub(crate) fn find<P, T>(
        &self,
        id: KeyId,
        prepare: impl FnOnce() -> P,
        visit: impl FnOnce(P, &mut Slot) -> T,
    ) -> Option<T> {
        self.map.find(id, prepare, visit)
    }

    /// Visits the key's slot, and creates it if it has none.
    pub(crate) fn with<T>(&self, id: KeyId, visit: impl FnMut(&mut Slot) -> T) -> T {
        self.map.with(id, visit)
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
    #[inline]
    pub(crate) fn may_decide(
        &self,
        slot: &Slot,
        read: &Snapshot,
        request: Option<RequestEpochs>,
        now: u64,
    ) -> bool {
        let is_covered = self.lease.covers(read.stamp, now)
            && !slot.is_pending()
            && !self.epochs.is_pending(read.compiled.record());
        let is_admitted = || slot.admits_snapshot(read) && self.epochs.admits(read.stamp.epoch);
        let Some(request) = request else {
            return is_covered && is_admitted();
        };
        let age = now.checked_sub(read.stamp.began);
        let is_own = read.stamp.epoch > request.came
            && age.is_some_and(|age| u128::from(age) < self.lease.patience().as_nanos());
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

    /// Removes the slot, if it is not needed any more.
    pub(super) fn release(&self, id: KeyId) {
        let is_dead = self.map.get(id, |slot| {
            let mut slot = lock(slot);
            self.retire(id, &mut slot)
        });
        if is_dead == Some(true) {
            self.map.remove_dead(id);
        }
    }

    /// Marks an idle slot as dead, saves its usage, and returns whether it is dead.
    fn retire(&self, id: KeyId, slot: &mut Slot) -> bool {
        if !slot.is_idle() {
            return false;
        }
        if let Some(left) = usage(slot).filter(|_| self.keeps_usage) {
            let mut left_behind = lock(&self.left_behind);
            let earlier = left_behind.get(&id).copied();
            if earlier.is_some() || left_behind.len() < MOST_LEFT_BEHIND {
                left_behind.insert(id, earlier.map_or(left, |earlier| earlier.merged(left)));
            }
        }
        (slot.granted, slot.refused) = (0, 0);
        slot.is_dead = true;
        true
    }

    /// Creates a stamp for a read that begins now.
    pub(super) fn stamp(&self) -> Result<Stamp, ClockError> {
        // The history first: an answer must not claim one that began after the read.
        let history = self.lease.history();
        Ok(Stamp {
            history,
            epoch: self.epochs.next(),
            began: self.now()?,
        })
    }

    /// Caches a snapshot: in the main segment with a proof, and on probation without one.
    pub(crate) fn admit(&self, id: KeyId, snapshot: &Snapshot, proof: Option<Proof>) {
        if self.lease.bound() == 0 {
            return;
        }
        let segment = match proof {
            Some(_) => CacheSegment::Main,
            None => CacheSegment::Probation,
        };
        let epoch = self.epochs.next();
        let has_entered = self.with(id, |slot| {
            self.epochs.admits(snapshot.stamp.epoch) && slot.enter(snapshot, proof, epoch)
        });
        if has_entered {
            self.place(id, segment, snapshot);
        }
    }

    /// Updates the weight of a key that is in a segment.
    pub(super) fn reweigh(&self, id: KeyId, snapshot: &Snapshot) {
        self.place(id, CacheSegment::Probation, snapshot);
    }

    fn place(&self, id: KeyId, segment: CacheSegment, snapshot: &Snapshot) {
        let weight = snapshot.compiled.cached.bytes.saturating_add(SLOT_BYTES);
        for victim in self.segments.place(&self.map, id, segment, weight) {
            self.release(victim);
        }
    }

    /// Marks all reads of this key until now as old.
    pub(crate) fn forget(&self, id: KeyId) {
        let epoch = self.epochs.next();
        self.find(id, || (), |(), slot| slot.invalidate(epoch));
        self.watchers.wake(id);
    }

    /// Compares the slot with the key as the store holds it by now: unless the two agree, all reads until now are old.
    pub(crate) fn compare(&self, id: KeyId, stored: Option<&StoredKey>) {
        let epoch = self.epochs.next();
        let is_old = self.find(
            id,
            || (),
            |(), slot| {
                let is_old = slot.is_behind(stored);
                if is_old {
                    slot.invalidate(epoch);
                }
                is_old
            },
        );
        // A request that waits for a key to end need not hold its slot.
        if is_old != Some(false) {
            self.watchers.wake(id);
        }
    }

    /// Marks all reads of any key until now as old, and all that the feed reported.
    pub(crate) fn forget_all(&self) {
        self.lease.begin_history();
        self.epochs.invalidate_all();
        self.watchers.wake_all();
    }

    /// Applies a cutoff: all reads until now of the keys that it binds are old. So are reads in progress, as their
    /// keys' owners are still unknown.
    pub(super) fn cut_off(&self, scope: &CutoffScope) {
        let epoch = self.epochs.next();
        self.map.for_each(|_, slot| {
            let mut slot = lock(slot);
            let is_bound = slot.entry.as_ref().is_none_or(|entry| {
                let record = entry.snapshot.compiled.record();
                slot.readers > 0 || scope.binds(record.tenant(), record.owner())
            });
            if is_bound {
                slot.invalidate(epoch);
            }
        });
        self.watchers.wake_all();
    }

    /// Applies a change from the feed: the key is at this revision.
    pub(super) fn on_feed_change(&self, id: KeyId, revision: u64) {
        let history = self.lease.history();
        self.find(id, || (), |(), slot| slot.raise_floor(revision, history));
        self.watchers.wake(id);
    }

    /// Gives a request's place back.
    pub(crate) fn give_back(&self, id: KeyId) {
        let is_idle = self.find(
            id,
            || (),
            |(), slot| {
                slot.in_flight = slot.in_flight.saturating_sub(1);
                slot.is_idle()
            },
        );
        if is_idle == Some(true) {
            self.release(id);
        }
    }

    /// Returns the number of keys in the two segments, and their weight in bytes.
    pub(super) fn occupancy(&self) -> (usize, u64) {
        self.segments.occupancy()
    }
}

/// Collects usage since the last time.
impl UsageSource for Slots {
    fn collect(&self) -> Vec<(KeyId, Usage)> {
        let mut collected = std::mem::take(&mut *lock(&self.left_behind));
        self.map.for_each(|id, slot| {
            let mut slot = lock(slot);
            let usage = usage(&slot);
            (slot.granted, slot.refused) = (0, 0);
            drop(slot);
            if let Some(usage) = usage {
                // Usage of a key that lost its slot and got a new one is reported once.
                let earlier = collected.get(&id).copied();
                collected.insert(id, earlier.map_or(usage, |earlier| earlier.merged(usage)));
            }
        });
        collected.into_iter().collect()
    }

    fn elapsed(&self) -> Option<Duration> {
        self.monotonic.elapsed().ok()
    }

    fn peek(&self, id: KeyId) -> Option<Usage> {
        let left = lock(&self.left_behind).get(&id).copied();
        let here = self.find(id, || (), |(), slot| usage(slot)).flatten();
        left.into_iter().chain(here).reduce(Usage::merged)
    }
}

fn usage(slot: &Slot) -> Option<Usage> {
    if slot.granted == 0 && slot.refused == 0 {
        return None;
    }
    let last_used_at = from_unix_micros(slot.last_used)?;
    Some(Usage::new(
        last_used_at,
        slot.granted.into(),
        slot.refused.into(),
    ))
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (keys, bytes) = self.occupancy();
        f.debug_struct("Slots")
            .field("keys", &keys)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
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

    #[tokio::test]
    async fn lease_and_fence_say_which_read_decides() {
        let (keyward, key) = keyward_with_key(Access::Full).await;
        let home = Weak::<Cache>::new();
        let compiler = Compiler::new(keyward.format().clone(), Arc::default(), home);
        let settings = KeyCache::new().lease(Duration::from_nanos(100));
        let slots = Slots::new(settings, false, Arc::new(BootClock::new()));
        let stamp = Stamp {
            epoch: 5,
            began: 1_000,
            history: 0,
        };
        let compiled = compiler.compile(key.record().clone());
        let read = Snapshot { compiled, stamp };
        let later = |slot: &Slot, now| slots.may_decide(slot, &read, None, now);
        let own = |slot: &Slot, came, hashed| {
            let request = RequestEpochs { came, hashed };
            slots.may_decide(slot, &read, Some(request), 1_000)
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
        while slots.epochs.latest() < stamp.epoch {
            slots.epochs.invalidate_all();
        }
        assert!(!later(&slot, 1_000), "all reads until then are old");
        assert!(own(&slot, 4, 4));
    }
}
