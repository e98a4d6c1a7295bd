//! Promise 10: a flood against the slow hash starves neither fast keys nor memory. Its permits are bounded, and what
//! the process has resident grows by no more than they need and 16 MiB.
//!
//! Each flood has a process of its own, since what is resident is counted for all of it. Linux says how much that is.
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
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::hashing::{Hashing, HashingError, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest};
use keyward::key::{ApiKey, KeyFormat, KeyId, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};
use test_support::size;

const READ: Scope = scope!("read:editions");
const PERMITS: usize = 2;
const QUEUE: usize = 4;
const FLOODERS: u64 = 64;
/// Longer than anything here takes on any machine.
const HANG: Duration = Duration::from_secs(300);
const MIB: u64 = 1024 * 1024;

fn new_key(title: &str) -> NewKey {
    NewKey::new(TenantId::new("acme-inc").unwrap(), title, READ)
}

/// What is resident, in bytes.
fn resident() -> u64 {
    field("VmRSS:")
}

/// The most that was ever resident, in bytes.
fn most_resident() -> u64 {
    field("VmHWM:")
}

fn field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
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
async fn fast_keys_stay_fast_in_a_flood() {
    let hashing = Hashing::recommended()
        .max_concurrent_slow_hashes(NonZeroUsize::new(PERMITS).unwrap())
        .slow_hash_queue(QUEUE);
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

    let mut weak = Vec::new();
    for n in 0..FLOODERS {
        let id = KeyId::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_0000 + u128::from(n));
        let secret = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
        // A few keys, each guessed at by many.
        if n < 4 {
            let key = ImportedKey::pair(id, secret);
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
    let (begun, mut decided, mut cold) = (Instant::now(), 0, fast.iter());
    while !has_been_flooded() || decided <= 200 {
        for key in cold.next().into_iter().chain([&warm]) {
            is_granted_at_once(&keyward, key);
            decided += 1;
        }
        assert!(begun.elapsed() < HANG, "no flood: {answers:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answers.is_over.store(true, Ordering::SeqCst);
    for flooder in flooders {
        flooder.await.unwrap();
    }
}

/// Names the flood that this process is to count the memory of.
const FLOOD: &str = "KEYWARD_TEST_FLOOD";

/// Wrong secrets for keys of one kind of digest or several, 48 at a time and then one at a time.
#[derive(Debug, Clone, Copy)]
struct Flood {
    name: &'static str,
    permits: usize,
    /// What it costs at most to compare with one of these digests, in bytes.
    cost: u64,
    digests: &'static [&'static str],
}

const OWN: &str = "own";
/// Of secrets that nobody guesses here.
const ARGON2ID: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const SCRYPT: &str = concat!(
    "scrypt$16384$somesalt$8$1$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
);
const BCRYPT: &str = "bcrypt$$2b$04$.....................................................";
const PBKDF2: &str = "pbkdf2_sha256$1000$somesalt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const FLOODS: [Flood; 5] = [
    Flood::of("own", 1, 19 * MIB, &[OWN]),
    Flood::of("argon2id", 1, 19 * MIB, &[ARGON2ID]),
    Flood::of("scrypt", 1, 16 * MIB, &[SCRYPT]),
    Flood::of("small", 1, 0, &[BCRYPT, PBKDF2]),
    Flood::of("mixed", 2, 19 * MIB, &[OWN, ARGON2ID, SCRYPT]),
];

impl Flood {
    const CONNECTIONS: u64 = 48;
    /// For guesses one at a time.
    const ALONE: u64 = 12;

    /// How often all guess at once.
    fn rounds() -> u64 {
        size("KEYWARD_FLOOD_ROUNDS", 1).into()
    }

    const fn of(
        name: &'static str,
        permits: usize,
        cost: u64,
        digests: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            permits,
            cost,
            digests,
        }
    }

    /// By how many bytes the process grew.
    async fn grows(self) -> u64 {
        let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
        let hashing = Hashing::recommended()
            .max_concurrent_slow_hashes(NonZeroUsize::new(self.permits).unwrap());
        let keyward = Keyward::builder(MemoryStore::new())
            .format(KeyFormat::new("acme").unwrap().environment("test").unwrap())
            .scopes([READ.described("Read")])
            .policy(AllowAll)
            .hashing(hashing)
            .imported_keys(ImportedKeys::under(pepper))
            .open()
            .await
            .unwrap();
        let before = resident();
        let mut ids = Vec::new();
        for (n, digest) in (0..).zip(self.digests) {
            let id = KeyId::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_0000 + n);
            let key = match *digest {
                OWN => ImportedKey::pair(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"),
                ARGON2ID => ImportedKey::pair_digest(id, LegacyDigest::argon2(digest).unwrap()),
                _ => ImportedKey::pair_digest(id, LegacyDigest::django(digest).unwrap()),
            };
            let (manager, actor) = (keyward.manager(), Actor::system("test"));
            manager.import(&actor, new_key("weak"), key).await.unwrap();
            ids.push(id.to_string());
        }
        for round in 0..Self::rounds() {
            let guesses = (0..Self::CONNECTIONS).map(|connection| {
                let (keyward, ids) = (keyward.clone(), ids.clone());
                tokio::spawn(async move { guess(&keyward, &ids, round, connection).await })
            });
            for guess in guesses.collect::<Vec<_>>() {
                guess.await.unwrap();
            }
        }
        // Between these, the slow hashes come to rest each time.
        for connection in 0..Self::ALONE {
            guess(&keyward, &ids, Self::rounds(), connection).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most_resident() - before
    }
}

/// Presents a wrong secret for one of the keys, and never twice the same.
async fn guess(keyward: &Keyward, ids: &[String], round: u64, connection: u64) {
    let secret = format!("{round:020}{connection:023}");
    let id = &ids[usize::try_from(round + connection).unwrap() % ids.len()];
    let any = Requirement::any_key();
    let attempt = Attempt::new(PresentedKey::pair(id, &secret), &any);
    let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
    let reason = denial.reason();
    assert!(matches!(reason, DenialReason::WrongSecret), "{reason:?}");
}

#[test]
fn memory_growth_is_bounded() {
    let Ok(name) = std::env::var(FLOOD) else {
        let children = FLOODS.map(|flood| {
            let name = "memory_growth_is_bounded";
            Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture"])
                .env(FLOOD, flood.name)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        for (flood, child) in FLOODS.into_iter().zip(children) {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{flood:?}: {said}");
        }
        return;
    };
    let flood = FLOODS.into_iter().find(|flood| flood.name == name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let grown = runtime.block_on(flood.grows());
    let most = u64::try_from(flood.permits).unwrap() * flood.cost + 16 * MIB;
    assert!(grown <= most, "{} MiB, of {} MiB", grown / MIB, most / MIB);
    // Otherwise nothing was computed.
    assert!(grown >= flood.cost, "{} MiB", grown / MIB);
}
