//! Errors of a transaction, and their mapping to the errors that callers see.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// The oldest SQLite with all features that the backend uses, as SQLite numbers itself.
pub(super) const OLDEST_SQLITE: i32 = 3_038_000;

/// An error of a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The store's contract refuses the change.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// SQLite failed, and changed nothing.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// SQLite failed to commit: the outcome is unknown. The writes before the failure may still take effect when the
    /// log is read after a crash.
    #[error(transparent)]
    Commit(rusqlite::Error),
    /// The log took no event, and SQLite has therefore undone the whole transaction. The transaction only revoked keys,
    /// and no failure of the log may stop that. SQLite changed nothing.
    #[error(transparent)]
    LogUndidAll(Box<Fault>),
    /// A row cannot be read. The error names the row's kind, and never its contents: they may be a digest.
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    /// A value cannot be written, such as a number beyond 2^63.
    #[error("{0} cannot be written")]
    Unwritable(&'static str),
    /// The file is not the one that was opened.
    #[error("the file at this path was replaced after it was opened; restart to use it")]
    Replaced,
    /// The file must exist and hold Keyward's tables, and does not.
    #[error("the file contains no keys, and is required to")]
    Absent,
    /// The file says that code of this version must no longer use it.
    #[error("the file's schema {0} is too new for this version")]
    TooNew(i64),
    /// The host application's SQLite lacks a feature that the tables need.
    #[error("SQLite {} is too old: Keyward needs {} or later", version(*.0), version(OLDEST_SQLITE))]
    TooOldSqlite(i32),
    /// A setting that durability or secrecy depends on is not in force.
    #[error("SQLite did not set {name} to {value}")]
    NotSet {
        /// The pragma.
        name: &'static str,
        /// The required value.
        value: String,
    },
    /// The write-ahead log cannot be emptied.
    #[error("the write-ahead log is in use; try again")]
    LogInUse,
    /// The work was given up before it began.
    #[error("no thread was free in time")]
    Late,
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Formats a version of SQLite in the usual notation.
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

/// Returns whether the error shows that the file is not as this version wrote it.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                // For example a missing table or column.
                | ErrorCode::Unknown
        ),
        // A column of another type, or a missing row that must exist.
        _ => true,
    }
}
