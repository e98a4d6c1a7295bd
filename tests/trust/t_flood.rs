//! Whoever presents keys at random evicts nobody, and what a node keeps stays within its bound: a key that lost its
//! place is read again, and neither its usage nor its requests in flight are lost with it.

use std::num::NonZeroU32;
use std::sync::Arc;

use keyward::Keyward;
use keyward::key::{ApiKey, Environment, KeyId, Metadata, RevokeReason, Secret};
use keyward::manager::NewKey;
use keyward::store::KeyStore;
use keyward::verifier::{
    Admitted, Attempt, Denial, DenialClass, DenialReason, KeyCache, Requirement, VerifierStats,
};
use serde_json::json;

use crate::common::{Choices, Fixture, actor, format, new_key, now, tenant};

const STRANGERS: u64 = 300_000;
const LIVE: u64 = 1_000;

/// A node that keeps this much. Its lease is longer than any test.
async fn keeping(max_bytes: u64) -> Fixture {
    let cache = KeyCache::new().lease(KeyCache::MAX_LEASE);
    Fixture::built(|builder| builder.cache(cache.max_bytes(max_bytes))).await
}

async fn issue(fixture: &Fixture, key: NewKey) -> ApiKey {
    fixture.issue(key).await.into_parts().0
}

async fn issue_many(fixture: &Fixture, count: u64) -> Vec<ApiKey> {
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(issue(fixture, new_key()).await);
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
fn verdict(fixture: &Fixture, key: &ApiKey) -> Result<Admitted, Denial> {
    now(fixture.verify(key.presented()))
}

fn stats(fixture: &Fixture) -> VerifierStats {
    fixture.keyward.verifier().stats()
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
            secret: Secret::new("w".repeat(43)).unwrap(),
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
async fn unknown_keys_evict_no_key() {
    // Just enough room for those who live.
    let fixture = keeping(2 << 20).await;
    let live = issue_many(&fixture, LIVE).await;
    for key in &live {
        assert!(verdict(&fixture, key).is_ok());
    }
    let before = stats(&fixture);
    assert_eq!(before.resident_keys, LIVE);
    let format = format();
    let mut strangers = Strangers::at(&live, 10);
    let mut unknown = 0;
    for _ in 0..STRANGERS {
        let key = strangers.next(&format);
        let denial = verdict(&fixture, &key).unwrap_err();
        unknown += u64::from(matches!(denial.reason(), DenialReason::UnknownKey));
        assert_eq!(denial.class(), DenialClass::Unauthenticated);
    }
    let after = stats(&fixture);
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
        assert!(at_once(&fixture.keyward, key).is_some_and(|verdict| verdict.is_ok()));
    }
    assert_eq!(stats(&fixture).store_reads, after.store_reads);
}

#[tokio::test]
async fn unproven_keys_stay_on_probation() {
    const MOST: u64 = 2 << 20;
    let fixture = keeping(MOST).await;
    let (live, others) = (
        issue_many(&fixture, LIVE).await,
        issue_many(&fixture, 2_000).await,
    );
    for key in &live {
        assert!(verdict(&fixture, key).is_ok());
    }
    let proven = stats(&fixture).resident_bytes;
    let format = format();
    let mut strangers = Strangers::at(&others, 1);
    for _ in 0..10_000 {
        let denial = verdict(&fixture, &strangers.next(&format)).unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::WrongSecret));
        let bytes = stats(&fixture).resident_bytes - proven;
        assert!(bytes <= MOST / 16, "{bytes} on probation");
    }
    assert!(stats(&fixture).resident_keys > LIVE, "some are kept");
    for key in &live {
        assert!(at_once(&fixture.keyward, key).is_some_and(|verdict| verdict.is_ok()));
    }
    // Whoever proves a secret takes a place among those who have.
    assert!(verdict(&fixture, &others[0]).is_ok());
    assert!(at_once(&fixture.keyward, &others[0]).is_some());
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
async fn the_cache_stays_within_its_bound() {
    for (most, keys) in [(0, 30), (16 << 10, 300), (256 << 10, 600), (4 << 20, 600)] {
        let fixture = keeping(most).await;
        let mut issued = Vec::new();
        for n in 0..keys {
            let key = if n % 3 == 0 { large(n / 3) } else { new_key() };
            let key = issue(&fixture, key).await;
            assert!(verdict(&fixture, &key).is_ok(), "{n} of {most}");
            issued.push(key);
            let stats = stats(&fixture);
            let bytes = stats.resident_bytes;
            assert!(bytes <= most, "{bytes} of {most}");
            assert_eq!(bytes == 0, stats.resident_keys == 0);
        }
        let kept = stats(&fixture).resident_keys;
        assert!(kept < keys, "{kept} are kept in {most}");
        assert!(most == 0 || kept > 0, "none is kept in {most}");
        for key in &issued {
            assert!(
                verdict(&fixture, key).is_ok(),
                "whoever lost its place is read again"
            );
            assert!(stats(&fixture).resident_bytes <= most);
        }
    }
}

