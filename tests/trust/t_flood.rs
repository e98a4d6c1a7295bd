//! Whoever presents keys at random evicts nobody, and what a node keeps stays within its bound: a key that lost its
//! place is read again, and neither its usage nor its requests in flight are lost with it.

use std::num::NonZeroU32;
use std::sync::Arc;

use keyward::Keyward;
use keyward::key::{ApiKey, Environment, KeyId, Metadata, RevokeReason, Secret};
use keyward::manager::NewKey;
use keyward::store::KeyStore;
use keyward::testkit::SeededRandom;
use keyward::verifier::{
    Admitted, Attempt, Denial, DenialClass, DenialReason, KeyCache, Requirement, VerifierStats,
};
use serde_json::json;

use crate::common::{Choices, House, actor, format, new_key, now, tenant};

const STRANGERS: u64 = 300_000;
const LIVE: u64 = 1_000;

/// A node that keeps this much. Its lease is longer than any test.
async fn keeping(max_bytes: u64) -> House {
    let cache = KeyCache::new().lease(KeyCache::MAX_LEASE);
    House::built(|builder| builder.cache(cache.max_bytes(max_bytes))).await
}

async fn issue(house: &House, key: NewKey) -> ApiKey {
    house.issue(key).await.into_parts().0
}

async fn issue_many(house: &House, count: u64) -> Vec<ApiKey> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(issue(house, new_key()).await);
    }
    keys
}

fn at_once(keyward: &Keyward, key: &ApiKey) -> Option<Result<Admitted, Denial>> {
    let any = Requirement::any_key();
    keyward
        .verifier()
        .try_verify(&Attempt::new(key.presented(), &any))
}

/// Over memory, verifying has to wait for nothing.
fn verdict(house: &House, key: &ApiKey) -> Result<Admitted, Denial> {
    now(house.verify(key.presented()))
}

fn stats(house: &House) -> VerifierStats {
    house.keyward.verifier().stats()
}

/// Keys that are written as they should be. Of one in so many the id is a live key's.
struct Strangers<'a> {
    choices: Choices,
    secret: Secret,
    environment: Environment,
    live: &'a [ApiKey],
    one_in: usize,
}

impl<'a> Strangers<'a> {
    fn at(live: &'a [ApiKey], one_in: usize) -> Self {
        Self {
            choices: Choices::new(5),
            secret: Secret::generate(&SeededRandom::new(1), 43).unwrap(),
            environment: Environment::new("test").unwrap(),
            live,
            one_in,
        }
    }

    fn next(&mut self, format: &keyward::key::KeyFormat) -> ApiKey {
        let id = if self.choices.chance(self.one_in) {
            self.live[self.choices.below(self.live.len())].id()
        } else {
            let (high, low) = (self.choices.next(), self.choices.next());
            KeyId::from_u128(u128::from(high) << 64 | u128::from(low))
        };
        format.compose(&self.environment, id, &self.secret).unwrap()
    }
}

#[tokio::test]
async fn strangers_evict_nobody() {
    // Just enough room for those who live.
    let house = keeping(2 << 20).await;
    let live = issue_many(&house, LIVE).await;
    for key in &live {
        assert!(verdict(&house, key).is_ok());
    }
    let before = stats(&house);
    assert_eq!(before.resident_keys, LIVE);
    let format = format();
    let mut strangers = Strangers::at(&live, 10);
    let mut unknown = 0;
    for _ in 0..STRANGERS {
        let key = strangers.next(&format);
        let denial = verdict(&house, &key).unwrap_err();
        unknown += u64::from(matches!(denial.reason(), DenialReason::UnknownKey));
        assert_eq!(denial.class(), DenialClass::Unauthenticated);
    }
    let after = stats(&house);
    assert_eq!(
        after.store_reads - before.store_reads,
        unknown,
        "a read each"
    );
    assert_eq!(after.fast_hashes, before.fast_hashes, "and no hash");
    let resident = |stats: &VerifierStats| (stats.resident_keys, stats.resident_bytes);
    assert_eq!(
        resident(&after),
        resident(&before),
        "ids of nobody's are not kept"
    );
    for key in &live {
        assert!(at_once(&house.keyward, key).is_some_and(|verdict| verdict.is_ok()));
    }
    assert_eq!(stats(&house).store_reads, after.store_reads);
}

#[tokio::test]
async fn wrong_secrets_for_keys_that_nobody_proves_stay_on_probation() {
    const MOST: u64 = 2 << 20;
    let house = keeping(MOST).await;
    let (live, others) = (
        issue_many(&house, LIVE).await,
        issue_many(&house, 2_000).await,
    );
    for key in &live {
        assert!(verdict(&house, key).is_ok());
    }
    let proven = stats(&house).resident_bytes;
    let format = format();
    let mut strangers = Strangers::at(&others, 1);
    for _ in 0..10_000 {
        let denial = verdict(&house, &strangers.next(&format)).unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::WrongSecret));
        let bytes = stats(&house).resident_bytes - proven;
        assert!(bytes <= MOST / 16, "{bytes} on probation");
    }
    assert!(stats(&house).resident_keys > LIVE, "some are kept");
    for key in &live {
        assert!(at_once(&house.keyward, key).is_some_and(|verdict| verdict.is_ok()));
    }
    // Whoever proves a secret takes a place among those who have.
    assert!(verdict(&house, &others[0]).is_ok());
    assert!(at_once(&house.keyward, &others[0]).is_some());
}

