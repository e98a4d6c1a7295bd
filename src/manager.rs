//! The management of keys, for actors that the host's policy allows.
//!
//! | to | call |
//! |---|---|
//! | make keys | [`issue`](KeyManager::issue), [`import`](KeyManager::import), [`rotate`](KeyManager::rotate) |
//! | look at them | [`get`](KeyManager::get), [`list`](KeyManager::list) by a [`KeyQuery`], [`events`][events] |
//! | change them | [`update`](KeyManager::update), [`suspend`](KeyManager::suspend), [`resume`](KeyManager::resume) |
//! | end one or many | [`revoke`](KeyManager::revoke), [`revoke_all`](KeyManager::revoke_all) |
//! | end keys by date of issue | [`deny_issued_before`][deny], [`lower_cutoff`](KeyManager::lower_cutoff) |
//! | remove them | [`purge`](KeyManager::purge), [`remove_tenant`](KeyManager::remove_tenant) |
//! | remove old events | [`cut_events`](KeyManager::cut_events) |
//! | deal with a leak | [`find_owner`](KeyManager::find_owner), [`revoke_leaked`](KeyManager::revoke_leaked) |
//! | survive a restored backup | [`export_restrictions`][export], [`replay_restrictions`][replay] |
//!
//! Every call names an [`Actor`]. The manager asks the [`Policy`] before it does anything; for a call on one key, it
//! asks after it has read the key's owner. A key of a tenant that is not the actor's and a key that does not exist
//! give the same answer. The manager checks every power that it gives, to a new key or back to an existing one,
//! against the actor's [`Ceiling`] and the [`TenantRules`]. It does not check operations that only take power away.
//!
//! If the store keeps events, each change commits together with its [`Event`](crate::audit::Event), or not at all. A
//! revocation is the one exception: it commits even if the event log cannot take its event.
//!
//! [events]: KeyManager::events
//! [deny]: KeyManager::deny_issued_before
//! [export]: KeyManager::export_restrictions
//! [replay]: KeyManager::replay_restrictions

mod actor;
mod amend;
mod ceiling;
mod cut_events;
mod draft;
mod error;
mod events;
mod import;
mod issue;
mod leaked;
mod list;
mod list_view;
mod lookups;
mod new_key;
mod page_cursor;
mod policy;
mod purge;
mod query;
mod remove_tenant;
mod replay;
mod restriction;
mod revealed;
mod revoke;
mod revoke_all;
mod rotate;
mod rules;
mod suspend;
mod update;

pub use actor::{Actor, Tenants};
pub use ceiling::{Axis, Ceiling, Limits};
pub use cut_events::CutEvents;
pub use error::{InvalidKey, ManageError};
pub use issue::Issued;
pub use leaked::Found;
pub use list::KeyList;
pub use list_view::{KeyListView, ListedKey};
pub(crate) use lookups::Lookups;
pub use new_key::{Expiry, KeyRequest, NewKey};
pub use page_cursor::{PageCursor, PageCursorError};
pub use policy::{AllowAll, Operation, Policy, PolicyError, Ruling};
pub use purge::Purged;
pub use query::KeyQuery;
pub use remove_tenant::RemovedTenant;
pub use replay::{Replayed, RestrictionPage};
pub use restriction::{Bound, KeyLimits, Restriction};
pub use revealed::Revealed;
pub use revoke::Revoked;
pub use revoke_all::{CutoffChange, RevokeAll, RevokedAll};
pub use rotate::{Overlap, Rotation};
pub use rules::{RuleBook, TenantRules};
pub use update::KeyUpdate;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock::{Clock, PassedEnds, normalized, unix_micros};
use crate::credential::Credentials;
use crate::key::{HasPassed, KeyFormat, KeyId, KeyRecord, ScopeCatalog, StoredKey, TenantId};
use crate::random::RandomSource;
use crate::store::{ChangeSet, Committed, KeyStore, PendingUsage, StoreError};

/// Issues, changes and ends keys. Cheap to clone.
///
/// ```
/// use keyward::key::{Access, RevokeReason, TenantId};
/// use keyward::manager::{Actor, KeyManager, NewKey};
///
/// # async fn f(manager: &KeyManager) -> Result<(), Box<dyn std::error::Error>> {
/// let (actor, tenant) = (Actor::system("setup"), TenantId::new("acme-inc")?);
/// let new = NewKey::new(tenant.clone(), "Power BI dashboard", Access::Full);
/// let issued = manager.issue(&actor, new).await?;
/// println!("{}", issued.api_key().expose()); // shown once
///
/// manager.revoke(&actor, &tenant, issued.record().id(), RevokeReason::Requested).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct KeyManager {
    parts: Arc<ManagerParts>,
}

