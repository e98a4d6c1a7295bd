//! Changing an existing key; suspending and resuming one.

use time::OffsetDateTime;

use super::issue::quota_text;
use super::{Authorized, InvalidKey, ManageError, OnKey, broken_store};
use crate::audit::{EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{KeyRecord, KeyStatus, RevokeReason, StoredKey};
use crate::store::{Change, Outcome, StoreError};

/// Number of attempts at a change while other callers change the key at the same time.
pub(super) const AMEND_TRIES: u32 = 8;

/// Reason with which an update revokes a key that expired while its expiry was being put off.
const EXPIRED: &str = "expired";

/// The new record of a key, and the action and changes for its event.
pub(super) struct Amendment {
    pub(super) record: KeyRecord,
    pub(super) action: EventAction,
    pub(super) changes: Vec<FieldChange>,
}

impl OnKey<'_> {
    pub(super) async fn suspend(self) -> Result<KeyRecord, ManageError> {
        self.amend(|record, now| {
            if let Some(at) = record.suspended_at {
                return Err(ManageError::AlreadySuspended { at });
            }
            let mut with = record.clone();
            with.suspended_at = Some(now);
            Ok(Some(Amendment {
                record: with,
                action: EventAction::KeySuspended,
                changes: vec![FieldChange::set("suspended_at", rfc3339(now))],
            }))
        })
        .await
    }

    pub(super) async fn resume(self) -> Result<KeyRecord, ManageError> {
        let by = self.by;
        let rules = by.rules_of(&self.stored.tenant).await?;
        self.amend(|record, _| {
            by.check_ceiling(record)?;
            let at = record.suspended_at.ok_or(ManageError::NotSuspended)?;
            rules.check(record, &by.catalog)?;
            let mut with = record.clone();
            with.suspended_at = None;
            let change = FieldChange::of("suspended_at", Some(rfc3339(at)), None);
            Ok(Some(Amendment {
                record: with,
                action: EventAction::KeyResumed,
                changes: vec![change],
            }))
        })
        .await
    }

    /// Changes the key and commits on the condition that it is still as it was read.
    ///
    /// If another caller changed the key meanwhile, the manager reads and checks the key again, and asks the policy
    /// about the operation again. If `change` returns `None`, there is nothing to do.
    pub(super) async fn amend(
        self,
        change: impl Fn(&KeyRecord, OffsetDateTime) -> Result<Option<Amendment>, ManageError>,
    ) -> Result<KeyRecord, ManageError> {
        let (by, mut stored) = (self.by, self.stored);
        for _ in 0..AMEND_TRIES {
            let (record, now) = by.live(stored)?;
            let Some(amendment) = change(&record, now)? else {
                return Ok(record);
            };
            if let Some(with) = by.replace(&record, amendment, now).await? {
                return Ok(with);
            }
            stored = by.again(self.operation).await?;
        }
        Err(StoreError::Conflict.into())
    }
}

impl Authorized<'_> {
    /// Commits a change of a key on the condition that it is still as it was read. `None` if it is not.
    pub(super) async fn replace(
        &self,
        record: &KeyRecord,
        amendment: Amendment,
        now: OffsetDateTime,
    ) -> Result<Option<KeyRecord>, ManageError> {
        let Amendment {
            record: mut with,
            action,
            changes,
        } = amendment;
        let stored = with.encode().map_err(InvalidKey::Unwritable)?;
        let event = self.event_of(now, action, &stored, changes);
        let replace = Change::Replace {
            expected: record.revision,
            with: Box::new(stored.clone()),
        };
        match self.commit_one(replace, event).await {
            Ok(Outcome::Replaced) => {
                with.revision = record.revision.saturating_add(1);
                self.end_if_late(record, &with, &stored).await?;
                Ok(Some(with))
            }
            Ok(_) => Err(broken_store().into()),
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Revokes a key if its end came while a later end was being committed: an end that may have been seen to pass
    /// stays one.
    async fn end_if_late(
        &self,
        was: &KeyRecord,
        with: &KeyRecord,
        stored: &StoredKey,
    ) -> Result<(), ManageError> {
        let Some(end) = was
            .end()
            .filter(|end| with.end().is_none_or(|new| new > *end))
        else {
            return Ok(());
        };
        // Without a clock no node has seen the end pass.
        let Some(now) = self.now().ok().filter(|now| self.has_passed(end, *now)) else {
            return Ok(());
        };
        let reason = RevokeReason::from_stored(EXPIRED);
        let (change, event) = self.revocation(now, stored, end.min(now), reason);
        match self.commit_one(change, event).await? {
            Outcome::Revoked | Outcome::AlreadyRevoked { .. } | Outcome::Missing => {
                Err(ManageError::Ended(KeyStatus::Expired))
            }
            _ => Err(broken_store().into()),
        }
    }

    /// Returns the key's record and the instant of the check, if the key has not ended by then.
    pub(super) fn live(
        &self,
        stored: StoredKey,
    ) -> Result<(KeyRecord, OffsetDateTime), ManageError> {
        let record = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
        if let Some(revocation) = record.revocation() {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.now()?;
        let record = self.judge(record, Some(now));
        match record.status(now) {
            status @ (KeyStatus::Revoked | KeyStatus::Expired) => Err(ManageError::Ended(status)),
            KeyStatus::Active | KeyStatus::NotYetValid | KeyStatus::Suspended => Ok((record, now)),
        }
    }
}

/// Sets the expiry of a key, also as the one that a further successor takes over.
pub(super) fn set_expiry(record: &mut KeyRecord, end: Option<OffsetDateTime>) {
    record.restrictions.expires_at = end;
    if let Some(rotated) = &mut record.rotation {
        rotated.own_end = end;
    }
}

/// Returns the fields in which two records of a key differ.
pub(super) fn differences(record: &KeyRecord, with: &KeyRecord) -> Vec<FieldChange> {
    let (from, to) = (&record.restrictions, &with.restrictions);
    [
        change("title", &record.title, &with.title, shown),
        change("metadata", &record.metadata, &with.metadata, |metadata| {
            Some(metadata.to_json())
        }),
        change("access", &from.access, &to.access, shown),
        change("resources", &from.resources, &to.resources, shown),
        change("networks", &from.networks, &to.networks, shown),
        change("quotas", &from.quotas, &to.quotas, |quotas| {
            let quotas: Vec<_> = quotas.iter().map(quota_text).collect();
            (!quotas.is_empty()).then(|| quotas.join(", "))
        }),
        change("concurrency", &from.concurrency, &to.concurrency, |limit| {
            limit.map(|limit| limit.to_string())
        }),
        change("not_before", &from.not_before, &to.not_before, instant),
        change("expires_at", &from.expires_at, &to.expires_at, instant),
        change(
            "suspended_at",
            &record.suspended_at,
            &with.suspended_at,
            instant,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Compares a field's values, not their texts: the texts are only for the event.
fn change<T: PartialEq>(
    field: &'static str,
    from: &T,
    to: &T,
    text: impl Fn(&T) -> Option<String>,
) -> Option<FieldChange> {
    (from != to).then(|| FieldChange::of(field, text(from), text(to)))
}

fn shown(value: &impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn instant(at: &Option<OffsetDateTime>) -> Option<String> {
    at.map(rfc3339)
}
