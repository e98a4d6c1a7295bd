//! Authorization of operations, and the access to the store that it gives.

use std::ops::Deref;
use std::sync::Arc;

use time::OffsetDateTime;

use super::{Actor, KeyManager, ManageError, ManagerParts, Operation, Policy, Ruling};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{KeyId, RevokeReason, StoredKey, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, EventLog, KeyStore, ListPosition, ListQuery, Outcome, Page,
    Segments, StoreError,
};

/// The store and the policy. An operation reaches the store only once it is [`Authorized`].
#[derive(Debug)]
pub(crate) struct StoreAccess {
    store: Arc<dyn KeyStore>,
    policy: Box<dyn Policy>,
}

/// An actor whose operation is authorized: the manager's parts with access to the store.
///
/// INVARIANT: only [`KeyManager::authorize`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Authorized<'a> {
    manager: &'a KeyManager,
    actor: &'a Actor,
}

/// The same, for work that goes on if the caller goes away.
pub(super) struct Detached {
    manager: KeyManager,
    actor: Actor,
}

impl Detached {
    pub(super) fn authorized(&self) -> Authorized<'_> {
        let Self { manager, actor } = self;
        Authorized { manager, actor }
    }
}

/// An actor whose operation on one key is authorized, and that key as stored.
pub(super) struct OnKey<'a> {
    pub(super) by: Authorized<'a>,
    pub(super) stored: StoredKey,
    pub(super) operation: Operation<'a>,
}

/// Number of attempts at a commit with an unknown outcome, the first one included.
const COMMIT_TRIES: u32 = 3;

impl KeyManager {
    /// Checks that the actor acts for the operation's tenant, then asks the policy.
    ///
    /// # Errors
    /// If the tenant is not the actor's: [`ManageError::NotFound`] if the operation names a key, as for a key that does
    /// not exist, else [`ManageError::Refused`].
    pub(super) async fn authorize<'a>(
        &'a self,
        actor: &'a Actor,
        operation: Operation<'_>,
    ) -> Result<Authorized<'a>, ManageError> {
        let manager = self;
        check_tenant(actor, &operation)?;
        match self.parts.access.policy.rule(actor, &operation).await {
            Ok(Ruling::Allow) => Ok(Authorized { manager, actor }),
            Ok(Ruling::Refuse) => Err(ManageError::Refused),
            Err(error) => Err(ManageError::Policy(error)),
        }
    }

    /// Authorizes an operation on one key. The policy is asked once the key's owner is known.
    ///
    /// INVARIANT: a key that does not exist and one of an owner that the policy refuses give the same answer.
    pub(super) async fn authorize_on_key<'a>(
        &'a self,
        actor: &'a Actor,
        operation: Operation<'a>,
    ) -> Result<OnKey<'a>, ManageError> {
        check_tenant(actor, &operation)?;
        let key = operation.key().ok_or(ManageError::NotFound)?;
        let found = match self.parts.access.find(key.tenant, key.id).await {
            // Any other failure does not depend on whether the key exists, so it reveals nothing.
            Err(error) if !may_be_missing(&error) => return Err(error),
            found => found,
        };
        let asked = match &found {
            Ok(stored) => operation.on_key_of(&stored.owner),
            Err(_) => operation,
        };
        let by = self.authorize(actor, asked).await?;
        Ok(OnKey {
            by,
            stored: found?,
            operation,
        })
    }
}

fn may_be_missing(error: &ManageError) -> bool {
    matches!(
        error,
        ManageError::NotFound | ManageError::Store(StoreError::Corrupt(_))
    )
}

fn check_tenant(actor: &Actor, operation: &Operation<'_>) -> Result<(), ManageError> {
    let is_own = match operation.tenant() {
        Some(tenant) => actor.acts_for(tenant),
        // A look-up only finds keys of the actor's tenants, and the list of tenants names only these.
        None => {
            actor.acts_for_all()
                || matches!(
                    operation,
                    Operation::FindOwner { .. }
                        | Operation::FindById { .. }
                        | Operation::ListTenants
                )
        }
    };
    match operation.key() {
        _ if is_own => Ok(()),
        Some(_) => Err(ManageError::NotFound),
        None => Err(ManageError::Refused),
    }
}

impl StoreAccess {
    pub(crate) fn new(store: Arc<dyn KeyStore>, policy: Box<dyn Policy>) -> Self {
        Self { store, policy }
    }

    async fn read(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        match self.store.get(id).await? {
            Some(stored) if stored.id != id => Err(StoreError::Corrupt(
                "the store answered with another key".into(),
            )),
            stored => Ok(stored),
        }
    }

    async fn find(&self, tenant: &TenantId, id: KeyId) -> Result<StoredKey, ManageError> {
        let stored = self.read(id).await?;
        let stored = stored.filter(|stored| stored.tenant == *tenant);
        stored.ok_or(ManageError::NotFound)
    }
}

impl Deref for Authorized<'_> {
    type Target = ManagerParts;

    fn deref(&self) -> &ManagerParts {
        &self.manager.parts
    }
}

