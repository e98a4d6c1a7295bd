//! The management of keys, for actors that the host's policy allows.
//!
//! | to | call |
//! |---|---|
//! | make keys | [`issue`](KeyManager::issue), [`import`][import], [`import_all`][all], [`rotate`][rotate] |
//! | look at them | [`get`][get], [`view`](KeyManager::view), [`list`](KeyManager::list) by a [`KeyQuery`] |
//! | read their events | [`events`](KeyManager::events) of a tenant, [`events_of`](KeyManager::events_of) a key |
//! | look at the tenants | [`tenants`](KeyManager::tenants) |
//! | find one without its tenant | [`find_by_id`](KeyManager::find_by_id) |
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
//! [all]: KeyManager::import_all
//! [get]: KeyManager::get
//! [rotate]: KeyManager::rotate
//! [import]: KeyManager::import
//! [deny]: KeyManager::deny_issued_before
//! [export]: KeyManager::export_restrictions
//! [replay]: KeyManager::replay_restrictions

mod actor;
mod amend;
mod authorize;
mod ceiling;
mod draft;
mod error;
mod events;
mod find;
mod form;
mod import;
mod issue;
mod leaked;
mod list;
mod lookups;
mod new_key;
mod page_cursor;
mod parts;
mod policy;
mod purge;
mod query;
mod remove_tenant;
mod replay;
mod request_id;
mod restriction;
mod revoke;
mod rotate;
mod rules;
mod update;

pub use actor::{Actor, Tenants};
pub(crate) use authorize::StoreAccess;
use authorize::{Authorized, OnKey, broken_store};
pub use ceiling::{Axis, Ceiling, Limits};
pub use error::{InvalidKey, ManageError};
pub use events::KeyEvents;
pub use form::{KeyQueryForm, NewKeyForm, RevokeForm};
pub use issue::{Issued, Revealed};
pub use leaked::FoundKey;
pub use list::{KeyList, KeyListView, ListedKey};
pub(crate) use lookups::Lookups;
pub use new_key::{Expiry, KeyRequest, NewKey};
pub use page_cursor::{PageCursor, PageCursorError};
pub(crate) use parts::ManagerParts;
pub use policy::{AllowAll, KeyRef, Operation, Policy, PolicyError, Ruling};
pub use purge::Purged;
pub use query::KeyQuery;
pub use replay::{Replayed, RestrictionPage};
pub use restriction::{Bound, KeyBound};
pub use revoke::{CutoffChange, RevokeAll, Revoked, RevokedAll};
pub use rotate::{Overlap, Rotation};
pub use rules::{RuleBook, TenantRules};
pub use update::KeyUpdate;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::audit::SealedEvent;
use crate::import::{ImportError, ImportedKey};
use crate::key::{
    KeyId, KeyRecord, PresentedKey, RevokeReason, ScopeDeclaration, TenantId, Timestamp, instant_of,
};
use crate::store::CutoffScope;

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

