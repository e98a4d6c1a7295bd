//! Failures of a transaction, and the errors that callers get for them.

use keyward::store::StoreError;

/// A failure of a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The contract says so.
    #[error(transparent)]
    Refused(#[from] StoreError),
    /// redb failed, and nothing was changed.
    #[error(transparent)]
    Redb(redb::Error),
    /// redb reported a failed commit, which may have taken place all the same.
    #[error(transparent)]
    Commit(redb::CommitError),
    /// A row cannot be read. It names the row and the place, and never the bytes, which may be a digest.
    #[error("{what} cannot be read, at byte {at}")]
    Unreadable { what: &'static str, at: usize },
    /// A value cannot be written, such as an instant before the year 0.
    #[error("{what} cannot be written")]
    Unwritable { what: &'static str },
}

impl Fault {
    /// All of this row cannot be what it ought to be.
    pub(super) fn unreadable(what: &'static str) -> Self {
        Self::Unreadable { what, at: 0 }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refused) => refused,
            Fault::Commit(lost) => Self::Indeterminate(lost.into()),
            Fault::Redb(error) if is_damage(&error) => Self::Corrupt(error.into()),
            Fault::Redb(error) => Self::Unavailable(error.into()),
            fault @ Fault::Unreadable { .. } => Self::Corrupt(fault.into()),
            fault @ Fault::Unwritable { .. } => Self::Unavailable(fault.into()),
        }
    }
}

/// Whether the file is not what this version wrote.
fn is_damage(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)
    )
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        match error {
            // A poisoned transaction is rolled back.
            redb::CommitError::TransactionPoisoned => Self::Redb(error.into()),
            lost => Self::Commit(lost),
        }
    }
}

macro_rules! of_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}

of_redb!(DatabaseError, StorageError, TableError, TransactionError);