#[tokio::test]
async fn an_evicted_key_can_be_revoked() {
    let fixture = keeping(16 << 10).await;
    let keys = issue_many(&fixture, 100).await;
    for round in 0..3_usize {
        for key in &keys {
            assert_eq!(verdict(&fixture, key).is_ok(), round == 0);
        }
        for key in &keys {
            let (manager, reason) = (fixture.keyward.manager(), RevokeReason::Leaked);
            let _ = manager.revoke(&actor(), &tenant(), key.id(), reason).await;
        }
    }
}

#[tokio::test]
async fn an_evicted_keys_usage_is_kept() {
    let fixture = keeping(16 << 10).await;
    let keys = issue_many(&fixture, 300).await;
    let suspended = issue_many(&fixture, 50).await;
    for key in &suspended {
        fixture
            .keyward
            .manager()
            .suspend(&actor(), &tenant(), key.id())
            .await
            .unwrap();
    }
    for round in 1..=3_u64 {
        for _ in 0..2 {
            for key in &keys {
                assert!(verdict(&fixture, key).is_ok());
            }
            for key in &suspended {
                assert!(verdict(&fixture, key).is_err());
            }
        }
        assert!(stats(&fixture).resident_keys < 50);
        assert!(fixture.keyward.flush_usage().await.is_ok());
        for (keys, granted, refused) in [(&keys, 2, 0), (&suspended, 0, 2)] {
            let ids: Vec<_> = keys.iter().map(ApiKey::id).collect();
            let usage = KeyStore::usage(&fixture.store)
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
async fn a_returning_key_is_flushed_once() {
    let fixture = keeping(16 << 10).await;
    let keys = issue_many(&fixture, 100).await;
    for _ in 0..2 {
        for key in &keys {
            assert!(verdict(&fixture, key).is_ok());
        }
    }
    assert_eq!(fixture.keyward.flush_usage().await.unwrap(), 100);
}

#[tokio::test]
async fn evictions_keep_the_permits_counted() {
    let fixture = keeping(16 << 10).await;
    let bounded = new_key().concurrency(NonZeroU32::new(2).unwrap());
    let bounded = issue(&fixture, bounded).await;
    let others = issue_many(&fixture, 200).await;
    let crowd = |fixture: &Fixture| others.iter().all(|key| verdict(fixture, key).is_ok());
    let mut held = vec![verdict(&fixture, &bounded).unwrap()];
    for _ in 0..3 {
        assert!(crowd(&fixture));
        held.push(verdict(&fixture, &bounded).unwrap());
        for _ in 0..2 {
            assert!(crowd(&fixture));
            let denial = verdict(&fixture, &bounded).unwrap_err();
            assert!(matches!(denial.reason(), DenialReason::TooManyInFlight));
        }
        held.remove(0);
    }
    drop(held);
    assert!(crowd(&fixture));
    let both = [
        verdict(&fixture, &bounded).unwrap(),
        verdict(&fixture, &bounded).unwrap(),
    ];
    assert!(verdict(&fixture, &bounded).is_err());
    drop(both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_threads_keep_the_bound_too() {
    const MOST: u64 = 64 << 10;
    let fixture = Arc::new(keeping(MOST).await);
    let keys = Arc::new(issue_many(&fixture, 400).await);
    let threads = (0..4).map(|thread| {
        let (fixture, keys) = (Arc::clone(&fixture), Arc::clone(&keys));
        tokio::spawn(async move {
            let mut choices = Choices::new(thread);
            for _ in 0..5_000 {
                let key = &keys[choices.below(keys.len())];
                assert!(fixture.verify(key.presented()).await.is_ok());
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.await.unwrap();
    }
    let stats = stats(&fixture);
    assert!(stats.resident_bytes <= MOST, "{stats:?}");
    assert!(stats.resident_keys > 10, "{stats:?}");
}
