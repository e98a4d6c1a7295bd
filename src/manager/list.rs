//! Reading a tenant's keys.

use std::collections::HashMap;

use serde::Serialize;
use time::OffsetDateTime;

use super::{Authorized, KeyQuery, ManageError, ManagerParts, OnKey, PageCursor, Tenants};
use crate::key::{KeyId, KeyRecord, KeyView, StoredKey, TenantId, Timestamp};
use crate::store::{ListPosition, StoreError, Usage};

/// Most pages of the store that make up one page of a list. A store bounds how many keys it looks at for a page, and
/// conditions that the store cannot check may leave no keys of many pages. The list then continues at its cursor.
const MAX_READS: u32 = 64;

/// Number of keys of a page after which other tasks run: decoding them takes some tens of microseconds.
const KEYS_AT_ONCE: usize = 16;

impl OnKey<'_> {
    pub(super) fn get(self) -> Result<KeyRecord, ManageError> {
        let record = KeyRecord::decode(self.stored).map_err(ManageError::Unreadable)?;
        Ok(self.by.judge(record, self.by.now().ok()))
    }

    pub(super) async fn view(self) -> Result<ListedKey, ManageError> {
        let now = self.by.now()?;
        // As in a list: a store that cannot read usage does not fail the call.
        let usage = self.by.usage.read(&[self.stored.id]).await;
        let usage = usage.ok().flatten().and_then(|mut usage| usage.pop()?);
        let view = self.get()?.view(now);
        Ok(ListedKey { view, usage })
    }
}

impl Authorized<'_> {
    pub(super) async fn list(&self, query: &KeyQuery) -> Result<KeyList, ManageError> {
        let now = self.now()?;
        let mut list = KeyList::default();
        let shown = query.asks_for_display_prefix();
        // A text that is not a display prefix of the application's own format may be one of an imported key. Imported
        // keys have no such range of ids, so the list compares each key.
        let ids = shown.and_then(|start| self.format.ids_displayed_as(start));
        if shown.is_some() && ids.is_none() && self.credentials.imported.is_none() {
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

    pub(super) async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, ManageError> {
        let limit = limit.min(usize::from(KeyQuery::MAX_LIMIT));
        let Tenants::Only(own) = self.actor().tenants() else {
            return Ok(self.read_tenants(after, limit).await?);
        };
        let mut own: Vec<_> = own.iter().filter(|tenant| after < Some(tenant)).collect();
        own.sort_unstable();
        let mut tenants = Vec::new();
        for tenant in own {
            if tenants.len() == limit {
                break;
            }
            let page = self.read_all(tenant, 1, None).await?;
            if !page.items.is_empty() {
                tenants.push(tenant.clone());
            }
        }
        Ok(tenants)
    }

    /// Reads the usage of a page's keys. If the usage is only shown, a store that cannot read it does not fail the
    /// list.
    async fn usage_of(
        &self,
        query: &KeyQuery,
        keys: &[StoredKey],
    ) -> Result<Vec<Option<Usage>>, ManageError> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        match self.usage.read(&ids).await {
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
    /// Returns the page as a host application may send it to a browser, with each key's state at an instant.
    #[must_use]
    pub fn view(&self, now: impl Into<Timestamp>) -> KeyListView {
        let now = now.into();
        let listed = self.keys.iter().map(|record| ListedKey {
            view: record.view(now),
            usage: self.usage.get(&record.id()).copied(),
        });
        KeyListView {
            keys: listed.collect(),
            unreadable: self.unreadable.clone(),
            next: self.next,
        }
    }
    fn take(
        &mut self,
        manager: &ManagerParts,
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

/// A page of a list, as a host application may send it to a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyListView {
    /// The keys, in the order of the list.
    pub keys: Vec<ListedKey>,
    /// Stored keys that cannot be read.
    pub unreadable: Vec<KeyId>,
    /// Cursor of the next page. `None` on the last page.
    pub next: Option<PageCursor>,
}

/// A key in a list, or [alone](super::KeyManager::view): its [`KeyView`] and its usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedKey {
    /// The key's displayable fields.
    #[serde(flatten)]
    pub view: KeyView,
    /// The key's usage. `None` if the key was never used, or the store keeps no usage.
    pub usage: Option<Usage>,
}
