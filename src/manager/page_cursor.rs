//! The position at which a list continues.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codes::codes;
use crate::key::KeyId;
use crate::store::ListPosition;

/// The position at which a list continues. Opaque text to clients, and bound to the tenant and the conditions of the
/// list.
///
/// It keeps its place while keys are added and removed. It grants nothing: the tenant always comes from the query. It
/// names the key at which the list stopped, by its id and an instant or position. That may be a key of the tenant that
/// the conditions exclude.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    pub(super) position: ListPosition,
    /// Fingerprint of the query that returned the cursor.
    pub(super) query: [u8; 8],
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segment, at, id) = match self.position {
            ListPosition::Live { created_micros, id } => {
                ('a', u64::from_be_bytes(created_micros.to_be_bytes()), id)
            }
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
    type Err = PageCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = PageCursorError::Malformed;
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
                created_micros: i64::from_be_bytes(at.to_be_bytes()),
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

/// Serializes as text.
impl Serialize for PageCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PageCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a [`PageCursor`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageCursorError {
    /// The text is not a cursor.
    #[error("the cursor is malformed")]
    Malformed,
    /// The cursor belongs to another query.
    #[error("the cursor belongs to another list")]
    OtherQuery,
}

codes! {
    PageCursorError;
    Self::Malformed => "malformed",
    Self::OtherQuery => "other_query",
}

#[cfg(test)]
mod tests {
    use super::*;

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
                Err(PageCursorError::Malformed),
                "{bad}"
            );
        }
    }
}
