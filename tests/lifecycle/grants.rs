//! A grant outlives its request where a response is long: whether its key is still good, and when it stops being so.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::key::ApiKey;
use keyward::manager::{KeyUpdate, Overlap};
use keyward::store::MemoryStore;
use keyward::testkit::{self, Call, Fault, FaultyStore, ManualMonotonicClock, TestKey};
use keyward::verifier::{Attempt, Grant, KeyCache, Requirement};

use crate::common::*;

/// Longer than anything takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

async fn grant(keyward: &Keyward, key: &ApiKey) -> Grant {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    let admitted = keyward.verifier().verify(&attempt).await.unwrap();
    admitted.into_parts().0
}

async fn ends_within(time: Duration, ended: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(time, ended).await.is_ok()
}

/// Whether it has ended, so that it says so at once. Between the looks that a grant takes by itself lie seconds: one
/// that ends in the poll after a change was woken by it.
fn has_ended(ended: Pin<&mut impl Future<Output = ()>>) -> bool {
    ended.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

/// A lease so long that only what is told can end a grant.
fn long() -> KeyCache {
    KeyCache::new().lease(KeyCache::MAX_LEASE)
}

fn short() -> KeyCache {
    KeyCache::new().lease(SHORT)
}

/// What ends a key.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Revoke,
    Suspend,
    RotateAway,
    CutOff,
}

const ENDINGS: [Ending; 4] = [
    Ending::Revoke,
    Ending::Suspend,
    Ending::RotateAway,
    Ending::CutOff,
];

impl Ending {
    async fn end(self, fixture: &Fixture, key: &ApiKey) {
        let id = key.id();
        match self {
            Self::Revoke => fixture.revoke(id).await,
            Self::Suspend => {
                fixture
                    .manager()
                    .suspend(&system(), &tenant(), id)
                    .await
                    .unwrap();
            }
            Self::RotateAway => {
                fixture.rotate(id, Overlap::None).await.unwrap();
            }
            Self::CutOff => fixture.cut_off().await,
        }
    }
}

#[tokio::test]
async fn local_grants_end_at_once() {
    for ending in ENDINGS {
        let fixture = Fixture::with(|builder| builder.cache(long())).await;
        let issued = fixture.issue("streamed").await;
        let key = issued.api_key();
        fixture.later(SECOND);
        let grant = grant(&fixture.keyward, key).await;
        let mut ended = pin!(grant.ended());
        assert!(grant.is_current());
        assert!(!has_ended(ended.as_mut()));
        ending.end(&fixture, key).await;
        assert!(!grant.is_current(), "{ending:?}");
        assert!(has_ended(ended), "{ending:?}");
        assert!(has_ended(pin!(grant.ended())), "and stays so: {ending:?}");
        assert!(!grant.is_current(), "{ending:?}");
    }
}

#[tokio::test]
async fn remote_grants_end_with_the_feed() {
    for ending in ENDINGS {
        let fixture = Fixture::with(|builder| builder.cache(long())).await;
        let other = fixture.beside(|builder| builder.cache(long())).await;
        let background = tokio::spawn(other.keyward.background());
        while !other.keyward.verifier().stats().feed_is_current {
            tokio::task::yield_now().await;
        }
        let issued = fixture.issue("streamed").await;
        let key = issued.api_key();
        fixture.later(SECOND);
        let grant = grant(&other.keyward, key).await;
        let mut ended = pin!(grant.ended());
        assert!(!has_ended(ended.as_mut()));
        assert!(grant.is_current());
        ending.end(&fixture, key).await;
        let begun = Instant::now();
        while grant.is_current() {
            assert!(begun.elapsed() < PATIENCE, "{ending:?}");
            tokio::task::yield_now().await;
        }
        assert!(has_ended(ended), "{ending:?}");
        background.abort();
    }
}

