//! Ending one key.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Authorized, ManageError, broken_store};
use crate::clock::normalized;
use crate::key::{KeyId, RevokeReason, StoredKey, Title};
use crate::store::Outcome;

/// A newly revoked key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Revoked {
    /// Id of the key.
    pub id: KeyId,
    /// Title of the key.
    pub title: Title,
    /// Instant of the revocation.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Reason for the revocation.
    pub reason: RevokeReason,
}

impl Authorized<'_> {
    pub(super) async fn revoke(
        &self,
        stored: StoredKey,
        reason: RevokeReason,
    ) -> Result<Revoked, ManageError> {
        if let Some(revocation) = stored.revocation {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.clock.now().ok().and_then(normalized);
        let at = now.unwrap_or(stored.created_at);
        let (change, event) = self.revocation(at, &stored, at, reason.clone());
        match self.commit_one(change, event).await? {
            Outcome::Revoked => Ok(Revoked {
                id: stored.id,
                title: stored.title,
                at,
                reason,
            }),
            Outcome::AlreadyRevoked { at } => Err(ManageError::AlreadyRevoked { at }),
            Outcome::Missing => Err(ManageError::NotFound),
            _ => Err(broken_store().into()),
        }
    }
}
