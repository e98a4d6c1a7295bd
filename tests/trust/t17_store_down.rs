//! Promise 17: with the store down nothing is granted beyond the lease, and what cannot be decided is a 503: never a
//! 401, never a grant. When the store is back, so is everything else.
//!
//! Planted bug that it catches: a store that says that a key does not exist when it cannot tell.

mod watched;

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::key::{ApiKey, PresentedKey, RevokeReason};
use keyward::store::{KeyStore, MemoryStore};
use keyward::testkit::{Call, Fault, FaultyStore, ManualMonotonicClock};
use keyward::verifier::{
    Admitted, Attempt, Denial, DenialClass, DenialReason, KeyCache, Requirement,
};

use self::watched::Watched;
use crate::common::{Choices, actor, builder, clock, new_key, tenant};

const BOUND: Duration = Duration::from_secs(5);
const INSTANT: Duration = Duration::from_nanos(1);
/// No answer takes this long, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);
const EVER: std::ops::Range<u64> = 0..u64::MAX;

struct Node {
    keyward: Keyward,
    monotonic: ManualMonotonicClock,
}

impl Node {
    async fn over(store: impl KeyStore, cache: KeyCache) -> Self {
        let monotonic = ManualMonotonicClock::new();
        let builder = builder(store, clock());
        let keyward = builder
            .cache(cache)
            .monotonic_clock(monotonic.clone())
            .open();
        Self {
            keyward: keyward.await.unwrap(),
            monotonic,
        }
    }

    async fn issue(&self) -> Arc<ApiKey> {
        issue(&self.keyward).await
    }

    async fn verify(&self, key: &ApiKey) -> Result<Admitted, Denial> {
        verify(&self.keyward, key.presented()).await
    }

    async fn is_granted(&self, key: &ApiKey) -> bool {
        self.verify(key).await.is_ok()
    }
}

async fn issue(keyward: &Keyward) -> Arc<ApiKey> {
    let issued = keyward.manager().issue(&actor(), new_key()).await;
    Arc::new(issued.unwrap().into_parts().0)
}

async fn verify(keyward: &Keyward, presented: PresentedKey<'_>) -> Result<Admitted, Denial> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(presented, &any);
    keyward.verifier().verify(&attempt).await
}

fn lease(lease: Duration) -> KeyCache {
    KeyCache::new().lease(lease)
}

fn is_undecidable(verdict: &Result<Admitted, Denial>) -> bool {
    let denial = verdict.as_ref().err();
    denial.is_some_and(|denial| denial.class() == DenialClass::Undecidable)
}

/// What all requests were answered, which come at once: each of these keys so many times.
async fn at_once(
    node: &Keyward,
    keys: &[Arc<ApiKey>],
    times: usize,
) -> Vec<Result<Admitted, Denial>> {
    let asking = keys.iter().cycle().take(times * keys.len()).map(|key| {
        let (node, key) = (node.clone(), Arc::clone(key));
        tokio::spawn(async move { verify(&node, key.presented()).await })
    });
    let mut verdicts = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        verdicts.push(asked.await.unwrap());
    }
    verdicts
}

/// Whether it has no answer after a step.
async fn has_to_wait(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, future).await;
    answer.expect("an answer in time")
}

#[tokio::test]
async fn a_warm_key_lasts_one_bound() {
    for fault in [
        Fault::Unavailable,
        Fault::Corrupt,
        Fault::Unsupported,
        Fault::Conflict,
        Fault::Indeterminate,
    ] {
        let store = FaultyStore::over(MemoryStore::new());
        let node = Node::over(store.clone(), lease(BOUND)).await;
        let (warm, cold, revoked) = (node.issue().await, node.issue().await, node.issue().await);
        assert!(node.is_granted(&warm).await);
        let (manager, reason) = (node.keyward.manager(), RevokeReason::Leaked);
        let end = manager
            .revoke(&actor(), &tenant(), revoked.id(), reason)
            .await;
        end.unwrap();
        let _ = store.clone().on_any(EVER, fault);

        node.monotonic.advance(BOUND - INSTANT);
        assert!(node.is_granted(&warm).await, "{fault:?}");
        for key in [&cold, &revoked] {
            let verdict = node.verify(key).await;
            assert!(is_undecidable(&verdict), "{fault:?}: {verdict:?}");
        }
        node.monotonic.advance(INSTANT);
        for key in [&warm, &cold, &revoked, &warm] {
            let verdict = node.verify(key).await;
            assert!(is_undecidable(&verdict), "{fault:?}: {verdict:?}");
            let reason = verdict.unwrap_err();
            assert!(
                matches!(reason.reason(), DenialReason::Store(_)),
                "{fault:?}"
            );
        }
        store.heal();
        assert!(node.is_granted(&warm).await && node.is_granted(&cold).await);
        let denial = node.verify(&revoked).await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::Revoked { .. }));
    }
}

