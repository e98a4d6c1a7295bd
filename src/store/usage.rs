//! When and how much keys are used.

use async_trait::async_trait;
use serde::Serialize;
use time::OffsetDateTime;

use super::{ChangeId, StoreError};
use crate::key::KeyId;

/// How a key has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// When it was last used.
    #[serde(with = "time::serde::rfc3339")]
    pub last_used_at: OffsetDateTime,
    /// How many requests were granted.
    pub granted: u64,
    /// How many requests that proved possession of the key were refused all the same: it was not valid then, or did
    /// not permit the request, or had too many in flight. Wrong secrets are not counted, nor what could not be decided
    /// (503), nor what a second guard or the handler refused after the key was admitted.
    pub refused: u64,
}

impl Usage {
    /// That a key was last used at this instant, and how many of its requests were granted and refused.
    #[must_use]
    pub const fn new(last_used_at: OffsetDateTime, granted: u64, refused: u64) -> Self {
        Self {
            last_used_at,
            granted,
            refused,
        }
    }

    /// Both together: the later instant, and the sums.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            last_used_at: self.last_used_at.max(other.last_used_at),
            granted: self.granted.saturating_add(other.granted),
            refused: self.refused.saturating_add(other.refused),
        }
    }
}

/// Keeps how keys are used. Apart from the keys themselves: it may lag, and losing some of it harms nobody.
#[async_trait]
pub trait UsageStore: std::fmt::Debug + Send + Sync {
    /// Merges a batch into what is kept, as [`Usage::merged`] does.
    ///
    /// # Contract
    /// All of the batch or nothing. A batch whose id was merged before is not merged again; an id is remembered for
    /// at least ten minutes. Ids of keys that do not exist are passed over.
    ///
    /// # Errors
    /// [`StoreError`]; the caller keeps the batch and tries again.
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError>;

    /// How these keys have been used, in the order asked; `None` for one that never was.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError>;
}
