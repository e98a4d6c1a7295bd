//! Whose key a text is that was found where it should not be.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, Operation, Revoked};
use crate::clock::later;
use crate::hashing::{Binding, Credential, Possession};
use crate::key::{KeyRecord, KeyStatus, PresentedKey, Principal, RevokeReason, StoredKey};

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
    pub fn lives(&self) -> bool {
        !matches!(self.status, KeyStatus::Revoked | KeyStatus::Expired)
    }
}

impl KeyManager {
    /// Whose key a text is, and whether it lives: for a key that was found in a public place.
    ///
    /// The whole key must be given, and its secret is proven as it is for a request; part of one finds nothing. Nobody's
    /// key, a wrong secret, and the key of a tenant that is not the actor's give the same answer. On one node an actor
    /// may present at most 100 texts a minute that are nobody's, so that this is no way to guess.
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
        self.ask(actor, &Operation::FindOwner).await?;
        let now = self.now()?;
        // Counted as a miss from the start, so that many at once are no way round.
        let lookup = self.parts.lookups.begin(actor.principal(), now)?;
        let found = self.prove_owner(actor, presented, now).await;
        if matches!(found, Err(ManageError::NotFound)) {
            lookup.missed();
        }
        found
    }

    async fn prove_owner(
        &self,
        actor: &Actor,
        presented: PresentedKey<'_>,
        now: OffsetDateTime,
    ) -> Result<(Found, StoredKey), ManageError> {
        let parts = &self.parts;
        let credential = Credential::read(presented, &parts.format, parts.hasher.foreign())
            .map_err(|_| ManageError::NotFound)?;
        let stored = self.read(credential.id).await?;
        let stored = stored.ok_or(ManageError::NotFound)?;
        if !actor.acts_for(&stored.tenant) {
            return Err(ManageError::NotFound);
        }
        let record = KeyRecord::decode(stored.clone()).map_err(ManageError::Unreadable)?;
        let binding = Binding {
            environment: record.environment(),
            id: record.id(),
        };
        let (digest, origin) = (record.digest(), record.origin());
        let proof = parts
            .hasher
            .verify_for_management(digest, binding, &credential, origin);
        match proof.await? {
            Possession::Refuted => Err(ManageError::NotFound),
            Possession::Proven { .. } => {
                let status = record.status(now);
                Ok((Found { record, status }, stored))
            }
        }
    }
}

/// How many lookups of each actor have found nothing of late.
#[derive(Default)]
pub(crate) struct Lookups(Mutex<Window>);

#[derive(Default)]
struct Window {
    ends: Option<OffsetDateTime>,
    missed: HashMap<Principal, u32>,
}

impl Lookups {
    /// Most misses of one actor in a window.
    const MOST: u32 = 100;
    /// Most actors in a window: past it no new one is let in, so that memory stays bounded.
    const MOST_ACTORS: usize = 10_000;
    const LENGTH: Duration = Duration::from_mins(1);

    fn begin(&self, actor: &Principal, now: OffsetDateTime) -> Result<Lookup<'_>, ManageError> {
        let mut window = self.window();
        // A clock that ran back by more than a window begins anew, else the end might never come.
        let is_open = window
            .ends
            .is_some_and(|end| now < end && end - now <= Self::LENGTH);
        if !is_open {
            *window = Window {
                ends: later(now, Self::LENGTH),
                missed: HashMap::new(),
            };
        }
        let is_full = window.missed.len() >= Self::MOST_ACTORS;
        match window.missed.get(actor) {
            Some(missed) if *missed >= Self::MOST => return Err(ManageError::TooManyLookups),
            None if is_full => return Err(ManageError::TooManyLookups),
            _ => {}
        }
        *window.missed.entry(actor.clone()).or_default() += 1;
        Ok(Lookup {
            of: self,
            actor: actor.clone(),
            window: window.ends,
            is_miss: false,
        })
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no names of actors.
impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookups({} actors)", self.window().missed.len())
    }
}

/// A lookup that is under way. Dropped, it is none: found, failed, or given up by whoever asked.
struct Lookup<'a> {
    of: &'a Lookups,
    actor: Principal,
    /// The end of the window in which it began, and in which alone it counts.
    window: Option<OffsetDateTime>,
    is_miss: bool,
}

impl Lookup<'_> {
    /// It found nothing, and counts.
    fn missed(mut self) {
        self.is_miss = true;
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut window = self.of.window();
        if self.is_miss || window.ends != self.window {
            return;
        }
        if let Some(missed) = window.missed.get_mut(&self.actor) {
            *missed = missed.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_outlives_its_window_takes_no_miss_from_the_next() {
        let lookups = Lookups::default();
        let actor = Principal::user("alice").unwrap();
        let start = OffsetDateTime::UNIX_EPOCH;
        let old: Vec<_> = (0..50).map(|_| lookups.begin(&actor, start)).collect();
        let next = start + Lookups::LENGTH;
        for _ in 0..Lookups::MOST {
            lookups.begin(&actor, next).unwrap().missed();
        }
        drop(old);
        assert!(lookups.begin(&actor, next).is_err());
        // One that is dropped in its own window takes back its own.
        let other = Principal::user("bob").unwrap();
        let begun: Vec<_> = (0..Lookups::MOST)
            .map(|_| lookups.begin(&other, next).unwrap())
            .collect();
        assert!(lookups.begin(&other, next).is_err());
        drop(begun);
        assert!(lookups.begin(&other, next).is_ok());
    }
}
