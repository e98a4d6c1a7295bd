//! Locks, atomics and counters of the state that requests share, and waiting with a limit.
//!
//! Locks and atomics come from `std`. Built with `--cfg keyward_shuttle` they come from shuttle, which explores the
//! orders in which threads can interleave (`tests/schedules`). Nothing is decided by a [`Count`]: it is not explored.

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

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

/// Locks, ignoring poisoning: every critical section leaves the data consistent after each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A counter.
pub(crate) type Count = std::sync::atomic::AtomicU64;

/// Counters that every request writes, separate for each thread: a shared counter would slow all threads down.
#[derive(Debug)]
pub(crate) struct Striped<T>(Box<[Stripe<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe<T>(T);

/// Number of threads with a stripe of their own. All later threads share one more stripe.
const OWN_STRIPES: usize = 64;

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self((0..=OWN_STRIPES).map(|_| Stripe::default()).collect())
    }
}

impl<T> Striped<T> {
    /// Adds one to a counter.
    #[inline]
    pub(crate) fn add_one(&self, counter: impl FnOnce(&T) -> &Count) {
        let mine = stripe();
        let Some(counter) = self.0.get(mine).map(|Stripe(of)| counter(of)) else {
            return;
        };
        if mine < OWN_STRIPES {
            // No other thread writes this stripe: an atomic step across processors is not needed.
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the sum of a counter over all threads.
    pub(crate) fn sum(&self, counter: impl Fn(&T) -> &Count) -> u64 {
        let read = |Stripe(of): &Stripe<T>| counter(of).load(Ordering::Relaxed);
        self.0.iter().map(read).sum()
    }
}

thread_local! {
    static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Returns the index of this thread's stripe.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            let stripe = THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_STRIPES);
            mine.set(Some(stripe));
            stripe
        })
    })
}
