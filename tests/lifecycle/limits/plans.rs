//! Plans of tenants: their source fails, hangs and panics, and what it says changes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keyward::key::{QuotaSubject, TenantId};
use keyward::limiter::{PlanBook, PlanError, PlanFallback, TenantPlan};
use keyward::verifier::DenialClass;
use tokio::sync::Semaphore;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// What the source does.
#[derive(Debug, Clone)]
enum Mode {
    Answers(TenantPlan),
    /// Once the semaphore has a permit for it.
    Gated(Arc<Semaphore>, TenantPlan),
    Fails,
    Hangs,
    Panics,
}

/// A source that does as the test says.
#[derive(Debug, Clone)]
struct Book {
    mode: Arc<Mutex<Mode>>,
    reads: Arc<AtomicU64>,
}

impl Book {
    fn of(plan: TenantPlan) -> Self {
        Self {
            mode: Arc::new(Mutex::new(Mode::Answers(plan))),
            reads: Arc::default(),
        }
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn answer(&self, plan: TenantPlan) {
        self.set(Mode::Answers(plan));
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

#[keyward::async_trait]
impl PlanBook for Book {
    async fn plan_of(&self, _: &TenantId) -> Result<TenantPlan, PlanError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Answers(plan) => Ok(plan),
            Mode::Gated(gate, plan) => {
                gate.acquire().await.unwrap().forget();
                Ok(plan)
            }
            Mode::Fails => Err(PlanError::new("the table is away")),
            Mode::Hangs => std::future::pending().await,
            Mode::Panics => panic!("as the test wants"),
        }
    }
}

/// A plan of so many requests a day of all the tenant's keys.
fn daily(limit: u32) -> TenantPlan {
    TenantPlan::new().quota(quota("day", limit, 86_400).per(QuotaSubject::Tenant))
}

/// A world with this source, whose plans hold for a minute.
async fn with(book: &Book, fallback: PlanFallback) -> World {
    let limits = |limits: RateLimiting| {
        let limits = limits.deadline(Duration::from_millis(2));
        limits.plans(book.clone(), MINUTE, fallback)
    };
    World::with(limits, |builder| builder).await
}

/// Polls once: `None` if the future has to wait.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Lets a read in the background come to its end.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_changed_plan_holds_within_its_age() {
    for fallback in [PlanFallback::LastKnown, PlanFallback::Undecidable] {
        let book = Book::of(daily(3));
        let world = with(&book, fallback).await;
        let key = world.issue(new_key("key")).await;
        assert_eq!(world.use_up(&key, &any()).await, 3);
        book.answer(daily(5));
        world.elapsed.advance(29 * SECOND);
        assert_eq!(world.use_up(&key, &any()).await, 0);
        assert_eq!(book.reads(), 1, "one read for all requests");
        world.elapsed.advance(2 * SECOND);
        // Begins a read, and does not wait for it.
        let verdict = at_once(world.send(&key, &any()));
        assert!(verdict.unwrap().is_err());
        settle().await;
        assert_eq!(world.use_up(&key, &any()).await, 2, "raised");
        assert_eq!(book.reads(), 2);
        book.answer(daily(1));
        // Nobody has asked for a long time: what is too old does not hold while the source answers.
        world.elapsed.advance(2 * DAY);
        settle().await;
        assert_eq!(world.use_up(&key, &any()).await, 1, "lowered");
        assert_eq!(world.left(&key, &any()).await, [0]);
        let later = world.issue(new_key("later")).await;
        assert_eq!(world.use_up(&later, &any()).await, 0, "keys of tomorrow");
    }
}

#[tokio::test]
async fn a_refused_request_needs_no_plan() {
    let book = Book::of(daily(3));
    book.set(Mode::Fails);
    let world = with(&book, PlanFallback::Undecidable).await;
    let key = world.issue(new_key("key")).await;
    let denial = world.send(&key, &Requirement::full_access()).await;
    let denial = denial.unwrap_err();
    assert_eq!(denial.class(), DenialClass::Forbidden, "{denial:?}");
    assert!(is_undecidable(&world.send(&key, &any()).await));
}

