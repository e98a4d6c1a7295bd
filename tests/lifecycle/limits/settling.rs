//! Costs that are known afterwards, or counted later; and a limiter that takes its time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyward::clock::MonotonicClock as _;
use keyward::key::KeyId;
use keyward::limiter::{Limit, LimitRule, LimitSource, Limiter as _, LimiterError, Subject, Tick};
use keyward::testkit::{Fault, FaultyStore};
use keyward::verifier::{DenialClass, KeyCache};
use test_support::fixture::poll_times;
use tokio::sync::Semaphore;

use super::slow::{Answers, SlowLimiter};
use super::*;

/// A world that counts in its limiter, but slowly.
async fn slow(answers: Answers, more: impl FnOnce(Builder) -> Builder) -> (World, SlowLimiter) {
    let limiter = LocalLimiter::new();
    let slow = SlowLimiter::over(&limiter, answers);
    let limits = |limits: RateLimiting| limits.limiter(slow.clone()).deadline(HOUR);
    let mut world = World::with(limits, more).await;
    world.limiter = limiter;
    (world, slow)
}

/// A key with a quota of 100 and one place.
fn metered() -> NewKey {
    new_key("key")
        .quota(quota("tokens", 100, 60))
        .concurrency(number(1))
}

/// What remains of the quota and of the places of such a key, without a request.
fn known(world: &World, id: KeyId) -> Vec<u32> {
    let limits = [
        LimitRule::Quota(quota("tokens", 100, 60)),
        LimitRule::Concurrency(number(1)),
    ];
    let subject = || Subject::Key(tenant(), id);
    let limits = limits.map(|rule| Limit::new(subject(), LimitSource::Key, rule));
    let now = u64::try_from(world.elapsed.elapsed().unwrap().as_nanos()).unwrap();
    let states = world
        .limiter
        .meter(limits.into())
        .states(Tick::from_nanos(now), 1);
    states.iter().map(|state| state.remaining).collect()
}

#[tokio::test]
async fn an_estimate_becomes_the_true_cost() {
    let world = World::new().await;
    let key = world.issue(metered()).await;
    let need = any().estimate(number(10));
    let attempt = Attempt::new(key.presented(), &need);
    let verifier = world.fixture.keyward.verifier();
    let admit = async || verifier.verify(&attempt).await.unwrap().into_parts();
    let left = async || world.left(&key, &any()).await[0];

    let (grant, permit) = admit().await;
    permit.settle(3);
    drop(permit);
    assert_eq!(left().await, 97, "less");
    grant.settle(50);
    assert_eq!(left().await, 97, "too late");
    let (grant, permit) = admit().await;
    grant.settle(90);
    grant.clone().settle(17);
    drop(permit);
    assert_eq!(left().await, 80, "more, by the last word of any clone");
    drop(admit().await);
    assert_eq!(left().await, 70, "untold");
    let (_, permit) = admit().await;
    permit.settle(0);
    drop(permit);
    assert_eq!(left().await, 70, "nothing");
    let (_, mut permit) = admit().await;
    permit.settle(60);
    permit.refund();
    drop(permit);
    assert_eq!(left().await, 70, "refunded");
    let (_, permit) = admit().await;
    permit.settle(500);
    drop(permit);
    assert_eq!(left().await, 0, "more than there was");
    assert_eq!(world.use_up(&key, &any()).await, 0);
    world.elapsed.advance(62 * SECOND);
    assert_eq!(left().await, 100);
    // A cost that is no estimate stays what it is.
    let fixed = attempt.cost(number(7));
    let (grant, permit) = verifier.verify(&fixed).await.unwrap().into_parts();
    grant.settle(1);
    permit.settle(1);
    drop(permit);
    assert_eq!(left().await, 93);
}

