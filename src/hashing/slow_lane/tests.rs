//! The lane under pressure: who shares, who waits, who leaves, what fails.

use super::*;
use crate::key::KeyId;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

const A: Account = Account::Key(KeyId::from_u128(1));
const B: Account = Account::Key(KeyId::from_u128(2));

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
    state.busy == 0 && state.waiting.len() == 0 && state.shared.is_empty()
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
        let mut waiter = Box::pin(lane.share(A, [1; 32], move || {
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
    let mut second = Box::pin(lane.share(A, [1; 32], || Ok(false)));
    {
        let mut first = pin!(lane.share(A, [1; 32], wait));
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
    let mut running = pin!(lane.run(Account::Management, wait));
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
        asks(pin!(lane.share(A, [2; 32], count())));
        asks(pin!(lane.run(Account::Management, count())));
    }
    release.send(()).unwrap();
    running.await.unwrap();
    until(|| is_idle(&lane));
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    let anew = lane.share(A, [2; 32], count()).await;
    assert!(anew.unwrap(), "and can be begun anew");
}

#[tokio::test]
async fn the_queue_is_bounded_and_the_abandoned_hold_no_place() {
    let lane = lane(1, 2);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.share(A, [0; 32], wait));
    asks(running.as_mut());
    let mut one = Box::pin(lane.share(A, [1; 32], || Ok(true)));
    let mut two = Box::pin(lane.run(Account::Management, || Ok(true)));
    asks(one.as_mut());
    asks(two.as_mut());
    let refused = lane.share(A, [9; 32], || Ok(true)).await;
    assert!(matches!(refused, Err(HashingError::Saturated)));
    let refused = lane.run(Account::Management, || Ok(())).await;
    assert!(matches!(refused, Err(HashingError::Saturated)));
    assert!(!lane.state().shared.contains_key(&[9; 32]));

    drop((one, two));
    let mut three = Box::pin(lane.share(A, [9; 32], || Ok(true)));
    let mut four = Box::pin(lane.run(Account::Management, || Ok(true)));
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
        let mut waiter = Box::pin(lane.run(Account::Management, move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let waited = wait();
            std::thread::sleep(Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            waited
        }));
        asks(waiter.as_mut());
        waiters.push(waiter);
    }
    // None goes before all have asked and as many as may are seen at work, however late their threads come to it.
    until(|| now.load(Ordering::SeqCst) >= 2);
    {
        let state = lane.state();
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
async fn what_may_only_run_at_once_never_waits() {
    let lane = lane(1, 5);
    assert!(matches!(lane.run_if_free(|| Ok(7)).await, Ok(Some(7))));
    until(|| is_idle(&lane));
    let (release, wait) = held_up();
    let mut running = pin!(lane.run(Account::Management, wait));
    asks(running.as_mut());
    assert!(matches!(lane.run_if_free(|| Ok(7)).await, Ok(None)));
    release.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_panic_in_the_work_is_undecidable_and_frees_its_permit() {
    let lane = lane(1, 1);
    for _ in 0..3 {
        let shared = lane.share(A, [1; 32], || panic!("planted")).await;
        assert!(matches!(shared, Err(HashingError::Unfinished)));
        let single = lane
            .run::<()>(Account::Management, || panic!("planted"))
            .await;
        assert!(matches!(single, Err(HashingError::Unfinished)));
    }
    until(|| is_idle(&lane));
}

#[tokio::test]
async fn a_shared_no_is_a_no_for_all() {
    let lane = lane(1, 0);
    let (release, wait) = held_up();
    let mut first = Box::pin(lane.share(A, [1; 32], move || wait().map(|_| false)));
    asks(first.as_mut());
    let mut second = Box::pin(lane.share(A, [1; 32], || Ok(true)));
    asks(second.as_mut());
    release.send(()).unwrap();
    assert!(!first.await.unwrap());
    assert!(!second.await.unwrap(), "the verdict of the work that ran");
}

#[tokio::test]
async fn nobody_joins_what_is_refused() {
    let lane = lane(1, 0);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.run(Account::Management, wait));
    asks(running.as_mut());
    // From several threads at once: none may come between the listing of what is refused and its end.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.build().unwrap();
                for _ in 0..5_000 {
                    let refused = runtime.block_on(lane.share(A, [1; 32], || Ok(true)));
                    assert!(
                        matches!(refused, Err(HashingError::Saturated)),
                        "{refused:?}"
                    );
                }
            });
        }
    });
    assert!(lane.state().shared.is_empty());
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
                    runtime.block_on(waiter.share(A, fingerprint, || Ok(true)))
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
    let refused = lane.run(Account::Management, || Ok(())).await;
    assert!(matches!(refused, Err(HashingError::Unfinished)));
    for stranded in STRANDED.lock().unwrap().drain(..) {
        let told = stranded.join().unwrap();
        assert!(matches!(told, Err(HashingError::Unfinished)), "{told:?}");
    }
    assert!(is_idle(&lane));
    FAIL.store(0, Ordering::SeqCst);
    assert!(
        lane.share(A, [7; 32], || Ok(true)).await.unwrap(),
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
    let mut abandoned = Box::pin(lane.share(A, [1; 32], wait));
    {
        let _entered = still.enter();
        asks(abandoned.as_mut());
    }
    let mut waiting = Box::pin(lane.share(A, [2; 32], || Ok(true)));
    asks(waiting.as_mut());
    release.send(()).unwrap();
    // Neither of the two above is ever polled again.
    for fingerprint in [[1; 32], [2; 32], [3; 32]] {
        let other = runtime();
        let shared = other.block_on(async {
            let shared = lane.share(A, fingerprint, || Ok(true));
            tokio::time::timeout(Duration::from_secs(20), shared).await
        });
        assert!(shared.unwrap().unwrap());
    }
    drop(still);
}

