//! Listing a tenant's keys.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{Actor, KeyManager, KeyQuery, ManageError, Operation, PageCursor};
use crate::key::{KeyId, KeyRecord, StoredKey};
use crate::store::{ListPosition, ListQuery, Page, StoreError, Usage};

/// Most pages of the store that make up one page of a list. A store bounds how many keys it looks at for a page, and
/// conditions that the store cannot check may leave no keys of many pages. The list then continues at its cursor.
const MAX_READS: u32 = 64;

/// Number of keys of a page after which other tasks run: decoding them takes some tens of microseconds.
const KEYS_AT_ONCE: usize = 16;

impl KeyManager {
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
    pub async fn list(&self, actor: &Actor, query: &KeyQuery) -> Result<KeyList, ManageError> {
        let tenant = query.tenant();
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        let owner = query.only_owner();
        self.ask(actor, &Operation::List { tenant, owner }).await?;
        let now = self.now()?;
        let mut list = KeyList::default();
        let shown = query.asks_for_display_prefix();
        // A text that is not a display prefix of the application's own format may be one of an imported key. Imported
        // keys have no such range of ids, so the list compares each key.
        let ids = shown.and_then(|start| self.parts.format.ids_displayed_as(start));
        if shown.is_some() && ids.is_none() && self.parts.credentials.imported.is_none() {
            return Ok(list);
        }
        let mut for_store = query.for_store(ids, now);
        for _ in 0..MAX_READS {
            let page = self.read_page(&for_store).await?;
            let usage = self.usage_of(query, &page.items).await?;
            let read = page.items.len();
            for (index, (stored, usage)) in page.items.into_iter().zip(usage).enumerate() {
                give_way(index).await;
                let position = ListPosition::of(&stored);
                list.take(self, query, stored, usage, now)?;
                if list.length() >= query.page_size() {
                    let rest = (index + 1 < read).then_some(position);
                    list.next = rest.or(page.next).map(|place| query.cursor(place));
                    return Ok(list);
                }
            }
            list.next = page.next.map(|place| query.cursor(place));
            match page.next {
                Some(place) => for_store = for_store.after(place),
                None => return Ok(list),
            }
        }
        Ok(list)
    }

    /// Reads a page of the store, and checks that its cursor advances: otherwise the manager would read without end.
    pub(super) async fn read_page(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let page = self.parts.store.list(query).await?;
        if page.next.is_some() && page.next <= query.position() {
            return Err(StoreError::Corrupt(
                "the store's list does not go on".into(),
            ));
        }
        Ok(page)
    }

    /// Reads the usage of a page's keys. If the usage is only shown, a store that cannot read it does not fail the
    /// list.
    async fn usage_of(
        &self,
        query: &KeyQuery,
        keys: &[StoredKey],
    ) -> Result<Vec<Option<Usage>>, ManageError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        match self.parts.usage.read(&ids).await {
            Ok(Some(usage)) => Ok(usage),
            Ok(None) if query.asks_for_usage() => Err(StoreError::Unsupported.into()),
            Err(error) if query.asks_for_usage() => Err(error.into()),
            Ok(None) | Err(_) => Ok(vec![None; ids.len()]),
        }
    }
}

/// Lets other tasks run after every few keys of a page, which may have a thousand.
pub(super) async fn give_way(index: usize) {
    if index % KEYS_AT_ONCE == KEYS_AT_ONCE - 1 {
        tokio::task::yield_now().await;
    }
}

/// A page of a tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct KeyList {
    /// The keys that match the query.
    pub keys: Vec<KeyRecord>,
    /// Usage by key, as far as the store knows. It may lag. A key that was never used has no entry.
    pub usage: HashMap<KeyId, Usage>,
    /// Keys on this page that cannot be read: damaged, or written by a later version. The verifier never grants them.
    pub unreadable: Vec<KeyId>,
    /// Cursor of the next page. `None` on the last page.
    pub next: Option<PageCursor>,
}

impl KeyList {
    fn take(
        &mut self,
        manager: &KeyManager,
        query: &KeyQuery,
        stored: StoredKey,
        usage: Option<Usage>,
        now: OffsetDateTime,
    ) -> Result<(), ManageError> {
        // The policy allowed a list of this tenant's and this owner's keys only.
        let is_owned = query.only_owner().is_none_or(|one| stored.owner == *one);
        if stored.tenant != *query.tenant() || !is_owned {
            return Err(ManageError::Store(StoreError::Corrupt(
                "the store listed a key of another tenant or owner".into(),
            )));
        }
        let id = stored.id;
        let Ok(record) = KeyRecord::decode(stored) else {
            self.unreadable.push(id);
            return Ok(());
        };
        let record = manager.judge(record, Some(now));
        if query.admits(&record, usage.as_ref(), now) {
            self.keys.push(record);
            if let Some(usage) = usage {
                self.usage.insert(id, usage);
            }
        }
        Ok(())
    }

    fn length(&self) -> usize {
        self.keys.len() + self.unreadable.len()
    }
}
