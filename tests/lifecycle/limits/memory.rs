//! The memory of counters: it is bounded, and comes back without a task that cleans up.

use keyward::key::{Environment, KeyId, PresentedKey, Secret};
use keyward::limiter::LimiterError;
use keyward::verifier::KeyCache;

use super::*;

#[tokio::test]
async fn other_keys_requests_free_drained_counters() {
    let off = |builder: Builder| builder.cache(KeyCache::off());
    let world = World::with(|limits| limits, off).await;
    let clock = world.issue(new_key("clock").quota(quota("q", 9, 1))).await;
    for _ in 0..3 {
        world.elapsed.advance(SECOND);
        assert!(world.send(&clock, &any()).await.is_ok());
    }
    let alone = (world.limiter.subjects(), world.limiter.bytes());
    let need = any().quota(quota("route", 70_000, 10));
    for _ in 0..300 {
        let key = new_key("key")
            .quota(quota("minute", 5, 60))
            .quota(quota("hour", 300, 3_600));
        let key = world.issue(key).await;
        assert!(world.send(&key, &need).await.is_ok());
        assert!(
            world
                .send(&key, &need.clone().cost(number(5)))
                .await
                .is_err()
        );
    }
    assert_eq!(world.limiter.subjects(), alone.0 + 300);
    let full = world.limiter.bytes();
    // Past the longest window, and one part of it.
    world.elapsed.advance(HOUR + HOUR / 60);
    for _ in 0..100 {
        world.elapsed.advance(SECOND);
        assert!(world.send(&clock, &any()).await.is_ok());
    }
    let left = (world.limiter.subjects(), world.limiter.bytes());
    assert_eq!(left, alone, "{full} bytes before");
}

#[tokio::test]
async fn refused_credentials_make_no_counters() {
    let world = World::new().await;
    let key = world.issue(new_key("key").quota(quota("q", 5, 60))).await;
    let need = any().quota(quota("route", 5, 60));
    let environment = Environment::new("test").unwrap();
    let secret = Secret::new("w".repeat(43)).unwrap();
    let format = world.fixture.keyward.format();
    for n in 0..500 {
        let unknown = KeyId::from_u128(n);
        for id in [unknown, key.id()] {
            let guess = format.compose(&environment, id, &secret).unwrap();
            assert!(world.send(&guess, &need).await.is_err());
        }
        let junk = Attempt::new(PresentedKey::text("junk"), &need);
        assert!(
            world
                .fixture
                .keyward
                .verifier()
                .verify(&junk)
                .await
                .is_err()
        );
    }
    assert_eq!((world.limiter.subjects(), world.limiter.bytes()), (0, 0));
    assert_eq!(world.left(&key, &need).await, [5, 5]);
}

#[tokio::test]
async fn a_full_limiter_refuses_only_the_new() {
    let limiter = LocalLimiter::with_max_bytes(20_000);
    let small = limiter.clone();
    let world = World::with(|limits| limits.limiter(small), |builder| builder).await;
    let mut known = Vec::new();
    let refused = loop {
        let key = world.issue(new_key("key").quota(quota("q", 3, 60))).await;
        match world.send(&key, &any()).await {
            Ok(()) => known.push(key),
            Err(denial) => break (key, denial),
        }
    };
    let (key, denial) = refused;
    assert!(
        matches!(denial.reason(), DenialReason::Limiter(LimiterError::Full)),
        "{denial:?}"
    );
    let bytes = limiter.bytes();
    // The meters of cached keys are beside the bound.
    let meters = 400 * (known.len() as u64 + 1);
    assert!(known.len() > 10 && bytes <= 20_000 + meters, "{bytes}");
    assert!(is_undecidable(&world.send(&key, &any()).await));
    let stats = world.fixture.keyward.verifier().stats();
    assert_eq!(stats.limits_unknown, 2);
    for key in &known {
        assert_eq!(world.use_up(key, &any()).await, 2);
    }
    // Nobody is forgotten for a new key while a window counts, even if its record is.
    world.fixture.keyward.verifier().forget_all();
    world.elapsed.advance(59 * SECOND);
    assert!(is_undecidable(&world.send(&key, &any()).await));
    for key in &known {
        assert_eq!(world.use_up(key, &any()).await, 0);
    }
    world.fixture.keyward.verifier().forget_all();
    world.elapsed.advance(HOUR);
    // Those that are still cached hold their counters until the cache has read them again.
    for key in &known {
        world.fixture.revoke(key.id()).await;
        assert!(world.send(key, &any()).await.is_err());
    }
    for _ in 0..100 {
        world.elapsed.advance(SECOND);
        let _ = world.send(&key, &any()).await;
    }
    world.elapsed.advance(HOUR);
    assert_eq!(world.use_up(&key, &any()).await, 3);
}
