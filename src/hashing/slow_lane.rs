//! Slow hashes, off the executor and bounded.
//!
//! They run on threads of their own, which end when there is no more to do. Nothing here depends on the
//! runtime of whoever asked: a request whose runtime stands still, or is gone, holds up nobody else's.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

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
    waiting: VecDeque<Box<dyn Job>>,
    shared: HashMap<Fingerprint, watch::Sender<Progress>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    Finished(bool),
    Failed,
}

/// Work that somebody waits for. Dropped undone, it tells them so.
trait Job: Send {
    /// Whether anybody still waits. If not, nobody can join any more either.
    fn is_awaited(&mut self, state: &mut State) -> bool;
    /// Does the work. What it returns tells those who wait, once the permit has found its next use.
    fn run(self: Box<Self>) -> Work;
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
        work: impl FnOnce() -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        let (answer, awaited) = oneshot::channel();
        self.submit(self.state(), Box::new(Single { answer, work }))?;
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
            self.submit(state, Box::new(Single { answer, work }))?;
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
        fingerprint: Fingerprint,
        work: impl FnOnce() -> Result<bool, HashingError> + Send + 'static,
    ) -> Result<bool, HashingError> {
        let mut progress = {
            let mut state = self.state();
            match state.shared.get(&fingerprint) {
                Some(sender) => sender.subscribe(),
                None => {
                    // Listed only with a place: nobody joins what is refused.
                    let (has_room, abandoned) = self.room(&mut state);
                    if !has_room {
                        drop(state);
                        drop(abandoned);
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
                    self.submit(state, Box::new(Joint { entry, work }))?;
                    drop(abandoned);
                    receiver
                }
            }
        };
        let outcome = progress.wait_for(|progress| *progress != Progress::Running);
        match outcome.await.map(|progress| *progress) {
            Ok(Progress::Finished(verdict)) => Ok(verdict),
            Ok(Progress::Running | Progress::Failed) | Err(_) => Err(HashingError::Unfinished),
        }
    }

    /// Gives the job to a thread of its own, or to the queue.
    fn submit(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
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
        let (has_room, abandoned) = self.room(&mut state);
        let refused = if has_room {
            state.waiting.push_back(job);
            None
        } else {
            Some(job)
        };
        // A job that is dropped takes the lock.
        drop(state);
        drop(abandoned);
        match refused {
            None => Ok(()),
            Some(_) => Err(HashingError::Saturated),
        }
    }

    /// Whether one more job can be taken, and jobs that were taken out of the queue to make room, because nobody
    /// waits for them any more. They must be dropped without the lock.
    fn room(&self, state: &mut State) -> (bool, Vec<Box<dyn Job>>) {
        if state.busy < self.permits || state.waiting.len() < self.queue {
            return (true, Vec::new());
        }
        let abandoned = state.take_abandoned();
        (state.waiting.len() < self.queue, abandoned)
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

impl State {
    /// Takes those jobs out of the queue that nobody waits for. They must be dropped without the lock.
    fn take_abandoned(&mut self) -> Vec<Box<dyn Job>> {
        let mut abandoned = Vec::new();
        for mut job in std::mem::take(&mut self.waiting) {
            if job.is_awaited(self) {
                self.waiting.push_back(job);
            } else {
                abandoned.push(job);
            }
        }
        abandoned
    }
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
            let Some(mut job) = state.waiting.pop_front() else {
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
            std::mem::take(&mut state.waiting)
        } else {
            VecDeque::new()
        };
        drop(state);
        drop(stranded);
    }
}

/// Work that one request waits for.
struct Single<T, W> {
    answer: oneshot::Sender<Result<T, HashingError>>,
    work: W,
}

impl<T, W> Job for Single<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, HashingError> + Send + 'static,
{
    fn is_awaited(&mut self, _: &mut State) -> bool {
        !self.answer.is_closed()
    }

    fn run(self: Box<Self>) -> Work {
        let Self { answer, work } = *self;
        let result = catch_unwind(AssertUnwindSafe(work));
        Box::new(move || {
            if let Ok(result) = result {
                // Whoever waited may have gone meanwhile.
                let _ = answer.send(result);
            }
        })
    }
}

/// Work that any number of requests wait for.
struct Joint<W> {
    entry: Entry,
    work: W,
}

impl<W> Job for Joint<W>
where
    W: FnOnce() -> Result<bool, HashingError> + Send,
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

    fn run(self: Box<Self>) -> Work {
        let Self { mut entry, work } = *self;
        if let Ok(Ok(verdict)) = catch_unwind(AssertUnwindSafe(work)) {
            entry.progress = Progress::Finished(verdict);
        }
        Box::new(move || drop(entry))
    }
}

