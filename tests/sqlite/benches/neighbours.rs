//! How much one tenant's work slows another's: `cargo bench -p sqlite_store --bench neighbours`.
//!
//! A tenant of 300,000 keys is guessed at, searched, imported into, exported and purged, each without a pause. Another
//! tenant's keys are verified, issued and revoked meanwhile, by turns with no such work. For each operation it prints
//! the 99th percentile without and with that work, and their ratio.
//!
//! `KEYWARD_BENCH_KEYS` sets the number of keys, and `KEYWARD_BENCH_ROUNDS` how often each load is switched on and off.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking, and is run for what it prints"
)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::hashing::{Argon2Params, Hashing, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyFormat};
use keyward::key::{ApiKey, KeyId, PresentedKey, RevokeReason, TenantId};
use keyward::manager::{Issued, KeyQuery};
use keyward::store::SqliteStore;
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use rusqlite::{Connection, params};
use sqlite_store::{actor, builder, new_key};
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SLICE: Duration = Duration::from_millis(1_500);

/// What the large tenant does.
#[derive(Debug, Clone, Copy)]
enum Load {
    Guesses,
    Searches,
    Imports,
    Exports,
    Purges,
}

const LOADS: [Load; 5] = [
    Load::Guesses,
    Load::Searches,
    Load::Imports,
    Load::Exports,
    Load::Purges,
];

impl Load {
    fn tasks(self) -> u64 {
        match self {
            Self::Guesses | Self::Searches => 64,
            Self::Imports => 16,
            Self::Exports => 16,
            Self::Purges => 4,
        }
    }
}

/// What of the other tenant is measured.
const MEASURED: [&str; 5] = [
    "verification, warm",
    "verification, read from the store",
    "verification, first use under Argon2id",
    "issue",
    "revoke",
];

struct World {
    node: Keyward,
    /// Reads the store each time.
    uncached: Keyward,
    /// Issues keys under Argon2id.
    slow: Keyward,
    large: TenantId,
    small: TenantId,
    guessed: Issued,
    warm: Issued,
    imported: AtomicU64,
    done: AtomicU64,
    is_over: AtomicBool,
}

fn tenant(name: &str) -> TenantId {
    sqlite_store::tenant(name).expect("a tenant")
}

fn imported() -> Outcome<ImportedKeys> {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>())?;
    Ok(ImportedKeys::under(lookup).accept(LegacyFormat::with_id("legacy", '.')?))
}

async fn issue(keyward: &Keyward, tenant: &TenantId) -> Outcome<Issued> {
    let key = new_key(tenant, "a key");
    Ok(keyward.manager().issue(&actor(), key).await?)
}

impl World {
    async fn over(path: &Path, keys: i64) -> Outcome<Arc<Self>> {
        let store = SqliteStore::open(path)?;
        let params = Argon2Params::new(19_456, 2, 1)?;
        let fast = Hashing::recommended().accept_argon2id(params);
        let node = builder(store.clone()).hashing(fast.clone());
        let node = node.imported_keys(imported()?).open().await?;
        let uncached = builder(store.clone()).hashing(fast).cache(KeyCache::off());
        let slow = builder(store).hashing(Hashing::argon2id(params));
        let (uncached, slow) = (uncached.open().await?, slow.open().await?);
        let (large, small) = (tenant("large"), tenant("small"));
        let guessed = issue(&slow, &large).await?;
        let pattern = issue(&node, &large).await?.record().id();
        fill(path, pattern, keys)?;
        let warm = issue(&node, &small).await?;
        Ok(Arc::new(Self {
            node,
            uncached,
            slow,
            large,
            small,
            guessed,
            warm,
            imported: AtomicU64::new(0),
            done: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }))
    }

