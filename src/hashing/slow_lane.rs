//! Slow hashes, off the executor and bounded.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::HashingError;

/// What names a computation that several requests may share: a keyed hash, so that it gives no secret away.
pub(super) type Fingerprint = [u8; 32];

/// A fixed number of permits, a bounded queue before them, and the computations that are under way.
pub(super) struct SlowLane {
    permits: Arc<Semaphore>,
    /// Most computations that run or wait.
    capacity: usize,
    occupied: Arc<AtomicUsize>,
    shared: Arc<Mutex<Shared>>,
}

type Shared = HashMap<Fingerprint, watch::Sender<Progress>>;

type Joined = (watch::Receiver<Progress>, Option<(Entry, Place)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    Finished(bool),
    Failed,
}

impl SlowLane {
    pub(super) fn new(permits: NonZeroUsize, queue: usize) -> Self {
        let permits = permits.get().min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            capacity: permits.saturating_add(queue),
            occupied: Arc::default(),
            shared: Arc::default(),
        }
    }

    /// Runs the work when a permit is free.
    ///
    /// Dropping the future gives up a place in the queue; work that has begun runs to its end and holds its
    /// permit until then, so that memory stays bounded.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        Handle::try_current().map_err(|_| HashingError::NoRuntime)?;
        let place = self.take_place()?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| HashingError::Unfinished)?;
        let finished = tokio::task::spawn_blocking(move || {
            let _held = (permit, place);
            work()
        });
        finished.await.map_err(|_| HashingError::Unfinished)?
    }

    /// Runs the work once for all who ask for it under this fingerprint while it is under way.
    ///
    /// It does not belong to the request that began it: that one may go away while others wait. When all have
    /// gone before it began, it is not done at all.
    pub(super) async fn share(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        work: impl FnOnce() -> Result<bool, HashingError> + Send + 'static,
    ) -> Result<bool, HashingError> {
        let runtime = Handle::try_current().map_err(|_| HashingError::NoRuntime)?;
        let (mut progress, begun) = self.join(fingerprint)?;
        if let Some((entry, place)) = begun {
            // Outside the lock: a runtime that shuts down drops the entry at once, which takes it again.
            runtime.spawn(entry.lead(place, work));
        }
        let outcome = progress.wait_for(|progress| *progress != Progress::Running);
        match outcome.await.map(|progress| *progress) {
            Ok(Progress::Finished(verdict)) => Ok(verdict),
            Ok(Progress::Running | Progress::Failed) | Err(_) => Err(HashingError::Unfinished),
        }
    }

    /// Joins the computation under this fingerprint, or begins one that the caller must lead.
    fn join(self: &Arc<Self>, fingerprint: Fingerprint) -> Result<Joined, HashingError> {
        let mut shared = self.shared();
        if let Some(sender) = shared.get(&fingerprint) {
            return Ok((sender.subscribe(), None));
        }
        let place = self.take_place()?;
        let (sender, receiver) = watch::channel(Progress::Running);
        shared.insert(fingerprint, sender);
        let entry = Entry {
            lane: Arc::clone(self),
            fingerprint,
            is_listed: true,
            progress: Progress::Failed,
        };
        Ok((receiver, Some((entry, place))))
    }

    fn take_place(&self) -> Result<Place, HashingError> {
        let place = Place(Arc::clone(&self.occupied));
        if self.occupied.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            return Err(HashingError::Saturated);
        }
        Ok(place)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Every change to the map is a single call: a panic elsewhere cannot leave it half-made.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SlowLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowLane")
            .field("free", &self.permits.available_permits())
            .field("occupied", &self.occupied.load(Ordering::Relaxed))
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A place among the computations that run or wait.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shared computation that a leader works on. Finished or dropped, it leaves the list and wakes its waiters.
struct Entry {
    lane: Arc<SlowLane>,
    fingerprint: Fingerprint,
    is_listed: bool,
    progress: Progress,
}

impl Entry {
    async fn lead(
        mut self,
        place: Place,
        work: impl FnOnce() -> Result<bool, HashingError> + Send + 'static,
    ) {
        let Ok(permit) = Arc::clone(&self.lane.permits).acquire_owned().await else {
            return;
        };
        if !self.is_awaited() {
            return;
        }
        let finished = tokio::task::spawn_blocking(move || {
            let _held = (permit, place);
            work()
        });
        if let Ok(Ok(verdict)) = finished.await {
            self.progress = Progress::Finished(verdict);
        }
    }