#[tokio::test]
async fn without_polls_they_end_in_a_lease() {
    let fixture = Fixture::new().await;
    let other = fixture.beside(|builder| builder.cache(short())).await;
    let issued = fixture.issue("streamed").await;
    let grant = grant(&other.keyward, issued.api_key()).await;
    fixture.revoke(issued.api_key().id()).await;
    let begun = Instant::now();
    assert!(ends_within(PATIENCE, grant.ended()).await);
    assert!(!grant.is_current());
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_grant_ends_when_its_key_expires() {
    for is_rotated in [false, true] {
        let fixture = Fixture::with(|builder| builder.cache(short())).await;
        let issued = fixture
            .issue_key(new_key("mortal").expires_in(if is_rotated { DAY } else { HOUR }))
            .await;
        if is_rotated {
            let overlap = Overlap::For(HOUR);
            let rotated = fixture.rotate(issued.api_key().id(), overlap).await;
            rotated.unwrap();
        }
        let expires = issued.record().created_at() + HOUR;
        let grant = grant(&fixture.keyward, issued.api_key()).await;
        fixture.clock.set(expires - Duration::from_micros(1));
        let mut ended = pin!(grant.ended());
        assert!(!ends_within(SHORT, ended.as_mut()).await);
        fixture.clock.set(expires);
        assert!(!grant.is_current());
        assert!(ends_within(PATIENCE, ended).await);
    }
}

#[tokio::test]
async fn a_clock_set_back_revives_no_grant() {
    let fixture = Fixture::with(|builder| builder.cache(long())).await;
    let issued = fixture.issue_key(new_key("mortal").expires_in(HOUR)).await;
    let created = issued.record().created_at();
    let grant = grant(&fixture.keyward, issued.api_key()).await;
    fixture.clock.set(created + HOUR);
    assert!(!grant.is_current());
    fixture.clock.set(created);
    assert!(!grant.is_current());
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Expired);
}

#[tokio::test]
async fn a_clock_before_issue_ends_a_grant() {
    const LAG: Duration = Duration::from_secs(5 * 60);
    let fixture = Fixture::with(|builder| builder.cache(long())).await;
    let issued = fixture.issue_key(new_key("mortal").expires_in(HOUR)).await;
    let created = issued.record().created_at();
    let grant = grant(&fixture.keyward, issued.api_key()).await;
    fixture.clock.set(created - LAG);
    assert!(grant.is_current());
    // The clock cannot tell whether the key has expired.
    fixture.clock.set(created - LAG - Duration::from_micros(1));
    assert!(!grant.is_current());
    fixture.clock.set(created);
    assert!(grant.is_current(), "nothing was remembered");
}

#[tokio::test]
async fn a_failing_clock_ends_a_grant() {
    let fixture = Fixture::with(|builder| builder.cache(short())).await;
    let issued = fixture.issue("streamed").await;
    let grant = grant(&fixture.keyward, issued.api_key()).await;
    fixture.clock.fail();
    assert!(!grant.is_current());
    assert!(ends_within(PATIENCE, grant.ended()).await);
}

#[tokio::test]
async fn other_changes_end_no_grant() {
    let fixture = Fixture::with(|builder| builder.cache(long())).await;
    let issued = fixture.issue("streamed").await;
    let other = fixture.issue("another").await;
    let (key, id) = (issued.api_key(), issued.api_key().id());
    let grant = grant(&fixture.keyward, key).await;
    let mut ended = pin!(grant.ended());
    assert!(!has_ended(ended.as_mut()));
    let update = KeyUpdate::new().title("Another title").access([WRITE]);
    fixture
        .manager()
        .update(&system(), &tenant(), id, update)
        .await
        .unwrap();
    fixture.rotate(id, Overlap::UntilRevoked).await.unwrap();
    fixture.revoke(other.api_key().id()).await;
    fixture.keyward.verifier().forget_all();
    assert!(!ends_within(SHORT * 3, ended.as_mut()).await);
    assert!(grant.is_current(), "it has looked again");
    assert_eq!(grant.title().as_str(), "streamed", "as it was admitted");
    fixture.revoke(id).await;
    assert!(has_ended(ended));
}

#[tokio::test]
async fn resuming_does_not_revive_a_grant() {
    let fixture = Fixture::with(|builder| builder.cache(long())).await;
    let issued = fixture.issue("streamed").await;
    let (key, id) = (issued.api_key(), issued.api_key().id());
    let grant = grant(&fixture.keyward, key).await;
    let mut ended = pin!(grant.ended());
    assert!(!has_ended(ended.as_mut()));
    fixture
        .manager()
        .suspend(&system(), &tenant(), id)
        .await
        .unwrap();
    assert!(has_ended(ended));
    fixture
        .manager()
        .resume(&system(), &tenant(), id)
        .await
        .unwrap();
    assert_eq!(fixture.answer(key).await, Answer::Admitted);
}

#[tokio::test]
async fn a_long_outage_ends_the_grants() {
    for fault in [Fault::Unavailable, Fault::Corrupt, Fault::Hang] {
        let store = FaultyStore::over(MemoryStore::new());
        let keyward = keyward::testkit::builder(store.clone(), [READ]).cache(short());
        let keyward = keyward.open().await.unwrap();
        let key = keyward::testkit::TestKey::issue(&keyward, [READ]).await;
        let grant = grant(&keyward, key.api_key()).await;
        let mut ended = pin!(grant.ended());
        assert!(!ends_within(SHORT * 3, ended.as_mut()).await, "{fault:?}");
        let _ = store.clone().on(Call::Get, 0..u64::MAX, fault);
        assert!(ends_within(PATIENCE, ended).await, "{fault:?}");
        assert!(!grant.is_current(), "{fault:?}");
    }
}