#[tokio::test]
async fn a_false_missing_is_caught() {
    let store = FaultyStore::over(MemoryStore::new());
    let node = Node::over(store.clone(), lease(BOUND)).await;
    let key = node.issue().await;
    let _ = store.clone().on(Call::Get, EVER, Fault::Missing);
    let denial = node.verify(&key).await.unwrap_err();
    assert_eq!(denial.class(), DenialClass::Unauthenticated);
}

#[tokio::test]
async fn a_failed_read_fails_all_waiters() {
    let failing = FaultyStore::over(MemoryStore::new());
    let slow = FaultyStore::over(failing.clone()).on(Call::Get, EVER, Fault::Yield(5));
    let node = Node::over(slow.clone(), lease(BOUND)).await;
    let keys = [node.issue().await];
    for (reads, is_warm) in [(1, false), (3, true)] {
        if is_warm {
            assert!(node.is_granted(&keys[0]).await);
            node.monotonic.advance(BOUND);
        }
        let _ = failing.clone().on(Call::Get, EVER, Fault::Unavailable);
        let verdicts = at_once(&node.keyward, &keys, 50).await;
        assert!(verdicts.iter().all(is_undecidable), "{verdicts:?}");
        assert_eq!(slow.calls(Call::Get), reads, "one read for all");
        failing.heal();
    }
    assert!(node.is_granted(&keys[0]).await);
}

/// In the world's time: what does not answer is given up after the lease, which is short here. How old an answer is, is
/// measured by a clock that is set, so that no machine is too slow for what does answer.
#[tokio::test]
async fn a_hanging_store_is_given_up() {
    const SHORT: Duration = Duration::from_millis(200);
    let (store, monotonic) = (
        FaultyStore::over(MemoryStore::new()),
        ManualMonotonicClock::new(),
    );
    let keyward = builder(store.clone(), clock())
        .cache(lease(SHORT))
        .monotonic_clock(monotonic.clone())
        .open()
        .await
        .unwrap();
    let (warm, cold) = (issue(&keyward).await, issue(&keyward).await);
    assert!(verify(&keyward, warm.presented()).await.is_ok());
    let _ = store.clone().on(Call::Get, EVER, Fault::Hang);
    let begun = Instant::now();
    let verdicts = in_time(at_once(&keyward, std::slice::from_ref(&cold), 20)).await;
    assert!(begun.elapsed() >= SHORT);
    monotonic.advance(SHORT);
    let verdict = in_time(verify(&keyward, warm.presented())).await;
    for verdict in verdicts.into_iter().chain([verdict]) {
        assert!(is_undecidable(&verdict), "{verdict:?}");
        let denial = verdict.unwrap_err();
        assert!(
            matches!(denial.reason(), DenialReason::StaleCache),
            "{denial:?}"
        );
    }
    store.heal();
    for key in [&warm, &cold] {
        assert!(in_time(verify(&keyward, key.presented())).await.is_ok());
    }
}

/// A manager's call does not hang on the verifier's account, nor the other way round.
#[tokio::test]
async fn an_abandoned_read_serves_the_others() {
    let store = Watched::over(MemoryStore::new());
    let node = Node::over(store.clone(), lease(BOUND)).await;
    let key = node.issue().await;
    store.hold(true);
    let (first, asked) = (node.keyward.clone(), Arc::clone(&key));
    let first = tokio::spawn(async move { verify(&first, asked.presented()).await.is_ok() });
    store.is_asked(1).await;
    let (second, asked) = (node.keyward.clone(), Arc::clone(&key));
    let second = tokio::spawn(async move { verify(&second, asked.presented()).await.is_ok() });
    tokio::task::yield_now().await;
    first.abort();
    store.hold(false);
    assert!(in_time(second).await.unwrap());
    assert!(store.asked() <= 2);
    assert_eq!(store.in_flight(), 0);
}

#[tokio::test]
async fn reads_in_flight_are_limited() {
    let store = Watched::over(MemoryStore::new());
    let reads = NonZeroUsize::new(8).unwrap();
    let cache = lease(BOUND).max_concurrent_reads(reads);
    let node = Node::over(store.clone(), cache).await;
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(node.issue().await);
    }
    // Half of them for keys that the node does not know, and all for those that it does.
    for most in [4, 8, 8] {
        let verdicts = in_time(at_once(&node.keyward, &keys, 3)).await;
        assert!(verdicts.iter().all(Result::is_ok));
        assert_eq!(store.most_in_flight(), most);
        node.monotonic.advance(BOUND);
    }
    assert_eq!(store.asked(), 300, "each once a bound");
    assert_eq!(store.in_flight(), 0);
}

