//! The meter of a request's limits.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::counters::{Counters, Memory, State, SubjectId, Window};
use super::subjects::Subjects;
use crate::limiter::{
    Charge, Limit, LimitRule, LimitSet, LimitState, LimiterError, Meter, TakeError, Taken, Tick,
};
use crate::sync::{MutexGuard, Ordering, lock};

/// The meter of some limits.
pub(super) struct LocalMeter {
    subjects: Arc<Subjects>,
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

/// Subjects of one request, at most: a key, its lineage, its owner and its tenant.
const MAX_PARTS: usize = 4;

type Locked<'a> = [Option<MutexGuard<'a, State>>; MAX_PARTS];

impl LocalMeter {
    /// Creates the meter of these limits.
    pub(super) fn new(subjects: Arc<Subjects>, limits: Vec<Limit>) -> Self {
        let mut meter = LocalMeter {
            subjects,
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
        meter
    }

    /// Adds a limit; `None` if there is no memory left for its counter.
    fn add(&mut self, index: usize) -> Option<()> {
        let limit = self.limits.get(index)?;
        let id = SubjectId::of(&limit.subject);
        let known = self.parts.iter().position(|part| part.counters.id == id);
        if known.is_none() {
            let counters = self.subjects.counters_of(id)?;
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
                let window = state.window_of(&self.subjects.memory, index, limit.source, quota)?;
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
        self.subjects.memory.take_meter(self.bytes);
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
        self.subjects.sweep_some(now);
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
            return Ok(Taken::new(Tick::from_nanos(now), charge, 0));
        }
        let mut state = lock(&part.counters.state);
        let at = now.max(state.latest);
        let has_all = part.has(&self.subjects.memory, &mut state, at, charge)?;
        // Places are taken last: a quota that refuses leaves them as they are.
        if !has_all || !is_counted || !part.take_place(charge) {
            return Err(refusal([(part, &*state)], at, charge));
        }
        part.count(&mut state, charge);
        Ok(Taken::new(Tick::from_nanos(at), charge, 0))
    }

    fn take_of_several(&self, now: u64, charge: Charge) -> Result<Taken, TakeError> {
        let (mut locked, at) = self.lock(now);
        let (mut has_all, mut failed) = (true, None);
        for (part, state) in self.each(&mut locked) {
            match part.has(&self.subjects.memory, state, at, charge) {
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
        Ok(Taken::new(Tick::from_nanos(at), charge, 0))
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
        memory: &Memory,
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
                    return self.has_after_moving(memory, state, at, charge);
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
        memory: &Memory,
        state: &mut State,
        at: u64,
        charge: Charge,
    ) -> Result<bool, LimiterError> {
        let (mut has_all, mut is_full) = (true, false);
        for window in &self.windows {
            state.each_ring(window, |ring| {
                is_full |= !ring.try_advance(at, |bytes| memory.reserve(bytes));
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
        self.subjects.memory.give_meter_back(self.bytes);
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
        Some(self.take_at_once(now.as_nanos(), charge))
    }

    fn settle(&self, now: Tick, taken: Taken, cost: u32) {
        let (mut locked, at) = self.lock(now.as_nanos());
        let before = taken.charge.cost;
        for (part, state) in self.each(&mut locked) {
            state.latest = at;
            for window in &part.windows {
                state.each_ring(window, |ring| {
                    if cost > before {
                        // It has been used, so it is counted even beyond the bound of memory.
                        ring.try_advance(at, |bytes| {
                            self.subjects.memory.take_bytes(bytes);
                            true
                        });
                        ring.add(cost - before);
                    } else {
                        ring.take_back(taken.at.as_nanos(), before - cost);
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
        let (mut locked, at) = self.lock(now.as_nanos());
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

impl fmt::Debug for LocalMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMeter")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
