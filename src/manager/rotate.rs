//! Rotating a key to a successor.

use std::time::Duration;

use time::OffsetDateTime;

use super::amend::AMEND_TRIES;
use super::issue::ID_DRAWS;
use super::{
    Actor, Expiry, InvalidKey, Issued, KeyManager, ManageError, Operation, TenantRules,
    broken_contract,
};
use crate::audit::{EventAction, FieldChange};
use crate::clock::{later, normalized, rfc3339, unix_micros};
use crate::key::{FormatError, KeyId, KeyRecord, KeyStatus, RevokeReason, Rotated, TenantId};
use crate::store::{Change, ChangeId, ChangeSet, Outcome, Precondition, StoreError};

/// Most keys of a line of rotations that a call follows. In a longer line, it retires only the youngest ancestors.
const LONGEST_LINE: usize = 64;

/// How long a key and its successor are both valid. A rotation never extends the old key's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// No overlap: the old key is revoked in the same commit.
    None,
    /// Both keys are valid until this instant.
    Until(OffsetDateTime),
    /// Both keys are valid for this long.
    For(Duration),
    /// Both keys are valid until a caller revokes the old one.
    UntilRevoked,
}

/// The terms of a rotation: an [`Overlap`], and another expiry of the successor, if requested.
///
/// ```
/// use std::time::Duration;
/// use keyward::manager::{Overlap, Rotation};
///
/// let week = Duration::from_secs(7 * 86_400);
/// let rotation = Rotation::new(Overlap::For(week)).expires_in(week * 52);
/// # let _ = rotation;
/// ```
#[derive(Debug, Clone)]
pub struct Rotation {
    overlap: Overlap,
    expiry: Asked,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    AsBefore,
    Never,
    Expires(Expiry),
}

impl Rotation {
    /// Creates a rotation with this overlap. The successor expires when the key would have.
    #[must_use]
    pub fn new(overlap: Overlap) -> Self {
        Self {
            overlap,
            expiry: Asked::AsBefore,
        }
    }

    /// Makes the successor invalid from this instant on.
    #[must_use]
    pub fn expires_at(mut self, instant: OffsetDateTime) -> Self {
        self.expiry = Asked::Expires(Expiry::At(instant));
        self
    }

    /// Makes the successor invalid this long after it is issued.
    #[must_use]
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.expiry = Asked::Expires(Expiry::In(duration));
        self
    }

    /// Makes the successor valid until it is revoked.
    #[must_use]
    pub fn never_expires(mut self) -> Self {
        self.expiry = Asked::Never;
        self
    }

    /// Returns how long both keys are valid.
    #[must_use]
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Returns the requested expiry of the successor. `None` if it expires when the key would have, or never.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match self.expiry {
            Asked::Expires(expiry) => Some(expiry),
            Asked::AsBefore | Asked::Never => None,
        }
    }

    /// Returns whether the successor is valid until it is revoked.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        matches!(self.expiry, Asked::Never)
    }
}

impl From<Overlap> for Rotation {
    fn from(overlap: Overlap) -> Self {
        Self::new(overlap)
    }
}