impl KeyManager {
    pub(crate) fn new(parts: ManagerParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
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

/// # Making keys
impl KeyManager {
    /// Issues a key. Only the answer contains the key's text: nothing stored can bring it back.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`] if the request is not allowed; [`ManageError::TenantFull`],
    /// [`ManageError::CutOff`], [`ManageError::ClockBehindCutoff`]; [`ManageError::Random`],
    /// [`ManageError::IdCollision`], [`ManageError::Clock`], [`ManageError::Hashing`], [`ManageError::Store`]. An
    /// expiry that no key can have is refused before the policy is asked, as the policy sees its instant.
    ///
    /// After any of them but [`StoreError::Indeterminate`], nothing is issued. After that one, and if the answer is
    /// lost on its way to the client, the list may contain a key that no client has the text of. With a [request
    /// id](NewKey::request_id) make the same request again: [`ManageError::AlreadyIssued`] names that key, and
    /// otherwise the key is issued now. [Revoke](Self::revoke) the key, or [rotate](Self::rotate) it with
    /// [`Overlap::None`], which ends it and returns a successor.
    ///
    /// [`ManageError::RequestIdReused`] if the request id was used for a key with other fields.
    ///
    /// [`StoreError::Indeterminate`]: crate::store::StoreError::Indeterminate
    pub async fn issue(&self, actor: &Actor, key: NewKey) -> Result<Issued, ManageError> {
        let now = self.parts.now()?;
        let (expiry, request_id) = (key.expiry, key.request_id.clone());
        let key = self.parts.request(actor, key, now)?;
        let by = self
            .authorize(actor, Operation::Issue { key: &key })
            .await?;
        by.issue(key, expiry, request_id.as_deref(), now).await
    }

    /// Imports a key that another system issued: its client goes on using the text it has.
    ///
    /// The manager builds the new record as for [`issue`](Self::issue) and checks it against the same bounds. The
    /// policy is asked about an operation of its own, [`Operation::Import`]. On first use, Keyward replaces a digest
    /// of another scheme by one of its own; until then it is as strong as it was.
    ///
    /// # Errors
    /// - [`ManageError::AlreadyImported`] if the tenant already has this key, so that an import that stopped can be
    ///   run again.
    /// - [`ManageError::ImportedOtherwise`] if the tenant has it with another secret. A digest can be compared only
    ///   with the one that was imported, no longer with one that has replaced it since.
    /// - [`ManageError::IdTaken`] if its id belongs to another key, of any tenant.
    /// - [`ManageError::TooManyLookups`] after 100 such answers, `IdTaken` and `ImportedOtherwise`, in a minute,
    ///   counted together with the misses of [`find_owner`](Self::find_owner).
    /// - [`ManageError::Import`] if the text or digest does not match its format, or no such format is
    ///   [accepted](crate::Builder::imported_keys).
    /// - The errors of [`issue`](Self::issue).
    ///
    /// # Security
    /// `AlreadyImported` reveals that a key belongs to the tenant, under any owner, to callers that may import for the
    /// tenant and have the key's text or digest. It does not count towards the limit, since it takes the key's own
    /// secret or the digest that was imported; once a better digest has replaced that one, any digest under the key's
    /// id gets this answer. For another tenant's key the answer is always `IdTaken`, even with the
    /// right secret.
    ///
    /// `IdTaken` reveals that a text is some tenant's key: hence the limit. Beyond it, the manager refuses every
    /// import by this principal before it asks the store. Imports run in parallel up to the limit, and wait for one
    /// another beyond it.
    pub async fn import(
        &self,
        actor: &Actor,
        key: NewKey,
        imported: ImportedKey,
    ) -> Result<KeyRecord, ManageError> {
        self.import_one(actor, key, &imported).await
    }

    /// Imports many keys, up to 16 in a commit, and returns the answer to each row in the order of the rows.
    ///
    /// Each row passes the checks of [`import`](Self::import), among them a call of the policy of its own, and gets
    /// the answer that it would get there: a row that is refused keeps no other from being imported. The cap of a
    /// tenant counts the rows before it. Give some hundreds of rows a call, from a loop over the old table: the call
    /// holds them in memory, and the guide [Migrating to Keyward](crate::manual::migrating) shows the loop.
    ///
    /// To resume an import that stopped, repeat it: rows that are imported already are answered by
    /// [`ManageError::AlreadyImported`], and nothing changes. So is a row that repeats an earlier one of the same call.
    ///
    /// # Errors
    /// Each row's are those of [`import`](Self::import). If the store is
    /// [unavailable](crate::store::StoreError::Unavailable) or a commit's outcome
    /// [unknown](crate::store::StoreError::Indeterminate), the rows of that commit get this error, and the rows after
    /// them are answered by [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) without being tried.
    ///
    /// # Security
    /// As [`import`](Self::import). The limit on failed look-ups counts each row.
    pub async fn import_all(
        &self,
        actor: &Actor,
        rows: Vec<(NewKey, ImportedKey)>,
    ) -> Vec<Result<KeyRecord, ManageError>> {
        self.import_rows(actor, rows).await
    }

    /// Returns Keyward's id of the key with this id in a legacy format, to revoke here the keys revoked there.
    ///
    /// # Errors
    /// [`ImportError`] if no such format is accepted, or it has no such ids.
    pub fn imported_id(&self, format: &str, id: &str) -> Result<KeyId, ImportError> {
        self.parts.imported_id(format, id)
    }

    /// Issues a successor to a key, with the same title, owner, access, restrictions, quotas and metadata.
    ///
    /// Unless you ask for another expiry, the successor expires when the key would have without a successor. Only the
    /// answer contains the successor's text, which cannot be recovered later.
    ///
    /// Both keys change in one commit. When the overlap ends, the old key counts as revoked on every node, without a
    /// further call. To end it earlier, revoke it.
    ///
    /// A key is rotated once: to rotate again, rotate its successor. While a successor of a key has not ended,
    /// rotating the key itself returns [`ManageError::AlreadyRotated`], which names that successor. A rotation also
    /// stores as revoked those predecessors with an overlap that is over, so that they no longer count towards a
    /// tenant's [cap](TenantRules::max_keys). At the cap, a rotation succeeds without an overlap, and with one that
    /// ends within 90 days.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRotated`], [`ManageError::Suspended`], [`ManageError::OverlapNeedsPlace`];
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`]; [`ManageError::AboveCeiling`] both for the
    /// key as it is and for the successor; and as [`issue`](Self::issue). After [`StoreError::Indeterminate`] the
    /// list may contain a successor that no client has the text of: with a [request id](Rotation::request_id) make
    /// the same request again, and rotate the successor that [`ManageError::AlreadyIssued`] names.
    ///
    /// [`StoreError::Indeterminate`]: crate::store::StoreError::Indeterminate
    pub async fn rotate(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        rotation: impl Into<Rotation>,
    ) -> Result<Issued, ManageError> {
        let rotation = rotation.into();
        let operation = Operation::Rotate {
            key: KeyRef::new(tenant, id),
            rotation: &rotation,
        };
        let key = self.authorize_on_key(actor, operation).await?;
        key.rotate(&rotation).await
    }
}

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
}

/// # Changing a key
impl KeyManager {
    /// Changes the fields that the update names. The change reaches other nodes as a revocation does.
    ///
    /// The manager checks the key against the actor's ceiling both before and after the change: an actor that may not
    /// issue such a key may not change it either. If nothing differs, nothing is done.
    ///
    /// The expiry of a key that has not ended moves both ways, within the actor's ceiling and the tenant's rules. A
    /// rotated key still ends with its overlap at the latest ([`InvalidKey::BeyondOverlap`]). An end is never taken
    /// back: if the old end comes while a later one is being committed, the manager revokes the key, and the answer is
    /// [`ManageError::Ended`]. Other nodes go by the end that they know until they learn of the change.
    ///
    /// # Errors
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`]; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`]; [`ManageError::Unreadable`], [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn update(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        update: KeyUpdate,
    ) -> Result<KeyRecord, ManageError> {
        let operation = Operation::Update {
            key: KeyRef::new(tenant, id),
            update: &update,
        };
        let key = self.authorize_on_key(actor, operation).await?;
        key.update(&update).await
    }

    /// Suspends a key until it is [resumed](Self::resume). [Revoke](Self::revoke) a key that may be in wrong hands
    /// instead.
    ///
    /// The manager asks the policy, but does not check the actor's ceiling, since a suspension gives no power.
    ///
    /// # Errors
    /// [`ManageError::AlreadySuspended`]; [`ManageError::NotFound`] if the tenant has no such key or is not the
    /// actor's; [`ManageError::Refused`] by policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`];
    /// [`ManageError::Unreadable`], [`ManageError::Clock`], [`ManageError::Store`].
    pub async fn suspend(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Suspend { key });
        key.await?.suspend().await
    }

    /// Resumes a suspended key.
    ///
    /// This gives power back: the manager checks the key against the actor's ceiling and the tenant's rules, as a new
    /// one.
    ///
    /// # Errors
    /// [`ManageError::NotSuspended`]; [`ManageError::AboveCeiling`] and [`ManageError::Invalid`]; and as
    /// [`suspend`](Self::suspend).
    pub async fn resume(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
    ) -> Result<KeyRecord, ManageError> {
        let key = KeyRef::new(tenant, id);
        let key = self.authorize_on_key(actor, Operation::Resume { key });
        key.await?.resume().await
    }
}

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
    /// to them, they count towards a tenant's [cap](TenantRules::max_keys). This call only moves a cutoff
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

