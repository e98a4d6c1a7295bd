//! What became of a commit.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What became of a commit. Serializes, so that a store can remember it for those who ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The store's position after it.
    pub position: u64,
    /// What became of each change, in their order.
    pub outcomes: Vec<Outcome>,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The key was added.
    Inserted,
    /// The key was replaced.
    Replaced,
    /// The key was revoked by this commit.
    Revoked,
    /// The key had been revoked before. It stays as it was.
    AlreadyRevoked {
        /// When it was revoked.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// There is no such key to revoke.
    Missing,
    /// The digest was replaced.
    Rehashed,
    /// The digest had changed, or the key was revoked or missing: nothing was done.
    NotRehashed,
    /// The cutoff was set.
    CutOff,
    /// A later cutoff stood already.
    AlreadyCutOff,
    /// What stands under the setting's name: the value given, or the one that was there.
    Setting {
        /// The value that stands.
        stands: String,
    },
}

impl Outcome {
    /// Whether the change altered anything that others must learn of. A rehash did not: it changes neither
    /// what a key may do nor who holds it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        matches!(
            self,
            Self::Inserted | Self::Replaced | Self::Revoked | Self::CutOff
        )
    }
}
