//! The outcome of a commit, and the errors of a store.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::CutoffScope;
use crate::codes::codes;
use crate::key::StoredKey;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of a commit.
///
/// It can be serialized, so that a store can remember it and return it again to a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The store's position after the commit.
    pub position: u64,
    /// The outcome of each change, in their order.
    pub outcomes: Vec<Outcome>,
}

/// The outcome of one change.
///
/// In JSON it is an object with a `type`, such as `{"type":"inserted"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Outcome {
    /// The key was added.
    Inserted,
    /// The key was replaced.
    Replaced,
    /// The key was revoked by this commit.
    Revoked,
    /// The key was revoked before this commit. It stays as it was.
    AlreadyRevoked {
        /// The instant of the first revocation.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// The key to revoke or purge does not exist.
    Missing,
    /// The digest was replaced.
    Rehashed,
    /// The digest had changed, or the key was revoked or missing: the store changed nothing.
    NotRehashed,
    /// The key was removed.
    Purged,
    /// The key did not end before the instant of the purge. It stays as it was.
    NotPurged,
    /// The tenant's stored data was removed.
    TenantRemoved,
    /// The tenant has keys, revoked ones included. It stays as it was.
    TenantHasKeys,
    /// The events were removed.
    EventsCut,
    /// No stored event has that number and hash. The log stays as it was.
    EventsNotCut,
    /// The cutoff was set.
    CutOff,
    /// An equal or later cutoff was already set.
    AlreadyCutOff,
    /// The cutoff was moved back.
    CutoffLowered,
    /// The cutoff was not moved back: it is not at the instant that was read, or the new one is not earlier.
    CutoffStands {
        /// The stored cutoff, if one is set.
        #[serde(with = "time::serde::rfc3339::option")]
        at: Option<OffsetDateTime>,
    },
    /// The cutoff was not moved back: a key that is not revoked as stored would live again.
    WouldRevive,
    /// The value stored under the setting's name: the given one, or the one that was there before.
    Setting {
        /// The stored value.
        stands: String,
    },
}

impl Outcome {
    /// Returns whether the change is published: its event is recorded, and the feed reports it.
    ///
    /// Published changes are those that other nodes must learn of. A rehash is not one: it changes neither the powers
    /// of a key nor its holder.
    #[must_use]
    pub fn is_published(&self) -> bool {
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

    /// Decides whether a cutoff [moves back](crate::store::Change::LowerCutoff).
    ///
    /// `stands` is the stored cutoff, and `unrevoked` yields keys that are not revoked as stored: at least those in the
    /// scope issued from `to` on and before `from`, or the first of them, as one such key decides. The move would
    /// revive these keys. A [damaged](StoredKey::damaged) key counts for each owner of its tenant. The backend moves
    /// the cutoff if the outcome is [`CutoffLowered`](Self::CutoffLowered).
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
            is_ended && key.revocation.is_none() && scope.may_hold(key)
        };
        if unrevoked.into_iter().any(is_revived) {
            Self::WouldRevive
        } else {
            Self::CutoffLowered
        }
    }

    /// Decides a [purge](crate::store::Change::Purge), given the key that the transaction reads.
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

codes! {
    StoreError, inside "store_";
    Self::AlreadyExists => "already_exists",
    Self::Conflict => "conflict",
    Self::PreconditionFailed { .. } => "precondition_failed",
    Self::Unsupported => "unsupported",
    Self::Indeterminate(_) => "outcome_unknown",
    Self::Unavailable(_) => "unavailable",
    Self::Corrupt(_) => "corrupt",
}
