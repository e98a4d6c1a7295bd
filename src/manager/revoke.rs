//! Ending one key, or many at once.
//!
//! A cutoff ends many: one commit ends every key in its scope that was issued before an instant, and makes an `issue`
//! that began before it fail. As with a single revocation, this node refuses the keys once the commit has returned,
//! and other nodes at most a lease later.
//!
//! 1. The manager revokes one by one the keys that a cutoff at this instant would miss, because another node's clock
//!    runs ahead and dated them later.
//! 2. It commits the cutoff.
//! 3. It also stores each key that has ended as revoked. This can be interrupted and continued at any point.

use serde::Serialize;
use time::OffsetDateTime;

use super::amend::AMEND_TRIES;
use super::{Authorized, InvalidKey, ManageError, broken_store};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::{normalized, rfc3339};
use crate::key::{
    KeyId, Principal, RevokeReason, StoredKey, TenantId, Timestamp, Title, instant_of,
};
use crate::store::{Change, ChangeSet, CutoffScope, KeyFilter, ListQuery, Outcome, StoreError};

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

/// The keys of a tenant to revoke together, and the reason.
///
/// ```
/// use keyward::{key::{Principal, RevokeReason}, manager::RevokeAll};
///
/// let everything = RevokeAll::new(RevokeReason::Leaked);
/// let of_alice = RevokeAll::new(RevokeReason::Decommissioned).owner(&Principal::user("alice")?);
/// # let _ = (everything, of_alice);
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RevokeAll {
    pub(super) owner: Option<Principal>,
    pub(super) before: Option<OffsetDateTime>,
    pub(super) reason: RevokeReason,
}

impl RevokeAll {
    /// Selects all keys that the tenant has now.
    #[must_use]
    pub fn new(reason: RevokeReason) -> Self {
        Self {
            owner: None,
            before: None,
            reason,
        }
    }

    /// Selects only the keys of this owner.
    #[must_use]
    pub fn owner(mut self, owner: &Principal) -> Self {
        self.owner = Some(owner.clone());
        self
    }

    /// Selects only keys issued before this instant, to continue an [interrupted](ManageError::Unfinished) call.
    #[must_use]
    pub fn issued_before(mut self, instant: impl Into<Timestamp>) -> Self {
        self.before = Some(instant_of(instant));
        self
    }
}

/// The result of revoking many keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RevokedAll {
    /// Every key issued before this instant has ended.
    #[serde(with = "time::serde::rfc3339")]
    pub before: OffsetDateTime,
    /// Number of keys that this call revoked.
    pub revoked: u64,
    /// Whether the cutoff was moved to that instant.
    pub cutoff: CutoffChange,
}

/// The effect of a call on a cutoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoffChange {
    /// The cutoff is now at the requested instant.
    Set,
    /// The cutoff was already at that instant or later, and no event records this call. All keys issued before the
    /// instant have ended nevertheless.
    Unchanged,
}

/// The dates of the keys in a sweep.
#[derive(Clone, Copy)]
enum Dated {
    Before(OffsetDateTime),
    NotBefore(OffsetDateTime),
    Whenever,
}

impl Dated {
    fn holds(self, key: &StoredKey) -> bool {
        match self {
            Self::Before(instant) => key.created_at < instant,
            Self::NotBefore(instant) => key.created_at >= instant,
            Self::Whenever => true,
        }
    }
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
    pub(super) async fn revoke_all(
        &self,
        tenant: &TenantId,
        what: RevokeAll,
    ) -> Result<RevokedAll, ManageError> {
        let reason = what.reason;
        let now = self.now()?;
        let before = past(what.before.unwrap_or(now), now)?;
        let scope = match what.owner {
            Some(owner) => CutoffScope::Owner {
                tenant: tenant.clone(),
                owner,
            },
            None => CutoffScope::from(tenant),
        };
        let mut revoked = 0;
        if what.before.is_none() {
            // A cutoff at this instant does not end keys dated now or later, by a clock that runs ahead.
            let later = Dated::NotBefore(before);
            revoked += self.sweep(&scope, now, &reason, later).await?;
        }
        let cutoff = self.cut_off(scope.clone(), before, now, Some(&reason));
        let cutoff = cutoff.await?;
        // Now without regard to dates: a key dated ahead may have been added in between.
        let dated = what.before.map_or(Dated::Whenever, Dated::Before);
        match self.sweep(&scope, now, &reason, dated).await {
            Ok(swept) => revoked += swept,
            Err(source) => return Err(ManageError::Unfinished { before, source }),
        }
        Ok(RevokedAll {
            before,
            revoked,
            cutoff,
        })
    }

    pub(super) async fn deny_issued_before(
        &self,
        instant: OffsetDateTime,
        scope: CutoffScope,
    ) -> Result<CutoffChange, ManageError> {
        let now = self.now()?;
        self.cut_off(scope, past(instant, now)?, now, None).await
    }

