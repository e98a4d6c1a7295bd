//! Reading the store: one read of a key for all requests that need it at the same time, and a bounded number of reads
//! at once.
//!
//! When the feed is gone, the verifier reads every key in use once per bound. A request that comes during a read of its
//! key waits for the answer. If the request that makes the read goes away, one of those that wait takes it up.
//!
//! Requests that have not presented a secret proven here before take at most half of the places. Unproven requests,
//! with made-up ids or real ones, therefore do not delay clients with a key. Nor does an unproven read of a client's
//! own key: the client's request does not join it and makes a read of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::compiled::Compiler;
use super::fenced_store::FencedStore;
use super::slot::{Fetched, Flight, Snapshot, Stamp};
use super::slots::Slots;
use super::tag::Tag;
use crate::clock::ClockError;
use crate::key::{DecodeError, KeyId, KeyRecord, StoredKey};
use crate::store::StoreError;
use crate::sync::{AtomicU64, Ordering, within};

/// Reads the keys of one store for those who decide on them.
pub(crate) struct Reads {
    pub(super) slots: Arc<Slots>,
    pub(super) store: Arc<FencedStore>,
    pub(crate) compiler: Compiler,
    /// The places that bound concurrent reads.
    places: Semaphore,
    /// The places for requests that have presented no secret proven here.
    unproven: Semaphore,
    /// Keys read from the store since the start.
    pub(super) count: AtomicU64,
}

/// Why a key could not be read, or not in time to decide on it.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// No key has this id.
    Unknown,
    /// The store failed.
    Store(StoreError),
    /// The stored key cannot be read.
    Unreadable(DecodeError),
    /// The clock failed.
    Clock(ClockError),
    /// The cached record is too old to decide on, and no read of the store ended in time.
    Stale,
}

impl From<ClockError> for ReadError {
    fn from(error: ClockError) -> Self {
        Self::Clock(error)
    }
}

/// A request's role in a read.
enum Role {
    /// No read: the cache has the snapshot.
    Ready(Snapshot),
    /// It joins a read in progress, and takes its answer.
    Join(watch::Receiver<Option<Fetched>>, u64),
    /// It waits for the end of a read that began too early, and looks again.
    Wait(watch::Receiver<Option<Fetched>>),
    /// It makes the read.
    Lead(watch::Sender<Option<Fetched>>, u64, bool),
}

impl Reads {
    pub(super) fn new(
        slots: Arc<Slots>,
        store: Arc<FencedStore>,
        compiler: Compiler,
        most: NonZeroUsize,
    ) -> Self {
        Self {
            slots,
            store,
            compiler,
            places: Semaphore::new(most.get()),
            // Half of the places, and one if there is only one in all.
            unproven: Semaphore::new((most.get() / 2).max(1)),
            count: AtomicU64::new(0),
        }
    }

    /// Guards the key's slot for as long as a snapshot may still be used: an invalidation must find the slot. `tag` is
    /// that of the presented credential, if there is one.
    pub(crate) fn guard_slot(&self, id: KeyId, tag: Option<Tag>) -> SlotGuard<'_> {
        self.slots.map.with(id, |slot| slot.readers += 1);
        SlotGuard {
            slots: &self.slots,
            id,
            tag,
            since: self.slots.lease.epochs.latest(),
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
    ) -> Result<Snapshot, ReadError> {
        let start = self.slots.lease.now()?;
        let mut vanished = 0;
        loop {
            let now = self.slots.lease.now()?;
            let is_late = now
                .checked_sub(start)
                .is_none_or(|waited| u128::from(waited) > self.slots.lease.patience().as_nanos());
            if is_late {
                return Err(ReadError::Stale);
            }
            let (fetched, begun) = match self.take_role(guard, now, must_begin_later, vanished) {
                Role::Ready(snapshot) => return Ok(snapshot),
                Role::Join(answer, begun) => {
                    match within(self.slots.lease.patience(), joined(answer)).await {
                        Some(Some(fetched)) => (fetched, begun),
                        Some(None) => {
                            vanished += 1;
                            continue;
                        }
                        None => (Fetched::Late, begun),
                    }
                }
                Role::Wait(answer) => {
                    match within(self.slots.lease.patience(), joined(answer)).await {
                        Some(_) => continue,
                        None => return Err(ReadError::Stale),
                    }
                }
                Role::Lead(answer, begun, is_known) => {
                    let reading = Reading {
                        reads: self,
                        id: guard.id,
                        begun,
                        answer,
                    };
                    (reading.read(is_known).await, begun)
                }
            };
            let error = match fetched {
                Fetched::Found(snapshot) => return Ok(snapshot),
                // The key may have been issued since.
                Fetched::Missing if begun <= guard.since => {
                    must_begin_later = true;
                    continue;
                }
                Fetched::Missing => ReadError::Unknown,
                Fetched::Failed(error) => ReadError::Store(shared(error)),
                Fetched::Unreadable(error) => ReadError::Unreadable(unreadable(&error)),
                Fetched::Late => ReadError::Stale,
            };
            return Err(error);
        }
    }

