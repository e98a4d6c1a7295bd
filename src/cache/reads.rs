//! Reading the store: one read of a key for all requests that need it at the same time, and a bounded number of reads
//! at once.
//!
//! When the feed is gone, the verifier reads every key in use once per bound. A request that comes during a read of its
//! key waits for the answer. If the request that makes the read goes away, one of those that wait takes it up.
//!
//! Requests that have not presented a secret proven here before take at most half of the places. Unproven requests,
//! with made-up ids or real ones, therefore do not delay clients with a key. Nor does an unproven read of a client's
//! own key: the client's request does not join it and makes a read of its own.

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::compiled::{CachedRecord, CompiledRecord};
use super::lease::Stamp;
use super::slot::{Flight, Slot, Snapshot};
use super::slots::Slots;
use super::tag::Tag;
use crate::key::{DecodeError, KeyId, KeyRecord, StoredKey};
use crate::store::StoreError;
use crate::sync::{Planted, planted};
use crate::verifier::{Core, DenialReason};

/// The outcome of a read.
#[derive(Clone)]
pub(crate) enum Fetched {
    Found(Snapshot),
    /// No key has this id.
    Missing,
    /// The store failed.
    Failed(Arc<StoreError>),
    /// The stored key cannot be read.
    Unreadable(Arc<DecodeError>),
    /// The answer did not come in time.
    Late,
}

/// The places that bound concurrent reads.
pub(crate) struct Places {
    all: Semaphore,
    strangers: Semaphore,
}

impl Places {
    pub(crate) fn new(reads: NonZeroUsize) -> Self {
        Self {
            all: Semaphore::new(reads.get()),
            // Half of the places, and one if there is only one in all.
            strangers: Semaphore::new((reads.get() / 2).max(1)),
        }
    }
}

/// A request's part in a read.
enum Part {
    /// No read: the cache has the snapshot.
    Ready(Snapshot),
    /// It joins a read in progress, and takes its answer.
    Join(watch::Receiver<Option<Fetched>>, u64),
    /// It waits for the end of a read that began too early, and looks again.
    Wait(watch::Receiver<Option<Fetched>>),
    /// It makes the read.
    Lead(watch::Sender<Option<Fetched>>, u64, bool),
}

