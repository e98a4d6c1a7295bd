//! The query of a list of keys, as a URL has it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::members::{Members, Problem};
use crate::key::{KeyStatus, Principal, TenantId};
use crate::manager::{KeyQuery, PageCursor, PageCursorError};

/// A query for a list of keys, such as `?limit=20&with_revoked=true` in a URL. It does not name the tenant.
///
/// Its members are the fields below, with `_seconds` after the names of times. All are optional, and one without a text
/// counts as absent. An unknown member, one that is given twice, and a limit outside 1 to [`KeyQuery::MAX_LIMIT`] are
/// refused. Errors are as those of a [`NewKeyForm`](super::NewKeyForm).
///
/// Set [`owner`](Self::owner) to show users their own keys only.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct KeyQueryForm {
    /// Cursor of the page before.
    pub after: Option<PageCursor>,
    /// Page size. `None`: 50.
    pub limit: Option<u16>,
    /// Only keys of this owner, such as `user:alice`.
    pub owner: Option<Principal>,
    /// Only keys with a title that begins with this text, of at most 100 characters.
    pub title_prefix: Option<String>,
    /// Only keys with a display prefix that begins with this text, of at most 100 characters.
    pub display_prefix: Option<String>,
    /// Only keys in this state, such as `not_yet_valid`.
    pub status: Option<KeyStatus>,
    /// Whether to list the revoked keys too, as [`KeyQuery::live_first`].
    pub with_revoked: bool,
    /// As [`KeyQuery::due_for_rotation`].
    pub due_for_rotation: Option<Duration>,
    /// As [`KeyQuery::expiring_within`].
    pub expiring_within: Option<Duration>,
    /// As [`KeyQuery::unused_for`].
    pub unused_for: Option<Duration>,
}

impl KeyQueryForm {
    /// Returns the query for keys of this tenant.
    ///
    /// # Errors
    /// [`PageCursorError::OtherQuery`] if the cursor belongs to a query for another tenant or with other conditions.
    pub fn for_tenant(self, tenant: &TenantId) -> Result<KeyQuery, PageCursorError> {
        let mut query = KeyQuery::of(tenant);
        if self.with_revoked {
            query = query.live_first();
        }
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        if let Some(owner) = &self.owner {
            query = query.owner(owner);
        }
        if let Some(start) = &self.title_prefix {
            query = query.title_prefix(start);
        }
        if let Some(start) = &self.display_prefix {
            query = query.display_prefix(start);
        }
        if let Some(status) = self.status {
            query = query.status(status);
        }
        if let Some(age) = self.due_for_rotation {
            query = query.due_for_rotation(age);
        }
        if let Some(time) = self.expiring_within {
            query = query.expiring_within(time);
        }
        if let Some(time) = self.unused_for {
            query = query.unused_for(time);
        }
        match self.after {
            // The cursor belongs to all conditions, so it comes last.
            Some(cursor) => query.after(cursor),
            None => Ok(query),
        }
    }

    fn read(mut members: Members) -> Result<Self, Problem> {
        members.only(&[
            "after",
            "limit",
            "owner",
            "title_prefix",
            "display_prefix",
            "status",
            "with_revoked",
            "due_for_rotation_seconds",
            "expiring_within_seconds",
            "unused_for_seconds",
        ])?;
        members.skip_empty();
        Ok(Self {
            after: members.cursor()?,
            limit: members.limit()?,
            owner: members.owner()?,
            title_prefix: members.start("title_prefix")?,
            display_prefix: members.start("display_prefix")?,
            status: members.status()?,
            with_revoked: members.flag("with_revoked")?.unwrap_or_default(),
            due_for_rotation: members.seconds("due_for_rotation_seconds")?,
            expiring_within: members.seconds("expiring_within_seconds")?,
            unused_for: members.seconds("unused_for_seconds")?,
        })
    }
}

impl<'de> Deserialize<'de> for KeyQueryForm {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(source)?;
        Self::read(members).map_err(de::Error::custom)
    }
}

/// Omits the texts: users paste whole keys where a prefix is asked for.
impl fmt::Debug for KeyQueryForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyQueryForm")
            .field("limit", &self.limit)
            .field("status", &self.status)
            .field("with_revoked", &self.with_revoked)
            .finish_non_exhaustive()
    }
}
