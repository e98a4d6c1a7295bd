//! Queries for a list of keys.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, PrimitiveDateTime};

use super::{PageCursor, PageCursorError};
use crate::clock::{earlier, later};
use crate::key::{KeyId, KeyRecord, KeyStatus, Principal, TenantId};
use crate::store::{KeyFilter, ListPosition, ListQuery, Segments, Usage};

/// The keys to list: the tenant, the conditions, the start, and the page size.
///
/// ```
/// use std::time::Duration;
/// use keyward::{key::TenantId, manager::KeyQuery};
///
/// let tenant = TenantId::new("acme-inc")?;
/// let all = KeyQuery::of(&tenant).live_first().limit(50);
/// let old = KeyQuery::of(&tenant).due_for_rotation(Duration::from_secs(365 * 86_400));
/// let idle = KeyQuery::of(&tenant).unused_for(Duration::from_secs(90 * 86_400));
/// # let _ = (all, old, idle);
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyQuery {
    tenant: TenantId,
    with_revoked: bool,
    limit: u16,
    after: Option<ListPosition>,
    owner: Option<Principal>,
    title: Option<Box<str>>,
    display_prefix: Option<Box<str>>,
    status: Option<KeyStatus>,
    aged: Option<Duration>,
    expiring: Option<Duration>,
    unused: Option<Duration>,
}

impl KeyQuery {
    /// Most keys on a page.
    pub const MAX_LIMIT: u16 = ListQuery::MAX_LIMIT;

