//! The lane under pressure: sharing, waiting, dropped requests and failures.

use super::*;
use crate::key::{KeyId, TenantId};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Returns the account of requests with a key.
fn key(tenant: &str, key: u128) -> Account {
    Account {
        class: Class::Verification,
        tenant: TenantId::new(tenant).unwrap(),
        key: KeyId::from_u128(key),
    }
}

fn a() -> Account {
    key("a", 1)
}

/// Returns the account of the manager for a tenant's key.
fn management(tenant: &str) -> Account {
    Account {
        class: Class::Management,
        ..key(tenant, 99)
    }
}

fn lane(permits: usize, queue: usize) -> SlowLane {
    SlowLane::new(NonZeroUsize::new(permits).unwrap(), queue)
}

/// Returns work that blocks until it is released, so that other jobs pile up behind it.
fn held_up() -> (
    mpsc::Sender<()>,
    impl FnOnce(&mut Memory) -> Result<bool, HashingError> + Send,
) {
    let (release, held) = mpsc::channel::<()>();
    (release, move |_: &mut Memory| {
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
    let state = lane.0.state();
    state.busy == 0 && state.waiting.len() == 0 && state.shared.is_empty()
}

#[tokio::test]
async fn identical_requests_share_one_run() {
    let lane = lane(1, 0);
    let runs = Arc::new(AtomicU32::new(0));
    let (release, wait) = held_up();
    let mut wait = Some(wait);
    let mut waiters = Vec::new();
    for _ in 0..50 {
        let (runs, wait) = (Arc::clone(&runs), wait.take());
        let mut waiter = Box::pin(lane.share(a(), [1; 32], move |memory| {
            runs.fetch_add(1, Ordering::SeqCst);
            wait.unwrap()(memory)
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
async fn the_first_waiter_may_leave() {
    let lane = lane(1, 1);
    let (release, wait) = held_up();
    let mut second = Box::pin(lane.share(a(), [1; 32], |_| Ok(false)));
    {
        let mut first = pin!(lane.share(a(), [1; 32], wait));
        asks(first.as_mut());
        asks(second.as_mut());
    }
    release.send(()).unwrap();
    assert!(second.await.unwrap(), "the first one's result");
}

#[tokio::test]
async fn abandoned_work_is_not_started() {
    let lane = lane(1, 2);
    let (release, wait) = held_up();
    let mut running = pin!(lane.run(management("a"), wait));
    asks(running.as_mut());
    let begun = Arc::new(AtomicU32::new(0));
    let count = || {
        let begun = Arc::clone(&begun);
        move |_: &mut Memory| {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok(true)
        }
    };
    {
        asks(pin!(lane.share(a(), [2; 32], count())));
        asks(pin!(lane.run(management("a"), count())));
    }
    release.send(()).unwrap();
    running.await.unwrap();
    until(|| is_idle(&lane));
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    let anew = lane.share(a(), [2; 32], count()).await;
    assert!(anew.unwrap(), "and can be begun anew");
}

#[tokio::test]
async fn a_bounded_queue_reclaims_places() {
    let lane = lane(1, 2);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.share(a(), [0; 32], wait));
    asks(running.as_mut());
    let mut one = Box::pin(lane.share(a(), [1; 32], |_| Ok(true)));
    let mut two = Box::pin(lane.run(management("a"), |_| Ok(true)));
    asks(one.as_mut());
    asks(two.as_mut());
    let refused = lane.share(a(), [9; 32], |_| Ok(true)).await;
    assert!(matches!(refused, Err(HashingError::Saturated)));
    let refused = lane.run(management("a"), |_| Ok(())).await;
    assert!(matches!(refused, Err(HashingError::Saturated)));
    assert!(!lane.0.state().shared.contains_key(&[9; 32]));

    drop((one, two));
    let mut three = Box::pin(lane.share(a(), [9; 32], |_| Ok(true)));
    let mut four = Box::pin(lane.run(management("a"), |_| Ok(true)));
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
    let (mut releases, mut waiters) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let (release, wait) = held_up();
        releases.push(release);
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let mut waiter = Box::pin(lane.run(management("a"), move |memory| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let waited = wait(memory);
            std::thread::sleep(Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            waited
        }));
        asks(waiter.as_mut());
        waiters.push(waiter);
    }
    // Release no job before all have asked and two are at work, however late their threads start.
    until(|| now.load(Ordering::SeqCst) >= 2);
    {
        let state = lane.0.state();
        assert_eq!((state.busy, state.waiting.len()), (2, 48));
    }
    for release in releases {
        release.send(()).unwrap();
    }
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn run_if_free_never_waits() {
    let lane = lane(1, 5);
    assert!(matches!(
        lane.run_if_free(a(), |_| Ok(7)).await,
        Ok(Some(7))
    ));
    until(|| is_idle(&lane));
    let (release, wait) = held_up();
    let mut running = pin!(lane.run(management("a"), wait));
    asks(running.as_mut());
    assert!(matches!(lane.run_if_free(a(), |_| Ok(7)).await, Ok(None)));
    release.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_panic_frees_its_permit() {
    let lane = lane(1, 1);
    for _ in 0..3 {
        let shared = lane.share(a(), [1; 32], |_| panic!("planted")).await;
        assert!(matches!(shared, Err(HashingError::Unfinished)));
        let single = lane.run::<()>(management("a"), |_| panic!("planted")).await;
        assert!(matches!(single, Err(HashingError::Unfinished)));
    }
    until(|| is_idle(&lane));
}

#[tokio::test]
async fn a_shared_mismatch_holds_for_all() {
    let lane = lane(1, 0);
    let (release, wait) = held_up();
    let mut first = Box::pin(lane.share(a(), [1; 32], move |memory| wait(memory).map(|_| false)));
    asks(first.as_mut());
    let mut second = Box::pin(lane.share(a(), [1; 32], |_| Ok(true)));
    asks(second.as_mut());
    release.send(()).unwrap();
    assert!(!first.await.unwrap());
    assert!(!second.await.unwrap(), "the verdict of the work that ran");
}

#[tokio::test]
async fn refused_requests_are_not_shared() {
    let lane = lane(1, 0);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.run(management("a"), wait));
    asks(running.as_mut());
    // From several threads at once: no request may join between listing and refusal.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.build().unwrap();
                for _ in 0..5_000 {
                    let refused = runtime.block_on(lane.share(a(), [1; 32], |_| Ok(true)));
                    assert!(
                        matches!(refused, Err(HashingError::Saturated)),
                        "{refused:?}"
                    );
                }
            });
        }
    });
    assert!(lane.0.state().shared.is_empty());
    release.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_failed_spawn_strands_no_request() {
    static FAIL: AtomicU32 = AtomicU32::new(0);
    static SPAWNING: Mutex<Option<Arc<SlowLane>>> = Mutex::new(None);
    static STRANDED: Mutex<Vec<std::thread::JoinHandle<Result<bool, HashingError>>>> =
        Mutex::new(Vec::new());

    /// Fails after other jobs have queued behind the one that it should run.
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
                    runtime.block_on(waiter.share(a(), fingerprint, |_| Ok(true)))
                }));
            }
            until(|| lane.0.state().waiting.len() == 2);
        }
        drop(work);
        Err(io::Error::other("planted"))
    }

    let lane = Arc::new(SlowLane::spawning(NonZeroUsize::MIN, 5, spawn));
    FAIL.store(1, Ordering::SeqCst);
    *SPAWNING.lock().unwrap() = Some(Arc::clone(&lane));
    let refused = lane.run(management("a"), |_| Ok(())).await;
    assert!(matches!(refused, Err(HashingError::Unfinished)));
    for stranded in STRANDED.lock().unwrap().drain(..) {
        let told = stranded.join().unwrap();
        assert!(matches!(told, Err(HashingError::Unfinished)), "{told:?}");
    }
    assert!(is_idle(&lane));
    FAIL.store(0, Ordering::SeqCst);
    assert!(
        lane.share(a(), [7; 32], |_| Ok(true)).await.unwrap(),
        "and then it works again"
    );
}

