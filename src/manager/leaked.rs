//! Whose key a text is that was found where it should not be.

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, Revoked};
use crate::hashing::{Credential, Possession, Purpose};
use crate::key::{KeyRecord, KeyStatus, PresentedKey, RevokeReason, SecretOrigin, StoredKey};

/// The key that a found text is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// What is kept of the key: among others its tenant and its owner.
    pub record: KeyRecord,
    /// Its state now.
    pub status: KeyStatus,
}

impl Found {
    /// Whether it can be used, now or later: it is neither revoked nor expired.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !matches!(self.status, KeyStatus::Revoked | KeyStatus::Expired)
    }
}

impl KeyManager {
    /// Whose key a text is, and whether it lives: for a key that was found in a public place.
    ///
    /// The whole key must be given, and its secret is proven as it is for a request; part of one finds nothing.
    /// Nobody's key, a wrong secret, and the key of a tenant that is not the actor's give the same answer.
    ///
    /// The policy is asked twice: whether the actor may look up texts, and once the secret is proven, whether it may
    /// know of this key.
    ///
    /// On one node each principal of a tenant may present at most 100 texts in any minute that are no key of that
    /// tenant. Beyond 16 principals of a tenant in a minute, the others share one allowance. Look-ups that exceed the
    /// limit only if those in progress fail wait for them. At the limit, a key whose secret Keyward generated and keeps
    /// under a fast hash is still found: such a secret cannot be guessed, and the check is cheap. Imported keys and
    /// those under Argon2id are refused like misses, so that guesses at weak secrets stay limited. The counts are kept
    /// for 1,000 tenants; if more have misses within a minute, those of the least recent are dropped.
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

    /// Revokes the key that a found text is, for the reason [`RevokeReason::Leaked`].
    ///
    /// The policy is asked twice: whether the actor may look up whose it is, and whether it may revoke it.
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
            // A store that fails says nothing of the key. Any other error could tell that one has this id.
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
        let credential = Credential::read(presented, &parts.format, parts.hasher.imported_keys())
            .map_err(|_| ManageError::NotFound)?;
        let stored = self.read(credential.id).await?;
        let stored = stored.ok_or(ManageError::NotFound)?;
        if !actor.acts_for(&stored.tenant) {
            return Err(ManageError::NotFound);
        }
        let record = KeyRecord::decode(stored.clone()).map_err(ManageError::Unreadable)?;
        let record = self.judge(record, Some(now));
        let (digest, origin) = (record.digest(), record.origin());
        // Only guesses at strong secrets may go on without a limit, and only at the price of a fast hash.
        let is_strong = matches!(origin, SecretOrigin::Generated { .. }) && origin.is_strong();
        let fast = ["$keyward-sha256$", "$keyward-hmac-sha256$"];
        let is_fast = fast
            .iter()
            .any(|scheme| digest.expose().starts_with(scheme));
        if is_limited && !(is_strong && is_fast) {
            return Err(ManageError::TooManyLookups);
        }
        let proof = parts
            .hasher
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
