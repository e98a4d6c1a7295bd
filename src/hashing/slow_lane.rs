//! Slow hashes, off the executor and bounded.
//!
//! They run on threads of their own, one per permit. A thread is started when it is first needed, keeps the memory of
//! its hashes, and ends with the lane. If hashes moved between threads, they would leave memory behind on each, since
//! allocators keep a heap per thread. Nothing here depends on the caller's runtime: a request with a blocked or
//! dropped runtime delays no other request.

mod job;
mod queue;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use self::job::{Entry, Job, Joint, Progress, Single};
pub(super) use self::queue::{Account, Class};
use self::queue::{Queue, Removed, Waiting};
use super::HashingError;
use super::argon2id::Memory;

/// The name of a computation that several requests may share: a keyed hash, so that it reveals no secret.
pub(super) type Fingerprint = [u8; 32];

/// A fixed number of permits, a bounded queue before them, and the computations that requests share.
pub(super) struct SlowLane(Arc<Lane>);

/// The state that the lane's owner shares with its threads.
struct Lane {
    permits: usize,
    /// Most jobs that wait for a permit.
    queue: usize,
    spawn: fn(Work) -> io::Result<()>,
    state: Mutex<State>,
    /// Signals that a job was handed to the waiting threads, or that the lane is closed.
    called: Condvar,
}

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Permits taken, each for a job that runs or was handed to a thread.
    busy: usize,
    /// Threads that have not ended: working, or waiting for a job. INVARIANT: at least `busy`.
    threads: usize,
    /// Jobs with a permit, for the waiting threads.
    handed: VecDeque<Box<dyn Job>>,
    waiting: Queue,
    shared: HashMap<Fingerprint, watch::Sender<Progress>>,
    is_closed: bool,
}

impl SlowLane {
    pub(super) fn new(permits: NonZeroUsize, queue: usize) -> Self {
        Self::spawning(permits, queue, spawn_thread)
    }

    fn spawning(permits: NonZeroUsize, queue: usize, spawn: fn(Work) -> io::Result<()>) -> Self {
        Self(Arc::new(Lane {
            permits: permits.get(),
            queue,
            spawn,
            state: Mutex::default(),
            called: Condvar::new(),
        }))
    }