#[tokio::test]
async fn a_forgotten_plan_holds_if_the_source_fails() {
    let book = Book::of(daily(3));
    let world = with(&book, PlanFallback::LastKnown).await;
    let key = world.issue(new_key("key")).await;
    assert_eq!(world.use_up(&key, &any()).await, 3);
    for mode in [Mode::Fails, Mode::Hangs] {
        book.set(mode);
        world.fixture.keyward.verifier().forget_all();
        assert_eq!(world.left(&key, &any()).await, [0]);
        assert_eq!(world.use_up(&key, &any()).await, 0);
    }
}

#[tokio::test]
async fn a_plan_with_too_many_quotas_is_refused() {
    let many = |count| {
        let quotas = (0..count).map(|number| quota(&format!("q{number}"), 5, 60));
        quotas.fold(TenantPlan::new(), TenantPlan::quota)
    };
    for (count, is_accepted) in [(16, true), (17, false)] {
        let world = with(&Book::of(many(count)), PlanFallback::LastKnown).await;
        let key = world.issue(new_key("key")).await;
        assert_eq!(world.send(&key, &any()).await.is_ok(), is_accepted);
    }
}

#[tokio::test]
async fn a_keys_own_quota_takes_over_the_count() {
    let plan = TenantPlan::new().quota(quota("minute", 10, 60));
    let world = with(&Book::of(plan), PlanFallback::LastKnown).await;
    let key = world.issue(new_key("key")).await;
    assert_eq!(world.use_up(&key, &any()).await, 10);
    world.set_quotas(&key, [quota("minute", 5, 60)]).await;
    assert_eq!(world.left(&key, &any()).await, [0]);
    assert_eq!(world.use_up(&key, &any()).await, 0);
}

#[tokio::test]
async fn a_forgotten_plan_is_read_at_once() {
    let book = Book::of(daily(3));
    let world = with(&book, PlanFallback::LastKnown).await;
    let key = world.issue(new_key("key")).await;
    assert_eq!(world.use_up(&key, &any()).await, 3);
    for limit in [7, 5, 9] {
        book.answer(daily(limit));
        world.fixture.keyward.verifier().forget_all();
        let later = world.issue(new_key("later")).await;
        assert_eq!(world.left(&later, &any()).await, [limit.saturating_sub(3)]);
        assert_eq!(world.left(&key, &any()).await, [limit.saturating_sub(3)]);
    }
    // Forgotten while it is read: the answer may be from before the change.
    let gate = Arc::new(Semaphore::new(0));
    book.set(Mode::Gated(Arc::clone(&gate), daily(9)));
    world.elapsed.advance(40 * SECOND);
    assert!(at_once(world.send(&key, &any())).is_some_and(|verdict| verdict.is_ok()));
    settle().await;
    book.answer(daily(20));
    world.fixture.keyward.verifier().forget_all();
    gate.add_permits(1);
    assert_eq!(world.left(&key, &any()).await, [16]);
}

