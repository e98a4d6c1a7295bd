//! The calls after a leak, and after a restored backup.

use super::{
    Actor, FoundKey, KeyBound, KeyManager, ManageError, Operation, PageCursor, Replayed,
    RestrictionPage, Revoked,
};
use crate::key::{PresentedKey, TenantId};

/// # After a leak
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
    ) -> Result<FoundKey, ManageError> {
        let by = self.authorize(actor, Operation::FindOwner { found: None });
        by.await?.find_owner(presented).await
    }

    /// Revokes the key that a leaked text belongs to, with the reason [`RevokeReason::Leaked`].
    ///
    /// The manager asks the policy twice: whether the actor may look up texts, and whether it may revoke this key.
    ///
    /// # Errors
    /// As [`find_owner`](Self::find_owner), and as [`revoke`](Self::revoke).
    ///
    /// [`RevokeReason::Leaked`]: crate::key::RevokeReason::Leaked
    pub async fn revoke_leaked(
        &self,
        actor: &Actor,
        presented: PresentedKey<'_>,
    ) -> Result<Revoked, ManageError> {
        let by = self.authorize(actor, Operation::FindOwner { found: None });
        by.await?.revoke_leaked(presented).await
    }
}

/// # After a restored backup
impl KeyManager {
    /// Exports a page of the most that each of a tenant's keys may do, after the page that returned this cursor.
    ///
    /// Export regularly, and keep the export apart from the store: if it is [replayed](Self::replay_restrictions), it
    /// takes from a restored backup the powers that the keys had lost since. Begin without a cursor, and continue with
    /// [`next`](RestrictionPage::next) while [`has_more`](RestrictionPage::has_more). Keep the last cursor with the
    /// export: it returns the keys that were revoked since. Keys that were suspended or narrowed since need a new
    /// export.
    ///
    /// Each key is exported as it is when its page is read. Keys that a cutoff has ended are exported as revoked.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Cursor`] if the cursor
    /// belongs to another tenant's export; [`ManageError::Store`].
    pub async fn export_restrictions(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        after: Option<PageCursor>,
    ) -> Result<RestrictionPage, ManageError> {
        let by = self.authorize(actor, Operation::ExportRestrictions { tenant });
        by.await?.export_restrictions(tenant, after).await
    }

    /// Takes from the named keys the powers that they did not have when they were exported, after a backup was
    /// restored.
    ///
    /// It only ever takes. It revokes a key that was revoked. Any other key keeps, of its access, resources, networks,
    /// quotas, limit on concurrent requests and expiry, the part that both it and the export allow, and is suspended
    /// if it was. If the two have nothing in common that a key can express, the manager suspends the key and
    /// [names](Replayed::suspended) it: update it, and [resume](Self::resume) it. The manager checks neither the
    /// actor's ceiling nor the tenant's rules.
    ///
    /// Repeat the call with the whole export after an error or a crash: completed changes stay.
    ///
    /// The guide has [the steps of a restore](crate::manual::management#a-backup-was-restored-what-now), and what an
    /// export does not cover.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if a tenant is not the actor's, or by policy, and [`ManageError::Invalid`] for a
    /// restriction that no key can carry, both before anything is done; [`ManageError::Clock`],
    /// [`ManageError::Store`].
    pub async fn replay_restrictions(
        &self,
        actor: &Actor,
        restrictions: impl IntoIterator<Item = KeyBound>,
    ) -> Result<Replayed, ManageError> {
        let restrictions: Vec<_> = restrictions.into_iter().collect();
        let mut tenants: Vec<_> = restrictions.iter().map(|one| &one.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut by = None;
        for tenant in tenants {
            let operation = Operation::ReplayRestrictions { tenant };
            by = Some(self.authorize(actor, operation).await?);
        }
        match by {
            Some(by) => by.replay_restrictions(restrictions).await,
            None => self.parts.now().map(|_| Replayed::default()),
        }
    }
}