impl Core {
    /// Guards the key's slot for as long as a snapshot may still be used: an invalidation must find the slot. `tag` is
    /// that of the presented credential, if there is one.
    pub(crate) fn guard_slot(&self, id: KeyId, tag: Option<Tag>) -> SlotGuard<'_> {
        self.slots.with(id, |slot| {
            slot.readers += u32::from(!planted(Planted::Unguarded));
        });
        SlotGuard {
            slots: &self.slots,
            id,
            tag,
            since: self.slots.epochs.latest(),
            ahead: 0,
        }
    }

    /// Returns a snapshot of a key with a guarded slot; from a read that began after the guard, if it must be.
    ///
    /// If each request must have an answer younger than itself, at most two reads of a key follow each other: requests
    /// that came during the first share the second.
    pub(crate) async fn fetch(
        &self,
        guard: &SlotGuard<'_>,
        mut must_begin_later: bool,
    ) -> Result<Snapshot, DenialReason> {
        let start = self.slots.now().map_err(DenialReason::Clock)?;
        let mut vanished = 0;
        loop {
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let is_late = now
                .checked_sub(start)
                .is_none_or(|waited| u128::from(waited) > self.patience.as_nanos());
            if is_late {
                return Err(DenialReason::StaleCache);
            }
            let (fetched, begun) = match self.take_part(guard, now, must_begin_later, vanished) {
                Part::Ready(snapshot) => return Ok(snapshot),
                Part::Join(answer, begun) => match within(self.patience, joined(answer)).await {
                    Some(Some(fetched)) => (fetched, begun),
                    Some(None) => {
                        vanished += 1;
                        continue;
                    }
                    None => (Fetched::Late, begun),
                },
                Part::Wait(answer) => match within(self.patience, joined(answer)).await {
                    Some(_) => continue,
                    None => return Err(DenialReason::StaleCache),
                },
                Part::Lead(answer, begun, is_known) => {
                    let reading = Reading {
                        core: self,
                        id: guard.id,
                        begun,
                        answer,
                    };
                    (reading.read(is_known).await, begun)
                }
            };
            let reason = match fetched {
                Fetched::Found(snapshot) => return Ok(snapshot),
                // The key may have been issued since.
                Fetched::Missing if begun <= guard.since => {
                    must_begin_later = true;
                    continue;
                }
                Fetched::Missing => DenialReason::UnknownKey,
                Fetched::Failed(error) => DenialReason::Store(shared(error)),
                Fetched::Unreadable(error) => DenialReason::Unreadable(unreadable(&error)),
                Fetched::Late => DenialReason::StaleCache,
            };
            return Err(reason);
        }
    }

    fn take_part(
        &self,
        guard: &SlotGuard<'_>,
        now: u64,
        must_begin_later: bool,
        vanished: u32,
    ) -> Part {
        let begun = self.slots.epochs.next();
        // While this node changes the key, or if it caches nothing, each request needs an answer younger than itself.
        let needs_own = must_begin_later || self.slots.lease.bound() == 0;
        self.slots.with(guard.id, |slot| {
            if let Some(entry) = self.usable(slot, now.saturating_add(guard.ahead)) {
                return Part::Ready(entry.snapshot());
            }
            let proof = slot.entry.as_ref().and_then(|entry| entry.proof);
            let is_known =
                proof.is_some_and(|proof| guard.tag.is_none_or(|tag| proof.tag.matches(&tag)));
            // A request that has lost two leaders reads by itself: an attacker may be causing the losses. A proven
            // request does not wait for a read in the queue of the unproven: requests that wait for that read keep it,
            // and later requests join this one.
            let may_join = |flight: &Flight| vanished < 2 && (flight.is_known || !is_known);
            if let Some(flight) = slot.flight.as_ref().filter(|flight| may_join(flight)) {
                let is_cut_off = match &slot.entry {
                    Some(entry) => self.slots.epochs.is_pending(entry.compiled.record()),
                    None => self.slots.epochs.is_any_pending(),
                };
                let is_too_early = needs_own || is_cut_off || slot.is_pending();
                return if is_too_early && flight.begun <= guard.since {
                    Part::Wait(flight.answer.clone())
                } else {
                    Part::Join(flight.answer.clone(), flight.begun)
                };
            }
            let (answer, others) = watch::channel(None);
            slot.flight = Some(Box::new(Flight {
                begun,
                is_known,
                answer: others,
            }));
            Part::Lead(answer, begun, is_known)
        })
    }

    /// Returns the slot's entry, if it may decide now.
    #[inline]
    pub(crate) fn usable<'a>(&self, slot: &'a Slot, now: u64) -> Option<&'a super::slot::Entry> {
        let entry = slot.admitted()?;
        // A completed poll has applied the key's changes under this very lock, and the cutoffs before it.
        let is_usable = self.slots.lease.covers(entry.stamp, now)
            && !self.slots.epochs.is_pending(entry.compiled.record())
            && self.slots.epochs.admits(entry.stamp.epoch);
        is_usable.then_some(entry)
    }

    async fn ask(&self, id: KeyId, is_known: bool) -> Fetched {
        let places = &self.places;
        let asked = async {
            // The semaphores are never closed.
            let _stranger = match is_known {
                true => None,
                false => place(&places.strangers).await,
            };
            let _place = place(&places.all).await;
            let Ok(stamp) = self.slots.stamp() else {
                return Fetched::Late;
            };
            self.counters.store_read();
            let answer = self.parts.store.read(id).await;
            let stamp = if planted(Planted::StampAfterAnswer) {
                self.slots.stamp().unwrap_or(stamp)
            } else {
                stamp
            };
            self.read_answer(id, answer, stamp)
        };
        within(self.patience, asked).await.unwrap_or(Fetched::Late)
    }

    fn read_answer(
        &self,
        id: KeyId,
        answer: Result<Option<StoredKey>, StoreError>,
        stamp: Stamp,
    ) -> Fetched {
        let stored = match answer {
            Ok(Some(stored)) => stored,
            Ok(None) => return Fetched::Missing,
            Err(error) => return Fetched::Failed(Arc::new(error)),
        };
        match record_of(id, stored) {
            Ok(record) => Fetched::Found(self.snapshot(record, stamp)),
            Err(error) => Fetched::Unreadable(Arc::new(error)),
        }
    }

    fn snapshot(&self, record: KeyRecord, stamp: Stamp) -> Snapshot {
        let cached = CachedRecord {
            bytes: super::weight::of(&record),
            record,
            home: Weak::clone(&self.me),
        };
        Snapshot {
            compiled: CompiledRecord::new(Arc::new(cached), &self.parts),
            stamp,
        }
    }
}

/// Decodes the record of the requested key. A store that answers with another key counts as damaged.
pub(crate) fn record_of(id: KeyId, stored: StoredKey) -> Result<KeyRecord, DecodeError> {
    if stored.id != id {
        return Err(DecodeError::Corrupt { source: None });
    }
    KeyRecord::decode(stored)
}