#[tokio::test]
async fn a_plan_forgotten_again_is_read_again() {
    let book = Book::of(daily(9));
    let world = with(&book, PlanFallback::Undecidable).await;
    let key = world.issue(new_key("key")).await;
    // Each time after the plan was read, and before the request that waits for it goes on.
    let keyward = world.fixture.keyward.clone();
    let forgetting = tokio::spawn(async move {
        for _ in 0..3 {
            keyward.verifier().forget_all();
            let mut is_woken = false;
            poll_fn(|context| {
                if is_woken {
                    return Poll::Ready(());
                }
                is_woken = true;
                // Behind the tasks that are ready.
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    });
    assert!(world.send(&key, &any()).await.is_ok());
    forgetting.await.unwrap();
    assert!(book.reads() > 1);
}

#[tokio::test]
async fn a_plan_is_read_by_one_of_many_that_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let book = Book::of(daily(100));
    book.set(Mode::Gated(Arc::clone(&gate), daily(100)));
    let limits = |limits: RateLimiting| {
        let limits = limits.deadline(HOUR);
        limits.plans(book.clone(), MINUTE, PlanFallback::Undecidable)
    };
    let world = World::with(limits, |builder| builder).await;
    let key = Arc::new(world.issue(new_key("key")).await);
    let requests = (0..20).map(|_| {
        let (keyward, key) = (world.fixture.keyward.clone(), Arc::clone(&key));
        tokio::spawn(async move {
            let any = any();
            let attempt = Attempt::new(key.presented(), &any);
            keyward.verifier().verify(&attempt).await.map(drop)
        })
    });
    let requests: Vec<_> = requests.collect();
    settle().await;
    assert_eq!(book.reads(), 1);
    // Forgotten once it is read, while most still wait.
    gate.add_permits(1);
    let keyward = world.fixture.keyward.clone();
    tokio::spawn(async move { keyward.verifier().forget_all() });
    settle().await;
    gate.add_permits(100);
    for request in requests {
        let verdict = request.await.unwrap();
        assert!(verdict.is_ok(), "{verdict:?}");
    }
    assert!(book.reads() < 5, "{} reads", book.reads());
}

#[tokio::test]
async fn a_plan_adds_to_keys_and_routes() {
    let plan = TenantPlan::new()
        .quota(quota("minute", 10, 60))
        .quota(quota("day", 50, 86_400).per(QuotaSubject::Tenant))
        .route_quota(quota("exports", 7, 60))
        .route_quota(quota("nowhere", 1, 60))
        .concurrency(number(4));
    let world = with(&Book::of(plan), PlanFallback::Undecidable).await;
    let plain = world.issue(new_key("plain")).await;
    let own = new_key("own")
        .quota(quota("minute", 20, 60))
        .quota(quota("day", 60, 86_400))
        .concurrency(number(2));
    let own = world.issue(own).await;
    let exports = any()
        .quota(quota("exports", 3, 60))
        .quota(quota("other", 5, 60));
    let shown = async |key: &ApiKey, need: &Requirement| {
        let states = world.states(key, need).await;
        let named = states.iter().map(|state| {
            let limit = &state.limit;
            (limit.name().to_owned(), limit.most().get())
        });
        named.collect::<Vec<_>>()
    };
    let named = |limits: &[(&str, u32)]| {
        let named = limits
            .iter()
            .map(|(name, most)| ((*name).to_owned(), *most));
        named.collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&plain, &any()).await,
        named(&[("minute", 10), ("day", 50), ("concurrency", 4)])
    );
    assert_eq!(
        shown(&own, &exports).await,
        named(&[
            ("minute", 20),
            ("day", 60),
            ("day", 50),
            ("exports", 7),
            ("other", 5),
            ("concurrency", 2)
        ]),
        "the tenant's own always holds"
    );
    // Two keys with seven exports each, in place of the route's three.
    let exports = any().quota(quota("exports", 3, 60));
    assert_eq!(world.use_up(&plain, &exports).await, 7);
    assert_eq!(world.use_up(&own, &exports).await, 7);
    assert_eq!(world.left(&plain, &any()).await, [3, 36, 4]);
}

#[tokio::test]
async fn a_source_that_fails_is_as_was_chosen() {
    for mode in [Mode::Fails, Mode::Hangs, Mode::Panics] {
        for fallback in [PlanFallback::LastKnown, PlanFallback::Undecidable] {
            let what = format!("{mode:?} {fallback:?}");
            let book = Book::of(daily(100));
            book.set(mode.clone());
            let world = with(&book, fallback).await;
            let key = world.issue(new_key("key")).await;
            // No plan is known.
            for _ in 0..3 {
                let verdict = world.send(&key, &any()).await;
                assert!(is_undecidable(&verdict), "{what}");
                let denial = verdict.unwrap_err();
                assert!(matches!(denial.reason(), DenialReason::Plan(_)), "{what}");
            }
            let any = any();
            let verifier = world.fixture.keyward.verifier();
            let told = verifier.explain(&Attempt::new(key.presented(), &any)).await;
            assert!(told.to_string().contains("FAIL  limits"), "{told}");
            assert_eq!(verifier.stats().limits_unknown, 3, "{what}");

            // One is known, and then it cannot be read again.
            let book = Book::of(daily(100));
            let world = with(&book, fallback).await;
            let key = world.issue(new_key("key")).await;
            assert!(world.send(&key, &any).await.is_ok());
            book.set(mode.clone());
            for _ in 0..8 {
                // Steady traffic: nobody waits, whether the plan is read or not.
                world.elapsed.advance(7 * SECOND);
                world.states(&key, &any).await;
                let verdict = at_once(world.send(&key, &any));
                assert!(verdict.is_some_and(|verdict| verdict.is_ok()), "{what}");
                settle().await;
            }
            world.elapsed.advance(HOUR);
            for _ in 0..3 {
                world.elapsed.advance(SECOND);
                let verdict = world.send(&key, &any).await;
                match fallback {
                    PlanFallback::LastKnown => assert!(verdict.is_ok(), "{what}"),
                    PlanFallback::Undecidable => assert!(is_undecidable(&verdict), "{what}"),
                }
            }
            if let Mode::Hangs = mode {
                continue; // that read ends after ten seconds
            }
            book.answer(daily(60));
            world.elapsed.advance(5 * SECOND);
            let _ = world.send(&key, &any).await;
            settle().await;
            let [left] = world.left(&key, &any).await[..] else {
                panic!("{what}");
            };
            assert!(left < 60, "{what}: {left}");
        }
    }
}

#[test]
fn the_last_plan_holds_without_a_runtime() {
    let book = Book::of(daily(100));
    for fallback in [PlanFallback::LastKnown, PlanFallback::Undecidable] {
        book.answer(daily(100));
        let world = at_once(with(&book, fallback)).unwrap();
        let key = at_once(world.issue(new_key("key"))).unwrap();
        assert!(at_once(world.send(&key, &any())).unwrap().is_ok());
        book.set(Mode::Fails);
        world.elapsed.advance(HOUR);
        for _ in 0..3 {
            let verdict = at_once(world.send(&key, &any())).unwrap();
            match fallback {
                PlanFallback::LastKnown => assert!(verdict.is_ok(), "{verdict:?}"),
                PlanFallback::Undecidable => assert!(is_undecidable(&verdict)),
            }
        }
        book.answer(daily(1));
        world.elapsed.advance(HOUR);
        let verdict = at_once(world.send(&key, &any())).unwrap();
        assert!(matches!(
            verdict.unwrap_err().reason(),
            DenialReason::QuotaExceeded { .. }
        ));
    }
}

#[tokio::test]
async fn a_plan_for_all_is_a_default_by_name() {
    let plan = TenantPlan::new().quota(quota("minute", 3, 60));
    // No source is read, so there is nothing to wait for.
    let limits = |limits: RateLimiting| limits.deadline(Duration::ZERO).plan_for_all(plan);
    let world = World::with(limits, |builder| builder).await;
    let [plain, same, other] = [
        new_key("plain"),
        new_key("same name").quota(quota("minute", 5, 60)),
        new_key("another name").quota(quota("other", 2, 60)),
    ];
    let mut allowed = Vec::new();
    for key in [plain, same, other] {
        let key = world.issue(key).await;
        assert!(at_once(world.send(&key, &any())).is_some());
        allowed.push(1 + world.use_up(&key, &any()).await);
    }
    assert_eq!(allowed, [3, 5, 2]);
    let elsewhere = NewKey::new(named("elsewhere"), "key", READ);
    let elsewhere = world.issue(elsewhere).await;
    assert_eq!(world.use_up(&elsewhere, &any()).await, 3);
    world.fixture.keyward.verifier().forget_all();
    assert_eq!(world.use_up(&elsewhere, &any()).await, 0, "still counted");
    world.elapsed.advance(300 * DAY);
    assert_eq!(world.use_up(&elsewhere, &any()).await, 3, "it never ages");
}

#[tokio::test]
async fn a_plan_for_all_with_too_much_is_undecidable() {
    let quotas = (0..17).map(|n| quota(&format!("quota-{n}"), 9, 60));
    let plan = quotas.fold(TenantPlan::new(), TenantPlan::quota);
    let limits = |limits: RateLimiting| limits.plan_for_all(plan);
    let world = World::with(limits, |builder| builder).await;
    let key = world.issue(new_key("key")).await;
    assert!(is_undecidable(&world.send(&key, &any()).await));
}
