//! Locks and atomics of the state that requests share.
//!
//! They come from `std`. Built with `--cfg keyward_shuttle` they come from shuttle, which explores the orders in which
//! threads can interleave (`tests/schedules`). That build can also plant faults that the exploration must find.

#[cfg(not(keyward_shuttle))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(keyward_shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use std::sync::PoisonError;

/// Locks, ignoring poisoning: every critical section leaves the data consistent after each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault to plant, which proves that the exploration of schedules finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(keyward_shuttle),
    expect(unreachable_pub, reason = "the exploration plants them from outside")
)]
#[doc(hidden)]
pub enum Planted {
    /// A fill checks whether it may enter, releases the lock, and then enters.
    CheckThenInsert,
    /// A fill enters, and checks afterwards whether it was allowed to.
    InsertThenRecheck,
    /// A commit fences its keys only after it has committed.
    FenceAfterCommit,
    /// A commit whose caller dropped the future lifts its fence.
    DropLiftsFence,
    /// A feed round or a read takes its start time after the answer, not before the request.
    StampAfterAnswer,
    /// A page that is not the last counts as a completed round.
    PartialRound,
    /// A round counts as completed before its changes are applied.
    RoundBeforeNews,
    /// A request that joins an earlier read takes the answer without checking the fence.
    JoinWithoutFence,
    /// The result of a read replaces a newer entry.
    OlderRevisionWins,
    /// Entries of the old feed history stay valid after a new history begins.
    HistoryForgotten,
    /// A slot is removed while a snapshot of its key is still in use.
    Unguarded,
    /// A commit lifts its fence although its answer was lost.
    LostAnswerLiftsFence,
    /// The lease check reads the present history before the last round.
    HistoryBeforeRound,
    /// A cutoff from the feed is ignored.
    CutoffPassedOver,
    /// A read is answered while other requests still see it in flight.
    AnsweredBeforeLanding,
}

/// Returns whether this fault is planted, which happens only while schedules are explored.
#[cfg(not(keyward_shuttle))]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}

#[cfg(keyward_shuttle)]
thread_local! {
    /// Per thread, because shuttle runs everything it explores on the thread that called it.
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

#[cfg(keyward_shuttle)]
pub(crate) fn planted(fault: Planted) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault in everything that this thread explores; `None` removes it.
#[cfg(keyward_shuttle)]
#[doc(hidden)]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}
