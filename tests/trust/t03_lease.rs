//! Promise 3: what another node revokes is refused here at most the bound after this node's last completed round of
//! news began, or after its own read of the key began where there are no news; then the store is read, or nothing
//! granted.
//!
//! Planted bugs that it catches: a monotonic clock that stands still; a store that says too early that this was all the
//! news.

mod gate;
mod nodes;
mod proofs;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use keyward::OpenError;
use keyward::clock::{Clock, ClockError, MonotonicClock};
use keyward::key::{ApiKey, RevokeReason};
use keyward::manager::{KeyUpdate, ManageError};
use keyward::testkit::ManualMonotonicClock;
use keyward::verifier::{DenialClass, DenialReason, KeyCache};

use self::gate::Tell;
use self::nodes::{BOUND, INSTANT, Nodes, all_are_granted, verify};
use crate::common::{actor, builder, clock, new_key, tenant};
use crate::store::{IS_ON_DISK, Store, opened_again};

/// What takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Whether a key that was revoked elsewhere is granted once the bound has passed since its read began.
async fn outlives(bound: Duration, nodes: Nodes) -> bool {
    let key = nodes.issue().await;
    nodes.monotonic.advance(Duration::from_secs(3));
    assert!(nodes.is_granted(&key).await);
    nodes.revoke(&key).await;
    nodes.monotonic.advance(bound - INSTANT);
    assert!(nodes.is_granted(&key).await, "not heard of yet");
    assert_eq!(nodes.reads(), 1);
    nodes.monotonic.advance(INSTANT);
    nodes.is_granted(&key).await
}

#[tokio::test]
async fn a_read_decides_for_one_bound() {
    let nodes = Nodes::new().await;
    assert!(!outlives(BOUND, nodes).await);
    // A store that has to be waited for gets no longer than the bound, in the world's time.
    let short = [INSTANT, Duration::from_millis(1)];
    let short = short.into_iter().filter(|_| !IS_ON_DISK);
    for bound in short.chain([KeyCache::MAX_LEASE]) {
        let nodes = Nodes::cached(KeyCache::new().lease(bound)).await;
        assert!(!outlives(bound, nodes).await, "{bound:?}");
    }
}

#[tokio::test]
async fn an_excessive_lease_is_refused() {
    for (lease, is_opened) in [
        (Duration::ZERO, true),
        (KeyCache::MAX_LEASE, true),
        (KeyCache::MAX_LEASE + INSTANT, false),
        (Duration::MAX, false),
    ] {
        let builder = builder(Store::new(), clock()).cache(KeyCache::new().lease(lease));
        match builder.open().await {
            Ok(_) => assert!(is_opened, "{lease:?}"),
            Err(OpenError::LeaseTooLong { lease: refused }) => {
                assert!(!is_opened, "{lease:?}");
                assert_eq!(refused, lease);
            }
            Err(error) => panic!("{lease:?}: {error}"),
        }
    }
}

/// Shows the time at which it was first asked.
#[derive(Debug)]
struct StandsStill(ManualMonotonicClock, Mutex<Option<Duration>>);

