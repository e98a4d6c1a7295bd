//! A list of keys, as a host application may send it to a browser.

use serde::Serialize;
use time::OffsetDateTime;

use super::{KeyList, PageCursor};
use crate::key::{KeyId, KeyView};
use crate::store::Usage;

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

/// A key in a list: its [`KeyView`] and its usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedKey {
    /// The key's displayable fields.
    #[serde(flatten)]
    pub view: KeyView,
    /// The key's usage. `None` if the key was never used, or the store keeps no usage.
    pub usage: Option<Usage>,
}

impl KeyList {
    /// Returns the page as a host application may send it to a browser, with each key's state at an instant.
    #[must_use]
    pub fn view(&self, now: OffsetDateTime) -> KeyListView {
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
}
