//! What may go wrong in a store.

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong in a store. Only [`Indeterminate`](Self::Indeterminate) leaves open whether anything changed:
/// after every other error, nothing did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A key with this id exists.
    #[error("a key with this id exists")]
    AlreadyExists,
    /// The key is not at the revision expected, or is no more.
    #[error("the key was changed by somebody else")]
    Conflict,
    /// A precondition does not hold.
    #[error("a precondition does not hold")]
    PreconditionFailed {
        /// Which one, counted from 0 in the set's order.
        index: usize,
    },
    /// The store does not know this kind of change, precondition or filter, or cannot keep such a value.
    #[error("the store does not support this")]
    Unsupported,
    /// Whether the commit took place is not known. Retry with the same change id.
    #[error("it is not known whether the commit took place")]
    Indeterminate(#[source] Source),
    /// The store cannot be reached, or is too busy.
    #[error("the store is unavailable")]
    Unavailable(#[source] Source),
    /// What is stored cannot be read.
    #[error("what is stored cannot be read")]
    Corrupt(#[source] Source),
}
