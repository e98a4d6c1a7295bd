//! The segments of the cache: which keys stay, and which are evicted.

use super::map::SlotMap;
use super::slot::{CacheSegment, Slot};
use crate::key::KeyId;
use crate::sync::{Mutex, lock};

/// Divisor for probation's part of the bound.
const PROBATION_PART: u64 = 16;

/// Divisor of a segment's bound for its largest key: a heavier key is not cached.
const LARGEST_PART: u64 = 8;

/// Number of slots that are sampled before a used one is evicted too.
const SAMPLES: usize = 8;

/// Both segments.
///
/// INVARIANT: the lock is never taken while a slot is locked; slots are locked under it.
pub(super) struct CacheSegments(Mutex<Both>);

struct Both {
    main: Members,
    probation: Members,
    chance: u64,
}

struct Members {
    ids: Vec<KeyId>,
    bytes: u64,
    max_bytes: u64,
}

impl CacheSegments {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let probation = max_bytes / PROBATION_PART;
        let members = |max_bytes| Members {
            ids: Vec::new(),
            bytes: 0,
            max_bytes,
        };
        Self(Mutex::new(Both {
            main: members(max_bytes - probation),
            probation: members(probation),
            chance: 0x9e37_79b9_7f4a_7c15,
        }))
    }

    /// Puts a key into a segment, never from the main segment back to probation. Returns the keys to release: those
    /// evicted for it, or the key itself if it gets no place.
    pub(crate) fn place(
        &self,
        map: &SlotMap,
        id: KeyId,
        segment: CacheSegment,
        weight: u32,
    ) -> Vec<KeyId> {
        let mut both = lock(&self.0);
        let both = &mut *both;
        let is_placed = map.with(id, |slot| {
            if slot.entry.is_none() {
                return false; // The entry was removed between the two steps.
            }
            let segment = match slot.segment {
                CacheSegment::Main => CacheSegment::Main,
                _ => segment,
            };
            if (slot.segment, slot.weight) == (segment, weight) {
                return true;
            }
            both.leave(map, slot);
            let members = both.members(segment);
            if u64::from(weight) > members.max_bytes / LARGEST_PART {
                slot.entry = None; // It would evict too many keys.
                return false;
            }
            members.join(id, slot, segment, weight);
            true
        });
        if !is_placed {
            return vec![id];
        }
        let mut victims = Vec::new();
        for segment in [CacheSegment::Main, CacheSegment::Probation] {
            while let Some(victim) = both.pick(map, segment) {
                victims.push(victim);
            }
        }
        victims
    }

    pub(super) fn occupancy(&self) -> (usize, u64) {
        let both = lock(&self.0);
        let keys = both.main.ids.len() + both.probation.ids.len();
        (keys, both.main.bytes + both.probation.bytes)
    }
}

impl Both {
    fn members(&mut self, segment: CacheSegment) -> &mut Members {
        match segment {
            CacheSegment::Main => &mut self.main,
            CacheSegment::Probation | CacheSegment::Passing => &mut self.probation,
        }
    }

    /// Takes a slot out of its segment. The last of the members moves to its index.
    fn leave(&mut self, map: &SlotMap, slot: &mut Slot) {
        if slot.segment == CacheSegment::Passing {
            return;
        }
        let members = self.members(slot.segment);
        let place = usize::try_from(slot.place).unwrap_or(usize::MAX);
        members.bytes = members.bytes.saturating_sub(slot.weight.into());
        if place + 1 == members.ids.len() {
            members.ids.pop();
        } else if let Some(last) = members.ids.pop() {
            if let Some(here) = members.ids.get_mut(place) {
                *here = last;
                map.find(last, || (), |(), moved| moved.place = slot.place);
            }
        }
        (slot.segment, slot.weight) = (CacheSegment::Passing, 0);
    }

    /// Evicts one key from a segment that is over its bound; `None` if the segment is within it.
    fn pick(&mut self, map: &SlotMap, segment: CacheSegment) -> Option<KeyId> {
        let members = self.members(segment);
        if members.bytes <= members.max_bytes {
            return None;
        }
        let count = members.ids.len();
        let mut victim = None;
        for _ in 0..SAMPLES {
            let chance = usize::try_from(self.draw() >> 16).unwrap_or(0);
            let id = *self.members(segment).ids.get(chance % count.max(1))?;
            let was_used = map.find(
                id,
                || (),
                |(), slot| std::mem::take(&mut slot.is_referenced),
            );
            victim = Some(id);
            if was_used != Some(true) {
                break;
            }
        }
        let victim = victim?;
        map.with(victim, |slot| {
            slot.entry = None;
            self.leave(map, slot);
        });
        Some(victim)
    }

    /// Draws a random number by xorshift (Marsaglia 2003): victims need not be hard to guess, only spread.
    fn draw(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}

impl Members {
    fn join(&mut self, id: KeyId, slot: &mut Slot, segment: CacheSegment, weight: u32) {
        slot.place = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        (slot.segment, slot.weight) = (segment, weight);
        slot.is_referenced = true;
        self.ids.push(id);
        self.bytes += u64::from(weight);
    }
}
