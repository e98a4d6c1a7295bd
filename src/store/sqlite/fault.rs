//! What may go wrong in a transaction, and what callers are told of it.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// The oldest SQLite that does all that is asked of it, as SQLite numbers itself.
pub(super) const OLDEST_SQLITE: i32 = 3_038_000;

/// What went wrong in a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The contract says so.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// SQLite failed, and nothing was changed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// SQLite failed to commit: nobody knows whether it did. What it wrote before it failed may yet come to light when
    /// the log is read after a crash.
    #[error(transparent)]
    Commit(rusqlite::Error),
    /// The log took no event, and SQLite has undone the whole transaction over it: of revocations, which no failure of
    /// the log may stop. Nothing was changed.
    #[error(transparent)]
    LogUndidAll(Box<Fault>),
    /// A row cannot be read. Which one, and never what stands there: it may be a digest.
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    /// A value cannot be written, such as a number beyond 2^63.
    #[error("{0} cannot be written")]
    Unwritable(&'static str),
    /// The file is not the one that was opened.
    #[error("the file at this path is not the one that was opened; restart to use it")]
    Replaced,
    /// The file is to be there, with Keyward's tables, and is not.
    #[error("there are no keys in this file, and there are to be some")]
    Absent,
    /// The file says that code of this version must no longer use it.
    #[error("the file's schema {0} is too new for this version")]
    TooNew(i64),
    /// The SQLite that the host links lacks what the tables are made with.
    #[error("SQLite {} is too old: Keyward needs {} or later", version(*.0), version(OLDEST_SQLITE))]
    TooOldSqlite(i32),
    /// A setting that durability or secrecy rests on does not hold.
    #[error("SQLite did not set {name} to {value}")]
    NotSet {
        /// The pragma.
        name: &'static str,
        /// What it was to be.
        value: String,
    },
    /// The write-ahead log cannot be emptied.
    #[error("the write-ahead log is in use; try again")]
    LogInUse,
    /// It was given up before it began.
    #[error("there was no thread for it in time")]
    Late,
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A version of SQLite as people write it.
fn version(number: i32) -> String {
    let (major, minor, patch) = (number / 1_000_000, number / 1_000 % 1_000, number % 1_000);
    format!("{major}.{minor}.{patch}")
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refused) => refused,
            Fault::LogUndidAll(cause) => (*cause).into(),
            Fault::Commit(lost) => Self::Indeterminate(lost.into()),
            Fault::Sqlite(error) if is_damage(&error) => Self::Corrupt(error.into()),
            Fault::Unreadable(_) => Self::Corrupt(fault.into()),
            Fault::Unwritable(_) => Self::Unsupported,
            Fault::Sqlite(error) => Self::Unavailable(error.into()),
            Fault::Replaced
            | Fault::Absent
            | Fault::LogInUse
            | Fault::Late
            | Fault::TooNew(_)
            | Fault::TooOldSqlite(_)
            | Fault::NotSet { .. }
            | Fault::Io(_) => Self::Unavailable(fault.into()),
        }
    }
}

/// Whether the file is not what this version wrote.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                // Such as a table or a column that is not there.
                | ErrorCode::Unknown
        ),
        // A column of another kind, or a row that has to be there and is not.
        _ => true,
    }
}
