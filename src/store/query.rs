//! Listing a tenant's keys page by page, from a backend's side.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU16;

use time::OffsetDateTime;

use crate::clock::unix_micros;
use crate::key::{KeyId, Principal, StoredKey, TenantId};

/// Query for one page of a tenant's keys: filters, position and page size.
///
/// The manager builds it from a [`manager::KeyQuery`](crate::manager::KeyQuery); it refers to columns only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    tenant: TenantId,
    segments: Segments,
    filters: Vec<KeyFilter>,
    limit: NonZeroU16,
    after: Option<ListPosition>,
    latest: bool,
}

/// The requested parts of a tenant's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Segments {
    /// The keys that are not revoked as stored, newest first.
    Live,
    /// The keys of `Live`, and after them the revoked ones in the order in which they were revoked.
    LiveThenRevoked,
    /// Only the revoked keys.
    Revoked,
}

/// Number of keys that the backends of this crate scan for one page. More than fit on a page, so that a page without a
/// filter is full.
pub(super) const MOST_SCANNED: usize = 4_096;

impl ListQuery {
    /// Maximum number of keys on a page.
    pub(crate) const MAX_LIMIT: u16 = 1_000;

    /// Lists the keys of a tenant that are not revoked, newest first, 50 to a page.
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

    /// Selects the segments to list.
    #[must_use]
    pub fn listing(mut self, segments: Segments) -> Self {
        self.segments = segments;
        self
    }

    /// Adds a filter; a key is listed only if all filters admit it.
    #[must_use]
    pub fn only(mut self, filter: KeyFilter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Sets the page size: at least 1, at most 1,000.
    ///
    /// A number outside these bounds means the nearest bound.
    #[must_use]
    pub fn limit(mut self, limit: u16) -> Self {
        self.limit = NonZeroU16::new(limit.min(Self::MAX_LIMIT)).unwrap_or(NonZeroU16::MIN);
        self
    }

    /// Starts the page after this position.
    #[must_use]
    pub fn after(mut self, position: ListPosition) -> Self {
        self.after = Some(position);
        self
    }

    /// Demands the latest state: the answer must show every commit that returned before.
    pub(crate) fn at_latest(mut self) -> Self {
        self.latest = true;
        self
    }

    /// Returns the tenant of the keys.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns whether the keys that are not revoked as stored are listed.
    #[must_use]
    pub fn lists_live(&self) -> bool {
        self.segments != Segments::Revoked
    }

    /// Returns whether the revoked keys are listed.
    #[must_use]
    pub fn lists_revoked(&self) -> bool {
        self.segments != Segments::Live
    }

    /// Returns the filters that a listed key must meet.
    #[must_use]
    pub fn filters(&self) -> &[KeyFilter] {
        &self.filters
    }

    /// Returns whether all filters admit this key.
    ///
    /// It knows kinds of filters that the backend may not: match on [`filters`](Self::filters) first, and refuse those.
    #[must_use]
    pub fn admits(&self, key: &StoredKey) -> bool {
        self.filters.iter().all(|filter| filter.admits(key))
    }

    /// Returns the page size in keys.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.limit.get().into()
    }

    /// Returns the position after which the page begins; `None` for the first page.
    #[must_use]
    pub fn position(&self) -> Option<ListPosition> {
        self.after
    }

    /// Returns the position before which no key is listed: [`position`](Self::position), or a later one that a filter
    /// implies.
    pub(super) fn start(&self) -> Option<ListPosition> {
        let issued = self.filters.iter().filter_map(|filter| match filter {
            KeyFilter::IssuedBy(instant) => Some(ListPosition::Live {
                created_micros: unix_micros(*instant).saturating_add(1),
                id: KeyId::from_u128(0),
            }),
            _ => None,
        });
        issued.chain(self.after).max()
    }

    /// Returns whether the answer must show every commit that returned before.
    #[must_use]
    pub fn must_be_latest(&self) -> bool {
        self.latest
    }
}

/// A filter that a key must meet to be listed.
///
/// A store refuses an unknown kind as [`Unsupported`](super::StoreError::Unsupported).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFilter {
    /// The key belongs to this owner.
    Owner(Principal),
    /// The key's title begins with these characters, compared with case.
    TitleStartsWith(Box<str>),
    /// The key's id lies between these two, both included.
    IdBetween(KeyId, KeyId),
    /// The key was issued at this instant or before.
    IssuedBy(OffsetDateTime),
    /// The key has an expiry, at this instant or before.
    ExpiresBy(OffsetDateTime),
}

impl KeyFilter {
    /// Returns whether the filter admits this key.
    ///
    /// It serves backends without an index for the filter, and defines the filter's meaning.
    #[must_use]
    pub(crate) fn admits(&self, key: &StoredKey) -> bool {
        match self {
            Self::Owner(owner) => key.owner == *owner,
            Self::TitleStartsWith(start) => key.title.as_str().starts_with(&**start),
            Self::IdBetween(first, last) => (*first..=*last).contains(&key.id),
            Self::IssuedBy(instant) => key.created_at <= *instant,
            Self::ExpiresBy(instant) => key.expires_at.is_some_and(|end| end <= *instant),
        }
    }
}

/// Hides the title: people paste whole keys into searches.
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

/// The position of a key in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListPosition {
    /// A position among the keys that are not revoked: descending by creation, and by id among those of one
    /// microsecond.
    Live {
        /// The instant of issue, in microseconds since the Unix epoch.
        created_micros: i64,
        /// The key's id.
        id: KeyId,
    },
    /// A position among the revoked keys: ascending by the position of the commit that revoked them, and by id within
    /// one commit.
    Revoked {
        /// The position of that commit.
        position: u64,
        /// The key's id.
        id: KeyId,
    },
}

impl ListPosition {
    /// Returns the position of this key.
    #[must_use]
    pub fn of(key: &StoredKey) -> Self {
        match &key.revocation {
            Some(revocation) => Self::Revoked {
                position: revocation.position,
                id: key.id,
            },
            None => Self::Live {
                created_micros: unix_micros(key.created_at),
                id: key.id,
            },
        }
    }
}

/// Compares in list order: a key that is listed first is less.
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

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The listed keys, at most as many as were asked for.
    pub items: Vec<T>,
    /// The position after which the list continues; `None` if the end was reached.
    ///
    /// `Some` does not promise that another key follows. The position lies beyond the last item if the backend scanned
    /// keys between them that the filters do not admit.
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