#[test]
fn a_stalled_runtime_blocks_no_other() {
    let lane = lane(1, 5);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let (release, wait) = held_up();
    let still = runtime();
    let mut abandoned = Box::pin(lane.share(a(), [1; 32], wait));
    {
        let _entered = still.enter();
        asks(abandoned.as_mut());
    }
    let mut waiting = Box::pin(lane.share(a(), [2; 32], |_| Ok(true)));
    asks(waiting.as_mut());
    release.send(()).unwrap();
    // Neither of the two futures above is ever polled again.
    for fingerprint in [[1; 32], [2; 32], [3; 32]] {
        let other = runtime();
        let shared = other.block_on(async {
            let shared = lane.share(a(), fingerprint, |_| Ok(true));
            tokio::time::timeout(Duration::from_secs(20), shared).await
        });
        assert!(shared.unwrap().unwrap());
    }
    drop(still);
}

#[tokio::test]
async fn each_permit_has_one_thread() {
    static SPAWNED: AtomicU32 = AtomicU32::new(0);
    fn spawn(work: Work) -> io::Result<()> {
        SPAWNED.fetch_add(1, Ordering::SeqCst);
        spawn_thread(work)
    }
    let lane = SlowLane::spawning(NonZeroUsize::new(2).unwrap(), 100, spawn);
    let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
    for burst in 0_u8..50 {
        let waiters = (0..=burst % 5).map(|n| {
            let threads = Arc::clone(&threads);
            lane.share(a(), [n; 32], move |_| {
                let thread = std::thread::current().id();
                Ok(threads.lock().unwrap().insert(thread))
            })
        });
        let mut waiters: Vec<_> = waiters.map(Box::pin).collect();
        let all = waiters.iter_mut().map(|waiter| waiter.as_mut());
        for waiter in all {
            // Some are done at the first poll.
            let _ = waiter.poll(&mut Context::from_waker(Waker::noop()));
        }
        until(|| is_idle(&lane));
    }
    assert!(SPAWNED.load(Ordering::SeqCst) <= 2);
    assert!(threads.lock().unwrap().len() <= 2);
    let shared = Arc::downgrade(&lane.0);
    drop(lane);
    until(|| shared.strong_count() == 0);
}

