//! What the tests in `tests/`, and the program that they kill, have in common.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use keyward::hashing::Pepper;
use keyward::import::{ImportedKey, ImportedKeys, LegacyFormat};
use keyward::key::TenantId;
use keyward::manager::{Issued, NewKey};
use keyward::random::OsRandom;
use keyward::store::{ChangeId, KeyStore, SqliteOptions, SqliteStore, StoreError, UsageStore as _};
use keyward::verifier::{Attempt, Requirement};
use keyward::{Builder, Keyward};
use rusqlite::Connection;
use tempfile::TempDir;
pub use test_support::fixture::{Choices, READ, actor};

/// An owner whose name is looked for in the file's bytes.
pub const OWNER: &str = "zdenka.blau";

/// A title that is looked for in the file's bytes.
pub const TITLE: &str = "the till at the harbour";

/// A Keyward for the environment `test` over this store.
pub fn builder(store: impl KeyStore) -> Builder {
    keyward::testkit::builder(store, [READ])
}

/// Whose keys; `None` for a name that cannot be one.
#[must_use]
pub fn tenant(name: &str) -> Option<TenantId> {
    TenantId::new(name).ok()
}

/// A key to issue.
#[must_use]
pub fn new_key(tenant: &TenantId, title: &str) -> NewKey {
    NewKey::new(tenant.clone(), title, READ)
}

/// Accepts the keys of an old table.
///
/// # Errors
/// Never.
pub fn old_keys(builder: Builder) -> Result<Builder, Box<dyn Error + Send + Sync>> {
    let lookup: Vec<u8> = (0..32).collect();
    let imported = ImportedKeys::under(Pepper::new(1, lookup)?);
    let imported = imported.accept(LegacyFormat::with_id("old", '.')?);
    Ok(builder.imported_keys(imported))
}

/// What the client of a row of the old table sends.
#[must_use]
pub fn old_text(row: usize) -> String {
    format!("{row}.{row:0>40}")
}

/// A row of the old table.
#[must_use]
pub fn old_row(row: usize) -> Option<(NewKey, ImportedKey)> {
    let key = new_key(&tenant("migrated")?, TITLE);
    let old = ImportedKey::text("old", old_text(row)).entropy_bits(128);
    Some((key, old))
}

/// Whether this node admits a request that bears the key.
pub async fn is_granted(keyward: &Keyward, key: &Issued) -> bool {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.api_key().presented(), &any);
    keyward.verifier().verify(&attempt).await.is_ok()
}

/// A folder in memory, where the system has such: for tests of many commits, in which nobody pulls the plug.
///
/// # Errors
/// Where no folder can be made.
pub fn fast_folder() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}

/// As long as a machine may stand still.
pub const HANGS: Duration = Duration::from_mins(1);

/// Opens a store that waits as long as a machine may stand still.
///
/// # Errors
/// As [`SqliteOptions::open`].
pub fn open_patiently(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
    SqliteOptions::new().patience(HANGS).open(path)
}

/// Waits for what dropped calls have begun, and shows through another connection that they left nothing open: it gets
/// the lock, and empties the log, which it cannot while anybody reads.
///
/// # Panics
/// If something is open.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub async fn assert_nothing_is_open(store: &SqliteStore, path: &Path) {
    let empty = ChangeId::generate(&OsRandom);
    store.merge(empty, &[]).await.unwrap();
    let path = path.to_owned();
    let look = move || {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(HANGS).unwrap();
        let locked = connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK");
        locked.unwrap();
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        let emptied = connection.query_row(truncate, [], |row| row.get::<_, i64>(0));
        assert_eq!(emptied, Ok(0), "somebody still reads");
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}

/// Whether any file in the folder holds the bytes of this text.
///
/// # Errors
/// Where a file cannot be read.
pub fn holds(dir: &Path, text: &str) -> io::Result<bool> {
    for file in fs::read_dir(dir)? {
        let bytes = fs::read(file?.path())?;
        let mut parts = bytes.windows(text.len());
        if parts.any(|part| part == text.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `check.py`, which knows nothing of this code, and waits for files to check. It needs Python with its `sqlite3`.
#[derive(Debug)]
pub struct Checker {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Checker {
    /// Starts it.
    ///
    /// # Errors
    /// Where there is no `python3`.
    pub fn start() -> io::Result<Self> {
        let mut python = Command::new("python3");
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("check.py"));
        let python = python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn()?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        Ok(Self {
            process,
            questions,
            answers: BufReader::new(answers),
        })
    }

    /// Checks a file against the journal of what was acknowledged: how much there was of what, or what does not hold.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn check(&mut self, file: &Path, journal: &Path) -> io::Result<Result<String, String>> {
        let (file, journal) = (file.display(), journal.display());
        writeln!(self.questions, "{file}\t{journal}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if let Some(counts) = line.strip_prefix("ok ") {
            Ok(Ok(counts.to_owned()))
        } else if let Some(faults) = line.strip_prefix("no ") {
            Ok(Err(faults.to_owned()))
        } else {
            Err(io::Error::other("the checker has ended"))
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
