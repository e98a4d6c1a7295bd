//! Finding and revoking a leaked key by its text.

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, Revoked};
use crate::hashing::{Possession, Purpose};
use crate::key::{KeyRecord, KeyStatus, PresentedKey, RevokeReason, SecretOrigin, StoredKey};

/// The key to which a leaked text belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The key's record, with its tenant and its owner.
    pub record: KeyRecord,
    /// The key's current state.
    pub status: KeyStatus,
}

impl Found {
    /// Returns whether the key can be used, now or later: it is neither revoked nor expired.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !matches!(self.status, KeyStatus::Revoked | KeyStatus::Expired)
    }
}

impl KeyManager {
    /// Finds the key that a leaked text belongs to, with its owner and its current state.
    ///
    /// The text must be the whole key, and the manager proves its secret as it does for a request; part of a key finds
    /// nothing. A text that is no key, a wrong secret, and the key of a tenant that is not the actor's give the same
    /// answer.
    ///
    /// The manager asks the policy twice: whether the actor may look up texts, and once the secret is proven, whether
    /// it may know of this key.
    ///
    /// On one node each principal of a tenant may present at most 100 texts in any minute that are no key of that
    /// tenant. Beyond 16 principals of a tenant in a minute, the others share one allowance. A look-up waits for those
    /// in progress if it would exceed the limit should they fail. At the limit, the manager still finds a key if
    /// Keyward generated its secret and keeps it under a fast hash: such a secret cannot be guessed, and the check is
    /// cheap. It refuses imported keys and those under Argon2id like misses, so that guesses at weak secrets stay
    /// limited. The manager keeps counts for 1,000 tenants; if more have misses within a minute, it drops those of the
    /// least recent.
    ///
    /// # Errors
    /// [`ManageError::NotFound`]; [`ManageError::Refused`] by policy; [`ManageError::TooManyLookups`];
    /// [`ManageError::Unreadable`], [`ManageError::Hashing`], [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn find_owner(
        &self,
        actor: &Actor,
        presented: PresentedKey<'_>,
    ) -> Result<Found, ManageError> {
        let (found, _) = self.look_up(actor, presented).await?;
        let operation = Operation::FindOwner {
            found: Some(&found.record),
        };
        self.ask(actor, &operation).await?;
        Ok(found)
    }

    /// Revokes the key that a leaked text belongs to, with the reason [`RevokeReason::Leaked`].
    ///
    /// The manager asks the policy twice: whether the actor may look up texts, and whether it may revoke this key.
    ///
    /// # Errors
    /// As [`find_owner`](Self::find_owner), and as [`revoke`](Self::revoke).
    pub async fn revoke_leaked(
        &self,
        actor: &Actor,
        presented: PresentedKey<'_>,
    ) -> Result<Revoked, ManageError> {
        let (found, stored) = self.look_up(actor, presented).await?;
        let operation = Operation::Revoke {
            tenant: found.record.tenant(),
            id: found.record.id(),
            owner: Some(found.record.owner()),
            reason: &RevokeReason::Leaked,
        };
        self.ask(actor, &operation).await?;
        self.revoke_stored(actor, stored, RevokeReason::Leaked)
            .await
    }

    async fn look_up(
        &self,
        actor: &Actor,
        presented: PresentedKey<'_>,
    ) -> Result<(Found, StoredKey), ManageError> {
        self.ask(actor, &Operation::FindOwner { found: None })
            .await?;
        let now = self.now()?;
        let lookup = match self.parts.lookups.begin(actor).await {
            Ok(lookup) => Some(lookup),
            Err(ManageError::TooManyLookups) => None,
            Err(error) => return Err(error),
        };
        let is_limited = lookup.is_none();
        let found = self.prove_owner(actor, presented, now, is_limited).await;
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
        actor: &Actor,
        presented: PresentedKey<'_>,
        now: OffsetDateTime,
        is_limited: bool,
    ) -> Result<(Found, StoredKey), ManageError> {
        let parts = &self.parts;
        let credential = parts
            .credentials
            .read(presented, &parts.format)
            .map_err(|_| ManageError::NotFound)?;
        let stored = self.read(credential.id).await?;
        let stored = stored.ok_or(ManageError::NotFound)?;
        if !actor.acts_for(&stored.tenant) {
            return Err(ManageError::NotFound);
        }
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
        let proof = parts
            .credentials
            .verify(&record, &credential, Purpose::Management);
        match proof.await? {
            Possession::Refuted => Err(ManageError::NotFound),
            Possession::Proven { .. } => {
                let status = record.status(now);
                Ok((Found { record, status }, stored))
            }
        }
    }
}
