//! Rotating a key to a successor.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use time::OffsetDateTime;

use super::amend::AMEND_TRIES;
use super::issue::{Addition, ID_DRAWS, not_cut_off};
use super::request_id::Cause;
use super::{
    Authorized, Expiry, InvalidKey, Issued, ManageError, OnKey, TenantRules, broken_store,
};
use crate::audit::{EventAction, FieldChange};
use crate::clock::{later, normalized, rfc3339};
use crate::key::{
    FormatError, KeyId, KeyRecord, KeyStatus, RevokeReason, Rotated, Timestamp, instant_of,
};
use crate::store::{Change, Outcome, Precondition, StoreError};

/// Most keys of a line of rotations that a call follows. In a longer line, it retires only the youngest ancestors.
const LONGEST_LINE: usize = 64;

/// Longest overlap that needs no place under a tenant's cap.
const FREE_OVERLAP: Duration = Duration::from_secs(90 * 86_400);

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

impl Overlap {
    /// Returns the overlap that ends at this instant: [`Until`](Self::Until), of any form of an instant.
    #[must_use]
    pub fn until(instant: impl Into<Timestamp>) -> Self {
        Self::Until(instant_of(instant))
    }
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
#[derive(Clone)]
pub struct Rotation {
    overlap: Overlap,
    pub(super) expiry: Asked,
    request_id: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
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
            request_id: None,
        }
    }

    /// Issues at most one successor for this request, however often it is made, as
    /// [`NewKey::request_id`](super::NewKey::request_id).
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Makes the successor invalid from this instant on.
    #[must_use]
    pub fn expires_at(mut self, instant: impl Into<Timestamp>) -> Self {
        self.expiry = Asked::Expires(Expiry::At(instant_of(instant)));
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

/// Omits unchecked text: it may hold a key.
impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation")
            .field("overlap", &self.overlap)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl From<Overlap> for Rotation {
    fn from(overlap: Overlap) -> Self {
        Self::new(overlap)
    }
}

/// The place of a successor under the tenant's cap.
///
/// INVARIANT: [`Shared`](Self::Shared) adds no line of keys that lives on: the old key ends at a fixed time, and no
/// other key of the line is unrevoked. All keys together are at most twice the cap, which the commit checks.
#[derive(Clone, Copy)]
enum Place {
    /// The old key's, which is revoked in the same commit.
    Own,
    /// The old key's too, until its overlap ends.
    Shared,
    /// One of its own.
    New,
}

/// Most unrevoked keys with shared places, in times the cap.
const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

impl OnKey<'_> {
    pub(super) async fn rotate(self, rotation: &Rotation) -> Result<Issued, ManageError> {
        let (by, mut stored) = (self.by, self.stored);
        let rules = by.rules_of(&stored.tenant).await?;
        let cause = Cause::Rotate {
            predecessor: stored.id,
            rotation,
        };
        let request_id = rotation.request_id.as_deref();
        let derived = by.derived_id(&stored.tenant, cause, request_id)?;
        let mut draws = 0;
        for _ in 0..AMEND_TRIES {
            by.refuse_repetition(&stored.tenant, derived, cause).await?;
            let (record, now) = by.live(stored)?;
            by.check_may_rotate(&record, now).await?;
            let ends_at = by.overlap_end(rotation, &record, now)?;
            let mut successor = by.successor(&record, rotation, now)?;
            rules.check(&successor, &by.catalog)?;
            by.check_ceiling(&successor)?;
            let is_first_overlap = by.retire_ancestors(&record, now).await?;
            let is_bounded = ends_at
                .is_some_and(|end| later(now, FREE_OVERLAP).is_some_and(|longest| end <= longest));
            let place = match rotation.overlap {
                Overlap::None => Place::Own,
                _ if is_first_overlap && is_bounded => Place::Shared,
                _ => Place::New,
            };

            successor.id = by.id_of_new(derived)?;
            let api_key = by.draw_secret(&mut successor).await?;
            let addition = by.succession(&record, &successor, place, ends_at, &rules)?;
            let inserted = by.insert(addition).await;
            match by.answered(&record.tenant, derived, cause, inserted).await {
                Ok(true) => {
                    return Ok(Issued {
                        api_key,
                        record: successor,
                    });
                }
                Ok(false) => {
                    draws += 1;
                    if draws >= ID_DRAWS {
                        return Err(ManageError::IdCollision);
                    }
                }
                Err(ManageError::Store(StoreError::Conflict)) => {}
                Err(ManageError::TenantFull { limit }) => {
                    let limit = rules.cap().unwrap_or(limit);
                    return Err(match place {
                        Place::New => ManageError::OverlapNeedsPlace { limit },
                        Place::Own | Place::Shared => ManageError::TenantFull { limit },
                    });
                }
                Err(error) => return Err(error),
            }
            stored = by.again(self.operation).await?;
        }
        Err(StoreError::Conflict.into())
    }
}

