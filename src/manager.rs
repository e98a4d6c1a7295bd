//! Issues, lists and revokes keys, for actors that the host's policy allows.
//!
//! Every call names an [`Actor`] and a tenant, asks the [`Policy`], and commits its [`Event`](crate::audit::Event) together
//! with the change. A key of a tenant that is not the actor's and a key that does not exist give the same answer.

mod actor;
mod ceiling;
mod error;
mod issue;
mod new_key;
mod policy;

pub use crate::store::{KeyQuery, PageCursor};
pub use actor::{Actor, Tenants};
pub use ceiling::{Axis, Ceiling, Limits};
pub use error::{InvalidKey, ManageError};
pub use issue::Issued;
pub use new_key::{Expiry, KeyRequest, NewKey};
pub use policy::{AllowAll, Operation, Policy, PolicyError, Ruling};

use std::num::NonZeroU32;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::audit::{EventAction, FieldChange};
use crate::clock::{Clock, normalized};
use crate::hashing::Hasher;
use crate::key::{
    KeyFormat, KeyId, KeyRecord, RevokeReason, ScopeCatalog, StoredKey, TenantId, Title,
};
use crate::random::RandomSource;
use crate::store::{Change, ChangeId, ChangeSet, Committed, KeyStore, Outcome, StoreError};

/// Issues, lists and revokes keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyManager {
    parts: Arc<Parts>,
}

/// What a manager is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) keys_per_tenant: Option<NonZeroU32>,
}

/// How often a commit whose outcome is unknown is tried in all.
const COMMIT_TRIES: u32 = 3;