/// # Removing keys and events
impl KeyManager {
    /// Removes keys of a tenant that ended before an instant, with their usage: one page of the tenant's keys a call.
    ///
    /// A key has ended if it was revoked or has expired. Keys that only a cutoff ended are removed once they have
    /// expired or are stored as revoked, which [`revoke_all`](Self::revoke_all) does. Keys of a line of rotations are
    /// removed oldest first, so a long line may take several runs over the list, and a successor stays while its
    /// predecessor is stored.
    ///
    /// Purge only keys that ended before the oldest backup that you would restore. If a key is live in the backup and
    /// was purged since, no [export](Self::export_restrictions) names it, and a restore would bring it back.
    ///
    /// The id of a removed key stays taken: [`import`](Self::import) of the same key returns [`ManageError::IdTaken`].
    /// The removed key's earlier events stay in the log. Each removal has an event, [`EventAction::KeyPurged`], which
    /// names the id and neither title nor owner.
    ///
    /// Start without a cursor and repeat with [`Purged::next`] until it is `None`. After an error or a crash, call it
    /// again with the same cursor, or start over.
    ///
    /// ```
    /// # use keyward::manager::{Actor, KeyManager, ManageError};
    /// # use keyward::{key::TenantId, time::OffsetDateTime};
    /// # async fn purge(
    /// #     manager: &KeyManager, actor: &Actor, tenant: &TenantId, a_year_ago: OffsetDateTime,
    /// # ) -> Result<(), ManageError> {
    /// let mut cursor = None;
    /// loop {
    ///     let purged = manager.purge(actor, tenant, a_year_ago, cursor).await?;
    ///     println!("{} keys removed", purged.keys.len());
    ///     cursor = purged.next;
    ///     if cursor.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::InTheFuture`] if the
    /// instant has not come; [`InvalidKey::Instant`]; [`ManageError::Cursor`] if the cursor belongs to another list;
    /// [`ManageError::Clock`]; [`ManageError::Store`], after which some of the page's keys may have been removed.
    ///
    /// [`EventAction::KeyPurged`]: crate::audit::EventAction::KeyPurged
    pub async fn purge(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        ended_before: impl Into<Timestamp>,
        after: Option<PageCursor>,
    ) -> Result<Purged, ManageError> {
        let ended_before = instant_of(ended_before);
        let operation = Operation::Purge {
            tenant,
            ended_before,
        };
        let by = self.authorize(actor, operation).await?;
        by.purge(tenant, ended_before, after).await
    }

