//! Recorded usage of keys.

use async_trait::async_trait;
use serde::Serialize;
use time::OffsetDateTime;

use super::{ChangeId, StoreError};
use crate::key::KeyId;

/// Recorded usage of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// The instant of the last use.
    #[serde(with = "time::serde::rfc3339")]
    pub last_used_at: OffsetDateTime,
    /// The number of requests that their guard granted, after its look-ups.
    pub granted: u64,
    /// The number of requests that proved possession of the key and that their guard still refused: the key was not
    /// valid then, or did not permit the request, or had reached a limit; or the request's body was announced as too
    /// long, or a look-up of the guard found no resource. It does not count wrong secrets, undecidable requests (503),
    /// or requests that a second guard or the handler refused after the key was admitted: these are granted.
    pub refused: u64,
}

impl Usage {
    /// Creates a record of the last use and the numbers of granted and refused requests.
    #[must_use]
    pub const fn new(last_used_at: OffsetDateTime, granted: u64, refused: u64) -> Self {
        Self {
            last_used_at,
            granted,
            refused,
        }
    }

    /// Merges two records: the later instant, and the sums.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            last_used_at: self.last_used_at.max(other.last_used_at),
            granted: self.granted.saturating_add(other.granted),
            refused: self.refused.saturating_add(other.refused),
        }
    }
}

/// Storage of key usage.
///
/// It is separate from the keys themselves: it may lag, and losing some of it is harmless.
#[async_trait]
pub trait UsageStore: std::fmt::Debug + Send + Sync {
    /// Merges a batch into the stored usage, as [`Usage::merged`] does.
    ///
    /// # Contract
    /// The store merges all of the batch or nothing. It does not merge again a batch with an id that was merged before,
    /// and remembers an id for at least ten minutes. It ignores ids of keys that do not exist.
    ///
    /// # Errors
    /// [`StoreError`]; the caller keeps the batch and tries again.
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError>;

    /// Returns how these keys have been used, in the order asked; `None` for a key that was never used.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError>;
}
