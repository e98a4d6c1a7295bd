//! Listing a tenant's keys page by page.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::key::{KeyId, StoredKey, TenantId};

/// Which keys to list: one tenant's, from where on, how many.
///
/// ```
/// use keyward::{key::TenantId, store::KeyQuery};
///
/// let tenant = TenantId::new("acme-inc")?;
/// let query = KeyQuery::of(&tenant).live_first().limit(50);
/// # let _ = query;
/// # Ok::<(), keyward::key::TenantIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    tenant: TenantId,
    with_revoked: bool,
    limit: NonZeroU16,
    after: Option<ListPosition>,
}

impl KeyQuery {
    /// Most keys on a page.
    pub const MAX_LIMIT: u16 = 1_000;

    const DEFAULT_LIMIT: NonZeroU16 = NonZeroU16::MIN.saturating_add(49);

    /// The keys of a tenant that are not revoked, newest first, 50 to a page.
    #[must_use]
    pub fn of(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            with_revoked: false,
            limit: Self::DEFAULT_LIMIT,
            after: None,
        }
    }

    /// Lists the revoked keys too, after all others, in the order in which they were revoked.
    #[must_use]
    pub fn live_first(mut self) -> Self {
        self.with_revoked = true;
        self
    }

    /// How many keys to a page: at least 1, at most [`MAX_LIMIT`](Self::MAX_LIMIT). Other numbers mean the nearest.
    #[must_use]
    pub fn limit(mut self, limit: u16) -> Self {
        self.limit = NonZeroU16::new(limit.min(Self::MAX_LIMIT)).unwrap_or(NonZeroU16::MIN);
        self
    }

    /// Goes on after the page that bore this cursor.
    ///
    /// # Errors
    /// [`CursorError::Foreign`] if the cursor came of a query for another tenant or another kind of list.
    pub fn after(mut self, cursor: PageCursor) -> Result<Self, CursorError> {
        if cursor.query != self.fingerprint() {
            return Err(CursorError::Foreign);
        }
        self.after = Some(cursor.position);
        Ok(self)
    }

    /// Whose keys.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Whether revoked keys are listed, after the others.
    #[must_use]
    pub fn lists_revoked(&self) -> bool {
        self.with_revoked
    }

    /// How many keys to a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.limit.get().into()
    }

    /// The last key that was listed before; the page begins after it.
    #[must_use]
    pub fn position(&self) -> Option<ListPosition> {
        self.after
    }

    /// The cursor of a page of this query that ends with this key. For backends.
    #[must_use]
    pub fn cursor_after(&self, last: &StoredKey) -> PageCursor {
        PageCursor {
            position: ListPosition::of(last),
            query: self.fingerprint(),
        }
    }

    fn fingerprint(&self) -> [u8; 8] {
        let mut hash = Sha256::new();
        hash.update([u8::from(self.with_revoked)]);
        hash.update(self.tenant.as_str().as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        hash.first_chunk().copied().unwrap_or_default()
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

/// Microseconds since the Unix epoch: the years 0 to 9999 fit with much to spare.
pub(super) fn micros(at: time::OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where to go on; none on the last page.
    pub next: Option<PageCursor>,
}

/// Where a list goes on. Opaque text to clients, and bound to the tenant and the kind of list.
///
/// It keeps its place while keys come and go. It grants nothing: the tenant always comes from the query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    position: ListPosition,
    query: [u8; 8],
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, at, id) = match self.position {
            ListPosition::Live { created_micros, id } => ('a', created_micros.cast_unsigned(), id),
            ListPosition::Revoked { position, id } => ('r', position, id),
        };
        let query = u64::from_be_bytes(self.query);
        write!(f, "{segment}{at:016x}{:032x}{query:016x}", id.as_u128())
    }
}

impl fmt::Debug for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageCursor({self})")
    }
}

impl FromStr for PageCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = CursorError::Malformed;
        let digits = text.get(1..).ok_or(malformed)?;
        let canonical = digits.len() == 64
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(malformed);
        }
        let part = |from: usize, to: usize| digits.get(from..to).ok_or(malformed);
        let short = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| malformed);
        let at = short(part(0, 16)?)?;
        let id = u128::from_str_radix(part(16, 48)?, 16).map_err(|_| malformed)?;
        let id = KeyId::from_u128(id);
        let position = match text.as_bytes().first() {
            Some(b'a') => ListPosition::Live {
                created_micros: at.cast_signed(),
                id,
            },
            Some(b'r') => ListPosition::Revoked { position: at, id },
            _ => return Err(malformed),
        };
        Ok(Self {
            position,
            query: short(part(48, 64)?)?.to_be_bytes(),
        })
    }
}

/// A cursor cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The text is no cursor.
    #[error("the cursor is malformed")]
    Malformed,
    /// The cursor came of another query.
    #[error("the cursor belongs to another list")]
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(tenant: &str) -> KeyQuery {
        KeyQuery::of(&TenantId::new(tenant).unwrap())
    }

    #[test]
    fn cursors_read_back_and_belong_to_their_list() {
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
            let cursor = PageCursor {
                position,
                query: query("a").fingerprint(),
            };
            let read: PageCursor = cursor.to_string().parse().unwrap();
            assert_eq!(read, cursor);
            assert_eq!(query("a").after(read).unwrap().position(), Some(position));
            assert_eq!(query("b").after(read), Err(CursorError::Foreign));
            assert_eq!(
                query("a").live_first().after(read),
                Err(CursorError::Foreign)
            );
        }
    }

    #[test]
    fn malformed_cursors_are_refused() {
        let good = format!("a{}", "0".repeat(64));
        assert!(good.parse::<PageCursor>().is_ok());
        for bad in [
            String::new(),
            "a".into(),
            format!("x{}", "0".repeat(64)),
            format!("a{}", "0".repeat(63)),
            format!("a{}", "0".repeat(65)),
            format!("a{}", "A".repeat(64)),
            format!("a+{}", "0".repeat(63)),
            format!("é{}", "0".repeat(63)),
        ] {
            assert_eq!(
                bad.parse::<PageCursor>(),
                Err(CursorError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn page_size_is_bounded() {
        assert_eq!(query("a").page_size(), 50);
        for (asked, given) in [(0, 1), (1, 1), (1_000, 1_000), (u16::MAX, 1_000)] {
            assert_eq!(query("a").limit(asked).page_size(), given);
        }
    }
}
