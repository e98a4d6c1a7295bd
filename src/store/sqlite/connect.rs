//! Connections to the file, and its schema.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::fault::{Fault, OLDEST_SQLITE};

/// The schema that this version writes, and the newest that it reads.
const VERSION: i64 = 1;

/// Scripts that bring a file from one version to the next; the first creates the tables.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_create.sql")];

/// Number of statements that each connection keeps prepared: all that the backend uses, and lists with filters.
const STATEMENTS: usize = 64;

/// Instructions of SQLite's virtual machine after which a list gives way to other threads: some 20 µs.
const STEPS_AT_ONCE: i32 = 1_000;

/// The file, and the way to open it.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: PathBuf,
    /// Time for which SQLite waits for a lock that another process holds.
    patience: Duration,
}

/// Identity of a file, which differs once another file is put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl File {
    pub(super) fn new(path: &Path, patience: Duration) -> Result<Self, Fault> {
        // The process may change its working directory.
        let path = std::path::absolute(path)?;
        Ok(Self { path, patience })
    }

    /// Opens a connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, Fault> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        configure_writer(&connection)?;
        check_journal(&connection)?;
        Ok(connection)
    }

    /// Opens a connection that only reads. It still opens the file for writing, as a reader writes to the log's index.
    pub(super) fn reader(&self) -> Result<Connection, Fault> {
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        configure_reader(&connection)?;
        check_journal(&connection)?;
        Ok(connection)
    }

    /// Opens a connection that reads lists, events and usage. Between steps of a statement it lets other threads run: a
    /// thread that reads one key for a verification otherwise waits until the scheduler takes the processor away.
    pub(super) fn list_reader(&self) -> Result<Connection, Fault> {
        let mut connection = self.reader()?;
        let give_way = || {
            thread::yield_now();
            false
        };
        // Versions of rusqlite differ in whether this takes `&mut`, and in what it returns.
        let changed = &mut connection;
        let _ = changed.progress_handler(STEPS_AT_ONCE, Some(give_way));
        Ok(connection)
    }

    fn connect(&self, flags: OpenFlags) -> Result<Connection, Fault> {
        // Before SQLite creates a file, or reports a newer format as damage.
        check_version(rusqlite::version_number())?;
        // One thread at a time uses the connection: SQLite need not lock it for each call.
        let connection =
            Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        configure(&connection, self.patience)?;
        Ok(connection)
    }

    /// Creates an empty file with these permissions, unless the path exists: SQLite's own files are readable by all
    /// users.
    #[cfg(unix)]
    pub(super) fn create(&self, mode: u32) -> Result<(), Fault> {
        use std::os::unix::fs::OpenOptionsExt as _;

        /// Closing a descriptor drops all locks that the process has on the file (`fcntl(2)`), those of SQLite
        /// included: no other thread may open the file before this one has closed it.
        static CREATING: Mutex<()> = Mutex::new(());

        // No file is made for a SQLite that cannot use it.
        check_version(rusqlite::version_number())?;
        let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = fs::OpenOptions::new();
        // Never opens a file that exists: another library of this process may have locks on it.
        options.write(true).create_new(true).mode(mode);
        // A link to a file that does not exist yet.
        let target = match fs::read_link(&self.path) {
            Ok(target) => self.path.with_file_name("").join(target),
            Err(_) => self.path.clone(),
        };
        match options.open(target) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Creates the file if it does not exist, and brings it to this version's schema. Several processes may do so at
    /// the same time.
    pub(super) fn prepare(&self, is_to_exist: bool) -> Result<Connection, Fault> {
        let create = if is_to_exist {
            OpenFlags::empty()
        } else {
            OpenFlags::SQLITE_OPEN_CREATE
        };
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | create)?;
        if is_to_exist && !is_prepared(&connection)? {
            return Err(Fault::Absent);
        }
        self.write_ahead(&connection)?;
        drop(connection);
        let mut connection = self.writer()?;
        migrate(&mut connection)?;
        Ok(connection)
    }

    /// Switches the write-ahead log on. SQLite does not wait for other processes here, whatever its patience.
    fn write_ahead(&self, connection: &Connection) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let switched = connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
                row.get::<_, String>(0)
            });
            match switched {
                Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
                Ok(_) => {
                    let none = "the file's folder does not allow a write-ahead log";
                    return Err(std::io::Error::other(none).into());
                }
                Err(error) if is_busy(&error) && begun.elapsed() < self.patience => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the identity of the file at the path now.
    pub(super) fn identity(&self) -> Result<Identity, Fault> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Fault::Replaced);
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Identity::of(&metadata))
    }
}

/// `synchronous = FULL`, as SQLite numbers it.
const FULL: i64 = 2;

/// Number of pages in the log from which on a commit moves them into the file.
const CHECKPOINT: i64 = 1_000;