    /// Removes a tenant: ends all its keys, removes them with their usage, and removes the names of owners that kill
    /// switches left. Returns the number of keys that this call removed.
    ///
    /// From the first commit on, before any key is removed, this node refuses the keys, and other nodes refuse them at
    /// most a [lease](crate::verifier::KeyCache::lease) later. Keys that are issued at the same time are removed too,
    /// or refused, or dated no earlier than this call; stop issuing first.
    ///
    /// The ids of the keys stay taken. The tenant's latest cutoff stays, and so do the tenant's events, until
    /// [`cut_events`](Self::cut_events) removes them. The removal adds to these [`EventAction::KeyRevoked`] and
    /// [`EventAction::KeyPurged`] for each key, without its title and owner, and one [`EventAction::TenantRemoved`].
    /// Keys that are issued later under the tenant's name inherit nothing.
    ///
    /// Repeat the call after an error or a crash: it continues. On a tenant without keys it only records the call.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy. [`ManageError::Unfinished`] if every
    /// key that was issued before the call has ended, but not all have been removed. After any other error keys may
    /// still be valid: [`ManageError::Clock`], [`ManageError::Store`].
    ///
    /// [`EventAction::KeyRevoked`]: crate::audit::EventAction::KeyRevoked
    /// [`EventAction::KeyPurged`]: crate::audit::EventAction::KeyPurged
    /// [`EventAction::TenantRemoved`]: crate::audit::EventAction::TenantRemoved
    pub async fn remove_tenant(
        &self,
        actor: &Actor,
        tenant: &TenantId,
    ) -> Result<u64, ManageError> {
        let by = self.authorize(actor, Operation::RemoveTenant { tenant });
        by.await?.remove_tenant(tenant).await
    }

    /// Removes the events of all tenants that were recorded before an instant, and keeps the rest of the log
    /// [verifiable](crate::audit::verify_log). Returns the number of events that this call removed.
    ///
    /// It removes only the oldest events, up to the first one that is dated at the instant or later: it never removes
    /// an event before one that was committed earlier. Events dated after now, by a clock that was wrong, do not keep
    /// the events before them, and go with the next event that is old enough.
    ///
    /// Each commit adds an event, [`EventAction::EventsCut`], with the numbers of the first and the last event that it
    /// removed, and the hash of the last. Keep the newest [head] outside the store before the cut: an older
    /// one can no longer be compared.
    ///
    /// The call reads and verifies the whole log first. Repeat it after an error or a crash: it continues.
    ///
    /// # Errors
    /// [`ManageError::Refused`] unless the actor acts for all tenants, or by policy; [`ManageError::InTheFuture`] if
    /// the instant has not come; [`InvalidKey::Instant`]; [`ManageError::Clock`]; [`ManageError::Store`], with
    /// [`StoreError::Corrupt`] if the log does not verify, in which case nothing is removed, and
    /// [`StoreError::Unsupported`] from a store that keeps no events.
    ///
    /// [head]: crate::audit::ChainHead
    /// [`EventAction::EventsCut`]: crate::audit::EventAction::EventsCut
    /// [`StoreError::Corrupt`]: crate::store::StoreError::Corrupt
    /// [`StoreError::Unsupported`]: crate::store::StoreError::Unsupported
    pub async fn cut_events(
        &self,
        actor: &Actor,
        before: impl Into<Timestamp>,
    ) -> Result<u64, ManageError> {
        let before = instant_of(before);
        let by = self.authorize(actor, Operation::CutEvents { before });
        by.await?.cut_events(before).await
    }
}

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