/// The dependencies of a manager.
#[derive(Debug)]
pub(crate) struct ManagerParts {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) rules: Box<dyn RuleBook>,
    pub(crate) usage: Arc<PendingUsage>,
    pub(crate) lookups: Lookups,
    pub(crate) passed: Arc<PassedEnds>,
}

/// Number of attempts at a commit with an unknown outcome, the first one included.
const COMMIT_TRIES: u32 = 3;

impl KeyManager {
    pub(crate) fn new(parts: ManagerParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// Returns the format in which the manager issues keys.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.parts.format
    }

    /// Returns the scopes that can be granted, for user interfaces that offer them.
    #[must_use]
    pub fn scopes(&self) -> &ScopeCatalog {
        &self.parts.catalog
    }

    /// Reads one key of a tenant.
    ///
    /// # Errors
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::Store`] and [`ManageError::Unreadable`].
    pub async fn get(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::NotFound);
        }
        let operation = Operation::Get {
            tenant,
            id,
            owner: None,
        };
        let stored = self.find_for(actor, tenant, id, operation).await?;
        let record = KeyRecord::decode(stored).map_err(ManageError::Unreadable)?;
        Ok(self.judge(record, self.now().ok()))
    }

    /// Marks a record as ended if its end has come by `now` or was seen to pass before. Remembers an end that has
    /// come, so that the verifier refuses the key from here on. `now` is `None` if the clock cannot tell the time.
    fn judge(&self, mut record: KeyRecord, now: Option<OffsetDateTime>) -> KeyRecord {
        if let Some(end) = record.end() {
            let micros = unix_micros(end);
            if now.is_some_and(|now| now >= end) {
                self.parts.passed.add(micros);
            }
            record.has_passed = HasPassed(self.parts.passed.include(micros));
        }
        record
    }

    async fn ask(&self, actor: &Actor, operation: &Operation<'_>) -> Result<(), ManageError> {
        match self.parts.policy.rule(actor, operation).await {
            Ok(Ruling::Allow) => Ok(()),
            Ok(Ruling::Refuse) => Err(ManageError::Refused),
            Err(error) => Err(ManageError::Policy(error)),
        }
    }

    /// Reads a key of the tenant as stored, and returns it if the policy allows the operation on a key of its owner.
    ///
    /// INVARIANT: a key that does not exist and one of an owner that the policy refuses give the same answer.
    async fn find_for(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        operation: Operation<'_>,
    ) -> Result<StoredKey, ManageError> {
        let found = self.find(tenant, id).await;
        let operation = match &found {
            Ok(stored) => operation.on_key_of(&stored.owner),
            Err(ManageError::NotFound | ManageError::Store(StoreError::Corrupt(_))) => operation,
            // The store's failure does not depend on whether the key exists, so it reveals nothing.
            Err(_) => return found,
        };
        self.ask(actor, &operation).await?;
        found
    }

    /// Reads a key as stored, if it belongs to the tenant.
    async fn find(&self, tenant: &TenantId, id: KeyId) -> Result<StoredKey, ManageError> {
        let stored = self.read(id).await?;
        let stored = stored.filter(|stored| stored.tenant == *tenant);
        stored.ok_or(ManageError::NotFound)
    }

    /// Reads a key as stored, of any tenant.
    async fn read(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        match self.parts.store.get(id).await? {
            Some(stored) if stored.id != id => Err(StoreError::Corrupt(
                "the store answered with another key".into(),
            )),
            stored => Ok(stored),
        }
    }

    /// Commits a change set, and retries under the same id if the answer was lost.
    ///
    /// After a lost answer, an error that is not the store's verdict on this set does not say whether the first
    /// attempt took effect. It is therefore returned as [`StoreError::Indeterminate`], not as an error after which
    /// nothing has changed.
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

fn broken_contract() -> ManageError {
    ManageError::Store(broken_store())
}

fn broken_store() -> StoreError {
    StoreError::Corrupt("the store's outcomes do not match the changes".into())
}
