//! Errors of a store.

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of a store.
///
/// Only [`Indeterminate`](Self::Indeterminate) leaves open whether the call changed anything: after every other error,
/// it changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A key with this id exists.
    #[error("a key with this id exists")]
    AlreadyExists,
    /// The key is not at the expected revision, or no longer exists.
    #[error("the key was changed concurrently")]
    Conflict,
    /// A precondition does not hold.
    #[error("a precondition does not hold")]
    PreconditionFailed {
        /// The index of the first that fails, counted from 0 in the set's order.
        index: usize,
    },
    /// The store does not know this kind of change, precondition or filter, or cannot keep such a value.
    #[error("the store does not support this")]
    Unsupported,
    /// It is unknown whether the commit took place. Retry with the same change id.
    #[error("the outcome of the commit is unknown")]
    Indeterminate(#[source] Source),
    /// The store cannot be reached, or is too busy.
    #[error("the store is unavailable")]
    Unavailable(#[source] Source),
    /// The stored data cannot be read.
    #[error("the stored data cannot be read")]
    Corrupt(#[source] Source),
}