impl MonotonicClock for StandsStill {
    fn elapsed(&self) -> Result<Duration, ClockError> {
        let now = self.0.elapsed()?;
        Ok(*self.1.lock().unwrap().get_or_insert(now))
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_stopped_clock_is_caught() {
    let monotonic = ManualMonotonicClock::new();
    let still = StandsStill(monotonic.clone(), Mutex::default());
    let nodes = Nodes::measuring(monotonic, still, KeyCache::new().lease(BOUND)).await;
    assert!(outlives(BOUND, nodes).await);
}

#[tokio::test]
async fn a_read_counts_from_its_start() {
    for held_for in [Duration::ZERO, BOUND / 2, BOUND - INSTANT, BOUND, BOUND * 3] {
        let nodes = Nodes::new().await;
        let key = nodes.issue().await;
        let waiting = nodes.begin_to_verify(&key).await;
        // The store has read it; then it is revoked, and only then does the answer arrive.
        nodes.revoke(&key).await;
        nodes.monotonic.advance(held_for);
        nodes.store.let_go();
        let verdict = waiting.await.unwrap();
        if held_for < BOUND {
            assert!(verdict.is_ok(), "held for {held_for:?}: {verdict:?}");
            assert_eq!(nodes.reads(), 1);
            nodes.monotonic.set(BOUND);
        } else {
            assert!(verdict.is_err(), "held for {held_for:?}");
        }
        assert!(nodes.is_revoked(&key).await, "held for {held_for:?}");
        assert_eq!(nodes.reads(), 2, "held for {held_for:?}");
    }
}

#[tokio::test]
async fn a_clock_running_back_forces_a_read() {
    let nodes = Nodes::new().await;
    let key = nodes.issue().await;
    nodes.monotonic.set(BOUND * 2);
    assert!(nodes.is_granted(&key).await);
    nodes.revoke(&key).await;
    nodes.monotonic.set(BOUND * 2 - INSTANT);
    assert!(nodes.is_revoked(&key).await);
    assert_eq!(nodes.reads(), 2);
}

/// Stands earlier each time that it is asked.
#[derive(Debug)]
struct RunsBack(Mutex<Duration>);

impl MonotonicClock for RunsBack {
    fn elapsed(&self) -> Result<Duration, ClockError> {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_sub(INSTANT).ok_or(ClockError)?;
        Ok(*now)
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_failing_clock_grants_nothing() {
    let back = RunsBack(Mutex::new(Duration::from_secs(3_600)));
    let lease = KeyCache::new().lease(BOUND);
    let nodes = Nodes::measuring(ManualMonotonicClock::new(), back, lease).await;
    let key = nodes.issue().await;
    for _ in 0..10 {
        let denial = nodes.verify(&key).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Undecidable);
    }

    let nodes = Nodes::new().await;
    let (warm, cold) = (nodes.issue().await, nodes.issue().await);
    assert!(nodes.is_granted(&warm).await);
    nodes.monotonic.fail();
    for key in [&warm, &cold, &warm] {
        let denial = nodes.verify(key).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Undecidable);
        assert!(matches!(denial.reason(), DenialReason::Clock(_)));
    }
    nodes.monotonic.set(Duration::ZERO);
    assert!(nodes.is_granted(&warm).await && nodes.is_granted(&cold).await);
}

#[tokio::test]
async fn completed_rounds_replace_reads() {
    let nodes = Nodes::following().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    for _ in 0..20 {
        // The round began when its question was asked, and vouches for an instant more.
        nodes.monotonic.advance(BOUND - INSTANT);
        nodes.store.tell(Tell::All).await;
        assert!(nodes.is_granted(&key).await);
    }
    assert_eq!(nodes.reads(), 1, "warm for twenty bounds");
    nodes.revoke(&key).await;
    assert!(nodes.is_granted(&key).await, "not heard of yet");
    nodes.store.tell(Tell::All).await;
    assert!(nodes.is_revoked(&key).await);
    assert_eq!(nodes.reads(), 2);
}

#[tokio::test]
async fn a_round_counts_from_its_start() {
    let nodes = Nodes::following().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    // The question is out. Its answer arrives as if the process had been frozen, and the revocation is not in it.
    nodes.monotonic.advance(BOUND * 2);
    nodes.store.tell(Tell::ThatWasAll).await;
    nodes.revoke(&key).await;
    assert!(!nodes.here.verifier().stats().feed_is_current);
    assert!(nodes.is_revoked(&key).await);
}

#[tokio::test]
async fn stopped_rounds_cost_a_read_a_bound() {
    for stopped in [None, Some(Tell::Failure)] {
        let nodes = Nodes::following().await;
        let mut keys = Vec::new();
        for _ in 0..20 {
            keys.push(nodes.issue().await);
        }
        for key in &keys {
            assert!(nodes.is_granted(key).await);
        }
        let mut reads = nodes.reads();
        assert_eq!(reads, 20);
        for _ in 0..3 {
            if let Some(stopped) = stopped {
                nodes.store.tell(stopped).await;
            }
            nodes.monotonic.advance(BOUND - INSTANT);
            assert!(all_are_granted(&nodes, &keys).await);
            assert_eq!(nodes.reads(), reads, "before the bound");
            nodes.monotonic.advance(INSTANT);
            assert!(all_are_granted(&nodes, &keys).await);
            reads += 20;
            assert_eq!(nodes.reads(), reads, "once each");
        }
        let stats = nodes.here.verifier().stats();
        assert!(!stats.feed_is_current);
        assert_eq!(stats.feed_poll_failures > 0, stopped.is_some());
    }
}

#[tokio::test]
async fn no_round_vouches_for_a_missing_key() {
    let nodes = Nodes::following().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    // Somebody has deleted its row, which no feed tells.
    nodes.store.lose_keys();
    nodes.monotonic.advance(BOUND);
    for _ in 0..3 {
        let denial = nodes.verify(&key).await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::UnknownKey));
        nodes.store.tell(Tell::All).await;
    }
    assert!(nodes.here.verifier().stats().feed_is_current);
}

/// Whether a key that was revoked elsewhere is granted a bound later, while such pages come.
async fn outlives_pages(tell: Tell) -> bool {
    let nodes = Nodes::following().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    nodes.revoke(&key).await;
    for _ in 0..4 {
        nodes.monotonic.advance(BOUND / 4);
        nodes.store.tell(tell).await;
    }
    nodes.is_granted(&key).await
}

