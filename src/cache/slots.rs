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
use super::lease::Lease;
use super::map::SlotMap;
use super::segments::CacheSegments;
use super::slot::{CacheSegment, Proof, Slot, Snapshot};
use super::watchers::Watchers;
use super::weight::ALLOCATION;
use crate::clock::{MonotonicClock, from_unix_micros};
use crate::key::{KeyId, StoredKey};
use crate::store::{CutoffScope, Usage, UsageSource};
use crate::sync::{Mutex, lock};

/// The slots, and the state that concerns all of them.
pub(crate) struct Slots {
    pub(crate) map: SlotMap,
    pub(crate) lease: Lease,
    segments: CacheSegments,
    pub(super) watchers: Watchers,
    /// Usage of keys that lost their slot before it was collected.
    left_behind: Mutex<HashMap<KeyId, Usage>>,
    keeps_usage: bool,
}

/// Maximum number of keys in `left_behind`. The loss of some usage is harmless.
const MOST_LEFT_BEHIND: usize = 65_536;

/// The bytes of a slot, its place in the map (up to twice as large as necessary, and the id), and in its segment.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred")]
const SLOT_BYTES: u32 = (size_of::<Slot>() + ALLOCATION + 96) as u32;

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
            lease: Lease::new(bound, monotonic),
            segments: CacheSegments::new(settings.max_bytes),
            watchers: Watchers::default(),
            left_behind: Mutex::new(HashMap::new()),
        }
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

    /// Caches a snapshot: in the main segment with a proof, and on probation without one.
    pub(crate) fn admit(&self, id: KeyId, snapshot: &Snapshot, proof: Option<Proof>) {
        if self.lease.bound() == 0 {
            return;
        }
        let segment = match proof {
            Some(_) => CacheSegment::Main,
            None => CacheSegment::Probation,
        };
        let epoch = self.lease.epochs.next();
        let has_entered = self.map.with(id, |slot| {
            self.lease.epochs.admits(snapshot.stamp.epoch) && slot.enter(snapshot, proof, epoch)
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
        let epoch = self.lease.epochs.next();
        self.map.find(id, || (), |(), slot| slot.invalidate(epoch));
        self.watchers.wake(id);
    }

    /// Compares the slot with the key as the store holds it by now: unless the two agree, all reads until now are old.
    pub(crate) fn compare(&self, id: KeyId, stored: Option<&StoredKey>) {
        let epoch = self.lease.epochs.next();
        let is_old = self.map.find(
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
        self.lease.epochs.invalidate_all();
        self.watchers.wake_all();
    }

    /// Applies a cutoff: all reads until now of the keys that it binds are old. So are reads in progress, as their
    /// keys' owners are still unknown.
    pub(super) fn cut_off(&self, scope: &CutoffScope) {
        let epoch = self.lease.epochs.next();
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
        self.map
            .find(id, || (), |(), slot| slot.raise_floor(revision, history));
        self.watchers.wake(id);
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
        self.lease.monotonic.elapsed().ok()
    }

    fn peek(&self, id: KeyId) -> Option<Usage> {
        let left = lock(&self.left_behind).get(&id).copied();
        let here = self.map.find(id, || (), |(), slot| usage(slot)).flatten();
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