    fn take_role(
        &self,
        guard: &SlotGuard<'_>,
        now: u64,
        must_begin_later: bool,
        vanished: u32,
    ) -> Role {
        let Slots { map, lease, .. } = &*self.slots;
        let begun = lease.epochs.next();
        // While this node changes the key, or if it caches nothing, each request needs an answer younger than itself.
        let needs_own = must_begin_later || lease.bound() == 0;
        map.with(guard.id, |slot| {
            if let Some(entry) = lease.usable(slot, now.saturating_add(guard.ahead)) {
                return Role::Ready(entry.snapshot.clone());
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
                    Some(entry) => lease.epochs.is_pending(&entry.snapshot),
                    None => lease.epochs.is_any_pending(),
                };
                let is_too_early = needs_own || is_cut_off || slot.is_pending();
                return if is_too_early && flight.begun <= guard.since {
                    Role::Wait(flight.answer.clone())
                } else {
                    Role::Join(flight.answer.clone(), flight.begun)
                };
            }
            let (answer, others) = watch::channel(None);
            slot.flight = Some(Box::new(Flight {
                begun,
                is_known,
                answer: others,
            }));
            Role::Lead(answer, begun, is_known)
        })
    }

    /// Reads the record from the store, for one who decides on nothing: it is neither cached nor counted.
    pub(crate) async fn read_record(&self, id: KeyId) -> Result<KeyRecord, ReadError> {
        let stored = self.store.read(id).await.map_err(ReadError::Store)?;
        record_of(id, stored.ok_or(ReadError::Unknown)?).map_err(ReadError::Unreadable)
    }

    async fn ask(&self, id: KeyId, is_known: bool) -> Fetched {
        let asked = async {
            // The semaphores are never closed.
            let _unproven = match is_known {
                true => None,
                false => place(&self.unproven).await,
            };
            let _place = place(&self.places).await;
            let Ok(stamp) = self.slots.lease.stamp() else {
                return Fetched::Late;
            };
            self.count.fetch_add(1, Ordering::Relaxed);
            let answer = self.store.read(id).await;
            self.read_answer(id, answer, stamp)
        };
        within(self.slots.lease.patience(), asked)
            .await
            .unwrap_or(Fetched::Late)
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
            Ok(record) => Fetched::Found(Snapshot {
                compiled: self.compiler.compile(record),
                stamp,
            }),
            Err(error) => Fetched::Unreadable(Arc::new(error)),
        }
    }
}

/// Decodes the record of the requested key. A store that answers with another key counts as damaged.
fn record_of(id: KeyId, stored: StoredKey) -> Result<KeyRecord, DecodeError> {
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
        let is_idle = self.slots.map.with(self.id, |slot| {
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
    reads: &'a Reads,
    id: KeyId,
    begun: u64,
    answer: watch::Sender<Option<Fetched>>,
}

impl Reading<'_> {
    async fn read(self, is_known: bool) -> Fetched {
        let fetched = self.reads.ask(self.id, is_known).await;
        self.refresh(&fetched);
        // The read leaves the slot before its answer is sent. A request that needs a younger answer would otherwise
        // look again, and find this read again, without end.
        self.land();
        self.answer.send_replace(Some(fetched.clone()));
        fetched
    }

    /// Updates the entry of a key that is in a segment.
    fn refresh(&self, fetched: &Fetched) {
        let slots = &self.reads.slots;
        let epoch = slots.lease.epochs.next();
        let has_place = slots.map.with(self.id, |slot| match fetched {
            Fetched::Found(snapshot)
                if slot.entry.is_some() && slots.lease.epochs.admits(snapshot.stamp.epoch) =>
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
            slots.reweigh(self.id, snapshot);
        }
    }

    /// Removes the read from the slot, so that no further request joins it.
    fn land(&self) {
        self.reads.slots.map.with(self.id, |slot| {
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
        StoreError::Indeterminate(_) => StoreError::Indeterminate(Box::new(SharedError(error))),
        StoreError::Unavailable(_) => StoreError::Unavailable(Box::new(SharedError(error))),
        StoreError::Corrupt(_) => StoreError::Corrupt(Box::new(SharedError(error))),
    }
}

/// An error that several requests share.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause(.0))]
struct SharedError(Arc<StoreError>);

fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn unreadable(error: &DecodeError) -> DecodeError {
    match error {
        DecodeError::TooNew { schema } => DecodeError::TooNew { schema: *schema },
        DecodeError::Corrupt { .. } => DecodeError::Corrupt { source: None },
    }
}
