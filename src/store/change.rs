//! One change to the store, and its effect on a key.

use std::num::NonZeroU32;

use time::OffsetDateTime;

use super::{CutoffScope, Outcome, StoreError};
use crate::audit::ChainHead;
use crate::key::{Digest, KeyId, Principal, Revocation, RevokeReason, StoredKey, TenantId};

/// One change in a [`ChangeSet`](super::ChangeSet).
///
/// A store refuses an unknown kind as [`Unsupported`](StoreError::Unsupported).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Adds a key, at revision 1. Never overwrites.
    Insert(Box<StoredKey>),
    /// Replaces a key that is at the revision `expected` and not revoked. Its id, tenant, owner, creation and digest
    /// stay as stored, whatever `with` holds.
    Replace {
        /// The revision that was read.
        expected: u64,
        /// The new key, at revision `expected + 1`.
        with: Box<StoredKey>,
    },
    /// Revokes a key, whatever its revision.
    Revoke {
        /// The key to revoke.
        id: KeyId,
        /// The instant of the revocation.
        at: OffsetDateTime,
        /// The reason for it.
        reason: RevokeReason,
    },
    /// Replaces a key's digest if it is still `from` and the key is not revoked.
    Rehash {
        /// The key to rehash.
        id: KeyId,
        /// The digest that was read.
        from: Digest,
        /// The digest to store.
        to: Digest,
    },
    /// Removes a key that [ended before](Outcome::of_purge) an instant, and its usage. Its id stays taken.
    Purge {
        /// The key to purge.
        id: KeyId,
        /// The instant before which the key must have ended: one that has passed.
        ended_before: OffsetDateTime,
    },
    /// Removes the stored data of a tenant that has no keys. The latest of its cutoffs stays and then binds the whole
    /// tenant.
    RemoveTenant {
        /// The tenant to remove.
        tenant: TenantId,
    },
    /// Removes the oldest events, up to one that is stored with this number and hash.
    ///
    /// The event of this change has to record the removal, as
    /// [`KeyManager::cut_events`](crate::manager::KeyManager::cut_events) does: without that record the rest of the log
    /// does not verify.
    CutEvents {
        /// The last event to remove.
        through: ChainHead,
    },
    /// Ends the keys in a scope that were issued before an instant. This change only moves a cutoff forward.
    Cutoff {
        /// The keys that the cutoff binds.
        scope: CutoffScope,
        /// The first instant of issue that is still valid.
        before: OffsetDateTime,
    },
    /// Moves a cutoff back to an earlier instant, if the stored instant is `from` and the move revives no key.
    LowerCutoff {
        /// The keys that the cutoff binds.
        scope: CutoffScope,
        /// The cutoff that was read.
        from: OffsetDateTime,
        /// The new cutoff. If it is not earlier, the store changes nothing, and the outcome holds the stored cutoff.
        to: OffsetDateTime,
    },
    /// Stores a value under a name, unless the name already has one. The outcome holds the stored value.
    Setting {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
}

/// The effect of a change on a key: the outcome to return, and the key to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The outcome of the change.
    pub outcome: Outcome,
    /// The key to write in place of the one that was read. `None` if there is no key to write. Of a
    /// [revoked](Outcome::Revoked) key write its revocation and revision alone, as the rest of a damaged row stays.
    pub key: Option<StoredKey>,
}

impl Change {
    /// Returns the key that the change is about; `None` if it is not about one key.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Insert(key) => Some(key.id),
            Self::Replace { with, .. } => Some(with.id),
            Self::Revoke { id, .. } | Self::Rehash { id, .. } | Self::Purge { id, .. } => Some(*id),
            Self::RemoveTenant { .. }
            | Self::CutEvents { .. }
            | Self::Cutoff { .. }
            | Self::LowerCutoff { .. }
            | Self::Setting { .. } => None,
        }
    }

    /// Computes the effect of the change on its key.
    ///
    /// `stored` is the key as the transaction reads it, and `position` the position that the commit will have if it is
    /// [published](Outcome::is_published). The contract's rules for each key are here, for every backend: the backend
    /// reads the key, locks it against others until the commit, calls this function, and writes.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Conflict`], and [`StoreError::Corrupt`] for the replacement of a
    /// [damaged](StoredKey::damaged) key, after which the backend must discard the whole set;
    /// [`StoreError::Unsupported`] for a purge, which [`Outcome::of_purge`] decides, and for a change that is not about
    /// a key.
    pub fn apply(&self, stored: Option<&StoredKey>, position: u64) -> Result<Applied, StoreError> {
        let applied = |outcome, key| Ok(Applied { outcome, key });
        match self {
            Self::Insert(key) => match stored {
                Some(_) => Err(StoreError::AlreadyExists),
                None => {
                    let mut key = (**key).clone();
                    (key.revision, key.revocation, key.cutoff) = (1, None, None);
                    applied(Outcome::Inserted, Some(key))
                }
            },
            // What is left of its row would be lost.
            Self::Replace { .. } if stored.is_some_and(StoredKey::is_damaged) => {
                Err(StoreError::Corrupt("the key is damaged".into()))
            }
            Self::Replace { expected, with } => {
                let stored = stored
                    .filter(|stored| stored.revision == *expected && stored.revocation.is_none())
                    .ok_or(StoreError::Conflict)?;
                let key = StoredKey {
                    tenant: stored.tenant.clone(),
                    owner: stored.owner.clone(),
                    created_at: stored.created_at,
                    digest: stored.digest.clone(),
                    revocation: None,
                    revision: expected.saturating_add(1),
                    cutoff: None,
                    ..(**with).clone()
                };
                applied(Outcome::Replaced, Some(key))
            }
            Self::Revoke { id: _, at, reason } => match stored {
                None => applied(Outcome::Missing, None),
                Some(stored) => match &stored.revocation {
                    Some(before) => applied(Outcome::AlreadyRevoked { at: before.at }, None),
                    None => {
                        let key = StoredKey {
                            revision: stored.revision.saturating_add(1),
                            revocation: Some(Revocation {
                                at: *at,
                                reason: reason.clone(),
                                position,
                            }),
                            cutoff: None,
                            ..stored.clone()
                        };
                        applied(Outcome::Revoked, Some(key))
                    }
                },
            },
            Self::Rehash { id: _, from, to } => match stored {
                Some(stored) if stored.revocation.is_none() && stored.digest == *from => {
                    let key = StoredKey {
                        digest: to.clone(),
                        cutoff: None,
                        ..stored.clone()
                    };
                    applied(Outcome::Rehashed, Some(key))
                }
                _ => applied(Outcome::NotRehashed, None),
            },
            // A backend without support for purges must not report one that it has not done.
            Self::Purge { .. }
            | Self::RemoveTenant { .. }
            | Self::CutEvents { .. }
            | Self::Cutoff { .. }
            | Self::LowerCutoff { .. }
            | Self::Setting { .. } => Err(StoreError::Unsupported),
        }
    }
}

/// A condition for a set to be committed, checked inside the commit and before its first change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precondition {
    /// The tenant has fewer keys than this that are not revoked as stored. Expired keys count.
    UnrevokedKeysBelow {
        /// The tenant.
        tenant: TenantId,
        /// The number that the count must not reach before the commit.
        limit: NonZeroU32,
    },
    /// No cutoff that binds keys of this tenant and owner lies after this instant: a key issued at it is live.
    NotCutOff {
        /// The tenant.
        tenant: TenantId,
        /// The owner.
        owner: Principal,
        /// The instant of issue.
        issued_at: OffsetDateTime,
    },
}
