//! What changed, in the order in which it was committed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::CutoffScope;
use crate::key::{KeyId, TenantId};

/// A place in a store's history of changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which history the position is in: drawn when the store was created, and anew whenever a backup is restored,
    /// by whoever restores it.
    pub history: u64,
    /// How far.
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
    type Err = FeedCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |digits: &str| {
            let canonical = digits.len() == 16
                && digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let value = canonical.then(|| u64::from_str_radix(digits, 16).ok());
            value.flatten().ok_or(FeedCursorError)
        };
        let (history, position) = text.split_once('-').ok_or(FeedCursorError)?;
        Ok(Self {
            history: read(history)?,
            position: read(position)?,
        })
    }
}

/// What a look at the feed brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedPage {
    /// What changed after the cursor, in commit order; nothing if the wait ended first.
    Next {
        /// The changes.
        items: Vec<Changed>,
        /// Where to go on.
        next: Cursor,
        /// Whether there may be more already. If not, all that was committed before the call began has been told.
        has_more: bool,
    },
    /// The changes after the cursor are not to be had: forget all that was derived from the feed.
    Resync {
        /// Where to go on.
        next: Cursor,
    },
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Changed {
    /// A key was added, replaced, revoked or purged.
    Key {
        /// Which key.
        id: KeyId,
        /// The revision it is at since; of a purged key, one above its last.
        revision: u64,
    },
    /// A cutoff was set or moved back, or a tenant was removed: any key in its scope may have ended.
    Cutoff {
        /// Whose keys.
        scope: CutoffScope,
    },
    /// The oldest events were removed from the log.
    EventsCut {
        /// The number of the last of them.
        through: u64,
    },
}

impl Changed {
    /// Puts a tenant in the place of its owner, if the change tells of one: readers do more than they have to.
    pub(crate) fn forget_owner(&mut self, of: &TenantId) {
        match self {
            Self::Cutoff { scope } if scope.tenant() == Some(of) => *scope = of.into(),
            _ => {}
        }
    }
}

/// The text is not a feed cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the feed cursor is malformed")]
pub struct FeedCursorError;

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
