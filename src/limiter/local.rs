//! The limiter in this process's memory.
//!
//! # How is it all or nothing?
//! A meter locks the counters of all its subjects, in one order for all meters, then checks every limit and then counts
//! in every limit. A request that is refused has counted nowhere, and no request sees another's half.
//!
//! # How is memory bounded, and freed?
//! The counters of a subject are shared by all meters that count on them, and stay in the map until no meter holds them
//! and all their windows have drained. Each shard of the map has a queue of instants at which to look at a subject
//! again. Requests advance the queues, a few subjects at a time, and so does the background work: no task of its own is
//! needed. A subject that finds no memory left is refused as undecidable, since to make room would be to forget what
//! others have used.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::ring::Ring;
use super::{
    Charge, Limit, LimitRule, LimitSet, LimitSource, LimitState, Limiter, LimiterError, Meter,
    Subject, TakeError, Taken, Tick,
};
use crate::key::{KeyId, Quota};
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, lock};

/// Counts in this process's memory: it never admits more than a limit, and may refuse for up to a sixtieth of the
/// window longer than an exact log of all requests would.
///
/// It is the default. Clones share their counters.
///
/// A subject takes some 130 bytes, and 80 for each of its quotas; a quota in steady use takes 61 to 244 more. Subjects
/// without use in their longest window take nothing, unless their key is cached. A cached key with two quotas takes
/// some 370 bytes more for its meter, and likewise for each route with quotas that it has used lately, at most sixteen.
///
/// ```
/// use keyward::limiter::{RateLimiting, LocalLimiter};
///
/// let limiter = LocalLimiter::with_max_bytes(64 << 20);
/// let rate_limiting = RateLimiting::new().limiter(limiter.clone());
/// println!("{} subjects in {} bytes", limiter.subjects(), limiter.bytes());
/// # let _ = rate_limiting;
/// ```
#[derive(Clone)]
pub struct LocalLimiter {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Box<[Mutex<Shard>]>,
    hasher: foldhash::fast::RandomState,
    max_bytes: u64,
    /// The bytes of counters, which are bounded.
    bytes: AtomicU64,
    /// The bytes of meters, of which the cache of keys bounds the number.
    meter_bytes: AtomicU64,
    subjects: AtomicU64,
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

/// Windows of one subject, at most.
const MOST_QUANTITIES: usize = 256;

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

/// Bytes of a quota without the counters of its past.
const QUOTA_BYTES: usize = size_of::<Quantity>();

/// Who is counted. The id of a key and of a lineage is unique in all tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum SubjectId {
    Key([u64; 2]),
    Lineage([u64; 2]),
    Other(Box<Subject>),
}

/// The counters of one subject.
struct Counters {
    id: SubjectId,
    /// Beside the lock, so that a limit on concurrent requests alone takes none.
    in_flight: AtomicU32,
    state: Mutex<State>,
}

impl Counters {
    /// Takes a place among this many concurrent requests; returns whether there was one.
    #[inline]
    fn take_place(&self, most: NonZeroU32) -> bool {
        let next = |count| (count < most.get()).then_some(count + 1);
        let taken = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.is_ok()
    }