impl<'a> Authorized<'a> {
    pub(super) fn parts(&self) -> &'a ManagerParts {
        &self.manager.parts
    }

    pub(super) fn actor(&self) -> &'a Actor {
        self.actor
    }

    /// Authorizes an operation again, on a key that another caller has changed.
    pub(super) async fn again(&self, operation: Operation<'_>) -> Result<StoredKey, ManageError> {
        let found = self.manager.authorize_on_key(self.actor, operation);
        Ok(found.await?.stored)
    }

    /// Authorizes a further operation of the same call.
    pub(super) async fn further(&self, operation: Operation<'_>) -> Result<(), ManageError> {
        self.manager.authorize(self.actor, operation).await?;
        Ok(())
    }

    /// Reads a key as stored, of any tenant.
    pub(super) async fn read(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.access.read(id).await
    }

    /// Reads a key as stored, if it belongs to the tenant.
    pub(super) async fn find(
        &self,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<StoredKey, ManageError> {
        self.access.find(tenant, id).await
    }

    /// Reads a page of a tenant's keys, and checks that its cursor advances: otherwise the manager would read without
    /// end.
    pub(super) async fn read_page(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let page = self.access.store.list(query).await?;
        if page.next.is_some() && page.next <= query.position() {
            return Err(StoreError::Corrupt(
                "the store's list does not go on".into(),
            ));
        }
        Ok(page)
    }

    /// Reads the tenants that have keys, after one.
    pub(super) async fn read_tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let tenants = self.access.store.tenants(after, limit).await?;
        let mut reached = after;
        for tenant in &tenants {
            if reached.is_some_and(|reached| tenant <= reached) {
                return Err(StoreError::Corrupt(
                    "the store's tenants do not go on".into(),
                ));
            }
            reached = Some(tenant);
        }
        Ok(tenants)
    }

    /// Reads a page of all of a tenant's keys, from the latest state.
    pub(super) async fn read_all(
        &self,
        tenant: &TenantId,
        limit: u16,
        after: Option<ListPosition>,
    ) -> Result<Page<StoredKey>, StoreError> {
        let query = ListQuery::of(tenant).listing(Segments::LiveThenRevoked);
        let mut query = query.limit(limit).at_latest();
        if let Some(place) = after {
            query = query.after(place);
        }
        let page = self.read_page(&query).await?;
        if page.items.iter().any(|key| key.tenant != *tenant) {
            let cause = "the store listed another tenant's key";
            return Err(StoreError::Corrupt(cause.into()));
        }
        Ok(page)
    }

    pub(super) fn event_log(&self) -> Result<&'a dyn EventLog, StoreError> {
        let log = self.manager.parts.access.store.events();
        log.ok_or(StoreError::Unsupported)
    }

    pub(super) fn detached(&self) -> Detached {
        Detached {
            manager: self.manager.clone(),
            actor: self.actor.clone(),
        }
    }

    /// Builds the event of an action, without a key.
    pub(super) fn event(
        &self,
        at: OffsetDateTime,
        action: EventAction,
        tenant: Option<TenantId>,
        changes: Vec<FieldChange>,
    ) -> Event {
        let redactor = self.format.redactor();
        self.actor.event(at, action, tenant, changes, &redactor)
    }

    /// Builds the event of an action on one key.
    pub(super) fn event_of(
        &self,
        at: OffsetDateTime,
        action: EventAction,
        key: &StoredKey,
        changes: Vec<FieldChange>,
    ) -> Event {
        Event {
            key: Some(key.id),
            title: Some(key.title.clone()),
            ..self.event(at, action, Some(key.tenant.clone()), changes)
        }
    }

    /// Builds the change that revokes a key as of an instant, with its event.
    pub(super) fn revocation(
        &self,
        now: OffsetDateTime,
        key: &StoredKey,
        at: OffsetDateTime,
        reason: RevokeReason,
    ) -> (Change, Event) {
        let mut fields = vec![FieldChange::set("revoked", reason.as_str())];
        if at != now {
            fields.push(FieldChange::set("revoked_at", rfc3339(at)));
        }
        let event = self.event_of(now, EventAction::KeyRevoked, key, fields);
        (
            Change::Revoke {
                id: key.id,
                at,
                reason,
            },
            event,
        )
    }

    pub(super) fn change_id(&self) -> ChangeId {
        ChangeId::generate(&*self.random)
    }

    /// Puts changes into a set, each with its event. `None` if there are none, or more than fit.
    pub(super) fn set_of(
        &self,
        changes: impl IntoIterator<Item = (Change, Event)>,
    ) -> Option<ChangeSet> {
        let (changes, events): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let set = ChangeSet::new(self.change_id(), changes)?;
        let events = events.into_iter().enumerate();
        Some(events.fold(set, |set, (change, event)| set.with_event_of(change, event)))
    }

    /// Commits a change with its event.
    pub(super) async fn commit_one(
        &self,
        change: Change,
        event: Event,
    ) -> Result<Outcome, StoreError> {
        let mut outcomes = self.commit_all(vec![(change, event)]).await?;
        outcomes.pop().ok_or_else(broken_store)
    }

    /// Commits changes together, each with its event. Without any, it does nothing.
    pub(super) async fn commit_all(
        &self,
        changes: Vec<(Change, Event)>,
    ) -> Result<Vec<Outcome>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let set = self.set_of(changes).ok_or(StoreError::Unsupported)?;
        self.commit(&set).await
    }

    /// Commits a change set, and retries under the same id if the answer was lost. Returns the outcome of each change.
    ///
    /// After a lost answer, an error that is not the store's verdict on this set does not say whether the first
    /// attempt took effect. It is therefore returned as [`StoreError::Indeterminate`], not as an error after which
    /// nothing has changed.
    pub(super) async fn commit(&self, set: &ChangeSet) -> Result<Vec<Outcome>, StoreError> {
        let mut lost = None;
        for _ in 0..COMMIT_TRIES {
            match self.access.store.commit(set).await {
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
                Err(error) => return Err(error),
                Ok(committed) if committed.outcomes.len() == set.changes().len() => {
                    return Ok(committed.outcomes);
                }
                Ok(_) => return Err(broken_store()),
            }
        }
        Err(StoreError::Indeterminate(
            lost.unwrap_or_else(|| "the store gave no answer".into()),
        ))
    }
}

pub(super) fn broken_store() -> StoreError {
    StoreError::Corrupt("the store's outcomes do not match the changes".into())
}