    pub(super) async fn lower_cutoff(
        &self,
        scope: CutoffScope,
    ) -> Result<Option<OffsetDateTime>, ManageError> {
        for _ in 0..AMEND_TRIES {
            let latest = self.latest_cutoff([scope.clone()]).await?;
            let now = self.now()?;
            let Some(from) = latest.filter(|from| *from > now) else {
                return Ok(None);
            };
            let changes = vec![
                FieldChange::set("scope", scope.to_string()),
                FieldChange::of("before", Some(rfc3339(from)), Some(rfc3339(now))),
            ];
            let action = EventAction::CutoffLowered;
            let event = self.event(now, action, scope.tenant().cloned(), changes);
            let change = Change::LowerCutoff {
                scope: scope.clone(),
                from,
                to: now,
            };
            match self.commit_one(change, event).await? {
                Outcome::CutoffLowered => return Ok(Some(from)),
                Outcome::WouldRevive => return Err(ManageError::WouldRevive),
                // Another cutoff was set meanwhile.
                Outcome::CutoffStands { .. } => {}
                _ => return Err(broken_store().into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Revokes the keys of these dates in a scope of one tenant, as the latest list shows them.
    async fn sweep(
        &self,
        scope: &CutoffScope,
        now: OffsetDateTime,
        reason: &RevokeReason,
        dated: Dated,
    ) -> Result<u64, StoreError> {
        let Some(tenant) = scope.tenant() else {
            return Err(StoreError::Unsupported);
        };
        let mut query = ListQuery::of(tenant)
            .limit(u16::try_from(ChangeSet::MAX_CHANGES).unwrap_or(1))
            .at_latest();
        if let CutoffScope::Owner { owner, .. } = scope {
            query = query.only(KeyFilter::Owner(owner.clone()));
        }
        let mut revoked = 0;
        loop {
            let page = self.read_page(&query).await?;
            // The list is newest first: every key after one that is too old is too old.
            let has_passed = match (dated, page.items.last()) {
                (Dated::NotBefore(instant), Some(last)) => last.created_at < instant,
                _ => false,
            };
            let keys = page.items.iter();
            let keys = keys.filter(|key| scope.holds(key) && dated.holds(key));
            let each = keys.map(|key| self.revocation(now, key, now, reason.clone()));
            revoked += self.revoke_each(each.collect()).await?.revoked;
            match page.next {
                Some(place) if !has_passed => query = query.after(place),
                _ => return Ok(revoked),
            }
        }
    }

    /// Reads the current cutoffs of these scopes, and returns the latest.
    pub(super) async fn latest_cutoff(
        &self,
        scopes: impl IntoIterator<Item = CutoffScope>,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        // Lowering a cutoff to its own instant has no effect: the outcome only reports the current cutoff.
        let same = OffsetDateTime::UNIX_EPOCH;
        let changes = scopes.into_iter().map(|scope| Change::LowerCutoff {
            scope,
            from: same,
            to: same,
        });
        let set = ChangeSet::new(self.change_id(), changes).ok_or_else(broken_store)?;
        let mut latest = None;
        for outcome in self.commit(&set).await? {
            match outcome {
                Outcome::CutoffStands { at } => latest = latest.max(at),
                _ => return Err(broken_store()),
            }
        }
        Ok(latest)
    }

    pub(super) async fn cut_off(
        &self,
        scope: CutoffScope,
        before: OffsetDateTime,
        now: OffsetDateTime,
        reason: Option<&RevokeReason>,
    ) -> Result<CutoffChange, ManageError> {
        let mut changes = vec![
            FieldChange::set("scope", scope.to_string()),
            FieldChange::set("before", rfc3339(before)),
        ];
        if let Some(reason) = reason {
            changes.push(FieldChange::set("revoked", reason.as_str()));
        }
        let tenant = scope.tenant().cloned();
        let event = self.event(now, EventAction::KeysCutOff, tenant, changes);
        let change = Change::Cutoff { scope, before };
        match self.commit_one(change, event).await? {
            Outcome::CutOff => Ok(CutoffChange::Set),
            Outcome::AlreadyCutOff => Ok(CutoffChange::Unchanged),
            _ => Err(broken_store().into()),
        }
    }

    /// Commits up to [`ChangeSet::MAX_CHANGES`] [revocations](Self::revocation) together.
    pub(super) async fn revoke_each(
        &self,
        revocations: Vec<(Change, Event)>,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for outcome in self.commit_all(revocations).await? {
            match outcome {
                Outcome::Revoked => swept.revoked += 1,
                Outcome::AlreadyRevoked { .. } => swept.already += 1,
                Outcome::Missing => swept.missing += 1,
                _ => return Err(broken_store()),
            }
        }
        Ok(swept)
    }
}

/// Returns the instant if it is not in the future: a cutoff there would refuse every key until then.
pub(super) fn past(
    instant: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, ManageError> {
    let instant = normalized(instant).ok_or(InvalidKey::Instant)?;
    if instant > now {
        return Err(ManageError::InTheFuture);
    }
    Ok(instant)
}

/// The outcomes of several revocations.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) revoked: u64,
    pub(super) already: u64,
    pub(super) missing: u64,
}