/// Applies the settings of every connection.
fn configure(connection: &Connection, patience: Duration) -> Result<(), Fault> {
    connection.busy_timeout(patience)?;
    let patience = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    check_setting(
        "busy_timeout",
        patience,
        read_back(connection, "busy_timeout")?,
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A commit is on the disk when it returns, on Apple's systems too.
    set(connection, "synchronous", FULL)?;
    set(connection, "fullfsync", 1)?;
    // The file may not be as Keyward would have written it.
    set(connection, "trusted_schema", 0)?;
    set(connection, "cell_size_check", 1)?;
    // Keyward's tables have no foreign keys. The host application's tables may point at them with foreign keys, and
    // those hold, however SQLite was built.
    set(connection, "foreign_keys", 1)
}

fn configure_writer(connection: &Connection) -> Result<(), Fault> {
    // Replaced digests must not remain in the file's free pages.
    set(connection, "secure_delete", 1)?;
    // A SQLite that was built without checkpoints would let the log grow without end.
    set(connection, "wal_autocheckpoint", CHECKPOINT)
}

fn configure_reader(connection: &Connection) -> Result<(), Fault> {
    set(connection, "query_only", 1)
}

/// Checks that the file still uses a write-ahead log.
fn check_journal(connection: &Connection) -> Result<(), Fault> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Fault::NotSet {
        name: "journal_mode",
        value: "WAL".to_owned(),
    })
}

/// Sets a pragma and reads it back: SQLite ignores a pragma that it was built without, and a host application may have
/// linked a SQLite with other settings.
fn set(connection: &Connection, name: &'static str, value: i64) -> Result<(), Fault> {
    connection.pragma_update(None, name, value)?;
    check_setting(name, value, read_back(connection, name)?)
}

/// Returns the value of a pragma; `None` if this SQLite does not know it.
fn read_back(connection: &Connection, name: &str) -> Result<Option<i64>, Fault> {
    let stands = connection.pragma_query_value(None, name, |row| row.get(0));
    Ok(stands.optional()?)
}

fn check_setting(name: &'static str, value: i64, stands: Option<i64>) -> Result<(), Fault> {
    if stands == Some(value) {
        return Ok(());
    }
    Err(Fault::NotSet {
        name,
        value: value.to_string(),
    })
}

/// Checks that SQLite of this version number is new enough.
fn check_version(number: i32) -> Result<(), Fault> {
    if number < OLDEST_SQLITE {
        return Err(Fault::TooOldSqlite(number));
    }
    Ok(())
}

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// On other systems than Unix, a file that is open cannot be replaced.
    #[cfg(not(unix))]
    fn of(_: &fs::Metadata) -> Self {
        Self {}
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read under the lock: another process may have just migrated the file.
    let version = match is_prepared(&transaction)? {
        false => 0,
        true => {
            let versions = "SELECT schema_version, oldest_reader FROM keyward_meta";
            let (version, oldest) = transaction.query_row(versions, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?;
            may_use(oldest)?;
            version
        }
    };
    let done = usize::try_from(version).map_err(|_| Fault::Unreadable("the schema's version"))?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    // SQLite opens a read-only file without an error, and begins this transaction: only a write shows it.
    transaction.execute("UPDATE keyward_meta SET oldest_reader = oldest_reader", [])?;
    if done < MIGRATIONS.len() {
        transaction.commit()?;
    } else {
        transaction.rollback()?;
    }
    Ok(())
}

/// Returns whether Keyward's tables exist.
fn is_prepared(connection: &Connection) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'keyward_meta'";
    Ok(connection.prepare(sql)?.exists([])?)
}

/// Checks that code of this version may use a file with this `oldest_reader`.
pub(super) fn may_use(oldest_reader: i64) -> Result<(), Fault> {
    if oldest_reader > VERSION {
        return Err(Fault::TooNew(oldest_reader));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused() {
        check_version(3_038_000).unwrap();
        check_version(3_050_004).unwrap();
        let told = check_version(3_034_001).unwrap_err().to_string();
        assert_eq!(
            told,
            "SQLite 3.34.1 is too old: Keyward needs 3.38.0 or later"
        );
    }

    /// Settings that a file, a host application's SQLite or an earlier user of a connection may have changed.
    const OTHERWISE: &str = "PRAGMA synchronous = OFF; PRAGMA fullfsync = OFF; PRAGMA trusted_schema = ON; \
        PRAGMA cell_size_check = OFF; PRAGMA busy_timeout = 7; PRAGMA secure_delete = OFF; PRAGMA foreign_keys = OFF; \
        PRAGMA wal_autocheckpoint = 0; PRAGMA query_only = OFF;";

    #[test]
    fn every_connection_is_configured() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(OTHERWISE).unwrap();
        configure(&connection, Duration::from_millis(1_234)).unwrap();
        configure_writer(&connection).unwrap();
        for (name, value) in [
            ("synchronous", 2),
            ("fullfsync", 1),
            ("trusted_schema", 0),
            ("cell_size_check", 1),
            ("busy_timeout", 1_234),
            ("secure_delete", 1),
            ("foreign_keys", 1),
            ("wal_autocheckpoint", 1_000),
            ("query_only", 0),
        ] {
            assert_eq!(read_back(&connection, name).unwrap(), Some(value), "{name}");
        }
        configure_reader(&connection).unwrap();
        assert_eq!(read_back(&connection, "query_only").unwrap(), Some(1));
        let write = connection.execute("CREATE TABLE a (b)", []);
        assert!(write.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn an_ignored_pragma_fails_the_open() {
        let connection = Connection::open_in_memory().unwrap();
        let fault = set(&connection, "keyward_knows_no_such_pragma", 1).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "SQLite did not set keyward_knows_no_such_pragma to 1"
        );
        // A database in memory has no write-ahead log.
        let fault = check_journal(&connection).unwrap_err();
        assert_eq!(fault.to_string(), "SQLite did not set journal_mode to WAL");
    }
}
