//! Promise 1 for SQLite: after what revokes a key has returned (`revoke`, `revoke_all`, `revoke_leaked`, a rotation
//! without overlap), no verification that starts on that node is granted, whatever else is done to the key meanwhile.
//! And what another node over the same file hears of it: at once while it follows the news, and after a lease at the
//! latest.
//!
//! 2,000 races by default, on a file in memory where the system has a place for such, as a commit waits some
//! milliseconds for a disk; `KEYWARD_RACES=10000` says how many. Planted bugs that they catch: a read that sees what
//! stood before the last commit; a revocation that is answered before it is committed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::key::RevokeReason;
use keyward::manager::{Issued, KeyUpdate, ManageError, Overlap, RevokeAll};
use keyward::store::SqliteStore;
use keyward::testkit::{Fault, FaultyStore, ManualMonotonicClock};
use keyward::verifier::KeyCache;
use sqlite_store::{actor, builder, fast_folder, is_granted, new_key, tenant};
use test_support::size;

/// What takes longer hangs.
const HANGS: Duration = Duration::from_mins(2);
/// What may pass until a node that does not follow the news refuses.
const LEASE: Duration = Duration::from_secs(5);

fn races() -> u64 {
    size("KEYWARD_RACES", 2_000).into()
}

/// What ends a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Revoke,
    RevokeAll,
    RevokeLeaked,
    RotateAway,
}

const ENDINGS: [Ending; 4] = [
    Ending::Revoke,
    Ending::RevokeAll,
    Ending::RevokeLeaked,
    Ending::RotateAway,
];

impl Ending {
    async fn end(self, keyward: &Keyward, key: &Issued) -> Result<(), ManageError> {
        let (manager, actor) = (keyward.manager(), actor());
        let (tenant, id) = (key.record().tenant(), key.record().id());
        let reason = RevokeReason::Leaked;
        match self {
            Self::Revoke => manager.revoke(&actor, tenant, id, reason).await.map(drop),
            Self::RevokeAll => {
                let all = RevokeAll::new(reason);
                manager.revoke_all(&actor, tenant, all).await.map(drop)
            }
            Self::RevokeLeaked => {
                let leaked = manager.revoke_leaked(&actor, key.api_key().presented());
                leaked.await.map(drop)
            }
            Self::RotateAway => {
                let rotated = manager.rotate(&actor, tenant, id, Overlap::None);
                rotated.await.map(drop)
            }
        }
    }
}

/// What else happens to a key while it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Verified,
    Updated,
    Rehashed,
    Rotated,
    Suspended,
}

const MEANWHILE: [Meanwhile; 5] = [
    Meanwhile::Verified,
    Meanwhile::Updated,
    Meanwhile::Rehashed,
    Meanwhile::Rotated,
    Meanwhile::Suspended,
];

impl Meanwhile {
    async fn happen(self, keyward: &Keyward, key: &Issued) {
        let (manager, actor) = (keyward.manager(), actor());
        let (tenant, id) = (key.record().tenant(), key.record().id());
        // Each may find that the key has ended.
        match self {
            Self::Verified | Self::Rehashed => drop(is_granted(keyward, key).await),
            Self::Updated => {
                for title in ["one", "two"] {
                    let update = KeyUpdate::new().title(title);
                    let _ = manager.update(&actor, tenant, id, update).await;
                }
            }
            Self::Rotated => {
                let rotated = manager.rotate(&actor, tenant, id, Overlap::UntilRevoked);
                let _ = rotated.await;
            }
            Self::Suspended => {
                let _ = manager.suspend(&actor, tenant, id).await;
                let _ = manager.resume(&actor, tenant, id).await;
            }
        }
    }
}

/// A node that has been given a pepper, and one that issues keys without it.
struct Track {
    peppered: Keyward,
    plain: Keyward,
    /// Stamps what must be told before from after.
    stamps: AtomicU64,
}

impl Track {
    async fn over(file: &Path) -> Arc<Self> {
        let store = SqliteStore::open(file).unwrap();
        let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
        let yields = [Fault::Yield(1), Fault::Yield(2), Fault::Yield(3)];
        let hesitant = FaultyStore::over(store.clone()).at_random(1, 2, yields);
        let peppered = builder(hesitant).hashing(Hashing::recommended().pepper(pepper));
        Arc::new(Self {
            peppered: peppered.open().await.unwrap(),
            plain: builder(store).open().await.unwrap(),
            stamps: AtomicU64::new(1),
        })
    }

    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    /// Verifies until the key has ended, and then some: the stamp of the last start that was granted.
    async fn verify_until(&self, over: &AtomicU64, key: &Issued) -> u64 {
        let (mut granted, mut after) = (0, 0);
        while after < 2 {
            if over.load(Ordering::SeqCst) > 0 {
                after += 1;
            }
            let start = self.stamp();
            if is_granted(&self.peppered, key).await {
                granted = start;
            }
            tokio::task::yield_now().await;
        }
        granted
    }