    /// Whether somebody still waits; if not, the entry leaves the list, so that nobody joins in vain.
    fn is_awaited(&mut self) -> bool {
        let mut shared = self.lane.shared();
        let awaited = shared
            .get(&self.fingerprint)
            .is_some_and(|sender| sender.receiver_count() > 0);
        if !awaited {
            shared.remove(&self.fingerprint);
            self.is_listed = false;
        }
        awaited
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_listed {
            return; // What is listed by now is another's.
        }
        let sender = self.lane.shared().remove(&self.fingerprint);
        if let Some(sender) = sender {
            sender.send_replace(self.progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    fn lane(permits: usize, queue: usize) -> Arc<SlowLane> {
        Arc::new(SlowLane::new(NonZeroUsize::new(permits).unwrap(), queue))
    }

    /// Work that waits for a word, so that others pile up behind it.
    fn held_up() -> (
        mpsc::Sender<()>,
        impl FnOnce() -> Result<bool, HashingError> + Send,
    ) {
        let (release, held) = mpsc::channel::<()>();
        (release, move || {
            held.recv_timeout(Duration::from_secs(30)).unwrap();
            Ok(true)
        })
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn requests_for_the_same_computation_share_it() {
        let lane = lane(1, 0);
        let runs = Arc::new(AtomicU32::new(0));
        let (release, wait) = held_up();
        let mut waiters = Vec::new();
        let mut wait = Some(wait);
        for _ in 0..50 {
            let (lane, runs, wait) = (Arc::clone(&lane), Arc::clone(&runs), wait.take());
            waiters.push(tokio::spawn(async move {
                lane.share([1; 32], move || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    wait.unwrap()()
                })
                .await
            }));
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        for waiter in waiters {
            assert!(waiter.await.unwrap().unwrap());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(lane.shared().is_empty());
        until(|| lane.occupied.load(Ordering::SeqCst) == 0).await;
    }

    #[tokio::test]
    async fn the_one_who_began_may_leave_while_others_wait() {
        let lane = lane(1, 1);
        let (release, wait) = held_up();
        let first = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.share([1; 32], wait).await }
        });
        until(|| lane.permits.available_permits() == 0).await;
        let second = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.share([1; 32], || Ok(false)).await }
        });
        until(|| {
            lane.shared()
                .get(&[1; 32])
                .is_some_and(|sender| sender.receiver_count() == 2)
        })
        .await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        assert!(second.await.unwrap().unwrap(), "the first one's result");
    }

    #[tokio::test]
    async fn work_that_nobody_awaits_any_more_is_not_begun() {
        let lane = lane(1, 1);
        let (release, wait) = held_up();
        let running = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.run(wait).await }
        });
        until(|| lane.permits.available_permits() == 0).await;
        let begun = Arc::new(AtomicU32::new(0));
        let abandoned = tokio::spawn({
            let (lane, begun) = (Arc::clone(&lane), Arc::clone(&begun));
            async move {
                lane.share([2; 32], move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    Ok(true)
                })
                .await
            }
        });
        until(|| lane.shared().contains_key(&[2; 32])).await;
        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        until(|| lane.shared().is_empty()).await;
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        assert!(
            lane.share([2; 32], || Ok(true)).await.unwrap(),
            "and can be begun anew"
        );
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let lane = lane(1, 2);
        let (release, wait) = held_up();
        let mut held = vec![tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.share([0; 32], wait).await }
        })];
        until(|| lane.permits.available_permits() == 0).await;
        for n in 1..=2 {
            let lane = Arc::clone(&lane);
            held.push(tokio::spawn(async move {
                lane.share([n; 32], || Ok(true)).await
            }));
        }
        until(|| lane.occupied.load(Ordering::SeqCst) == 3).await;
        assert!(matches!(
            lane.share([9; 32], || Ok(true)).await,
            Err(HashingError::Saturated)
        ));
        assert!(matches!(
            lane.run(|| Ok(())).await,
            Err(HashingError::Saturated)
        ));
        release.send(()).unwrap();
        for waiter in held {
            assert!(waiter.await.unwrap().unwrap());
        }
        until(|| lane.occupied.load(Ordering::SeqCst) == 0).await;
        assert!(lane.share([9; 32], || Ok(true)).await.unwrap());
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_undecidable_and_frees_its_place() {
        let lane = lane(1, 0);
        for _ in 0..3 {
            assert!(matches!(
                lane.share([1; 32], || panic!("planted")).await,
                Err(HashingError::Unfinished)
            ));
            assert!(matches!(
                lane.run::<()>(|| panic!("planted")).await,
                Err(HashingError::Unfinished)
            ));
        }
        assert!(lane.shared().is_empty());
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        let lane = lane(1, 0);
        let mut waiting = std::pin::pin!(lane.share([1; 32], || Ok(true)));
        assert!(matches!(
            poll_once(waiting.as_mut()),
            Poll::Ready(Err(HashingError::NoRuntime))
        ));
    }

    #[test]
    fn a_runtime_that_shuts_down_leaves_nothing_behind() {
        let lane = lane(1, 5);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        {
            let _entered = runtime.enter();
            let mut waiting = std::pin::pin!(lane.share([1; 32], || Ok(true)));
            assert!(poll_once(waiting.as_mut()).is_pending());
        }
        assert_eq!(lane.shared().len(), 1, "spawned and never polled");
        drop(runtime);
        assert!(lane.shared().is_empty());
        assert_eq!(lane.occupied.load(Ordering::SeqCst), 0);
    }

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}
