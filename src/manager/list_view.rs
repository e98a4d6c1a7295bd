//! A list of keys, as a host may send it to a browser.

use serde::Serialize;
use time::OffsetDateTime;

use super::{KeyList, PageCursor};
use crate::key::{KeyId, KeyView};
use crate::store::Usage;

/// One page of a list, as a host may send it to a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyListView {
    /// The keys, in the order of the list.
    pub keys: Vec<ListedKey>,
    /// Keys that are stored and cannot be read.
    pub unreadable: Vec<KeyId>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<PageCursor>,
}

/// A key in a list: its [`KeyView`], with how it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedKey {
    /// What may be shown of it.
    #[serde(flatten)]
    pub view: KeyView,
    /// How it was used; none if it never was, or the store does not keep that.
    pub usage: Option<Usage>,
}

impl KeyList {
    /// What a host may send to a browser of this page, with each key's state at an instant.
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
