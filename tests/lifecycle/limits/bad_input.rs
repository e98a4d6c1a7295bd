//! RateLimiting at the ends of what can be written, and documents that were edited into nonsense.

use keyward::key::QuotaSubject;
use keyward::verifier::DenialClass;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn the_least_and_the_most_are_counted() {
    let longest = 366 * 86_400;
    let world = World::new().await;
    let least = world.issue(new_key("key").quota(quota("q", 1, 1))).await;
    assert_eq!(world.use_up(&least, &any()).await, 1);
    world.elapsed.advance(SECOND);
    assert_eq!(world.use_up(&least, &any()).await, 0);
    world.elapsed.advance(SECOND);
    assert_eq!(world.use_up(&least, &any()).await, 1);

    let most = new_key("key").quota(quota("q", u32::MAX, longest));
    let most = world.issue(most).await;
    let all_but_two = any().cost(number(u32::MAX - 2));
    assert!(world.send(&most, &all_but_two).await.is_ok());
    assert_eq!(world.use_up(&most, &any()).await, 2);
    world.elapsed.advance(366 * DAY);
    assert_eq!(world.use_up(&most, &any()).await, 0);
    world.elapsed.advance(7 * DAY);
    assert!(
        world
            .send(&most, &any().cost(number(u32::MAX)))
            .await
            .is_ok()
    );
    assert_eq!(world.left(&most, &any()).await, [0]);
}

#[tokio::test]
async fn eight_quotas_are_counted_at_once() {
    let world = World::new().await;
    let subjects = [
        QuotaSubject::Key,
        QuotaSubject::Lineage,
        QuotaSubject::Owner,
        QuotaSubject::Tenant,
    ];
    let mut key = new_key("key");
    for n in 0..8 {
        let quota = quota(&format!("q{n}"), 3 + n, 60 * u64::from(8 - n));
        key = key.quota(quota.per(subjects[n as usize % 4]));
    }
    let key = world.issue(key).await;
    assert_eq!(world.use_up(&key, &any()).await, 3);
    assert_eq!(
        world.left(&key, &any()).await,
        [0, 1, 2, 3, 4, 5, 6, 7],
        "each has counted the three"
    );
}

#[tokio::test]
async fn a_cost_above_the_limit_is_refused_for_good() {
    let world = World::new().await;
    let key = new_key("key")
        .quota(quota("wide", 100, 60))
        .quota(quota("tight", 10, 60));
    let key = world.issue(key).await;
    for _ in 0..3 {
        let denial = world.send(&key, &any().cost(number(11))).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Forbidden);
        let DenialReason::CostAboveLimit { quota } = denial.reason() else {
            panic!("{denial:?}");
        };
        assert_eq!(&**quota, "tight");
    }
    assert_eq!(world.left(&key, &any()).await, [100, 10]);
    assert!(world.send(&key, &any().cost(number(10))).await.is_ok());
}

#[tokio::test]
async fn nonsense_in_the_store_is_undecidable() {
    let world = World::new().await;
    let good = json!({"name": "q", "limit": 5, "window_seconds": 60, "subject": "key"});
    let with = |field: &str, value: Value| {
        let mut quota = good.clone();
        quota[field] = value;
        json!([quota])
    };
    let numbered = |n: usize| with("name", json!(format!("q{n}")))[0].clone();
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("subject");
    let cases = [
        with("limit", json!(0)),
        with("limit", json!(-1)),
        with("limit", json!(4_294_967_296_u64)),
        with("window_seconds", json!(0)),
        with("window_seconds", json!(1.5)),
        with("window_seconds", json!(367 * 86_400)),
        with("name", json!("concurrency")),
        with("name", json!("")),
        with("subject", json!("world")),
        with("and", json!("more")),
        json!([missing]),
        json!([good, good]),
        json!((0..9).map(numbered).collect::<Vec<_>>()),
        json!({}),
        Value::Null,
    ];
    let key = world.issue(new_key("key").quota(quota("q", 5, 60))).await;
    assert!(world.send(&key, &any()).await.is_ok());
    let verifier = world.fixture.keyward.verifier();
    for nonsense in cases {
        let text = nonsense.to_string();
        world
            .fixture
            .tamper(key.id(), "restrictions/quotas", nonsense)
            .await;
        verifier.forget_all();
        let verdict = world.send(&key, &any()).await;
        assert!(is_undecidable(&verdict), "{text}: {verdict:?}");
        let any = any();
        let told = verifier.explain(&Attempt::new(key.presented(), &any)).await;
        let denial = told.denial().unwrap();
        assert!(
            matches!(denial.reason(), DenialReason::Unreadable(_)),
            "{told}"
        );
        assert!(told.to_string().contains("FAIL  key"), "{told}");
    }
    for nonsense in [json!(0), json!(-1), json!("5")] {
        let good = json!([good]);
        world
            .fixture
            .tamper(key.id(), "restrictions/quotas", good)
            .await;
        world
            .fixture
            .tamper(key.id(), "restrictions/concurrency", nonsense)
            .await;
        verifier.forget_all();
        assert!(is_undecidable(&world.send(&key, &any()).await));
    }
    let eight = json!((0..8).map(numbered).collect::<Vec<_>>());
    world
        .fixture
        .tamper(key.id(), "restrictions/quotas", eight)
        .await;
    world
        .fixture
        .tamper(key.id(), "restrictions/concurrency", json!(1))
        .await;
    verifier.forget_all();
    assert!(
        world.send(&key, &any()).await.is_ok(),
        "eight are none too many"
    );
}
