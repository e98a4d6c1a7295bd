//! Listing a tenant's keys page by page, as a backend sees it.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU16;

use time::OffsetDateTime;

use crate::key::{KeyId, Principal, StoredKey, TenantId};

/// Which keys a backend is to list: one tenant's, which of them, from where on, how many.
///
/// The manager makes these of a [`manager::KeyQuery`](crate::manager::KeyQuery); all in it is about columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    tenant: TenantId,
    segments: Segments,
    filters: Vec<KeyFilter>,
    limit: NonZeroU16,
    after: Option<ListPosition>,
    latest: bool,
}

/// Which parts of a tenant's list are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Segments {
    /// The keys that are not revoked as stored, newest first.
    Live,
    /// These, and after them the revoked ones in the order in which they were revoked.
    LiveThenRevoked,
    /// The revoked ones alone.
    Revoked,
}

/// How many keys the backends of this crate look at for one page. More than fit on a page, so that a page without a
/// filter is full.
pub(super) const MOST_SCANNED: usize = 4_096;

impl ListQuery {
    /// Most keys on a page.
    pub const MAX_LIMIT: u16 = 1_000;

    /// The keys of a tenant that are not revoked, newest first, 50 to a page.
    #[must_use]
    pub fn of(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            segments: Segments::Live,
            filters: Vec::new(),
            limit: NonZeroU16::MIN.saturating_add(49),
            after: None,
            latest: false,
        }
    }

    /// Lists these segments.
    #[must_use]
    pub fn listing(mut self, segments: Segments) -> Self {
        self.segments = segments;
        self
    }

    /// Only the keys that this filter admits; several must all admit a key.
    #[must_use]
    pub fn only(mut self, filter: KeyFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// How many keys to a page: at least 1, at most [`MAX_LIMIT`](Self::MAX_LIMIT). Other numbers mean the nearest.
    #[must_use]
    pub fn limit(mut self, limit: u16) -> Self {
        self.limit = NonZeroU16::new(limit.min(Self::MAX_LIMIT)).unwrap_or(NonZeroU16::MIN);
        self
    }

    /// Begins after this place.
    #[must_use]
    pub fn after(mut self, position: ListPosition) -> Self {
        self.after = Some(position);
        self
    }

    /// The answer must not lag: it shows every commit that returned before.
    #[must_use]
    pub fn at_latest(mut self) -> Self {
        self.latest = true;
        self
    }

    /// Whose keys.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Which parts of the list.
    #[must_use]
    pub fn segments(&self) -> Segments {
        self.segments
    }

    /// Whether the keys that are not revoked as stored are listed.
    #[must_use]
    pub fn lists_live(&self) -> bool {
        self.segments != Segments::Revoked
    }

    /// Whether the revoked keys are listed.
    #[must_use]
    pub fn lists_revoked(&self) -> bool {
        self.segments != Segments::Live
    }

    /// What keys must meet to be listed.
    #[must_use]
    pub fn filters(&self) -> &[KeyFilter] {
        &self.filters
    }

    /// Whether all filters admit this key. It knows kinds of filters that the backend may not: match on
    /// [`filters`](Self::filters) first, and refuse those.
    #[must_use]
    pub fn admits(&self, key: &StoredKey) -> bool {
        self.filters.iter().all(|filter| filter.admits(key))
    }

    /// How many keys to a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.limit.get().into()
    }

    /// The place after which the page begins; none: at the top.
    #[must_use]
    pub fn position(&self) -> Option<ListPosition> {
        self.after
    }

    /// The position before which no key is listed: [`position`](Self::position), or a later one that a filter implies.
    pub(super) fn start(&self) -> Option<ListPosition> {
        let issued = self.filters.iter().filter_map(|filter| match filter {
            KeyFilter::IssuedBy(instant) => Some(ListPosition::Live {
                created_micros: micros(*instant).saturating_add(1),
                id: KeyId::from_u128(0),
            }),
            _ => None,
        });
        issued.chain(self.after).max()
    }

    /// Whether the answer must show every commit that returned before.
    #[must_use]
    pub fn must_be_latest(&self) -> bool {
        self.latest
    }
}

