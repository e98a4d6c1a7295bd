//! The counters of one subject, and the memory that all take.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::key::{KeyId, Quota};
use crate::limiter::ring::Ring;
use crate::limiter::{LimitSource, Subject};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};

/// Windows of one subject, at most.
const MOST_QUANTITIES: usize = 256;

/// Bytes of a quota without the counters of its past.
pub(super) const QUOTA_BYTES: usize = size_of::<Quantity>();

/// The memory that counters and meters take.
pub(super) struct Memory {
    max_bytes: u64,
    /// The bytes of counters, which are bounded.
    bytes: AtomicU64,
    /// The bytes of meters, of which the cache of keys bounds the number.
    meter_bytes: AtomicU64,
}

impl Memory {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: AtomicU64::new(0),
            meter_bytes: AtomicU64::new(0),
        }
    }

    /// Returns how much is taken.
    pub(super) fn taken(&self) -> u64 {
        let meters = self.meter_bytes.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed) + meters
    }

    /// Reserves memory; returns whether it is within the bound.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_within = before.saturating_add(bytes) <= self.max_bytes;
        if !is_within {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_within
    }

    /// Counts memory that is taken even beyond the bound.
    pub(super) fn take_bytes(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts the memory of a meter.
    pub(super) fn take_meter(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.meter_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_meter_back(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.meter_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Who is counted. The id of a key and of a lineage is unique in all tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum SubjectId {
    Key([u64; 2]),
    Lineage([u64; 2]),
    Other(Box<Subject>),
}

/// The counters of one subject.
pub(super) struct Counters {
    pub(super) id: SubjectId,
    /// Beside the lock, so that a limit on concurrent requests alone takes none.
    pub(super) in_flight: AtomicU32,
    pub(super) state: Mutex<State>,
}

impl Counters {
    pub(super) fn new(id: SubjectId) -> Self {
        Self {
            id,
            in_flight: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    /// Takes a place among this many concurrent requests; returns whether there was one.
    #[inline]
    pub(super) fn take_place(&self, most: NonZeroU32) -> bool {
        let next = |count| (count < most.get()).then_some(count + 1);
        let taken = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.is_ok()
    }

    #[inline]
    pub(super) fn give_place_back(&self) {
        let next = |count: u32| count.checked_sub(1);
        let _ = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

#[derive(Default)]
pub(super) struct State {
    /// The latest instant at which anything was counted or looked at. Earlier ones count as this one, as the rings have
    /// moved on.
    pub(super) latest: u64,
    /// Whether any two quantities are of one group.
    pub(super) has_groups: bool,
    pub(super) quantities: Vec<Quantity>,
}

/// The use of one window. Quotas under one name, which differ in their windows as they do after a change, are one
/// group: a use counts in all of them.
///
/// INVARIANT: it keeps its place for as long as a meter uses it.
pub(super) struct Quantity {
    pub(super) source: LimitSource,
    /// Number of windows of meters that use it.
    pub(super) users: u32,
    pub(super) name: Arc<str>,
    pub(super) seconds: u32,
    pub(super) group: u32,
    pub(super) ring: Ring,
}

impl State {
    /// Frees drained counters. Returns the number of bytes, and when to look again; `None` if nothing is counted.
    pub(super) fn free(&mut self, now: u64) -> (usize, Option<u64>) {
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
    pub(super) fn ring(&self, window: &Window) -> Option<&Ring> {
        let quantity = self.quantities.get(window.place)?;
        Some(&quantity.ring)
    }

    /// Calls with each ring in which the use of a window counts: its own, and those of the same quota with another
    /// window.
    #[inline]
    pub(super) fn each_ring(&mut self, window: &Window, mut call: impl FnMut(&mut Ring)) {
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
    pub(super) fn window_of(
        &mut self,
        memory: &Memory,
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
                self.add_quantity(memory, source, quota.shared_name(), seconds, group)?
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
    pub(super) fn add_quantity(
        &mut self,
        memory: &Memory,
        source: LimitSource,
        name: &Arc<str>,
        seconds: u32,
        group: Option<u32>,
    ) -> Option<usize> {
        // The quota's longest window knows most of the use.
        let same = self.quantities.iter().filter(|of| Some(of.group) == group);
        let longest = same.max_by_key(|of| of.seconds);
        let ring = match longest {
            Some(longest) => longest.ring.with_window(seconds, self.latest),
            None => Ring::new(seconds),
        };
        if !memory.reserve(QUOTA_BYTES + ring.bytes()) {
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
            memory.give_back(QUOTA_BYTES + added.ring.bytes());
            return None;
        }
        match self.quantities.get_mut(place) {
            Some(unused) => {
                memory.give_back(QUOTA_BYTES + unused.ring.bytes());
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

/// A quota as it is counted.
pub(super) struct Window {
    /// Its index among the limits.
    pub(super) index: usize,
    /// The index of its quantity.
    pub(super) place: usize,
    pub(super) limit: u32,
}

impl SubjectId {
    pub(super) fn of(subject: &Subject) -> Self {
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
