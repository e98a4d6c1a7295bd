//! All subjects that are counted, and when to look at them again.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use super::counters::{Counters, Memory, QUOTA_BYTES, SubjectId};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The subjects, in shards.
pub(super) struct Subjects {
    shards: Box<[Mutex<Shard>]>,
    hasher: foldhash::fast::RandomState,
    pub(super) memory: Memory,
    pub(super) count: AtomicU64,
    /// When requests go on sweeping, in nanoseconds.
    next_sweep: AtomicU64,
    /// The shard at which they do.
    next_shard: AtomicU64,
}

/// INVARIANT: the order of locks is a slot of the cache, a shard, counters.
#[derive(Default)]
struct Shard {
    subjects: HashSet<Entry, foldhash::fast::RandomState>,
    /// When to look at which counters again, in nanoseconds.
    due: BinaryHeap<Due>,
}

/// Number of shards.
const SHARDS: usize = 64;

/// Subjects that a request looks at, at most, when it sweeps: more than it can add.
const SWEPT_AT_ONCE: usize = 8;

/// How long requests pause after a sweep that found nothing more, in nanoseconds.
const PAUSE: u64 = 100_000_000;

/// How long counters that a meter holds are left alone at least, in nanoseconds.
const HELD: u64 = 60_000_000_000;

/// About how many bytes a subject takes without quotas: its counters, and its places in the set and in the queue, which
/// are a quarter empty on average.
const SUBJECT_BYTES: usize =
    2 * size_of::<usize>() + size_of::<Counters>() + (size_of::<Due>() + 9) * 4 / 3;

struct Entry(Arc<Counters>);

struct Due {
    at: Reverse<u64>,
    counters: Arc<Counters>,
}

impl Subjects {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            memory: Memory::new(max_bytes),
            count: AtomicU64::new(0),
            next_sweep: AtomicU64::new(0),
            next_shard: AtomicU64::new(0),
        }
    }

    /// Looks at a few subjects of each shard, and returns whether more may be due.
    pub(super) fn sweep(&self, now: u64) -> bool {
        let mut may_go_on = false;
        for shard in &self.shards {
            may_go_on |= self.sweep_shard(shard, now, SWEPT_AT_ONCE) == SWEPT_AT_ONCE;
        }
        may_go_on
    }

    fn shard_of(&self, id: &SubjectId) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(id);
        let shard = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        self.shards.get(shard)
    }

    /// Returns the counters of a subject; `None` if there is no memory left for them.
    pub(super) fn counters_of(&self, id: SubjectId) -> Option<Arc<Counters>> {
        let mut shard = lock(self.shard_of(&id)?);
        if let Some(Entry(found)) = shard.subjects.get(&id) {
            return Some(Arc::clone(found));
        }
        if !self.memory.reserve(SUBJECT_BYTES) {
            return None;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let counters = Arc::new(Counters::new(id));
        shard.subjects.insert(Entry(Arc::clone(&counters)));
        shard.due.push(Due {
            at: Reverse(0),
            counters: Arc::clone(&counters),
        });
        Some(counters)
    }

    /// Looks at a few subjects, if it is time.
    #[inline]
    pub(super) fn sweep_some(&self, now: u64) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        if now >= due {
            self.sweep_next(now, due);
        }
    }

    #[cold]
    fn sweep_next(&self, now: u64, due: u64) {
        let pause = now.saturating_add(PAUSE);
        let is_mine =
            self.next_sweep
                .compare_exchange(due, pause, Ordering::Relaxed, Ordering::Relaxed);
        if is_mine.is_err() {
            return; // Another request sweeps.
        }
        let mut left = SWEPT_AT_ONCE;
        for _ in 0..SHARDS {
            let next = self.next_shard.load(Ordering::Relaxed);
            let shard = usize::try_from(next).unwrap_or(0) % SHARDS;
            let shard = self.shards.get(shard);
            left -= shard.map_or(0, |shard| self.sweep_shard(shard, now, left));
            if left == 0 {
                // There may be more here: the next request goes on.
                self.next_sweep.store(now, Ordering::Relaxed);
                return;
            }
            self.next_shard
                .store(next.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Looks at up to `most` subjects that are due, and returns their number.
    fn sweep_shard(&self, shard: &Mutex<Shard>, now: u64, most: usize) -> usize {
        let mut shard = lock(shard);
        for swept in 0..most {
            if shard.due.peek().is_none_or(|due| due.at.0 > now) {
                shard.shrink();
                return swept;
            }
            let Some(Due { counters, .. }) = shard.due.pop() else {
                return swept;
            };
            // Not held means: by the set and by this function alone. No meter gets it while the shard is locked.
            let is_held = Arc::strong_count(&counters) > 2;
            let (freed, look_at) = lock(&counters.state).free(now);
            let is_in_flight = counters.in_flight.load(Ordering::Acquire) > 0;
            let look_at = look_at.or(is_in_flight.then(|| now.saturating_add(HELD)));
            self.memory.give_back(freed);
            if look_at.is_none() && !is_held {
                shard.subjects.remove(&counters.id);
                let state = lock(&counters.state);
                self.memory
                    .give_back(SUBJECT_BYTES + state.quantities.len() * QUOTA_BYTES);
                drop(state);
                self.count.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let look_at = look_at.unwrap_or_else(|| now.saturating_add(HELD));
            shard.due.push(Due {
                at: Reverse(look_at.max(now.saturating_add(1))),
                counters,
            });
        }
        most
    }
}

impl Shard {
    /// Gives memory back that is not needed any more.
    fn shrink(&mut self) {
        if self.subjects.capacity() > 64 && self.subjects.len() < self.subjects.capacity() / 4 {
            self.subjects.shrink_to_fit();
            self.due.shrink_to_fit();
        }
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Entry {}

impl Borrow<SubjectId> for Entry {
    fn borrow(&self) -> &SubjectId {
        &self.0.id
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}