#[tokio::test]
async fn dropping_the_lane_drops_its_queue() {
    let lane = lane(1, 5);
    let (release, wait) = held_up();
    let dropped = Arc::new(());
    {
        asks(pin!(lane.run(a(), wait)));
        let witness = Arc::clone(&dropped);
        asks(pin!(lane.share(a(), [1; 32], move |_| {
            drop(witness);
            panic!("no request waits for this hash")
        })));
    }
    drop(lane);
    release.send(()).unwrap();
    until(|| Arc::strong_count(&dropped) == 1);
}

/// A lane with its only permit taken, so that all other jobs wait.
struct HeldUp {
    lane: SlowLane,
    release: mpsc::Sender<()>,
}

impl HeldUp {
    fn new(queue: usize) -> Self {
        let lane = lane(1, queue);
        let (release, wait) = held_up();
        // Work that has begun continues without its request.
        asks(pin!(lane.run(management("holder"), wait)));
        until(|| lane.0.state().busy == 1);
        Self { lane, release }
    }

    /// Submits a job that records its name when it runs.
    fn ask<'a>(&'a self, account: Account, name: &'static str, ran: &Ran) -> Waiter<'a> {
        let ran = Arc::clone(ran);
        let mut waiter: Waiter<'a> = Box::pin(self.lane.run(account, move |_| {
            ran.lock().unwrap().push(name);
            Ok(())
        }));
        // The end of the test shows whether the job waited or was refused.
        let asked = waiter
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match asked {
            std::task::Poll::Ready(refused) => Box::pin(std::future::ready(refused)),
            std::task::Poll::Pending => waiter,
        }
    }
}

type Ran = Arc<Mutex<Vec<&'static str>>>;
type Waiter<'a> = Pin<Box<dyn Future<Output = Result<(), HashingError>> + 'a>>;