    /// Runs the work as soon as a permit is free.
    ///
    /// Dropping the future gives up its place in the queue. Work that has begun runs to its end and holds its permit
    /// until then, so that memory stays bounded.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        account: Account,
        work: impl FnOnce(&mut Memory) -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        let (answer, awaited) = oneshot::channel();
        let job = Box::new(Single { answer, work });
        self.0.submit(self.0.state(), account, job)?;
        awaited.await.map_err(|_| HashingError::Unfinished)?
    }

    /// Runs the work if a permit is free at once; `None` if no permit is free.
    pub(super) async fn run_if_free<T: Send + 'static>(
        &self,
        account: Account,
        work: impl FnOnce(&mut Memory) -> Result<T, HashingError> + Send + 'static,
    ) -> Result<Option<T>, HashingError> {
        let (answer, awaited) = oneshot::channel();
        {
            let state = self.0.state();
            if state.busy >= self.0.permits {
                return Ok(None);
            }
            // The job never waits: a permit is free.
            let job = Box::new(Single { answer, work });
            self.0.submit(state, account, job)?;
        }
        awaited
            .await
            .map_err(|_| HashingError::Unfinished)?
            .map(Some)
    }

    /// Runs the work once for all requests with this fingerprint that arrive while it waits or runs.
    ///
    /// The work does not belong to the request that began it, which may be dropped while others wait. If all of them
    /// are dropped before it begins, it never runs.
    pub(super) async fn share(
        &self,
        account: Account,
        fingerprint: Fingerprint,
        work: impl FnOnce(&mut Memory) -> Result<bool, HashingError> + Send + 'static,
    ) -> Result<bool, HashingError> {
        let mut progress = {
            let mut state = self.0.state();
            match state.shared.get(&fingerprint) {
                Some(sender) => sender.subscribe(),
                None => {
                    // INVARIANT: only a job with a place is listed, so that no request joins a refused job.
                    let (has_room, removed) = self.0.room(&mut state, &account);
                    if !has_room {
                        drop(state);
                        drop(removed);
                        return Err(HashingError::Saturated);
                    }
                    let (sender, receiver) = watch::channel(Progress::Running);
                    state.shared.insert(fingerprint, sender);
                    let entry = Entry {
                        lane: Arc::clone(&self.0),
                        fingerprint,
                        is_listed: true,
                        progress: Progress::Failed,
                    };
                    let job = Box::new(Joint { entry, work });
                    self.0.submit(state, account, job)?;
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
}

impl Lane {
    /// Hands the job to a thread, or puts it into the queue.
    fn submit(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        account: Account,
        job: Box<dyn Job>,
    ) -> Result<(), HashingError> {
        if state.busy < self.permits {
            state.busy += 1;
            if state.threads >= state.busy {
                state.handed.push_back(job);
                drop(state);
                self.called.notify_one();
                return Ok(());
            }
            state.threads += 1;
            drop(state);
            let worker = Worker {
                lane: Arc::clone(self),
                holds_permit: true,
            };
            // If no thread can be started, the closure is dropped: the worker returns its permit, and the job notifies
            // its waiters.
            let started = (self.spawn)(Box::new(move || worker.work(job)));
            return started.map_err(|_| HashingError::Unfinished);
        }
        let (has_room, removed) = self.room(&mut state, &account);
        let refused = if has_room {
            state.waiting.push(Waiting { account, job });
            None
        } else {
            Some(job)
        };
        // Dropping a job takes the lock.
        drop(state);
        drop(removed);
        match refused {
            None => Ok(()),
            Some(_) => Err(HashingError::Saturated),
        }
    }

    /// Returns whether there is room for another job on this account, and the jobs that were removed from the queue to
    /// make room. The caller must drop them without holding the lock.
    fn room(&self, state: &mut State, account: &Account) -> (bool, Removed) {
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
        // Ignoring poisoning is safe: each change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn_thread(work: Work) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("keyward-slow-hash".into());
    thread.spawn(work).map(drop)
}

impl fmt::Debug for SlowLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        f.debug_struct("SlowLane")
            .field("permits", &self.0.permits)
            .field("busy", &state.busy)
            .field("queue", &self.0.queue)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}

/// Ends the threads once they have no more work.
impl Drop for SlowLane {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.called.notify_all();
    }
}

/// A thread of the lane.
struct Worker {
    lane: Arc<Lane>,
    holds_permit: bool,
}

impl Worker {
    fn work(mut self, first: Box<dyn Job>) {
        let mut memory = Memory::default();
        let mut next = Some(first);
        while let Some(job) = next {
            let tell = job.run(&mut memory);
            next = self.take();
            // Wakers are foreign code; their panics must not harm the jobs behind in the queue.
            let _ = catch_unwind(AssertUnwindSafe(tell));
            next = next.or_else(|| self.wait());
        }
    }

    /// Takes the next awaited job out of the queue. If there is no such job, it returns the permit in the same step,
    /// so that no job can enter the queue unnoticed.
    fn take(&mut self) -> Option<Box<dyn Job>> {
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
            // Dropping a job takes the lock.
            drop(state);
            drop(job);
        }
    }

    /// Waits for a job with its permit; `None` if the lane is closed.
    fn wait(&mut self) -> Option<Box<dyn Job>> {
        let mut state = self.lane.state();
        loop {
            if let Some(job) = state.handed.pop_front() {
                self.holds_permit = true;
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            let called = self.lane.called.wait(state);
            state = called.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Returns the permit of a worker that still holds one: its thread could not be started.
impl Drop for Worker {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        state.threads = state.threads.saturating_sub(1);
        if !self.holds_permit {
            return;
        }
        state.busy = state.busy.saturating_sub(1);
        // Without a working thread, no thread would take the waiting jobs.
        let stranded = if state.busy == 0 {
            state.waiting.drain()
        } else {
            Vec::new()
        };
        drop(state);
        drop(stranded);
    }
}

#[cfg(test)]
mod tests;