/// What a key must meet to be listed. A store refuses a kind that it does not know as
/// [`Unsupported`](super::StoreError::Unsupported).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFilter {
    /// It belongs to this owner.
    Owner(Principal),
    /// Its title begins with these characters, upper and lower case as they are.
    TitleStartsWith(Box<str>),
    /// Its id lies between these two, both included.
    IdBetween(KeyId, KeyId),
    /// It was issued at this instant or before.
    IssuedBy(OffsetDateTime),
    /// It expires, at this instant or before.
    ExpiresBy(OffsetDateTime),
}

impl KeyFilter {
    /// Whether it admits this key: for backends that have no index for it, and to show what it means.
    #[must_use]
    pub fn admits(&self, key: &StoredKey) -> bool {
        match self {
            Self::Owner(owner) => key.owner == *owner,
            Self::TitleStartsWith(start) => key.title.as_str().starts_with(&**start),
            Self::IdBetween(first, last) => (*first..=*last).contains(&key.id),
            Self::IssuedBy(instant) => key.created_at <= *instant,
            Self::ExpiresBy(instant) => key.expires_at.is_some_and(|end| end <= *instant),
        }
    }
}

/// Shows no title: people paste whole keys into searches.
impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(owner) => write!(f, "Owner({owner})"),
            Self::TitleStartsWith(start) => {
                write!(f, "TitleStartsWith({} characters)", start.chars().count())
            }
            Self::IdBetween(first, last) => write!(f, "IdBetween({first}, {last})"),
            Self::IssuedBy(instant) => write!(f, "IssuedBy({instant})"),
            Self::ExpiresBy(instant) => write!(f, "ExpiresBy({instant})"),
        }
    }
}

/// The place of a key in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListPosition {
    /// Among the keys that are not revoked: descending by creation, and by id among those of one microsecond.
    Live {
        /// When the key was issued, in microseconds since the Unix epoch.
        created_micros: i64,
        /// Which key.
        id: KeyId,
    },
    /// Among the revoked keys: ascending by the position of the commit that revoked them, and by id within one
    /// commit.
    Revoked {
        /// The position of that commit.
        position: u64,
        /// Which key.
        id: KeyId,
    },
}

impl ListPosition {
    /// The place of this key.
    #[must_use]
    pub fn of(key: &StoredKey) -> Self {
        match &key.revocation {
            Some(revocation) => Self::Revoked {
                position: revocation.position,
                id: key.id,
            },
            None => Self::Live {
                created_micros: micros(key.created_at),
                id: key.id,
            },
        }
    }
}

/// In the order of a list: what is listed first is less.
impl Ord for ListPosition {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Live { .. }, Self::Revoked { .. }) => Ordering::Less,
            (Self::Revoked { .. }, Self::Live { .. }) => Ordering::Greater,
            (
                Self::Live { created_micros, id },
                Self::Live {
                    created_micros: at,
                    id: of,
                },
            ) => (at, of).cmp(&(created_micros, id)),
            (
                Self::Revoked { position, id },
                Self::Revoked {
                    position: at,
                    id: of,
                },
            ) => (position, id).cmp(&(at, of)),
        }
    }
}

impl PartialOrd for ListPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Microseconds since the Unix epoch: the years 0 to 9999 fit with much to spare.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it, at most as many as were asked for.
    pub items: Vec<T>,
    /// The position after which the list goes on; `None` if nothing is left to look at.
    ///
    /// It may be given although no key follows, and lies beyond the last item if the keys between them were looked at
    /// and are not admitted.
    pub next: Option<ListPosition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_size_is_bounded() {
        let query = ListQuery::of(&TenantId::new("a").unwrap());
        assert_eq!(query.page_size(), 50);
        for (asked, given) in [(0, 1), (1, 1), (1_000, 1_000), (u16::MAX, 1_000)] {
            assert_eq!(query.clone().limit(asked).page_size(), given);
        }
    }
}