/// A key with as much in its record as it can have, by turns.
fn large(n: u64) -> NewKey {
    let notes = match n % 4 {
        0 => json!({ "notes": "x".repeat(4_000) }),
        1 => json!({ "list": vec![0; 2_000] }),
        2 => json!(
            (0..300)
                .map(|n| (format!("{n}"), json!(n)))
                .collect::<serde_json::Map<_, _>>()
        ),
        _ => json!({}),
    };
    new_key().metadata(Metadata::try_from(notes).unwrap())
}

#[tokio::test]
async fn what_is_kept_never_exceeds_the_bound() {
    for (most, keys) in [(0, 30), (16 << 10, 300), (256 << 10, 600), (4 << 20, 600)] {
        let house = keeping(most).await;
        let mut issued = Vec::new();
        for n in 0..keys {
            let key = if n % 3 == 0 { large(n / 3) } else { new_key() };
            let key = issue(&house, key).await;
            assert!(verdict(&house, &key).is_ok(), "{n} of {most}");
            issued.push(key);
            let stats = stats(&house);
            let bytes = stats.resident_bytes;
            assert!(bytes <= most, "{bytes} of {most}");
            assert_eq!(bytes == 0, stats.resident_keys == 0);
        }
        let kept = stats(&house).resident_keys;
        assert!(kept < keys, "{kept} are kept in {most}");
        assert!(most == 0 || kept > 0, "none is kept in {most}");
        for key in &issued {
            assert!(
                verdict(&house, key).is_ok(),
                "whoever lost its place is read again"
            );
            assert!(stats(&house).resident_bytes <= most);
        }
    }
}

#[tokio::test]
async fn a_key_that_lost_its_place_is_refused_once_it_is_revoked() {
    let house = keeping(16 << 10).await;
    let keys = issue_many(&house, 100).await;
    for round in 0..3_usize {
        for key in &keys {
            assert_eq!(verdict(&house, key).is_ok(), round == 0);
        }
        for key in &keys {
            let (manager, reason) = (house.keyward.manager(), RevokeReason::Leaked);
            let _ = manager.revoke(&actor(), &tenant(), key.id(), reason).await;
        }
    }
}

#[tokio::test]
async fn the_usage_of_keys_that_lost_their_place_is_not_lost() {
    let house = keeping(16 << 10).await;
    let keys = issue_many(&house, 300).await;
    let suspended = issue_many(&house, 50).await;
    for key in &suspended {
        house
            .keyward
            .manager()
            .suspend(&actor(), &tenant(), key.id())
            .await
            .unwrap();
    }
    for round in 1..=3_u64 {
        for _ in 0..2 {
            for key in &keys {
                assert!(verdict(&house, key).is_ok());
            }
            for key in &suspended {
                assert!(verdict(&house, key).is_err());
            }
        }
        assert!(stats(&house).resident_keys < 50);
        assert!(house.keyward.flush_usage().await.is_ok());
        for (keys, granted, refused) in [(&keys, 2, 0), (&suspended, 0, 2)] {
            let ids: Vec<_> = keys.iter().map(ApiKey::id).collect();
            let usage = KeyStore::usage(&house.store)
                .unwrap()
                .read(&ids)
                .await
                .unwrap();
            for used in usage {
                let used = used.expect("it was used");
                let counts = (used.granted, used.refused);
                assert_eq!(counts, (granted * round, refused * round));
            }
        }
    }
}

/// A store may merge a batch in one statement, which has to find each key once.
#[tokio::test]
async fn a_key_that_lost_its_place_and_was_used_again_is_handed_on_once() {
    let house = keeping(16 << 10).await;
    let keys = issue_many(&house, 100).await;
    for _ in 0..2 {
        for key in &keys {
            assert!(verdict(&house, key).is_ok());
        }
    }
    assert_eq!(house.keyward.flush_usage().await.unwrap(), 100);
}

#[tokio::test]
async fn requests_in_flight_are_counted_whatever_is_evicted() {
    let house = keeping(16 << 10).await;
    let bounded = new_key().concurrency(NonZeroU32::new(2).unwrap());
    let bounded = issue(&house, bounded).await;
    let others = issue_many(&house, 200).await;
    let crowd = |house: &House| others.iter().all(|key| verdict(house, key).is_ok());
    let mut held = vec![verdict(&house, &bounded).unwrap()];
    for _ in 0..3 {
        assert!(crowd(&house));
        held.push(verdict(&house, &bounded).unwrap());
        for _ in 0..2 {
            assert!(crowd(&house));
            let denial = verdict(&house, &bounded).unwrap_err();
            assert!(matches!(denial.reason(), DenialReason::TooManyInFlight));
        }
        held.remove(0);
    }
    drop(held);
    assert!(crowd(&house));
    let both = [
        verdict(&house, &bounded).unwrap(),
        verdict(&house, &bounded).unwrap(),
    ];
    assert!(verdict(&house, &bounded).is_err());
    drop(both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_keep_the_bound_too() {
    const MOST: u64 = 64 << 10;
    let house = Arc::new(keeping(MOST).await);
    let keys = Arc::new(issue_many(&house, 400).await);
    let threads = (0..4).map(|thread| {
        let (house, keys) = (Arc::clone(&house), Arc::clone(&keys));
        tokio::spawn(async move {
            let mut choices = Choices::new(thread);
            for _ in 0..5_000 {
                let key = &keys[choices.below(keys.len())];
                assert!(house.verify(key.presented()).await.is_ok());
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.await.unwrap();
    }
    let stats = stats(&house);
    assert!(stats.resident_bytes <= MOST, "{stats:?}");
    assert!(stats.resident_keys > 10, "{stats:?}");
}
