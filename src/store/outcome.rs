//! What became of a commit.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::CutoffScope;
use crate::key::StoredKey;

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
    /// There is no such key to revoke or purge.
    Missing,
    /// The digest was replaced.
    Rehashed,
    /// The digest had changed, or the key was revoked or missing: nothing was done.
    NotRehashed,
    /// The key was removed.
    Purged,
    /// The key has not ended before the instant that the purge named. It stays as it was.
    NotPurged,
    /// What was stored of the tenant was removed.
    TenantRemoved,
    /// The tenant has keys, revoked ones included. It stays as it was.
    TenantHasKeys,
    /// The events were removed.
    EventsCut,
    /// No event is stored with that number and hash. The log stays as it was.
    EventsNotCut,
    /// The cutoff was set.
    CutOff,
    /// A later cutoff stood already.
    AlreadyCutOff,
    /// The cutoff was moved back.
    CutoffLowered,
    /// The cutoff was not moved back: it does not stand where it was read, or would not have been earlier.
    CutoffStands {
        /// Where it stands, if one was set.
        #[serde(with = "time::serde::rfc3339::option")]
        at: Option<OffsetDateTime>,
    },
    /// The cutoff was not moved back: a key that is not revoked as stored would live again.
    WouldRevive,
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
            Self::Inserted
                | Self::Replaced
                | Self::Revoked
                | Self::Purged
                | Self::TenantRemoved
                | Self::EventsCut
                | Self::CutOff
                | Self::CutoffLowered
        )
    }

    /// The outcome of [moving a cutoff back](crate::store::Change::LowerCutoff), given the instant at which the cutoff
    /// stands and the keys that are not revoked as stored: at least those in its scope issued from `to` on.
    ///
    /// The keys that it would revive are those issued from `to` on and before `from`. The backend moves the cutoff if
    /// the outcome is [`CutoffLowered`](Self::CutoffLowered).
    pub fn of_lowering<'a>(
        scope: &CutoffScope,
        (from, to): (OffsetDateTime, OffsetDateTime),
        stands: Option<OffsetDateTime>,
        unrevoked: impl IntoIterator<Item = &'a StoredKey>,
    ) -> Self {
        if stands != Some(from) || to >= from {
            return Self::CutoffStands { at: stands };
        }
        let is_revived = |key: &StoredKey| {
            let is_ended = to <= key.created_at && key.created_at < from;
            is_ended && key.revocation.is_none() && scope.holds(key)
        };
        if unrevoked.into_iter().any(is_revived) {
            Self::WouldRevive
        } else {
            Self::CutoffLowered
        }
    }

    /// The outcome of a [purge](crate::store::Change::Purge), given the key that the transaction reads.
    ///
    /// A key ended before the instant if it was revoked or expired earlier. A cutoff alone does not count: it says when
    /// keys were issued, not when they ended. The backend removes the key and its usage if the outcome is
    /// [`Purged`](Self::Purged).
    #[must_use]
    pub fn of_purge(stored: Option<&StoredKey>, ended_before: OffsetDateTime) -> Self {
        let Some(stored) = stored else {
            return Self::Missing;
        };
        let revoked_at = stored.revocation.as_ref().map(|revocation| revocation.at);
        let mut ends = revoked_at.into_iter().chain(stored.expires_at);
        if ends.any(|end| end < ended_before) {
            Self::Purged
        } else {
            Self::NotPurged
        }
    }
}
