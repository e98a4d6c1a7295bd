//! Finding and revoking a leaked key by its text.

use time::OffsetDateTime;

use super::{Authorized, KeyRef, ManageError, Operation, Revoked};
use crate::hashing::{Possession, Purpose};
use crate::key::{KeyRecord, KeyStatus, PresentedKey, RevokeReason, SecretOrigin, StoredKey};

/// The key to which a leaked text belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundKey {
    /// The key's record, with its tenant and its owner.
    pub record: KeyRecord,
    /// The key's current state.
    pub status: KeyStatus,
}

impl FoundKey {
    /// Returns whether the key can be used, now or later: it is neither revoked nor expired.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !matches!(self.status, KeyStatus::Revoked | KeyStatus::Expired)
    }
}

impl Authorized<'_> {
    pub(super) async fn find_owner(
        &self,
        presented: PresentedKey<'_>,
    ) -> Result<FoundKey, ManageError> {
        let (found, _) = self.look_up(presented).await?;
        let operation = Operation::FindOwner {
            found: Some(&found.record),
        };
        self.further(operation).await?;
        Ok(found)
    }

    pub(super) async fn revoke_leaked(
        &self,
        presented: PresentedKey<'_>,
    ) -> Result<Revoked, ManageError> {
        let (found, stored) = self.look_up(presented).await?;
        let operation = Operation::Revoke {
            key: KeyRef::from(&found.record),
            reason: &RevokeReason::Leaked,
        };
        self.further(operation).await?;
        self.revoke(stored, RevokeReason::Leaked).await
    }

    async fn look_up(
        &self,
        presented: PresentedKey<'_>,
    ) -> Result<(FoundKey, StoredKey), ManageError> {
        let now = self.now()?;
        let lookup = match self.lookups.begin(self.actor()).await {
            Ok(lookup) => Some(lookup),
            Err(ManageError::TooManyLookups) => None,
            Err(error) => return Err(error),
        };
        let is_limited = lookup.is_none();
        let found = self.prove_owner(presented, now, is_limited).await;
        match (found, lookup) {
            (Ok(found), _) => Ok(found),
            // A failing store reveals nothing of the key. Any other error could reveal that a key has this id.
            (Err(ManageError::Store(error)), None) => Err(error.into()),
            (Err(_), None) => Err(ManageError::TooManyLookups),
            (Err(error), Some(lookup)) => {
                if matches!(error, ManageError::NotFound) {
                    lookup.missed();
                }
                Err(error)
            }
        }
    }

    async fn prove_owner(
        &self,
        presented: PresentedKey<'_>,
        now: OffsetDateTime,
        is_limited: bool,
    ) -> Result<(FoundKey, StoredKey), ManageError> {
        let credential = self
            .credentials
            .read(presented, &self.format)
            .map_err(|_| ManageError::NotFound)?;
        let stored = self.read(credential.id).await?;
        // Before the secret is proven, so that another tenant's key is no slower to refuse than none.
        let stored = stored.filter(|stored| self.actor().acts_for(&stored.tenant));
        let stored = stored.ok_or(ManageError::NotFound)?;
        let record = KeyRecord::decode(stored.clone()).map_err(ManageError::Unreadable)?;
        let record = self.judge(record, Some(now));
        let (digest, origin) = (record.digest(), record.origin());
        // Only guesses at strong secrets may continue beyond the limit, and only at the cost of a fast hash.
        let is_strong = matches!(origin, SecretOrigin::Generated { .. }) && origin.is_strong();
        let fast = ["$keyward-sha256$", "$keyward-hmac-sha256$"];
        let is_fast = fast
            .iter()
            .any(|scheme| digest.expose().starts_with(scheme));
        if is_limited && !(is_strong && is_fast) {
            return Err(ManageError::TooManyLookups);
        }
        let proof = self
            .credentials
            .verify(&record, &credential, Purpose::Management);
        match proof.await? {
            Possession::Refuted => Err(ManageError::NotFound),
            Possession::Proven { .. } => {
                let status = record.status(now);
                Ok((FoundKey { record, status }, stored))
            }
        }
    }
}