#[tokio::test]
async fn a_cost_is_counted_after_the_place() {
    let world = World::new().await;
    let key = world.issue(metered()).await;
    let need = any().estimate(number(60));
    let attempt = Attempt::new(key.presented(), &need).count_later();
    let verifier = world.fixture.keyward.verifier();
    let left = |grant| async move {
        let states = verifier.limits_of(grant, &any()).await.unwrap();
        states
            .iter()
            .map(|state| state.remaining)
            .collect::<Vec<_>>()
    };
    let (grant, mut permit) = verifier.verify(&attempt).await.unwrap().into_parts();
    assert_eq!(left(&grant).await, [100, 0]);
    verifier.count(&grant, &attempt, &mut permit).await.unwrap();
    assert_eq!(left(&grant).await, [40, 0]);
    permit.settle(70);
    drop(permit);
    assert_eq!(left(&grant).await, [30, 1]);
    let (grant, mut permit) = verifier.verify(&attempt).await.unwrap().into_parts();
    let denial = verifier.count(&grant, &attempt, &mut permit).await;
    assert_eq!(denial.unwrap_err().class(), DenialClass::Throttled);
    assert_eq!(left(&grant).await, [30, 0]);
    drop(permit);
    assert_eq!(left(&grant).await, [30, 1]);
    let (grant, mut permit) = verifier.verify(&attempt).await.unwrap().into_parts();
    let small = attempt.cost(number(5));
    verifier.count(&grant, &small, &mut permit).await.unwrap();
    permit.refund();
    assert_eq!(left(&grant).await, [30, 0]);
    drop(permit);
    assert_eq!(left(&grant).await, [30, 1]);
    assert_eq!(verifier.stats().quota_exceeded, 1);
}

#[tokio::test]
async fn a_dropped_future_takes_nothing() {
    let waits = [Fault::Yield(1), Fault::Yield(2), Fault::Yield(3)];
    for is_cached in [true, false] {
        let (world, _) = slow(Answers::After(6), |builder| match is_cached {
            true => builder,
            false => builder.cache(KeyCache::off()),
        })
        .await;
        let key = world.issue(metered()).await;
        // The store waits, too, so that there is something to wait for after the charge.
        let store = FaultyStore::over(world.fixture.store.clone()).at_random(7, 1, waits);
        let node = keyward::testkit::builder(store, [READ, WRITE])
            .clock(world.fixture.clock.clone())
            .monotonic_clock(world.elapsed.clone())
            .cache(if is_cached {
                KeyCache::new()
            } else {
                KeyCache::off()
            })
            .rate_limiting(
                RateLimiting::new()
                    .limiter(SlowLimiter::over(&world.limiter, Answers::After(6)))
                    .deadline(HOUR),
            )
            .open()
            .await
            .unwrap();
        let any = any();
        let attempt = Attempt::new(key.presented(), &any);
        let mut polls = 0;
        loop {
            polls += 1;
            let verdict = poll_times(node.verifier().verify(&attempt), polls, Duration::ZERO).await;
            match verdict {
                None => assert_eq!(known(&world, key.id()), [100, 1], "after {polls} polls"),
                Some(verdict) => {
                    let held = verdict.unwrap();
                    assert_eq!(known(&world, key.id()), [99, 0]);
                    drop(held);
                    break;
                }
            }
        }
        assert!(polls > 4, "{polls}");
        // Counting later is no different.
        let later = attempt.count_later();
        let (grant, mut permit) = node.verifier().verify(&later).await.unwrap().into_parts();
        let mut polls = 0;
        loop {
            polls += 1;
            let counting = node.verifier().count(&grant, &later, &mut permit);
            let counted = poll_times(counting, polls, Duration::ZERO).await;
            if counted.is_some() {
                break;
            }
            assert_eq!(known(&world, key.id()), [99, 0], "after {polls} polls");
        }
        assert!(polls > 3);
        assert_eq!(known(&world, key.id()), [98, 0]);
        drop(permit);
        assert_eq!(known(&world, key.id()), [98, 1]);
    }
}

