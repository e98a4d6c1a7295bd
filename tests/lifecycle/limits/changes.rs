//! What is counted outlives changes of the key, and takes part in the new limits at once.

use keyward::key::{Principal, QuotaSubject};
use keyward::limiter::RateLimiting;
use keyward::manager::{KeyUpdate, Overlap};
use keyward::verifier::KeyCache;

use super::*;

impl World {
    pub(super) async fn set_quotas(&self, key: &ApiKey, quotas: impl IntoIterator<Item = Quota>) {
        let update = KeyUpdate::new().quotas(quotas);
        let manager = self.fixture.manager();
        manager
            .update(&system(), &tenant(), key.id(), update)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_changed_quota_applies_at_once() {
    let world = World::new().await;
    let key = world.issue(new_key("key").quota(quota("q", 3, 60))).await;
    assert_eq!(world.use_up(&key, &any()).await, 3);
    world.set_quotas(&key, [quota("q", 10, 60)]).await;
    assert_eq!(world.use_up(&key, &any()).await, 7, "raised");
    world.set_quotas(&key, [quota("q", 4, 60)]).await;
    assert_eq!(world.use_up(&key, &any()).await, 0, "lowered");
    assert_eq!(world.left(&key, &any()).await, [0]);
    world.elapsed.advance(61 * SECOND);
    assert_eq!(world.use_up(&key, &any()).await, 4);
    // Without the quota requests are not counted, but what was counted stays.
    world.set_quotas(&key, []).await;
    assert!(world.send(&key, &any()).await.is_ok());
    world.set_quotas(&key, [quota("q", 5, 60)]).await;
    assert_eq!(world.use_up(&key, &any()).await, 1);
}

#[tokio::test]
async fn a_changed_window_forgets_nothing() {
    let world = World::new().await;
    let key = world.issue(new_key("key").quota(quota("q", 5, 60))).await;
    assert_eq!(world.use_up(&key, &any()).await, 5);
    world.set_quotas(&key, [quota("q", 20, 3_600)]).await;
    assert_eq!(world.use_up(&key, &any()).await, 15);
    world.elapsed.advance(61 * SECOND);
    assert_eq!(world.use_up(&key, &any()).await, 0);
    world.elapsed.advance(HOUR);
    assert_eq!(world.use_up(&key, &any()).await, 20);
    world.set_quotas(&key, [quota("q", 5, 60)]).await;
    assert_eq!(world.use_up(&key, &any()).await, 0);
    world.elapsed.advance(60 * SECOND);
    assert_eq!(world.use_up(&key, &any()).await, 0);
    world.elapsed.advance(2 * SECOND);
    assert_eq!(world.use_up(&key, &any()).await, 5, "the short window");
}

#[tokio::test]
async fn a_rotation_resets_only_the_keys_own() {
    let world = World::new().await;
    let first = new_key("key")
        .quota(quota("own", 5, 60))
        .quota(quota("line", 8, 60).per(QuotaSubject::Lineage));
    let first = world.issue(first).await;
    assert_eq!(world.use_up(&first, &any()).await, 5);
    let second = world.fixture.rotate(first.id(), Overlap::For(HOUR)).await;
    let second = second.unwrap().into_parts().0;
    assert_eq!(world.left(&second, &any()).await, [5, 3]);
    assert_eq!(world.use_up(&second, &any()).await, 3);
    assert_eq!(world.left(&first, &any()).await, [0, 0]);
    let third = world.fixture.rotate(second.id(), Overlap::None).await;
    let third = third.unwrap().into_parts().0;
    assert_eq!(world.left(&third, &any()).await, [5, 0]);
}

#[tokio::test]
async fn owners_and_tenants_are_counted_apart() {
    let world = World::new().await;
    let issue = |owner: &str, of: &str| {
        let key = NewKey::new(named(of), "key", READ)
            .owner(Principal::user(owner).unwrap())
            .quota(quota("owner", 3, 60).per(QuotaSubject::Owner))
            .quota(quota("tenant", 4, 60).per(QuotaSubject::Tenant));
        world.issue(key)
    };
    let [ann, again, bob, other] = [
        issue("ann", "acme-inc").await,
        issue("ann", "acme-inc").await,
        issue("bob", "acme-inc").await,
        issue("ann", "beta-inc").await,
    ];
    assert_eq!(world.use_up(&ann, &any()).await, 3);
    assert_eq!(world.left(&again, &any()).await, [0, 1]);
    assert_eq!(world.use_up(&bob, &any()).await, 1);
    assert_eq!(world.left(&bob, &any()).await, [2, 0]);
    assert_eq!(world.left(&other, &any()).await, [3, 4]);
}

#[tokio::test]
async fn counters_outlive_the_cache() {
    let tiny = KeyCache::new().max_bytes(3_000);
    for cache in [KeyCache::new(), tiny, KeyCache::off()] {
        let world = World::with(|limits| limits, |builder| builder.cache(cache)).await;
        let key = world.issue(new_key("key").quota(quota("q", 5, 60))).await;
        let need = any().quota(quota("route", 50, 60));
        for round in 0..5 {
            assert!(world.send(&key, &need).await.is_ok());
            for _ in 0..10 {
                let other = world.issue(new_key("other")).await;
                assert!(world.send(&other, &any()).await.is_ok());
            }
            if round % 2 == 0 {
                world.fixture.keyward.verifier().forget_all();
            }
            // The lease ends, and the key is read again.
            world.elapsed.advance(6 * SECOND);
        }
        assert_eq!(world.left(&key, &need).await, [0, 45]);
        assert_eq!(world.use_up(&key, &need).await, 0);
    }
}

#[tokio::test]
async fn clones_of_a_limiter_count_together() {
    let world = World::new().await;
    let limits = RateLimiting::new().limiter(world.limiter.clone());
    let beside = world.fixture.beside(|builder| {
        let builder = builder.monotonic_clock(world.elapsed.clone());
        builder.rate_limiting(limits)
    });
    let other = World {
        fixture: beside.await,
        elapsed: world.elapsed.clone(),
        limiter: world.limiter.clone(),
    };
    let key = new_key("key")
        .quota(quota("q", 6, 60))
        .concurrency(number(1));
    let key = world.issue(key).await;
    for left in [5, 3, 1] {
        assert!(world.send(&key, &any()).await.is_ok());
        assert_eq!(other.left(&key, &any()).await, [left, 1]);
        assert!(other.send(&key, &any()).await.is_ok());
    }
    assert_eq!(world.use_up(&key, &any()).await, 0);
    world.elapsed.advance(61 * SECOND);
    let any = any();
    let attempt = Attempt::new(key.presented(), &any);
    let held = world
        .fixture
        .keyward
        .verifier()
        .verify(&attempt)
        .await
        .unwrap();
    let busy = other.send(&key, &any).await.unwrap_err();
    assert!(matches!(busy.reason(), DenialReason::TooManyInFlight));
    drop(held);
    assert!(other.send(&key, &any).await.is_ok());
}