    /// Whether a verification was granted that started after the key was ended.
    async fn race(self: Arc<Self>, race: u64, ending: Ending, meanwhile: Meanwhile) -> bool {
        let issuing = match meanwhile {
            Meanwhile::Rehashed => &self.plain,
            _ => &self.peppered,
        };
        let tenant = tenant(&format!("tenant-{race}")).unwrap();
        let key = new_key(&tenant, "raced");
        let key = Arc::new(issuing.manager().issue(&actor(), key).await.unwrap());
        let over = Arc::new(AtomicU64::new(0));
        let verifying = {
            let (track, over, key) = (Arc::clone(&self), Arc::clone(&over), Arc::clone(&key));
            tokio::spawn(async move { track.verify_until(&over, &key).await })
        };
        let disturbing = {
            let (track, key) = (Arc::clone(&self), Arc::clone(&key));
            tokio::spawn(async move { meanwhile.happen(&track.peppered, &key).await })
        };
        if race % 3 == 1 {
            tokio::task::yield_now().await;
        }
        if ending.end(&self.peppered, &key).await.is_err() {
            // A key that is suspended or was rotated meanwhile is not rotated.
            assert_eq!(ending, Ending::RotateAway);
            Ending::Revoke.end(&self.peppered, &key).await.unwrap();
        }
        let ended = self.stamp();
        over.store(ended, Ordering::SeqCst);
        let mut is_late = is_granted(&self.peppered, &key).await;
        is_late |= verifying.await.unwrap() > ended;
        disturbing.await.unwrap();
        is_late || is_granted(&self.peppered, &key).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_after_revoke_returned() {
    let begun = Instant::now();
    let dir = fast_folder().unwrap();
    let track = Track::over(&dir.path().join("keys.db")).await;
    let following = tokio::spawn(track.peppered.background());
    let mut late = 0_u64;
    for race in 0..races() {
        let choose = |n: usize| usize::try_from(race).unwrap() % n;
        let ending = *ENDINGS.get(choose(ENDINGS.len())).unwrap();
        let meanwhile = *MEANWHILE.get(choose(MEANWHILE.len())).unwrap();
        let racing = Arc::clone(&track).race(race, ending, meanwhile);
        late += u64::from(tokio::spawn(racing).await.unwrap());
    }
    let rehashed = track.peppered.verifier().stats().rehashed;
    println!(
        "{} races in {:?}, in which {rehashed} digests were replaced",
        races(),
        begun.elapsed()
    );
    assert_eq!(late, 0);
    following.abort();
}

/// A node of its own, as another process over the file is.
async fn node(file: &Path) -> Keyward {
    let store = SqliteStore::open(file).unwrap();
    builder(store).open().await.unwrap()
}

async fn issue(keyward: &Keyward, many: usize) -> Vec<Issued> {
    let tenant = tenant("acme-inc").unwrap();
    let actor = actor();
    let mut keys = Vec::new();
    for _ in 0..many {
        let issued = keyward.manager().issue(&actor, new_key(&tenant, "a key"));
        keys.push(issued.await.unwrap());
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_hears_of_a_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.db");
    let revoking = node(&file).await;
    // On this clock what was read decides without end: only news ends it.
    let other =
        builder(SqliteStore::open(&file).unwrap()).monotonic_clock(ManualMonotonicClock::new());
    let other = other.open().await.unwrap();
    let following = tokio::spawn(other.background());
    let keys = issue(&revoking, 200).await;
    let mut took = Vec::new();
    for key in &keys {
        assert!(is_granted(&other, key).await);
        Ending::Revoke.end(&revoking, key).await.unwrap();
        let revoked = Instant::now();
        while is_granted(&other, key).await {
            assert!(revoked.elapsed() < HANGS, "it hears of nothing");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        took.push(revoked.elapsed());
    }
    following.abort();
    took.sort_unstable();
    let of = |percent: usize| *took.get((took.len() - 1) * percent / 100).unwrap();
    println!(
        "heard after {:?} (p50), {:?} (p99), {:?} at worst",
        of(50),
        of(99),
        of(100)
    );
}

#[tokio::test]
async fn a_lone_node_refuses_after_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.db");
    let revoking = node(&file).await;
    let monotonic = ManualMonotonicClock::new();
    let other = builder(SqliteStore::open(&file).unwrap()).monotonic_clock(monotonic.clone());
    let other = other
        .cache(KeyCache::new().lease(LEASE))
        .open()
        .await
        .unwrap();
    let keys = issue(&revoking, 10).await;
    for key in &keys {
        assert!(is_granted(&other, key).await);
    }
    for key in &keys {
        Ending::Revoke.end(&revoking, key).await.unwrap();
    }
    monotonic.advance(LEASE - Duration::from_nanos(1));
    for key in &keys {
        assert!(is_granted(&other, key).await, "nobody told the node");
    }
    monotonic.advance(Duration::from_nanos(1));
    for key in &keys {
        assert!(!is_granted(&other, key).await, "after the lease");
    }
}