impl KeyManager {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// The format in which keys are issued.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.parts.format
    }

    /// The scopes that can be granted, for those who choose among them.
    #[must_use]
    pub fn scopes(&self) -> &ScopeCatalog {
        &self.parts.catalog
    }

    /// One key of a tenant's.
    ///
    /// # Errors
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's;
    /// [`ManageError::Refused`] by policy; [`ManageError::Store`] and [`ManageError::Unreadable`].
    pub async fn get(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        self.ask(actor, &Operation::Get { tenant, id }).await?;
        let stored = self.find(tenant, id).await?;
        KeyRecord::decode(stored).map_err(ManageError::Unreadable)
    }

    /// A page of a tenant's keys.
    ///
    /// ```
    /// # use keyward::{Keyward, key::{Access, KeyFormat, TenantId}, store::MemoryStore};
    /// # use keyward::manager::{Actor, AllowAll, NewKey};
    /// use keyward::store::{KeyQuery, PageCursor};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let format = KeyFormat::new("acme")?.environment("live")?;
    /// # let keyward = Keyward::builder(MemoryStore::new()).format(format).policy(AllowAll).open().await?;
    /// # let (tenant, actor) = (TenantId::new("acme-inc")?, Actor::system("docs"));
    /// # for n in 0..3 {
    /// #     let key = NewKey::new(tenant.clone(), format!("key {n}"), Access::Full);
    /// #     keyward.manager().issue(&actor, key).await?;
    /// # }
    /// let query = || KeyQuery::of(&tenant).live_first().limit(2);
    /// let first = keyward.manager().list(&actor, &query()).await?;
    /// let link = first.next.ok_or("one page only")?.to_string(); // into the link to the next page
    ///
    /// let cursor: PageCursor = link.parse()?; // and back, when it is followed
    /// let second = keyward.manager().list(&actor, &query().after(cursor)?).await?;
    /// assert_eq!((first.keys.len(), second.keys.len()), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Store`].
    pub async fn list(&self, actor: &Actor, query: &KeyQuery) -> Result<KeyList, ManageError> {
        let tenant = query.tenant();
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::List { tenant }).await?;
        let page = self.parts.store.list(query).await?;
        let mut list = KeyList {
            keys: Vec::with_capacity(page.items.len()),
            unreadable: Vec::new(),
            next: page.next,
        };
        for stored in page.items {
            let id = stored.id;
            if stored.tenant != *tenant {
                return Err(ManageError::Store(StoreError::Corrupt(
                    "the store listed another tenant's key".into(),
                )));
            }
            match KeyRecord::decode(stored) {
                Ok(record) => list.keys.push(record),
                Err(_) => list.unreadable.push(id),
            }
        }
        Ok(list)
    }

    /// Revokes a key: at once, for good, and whatever else is being done to it.
    ///
    /// Once this has returned, no verification that starts is granted. It needs neither a readable document, nor
    /// a random source, nor a clock: without one the revocation is dated at the key's own creation. The actor's
    /// ceiling does not bind it, since ending a key gives nobody more; the policy does. The text of a key in the
    /// reason is masked.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRevoked`] the second time, [`ManageError::NotFound`] if the tenant has no such key
    /// or is not the actor's, [`ManageError::Refused`] by policy, [`ManageError::Store`]. After
    /// [`StoreError::Indeterminate`] call it again: it may have been revoked.
    pub async fn revoke(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        reason: RevokeReason,
    ) -> Result<Revoked, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let redactor = self.parts.format.redactor();
        let reason = reason.masked(&redactor);
        let operation = Operation::Revoke {
            tenant,
            id,
            reason: &reason,
        };
        self.ask(actor, &operation).await?;
        let stored = self.find(tenant, id).await?;
        if let Some(revocation) = stored.revocation {
            return Err(ManageError::AlreadyRevoked { at: revocation.at });
        }
        let now = self.parts.clock.now().ok().and_then(normalized);
        let at = now.unwrap_or(stored.created_at);
        let changes = vec![FieldChange::set("revoked", reason.as_str())];
        let event = actor.event(at, EventAction::KeyRevoked, &stored, changes, &redactor);
        let change = Change::Revoke {
            id,
            at,
            reason: reason.clone(),
        };
        let change_id = ChangeId::generate(&*self.parts.random);
        let set = ChangeSet::one(change_id, change).with_event(event);
        match self.commit(&set).await?.outcomes.as_slice() {
            [Outcome::Revoked] => Ok(Revoked {
                id,
                title: stored.title,
                at,
                reason,
            }),
            [Outcome::AlreadyRevoked { at }] => Err(ManageError::AlreadyRevoked { at: *at }),
            [Outcome::Missing] => Err(ManageError::NotFound),
            _ => Err(broken_contract()),
        }
    }

    async fn ask(&self, actor: &Actor, operation: &Operation<'_>) -> Result<(), ManageError> {
        match self.parts.policy.rule(actor, operation).await {
            Ok(Ruling::Allow) => Ok(()),
            Ok(Ruling::Refuse) => Err(ManageError::Refused),
            Err(error) => Err(ManageError::Policy(error)),
        }
    }

    /// The key as stored, if it is the tenant's.
    async fn find(&self, tenant: &TenantId, id: KeyId) -> Result<StoredKey, ManageError> {
        let stored = self.parts.store.get(id).await?;
        stored
            .filter(|stored| stored.id == id && stored.tenant == *tenant)
            .ok_or(ManageError::NotFound)
    }

    /// Commits, and repeats under the same id where the answer was lost.
    ///
    /// Once an answer was lost, an error that is no answer of the store's about this set says nothing about
    /// whether the first try took place: it is not passed on as one after which nothing was changed.
    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut lost = None;
        for _ in 0..COMMIT_TRIES {
            match self.parts.store.commit(set).await {
                Err(StoreError::Indeterminate(source)) => lost = Some(source),
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Corrupt(_)
                    | StoreError::Unsupported),
                ) => {
                    return Err(match lost {
                        Some(_) => StoreError::Indeterminate(Box::new(error)),
                        None => error,
                    });
                }
                settled => return settled,
            }
        }
        Err(StoreError::Indeterminate(
            lost.unwrap_or_else(|| "the store gave no answer".into()),
        ))
    }

    fn now(&self) -> Result<OffsetDateTime, ManageError> {
        let now = self.parts.clock.now().map_err(|_| ManageError::Clock)?;
        normalized(now).ok_or(ManageError::Clock)
    }
}

/// A page of a tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyRecord>,
    /// Keys on this page that cannot be read: damaged, or written by a later version. They are never granted.
    pub unreadable: Vec<KeyId>,
    /// Where to go on; none on the last page.
    pub next: Option<PageCursor>,
}

/// A key that was just revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// Which key.
    pub id: KeyId,
    /// What it was called.
    pub title: Title,
    /// When.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevokeReason,
}

fn broken_contract() -> ManageError {
    ManageError::Store(StoreError::Corrupt(
        "the store's outcomes do not match the changes".into(),
    ))
}