#[tokio::test]
async fn only_the_last_page_prolongs() {
    assert!(!outlives_pages(Tell::MoreToCome).await);
    let nodes = Nodes::following().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    let rounds = nodes.here.verifier().stats().feed_polls;
    nodes.monotonic.advance(BOUND / 2);
    nodes.store.tell(Tell::MoreToCome).await;
    assert_eq!(nodes.here.verifier().stats().feed_polls, rounds);
    nodes.store.tell(Tell::All).await;
    assert_eq!(nodes.here.verifier().stats().feed_polls, rounds + 1);
    nodes.monotonic.advance(BOUND - INSTANT);
    assert!(nodes.is_granted(&key).await);
    assert_eq!(nodes.reads(), 1, "the last page vouches");
}

#[tokio::test]
async fn an_early_last_page_is_caught() {
    assert!(outlives_pages(Tell::ThatWasAll).await);
}

#[tokio::test]
async fn a_lost_history_rereads_every_key() {
    let nodes = Nodes::following().await;
    let mut keys = Vec::new();
    for _ in 0..50 {
        keys.push(nodes.issue().await);
    }
    for _ in 0..3 {
        for key in &keys {
            assert!(nodes.is_granted(key).await);
        }
        nodes.monotonic.advance(BOUND - INSTANT);
        nodes.store.tell(Tell::All).await;
    }
    assert_eq!(nodes.reads(), 50);
    for key in &keys[..25] {
        nodes.revoke(key).await;
    }
    nodes.store.tell(Tell::Lost).await;
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(nodes.is_granted(key).await, n >= 25);
    }
    assert_eq!(nodes.reads(), 100);
    nodes.monotonic.advance(BOUND - INSTANT);
    nodes.store.tell(Tell::All).await;
    assert!(all_are_granted(&nodes, &keys[25..]).await);
    assert_eq!(nodes.reads(), 100, "and the new history vouches for them");
}

#[tokio::test]
async fn the_next_round_brings_a_cutoff() {
    let nodes = Nodes::following().await;
    let keys = [nodes.issue().await, nodes.issue().await];
    assert!(all_are_granted(&nodes, &keys).await);
    nodes.clock.advance(Duration::from_secs(1));
    let now = nodes.clock.now().unwrap();
    let manager = nodes.there.manager();
    manager
        .deny_issued_before(&actor(), now, &tenant())
        .await
        .unwrap();
    assert!(all_are_granted(&nodes, &keys).await, "not heard of yet");
    nodes.store.tell(Tell::All).await;
    for key in &keys {
        let denial = nodes.verify(key).await.unwrap_err();
        assert!(
            matches!(denial.reason(), DenialReason::CutOff),
            "{denial:?}"
        );
    }
}

/// What a manager of this node can be told a key by.
const READINGS: [&str; 6] = [
    "revoke",
    "revoke_leaked",
    "replay_restrictions",
    "update",
    "suspend",
    "get",
];

/// That this node's manager is told of the key's end, whichever way it comes to read the key.
async fn reads_that_it_ended(nodes: &Nodes, key: &ApiKey, reading: &str) {
    let (manager, actor, tenant, id) = (nodes.here.manager(), actor(), tenant(), key.id());
    let ended = match reading {
        "revoke" => {
            let again = manager.revoke(&actor, &tenant, id, RevokeReason::Requested);
            again.await.map(drop)
        }
        "revoke_leaked" => {
            let again = manager.revoke_leaked(&actor, key.presented());
            again.await.map(drop)
        }
        "replay_restrictions" => {
            let page = manager.export_restrictions(&actor, &tenant, None).await;
            let replayed = manager.replay_restrictions(&actor, page.unwrap().restrictions);
            assert_eq!(replayed.await.unwrap().already, 1);
            return;
        }
        "update" => {
            let update = KeyUpdate::new().title("renamed");
            manager.update(&actor, &tenant, id, update).await.map(drop)
        }
        "suspend" => manager.suspend(&actor, &tenant, id).await.map(drop),
        _ => {
            let record = manager.get(&actor, &tenant, id).await.unwrap();
            assert!(record.revocation().is_some());
            return;
        }
    };
    let error = ended.unwrap_err();
    assert!(
        matches!(error, ManageError::AlreadyRevoked { .. }),
        "{reading}: {error}"
    );
}

#[tokio::test]
async fn an_end_seen_by_a_manager_holds() {
    for reading in READINGS {
        let nodes = Nodes::new().await;
        let key = nodes.issue().await;
        nodes.monotonic.advance(Duration::from_secs(1));
        assert!(nodes.is_granted(&key).await);
        nodes.revoke(&key).await;
        assert!(nodes.is_granted(&key).await, "not heard of yet");
        reads_that_it_ended(&nodes, &key, reading).await;
        assert!(nodes.is_revoked(&key).await, "{reading}");
    }
}

