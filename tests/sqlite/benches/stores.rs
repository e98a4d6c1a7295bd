//! What the SQLite store takes as a file grows, beside the store in memory:
//! `cargo bench -p sqlite_store --bench stores`.
//!
//! Fills a file with keys of one tenant, measures one call after another, and writes what came of it to
//! `docs/stores.md`. `KEYWARD_BENCH_KEYS` lowers the number of keys, to see whether it runs at all: then it only
//! prints.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a benchmark fails by panicking, and is run for what it prints"
)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::key::{KeyId, RevokeReason, StoredKey, TenantId};
use keyward::random::{OsRandom, RandomSource as _};
use keyward::store::{
    Change, ChangeId, ChangeSet, KeyStore, ListPosition, ListQuery, MemoryStore, SqliteStore,
};
use rusqlite::{Connection, params};
use sqlite_store::{actor, builder, new_key};

type Outcome<T> = Result<T, Box<dyn Error>>;

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const PAGE: u16 = 50;
const GETS: usize = 20_000;
const PAGES: usize = 1_000;
/// Each of these waits for the disk.
const COMMITS: usize = 500;
/// All sizes are measured in turns, so that what slows the machine for a while slows them alike.
const ROUNDS: usize = 20;

/// A store of some size, and what was measured of it.
struct Subject {
    store: Box<dyn KeyStore>,
    keyward: Keyward,
    pattern: StoredKey,
    ids: Vec<KeyId>,
    /// The file, where there is one.
    path: Option<PathBuf>,
    rows: Vec<(&'static str, Vec<Duration>)>,
}

impl Subject {
    fn new(
        store: impl KeyStore,
        keyward: Keyward,
        pattern: StoredKey,
        ids: Vec<KeyId>,
        path: Option<PathBuf>,
    ) -> Self {
        let store = Box::new(store);
        let rows = Vec::new();
        Self {
            store,
            keyward,
            pattern,
            ids,
            path,
            rows,
        }
    }

    fn took(&mut self, row: &'static str, elapsed: Duration) {
        match self.rows.iter_mut().find(|(name, _)| *name == row) {
            Some((_, samples)) => samples.push(elapsed),
            None => self.rows.push((row, vec![elapsed])),
        }
    }

    fn pick(&self) -> KeyId {
        self.ids[(drawn() % self.ids.len() as u128) as usize]
    }

    /// One round.
    async fn measure(&mut self) -> Outcome<()> {
        if let Some(path) = self.path.clone() {
            self.measure_floor(&path)?;
        }
        for n in 0..2 * GETS / ROUNDS {
            let id = self.pick();
            let begun = Instant::now();
            let key = self.store.get(id).await?;
            let elapsed = begun.elapsed();
            assert!(key.is_some());
            // The first half warms.
            if n >= GETS / ROUNDS {
                self.took("get", elapsed);
            }
        }
        // Of a million keys, the 10,000th page.
        let before_middle = Duration::from_micros((self.ids.len() / 2) as u64);
        let created_at = self.pattern.created_at - before_middle;
        let middle = ListPosition::Live {
            created_micros: (created_at.unix_timestamp_nanos() / 1_000) as i64,
            id: KeyId::from_u128(0),
        };
        let first = ListQuery::of(&tenant()).limit(PAGE);
        let middle = first.clone().after(middle);
        for _ in 0..PAGES / ROUNDS {
            for (row, query) in [
                ("first page of 50", &first),
                ("page of 50 in the middle", &middle),
            ] {
                let begun = Instant::now();
                let page = self.store.list(query).await?;
                let elapsed = begun.elapsed();
                assert_eq!(page.items.len(), usize::from(PAGE));
                self.took(row, elapsed);
            }
        }
        for _ in 0..COMMITS / ROUNDS {
            let begun = Instant::now();
            let id = issue(&self.keyward).await?;
            self.took("issue", begun.elapsed());
            let (manager, reason) = (self.keyward.manager(), RevokeReason::Leaked);
            let begun = Instant::now();
            manager.revoke(&actor(), &tenant(), id, reason).await?;
            let elapsed = begun.elapsed();
            self.took("revoke", elapsed);
        }
        Ok(())
    }

