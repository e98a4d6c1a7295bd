//! Ending many keys at once.
//!
//! A cutoff does it: one commit ends every key in its scope that was issued before an instant, and makes an `issue`
//! that began before it fail. As with a single revocation, this node refuses the keys once the commit has returned,
//! and other nodes at most a lease later.
//!
//! 1. The manager revokes one by one the keys that a cutoff at this instant would miss, because another node's clock
//!    runs ahead and dated them later.
//! 2. It commits the cutoff.
//! 3. It also stores each key that has ended as revoked. This can be interrupted and continued at any point.

use time::OffsetDateTime;

use super::amend::AMEND_TRIES;
use super::{Actor, KeyManager, ManageError, Operation, broken_contract, broken_store};
use crate::audit::{EventAction, FieldChange};
use crate::clock::{normalized, rfc3339};
use crate::key::{Principal, RevokeReason, StoredKey, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, CutoffScope, KeyFilter, ListQuery, Outcome, StoreError,
};

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
    owner: Option<Principal>,
    before: Option<OffsetDateTime>,
    reason: RevokeReason,
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
    pub fn issued_before(mut self, instant: OffsetDateTime) -> Self {
        self.before = Some(instant);
        self
    }
}

/// The result of revoking many keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevokedAll {
    /// Every key issued before this instant has ended.
    pub before: OffsetDateTime,
    /// Number of keys that this call revoked.
    pub revoked: u64,
    /// Whether the cutoff was moved to that instant.
    pub cutoff: CutoffChange,
}

