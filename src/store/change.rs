//! One change, and what it makes of a key.

use std::num::NonZeroU32;

use time::OffsetDateTime;

use super::{CutoffScope, Outcome, StoreError};
use crate::audit::ChainHead;
use crate::key::{Digest, KeyId, Principal, Revocation, RevokeReason, StoredKey, TenantId};

/// One change. A store refuses a kind that it does not know as [`Unsupported`](StoreError::Unsupported).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Adds a key, at revision 1. Never overwrites.
    Insert(Box<StoredKey>),
    /// Replaces a key that is at the revision `expected` and not revoked. Its id, tenant, owner, creation and
    /// digest stay as they are stored, whatever `with` says.
    Replace {
        /// The revision that was read.
        expected: u64,
        /// The key as it is to be, at revision `expected + 1`.
        with: Box<StoredKey>,
    },
    /// Revokes a key, whatever its revision.
    Revoke {
        /// Which key.
        id: KeyId,
        /// When.
        at: OffsetDateTime,
        /// Why.
        reason: RevokeReason,
    },
    /// Replaces a key's digest if it is still `from` and the key is not revoked.
    Rehash {
        /// Which key.
        id: KeyId,
        /// The digest that was read.
        from: Digest,
        /// The digest to store.
        to: Digest,
    },
    /// Removes a key that [ended before](Outcome::of_purge) an instant, and its usage. Its id stays taken.
    Purge {
        /// Which key.
        id: KeyId,
        /// The instant before which it must have ended: one that has passed.
        ended_before: OffsetDateTime,
    },
    /// Removes what is stored of a tenant that has no keys, but for the latest of its cutoffs, which then binds the
    /// whole tenant.
    RemoveTenant {
        /// Which tenant.
        tenant: TenantId,
    },
    /// Removes the oldest events, up to one that is stored with this number and hash.
    ///
    /// The event of this change has to record it, as [`KeyManager::cut_events`](crate::manager::KeyManager::cut_events)
    /// does: without it the rest of the log does not verify.
    CutEvents {
        /// The last event to be removed.
        through: ChainHead,
    },
    /// Ends the keys in a scope that were issued before an instant. Only ever moves forward.
    Cutoff {
        /// Whose keys.
        scope: CutoffScope,
        /// The first instant of issue that is still good.
        before: OffsetDateTime,
    },
    /// Moves a cutoff back to an earlier instant, if it stands at `from` and no key comes to life by it.
    LowerCutoff {
        /// Whose keys.
        scope: CutoffScope,
        /// Where the cutoff was read to stand.
        from: OffsetDateTime,
        /// Where it is to stand. If that is not earlier, nothing is done, and the outcome says where the cutoff stands.
        to: OffsetDateTime,
    },
    /// Stores a value under a name, unless one is stored there already. The outcome says what stands.
    Setting {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
}

/// What a change makes of a key: what to answer, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// What became of the change.
    pub outcome: Outcome,
    /// The key to write whole, in place of the one that was read; none if there is nothing to write.
    pub key: Option<StoredKey>,
}

impl Change {
    /// Which key it is about; `None` if it is not about one key.
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

    /// What it makes of its key, `stored` being the key as the transaction reads it and `position` the one that
    /// the commit will have if it is news.
    ///
    /// The rules of the contract for each key are here, for every backend: it reads the key, locks it against
    /// others until the commit, asks, and writes.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] and [`StoreError::Conflict`], after which nothing of the whole set is to be
    /// done; [`StoreError::Unsupported`] for a purge, which [`Outcome::of_purge`] decides, and if the change is not
    /// about a key.
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
            // A backend that does not know purges must not report one that it has not done.
            Self::Purge { .. }
            | Self::RemoveTenant { .. }
            | Self::CutEvents { .. }
            | Self::Cutoff { .. }
            | Self::LowerCutoff { .. }
            | Self::Setting { .. } => Err(StoreError::Unsupported),
        }
    }
}

/// What must hold for a set to be committed, checked inside the commit and before its first change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precondition {
    /// The tenant has fewer keys than this that are not revoked as stored. Expired keys count.
    UnrevokedKeysBelow {
        /// Which tenant.
        tenant: TenantId,
        /// The number that must not be reached before the commit.
        limit: NonZeroU32,
    },
    /// No cutoff that binds keys of this tenant and owner lies after this instant: a key that is issued at it lives.
    NotCutOff {
        /// Which tenant.
        tenant: TenantId,
        /// Which owner.
        owner: Principal,
        /// When the key is issued.
        issued_at: OffsetDateTime,
    },
}