    /// The least that a read can take.
    fn measure_floor(&mut self, path: &Path) -> Outcome<()> {
        // One thread, one statement that is kept, and no more of the row than its document.
        let connection = Connection::open(path)?;
        let mut statement =
            connection.prepare("SELECT document FROM keyward_keys WHERE id = ?1")?;
        for n in 0..2 * GETS / ROUNDS {
            let id = self.pick().to_bytes();
            let begun = Instant::now();
            let document: Vec<u8> = statement.query_row([id], |row| row.get(0))?;
            let elapsed = begun.elapsed();
            assert!(!document.is_empty());
            if n >= GETS / ROUNDS {
                self.took("SQLite alone: a row by its id", elapsed);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Figures {
    median: Duration,
    p99: Duration,
}

impl Figures {
    fn of(samples: &[Duration]) -> Self {
        let mut samples = samples.to_vec();
        samples.sort_unstable();
        Self {
            median: samples[samples.len() / 2],
            p99: samples[samples.len() * 99 / 100],
        }
    }
}

fn drawn() -> u128 {
    let mut bytes = [0; 16];
    OsRandom.fill(&mut bytes).expect("random bytes");
    u128::from_be_bytes(bytes)
}

fn tenant() -> TenantId {
    sqlite_store::tenant("acme-inc").expect("a tenant")
}

async fn issue(keyward: &Keyward) -> Outcome<KeyId> {
    let key = new_key(&tenant(), "a key");
    let issued = keyward.manager().issue(&actor(), key).await?;
    Ok(issued.record().id())
}

/// A store with one key in it, as others are to be: each a microsecond older than the one before.
async fn begin(store: impl KeyStore + Clone) -> Outcome<(Keyward, StoredKey)> {
    let keyward = builder(store.clone()).open().await?;
    let id = issue(&keyward).await?;
    let key = store.get(id).await?.ok_or("it was just issued")?;
    Ok((keyward, key))
}

fn older(pattern: &StoredKey, by: usize) -> StoredKey {
    let mut key = pattern.clone();
    key.id = KeyId::from_u128(drawn());
    key.lineage = key.id;
    key.created_at -= Duration::from_micros(by as u64);
    key
}

async fn fill_memory(store: &MemoryStore, pattern: &StoredKey, size: usize) -> Outcome<Vec<KeyId>> {
    let mut ids = vec![pattern.id];
    let numbers: Vec<_> = (1..size).collect();
    for chunk in numbers.chunks(ChangeSet::MAX_CHANGES) {
        let keys: Vec<_> = chunk.iter().map(|n| older(pattern, *n)).collect();
        ids.extend(keys.iter().map(|key| key.id));
        let inserts = keys.into_iter().map(|key| Change::Insert(Box::new(key)));
        let set = ChangeSet::new(ChangeId::generate(&OsRandom), inserts).ok_or("a set")?;
        store.commit(&set).await?;
    }
    Ok(ids)
}

/// Rows straight into the table, as commits of a few keys each would take hours.
fn fill_file(path: &Path, pattern: &StoredKey, size: usize) -> Outcome<Vec<KeyId>> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000")?;
    let mut ids = vec![pattern.id];
    let numbers: Vec<_> = (1..size).collect();
    for chunk in numbers.chunks(50_000) {
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare(
            "INSERT INTO keyward_keys SELECT ?1, tenant, owner, title, created_at - ?2, NULL, NULL, NULL, expires_at, \
             NULL, ?1, digest, 1, schema, document FROM keyward_keys WHERE id = ?3",
        )?;
        for n in chunk {
            let id = KeyId::from_u128(drawn());
            insert.execute(params![id.to_bytes(), *n as i64, pattern.id.to_bytes()])?;
            ids.push(id);
        }
        drop(insert);
        transaction.commit()?;
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(ids)
}

fn micros(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        ..10.0 => format!("{micros:.1}"),
        _ => format!("{micros:.0}"),
    }
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn table(measured: &[Subject]) -> String {
    let mut table = String::from("| µs: median (p99) |");
    for at in measured {
        table.push_str(&format!(" {} |", thousands(at.ids.len())));
    }
    table.push_str(" growth |\n|---|");
    table.push_str(&"---|".repeat(measured.len() + 1));
    table.push('\n');
    for (row, (name, _)) in measured[0].rows.iter().enumerate() {
        table.push_str(&format!("| {name} |"));
        let figures = |at: &Subject| Figures::of(&at.rows[row].1);
        for at in measured {
            let Figures { median, p99 } = figures(at);
            table.push_str(&format!(" {} ({}) |", micros(median), micros(p99)));
        }
        let median = |at: &Subject| figures(at).median.as_secs_f64();
        let growth = median(&measured[measured.len() - 1]) / median(&measured[0]);
        table.push_str(&format!(" {growth:.2}× |\n"));
    }
    table
}

/// What kind of file system holds this folder.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned()))
    });
    let holding = fields.filter(|(at, _)| dir.starts_with(at));
    let nearest = holding.max_by_key(|(at, _)| at.components().count());
    nearest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// The version of rusqlite that is built in.
fn rusqlite_version(root: &Path) -> String {
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != "name = \"rusqlite\"");
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown").to_owned()
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let asked = std::env::var("KEYWARD_BENCH_KEYS").ok();
    let most: Option<usize> = asked.map(|most| most.parse()).transpose()?;
    let sizes = SIZES.map(|size| size.min(most.unwrap_or(size)));
    let dir = tempfile::tempdir()?;
    let (mut in_file, mut in_memory, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (n, size) in sizes.into_iter().enumerate() {
        let path = dir.path().join(format!("{n}.db"));
        let store = SqliteStore::open(&path)?;
        let (keyward, pattern) = begin(store.clone()).await?;
        let begun = Instant::now();
        let ids = fill_file(&path, &pattern, size)?;
        println!("{size} keys in {:?}", begun.elapsed());
        let bytes = fs::metadata(&path)?.len();
        in_file.push(Subject::new(store, keyward, pattern, ids, Some(path)));
        files.push(format!("{:.0} MB", bytes as f64 / 1e6));

        let store = MemoryStore::new();
        let (keyward, pattern) = begin(store.clone()).await?;
        let ids = fill_memory(&store, &pattern, size).await?;
        in_memory.push(Subject::new(store, keyward, pattern, ids, None));
    }
    for _ in 0..ROUNDS {
        for subject in in_file.iter_mut().chain(&mut in_memory) {
            subject.measure().await?;
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (sqlite, rusqlite) = (rusqlite::version(), rusqlite_version(&root));
    let text = format!(
        "# Stores\n\n\
         Times of the stores at a thousand, a hundred thousand and a million keys of one tenant, and their growth from \
         the first to the last. Written by `cargo bench -p sqlite_store --bench stores`.\n\n\
         One call after another, on a runtime of {} threads, all sizes in turns: {} reads by random ids after as many \
         to warm up, {} pages of each kind, {} commits of each. The file is on {}, under SQLite {sqlite} by way of \
         rusqlite {rusqlite}, with its write-ahead log and `synchronous = FULL`: a commit waits for the disk, and its \
         times are those of the disk, with everything else that uses it. It grows to {}. The page in the middle is the \
         10,000th of a million keys. `issue` and `revoke` are the manager's, with their events.\n\n\
         ## In a SQLite file\n{}\n\
         A read is a few microseconds of SQLite and the way to another thread and back. What a node keeps in memory is \
         verified without it.\n\n\
         ## In memory\n{}",
        std::thread::available_parallelism()?,
        thousands(GETS),
        thousands(PAGES),
        thousands(COMMITS),
        file_system(dir.path()),
        files.join(", "),
        table(&in_file),
        table(&in_memory),
    );
    println!("{text}");
    if most.is_none() {
        fs::write(root.join("docs/stores.md"), text)?;
    }
    Ok(())
}