#[tokio::test]
async fn hanging_unknown_ids_block_no_key() {
    let store = Watched::over(MemoryStore::new());
    // The store is waited for as long as the lease, which is longer than the test may take.
    let bound = KeyCache::MAX_LEASE;
    let cache = lease(bound).max_concurrent_reads(NonZeroUsize::new(4).unwrap());
    let node = Node::over(store.clone(), cache).await;
    let keys = [node.issue().await, node.issue().await, node.issue().await];
    let verdicts = at_once(&node.keyward, &keys, 1).await;
    assert!(verdicts.iter().all(Result::is_ok));
    store.hang_on_unknown();

    let mut choices = Choices::new(17);
    let strangers = (0..100).map(|_| {
        let id = u128::from(choices.next()) << 64 | u128::from(choices.next());
        let id = keyward::key::KeyId::from_u128(id).to_string();
        let (keyward, key) = (node.keyward.clone(), Arc::clone(&keys[0]));
        tokio::spawn(async move {
            let pair = PresentedKey::pair(&id, key.expose_secret());
            verify(&keyward, pair).await.is_ok()
        })
    });
    let strangers: Vec<_> = strangers.collect();
    store.is_asked(3 + 2).await;
    for round in 1..=5 {
        node.monotonic.advance(bound);
        let verdicts = in_time(at_once(&node.keyward, &keys, 10)).await;
        assert!(verdicts.iter().all(Result::is_ok), "{round}");
        assert_eq!(store.asked(), 3 + 2 + 3 * round, "the strangers hang");
    }
    for stranger in strangers {
        stranger.abort();
        assert!(
            stranger.await.is_err(),
            "granted, or refused, without an answer"
        );
    }
    assert_eq!(store.in_flight(), 0);
    let cold = node.issue().await;
    assert!(in_time(node.is_granted(&cold)).await, "the places are free");
}

/// Whoever knows an id and no secret waits among the strangers, and keeps its holder from nothing.
#[tokio::test]
async fn guessers_do_not_delay_the_holder() {
    for goes_away in [false, true] {
        let store = Watched::over(MemoryStore::new());
        let bound = KeyCache::MAX_LEASE;
        let cache = lease(bound).max_concurrent_reads(NonZeroUsize::new(4).unwrap());
        let node = Node::over(store.clone(), cache).await;
        let (key, other) = (node.issue().await, node.issue().await);
        assert!(node.is_granted(&key).await);
        store.hang_on_unknown();
        let strangers = (1..=2).map(|id| {
            let id = keyward::key::KeyId::from_u128(id).to_string();
            let (keyward, other) = (node.keyward.clone(), Arc::clone(&other));
            tokio::spawn(async move {
                let pair = PresentedKey::pair(&id, other.expose_secret());
                verify(&keyward, pair).await.is_ok()
            })
        });
        let strangers: Vec<_> = strangers.collect();
        in_time(store.is_asked(1 + 2)).await;

        // The first makes the read, which waits for a place; the second waits for the first.
        node.monotonic.advance(bound);
        let id = key.id().to_string();
        let guess = || {
            let pair = PresentedKey::pair(&id, other.expose_secret());
            Box::pin(verify(&node.keyward, pair))
        };
        let (mut first, mut second) = (guess(), guess());
        for guess in [&mut first, &mut second] {
            assert!(has_to_wait(guess).await);
        }
        assert_eq!(store.asked(), 1 + 2);
        let verdicts = in_time(at_once(&node.keyward, std::slice::from_ref(&key), 10)).await;
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
        assert_eq!(store.asked(), 1 + 2 + 1, "one read for all who hold it");
        assert!(has_to_wait(&mut second).await, "of whom no stranger is one");

        // The strangers' own read is neither lost nor does it undo the newer one.
        let mut guesses = Vec::new();
        if goes_away {
            drop(first);
        } else {
            guesses.push(first); // before the one who waits for its read
        }
        guesses.push(second);
        for stranger in strangers {
            stranger.abort();
            assert!(stranger.await.is_err());
        }
        for guess in guesses {
            let denial = in_time(guess).await.unwrap_err();
            assert!(matches!(denial.reason(), DenialReason::WrongSecret));
        }
        let asked = store.asked();
        assert!(node.is_granted(&key).await);
        assert_eq!(store.asked(), asked, "it is warm");
        assert_eq!(store.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_follower_stops_at_the_bound() {
    let store = FaultyStore::over(MemoryStore::new());
    let node = Node::over(store.clone(), lease(BOUND)).await;
    let key = node.issue().await;
    let background = tokio::spawn(node.keyward.background());
    let stats = || node.keyward.verifier().stats();
    in_time(async {
        while !stats().feed_is_current {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(node.is_granted(&key).await);
    let _ = store.clone().on_any(EVER, Fault::Unavailable);
    node.monotonic.advance(BOUND - INSTANT);
    assert!(node.is_granted(&key).await);
    node.monotonic.advance(INSTANT);
    in_time(async {
        // The question that was out when the store went away may still have been answered.
        while stats().feed_poll_failures == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    node.monotonic.advance(BOUND);
    assert!(is_undecidable(&node.verify(&key).await));
    assert!(!stats().feed_is_current);
    store.heal();
    assert!(node.is_granted(&key).await);
    background.abort();
}