impl KeyManager {
    /// Issues a successor to a key, with the same title, owner, access, restrictions, quotas and metadata.
    ///
    /// Unless you ask for another expiry, the successor expires when the key was issued to expire. Only the answer
    /// contains the successor's text, which cannot be recovered later.
    ///
    /// Both keys change in one commit. When the overlap ends, the old key counts as revoked on every node, without a
    /// further call. To end it earlier, revoke it.
    ///
    /// A key is rotated once: to rotate again, rotate its successor. While a successor of a key has not ended,
    /// rotating the key itself returns [`ManageError::AlreadyRotated`], which names that successor. A rotation also
    /// stores as revoked those predecessors with an overlap that is over, so that they no longer count towards a
    /// tenant's cap.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRotated`], [`ManageError::Suspended`]; [`ManageError::NotFound`] if the tenant has no
    /// such key or is not the actor's; [`ManageError::Refused`] by policy; [`ManageError::AlreadyRevoked`] and
    /// [`ManageError::Ended`]; [`ManageError::AboveCeiling`] both for the key as it is and for the successor; and as
    /// [`issue`](Self::issue). After [`StoreError::Indeterminate`] the list may contain a successor that no client has
    /// the text of: rotate that one.
    pub async fn rotate(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        rotation: impl Into<Rotation>,
    ) -> Result<Issued, ManageError> {
        let rotation = rotation.into();
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let operation = Operation::Rotate {
            tenant,
            id,
            owner: None,
            rotation: &rotation,
        };
        let mut stored = self.find_for(actor, tenant, id, operation).await?;
        let rules = self.rules_of(tenant).await?;
        let mut draws = 0;
        for _ in 0..AMEND_TRIES {
            let (record, now) = self.live(stored)?;
            self.check_may_rotate(actor, &record, now).await?;
            let ends_at = self.overlap_end(&rotation, &record, now)?;
            let mut successor = self.successor(actor, &record, &rotation, now)?;
            rules.check(&successor, &self.parts.catalog)?;
            self.check_ceiling(actor, &successor)?;
            self.retire_ancestors(actor, &record, now).await?;

            let new_id = KeyId::generate(&*self.parts.random)?;
            successor.id = new_id;
            let api_key = self.draw_secret(&mut successor).await?;
            let set = self.succession(actor, &record, &successor, &rotation, ends_at, &rules)?;
            match self.insert(&set).await {
                Ok(true) => return Ok(Issued::new(api_key, successor)),
                Ok(false) => {
                    draws += 1;
                    if draws >= ID_DRAWS {
                        return Err(ManageError::IdCollision);
                    }
                }
                Err(ManageError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
            stored = self.find_for(actor, tenant, id, operation).await?;
        }
        Err(StoreError::Conflict.into())
    }

    async fn check_may_rotate(
        &self,
        actor: &Actor,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<(), ManageError> {
        self.check_actor(actor)?;
        self.check_ceiling(actor, record)?;
        // The successor would be active.
        if record.suspended_at.is_some() {
            return Err(ManageError::Suspended);
        }
        let environment = Some(record.environment.as_str());
        if self.parts.format.find_environment(environment).is_none() {
            return Err(InvalidKey::Format(FormatError::UnknownEnvironment).into());
        }
        match self.youngest_of(record, now).await? {
            Some(successor) => Err(ManageError::AlreadyRotated { successor }),
            None => Ok(()),
        }
    }

    /// Returns the last successor in the key's line that has not ended. `None` if all have ended.
    async fn youngest_of(
        &self,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<Option<KeyId>, ManageError> {
        let mut youngest = None;
        let mut rotated = record.rotation;
        for _ in 0..LONGEST_LINE {
            let Some(Rotated { successor, .. }) = rotated else {
                return Ok(youngest);
            };
            let Some(stored) = self.read(successor).await? else {
                return Ok(youngest);
            };
            let next = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
            let next = self.judge(next, Some(now));
            if !matches!(next.status(now), KeyStatus::Revoked | KeyStatus::Expired) {
                youngest = Some(successor);
            }
            rotated = next.rotation;
        }
        // In a longer line, the next key counts as one that has not ended.
        Ok(youngest.or(rotated.map(|rotated| rotated.successor)))
    }

    /// Builds the successor's record, without its id and its digest.
    fn successor(
        &self,
        actor: &Actor,
        record: &KeyRecord,
        rotation: &Rotation,
        now: OffsetDateTime,
    ) -> Result<KeyRecord, ManageError> {
        let mut successor = record.clone();
        successor.prefix = self.parts.format.prefix().into();
        successor.created_at = now;
        successor.created_by = actor.principal().clone();
        successor.expires_at = match rotation.expiry {
            // The overlap of an earlier rotation may have shortened the key's expiry.
            Asked::AsBefore => record.rotation.map_or(record.expires_at, |one| one.own_end),
            Asked::Never => None,
            Asked::Expires(expiry) => Some(self.end_of(expiry, now)?),
        };
        let (start, end) = (successor.not_before, successor.expires_at);
        if end.is_some_and(|end| start.is_some_and(|start| end <= start)) {
            return Err(InvalidKey::NeverValid.into());
        }
        successor.predecessor = Some(record.id);
        successor.revision = 1;
        (successor.rotation, successor.legacy) = (None, None);
        (successor.revocation, successor.cutoff) = (None, None);
        self.check_bounds(&successor)?;
        Ok(successor)
    }

    /// Builds the change set that adds the successor and records it in the old key.
    fn succession(
        &self,
        actor: &Actor,
        record: &KeyRecord,
        successor: &KeyRecord,
        rotation: &Rotation,
        ends_at: Option<OffsetDateTime>,
        rules: &TenantRules,
    ) -> Result<ChangeSet, ManageError> {
        let now = successor.created_at;
        let redactor = self.parts.format.redactor();
        let addition = self.addition(actor, EventAction::KeyIssued, successor, rules)?;

        let mut old = record.clone();
        old.rotation = Some(Rotated {
            successor: successor.id,
            at: now,
            overlap_ends: ends_at,
            own_end: record.rotation.map_or(record.expires_at, |one| one.own_end),
        });
        old.expires_at = ends_at.or(record.expires_at);
        let old = old.encode().map_err(InvalidKey::Unwritable)?;
        let mut changes = vec![FieldChange::set("successor", successor.id.to_string())];
        if let Some(end) = ends_at {
            changes.push(FieldChange::set("overlap_ends", rfc3339(end)));
            let (from, to) = (record.expires_at.map(rfc3339), Some(rfc3339(end)));
            if from != to {
                changes.push(FieldChange::of("expires_at", from, to));
            }
        }
        let rotated = actor.event(now, EventAction::KeyRotated, &old, changes, &redactor);
        let ends_now = rotation.overlap == Overlap::None;
        let revocation = ends_now.then(|| {
            let changes = vec![FieldChange::set("revoked", RevokeReason::Rotated.as_str())];
            let event = actor.event(now, EventAction::KeyRevoked, &old, changes, &redactor);
            let change = Change::Revoke {
                id: record.id,
                at: now,
                reason: RevokeReason::Rotated,
            };
            (change, event)
        });
        let replace = Change::Replace {
            expected: record.revision,
            with: Box::new(old),
        };
        let mut changes = vec![addition.change, replace];
        let mut events = vec![addition.event, rotated];
        if let Some((change, event)) = revocation {
            changes.push(change);
            events.push(event);
        }
        let id = ChangeId::generate(&*self.parts.random);
        let set = ChangeSet::new(id, changes).ok_or_else(broken_contract)?;
        let events = events.into_iter().enumerate();
        let set = events.fold(set, |set, (change, event)| set.with_event_of(change, event));
        // Replacing a key does not change the tenant's key count.
        let is_wanted = |condition: &Precondition| {
            !(ends_now && matches!(condition, Precondition::UnrevokedKeysBelow { .. }))
        };
        let conditions = addition.conditions.into_iter().filter(is_wanted);
        // If a kill switch ends the key meanwhile, its successor must not be added.
        let set = set.on_condition(Precondition::NotCutOff {
            tenant: record.tenant.clone(),
            owner: record.owner.clone(),
            issued_at: record.created_at,
        });
        Ok(conditions.fold(set, ChangeSet::on_condition))
    }

    /// Revokes the ancestors that are past their overlap.
    async fn retire_ancestors(
        &self,
        actor: &Actor,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<(), ManageError> {
        let mut ancestor = record.predecessor;
        for _ in 0..LONGEST_LINE {
            let Some(id) = ancestor else { break };
            let Some(stored) = self.read(id).await? else {
                break;
            };
            if stored.tenant != record.tenant {
                break;
            }
            ancestor = stored.predecessor;
            if stored.revocation.is_some() {
                continue;
            }
            let is_over = KeyRecord::decode(stored.clone())
                .is_ok_and(|record| self.judge(record, Some(now)).is_superseded(now));
            if is_over {
                let (set, _) = self.revocation(actor, &stored, now, &RevokeReason::Rotated);
                match self.commit(&set).await?.outcomes.as_slice() {
                    [Outcome::Revoked | Outcome::AlreadyRevoked { .. } | Outcome::Missing] => {}
                    _ => return Err(broken_contract()),
                }
            }
        }
        Ok(())
    }

    /// Returns the instant from which only the successor is valid. `None` if the old key is valid until revoked.
    fn overlap_end(
        &self,
        rotation: &Rotation,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, InvalidKey> {
        let end = match rotation.overlap {
            Overlap::UntilRevoked => return Ok(None),
            Overlap::None => return Ok(Some(now)),
            Overlap::Until(instant) => normalized(instant),
            Overlap::For(duration) => later(now, duration).and_then(normalized),
        };
        let end = end.ok_or(InvalidKey::Instant)?;
        if end <= now || self.parts.passed.include(unix_micros(end)) {
            return Err(InvalidKey::Overlap);
        }
        Ok(Some(record.expires_at.map_or(end, |own| own.min(end))))
    }
}
