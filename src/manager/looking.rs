//! The calls that look at keys and events.

use time::OffsetDateTime;

use super::{
    Actor, KeyEvents, KeyList, KeyManager, KeyQuery, KeyRef, ListedKey, ManageError, Operation,
};
use crate::audit::SealedEvent;
use crate::key::{KeyId, KeyRecord, ScopeDeclaration, TenantId};

/// # Looking at keys
impl KeyManager {
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
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Get { key });
        key.await?.get()
    }

    /// Reads one key of a tenant as an item of a [list's view](KeyList::view): its displayable fields as of now, and
    /// its usage.
    ///
    /// The policy is asked as for [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ManageError::Clock`].
    pub async fn view(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<ListedKey, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Get { key });
        key.await?.view().await
    }

    /// Finds a key by its id alone, as an operator has it from a log, and returns its record with tenant and owner.
    ///
    /// The manager asks the policy twice, about an operation of its own, [`Operation::FindById`]: before it reads
    /// anything, whether the actor may look up ids at all, and then whether it may know of this key. A key of a tenant
    /// that is not the actor's, one that the policy refuses, and one that does not exist give the same answer.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the policy refuses look-ups by id; [`ManageError::NotFound`];
    /// [`ManageError::Store`] and [`ManageError::Unreadable`].
    pub async fn find_by_id(&self, actor: &Actor, id: KeyId) -> Result<KeyRecord, ManageError> {
        self.look_up_id(actor, id).await
    }

    /// Lists a page of a tenant's keys, each with its usage.
    ///
    /// A page may hold fewer keys than requested, even zero, and still have a next page: the manager searches through
    /// many keys in steps, so that one search does not delay other callers.
    ///
    /// ```
    /// # use keyward::{Keyward, key::{Access, KeyFormat, TenantId}, store::MemoryStore};
    /// # use keyward::manager::{Actor, AllowAll, NewKey};
    /// use keyward::manager::{KeyQuery, PageCursor};
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
    /// let link = first.next.ok_or("one page only")?.to_string(); // for the link to the next page
    ///
    /// let cursor: PageCursor = link.parse()?; // when the user follows the link
    /// let second = keyward.manager().list(&actor, &query().after(cursor)?).await?;
    /// assert_eq!((first.keys.len(), second.keys.len()), (2, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Clock`];
    /// [`ManageError::Store`], with [`StoreError::Unsupported`] if the query asks for unused keys and the store keeps
    /// no usage.
    ///
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    pub async fn list(&self, actor: &Actor, query: &KeyQuery) -> Result<KeyList, ManageError> {
        let (tenant, owner) = (query.tenant(), query.only_owner());
        let by = self.authorize(actor, Operation::List { tenant, owner });
        by.await?.list(query).await
    }

    /// Lists the tenants that have keys, revoked ones included, in the order of the bytes of their ids: those after the
    /// given one, at most `limit` of them, and at most 1,000.
    ///
    /// To read all of them, begin without one, and pass the last tenant of a page as `after` of the next, until a
    /// page is empty. An actor that acts for certain tenants sees only these. With [`list`](Self::list), which asks
    /// the policy about each tenant, it lists the keys of all tenants:
    ///
    /// ```
    /// # use keyward::{Keyward, key::{Access, KeyFormat, TenantId}, store::MemoryStore};
    /// use keyward::manager::{Actor, KeyManager, KeyQuery, ManageError};
    /// # use keyward::manager::{AllowAll, NewKey};
    ///
    /// async fn print_all(manager: &KeyManager, operator: &Actor) -> Result<(), ManageError> {
    ///     let mut last = None;
    ///     loop {
    ///         let tenants = manager.tenants(operator, last.as_ref(), 100).await?;
    ///         for tenant in &tenants {
    ///             let query = KeyQuery::of(tenant).live_first();
    ///             let mut page = manager.list(operator, &query).await?;
    ///             loop {
    ///                 for key in &page.keys {
    ///                     println!("{tenant}: {} {}", key.display_prefix(), key.title());
    ///                 }
    ///                 let Some(next) = page.next else { break };
    ///                 page = manager.list(operator, &query.clone().after(next)?).await?;
    ///             }
    ///         }
    ///         last = tenants.last().cloned();
    ///         if last.is_none() {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let format = KeyFormat::new("acme")?.environment("live")?;
    /// # let keyward = Keyward::builder(MemoryStore::new()).format(format).policy(AllowAll).open().await?;
    /// # let key = NewKey::new(TenantId::new("acme-inc")?, "key", Access::Full);
    /// # keyward.manager().issue(&Actor::system("docs"), key).await?;
    /// # print_all(keyward.manager(), &Actor::system("docs")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::Refused`] by policy; [`ManageError::Store`], with [`StoreError::Unsupported`] from a store that
    /// does not list tenants, if the actor acts for all.
    ///
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    pub async fn tenants(
        &self,
        actor: &Actor,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, ManageError> {
        let by = self.authorize(actor, Operation::ListTenants).await?;
        by.tenants(after, limit).await
    }

    /// Reads the tenant's events with a number above `after`, in commit order: at most `limit` of them, and at most
    /// 1,000.
    ///
    /// To read all of them, begin with 0. Pass the [number](SealedEvent::number) of the last event of a page as
    /// `after` of the next, until a page is empty. Numbers count the events of all tenants, so the numbers of one
    /// tenant have gaps.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Store`], with
    /// [`StoreError::Unsupported`] from a store that keeps no events.
    ///
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    pub async fn events(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, ManageError> {
        let by = self.authorize(actor, Operation::ReadEvents { tenant });
        by.await?.events(tenant, after, limit).await
    }

    /// Reads the events of one key with a number above `after`, in commit order: at most `limit` of them, and at most
    /// 1,000. A `limit` of 0 counts as 1.
    ///
    /// To read all of them, begin with 0, and pass [`KeyEvents::next`] as `after` of the next call until it is `None`.
    /// A page may hold fewer events than requested, even zero, and still have a next page: a call searches at most
    /// 10,000 of the tenant's events.
    ///
    /// The events of a key are those that name it. An event of all keys of a tenant or an owner, such as a cutoff, is
    /// among the tenant's [events](Self::events) only, and so are the events of a key that was
    /// [purged](Self::purge), since its owner is no longer known.
    ///
    /// ```
    /// # use keyward::{audit::SealedEvent, key::{KeyId, TenantId}};
    /// # use keyward::manager::{Actor, KeyManager, ManageError};
    /// # async fn history(
    /// #     manager: &KeyManager, actor: &Actor, tenant: &TenantId, id: KeyId,
    /// # ) -> Result<Vec<SealedEvent>, ManageError> {
    /// let (mut history, mut after) = (Vec::new(), Some(0));
    /// while let Some(number) = after {
    ///     let page = manager.events_of(actor, tenant, id, number, 1_000).await?;
    ///     history.extend(page.events);
    ///     after = page.next;
    /// }
    /// # Ok(history)
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::Store`], with [`StoreError::Unsupported`] from a store that keeps no events.
    ///
    /// # Security
    /// Events name their actors and the addresses that these came from. A policy that allows owners to read the
    /// events of their keys shows them those of administrators.
    ///
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    pub async fn events_of(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        after: u64,
        limit: usize,
    ) -> Result<KeyEvents, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::ReadEventsOf { key });
        key.await?.events(after, limit).await
    }

    /// Returns the current instant of the manager's clock, for [`KeyRecord::view`] and [`KeyList::view`].
    ///
    /// # Errors
    /// [`ManageError::Clock`].
    pub fn now(&self) -> Result<OffsetDateTime, ManageError> {
        self.parts.now()
    }

    /// Returns the scopes that can be granted, for user interfaces that offer them.
    pub fn scopes(&self) -> impl Iterator<Item = &ScopeDeclaration> {
        self.parts.catalog.iter()
    }
}