/// What is listed for others to join. Dropped, it leaves the list and wakes its waiters.
struct Entry {
    lane: Arc<SlowLane>,
    fingerprint: Fingerprint,
    is_listed: bool,
    progress: Progress,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_listed {
            return; // What is listed by now is another's.
        }
        let sender = self.lane.state().shared.remove(&self.fingerprint);
        if let Some(sender) = sender {
            sender.send_replace(self.progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};
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

    fn asks<F: Future>(future: Pin<&mut F>) {
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }

    fn until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_idle(lane: &SlowLane) -> bool {
        let state = lane.state();
        state.busy == 0 && state.waiting.is_empty() && state.shared.is_empty()
    }

    #[tokio::test]
    async fn requests_for_the_same_computation_share_it() {
        let lane = lane(1, 0);
        let runs = Arc::new(AtomicU32::new(0));
        let (release, wait) = held_up();
        let mut wait = Some(wait);
        let mut waiters = Vec::new();
        for _ in 0..50 {
            let (runs, wait) = (Arc::clone(&runs), wait.take());
            let mut waiter = Box::pin(lane.share([1; 32], move || {
                runs.fetch_add(1, Ordering::SeqCst);
                wait.unwrap()()
            }));
            asks(waiter.as_mut());
            waiters.push(waiter);
        }
        release.send(()).unwrap();
        for waiter in waiters {
            assert!(waiter.await.unwrap());
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        until(|| is_idle(&lane));
    }

    #[tokio::test]
    async fn the_one_who_began_may_leave_while_others_wait() {
        let lane = lane(1, 1);
        let (release, wait) = held_up();
        let mut second = Box::pin(lane.share([1; 32], || Ok(false)));
        {
            let mut first = pin!(lane.share([1; 32], wait));
            asks(first.as_mut());
            asks(second.as_mut());
        }
        release.send(()).unwrap();
        assert!(second.await.unwrap(), "the first one's result");
    }

    #[tokio::test]
    async fn work_that_nobody_awaits_any_more_is_not_begun() {
        let lane = lane(1, 2);
        let (release, wait) = held_up();
        let mut running = pin!(lane.run(wait));
        asks(running.as_mut());
        let begun = Arc::new(AtomicU32::new(0));
        let count = || {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(true)
            }
        };
        {
            asks(pin!(lane.share([2; 32], count())));
            asks(pin!(lane.run(count())));
        }
        release.send(()).unwrap();
        running.await.unwrap();
        until(|| is_idle(&lane));
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        let anew = lane.share([2; 32], count()).await;
        assert!(anew.unwrap(), "and can be begun anew");
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_the_abandoned_hold_no_place() {
        let lane = lane(1, 2);
        let (release, wait) = held_up();
        let mut running = Box::pin(lane.share([0; 32], wait));
        asks(running.as_mut());
        let mut one = Box::pin(lane.share([1; 32], || Ok(true)));
        let mut two = Box::pin(lane.run(|| Ok(true)));
        asks(one.as_mut());
        asks(two.as_mut());
        let refused = lane.share([9; 32], || Ok(true)).await;
        assert!(matches!(refused, Err(HashingError::Saturated)));
        let refused = lane.run(|| Ok(())).await;
        assert!(matches!(refused, Err(HashingError::Saturated)));
        assert!(!lane.state().shared.contains_key(&[9; 32]));

        drop((one, two));
        let mut three = Box::pin(lane.share([9; 32], || Ok(true)));
        let mut four = Box::pin(lane.run(|| Ok(true)));
        asks(three.as_mut());
        asks(four.as_mut());
        release.send(()).unwrap();
        for waiter in [running.await, three.await, four.await] {
            assert!(waiter.unwrap());
        }
        until(|| is_idle(&lane));
    }

    #[tokio::test]
    async fn at_most_the_permits_run_at_once() {
        let lane = lane(2, 100);
        let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut waiters = Vec::new();
        for _ in 0..50 {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let mut waiter = Box::pin(lane.run(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }));
            asks(waiter.as_mut());
            waiters.push(waiter);
        }
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_may_only_run_at_once_never_waits() {
        let lane = lane(1, 5);
        assert!(matches!(lane.run_if_free(|| Ok(7)).await, Ok(Some(7))));
        until(|| is_idle(&lane));
        let (release, wait) = held_up();
        let mut running = pin!(lane.run(wait));
        asks(running.as_mut());
        assert!(matches!(lane.run_if_free(|| Ok(7)).await, Ok(None)));
        release.send(()).unwrap();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_undecidable_and_frees_its_permit() {
        let lane = lane(1, 1);
        for _ in 0..3 {
            let shared = lane.share([1; 32], || panic!("planted")).await;
            assert!(matches!(shared, Err(HashingError::Unfinished)));
            let single = lane.run::<()>(|| panic!("planted")).await;
            assert!(matches!(single, Err(HashingError::Unfinished)));
        }
        until(|| is_idle(&lane));
    }

    #[tokio::test]
    async fn a_shared_no_is_a_no_for_all() {
        let lane = lane(1, 0);
        let (release, wait) = held_up();
        let mut first = Box::pin(lane.share([1; 32], move || wait().map(|_| false)));
        asks(first.as_mut());
        let mut second = Box::pin(lane.share([1; 32], || Ok(true)));
        asks(second.as_mut());
        release.send(()).unwrap();
        assert!(!first.await.unwrap());
        assert!(!second.await.unwrap(), "the verdict of the work that ran");
    }

    #[tokio::test]
    async fn nobody_joins_what_is_refused() {
        let lane = lane(1, 0);
        let (release, wait) = held_up();
        let mut running = Box::pin(lane.run(wait));
        asks(running.as_mut());
        for _ in 0..3 {
            let refused = lane.share([1; 32], || Ok(true)).await;
            assert!(matches!(refused, Err(HashingError::Saturated)));
            assert!(lane.state().shared.is_empty());
        }
        release.send(()).unwrap();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_cannot_be_had_takes_no_permit_and_strands_nobody() {
        static FAIL: AtomicU32 = AtomicU32::new(0);
        static SPAWNING: Mutex<Option<Arc<SlowLane>>> = Mutex::new(None);
        static STRANDED: Mutex<Vec<std::thread::JoinHandle<Result<bool, HashingError>>>> =
            Mutex::new(Vec::new());

        /// Fails, after others have come to wait behind the job that it was to run.
        fn spawn(work: Work) -> io::Result<()> {
            if FAIL.load(Ordering::SeqCst) == 0 {
                return spawn_thread(work);
            }
            if let Some(lane) = SPAWNING.lock().unwrap().take() {
                for fingerprint in [[7; 32], [8; 32]] {
                    let waiter = Arc::clone(&lane);
                    STRANDED.lock().unwrap().push(std::thread::spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread();
                        let runtime = { runtime }.build().unwrap();
                        runtime.block_on(waiter.share(fingerprint, || Ok(true)))
                    }));
                }
                until(|| lane.state().waiting.len() == 2);
            }
            drop(work);
            Err(io::Error::other("planted"))
        }

        let lane = Arc::new(SlowLane {
            spawn,
            ..SlowLane::new(NonZeroUsize::MIN, 5)
        });
        FAIL.store(1, Ordering::SeqCst);
        *SPAWNING.lock().unwrap() = Some(Arc::clone(&lane));
        let refused = lane.run(|| Ok(())).await;
        assert!(matches!(refused, Err(HashingError::Unfinished)));
        for stranded in STRANDED.lock().unwrap().drain(..) {
            let told = stranded.join().unwrap();
            assert!(matches!(told, Err(HashingError::Unfinished)), "{told:?}");
        }
        assert!(is_idle(&lane));
        FAIL.store(0, Ordering::SeqCst);
        assert!(
            lane.share([7; 32], || Ok(true)).await.unwrap(),
            "and then it works again"
        );
    }

    #[test]
    fn a_runtime_that_stands_still_holds_up_nobody_else() {
        let lane = lane(1, 5);
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap()
        };
        let (release, wait) = held_up();
        let still = runtime();
        let mut abandoned = Box::pin(lane.share([1; 32], wait));
        {
            let _entered = still.enter();
            asks(abandoned.as_mut());
        }
        let mut waiting = Box::pin(lane.share([2; 32], || Ok(true)));
        asks(waiting.as_mut());
        release.send(()).unwrap();
        // Neither of the two above is ever polled again.
        for fingerprint in [[1; 32], [2; 32], [3; 32]] {
            let other = runtime();
            let shared = other.block_on(async {
                let shared = lane.share(fingerprint, || Ok(true));
                tokio::time::timeout(Duration::from_secs(20), shared).await
            });
            assert!(shared.unwrap().unwrap());
        }
        drop(still);
    }
}