    /// Goes on with this until it is told to stop.
    async fn work(self: Arc<Self>, load: Load) {
        while !self.is_over.load(Ordering::SeqCst) {
            self.step(load).await;
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn step(&self, load: Load) {
        let (manager, actor) = (self.node.manager(), actor());
        match load {
            Load::Guesses => {
                let id = self.guessed.record().id().to_string();
                let wrong = PresentedKey::pair(&id, self.warm.api_key().expose_secret());
                let any = Requirement::any_key();
                let attempt = Attempt::new(wrong, &any);
                let verdict = self.node.verifier().verify(&attempt).await;
                assert!(verdict.is_err());
            }
            Load::Searches => {
                let query = KeyQuery::of(&self.large).title_prefix("there is none");
                let list = manager.list(&actor, &query).await.expect("a list");
                assert!(list.keys.is_empty());
            }
            Load::Imports => {
                let n = self.imported.fetch_add(1, Ordering::SeqCst);
                let text = format!("{n}.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg");
                let key = ImportedKey::text("legacy", text).entropy_bits(238);
                let imported = manager.import(&actor, new_key(&self.large, "imported"), key);
                imported.await.expect("an import");
            }
            Load::Exports => {
                let exported = manager.export_restrictions(&actor, &self.large, None);
                exported.await.expect("an export");
            }
            Load::Purges => {
                let before = OffsetDateTime::now_utc() - Duration::from_hours(1);
                let purged = manager.purge(&actor, &self.large, before, None).await;
                purged.expect("a purge");
            }
        }
    }

    fn begin(self: &Arc<Self>, load: Load) -> Vec<JoinHandle<()>> {
        self.is_over.store(false, Ordering::SeqCst);
        (0..load.tasks())
            .map(|_| tokio::spawn(Arc::clone(self).work(load)))
            .collect()
    }

    async fn end(&self, tasks: Vec<JoinHandle<()>>) {
        self.is_over.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.expect("the load went on");
        }
    }

    /// Measures for a while.
    async fn measure(&self, samples: &mut [Vec<Duration>; MEASURED.len()]) -> Outcome<()> {
        let begun = Instant::now();
        let mut round = 0_u64;
        while begun.elapsed() < SLICE {
            round += 1;
            let [warm, read, first, issued, revoked] = &mut *samples;
            warm.push(verified(&self.node, self.warm.api_key()).await?);
            read.push(verified(&self.uncached, self.warm.api_key()).await?);
            let at = Instant::now();
            let key = issue(&self.node, &self.small).await?;
            issued.push(at.elapsed());
            let (manager, reason) = (self.node.manager(), RevokeReason::Requested);
            let at = Instant::now();
            manager
                .revoke(&actor(), &self.small, key.record().id(), reason)
                .await?;
            revoked.push(at.elapsed());
            if round.is_multiple_of(4) {
                let slow = issue(&self.slow, &self.small).await?;
                first.push(verified(&self.node, slow.api_key()).await?);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn verified(keyward: &Keyward, key: &ApiKey) -> Outcome<Duration> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    let begun = Instant::now();
    let verdict = keyward.verifier().verify(&attempt).await;
    let took = begun.elapsed();
    verdict.map_err(|denial| denial.reason().to_string())?;
    Ok(took)
}

/// Rows straight into the table, as commits of a few keys each would take hours. A third of the keys were revoked long
/// ago.
fn fill(path: &Path, pattern: KeyId, keys: i64) -> Outcome<()> {
    let connection = Connection::open(path)?;
    let insert = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2),
            fresh (id, n) AS MATERIALIZED (SELECT randomblob(16), n FROM n)
        INSERT INTO keyward_keys
        SELECT fresh.id, tenant, owner, title, created_at - 400 * 86400000000 - n,
            iif(n % 3 = 0, created_at - 399 * 86400000000, NULL), iif(n % 3 = 0, 'requested', NULL),
            iif(n % 3 = 0, 1, NULL),
            expires_at, NULL, fresh.id, digest, 1, schema, document
        FROM keyward_keys AS pattern, fresh WHERE pattern.id = ?1";
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000")?;
    connection.execute(insert, params![pattern.to_bytes(), keys])?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

fn p99(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * 99 / 100]
}

fn number(name: &str, otherwise: i64) -> Outcome<i64> {
    let set = std::env::var(name).ok();
    Ok(set
        .map(|text| text.parse())
        .transpose()?
        .unwrap_or(otherwise))
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let keys = number("KEYWARD_BENCH_KEYS", 300_000)?;
    let world = World::over(&dir.path().join("keys.db"), keys).await?;
    let rounds = number("KEYWARD_BENCH_ROUNDS", 8)?;
    println!(
        "| p99, µs: alone, beside (ratio) | {} |",
        MEASURED.join(" | ")
    );
    println!("|---|{}", "---|".repeat(MEASURED.len()));
    for load in LOADS {
        let (mut alone, mut beside) = (<[Vec<_>; 5]>::default(), <[Vec<_>; 5]>::default());
        let begun = world.done.load(Ordering::SeqCst);
        for _ in 0..rounds {
            world.measure(&mut alone).await?;
            let tasks = world.begin(load);
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.measure(&mut beside).await?;
            world.end(tasks).await;
        }
        let done = world.done.load(Ordering::SeqCst) - begun;
        print!("| {} tasks: {done} {load:?} |", load.tasks());
        for (alone, beside) in alone.iter_mut().zip(&mut beside) {
            let (alone, beside) = (p99(alone).as_secs_f64(), p99(beside).as_secs_f64());
            print!(
                " {:.0}, {:.0} ({:.1}) |",
                alone * 1e6,
                beside * 1e6,
                beside / alone
            );
        }
        println!();
    }
    Ok(())
}