/// A grant of a key that the store can no longer say anything about, on a node whose monotonic clock is set by hand.
async fn cut_off(fault: Fault) -> (Keyward, TestKey, Grant, ManualMonotonicClock) {
    let store = FaultyStore::over(MemoryStore::new());
    let monotonic = ManualMonotonicClock::new();
    let keyward = testkit::builder(store.clone(), [READ]).cache(short());
    let keyward = keyward
        .monotonic_clock(monotonic.clone())
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let grant = grant(&keyward, key.api_key()).await;
    let _ = store.on(Call::Get, 0..u64::MAX, fault);
    (keyward, key, grant, monotonic)
}

#[tokio::test]
async fn outages_leave_grants_one_lease() {
    const INSTANT: Duration = Duration::from_nanos(1);
    for fault in [Fault::Unavailable, Fault::Corrupt, Fault::Hang] {
        for begins_early in [true, false] {
            let (keyward, key, grant, monotonic) = cut_off(fault).await;
            let any = Requirement::any_key();
            let attempt = Attempt::new(key.api_key().presented(), &any);
            let mut ended = pin!(grant.ended());
            if begins_early {
                assert!(!has_ended(ended.as_mut()), "{fault:?}");
            }
            monotonic.set(SHORT - INSTANT);
            assert!(keyward.verifier().verify(&attempt).await.is_ok());
            assert!(!ends_within(SHORT * 3, ended.as_mut()).await, "{fault:?}");
            // The clock then stands still: another lease would never end.
            monotonic.set(SHORT);
            assert!(ends_within(PATIENCE, ended).await, "{fault:?}");
            assert!(!grant.is_current(), "{fault:?}");
            assert!(keyward.verifier().verify(&attempt).await.is_err());
            assert!(ends_within(PATIENCE, grant.ended()).await, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn polls_of_the_feed_prolong_a_grant() {
    let (store, monotonic) = (
        FaultyStore::over(MemoryStore::new()),
        ManualMonotonicClock::new(),
    );
    let keyward = testkit::builder(store.clone(), [READ]).cache(short());
    let keyward = keyward
        .monotonic_clock(monotonic.clone())
        .open()
        .await
        .unwrap();
    let background = tokio::spawn(keyward.background());
    let rounds = || keyward.verifier().stats().feed_polls;
    let two_more_rounds = async || {
        let before = rounds();
        while rounds() < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    two_more_rounds().await;
    let key = TestKey::issue(&keyward, [READ]).await;
    let grant = self::grant(&keyward, key.api_key()).await;
    let mut ended = pin!(grant.ended());
    assert!(!has_ended(ended.as_mut()));
    let _ = store.clone().on(Call::Get, 0..u64::MAX, Fault::Hang);
    for _ in 0..6 {
        monotonic.advance(SHORT / 4);
        two_more_rounds().await;
        assert!(!has_ended(ended.as_mut()), "a poll vouches for the key");
    }
    background.abort();
    monotonic.advance(SHORT);
    assert!(ends_within(PATIENCE, ended).await);
}

#[tokio::test]
async fn streams_end_with_their_own_key() {
    const STREAMS: usize = 1_000;
    let fixture = Fixture::with(|builder| builder.cache(long())).await;
    let (one, other) = (fixture.issue("one").await, fixture.issue("other").await);
    let mut streams = Vec::new();
    for issued in [&one, &other] {
        let grant = grant(&fixture.keyward, issued.api_key()).await;
        let mut these: Vec<_> = (0..STREAMS).map(|_| Box::pin(grant.ended())).collect();
        assert!(these.iter_mut().all(|stream| !has_ended(stream.as_mut())));
        streams.push(these);
    }
    let reads = || fixture.keyward.verifier().stats().store_reads;
    let before = reads();
    fixture.revoke(one.api_key().id()).await;
    let mut of_one = streams.remove(0);
    assert!(of_one.iter_mut().all(|stream| has_ended(stream.as_mut())));
    // Over a store that answers at once, each may find that the key is ended before another has said so.
    assert!(reads() - before <= 1_000, "one read each at most");
    let mut of_other = streams.remove(0);
    assert!(
        of_other
            .iter_mut()
            .all(|stream| !has_ended(stream.as_mut()))
    );
}

#[tokio::test]
async fn dropping_the_verifier_ends_grants() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("streamed").await;
    let grant = grant(&fixture.keyward, issued.api_key()).await;
    drop(fixture);
    assert!(!grant.is_current());
    assert!(has_ended(pin!(grant.ended())));
}
