//! The change feed: published changes in commit order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CutoffScope;
use crate::key::{KeyId, TenantId, ValueError, tagged_form};

const MALFORMED: ValueError = ValueError::malformed(
    "feed cursor",
    "two numbers of 16 hexadecimal digits, joined by `-`",
);
const CHANGED: ValueError = ValueError::malformed(
    "change",
    "of a type `key`, `cutoff` or `events_cut`, with the members of that type",
);

/// A place in a store's history of changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The history of the position: a number drawn when the store is created, and again when the operator restores a
    /// backup.
    pub history: u64,
    /// The position within the history.
    pub position: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.history, self.position)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl FromStr for Cursor {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |digits: &str| {
            let canonical = digits.len() == 16
                && digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let value = canonical.then(|| u64::from_str_radix(digits, 16).ok());
            value.flatten().ok_or(MALFORMED)
        };
        let (history, position) = text.split_once('-').ok_or(MALFORMED)?;
        Ok(Self {
            history: read(history)?,
            position: read(position)?,
        })
    }
}

/// The answer to one poll of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedPage {
    /// The changes after the cursor, in commit order; empty if the wait ended first.
    Next {
        /// The changes.
        items: Vec<Changed>,
        /// The cursor for the next poll.
        next: Cursor,
        /// Whether more changes may be available already. If not, the feed has reported every change that was committed
        /// before the call began.
        has_more: bool,
    },
    /// The changes after the cursor are not available: the reader must discard all that it derived from the feed.
    Resync {
        /// The cursor for the next poll.
        next: Cursor,
    },
}

/// One published change.
///
/// In JSON it is an object with a `type`, such as `{"type":"key","id":"0b9c1f5e-…","revision":3}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ChangedForm", into = "ChangedForm")]
#[non_exhaustive]
pub enum Changed {
    /// A key was added, replaced, revoked or purged.
    Key {
        /// The key.
        id: KeyId,
        /// The revision since the change; of a purged key, one above its last.
        revision: u64,
    },
    /// A cutoff was set or moved back, or a tenant was removed: any key in its scope may have ended.
    Cutoff {
        /// The keys that the cutoff binds.
        scope: CutoffScope,
    },
    /// The oldest events were removed from the log.
    EventsCut {
        /// The number of the last removed event.
        through: u64,
    },
}

tagged_form!(
    Changed, ChangedForm, ChangedType {
        Key { id => id: KeyId, revision => revision: u64 },
        Cutoff { scope => scope: CutoffScope },
        EventsCut { through => through: u64 },
    },
    CHANGED
);

impl Changed {
    /// Replaces the owner by its tenant if the change names an owner of it. Readers then discard more than necessary,
    /// which is safe.
    pub(crate) fn forget_owner(&mut self, of: &TenantId) {
        match self {
            Self::Cutoff { scope } if scope.tenant() == Some(of) => *scope = of.into(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_in_one_spelling() {
        let cursor = Cursor {
            history: 7,
            position: u64::MAX,
        };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for bad in [
            "",
            "-",
            "7-7",
            "0000000000000007-ffffffffffffffFF",
            "+000000000000007-0000000000000000",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
