//! The list of keys, as this product shows it.

use keyward::key::{KeyId, KeyStatus, KeyView, Title};
use keyward::manager::{KeyListView, PageCursor};
use keyward::time::OffsetDateTime;
use serde::Serialize;

/// A page of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    keys: Vec<Row>,
    /// Keys that are stored and cannot be read: they open nothing, and can be revoked all the same.
    unreadable: Vec<KeyId>,
    /// To be sent as `after`; none if this is the end.
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
    /// Whether there is a button for it.
    can_be_revoked: bool,
}

/// When a key was revoked, or in a word what it is.
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
            // A key whose successor alone is good counts as revoked, though nobody revoked it.
            KeyStatus::Revoked => match key.revoked_at.or(key.overlap_ends) {
                Some(at) => Self::At(at),
                None => Self::Word("Revoked"),
            },
            KeyStatus::Suspended => Self::Word("Suspended"),
            // Keys of this product have neither a beginning nor an end of their own.
            KeyStatus::Active | KeyStatus::NotYetValid | KeyStatus::Expired => Self::Word("Active"),
        }
    }
}