#[tokio::test]
async fn guesses_at_one_key_displace_nobody_else() {
    let lane = lane(1, 8);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.share(A, [0; 32], wait));
    asks(running.as_mut());
    let mut guesses = Vec::new();
    for guess in 1..=8 {
        let mut waiting = Box::pin(lane.share(A, [guess; 32], || Ok(false)));
        asks(waiting.as_mut());
        guesses.push(waiting);
    }
    let further = lane.share(A, [9; 32], || Ok(false)).await;
    assert!(matches!(further, Err(HashingError::Saturated)));

    let mut others = Vec::new();
    for other in 100..104 {
        let account = Account::Key(KeyId::from_u128(u128::from(other)));
        let mut waiting = Box::pin(lane.share(account, [other; 32], || Ok(true)));
        asks(waiting.as_mut());
        others.push(waiting);
    }
    let mut issuing = Box::pin(lane.run(Account::Management, || Ok(7)));
    let mut finding = Box::pin(lane.share(Account::Management, [200; 32], || Ok(true)));
    asks(issuing.as_mut());
    asks(finding.as_mut());
    // Once those six have a place, further guesses do not take it.
    let further = lane.share(A, [9; 32], || Ok(false)).await;
    assert!(matches!(further, Err(HashingError::Saturated)));
    assert_eq!(lane.state().waiting.len(), 8);

    release.send(()).unwrap();
    for other in others {
        assert!(other.await.unwrap());
    }
    assert_eq!(issuing.await.unwrap(), 7);
    assert!(finding.await.unwrap());
    let mut saturated = 0;
    for guess in guesses {
        match guess.await {
            Ok(verdict) => assert!(!verdict),
            Err(HashingError::Saturated) => saturated += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(saturated, 6, "they gave their places");
    until(|| is_idle(&lane));
}

#[tokio::test]
async fn keys_take_turns_in_the_queue() {
    let lane = lane(1, 8);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.share(A, [0; 32], wait));
    asks(running.as_mut());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut all = Vec::new();
    let jobs = [(A, 1), (A, 2), (A, 3), (B, 4), (Account::Management, 5)];
    for (account, name) in jobs {
        let order = Arc::clone(&order);
        let work = move || {
            order.lock().unwrap().push(name);
            Ok(true)
        };
        let mut waiting = Box::pin(lane.share(account, [name; 32], work));
        asks(waiting.as_mut());
        all.push(waiting);
    }
    release.send(()).unwrap();
    for waiting in all {
        assert!(waiting.await.unwrap());
    }
    assert_eq!(*order.lock().unwrap(), [5, 1, 4, 2, 3]);
}

#[tokio::test]
async fn management_keeps_no_more_than_its_share() {
    let lane = lane(1, 4);
    let (release, wait) = held_up();
    let mut running = Box::pin(lane.share(A, [0; 32], wait));
    asks(running.as_mut());
    let mut issues = Vec::new();
    for _ in 0..4 {
        let mut issuing = Box::pin(lane.run(Account::Management, || Ok(())));
        asks(issuing.as_mut());
        issues.push(issuing);
    }
    let mut first_use = Box::pin(lane.share(B, [1; 32], || Ok(true)));
    asks(first_use.as_mut());
    let last = issues.pop().unwrap().await;
    assert!(matches!(last, Err(HashingError::Saturated)));
    release.send(()).unwrap();
    assert!(first_use.await.unwrap());
    for issuing in issues {
        issuing.await.unwrap();
    }
}
