//! Slow hashes, off the executor and bounded.
//!
//! They run on threads of their own, which end when there is no more to do. Nothing here depends on the
//! runtime of whoever asked: a request whose runtime stands still, or is gone, holds up nobody else's.

mod job;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use self::job::{Entry, Job, Joint, Progress, Single};
pub(super) use self::queue::Account;
use self::queue::{Queue, Removed};
use super::HashingError;

/// What names a computation that several requests may share: a keyed hash, so that it gives no secret away.
pub(super) type Fingerprint = [u8; 32];

/// A fixed number of permits, a bounded queue before them, and the computations that may be shared.
pub(super) struct SlowLane {
    permits: usize,
    /// Most jobs that wait for a permit.
    queue: usize,
    spawn: fn(Work) -> io::Result<()>,
    state: Mutex<State>,
}

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Permits taken: threads at work.
    busy: usize,
    waiting: Queue,
    shared: HashMap<Fingerprint, watch::Sender<Progress>>,
}

impl SlowLane {
    pub(super) fn new(permits: NonZeroUsize, queue: usize) -> Self {
        Self {
            permits: permits.get(),
            queue,
            spawn: spawn_thread,
            state: Mutex::default(),
        }
    }

    /// Runs the work as soon as a permit is free.
    ///
    /// Dropping the future gives up a place in the queue; work that has begun runs to its end and holds its
    /// permit until then, so that memory stays bounded.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        account: Account,
        work: impl FnOnce() -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        let (answer, awaited) = oneshot::channel();
        self.submit(self.state(), account, Box::new(Single { answer, work }))?;
        awaited.await.map_err(|_| HashingError::Unfinished)?
    }

    /// Runs the work if a permit is free at once; `None` if there is not.
    pub(super) async fn run_if_free<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, HashingError> + Send + 'static,
    ) -> Result<Option<T>, HashingError> {
        let (answer, awaited) = oneshot::channel();
        {
            let state = self.state();
            if state.busy >= self.permits {
                return Ok(None);
            }
            // It never waits: a permit is free.
            self.submit(
                state,
                Account::Management,
                Box::new(Single { answer, work }),
            )?;
        }
        awaited
            .await
            .map_err(|_| HashingError::Unfinished)?
            .map(Some)
    }

    /// Runs the work once for all who ask for it under this fingerprint while it waits or runs.
    ///
    /// It does not belong to the request that began it: that one may go away while others wait. When all have
    /// gone before it began, it is not done at all.
    pub(super) async fn share(
        self: &Arc<Self>,
        account: Account,
        fingerprint: Fingerprint,
        work: impl FnOnce() -> Result<bool, HashingError> + Send + 'static,
    ) -> Result<bool, HashingError> {
        let mut progress = {
            let mut state = self.state();
            match state.shared.get(&fingerprint) {
                Some(sender) => sender.subscribe(),
                None => {
                    // Listed only with a place: nobody joins what is refused.
                    let (has_room, removed) = self.room(&mut state, account);
                    if !has_room {
                        drop(state);
                        drop(removed);
                        return Err(HashingError::Saturated);
                    }
                    let (sender, receiver) = watch::channel(Progress::Running);
                    state.shared.insert(fingerprint, sender);
                    let entry = Entry {
                        lane: Arc::clone(self),
                        fingerprint,
                        is_listed: true,
                        progress: Progress::Failed,
                    };
                    self.submit(state, account, Box::new(Joint { entry, work }))?;
                    drop(removed);
                    receiver
                }
            }
        };
        let outcome = progress.wait_for(|progress| *progress != Progress::Running);
        match outcome.await.map(|progress| *progress) {
            Ok(Progress::Finished(verdict)) => Ok(verdict),
            Ok(Progress::Displaced) => Err(HashingError::Saturated),
            Ok(Progress::Running | Progress::Failed) | Err(_) => Err(HashingError::Unfinished),
        }
    }

    /// Gives the job to a thread of its own, or to the queue.
    fn submit(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        account: Account,
        job: Box<dyn Job>,
    ) -> Result<(), HashingError> {
        if state.busy < self.permits {
            state.busy += 1;
            drop(state);
            let worker = Worker {
                lane: Arc::clone(self),
                holds_permit: true,
            };
            // A thread that cannot be had drops the worker and the job, which give back and tell.
            let started = (self.spawn)(Box::new(move || worker.work(job)));
            return started.map_err(|_| HashingError::Unfinished);
        }
        let (has_room, removed) = self.room(&mut state, account);
        let refused = if has_room {
            state.waiting.push(account, job);
            None
        } else {
            Some(job)
        };
        // A job that is dropped takes the lock.
        drop(state);
        drop(removed);
        match refused {
            None => Ok(()),
            Some(_) => Err(HashingError::Saturated),
        }
    }

    /// Whether one more job on this account can be taken, and the jobs that were taken out of the queue to make
    /// room. They must be dropped without the lock.
    fn room(&self, state: &mut State, account: Account) -> (bool, Removed) {
        let mut removed = Removed::default();
        if state.busy < self.permits || state.waiting.len() < self.queue {
            return (true, removed);
        }
        removed.abandoned = state.take_abandoned();
        if state.waiting.len() >= self.queue {
            removed.displaced = state.waiting.displace(account);
        }
        (state.waiting.len() < self.queue, removed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn_thread(work: Work) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("keyward-slow-hash".into());
    thread.spawn(work).map(drop)
}

impl fmt::Debug for SlowLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SlowLane")
            .field("permits", &self.permits)
            .field("busy", &state.busy)
            .field("queue", &self.queue)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}

/// A permit, and the thread that holds it.
struct Worker {
    lane: Arc<SlowLane>,
    holds_permit: bool,
}

impl Worker {
    fn work(mut self, first: Box<dyn Job>) {
        let mut next = Some(first);
        while let Some(job) = next {
            let tell = job.run();
            next = self.next();
            // The wakers are others' code, and those behind in the queue must not suffer for it.
            let _ = catch_unwind(AssertUnwindSafe(tell));
        }
    }

    /// The next job that somebody waits for. If there is none the permit is given back, in the same step, so
    /// that no job can be put into the queue unseen.
    fn next(&mut self) -> Option<Box<dyn Job>> {
        loop {
            let mut state = self.lane.state();
            let Some(mut job) = state.waiting.pop() else {
                state.busy = state.busy.saturating_sub(1);
                self.holds_permit = false;
                return None;
            };
            if job.is_awaited(&mut state) {
                return Some(job);
            }
            // A job that is dropped takes the lock.
            drop(state);
            drop(job);
        }
    }
}

/// Only a worker whose thread could not be had still holds its permit.
impl Drop for Worker {
    fn drop(&mut self) {
        if !self.holds_permit {
            return;
        }
        let mut state = self.lane.state();
        state.busy = state.busy.saturating_sub(1);
        // With no thread at work, nobody would come for those who wait.
        let stranded = if state.busy == 0 {
            state.waiting.drain()
        } else {
            Vec::new()
        };
        drop(state);
        drop(stranded);
    }
}