/// The effect of a call on a cutoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl KeyManager {
    /// Revokes all keys of a tenant, or of one of its owners.
    ///
    /// A key that is issued at the same time is either revoked too, or refused, or dated no earlier than the instant
    /// of this call. As with a single revocation, the manager does not check the actor's ceiling, and other nodes
    /// refuse the keys at most a [lease](crate::verifier::KeyCache::lease) later.
    ///
    /// # Errors
    /// [`ManageError::Unfinished`] if all these keys have ended, but not all are listed as revoked yet: call it again
    /// with the instant in the error. After any other error some keys may still be valid: repeat the call unchanged.
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::InTheFuture`],
    /// [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn revoke_all(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        what: RevokeAll,
    ) -> Result<RevokedAll, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        let RevokeAll {
            owner,
            before: asked,
            reason,
        } = what;
        let reason = reason.masked(&self.parts.format.redactor());
        let operation = Operation::RevokeAll {
            tenant,
            owner: owner.as_ref(),
            before: asked,
            reason: &reason,
        };
        self.ask(actor, &operation).await?;
        let now = self.now()?;
        let before = self.past(asked.unwrap_or(now), now)?;
        let scope = match &owner {
            Some(owner) => CutoffScope::Owner {
                tenant: tenant.clone(),
                owner: owner.clone(),
            },
            None => CutoffScope::from(tenant),
        };
        let mut revoked = 0;
        if asked.is_none() {
            // A cutoff at this instant does not end keys dated now or later, by a clock that runs ahead.
            let later = Dated::NotBefore(before);
            revoked += self.sweep(actor, &scope, now, &reason, later).await?;
        }
        let cutoff = self
            .cut_off(actor, scope.clone(), before, now, Some(&reason))
            .await?;
        // Now without regard to dates: a key dated ahead may have been added in between.
        let dated = match asked {
            Some(_) => Dated::Before(before),
            None => Dated::Whenever,
        };
        match self.sweep(actor, &scope, now, &reason, dated).await {
            Ok(swept) => revoked += swept,
            Err(source) => return Err(ManageError::Unfinished { before, source }),
        }
        Ok(RevokedAll {
            before,
            revoked,
            cutoff,
        })
    }

    /// Revokes the keys of these dates in a scope of one tenant, as the latest list shows them.
    async fn sweep(
        &self,
        actor: &Actor,
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
            let each = keys.map(|key| (key, now, reason.clone()));
            revoked += self.revoke_each(actor, now, each).await?.revoked;
            match page.next {
                Some(place) if !has_passed => query = query.after(place),
                _ => return Ok(revoked),
            }
        }
    }

    /// Ends every key in a scope that was issued before an instant: at once, in one commit.
    ///
    /// This is the kill switch, and the way back from a restored backup that has revived revoked keys.
    ///
    /// The dates are those of the nodes that issued the keys: a node with a clock that ran ahead may have dated a key
    /// later. The keys are listed as revoked without being written to. Until [`revoke_all`](Self::revoke_all) writes
    /// to them, they count towards a tenant's [cap](super::TenantRules::max_keys). This call only moves a cutoff
    /// forward: an earlier one changes nothing, and the answer is [`CutoffChange::Unchanged`].
    ///
    /// As long as a cutoff lies in a node's future, that node issues no keys in its scope
    /// ([`ManageError::ClockBehindCutoff`]): after a step of the clock back, or if the cutoff was set under a clock
    /// that was ahead. [`lower_cutoff`](Self::lower_cutoff) is the way back.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's (for [`CutoffScope::All`], unless it acts for all),
    /// or by policy; [`ManageError::InTheFuture`], [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn deny_issued_before(
        &self,
        actor: &Actor,
        instant: OffsetDateTime,
        scope: impl Into<CutoffScope>,
    ) -> Result<CutoffChange, ManageError> {
        let scope = scope.into();
        if !acts_for(actor, &scope) {
            return Err(ManageError::Refused);
        }
        let operation = Operation::DenyIssuedBefore {
            scope: &scope,
            instant,
        };
        self.ask(actor, &operation).await?;
        let now = self.now()?;
        let before = self.past(instant, now)?;
        self.cut_off(actor, scope, before, now, None).await
    }

    /// Moves a cutoff that lies in the future back to now: the way back if it was set under a clock that was ahead.
    ///
    /// Returns the earlier position of the cutoff. `None` if it does not lie in the future; the call then does
    /// nothing.
    ///
    /// Every key that was issued before now stays ended, and keys issued from now on are valid. A cutoff never moves
    /// back further than to now.
    ///
    /// # Errors
    /// [`ManageError::WouldRevive`] if a key in the scope is dated in the future and not revoked: it was issued by a
    /// clock that was ahead, and the cutoff has ended it. [`revoke_all`](Self::revoke_all) revokes such keys.
    /// [`ManageError::Refused`] if the tenant is not the actor's (for [`CutoffScope::All`], unless it acts for all),
    /// or by policy; [`ManageError::Clock`], [`ManageError::Store`].
    ///
    /// # Security
    /// Call it once the clock of every node is right. If a clock is still ahead, on this node or another, keys dated
    /// in the future can be issued, which the next cutoff does not end.
    pub async fn lower_cutoff(
        &self,
        actor: &Actor,
        scope: impl Into<CutoffScope>,
    ) -> Result<Option<OffsetDateTime>, ManageError> {
        let scope = scope.into();
        if !acts_for(actor, &scope) {
            return Err(ManageError::Refused);
        }
        let operation = Operation::LowerCutoff { scope: &scope };
        self.ask(actor, &operation).await?;
        let redactor = self.parts.format.redactor();
        for _ in 0..AMEND_TRIES {
            let standing = self.standing([scope.clone()]).await?;
            let now = self.now()?;
            let standing = standing.into_iter().flatten().next();
            let Some(from) = standing.filter(|from| *from > now) else {
                return Ok(None);
            };
            let changes = vec![
                FieldChange::set("scope", scope.to_string()),
                FieldChange::of("before", Some(rfc3339(from)), Some(rfc3339(now))),
            ];
            let tenant = scope.tenant().cloned();
            let action = EventAction::CutoffLowered;
            let event = actor.event_of_many(now, action, tenant, changes, &redactor);
            let change = Change::LowerCutoff {
                scope: scope.clone(),
                from,
                to: now,
            };
            let id = ChangeId::generate(&*self.parts.random);
            let set = ChangeSet::one(id, change).with_event(event);
            match self.commit(&set).await?.outcomes.as_slice() {
                [Outcome::CutoffLowered] => return Ok(Some(from)),
                [Outcome::WouldRevive] => return Err(ManageError::WouldRevive),
                // Another cutoff was set meanwhile.
                [Outcome::CutoffStands { .. }] => {}
                _ => return Err(broken_contract()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Reads the current cutoffs of these scopes.
    pub(super) async fn standing(
        &self,
        scopes: impl IntoIterator<Item = CutoffScope>,
    ) -> Result<Vec<Option<OffsetDateTime>>, ManageError> {
        // Lowering a cutoff to its own instant has no effect: the outcome only reports the current cutoff.
        let same = OffsetDateTime::UNIX_EPOCH;
        let changes = scopes.into_iter().map(|scope| Change::LowerCutoff {
            scope,
            from: same,
            to: same,
        });
        let id = ChangeId::generate(&*self.parts.random);
        let set = ChangeSet::new(id, changes).ok_or_else(broken_contract)?;
        let outcomes = self.commit(&set).await?.outcomes;
        if outcomes.len() != set.changes().len() {
            return Err(broken_contract());
        }
        let standing = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::CutoffStands { at } => Ok(at),
            _ => Err(broken_contract()),
        });
        standing.collect()
    }

    /// Returns the instant if it is not in the future: a cutoff there would refuse every key until then.
    pub(super) fn past(
        &self,
        instant: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, ManageError> {
        let instant = normalized(instant).filter(|instant| *instant <= now);
        instant.ok_or(ManageError::InTheFuture)
    }

    pub(super) async fn cut_off(
        &self,
        actor: &Actor,
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
        let redactor = self.parts.format.redactor();
        let tenant = scope.tenant().cloned();
        let event = actor.event_of_many(now, EventAction::KeysCutOff, tenant, changes, &redactor);
        let id = ChangeId::generate(&*self.parts.random);
        let set = ChangeSet::one(id, Change::Cutoff { scope, before }).with_event(event);
        match self.commit(&set).await?.outcomes.as_slice() {
            [Outcome::CutOff] => Ok(CutoffChange::Set),
            [Outcome::AlreadyCutOff] => Ok(CutoffChange::Unchanged),
            _ => Err(broken_contract()),
        }
    }

    /// Revokes up to [`ChangeSet::MAX_CHANGES`] keys in one commit, each as of an instant and for a reason.
    pub(super) async fn revoke_each<'a>(
        &self,
        actor: &Actor,
        now: OffsetDateTime,
        keys: impl Iterator<Item = (&'a StoredKey, OffsetDateTime, RevokeReason)>,
    ) -> Result<Swept, StoreError> {
        let redactor = self.parts.format.redactor();
        let (changes, events): (Vec<_>, Vec<_>) = keys
            .map(|(key, at, reason)| {
                let mut fields = vec![FieldChange::set("revoked", reason.as_str())];
                if at != now {
                    fields.push(FieldChange::set("revoked_at", rfc3339(at)));
                }
                let event = actor.event(now, EventAction::KeyRevoked, key, fields, &redactor);
                let id = key.id;
                (Change::Revoke { id, at, reason }, event)
            })
            .unzip();
        let id = ChangeId::generate(&*self.parts.random);
        let Some(set) = ChangeSet::new(id, changes) else {
            return Ok(Swept::default()); // No keys: a page never exceeds the limit of a set.
        };
        let events = events.into_iter().enumerate();
        let set = events.fold(set, |set, (change, event)| set.with_event_of(change, event));
        let committed = self.commit(&set).await?;
        let mut swept = Swept::default();
        for outcome in &committed.outcomes {
            match outcome {
                Outcome::Revoked => swept.revoked += 1,
                Outcome::AlreadyRevoked { .. } => swept.already += 1,
                Outcome::Missing => swept.missing += 1,
                _ => return Err(broken_store()),
            }
        }
        if committed.outcomes.len() == set.changes().len() {
            Ok(swept)
        } else {
            Err(broken_store())
        }
    }
}

/// Returns whether the actor acts for every tenant in a scope.
fn acts_for(actor: &Actor, scope: &CutoffScope) -> bool {
    match scope.tenant() {
        Some(tenant) => actor.acts_for(tenant),
        None => actor.acts_for_all(),
    }
}

/// The outcomes of several revocations.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) revoked: u64,
    pub(super) already: u64,
    pub(super) missing: u64,
}
