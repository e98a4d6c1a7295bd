//! Locks and atomics of the state that requests share.
//!
//! They come from `std`. Built with `--cfg keyward_shuttle` they come from shuttle, which explores the orders in which
//! threads can interleave (`tests/schedules`).

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