    /// Creates a query for the keys of a tenant that are not revoked, newest first, 50 to a page.
    ///
    /// It also leaves out keys that a rotation or a cutoff has ended.
    #[must_use]
    pub fn of(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            with_revoked: false,
            limit: 50,
            after: None,
            owner: None,
            title: None,
            display_prefix: None,
            status: None,
            aged: None,
            expiring: None,
            unused: None,
        }
    }

    /// Lists the revoked keys too, after all others, in the order in which they were revoked.
    ///
    /// A key that a rotation or a cutoff has ended shows the status `revoked`, and keeps its place among the
    /// others.
    #[must_use]
    pub fn live_first(mut self) -> Self {
        self.with_revoked = true;
        self
    }

    /// Sets the page size in keys. Values outside 1 to [`MAX_LIMIT`](Self::MAX_LIMIT) are clamped.
    #[must_use]
    pub fn limit(mut self, limit: u16) -> Self {
        self.limit = limit.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// Lists only keys of this owner.
    #[must_use]
    pub fn owner(mut self, owner: &Principal) -> Self {
        self.owner = Some(owner.clone());
        self
    }

    /// Lists only keys with a title that begins with this text, case-sensitively.
    #[must_use]
    pub fn title_prefix(mut self, start: &str) -> Self {
        self.title = Some(start.into());
        self
    }

    /// Lists only keys with a display prefix that begins with this text, such as `acme_live_2Nq8vR1x`. A whole key
    /// finds no keys: it is a secret, and for [`find_owner`](super::KeyManager::find_owner).
    ///
    /// Keys of legacy formats are compared one by one: pages may be short.
    #[must_use]
    pub fn display_prefix(mut self, start: &str) -> Self {
        self.display_prefix = Some(start.into());
        self
    }

    /// Lists only keys in this state. [`KeyStatus::Revoked`] lists the revoked keys as
    /// [`live_first`](Self::live_first) does.
    #[must_use]
    pub fn status(mut self, status: KeyStatus) -> Self {
        self.status = Some(status);
        self.with_revoked |= status == KeyStatus::Revoked;
        self
    }

    /// Lists only keys that were issued this long ago or longer, have not ended, and have no end set by a rotation.
    /// That includes a key that was rotated [until it is revoked](super::Overlap::UntilRevoked): it is due to be
    /// revoked.
    #[must_use]
    pub fn due_for_rotation(mut self, age: Duration) -> Self {
        self.aged = Some(age);
        self
    }

    /// Lists only keys that have not ended and will end within this time.
    #[must_use]
    pub fn expiring_within(mut self, time: Duration) -> Self {
        self.expiring = Some(time);
        self
    }

    /// Lists only keys that have not ended, were issued this long ago or longer, and have not been used since then.
    ///
    /// It counts the usage in the store, and the usage on this node that was not
    /// [flushed](crate::Keyward::flush_usage) yet. It does not see unflushed usage of other nodes, so a key in use
    /// there may be listed as unused: flush more often than the time you ask for. Needs a store that keeps usage.
    #[must_use]
    pub fn unused_for(mut self, time: Duration) -> Self {
        self.unused = Some(time);
        self
    }

    /// Continues after the page that returned this cursor.
    ///
    /// # Errors
    /// [`PageCursorError::OtherQuery`] if the cursor belongs to a query for another tenant or with other conditions.
    pub fn after(mut self, cursor: PageCursor) -> Result<Self, PageCursorError> {
        self.after = Some(self.position_of(cursor)?);
        Ok(self)
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) fn page_size(&self) -> usize {
        self.limit.into()
    }

    pub(super) fn only_owner(&self) -> Option<&Principal> {
        self.owner.as_ref()
    }

    pub(super) fn asks_for_display_prefix(&self) -> Option<&str> {
        self.display_prefix.as_deref()
    }

    pub(super) fn asks_for_usage(&self) -> bool {
        self.unused.is_some()
    }

    /// Returns the part of the query that a store can check by its columns.
    pub(super) fn for_store(&self, ids: Option<(KeyId, KeyId)>, now: OffsetDateTime) -> ListQuery {
        let segments = if self.with_revoked {
            Segments::LiveThenRevoked
        } else {
            Segments::Live
        };
        let owner = self.owner.clone().map(KeyFilter::Owner);
        let title = self.title.clone().map(KeyFilter::TitleStartsWith);
        let ids = ids.map(|(first, last)| KeyFilter::IdBetween(first, last));
        // An age beyond the calendar matches no key.
        let longest = self.aged.max(self.unused);
        let issued = longest.map(|age| KeyFilter::IssuedBy(earlier(now, age)));
        let last = PrimitiveDateTime::MAX.assume_utc();
        let expires = self
            .expiring
            .map(|time| KeyFilter::ExpiresBy(later(now, time).unwrap_or(last)));
        let filters = [owner, title, ids, issued, expires].into_iter().flatten();
        let query = ListQuery::of(&self.tenant)
            .listing(segments)
            .limit(self.limit);
        let query = filters.fold(query, ListQuery::only);
        match self.after {
            Some(position) => query.after(position),
            None => query,
        }
    }

    /// Checks the conditions that a store cannot check.
    pub(super) fn admits(
        &self,
        record: &KeyRecord,
        usage: Option<&Usage>,
        now: OffsetDateTime,
    ) -> bool {
        let status = record.status(now);
        let has_ended = matches!(status, KeyStatus::Revoked | KeyStatus::Expired);
        let asks_for_live = self.aged.or(self.expiring).or(self.unused).is_some();
        let is_shown = match self.status {
            Some(wanted) => wanted == status,
            None => self.with_revoked || status != KeyStatus::Revoked,
        };
        let is_prefixed = self
            .display_prefix
            .as_deref()
            .is_none_or(|start| record.display_prefix().starts_with(start));
        let ends_by_rotation = record
            .rotation()
            .is_some_and(|one| one.overlap_ends.is_some());
        let is_due = self.aged.is_none() || !ends_by_rotation;
        let is_unused = self.unused.is_none_or(|time| {
            let since = earlier(now, time);
            usage.is_none_or(|usage| usage.last_used_at <= since)
        });
        is_shown && is_prefixed && is_due && is_unused && !(asks_for_live && has_ended)
    }

    /// Creates a query for all of a tenant's keys, for an export or a purge. Its cursors are not valid for any user's
    /// list.
    pub(super) fn exporting(tenant: &TenantId) -> Self {
        Self {
            limit: 0,
            ..Self::of(tenant).live_first()
        }
    }

    /// Returns the position in a cursor of this list.
    pub(super) fn position_of(&self, cursor: PageCursor) -> Result<ListPosition, PageCursorError> {
        if cursor.query == self.fingerprint() {
            Ok(cursor.position)
        } else {
            Err(PageCursorError::OtherQuery)
        }
    }

    pub(super) fn cursor(&self, position: ListPosition) -> PageCursor {
        PageCursor {
            position,
            query: self.fingerprint(),
        }
    }

    /// Hashes all conditions, each with its length, so that no two queries have the same input.
    fn fingerprint(&self) -> [u8; 8] {
        let mut hash = Sha256::new();
        let mut feed = |part: Option<String>| {
            // A missing text has a marker in place of its length.
            hash.update(
                part.as_ref()
                    .map_or([0xff; 8], |part| part.len().to_be_bytes()),
            );
            hash.update(part.unwrap_or_default());
        };
        let nanos = |time: Duration| time.as_nanos().to_string();
        feed(Some(self.tenant.to_string()));
        feed(self.with_revoked.then(String::new));
        // Only an export has no limit, so its cursors differ from those of a user's list.
        feed((self.limit == 0).then(String::new));
        feed(self.owner.as_ref().map(ToString::to_string));
        feed(self.title.as_deref().map(str::to_owned));
        feed(self.display_prefix.as_deref().map(str::to_owned));
        feed(self.status.map(|status| format!("{status:?}")));
        feed(self.aged.map(nanos));
        feed(self.expiring.map(nanos));
        feed(self.unused.map(nanos));
        let hash: [u8; 32] = hash.finalize().into();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// Omits the typed texts: users paste whole keys where a prefix is asked for.
impl fmt::Debug for KeyQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyQuery")
            .field("tenant", &self.tenant)
            .field("with_revoked", &self.with_revoked)
            .field("limit", &self.limit)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(tenant: &str) -> KeyQuery {
        KeyQuery::of(&TenantId::new(tenant).unwrap())
    }

    #[test]
    fn cursors_belong_to_their_query() {
        let day = Duration::from_secs(86_400);
        let owner = |name| Principal::user(name).unwrap();
        let others = [
            query("b"),
            query("a").live_first(),
            query("a").owner(&owner("a")),
            query("a").owner(&owner("b")),
            query("a").title_prefix(""),
            query("a").title_prefix("a"),
            query("a").display_prefix("a"),
            query("a").status(KeyStatus::Active),
            query("a").status(KeyStatus::Expired),
            query("a").due_for_rotation(day),
            query("a").due_for_rotation(day * 2),
            query("a").expiring_within(day),
            query("a").unused_for(day),
        ];
        for (index, one) in others.iter().enumerate() {
            for other in &others[..index] {
                assert_ne!(one.fingerprint(), other.fingerprint());
            }
        }
        for position in [
            ListPosition::Live {
                created_micros: -1,
                id: KeyId::from_u128(u128::MAX),
            },
            ListPosition::Revoked {
                position: u64::MAX,
                id: KeyId::from_u128(0),
            },
        ] {
            let cursor = query("a").cursor(position);
            let read: PageCursor = cursor.to_string().parse().unwrap();
            assert_eq!(read, cursor);
            assert_eq!(query("a").after(read).unwrap().after, Some(position));
            assert!(query("a").limit(7).after(read).is_ok());
            for other in &others {
                assert_eq!(other.clone().after(read), Err(PageCursorError::OtherQuery));
            }
        }
    }

    #[test]
    fn extreme_durations_do_not_overflow() {
        let now = OffsetDateTime::UNIX_EPOCH;
        for query in [
            query("a").due_for_rotation(Duration::MAX),
            query("a").expiring_within(Duration::MAX),
            query("a").unused_for(Duration::MAX),
        ] {
            assert_eq!(query.for_store(None, now).filters().len(), 1);
        }
    }
}