/// Keeps a slot alive while one of its snapshots may still be used.
pub(crate) struct SlotGuard<'a> {
    slots: &'a Slots,
    pub(crate) id: KeyId,
    tag: Option<Tag>,
    /// The latest epoch when the guard was taken.
    pub(crate) since: u64,
    /// For how many more nanoseconds an entry must be covered to be used without a read.
    pub(crate) ahead: u64,
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        let is_idle = self.slots.with(self.id, |slot| {
            slot.readers = slot.readers.saturating_sub(1);
            slot.is_idle()
        });
        if is_idle {
            self.slots.release(self.id);
        }
    }
}

/// A read in progress. If it is dropped, one of the requests that wait takes it up.
struct Reading<'a> {
    core: &'a Core,
    id: KeyId,
    begun: u64,
    answer: watch::Sender<Option<Fetched>>,
}

impl Reading<'_> {
    async fn read(self, is_known: bool) -> Fetched {
        let fetched = self.core.ask(self.id, is_known).await;
        self.refresh(&fetched);
        // The read leaves the slot before its answer is sent. A request that needs a younger answer would otherwise
        // look again, and find this read again, without end.
        if !planted(Planted::AnsweredBeforeLanding) {
            self.land();
        }
        self.answer.send_replace(Some(fetched.clone()));
        fetched
    }

    /// Updates the entry of a key that is in a segment.
    fn refresh(&self, fetched: &Fetched) {
        let slots = &self.core.slots;
        let epoch = slots.epochs.next();
        let has_place = slots.with(self.id, |slot| match fetched {
            Fetched::Found(snapshot)
                if slot.entry.is_some() && slots.epochs.admits(snapshot.stamp.epoch) =>
            {
                slot.enter(snapshot, None, epoch)
            }
            Fetched::Missing => {
                slot.entry = None;
                false
            }
            _ => false,
        });
        if let (true, Fetched::Found(snapshot)) = (has_place, fetched) {
            slots.reweigh(self.id, snapshot.compiled.cached.bytes);
        }
    }

    /// Removes the read from the slot, so that no further request joins it.
    fn land(&self) {
        self.core.slots.with(self.id, |slot| {
            // Another read may have begun since.
            if slot
                .flight
                .as_ref()
                .is_some_and(|flight| flight.begun == self.begun)
            {
                slot.flight = None;
            }
        });
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.land();
    }
}

/// Waits for the answer of a read that another request makes; `None` if that request went away.
async fn joined(mut answer: watch::Receiver<Option<Fetched>>) -> Option<Fetched> {
    let fetched = answer.wait_for(Option::is_some).await.ok()?;
    fetched.clone()
}

/// Takes a place, as soon as there is one.
async fn place(places: &Semaphore) -> Option<SemaphorePermit<'_>> {
    match places.try_acquire() {
        Ok(place) => Some(place),
        Err(_) => places.acquire().await.ok(),
    }
}

/// Returns the future's result, if it ends in time. Without a runtime there is no timer, and the wait has no limit.
pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    // Most answers are ready at once, and need no timer.
    let at_once = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match at_once {
        Poll::Ready(value) => Some(value),
        Poll::Pending if Handle::try_current().is_err() => Some(future.await),
        Poll::Pending => tokio::time::timeout(time, future).await.ok(),
    }
}

/// Returns the same error for each request that waited for it.
fn shared(error: Arc<StoreError>) -> StoreError {
    let error = match Arc::try_unwrap(error) {
        Ok(only) => return only,
        Err(shared) => shared,
    };
    match &*error {
        StoreError::AlreadyExists => StoreError::AlreadyExists,
        StoreError::Conflict => StoreError::Conflict,
        StoreError::PreconditionFailed { index } => {
            StoreError::PreconditionFailed { index: *index }
        }
        StoreError::Unsupported => StoreError::Unsupported,
        StoreError::Indeterminate(_) => StoreError::Indeterminate(Box::new(Shared(error))),
        StoreError::Unavailable(_) => StoreError::Unavailable(Box::new(Shared(error))),
        StoreError::Corrupt(_) => StoreError::Corrupt(Box::new(Shared(error))),
    }
}

/// An error that several requests share.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause(.0))]
struct Shared(Arc<StoreError>);

fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn unreadable(error: &DecodeError) -> DecodeError {
    match error {
        DecodeError::TooNew { schema } => DecodeError::TooNew { schema: *schema },
        DecodeError::Corrupt { .. } => DecodeError::Corrupt { source: None },
    }
}
