//! The jobs of the lane: work for one request, and work that any number of requests share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Fingerprint, Lane, State, Work};
use crate::hashing::HashingError;
use crate::hashing::argon2id::Memory;

/// Work with waiters. If it is dropped before it ran, it notifies them.
pub(super) trait Job: Send {
    /// Returns whether a waiter is left. If not, no request can join any more either.
    fn is_awaited(&mut self, state: &mut State) -> bool;
    /// Does the work in the thread's memory. The returned closure notifies the waiters; the thread runs it after
    /// passing on the permit.
    fn run(self: Box<Self>, memory: &mut Memory) -> Work;
    /// Notifies the waiters that there was no place for the job.
    fn refuse(self: Box<Self>);
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Finished(bool),
    /// The job lost its place in the queue.
    Displaced,
    Failed,
}

/// Work for one request.
pub(super) struct Single<T, W> {
    pub(super) answer: oneshot::Sender<Result<T, HashingError>>,
    pub(super) work: W,
}

impl<T, W> Job for Single<T, W>
where
    T: Send + 'static,
    W: FnOnce(&mut Memory) -> Result<T, HashingError> + Send + 'static,
{
    fn is_awaited(&mut self, _: &mut State) -> bool {
        !self.answer.is_closed()
    }

    fn run(self: Box<Self>, memory: &mut Memory) -> Work {
        let Self { answer, work } = *self;
        let result = catch_unwind(AssertUnwindSafe(|| work(memory)));
        Box::new(move || {
            if let Ok(result) = result {
                // The waiter may have gone meanwhile.
                let _ = answer.send(result);
            }
        })
    }

    fn refuse(self: Box<Self>) {
        let _ = self.answer.send(Err(HashingError::Saturated));
    }
}

/// Work that any number of requests wait for.
pub(super) struct Joint<W> {
    pub(super) entry: Entry,
    pub(super) work: W,
}

impl<W> Job for Joint<W>
where
    W: FnOnce(&mut Memory) -> Result<bool, HashingError> + Send,
{
    fn is_awaited(&mut self, state: &mut State) -> bool {
        let fingerprint = &self.entry.fingerprint;
        let sender = state.shared.get(fingerprint);
        let is_awaited = sender.is_some_and(|sender| sender.receiver_count() > 0);
        if !is_awaited {
            state.shared.remove(fingerprint);
            self.entry.is_listed = false;
        }
        is_awaited
    }

    fn run(self: Box<Self>, memory: &mut Memory) -> Work {
        let Self { mut entry, work } = *self;
        if let Ok(Ok(verdict)) = catch_unwind(AssertUnwindSafe(|| work(memory))) {
            entry.progress = Progress::Finished(verdict);
        }
        Box::new(move || drop(entry))
    }

    fn refuse(mut self: Box<Self>) {
        self.entry.progress = Progress::Displaced;
    }
}

/// The list entry that lets other requests join. On drop, it leaves the list and wakes its waiters.
pub(super) struct Entry {
    pub(super) lane: Arc<Lane>,
    pub(super) fingerprint: Fingerprint,
    pub(super) is_listed: bool,
    pub(super) progress: Progress,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_listed {
            return; // The entry listed by now belongs to another job.
        }
        let sender = self.lane.state().shared.remove(&self.fingerprint);
        if let Some(sender) = sender {
            sender.send_replace(self.progress);
        }
    }
}
