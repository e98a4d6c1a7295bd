//! Changing an existing key; suspending and resuming one.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::time::sleep;

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

/// Times to wait before that revocation is tried again: half a minute together.
const REVOCATION_DELAYS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
    Duration::from_secs(15),
];

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
    ///
    /// If the change puts off the key's end, the call runs to its end even if the caller goes away: the end may come
    /// meanwhile, and must then be brought about.
    pub(super) async fn replace(
        &self,
        record: &KeyRecord,
        amendment: Amendment,
        now: OffsetDateTime,
    ) -> Result<Option<KeyRecord>, ManageError> {
        let new_end = amendment.record.end();
        let Some(end) = record
            .end()
            .filter(|end| new_end.is_none_or(|new| new > *end))
        else {
            return self.replace_in_one(record, amendment, now).await;
        };
        let (by, record) = (self.detached(), record.clone());
        let putting_off = async move {
            let by = by.authorized();
            by.put_off(&record, end, amendment, now).await
        };
        match Handle::try_current() {
            Ok(runtime) => match runtime.spawn(putting_off).await {
                Ok(answer) => answer,
                Err(stopped) => Err(StoreError::Indeterminate(stopped.into()).into()),
            },
            Err(_) => putting_off.await,
        }
    }

    /// Puts off the end of a key. If that end comes during the commit, some node may have seen it pass, so it stays the
    /// end: the key is revoked.
    async fn put_off(
        &self,
        record: &KeyRecord,
        end: OffsetDateTime,
        amendment: Amendment,
        now: OffsetDateTime,
    ) -> Result<Option<KeyRecord>, ManageError> {
        let replaced = self.replace_in_one(record, amendment, now).await;
        let may_be_stored = matches!(
            replaced,
            Ok(Some(_)) | Err(ManageError::Store(StoreError::Indeterminate(_)))
        );
        // Without a clock no node has seen the end pass.
        let is_late = |now: &OffsetDateTime| self.has_passed(end, *now);
        match self.now().ok().filter(is_late) {
            Some(now) if may_be_stored => Err(self.end_late(record, end, now).await),
            _ => replaced,
        }
    }

    /// Revokes a key that has expired while its end was put off. Returns the answer to the call that put it off.
    async fn end_late(
        &self,
        record: &KeyRecord,
        end: OffsetDateTime,
        now: OffsetDateTime,
    ) -> ManageError {
        let stored = match record.encode() {
            Ok(stored) => stored,
            Err(error) => return InvalidKey::Unwritable(error).into(),
        };
        let mut delays = REVOCATION_DELAYS.iter();
        loop {
            let reason = RevokeReason::from_stored(EXPIRED);
            let (change, event) = self.revocation(now, &stored, end.min(now), reason);
            let error = match self.commit_one(change, event).await {
                Ok(Outcome::Revoked | Outcome::AlreadyRevoked { .. } | Outcome::Missing) => {
                    return ManageError::Ended(KeyStatus::Expired);
                }
                Ok(_) => broken_store(),
                Err(error) => error,
            };
            match delays.next() {
                Some(delay) => sleep(*delay).await,
                None => return StoreError::Indeterminate(error.into()).into(),
            }
        }
    }

    /// Commits a change of a key on the condition that it is still as it was read. `None` if it is not.
    async fn replace_in_one(
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
            with: Box::new(stored),
        };
        match self.commit_one(replace, event).await {
            Ok(Outcome::Replaced) => {
                with.revision = record.revision.saturating_add(1);
                Ok(Some(with))
            }
            Ok(_) => Err(broken_store().into()),
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
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