impl Authorized<'_> {
    async fn check_may_rotate(
        &self,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<(), ManageError> {
        self.check_actor()?;
        self.check_ceiling(record)?;
        // The successor would be active.
        if record.suspended_at.is_some() {
            return Err(ManageError::Suspended);
        }
        let environment = Some(record.environment.as_str());
        if self.format.find_environment(environment).is_none() {
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
        record: &KeyRecord,
        rotation: &Rotation,
        now: OffsetDateTime,
    ) -> Result<KeyRecord, ManageError> {
        let mut successor = record.clone();
        successor.prefix = self.format.prefix().into();
        successor.created_at = now;
        successor.created_by = self.actor().principal().clone();
        successor.restrictions.expires_at = match rotation.expiry {
            Asked::AsBefore => own_end(record),
            Asked::Never => None,
            Asked::Expires(expiry) => Some(self.end_of(expiry, now)?),
        };
        if !successor.restrictions.is_ever_valid() {
            return Err(InvalidKey::NeverValid.into());
        }
        successor.predecessor = Some(record.id);
        successor.revision = 1;
        (successor.rotation, successor.legacy) = (None, None);
        (successor.revocation, successor.cutoff) = (None, None);
        self.check_bounds(&successor.restrictions)?;
        Ok(successor)
    }

    /// Builds the addition of the successor, which also records it in the old key.
    fn succession(
        &self,
        record: &KeyRecord,
        successor: &KeyRecord,
        place: Place,
        ends_at: Option<OffsetDateTime>,
        rules: &TenantRules,
    ) -> Result<Addition, ManageError> {
        let now = successor.created_at;
        let action = EventAction::KeyIssued;
        let mut addition = self.addition(action, successor, rules, Vec::new())?;
        // If a cutoff ends the key meanwhile, its successor must not be added.
        addition.conditions.insert(0, not_cut_off(record));

        let mut old = record.clone();
        old.rotation = Some(Rotated {
            successor: successor.id,
            at: now,
            overlap_ends: ends_at,
            own_end: own_end(record),
        });
        old.restrictions.expires_at = ends_at.or(record.restrictions.expires_at);
        let old = old.encode().map_err(InvalidKey::Unwritable)?;
        let mut changes = vec![FieldChange::set("successor", successor.id.to_string())];
        if let Some(end) = ends_at {
            changes.push(FieldChange::set("overlap_ends", rfc3339(end)));
            let (from, to) = (
                record.restrictions().expires_at.map(rfc3339),
                Some(rfc3339(end)),
            );
            if from != to {
                changes.push(FieldChange::of("expires_at", from, to));
            }
        }
        let rotated = self.event_of(now, EventAction::KeyRotated, &old, changes);
        let revocation = self.revocation(now, &old, now, RevokeReason::Rotated);
        let replace = Change::Replace {
            expected: record.revision,
            with: Box::new(old),
        };
        addition.changes.push((replace, rotated));
        let is_cap = |one: &Precondition| matches!(one, Precondition::UnrevokedKeysBelow { .. });
        match place {
            Place::Own => {
                addition.changes.push(revocation);
                addition.conditions.retain(|one| !is_cap(one));
            }
            Place::Shared => {
                for condition in &mut addition.conditions {
                    if let Precondition::UnrevokedKeysBelow { limit, .. } = condition {
                        *limit = limit.saturating_mul(TWO);
                    }
                }
            }
            Place::New => {}
        }
        Ok(addition)
    }

    /// Revokes the ancestors that are past their overlap. Returns whether no other is left that is not revoked.
    async fn retire_ancestors(
        &self,
        record: &KeyRecord,
        now: OffsetDateTime,
    ) -> Result<bool, ManageError> {
        let mut are_all_revoked = true;
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
                let (change, event) = self.revocation(now, &stored, now, RevokeReason::Rotated);
                match self.commit_one(change, event).await? {
                    Outcome::Revoked | Outcome::AlreadyRevoked { .. } | Outcome::Missing => {}
                    _ => return Err(broken_store().into()),
                }
            }
            are_all_revoked &= is_over;
        }
        Ok(are_all_revoked)
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
        if self.has_passed(end, now) {
            return Err(InvalidKey::Overlap);
        }
        Ok(Some(
            record
                .restrictions()
                .expires_at
                .map_or(end, |own| own.min(end)),
        ))
    }
}

/// Returns the instant at which the key would expire without a successor. The overlap of a rotation may have brought it
/// forward.
fn own_end(record: &KeyRecord) -> Option<OffsetDateTime> {
    let own_end = record.rotation.map(|one| one.own_end);
    own_end.unwrap_or(record.restrictions.expires_at)
}
