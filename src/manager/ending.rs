//! The calls that end keys.

use time::OffsetDateTime;

use super::{
    Actor, CutoffChange, KeyManager, KeyRef, ManageError, Operation, RevokeAll, Revoked, RevokedAll,
};
use crate::key::{KeyId, RevokeReason, TenantId, Timestamp, instant_of};
use crate::store::CutoffScope;

/// # Ending one key or many
impl KeyManager {
    /// Revokes a key: at once, for good, and regardless of concurrent changes to it.
    ///
    /// Once this has returned, no verification that starts on this node is granted. Other nodes refuse the key as soon
    /// as they read the change from the store's change feed, and at the latest one
    /// [lease](crate::verifier::KeyCache::lease) after the start of their last completed poll, or of their read of the
    /// key.
    ///
    /// It needs neither a readable document, nor a random source, nor a clock: without a clock the revocation is dated
    /// at the key's own creation. It commits even if the event log cannot take its event. The manager asks the policy,
    /// but does not check the actor's ceiling, since ending a key gives no power. The text of a key in the reason is
    /// masked.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRevoked`] the second time, [`ManageError::NotFound`] if the tenant has no such key or is
    /// not the actor's, [`ManageError::Refused`] by policy, [`ManageError::Store`]. After
    /// [`StoreError::Indeterminate`](crate::store::StoreError::Indeterminate) call it again: the key may have been
    /// revoked.
    pub async fn revoke(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        reason: RevokeReason,
    ) -> Result<Revoked, ManageError> {
        let reason = reason.masked(&self.parts.format.redactor());
        let operation = Operation::Revoke {
            key: KeyRef::new(tenant, id),
            reason: &reason,
        };
        let key = self.authorize_on_key(actor, operation).await?;
        key.by.revoke(key.stored, reason.clone()).await
    }

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
    /// [`InvalidKey::Instant`], [`ManageError::Clock`], [`ManageError::Store`].
    ///
    /// [`InvalidKey::Instant`]: super::InvalidKey::Instant
    pub async fn revoke_all(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        mut what: RevokeAll,
    ) -> Result<RevokedAll, ManageError> {
        what.reason = what.reason.masked(&self.parts.format.redactor());
        let operation = Operation::RevokeAll {
            tenant,
            owner: what.owner.as_ref(),
            before: what.before,
            reason: &what.reason,
        };
        let by = self.authorize(actor, operation).await?;
        by.revoke_all(tenant, what).await
    }

    /// Ends every key in a scope that was issued before an instant: at once, in one commit.
    ///
    /// Such a cutoff ends all keys of a leak at once. It is also the way back from a restored backup that has revived
    /// revoked keys.
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
    /// or by policy; [`ManageError::InTheFuture`], [`InvalidKey::Instant`], [`ManageError::Clock`],
    /// [`ManageError::Store`].
    ///
    /// [`InvalidKey::Instant`]: super::InvalidKey::Instant
    pub async fn deny_issued_before(
        &self,
        actor: &Actor,
        instant: impl Into<Timestamp>,
        scope: impl Into<CutoffScope>,
    ) -> Result<CutoffChange, ManageError> {
        let (instant, scope) = (instant_of(instant), scope.into());
        let operation = Operation::DenyIssuedBefore {
            scope: &scope,
            instant,
        };
        let by = self.authorize(actor, operation).await?;
        by.deny_issued_before(instant, scope).await
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
        let by = self.authorize(actor, Operation::LowerCutoff { scope: &scope });
        by.await?.lower_cutoff(scope).await
    }
}