/// Returns how many jobs ran; all others were refused for lack of a place.
async fn done(waiters: Vec<Waiter<'_>>) -> usize {
    let mut done = 0;
    for waiter in waiters {
        match waiter.await {
            Ok(()) => done += 1,
            Err(HashingError::Saturated) => {}
            Err(other) => panic!("{other}"),
        }
    }
    done
}

#[tokio::test]
async fn one_keys_guesses_displace_no_other() {
    let (held, ran) = (HeldUp::new(8), Ran::default());
    let guess = || held.ask(a(), "guess", &ran);
    let mut guesses: Vec<_> = (0..9).map(|_| guess()).collect();
    let others: Vec<_> = (100..104)
        .map(|other| held.ask(key("a", other), "other", &ran))
        .chain((0..2).map(|_| held.ask(management("a"), "managed", &ran)))
        .collect();
    // Once those six have a place, further guesses do not take it.
    guesses.push(guess());
    assert_eq!(held.lane.0.state().waiting.len(), 8);
    held.release.send(()).unwrap();
    assert_eq!(done(others).await, 6);
    assert_eq!(done(guesses).await, 2);
    until(|| is_idle(&held.lane));
}

#[tokio::test]
async fn one_tenant_displaces_no_other() {
    let (held, ran) = (HeldUp::new(8), Ran::default());
    let guesses: Vec<_> = (0..20)
        .map(|id| held.ask(key("a", id), "guess", &ran))
        .collect();
    let others = ["b", "c", "d"];
    let others = others.map(|other| held.ask(key(other, 100), "other", &ran));
    let more: Vec<_> = (20..40)
        .map(|id| held.ask(key("a", id), "guess", &ran))
        .collect();
    assert_eq!(held.lane.0.state().waiting.len(), 8);
    held.release.send(()).unwrap();
    assert_eq!(done(others.into()).await, 3);
    assert_eq!(done(guesses).await + done(more).await, 5);
}

#[tokio::test]
async fn a_tenants_keys_share_its_places() {
    let (held, ran) = (HeldUp::new(6), Ran::default());
    let others = ["b", "c", "d"];
    let others = others.map(|other| held.ask(key(other, 100), "other", &ran));
    let guesses: Vec<_> = (0..6)
        .map(|_| held.ask(key("a", 1), "guess", &ran))
        .collect();
    let own: Vec<_> = (2..4)
        .map(|id| held.ask(key("a", id), "own", &ran))
        .collect();
    held.release.send(()).unwrap();
    assert_eq!(done(others.into()).await, 3, "of other tenants");
    assert_eq!(done(own).await, 2, "of the guessed key's tenant");
    assert_eq!(done(guesses).await, 1);
}

#[tokio::test]
async fn tenants_then_keys_take_turns() {
    let (held, ran) = (HeldUp::new(8), Ran::default());
    let waiters = vec![
        held.ask(key("a", 1), "a1", &ran),
        held.ask(key("a", 1), "a1", &ran),
        held.ask(key("a", 2), "a2", &ran),
        held.ask(key("b", 3), "b3", &ran),
        held.ask(management("a"), "managed a", &ran),
        held.ask(management("a"), "managed a", &ran),
        held.ask(management("b"), "managed b", &ran),
    ];
    held.release.send(()).unwrap();
    assert_eq!(done(waiters).await, 7);
    let order = [
        "managed a",
        "a1",
        "managed b",
        "b3",
        "managed a",
        "a2",
        "a1",
    ];
    assert_eq!(*ran.lock().unwrap(), order);
}

#[tokio::test]
async fn management_stays_within_its_share() {
    let (held, ran) = (HeldUp::new(8), Ran::default());
    let issue = |tenant| held.ask(management(tenant), "issue", &ran);
    let issues: Vec<_> = (0..8).map(|_| issue("a")).collect();
    let others = vec![issue("b"), issue("c")];
    let first_uses: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|tenant| held.ask(key(tenant, 1), "first use", &ran))
        .collect();
    held.release.send(()).unwrap();
    assert_eq!(done(others).await, 2, "other tenants' management");
    assert_eq!(done(first_uses).await, 4);
    assert_eq!(done(issues).await, 2);
}
