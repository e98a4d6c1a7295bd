//! Promise 10: a flood against the slow hash starves neither fast keys nor memory. Its permits are bounded, and what the
//! process has resident grows by no more than they need and 16 MiB.
//!
//! A process of its own, since the most that was ever resident is counted for all of it. Linux says how much that was.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::hashing::{Argon2Params, Hashing, HashingError};
use keyward::key::{ApiKey, KeyFormat, KeyId, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, ForeignKey, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};

const READ: Scope = scope!("read:editions");
const PERMITS: usize = 2;
const QUEUE: usize = 4;
const FLOODERS: u64 = 64;
/// For this long at least.
const FLOOD: Duration = Duration::from_secs(2);
/// No machine computes one sooner.
const A_SLOW_HASH: Duration = Duration::from_millis(10);
const MIB: u64 = 1024 * 1024;

fn new_key(title: &str) -> NewKey {
    NewKey::new(TenantId::new("acme-inc").unwrap(), title, READ)
}

/// The most that was ever resident, in bytes.
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.trim().parse::<u64>().unwrap() * 1024
}

/// What the flood was answered.
#[derive(Debug, Default)]
struct Answers {
    refuted: AtomicU64,
    saturated: AtomicU64,
    is_over: AtomicBool,
}

impl Answers {
    /// Guesses at a key's secret until it is over, and never twice the same.
    async fn flood(&self, keyward: &Keyward, id: KeyId, flooder: u64) {
        let (id, any) = (id.to_string(), Requirement::any_key());
        for guess in 0_u64.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let secret = format!("{flooder:020}{guess:023}");
            let attempt = Attempt::new(PresentedKey::pair(&id, &secret), &any);
            let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
            match denial.reason() {
                DenialReason::WrongSecret => self.refuted.fetch_add(1, Ordering::SeqCst),
                DenialReason::Hashing(HashingError::Saturated) => {
                    assert_eq!(denial.class(), DenialClass::Undecidable);
                    self.saturated.fetch_add(1, Ordering::SeqCst)
                }
                other => panic!("{other:?}"),
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// It is decided without being put off even once.
fn is_granted_at_once(keyward: &Keyward, key: &ApiKey) {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    let verification = pin!(keyward.verifier().verify(&attempt));
    match verification.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verified) => assert!(verified.is_ok(), "{verified:?}"),
        Poll::Pending => panic!("a fast key was put off"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_against_the_slow_hash_starves_neither_fast_keys_nor_memory() {
    let hashing = Hashing::recommended()
        .slow_permits(NonZeroUsize::new(PERMITS).unwrap())
        .slow_queue(QUEUE);
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme").unwrap().environment("test").unwrap())
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .hashing(hashing)
        .open()
        .await
        .unwrap();
    let (manager, actor) = (keyward.manager(), Actor::system("test"));
    let mut fast = Vec::new();
    for _ in 0..2_000 {
        let issued = manager.issue(&actor, new_key("fast")).await.unwrap();
        fast.push(issued.into_parts().0);
    }
    let warm = fast.pop().unwrap();
    is_granted_at_once(&keyward, &warm);

    // All that the test itself needs is there by now, and no slow hash has been computed.
    assert_eq!(keyward.verifier().operations().slow_hashes, 0);
    let before = most_resident();
    let mut weak = Vec::new();
    for n in 0..FLOODERS {
        let id = KeyId::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_0000 + u128::from(n));
        let secret = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
        // A few keys, each guessed at by many.
        if n < 4 {
            let key = ForeignKey::pair(id, secret);
            manager.import(&actor, new_key("weak"), key).await.unwrap();
            weak.push(id);
        }
    }
    let answers = Arc::new(Answers::default());
    let flooders = (0..FLOODERS).map(|flooder| {
        let (answers, keyward) = (Arc::clone(&answers), keyward.clone());
        let id = weak[usize::try_from(flooder).unwrap() % weak.len()];
        tokio::spawn(async move { answers.flood(&keyward, id, flooder).await })
    });
    let flooders: Vec<_> = flooders.collect();

    let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
    let has_been_flooded = || count(&answers.refuted) > 10 && count(&answers.saturated) > 100;
    let (begun, mut took, mut cold) = (Instant::now(), Vec::new(), fast.iter());
    while begun.elapsed() < FLOOD || !has_been_flooded() || took.len() <= 100 {
        for key in cold.next().into_iter().chain([&warm]) {
            let asked = Instant::now();
            is_granted_at_once(&keyward, key);
            took.push(asked.elapsed());
        }
        assert!(begun.elapsed() < FLOOD * 150, "no flood: {answers:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answers.is_over.store(true, Ordering::SeqCst);
    for flooder in flooders {
        flooder.await.unwrap();
    }
    // Nor does it block its thread meanwhile. Not the slowest: any of them may have lost the processor.
    took.sort_unstable();
    let half = took[took.len() / 2];
    assert!(half < A_SLOW_HASH / 2, "half of them took {half:?}");

    let grown = most_resident() - before;
    let cost = u64::from(Argon2Params::OWASP.memory_kib()) * 1024;
    let most = u64::try_from(PERMITS).unwrap() * cost + 16 * MIB;
    assert!(grown <= most, "{} MiB, of {} MiB", grown / MIB, most / MIB);
    assert!(grown > cost, "two at once were seen: {} MiB", grown / MIB);
}