#[tokio::test]
async fn a_limiter_that_hangs_has_a_deadline() {
    let hanging = SlowLimiter::over(&LocalLimiter::new(), Answers::Never);
    let limits = |limits: RateLimiting| limits.limiter(hanging).deadline(Duration::from_millis(2));
    let world = World::with(limits, |builder| builder).await;
    let key = world.issue(metered()).await;
    for _ in 0..2 {
        let denial = world.send(&key, &any()).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Undecidable);
        let reason = denial.reason();
        assert!(
            matches!(reason, DenialReason::Limiter(LimiterError::TimedOut)),
            "{reason}"
        );
    }
    let stats = world.fixture.keyward.verifier().stats();
    assert_eq!(stats.limits_unknown, 2);
    // A key without limits does not wait for it.
    let free = world.issue(new_key("free")).await;
    assert!(world.send(&free, &any()).await.is_ok());
}

#[tokio::test]
async fn a_limiter_that_fails_grants_nothing() {
    let (world, _) = slow(Answers::Fails, |builder| builder).await;
    let key = world.issue(metered()).await;
    let denial = world.send(&key, &any()).await.unwrap_err();
    assert_eq!(denial.class(), DenialClass::Undecidable);
    let need = Requirement::scope(WRITE);
    let denial = world.send(&key, &need).await.unwrap_err();
    assert_eq!(denial.class(), DenialClass::Forbidden, "known without it");
}

#[tokio::test]
async fn a_revocation_during_the_wait_is_honoured() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let gate = Arc::new(Semaphore::new(0));
        let gated = Answers::Gated(Arc::clone(&gate));
        let (world, limiter) = slow(gated, |builder| builder.cache(cache)).await;
        let key = world.issue(metered()).await;
        let id = key.id();
        let waiting = tokio::spawn({
            let keyward = world.fixture.keyward.clone();
            async move {
                let any = any();
                let attempt = Attempt::new(key.presented(), &any);
                keyward.verifier().verify(&attempt).await.map(drop)
            }
        });
        while limiter.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        world.fixture.revoke(id).await;
        gate.add_permits(1);
        let denial = waiting.await.unwrap().unwrap_err();
        assert!(
            matches!(denial.reason(), DenialReason::Revoked { .. }),
            "{denial:?}"
        );
        assert_eq!(known(&world, id), [100, 1], "what was taken has come back");
    }
}

#[tokio::test]
async fn a_revocation_while_counting_is_honoured() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let gate = Arc::new(Semaphore::new(1));
        let gated = Answers::Gated(Arc::clone(&gate));
        let (world, limiter) = slow(gated, |builder| builder.cache(cache)).await;
        let key = world.issue(metered()).await;
        let id = key.id();
        let counting = tokio::spawn({
            let keyward = world.fixture.keyward.clone();
            async move {
                let any = any();
                let later = Attempt::new(key.presented(), &any).count_later();
                let admitted = keyward.verifier().verify(&later).await.unwrap();
                let (grant, mut permit) = admitted.into_parts();
                keyward.verifier().count(&grant, &later, &mut permit).await
            }
        });
        while limiter.calls.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        world.fixture.revoke(id).await;
        gate.add_permits(1);
        let denial = counting.await.unwrap().unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::Ended), "{denial:?}");
        assert_eq!(known(&world, id), [100, 1], "the charge has come back");
    }
}

#[tokio::test]
async fn a_slow_limiter_costs_no_read_of_the_store() {
    let (world, _) = slow(Answers::After(1), |builder| builder).await;
    let key = world.issue(metered()).await;
    assert!(world.send(&key, &any()).await.is_ok());
    let reads = world.fixture.keyward.verifier().stats().store_reads;
    for _ in 0..10 {
        assert!(world.send(&key, &any()).await.is_ok());
    }
    let stats = world.fixture.keyward.verifier().stats();
    assert_eq!(stats.store_reads, reads);
}
