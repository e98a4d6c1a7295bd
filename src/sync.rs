//! The locks and atomics of what many requests share.
//!
//! They are those of `std`. Built with `--cfg keyward_shuttle` they are shuttle's, which explores in what order threads
//! can meet (`tests/schedules`), and faults can be planted that it must find.

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

/// The lock, whether or not somebody panicked with it: what it guards here is whole after each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault that can be planted, to show that the exploration of schedules finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(keyward_shuttle),
    expect(unreachable_pub, reason = "the exploration plants them from outside")
)]
#[doc(hidden)]
pub enum Planted {
    /// A fill looks whether it may enter, lets go, and enters.
    CheckThenInsert,
    /// A fill enters, and looks afterwards whether it might have.
    InsertThenRecheck,
    /// A commit fences its keys only once it has been made.
    FenceAfterCommit,
    /// A commit whose caller went away lifts its fence.
    DropLiftsFence,
    /// The start of a round is taken down after the answer.
    StampAfterAnswer,
    /// A page that is not the last counts as a completed round.
    PartialRound,
    /// A round counts as completed before its news are applied.
    RoundBeforeNews,
    /// Whoever joins a read that began before it takes its answer as it is.
    JoinWithoutFence,
    /// What a read brings replaces what is newer.
    OlderRevisionWins,
    /// A new history of the feed leaves the entries of the old one good.
    HistoryForgotten,
    /// A slot goes while a snapshot of its key is still held.
    Unguarded,
    /// A commit whose answer was lost lifts its fence.
    LostAnswerLiftsFence,
    /// The present history is looked at before the last round.
    HistoryBeforeRound,
    /// A cutoff that the feed told is passed over.
    CutoffPassedOver,
    /// A read is answered while others still find it under way.
    AnsweredBeforeLanding,
}

/// Whether this fault is planted. Never, but while schedules are explored.
#[cfg(not(keyward_shuttle))]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}

#[cfg(keyward_shuttle)]
thread_local! {
    /// Shuttle runs all that it explores on the thread that called it.
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

#[cfg(keyward_shuttle)]
pub(crate) fn planted(fault: Planted) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault in all that this thread explores, or none.
#[cfg(keyward_shuttle)]
#[doc(hidden)]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}