    #[inline]
    fn give_place_back(&self) {
        let next = |count: u32| count.checked_sub(1);
        let _ = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

#[derive(Default)]
struct State {
    /// The latest instant at which anything was counted or looked at. Earlier ones count as this one, as the rings have
    /// moved on.
    latest: u64,
    /// Whether any two quantities are of one group.
    has_groups: bool,
    quantities: Vec<Quantity>,
}

/// The use of one window. Quotas under one name, which differ in their windows as they do after a change, are one
/// group: what is used counts in all of them.
///
/// INVARIANT: it keeps its place for as long as a meter uses it.
struct Quantity {
    source: LimitSource,
    /// Number of windows of meters that use it.
    users: u32,
    name: Arc<str>,
    seconds: u32,
    group: u32,
    ring: Ring,
}

struct Entry(Arc<Counters>);

struct Due {
    at: Reverse<u64>,
    counters: Arc<Counters>,
}

impl LocalLimiter {
    /// The default bound of memory: 256 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

    /// Creates a limiter with the [default bound](Self::DEFAULT_MAX_BYTES) of memory.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_bytes(Self::DEFAULT_MAX_BYTES)
    }

    /// Creates a limiter whose counters take at most about this many bytes. The counters of cached keys that are idle
    /// are among them: a key with two quotas takes 300.
    ///
    /// If the bound is reached, requests that need more memory for their counters are undecidable
    /// ([`LimiterError::Full`]): counters that have not drained are never dropped.
    #[must_use]
    pub fn with_max_bytes(max_bytes: u64) -> Self {
        let shared = Shared {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            max_bytes,
            bytes: AtomicU64::new(0),
            meter_bytes: AtomicU64::new(0),
            subjects: AtomicU64::new(0),
            next_sweep: AtomicU64::new(0),
            next_shard: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns the number of subjects with counters.
    #[must_use]
    pub fn subjects(&self) -> u64 {
        self.shared.subjects.load(Ordering::Relaxed)
    }

    /// Returns about how many bytes the counters take, and the meters of cached keys.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let meters = self.shared.meter_bytes.load(Ordering::Relaxed);
        self.shared.bytes.load(Ordering::Relaxed) + meters
    }
}

impl Limiter for LocalLimiter {
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter> {
        let mut meter = LocalMeter {
            shared: Arc::clone(&self.shared),
            parts: Vec::with_capacity(1),
            is_complete: true,
            has_places: false,
            bytes: 0,
            limits: limits.into(),
        };
        for index in 0..meter.limits.len() {
            if meter.add(index).is_none() {
                meter.is_complete = false;
                meter.parts.clear();
                break;
            }
        }
        // `lock` has no room for more; this crate asks for no more, either.
        if meter.parts.len() > MAX_PARTS {
            meter.is_complete = false;
            meter.parts.clear();
        }
        // One order for all meters, so that no two wait for each other.
        meter.parts.sort_by_key(|part| Arc::as_ptr(&part.counters));
        meter.count_bytes();
        Arc::new(meter)
    }

    fn sweep(&self, now: Tick) -> bool {
        let mut may_go_on = false;
        for shard in &self.shared.shards {
            may_go_on |= self.shared.sweep_shard(shard, now.0, SWEPT_AT_ONCE) == SWEPT_AT_ONCE;
        }
        may_go_on
    }
}

impl Shared {
    /// Reserves memory; returns whether it is within the bound.
    fn reserve(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_within = before.saturating_add(bytes) <= self.max_bytes;
        if !is_within {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_within
    }

    /// Counts memory that is taken even beyond the bound.
    fn take_bytes(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn shard_of(&self, id: &SubjectId) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(id);
        let shard = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        self.shards.get(shard)
    }

    /// Returns the counters of a subject; `None` if there is no memory left for them.
    fn counters_of(&self, id: SubjectId) -> Option<Arc<Counters>> {
        let mut shard = lock(self.shard_of(&id)?);
        if let Some(Entry(found)) = shard.subjects.get(&id) {
            return Some(Arc::clone(found));
        }
        if !self.reserve(SUBJECT_BYTES) {
            return None;
        }
        self.subjects.fetch_add(1, Ordering::Relaxed);
        let counters = Arc::new(Counters {
            id,
            in_flight: AtomicU32::new(0),
            state: Mutex::default(),
        });
        shard.subjects.insert(Entry(Arc::clone(&counters)));
        shard.due.push(Due {
            at: Reverse(0),
            counters: Arc::clone(&counters),
        });
        Some(counters)
    }

    /// Looks at a few subjects, if it is time.
    #[inline]
    fn sweep_some(&self, now: u64) {
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
            self.give_back(freed);
            if look_at.is_none() && !is_held {
                shard.subjects.remove(&counters.id);
                let state = lock(&counters.state);
                self.give_back(SUBJECT_BYTES + state.quantities.len() * QUOTA_BYTES);
                drop(state);
                self.subjects.fetch_sub(1, Ordering::Relaxed);
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

impl State {
    /// Frees what has drained. Returns the number of bytes, and when to look again; `None` if nothing is counted.
    fn free(&mut self, now: u64) -> (usize, Option<u64>) {
        let mut freed = 0;
        let mut look_at = None;
        self.latest = self.latest.max(now);
        for quantity in &mut self.quantities {
            let drained_at = quantity.ring.drops_to(0);
            if drained_at <= now {
                freed += quantity.ring.free();
            } else {
                look_at = look_at.max(Some(drained_at));
            }
        }
        (freed, look_at)
    }

    /// Returns the ring of a window.
    #[inline]
    fn ring(&self, window: &Window) -> Option<&Ring> {
        let quantity = self.quantities.get(window.place)?;
        Some(&quantity.ring)
    }

    /// Calls with each ring in which the use of a window counts: its own, and those of the same quota with another
    /// window.
    #[inline]
    fn each_ring(&mut self, window: &Window, mut call: impl FnMut(&mut Ring)) {
        if self.has_groups {
            let group = self.quantities.get(window.place).map(|own| own.group);
            let same = self.quantities.iter_mut();
            same.filter(|of| Some(of.group) == group)
                .for_each(|of| call(&mut of.ring));
        } else if let Some(own) = self.quantities.get_mut(window.place) {
            call(&mut own.ring);
        }
    }

    /// Returns the window in which a quota is counted, and adds its ring if there is none; `None` if there is no memory
    /// left for it.
    fn window_of(
        &mut self,
        shared: &Shared,
        index: usize,
        source: LimitSource,
        quota: &Quota,
    ) -> Option<Window> {
        let seconds = u32::try_from(quota.window().as_secs()).unwrap_or(u32::MAX);
        let is_of_quota = |of: &Quantity| of.source == source && *of.name == *quota.name();
        let known = |of: &Quantity| is_of_quota(of) && of.seconds == seconds;
        let place = match self.quantities.iter().position(known) {
            Some(place) => place,
            None => {
                let same = self.quantities.iter().find(|of| is_of_quota(of));
                let group = same.map(|of| of.group);
                self.add_quantity(shared, source, quota.shared_name(), seconds, group)?
            }
        };
        self.quantities.get_mut(place)?.users += 1;
        Some(Window {
            index,
            place,
            limit: quota.limit().get(),
        })
    }

    /// Adds the ring of a window, and returns its place.
    fn add_quantity(
        &mut self,
        shared: &Shared,
        source: LimitSource,
        name: &Arc<str>,
        seconds: u32,
        group: Option<u32>,
    ) -> Option<usize> {
        // The quota's longest window knows most of what was used.
        let same = self.quantities.iter().filter(|of| Some(of.group) == group);
        let longest = same.max_by_key(|of| of.seconds);
        let ring = match longest {
            Some(longest) => longest.ring.with_window(seconds, self.latest),
            None => Ring::new(seconds),
        };
        if !shared.reserve(QUOTA_BYTES + ring.bytes()) {
            return None;
        }
        let next = self.quantities.iter().map(|of| of.group + 1).max();
        let added = Quantity {
            source,
            users: 0,
            name: Arc::clone(name),
            seconds,
            group: group.or(next).unwrap_or(0),
            ring,
        };
        // A longer window of the same quota knows all that a shorter one does.
        let is_covered = |of: &Quantity| {
            let mut others = self.quantities.iter().chain([&added]);
            others.any(|other| other.group == of.group && other.seconds > of.seconds)
        };
        let is_unused =
            |of: &Quantity| of.users == 0 && (of.ring.drops_to(0) <= self.latest || is_covered(of));
        let unused = self.quantities.iter().position(is_unused);
        let place = unused.unwrap_or(self.quantities.len());
        if place >= MOST_QUANTITIES {
            shared.give_back(QUOTA_BYTES + added.ring.bytes());
            return None;
        }
        match self.quantities.get_mut(place) {
            Some(unused) => {
                shared.give_back(QUOTA_BYTES + unused.ring.bytes());
                *unused = added;
            }
            None => {
                self.quantities.reserve_exact(1);
                self.quantities.push(added);
            }
        }
        let groups: HashSet<u32> = self.quantities.iter().map(|of| of.group).collect();
        self.has_groups = groups.len() < self.quantities.len();
        Some(place)
    }
}

/// The meter of some limits.
struct LocalMeter {
    shared: Arc<Shared>,
    /// One for each subject, in the order in which they are locked.
    parts: Vec<Part>,
    /// Whether there was memory for all counters.
    is_complete: bool,
    /// Whether there is a limit on concurrent requests.
    has_places: bool,
    bytes: usize,
    limits: Box<[Limit]>,
}

/// The limits of one subject.
struct Part {
    counters: Arc<Counters>,
    windows: Vec<Window>,
    /// The limit on concurrent requests, and its index.
    concurrency: Option<(NonZeroU32, usize)>,
}

/// A quota as it is counted.
struct Window {
    /// Its index among the limits.
    index: usize,
    /// The index of its quantity.
    place: usize,
    limit: u32,
}

/// Subjects of one request, at most: a key, its lineage, its owner and its tenant.
const MAX_PARTS: usize = 4;

type Locked<'a> = [Option<MutexGuard<'a, State>>; MAX_PARTS];

impl LocalMeter {
    /// Adds a limit; `None` if there is no memory left for its counter.
    fn add(&mut self, index: usize) -> Option<()> {
        let limit = self.limits.get(index)?;
        let id = SubjectId::of(&limit.subject);
        let known = self.parts.iter().position(|part| part.counters.id == id);
        if known.is_none() {
            let counters = self.shared.counters_of(id)?;
            self.parts.push(Part {
                counters,
                windows: Vec::new(),
                concurrency: None,
            });
        }
        let part = match known {
            Some(known) => self.parts.get_mut(known)?,
            None => self.parts.last_mut()?,
        };
        match &limit.rule {
            LimitRule::Quota(quota) => {
                let mut state = lock(&part.counters.state);
                let window = state.window_of(&self.shared, index, limit.source, quota)?;
                drop(state);
                part.windows.push(window);
            }
            LimitRule::Concurrency(most) => {
                part.concurrency = Some((*most, index));
                self.has_places = true;
            }
        }
        Some(())
    }

    /// Counts the memory that the meter takes itself.
    fn count_bytes(&mut self) {
        for part in &mut self.parts {
            part.windows.shrink_to_fit();
        }
        self.parts.shrink_to_fit();
        let windows: usize = self.parts.iter().map(|part| part.windows.len()).sum();
        self.bytes = 2 * size_of::<usize>()
            + size_of::<Self>()
            + self.parts.len() * size_of::<Part>()
            + windows * size_of::<Window>()
            + size_of_val(&*self.limits);
        let bytes = u64::try_from(self.bytes).unwrap_or(0);
        self.shared.meter_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Locks all counters, and returns the instant at which the request counts: `now`, or the latest that was counted.
    #[inline]
    fn lock(&self, now: u64) -> (Locked<'_>, u64) {
        let mut locked = Locked::default();
        let mut at = now;
        for (place, part) in locked.iter_mut().zip(&self.parts) {
            let state = lock(&part.counters.state);
            at = at.max(state.latest);
            *place = Some(state);
        }
        (locked, at)
    }

    fn each<'a, 'b>(
        &'a self,
        locked: &'a mut Locked<'b>,
    ) -> impl Iterator<Item = (&'a Part, &'a mut State)> + use<'a, 'b> {
        let states = locked.iter_mut().flatten().map(|state| &mut **state);
        self.parts.iter().zip(states)
    }

    #[inline]
    fn take_at_once(&self, now: u64, charge: Charge) -> Result<Taken, TakeError> {
        self.shared.sweep_some(now);
        if !self.is_complete {
            return Err(LimiterError::Full.into());
        }
        let charge = Charge::new(charge.cost, charge.counts_in_flight && self.has_places);
        // Most requests have one subject: their key.
        let [part] = &*self.parts else {
            return self.take_of_several(now, charge);
        };
        let is_counted = charge.cost > 0 && !part.windows.is_empty();
        if !is_counted && part.take_place(charge) {
            return Ok(Taken::new(Tick(now), charge, 0));
        }
        let mut state = lock(&part.counters.state);
        let at = now.max(state.latest);
        let has_all = part.has(&self.shared, &mut state, at, charge)?;
        // Places are taken last: a quota that refuses leaves them as they are.
        if !has_all || !is_counted || !part.take_place(charge) {
            return Err(refusal([(part, &*state)], at, charge));
        }
        part.count(&mut state, charge);
        Ok(Taken::new(Tick(at), charge, 0))
    }

    fn take_of_several(&self, now: u64, charge: Charge) -> Result<Taken, TakeError> {
        let (mut locked, at) = self.lock(now);
        let (mut has_all, mut failed) = (true, None);
        for (part, state) in self.each(&mut locked) {
            match part.has(&self.shared, state, at, charge) {
                Ok(has) => has_all &= has,
                Err(error) => failed = Some(error),
            }
        }
        if !has_all {
            return Err(refusal(self.each(&mut locked), at, charge));
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let refused = self.parts.iter().position(|part| !part.take_place(charge));
        if let Some(refused) = refused {
            for part in self.parts.iter().take(refused) {
                part.give_place_back(charge);
            }
            return Err(refusal(self.each(&mut locked), at, charge));
        }
        for (part, state) in self.each(&mut locked) {
            part.count(state, charge);
        }
        Ok(Taken::new(Tick(at), charge, 0))
    }
}

impl Part {
    /// Takes the place of a charge; returns `false` if it needs one, and there is none.
    #[inline]
    fn take_place(&self, charge: Charge) -> bool {
        let most = self.concurrency.filter(|_| charge.counts_in_flight);
        most.is_none_or(|(most, _)| self.counters.take_place(most))
    }

    #[inline]
    fn give_place_back(&self, charge: Charge) {
        if self.concurrency.is_some() && charge.counts_in_flight {
            self.counters.give_place_back();
        }
    }

    /// Returns whether all quotas have a charge.
    ///
    /// # Errors
    /// [`LimiterError::Full`] if they have, and there is no memory left to count it.
    #[inline(always)]
    fn has(
        &self,
        shared: &Shared,
        state: &mut State,
        at: u64,
        charge: Charge,
    ) -> Result<bool, LimiterError> {
        state.latest = at;
        let mut has_all = true;
        if charge.cost > 0 {
            for window in &self.windows {
                let ring = state.ring(window).filter(|_| !state.has_groups);
                // Most requests come in the present part of each window.
                let Some(used) = ring.and_then(|ring| ring.used_in_present(at)) else {
                    return self.has_after_moving(shared, state, at, charge);
                };
                has_all &= used + u64::from(charge.cost) <= window.limit.into();
            }
        }
        Ok(has_all)
    }

    /// Moves all rings on, and returns whether all quotas have a charge.
    #[cold]
    fn has_after_moving(
        &self,
        shared: &Shared,
        state: &mut State,
        at: u64,
        charge: Charge,
    ) -> Result<bool, LimiterError> {
        let (mut has_all, mut is_full) = (true, false);
        for window in &self.windows {
            state.each_ring(window, |ring| {
                is_full |= !ring.try_advance(at, |bytes| shared.reserve(bytes));
            });
            let used = state.ring(window).map(|ring| ring.used_at(at));
            has_all &=
                used.is_some_and(|used| used + u64::from(charge.cost) <= window.limit.into());
        }
        if has_all && is_full {
            return Err(LimiterError::Full);
        }
        Ok(has_all)
    }

    /// Counts a charge that all quotas [have](Self::has), in the part that the rings were moved on to.
    #[inline]
    fn count(&self, state: &mut State, charge: Charge) {
        if charge.cost > 0 {
            for window in &self.windows {
                state.each_ring(window, |ring| ring.add(charge.cost));
            }
        }
    }
}

/// Returns why a charge was refused.
#[cold]
fn refusal<'a, S: Deref<Target = State>>(
    each: impl IntoIterator<Item = (&'a Part, S)>,
    at: u64,
    charge: Charge,
) -> TakeError {
    let (mut exceeded, mut too_costly, mut busy) = (
        LimitSet::default(),
        LimitSet::default(),
        LimitSet::default(),
    );
    let mut until = at;
    for (part, state) in each {
        for window in part.windows.iter().filter(|_| charge.cost > 0) {
            let Some(most) = window.limit.checked_sub(charge.cost) else {
                too_costly.insert(window.index);
                continue;
            };
            let Some(ring) = state.ring(window) else {
                continue;
            };
            if ring.used_at(at) > most.into() {
                exceeded.insert(window.index);
                until = until.max(ring.drops_to(most.into()));
            }
        }
        // The last place may have been given back since.
        if let Some((_, index)) = part.concurrency.filter(|_| charge.counts_in_flight) {
            busy.insert(index);
        }
    }
    if !too_costly.is_empty() {
        TakeError::CostAboveLimit { limits: too_costly }
    } else if !exceeded.is_empty() {
        TakeError::Exceeded {
            limits: exceeded,
            retry_after: Duration::from_nanos(until - at),
        }
    } else {
        TakeError::TooManyInFlight { limits: busy }
    }
}

impl Drop for LocalMeter {
    fn drop(&mut self) {
        let bytes = u64::try_from(self.bytes).unwrap_or(0);
        self.shared.meter_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = lock(&self.counters.state);
        for window in &self.windows {
            if let Some(own) = state.quantities.get_mut(window.place) {
                own.users = own.users.saturating_sub(1);
            }
        }
    }
}

#[async_trait]
impl Meter for LocalMeter {
    fn limits(&self) -> &[Limit] {
        &self.limits
    }

    #[inline]
    fn try_take(&self, now: Tick, charge: Charge) -> Option<Result<Taken, TakeError>> {
        Some(self.take_at_once(now.0, charge))
    }

    fn settle(&self, now: Tick, taken: Taken, cost: u32) {
        let (mut locked, at) = self.lock(now.0);
        let before = taken.charge.cost;
        for (part, state) in self.each(&mut locked) {
            state.latest = at;
            for window in &part.windows {
                state.each_ring(window, |ring| {
                    if cost > before {
                        // It has been used, so it is counted even beyond the bound of memory.
                        ring.try_advance(at, |bytes| {
                            self.shared.take_bytes(bytes);
                            true
                        });
                        ring.add(cost - before);
                    } else {
                        ring.take_back(taken.at.0, before - cost);
                    }
                });
            }
        }
    }

    fn release(&self, taken: Taken) {
        if !taken.charge.counts_in_flight {
            return;
        }
        for part in &self.parts {
            part.give_place_back(taken.charge);
        }
    }

    fn states(&self, now: Tick, cost: u32) -> Vec<LimitState> {
        let (mut locked, at) = self.lock(now.0);
        let mut states: Vec<(usize, LimitState)> = Vec::with_capacity(self.limits.len());
        let mut push = |index: usize, remaining: u32, reset_after: u64| {
            if let Some(limit) = self.limits.get(index) {
                let reset_after = Duration::from_nanos(reset_after);
                states.push((
                    index,
                    LimitState::new(limit.clone(), remaining, reset_after),
                ));
            }
        };
        for (part, state) in self.each(&mut locked) {
            state.latest = at;
            for window in &part.windows {
                let Some(ring) = state.ring(window) else {
                    continue;
                };
                let left = u64::from(window.limit).saturating_sub(ring.used_at(at));
                let remaining = u32::try_from(left).unwrap_or(u32::MAX);
                // At least one more than now, and enough for the cost if the limit has that much.
                let wanted = remaining.saturating_add(1).max(cost).min(window.limit);
                let reset_at = ring.drops_to((window.limit - wanted).into());
                push(window.index, remaining, reset_at.saturating_sub(at));
            }
            if let Some((most, index)) = part.concurrency {
                let in_flight = part.counters.in_flight.load(Ordering::Acquire);
                push(index, most.get().saturating_sub(in_flight), 0);
            }
        }
        drop(locked);
        states.sort_by_key(|(index, _)| *index);
        states.into_iter().map(|(_, state)| state).collect()
    }
}

impl SubjectId {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Key(_, id) => Self::Key(halves(*id)),
            Subject::Lineage(_, id) => Self::Lineage(halves(*id)),
            Subject::Owner(..) | Subject::Tenant(_) => Self::Other(Box::new(subject.clone())),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each is one half")]
fn halves(id: KeyId) -> [u64; 2] {
    [(id.as_u128() >> 64) as u64, id.as_u128() as u64]
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

impl Default for LocalLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LocalLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimiter")
            .field("subjects", &self.subjects())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LocalMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMeter")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
