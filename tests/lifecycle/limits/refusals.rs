//! What refused requests use, and what operators and clients see of limits.

use std::time::Duration;

use keyward::key::{Environment, Networks, RevokeReason, Secret};
use keyward::verifier::DenialClass;

use super::*;

#[tokio::test]
async fn only_admitted_requests_use_anything() {
    let world = World::new().await;
    let network = Networks::only(["203.0.113.0/24".parse().unwrap()]).unwrap();
    let key = new_key("key")
        .networks(network)
        .concurrency(number(2))
        .quota(quota("q", 5, 60));
    let key = world.issue(key).await;
    let here = "203.0.113.7".parse().unwrap();
    let need = any().quota(quota("route", 9, 60));
    let write = Requirement::scope(WRITE).quota(quota("route", 9, 60));
    let costly = need.clone().cost(number(6));
    let environment = Environment::new("test").unwrap();
    let wrong = Secret::new("w".repeat(43)).unwrap();
    let guess = world.fixture.keyward.format();
    let guess = guess.compose(&environment, key.id(), &wrong).unwrap();
    let other = named("beta-inc");
    let attempt = |need| Attempt::new(key.presented(), need);
    let verifier = world.fixture.keyward.verifier();
    let good = attempt(&need).client(here);
    let too_many = (0..5).fold(good, |attempt, _| attempt.resource("project", "p1"));
    let left = async || {
        let admitted = verifier.verify(&good.count_later()).await.unwrap();
        let states = verifier.limits_of(admitted.grant(), &need).await.unwrap();
        let left = states.iter().map(|state| state.remaining);
        left.collect::<Vec<_>>()
    };
    for (refused, class) in [
        (attempt(&need), DenialClass::Unauthenticated),
        (attempt(&write).client(here), DenialClass::Forbidden),
        (good.tenant(&other), DenialClass::Unauthenticated),
        (too_many, DenialClass::Forbidden),
        (attempt(&costly).client(here), DenialClass::Forbidden),
        (
            Attempt::new(guess.presented(), &need).client(here),
            DenialClass::Unauthenticated,
        ),
    ] {
        for _ in 0..10 {
            let denial = verifier.verify(&refused).await.map(drop).unwrap_err();
            assert_eq!(denial.class(), class, "{denial:?}");
            drop(verifier.explain(&refused).await);
        }
        assert_eq!(left().await, [5, 9, 1], "{class:?}");
    }
    for _ in 0..5 {
        assert!(verifier.verify(&good).await.is_ok());
    }
    for _ in 0..10 {
        let refused = verifier.verify(&good).await.map(drop).unwrap_err();
        assert_eq!(refused.class(), DenialClass::Throttled);
    }
    assert_eq!(left().await, [0, 4, 1], "the wide one counts five");
    let revoke = world.fixture.manager();
    revoke
        .revoke(&system(), &tenant(), key.id(), RevokeReason::Requested)
        .await
        .unwrap();
    assert!(verifier.verify(&good).await.is_err());
}

#[tokio::test]
async fn refusals_are_counted_by_cause() {
    let world = World::new().await;
    let key = new_key("key")
        .quota(quota("q", 3, 60))
        .concurrency(number(1));
    let key = world.issue(key).await;
    let verifier = world.fixture.keyward.verifier();
    let any = any();
    let attempt = Attempt::new(key.presented(), &any);
    let held = verifier.verify(&attempt).await.unwrap();
    for _ in 0..2 {
        assert!(verifier.verify(&attempt).await.is_err());
    }
    drop(held);
    assert_eq!(world.use_up(&key, &any).await, 2);
    for _ in 0..4 {
        assert!(verifier.verify(&attempt.cost(number(4))).await.is_err());
    }
    // Whether memory decides or the store is read.
    verifier.forget_all();
    assert!(verifier.verify(&attempt).await.is_err());
    let stats = verifier.stats();
    let causes = [
        stats.too_many_in_flight,
        stats.quota_exceeded,
        stats.cost_above_limit,
        stats.limits_unknown,
    ];
    assert_eq!(causes, [2, 2, 4, 0]);
}

#[tokio::test]
async fn the_nearest_to_their_limits_come_first() {
    let world = World::new().await;
    let verifier = world.fixture.keyward.verifier();
    let mut ids = Vec::new();
    for used in 0..5 {
        let key = new_key(&format!("key {used}"))
            .quota(quota("hour", 1_000, 3_600))
            .quota(quota("minute", 10, 60));
        let key = world.issue(key).await;
        for _ in 0..used {
            assert!(world.send(&key, &any()).await.is_ok());
        }
        ids.push(key.id());
    }
    let nearest = verifier.nearest_limits(3);
    let found: Vec<_> = nearest.iter().map(|near| near.key).collect();
    assert_eq!(found, [ids[4], ids[3], ids[2]]);
    let first = &nearest[0];
    assert_eq!(
        (&first.tenant, &*first.title.to_string()),
        (&tenant(), "key 4")
    );
    assert_eq!(
        (first.state.limit.name(), first.state.remaining),
        ("minute", 6)
    );
    assert_eq!(verifier.nearest_limits(9).len(), 4, "one has used nothing");
    assert!(verifier.nearest_limits(0).is_empty());
    world.elapsed.advance(62 * SECOND);
    let nearest = verifier.nearest_limits(1);
    assert_eq!(nearest[0].state.limit.name(), "hour");
}

#[tokio::test]
async fn the_present_state_takes_nothing() {
    let world = World::new().await;
    let key = new_key("key")
        .quota(quota("q", 3, 60))
        .concurrency(number(2));
    let key = world.issue(key).await;
    let need = any().quota(quota("route", 9, 60));
    let (any, verifier) = (any(), world.fixture.keyward.verifier());
    let attempt = Attempt::new(key.presented(), &any);
    let held = verifier.verify(&attempt).await.unwrap();
    for _ in 0..20 {
        let states = verifier.limits_of(held.grant(), &need).await.unwrap();
        let told = states.iter().map(|state| {
            let LimitState {
                limit, remaining, ..
            } = state;
            (limit.name(), limit.most().get(), *remaining)
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told, [("q", 3, 2), ("route", 9, 9), ("concurrency", 2, 1)]);
        assert!(states[0].reset_after > Duration::from_secs(59));
        assert_eq!(states[1].reset_after, Duration::ZERO);
    }
}
