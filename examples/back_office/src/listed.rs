//! The list of keys, as this product shows it.

use keyward::key::{KeyId, KeyStatus, KeyView, Title};
use keyward::manager::{KeyListView, PageCursor};
use keyward::time::OffsetDateTime;
use serde::Serialize;

/// A page of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    keys: Vec<Row>,
    /// Stored keys that cannot be read: they grant no access, but they can still be revoked.
    unreadable: Vec<KeyId>,
    /// The value to send as `after`. `None` at the end of the list.
    next: Option<PageCursor>,
}

/// A key in the list.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: Title,
    id: KeyId,
    #[serde(with = "keyward::time::serde::rfc3339")]
    issued_on: OffsetDateTime,
    revoked_on: RevokedOn,
    /// Whether the page shows a button to revoke it.
    can_be_revoked: bool,
}

/// The time at which a key was revoked, or its status in one word.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum RevokedOn {
    At(#[serde(with = "keyward::time::serde::rfc3339")] OffsetDateTime),
    Word(&'static str),
}

impl From<KeyListView> for Listed {
    fn from(list: KeyListView) -> Self {
        let rows = list.keys.iter().map(|listed| Row::from(&listed.view));
        Self {
            keys: rows.collect(),
            unreadable: list.unreadable,
            next: list.next,
        }
    }
}

impl From<&KeyView> for Row {
    fn from(key: &KeyView) -> Self {
        Self {
            name: key.title.clone(),
            id: key.id,
            issued_on: key.created_at,
            revoked_on: RevokedOn::of(key),
            can_be_revoked: key.status != KeyStatus::Revoked,
        }
    }
}

impl RevokedOn {
    fn of(key: &KeyView) -> Self {
        match key.status {
            // A key counts as revoked once only its successor is valid, although it was never revoked itself.
            KeyStatus::Revoked => match key.revoked_at.or(key.overlap_ends) {
                Some(at) => Self::At(at),
                None => Self::Word("Revoked"),
            },
            KeyStatus::Suspended => Self::Word("Suspended"),
            // Keys of this product have no start or expiry of their own.
            KeyStatus::Active | KeyStatus::NotYetValid | KeyStatus::Expired => Self::Word("Active"),
        }
    }
}