#[tokio::test]
async fn an_older_read_revives_no_ended_key() {
    for reading in READINGS {
        let nodes = Nodes::new().await;
        let key = nodes.issue().await;
        let waiting = nodes.begin_to_verify(&key).await;
        nodes.revoke(&key).await;
        nodes.store.hold_no_more();
        reads_that_it_ended(&nodes, &key, reading).await;
        nodes.store.let_go();
        let _ = waiting.await.unwrap();
        assert!(nodes.is_revoked(&key).await, "{reading}");
    }
}

#[tokio::test]
async fn an_unchanged_key_costs_no_read() {
    let nodes = Nodes::new().await;
    let key = nodes.issue().await;
    assert!(nodes.is_granted(&key).await);
    let (manager, actor, tenant) = (nodes.here.manager(), actor(), tenant());
    manager.get(&actor, &tenant, key.id()).await.unwrap();
    assert!(nodes.is_granted(&key).await);
    assert_eq!(nodes.reads(), 1);
    // A change of another node's is taken notice of too, though it ends nothing.
    let (there, update) = (nodes.there.manager(), KeyUpdate::new().title("renamed"));
    let updated = there.update(&actor, &tenant, key.id(), update);
    updated.await.unwrap();
    manager.get(&actor, &tenant, key.id()).await.unwrap();
    let admitted = nodes.verify(&key).await.unwrap();
    assert_eq!(admitted.grant().title().as_str(), "renamed");
    assert_eq!(nodes.reads(), 2);
}

#[tokio::test]
async fn a_moved_end_is_heard_within_the_bound() {
    for is_put_off in [false, true] {
        let nodes = Nodes::new().await;
        let hour = Duration::from_secs(3_600);
        let there = nodes.there.manager();
        let key = new_key().expires_in(hour);
        let issued = there.issue(&actor(), key).await.unwrap();
        let (key, id) = (issued.api_key(), issued.record().id());
        let start = nodes.clock.now().unwrap();
        assert!(nodes.is_granted(key).await);
        let end = start + if is_put_off { hour * 2 } else { hour / 2 };
        let update = KeyUpdate::new().expires_at(end);
        let updated = there.update(&actor(), &tenant(), id, update).await;
        updated.unwrap();

        // Until it hears, this node goes by the end that it knows: at most for the bound.
        nodes.clock.set(end.min(start + hour));
        nodes.monotonic.advance(BOUND - INSTANT);
        assert_eq!(nodes.is_granted(key).await, !is_put_off);
        nodes.monotonic.advance(INSTANT);
        assert_eq!(nodes.is_granted(key).await, is_put_off);
        nodes.clock.set(end);
        let denial = nodes.verify(key).await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::Expired));
    }
}

#[tokio::test]
async fn a_managers_read_causes_no_other() {
    let nodes = Nodes::cached(KeyCache::off()).await;
    let key = nodes.issue().await;
    let waiting = nodes.begin_to_verify(&key).await;
    nodes.store.hold_no_more();
    let (manager, actor, tenant) = (nodes.here.manager(), actor(), tenant());
    manager.get(&actor, &tenant, key.id()).await.unwrap();
    nodes.store.let_go();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(nodes.reads(), 1);
}

#[tokio::test]
async fn without_a_cache_every_use_reads() {
    let nodes = Nodes::cached(KeyCache::off()).await;
    let key = nodes.issue().await;
    for reads in 1..=20 {
        assert!(nodes.is_granted(&key).await);
        assert_eq!(nodes.reads(), reads);
    }
    nodes.revoke(&key).await;
    assert!(nodes.is_revoked(&key).await);
    let stats = nodes.here.verifier().stats();
    assert_eq!((stats.resident_keys, stats.resident_bytes), (0, 0));
}

/// In the world's time, over the store's own feed. On this clock a read decides without end: only news end it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_background_work_hears_at_once() {
    let (store, clock) = (Store::new(), clock());
    let there = builder(opened_again(&store), clock.clone());
    let there = there.open().await.unwrap();
    let here = builder(store, clock).monotonic_clock(ManualMonotonicClock::new());
    let here = here.open().await.unwrap();
    let background = tokio::spawn(here.background());
    while !here.verifier().stats().feed_is_current {
        tokio::task::yield_now().await;
    }
    let (manager, actor, tenant) = (there.manager(), actor(), tenant());
    for _ in 0..200 {
        let issued = manager.issue(&actor, new_key()).await.unwrap();
        let key = issued.api_key();
        assert!(verify(&here, key).await.is_ok());
        let revoked = manager.revoke(&actor, &tenant, key.id(), RevokeReason::Leaked);
        revoked.await.unwrap();
        let begun = Instant::now();
        while verify(&here, key).await.is_ok() {
            assert!(begun.elapsed() < HANGS, "it was not heard of");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
    background.abort();
}
