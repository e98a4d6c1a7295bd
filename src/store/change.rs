//! What is committed, and what became of it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{ChainHead, Event, SealedEvent};
use crate::key::{Digest, KeyId, RevokeReason, StoredKey, TenantId};
use crate::random::RandomSource;

/// Names one commit, so that repeating it after a lost answer does nothing twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChangeId(Uuid);

impl ChangeId {
    /// A new id.
    ///
    /// Unique even where the random source fails or repeats itself: a revocation must not wait for one, nor
    /// be taken for the retry of another commit.
    pub fn generate(random: &dyn RandomSource) -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        static NEXT: AtomicU64 = AtomicU64::new(0);

        let mut drawn = [0; 16];
        if random.fill(&mut drawn).is_err() {
            drawn = [0; 16];
        }
        let mut hash = Sha256::new();
        hash.update(drawn);
        hash.update(PROCESS.to_be_bytes());
        hash.update(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mut bytes = [0; 16];
        for (byte, hashed) in bytes.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangeId({})", self.0)
    }
}

/// Changes that land together or not at all, with the conditions they need and the events they cause.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    id: ChangeId,
    changes: Vec<Change>,
    preconditions: Vec<Precondition>,
    events: Vec<Event>,
}

impl ChangeSet {
    /// Most changes in a set.
    pub const MAX_CHANGES: usize = 16;

    /// A set of these changes; `None` if there are none or more than [`MAX_CHANGES`](Self::MAX_CHANGES).
    #[must_use]
    pub fn new(id: ChangeId, changes: impl IntoIterator<Item = Change>) -> Option<Self> {
        let changes: Vec<_> = changes.into_iter().collect();
        (1..=Self::MAX_CHANGES)
            .contains(&changes.len())
            .then_some(Self {
                id,
                changes,
                preconditions: Vec::new(),
                events: Vec::new(),
            })
    }

    /// A set of one change.
    #[must_use]
    pub fn one(id: ChangeId, change: Change) -> Self {
        Self {
            id,
            changes: vec![change],
            preconditions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Adds a condition without which nothing of the set is done.
    #[must_use]
    pub fn on_condition(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Adds an event that is recorded with the changes.
    #[must_use]
    pub fn with_event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// What names this commit.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.id
    }

    /// The changes, in the order in which they are made.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The conditions, all of which must hold before the first change.
    #[must_use]
    pub fn preconditions(&self) -> &[Precondition] {
        &self.preconditions
    }

    /// The events, before they have their place in the chain.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Gives the events their place in the chain after `head`: the events to store, and the new head.
    ///
    /// Called inside the commit, and again for each try of it.
    #[must_use]
    pub fn seal(&self, head: ChainHead) -> (Vec<SealedEvent>, ChainHead) {
        let mut head = head;
        let mut sealed = Vec::with_capacity(self.events.len());
        for event in &self.events {
            let (event, next) = head.seal(event.clone());
            sealed.push(event);
            head = next;
        }
        (sealed, head)
    }
}

/// One change. A store refuses a kind that it does not know as
/// [`Unsupported`](super::StoreError::Unsupported).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// Adds a key, at revision 1. Never overwrites.
    Insert(Box<StoredKey>),
    /// Replaces a key that is at the revision `expected` and not revoked. Its id, tenant, creation and digest
    /// stay as they are stored, whatever `with` says.
    Replace {
        /// The revision that was read.
        expected: u64,
        /// The key as it is to be, at revision `expected + 1`.
        with: Box<StoredKey>,
    },
    /// Revokes a key, whatever its revision.
    Revoke {
        /// Which key.
        id: KeyId,
        /// When.
        at: OffsetDateTime,
        /// Why.
        reason: RevokeReason,
    },
    /// Replaces a key's digest if it is still `from` and the key is not revoked.
    Rehash {
        /// Which key.
        id: KeyId,
        /// The digest that was read.
        from: Digest,
        /// The digest to store.
        to: Digest,
    },
    /// Ends all keys that were issued before an instant, of one tenant or of all. Only ever moves forward.
    Cutoff {
        /// Whose keys; none: everybody's.
        tenant: Option<TenantId>,
        /// The first instant of issue that is still good.
        before: OffsetDateTime,
    },
    /// Stores a value under a name, unless one is stored there already. The outcome says what stands.
    Setting {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
}

/// What must hold for a set to be committed, checked inside the commit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Precondition {
    /// The tenant has fewer keys than this that are not revoked as stored. Expired keys count.
    UnrevokedKeysBelow {
        /// Which tenant.
        tenant: TenantId,
        /// The number that must not be reached before the commit.
        limit: NonZeroU32,
    },
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The store's position after it.
    pub position: u64,
    /// What became of each change, in their order.
    pub outcomes: Vec<Outcome>,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The key was added.
    Inserted,
    /// The key was replaced.
    Replaced,
    /// The key was revoked by this commit.
    Revoked,
    /// The key had been revoked before. It stays as it was.
    AlreadyRevoked {
        /// When it was revoked.
        at: OffsetDateTime,
    },
    /// There is no such key to revoke.
    Missing,
    /// The digest was replaced.
    Rehashed,
    /// The digest had changed, or the key was revoked or missing: nothing was done.
    NotRehashed,
    /// The cutoff was set.
    CutOff,
    /// A later cutoff stood already.
    AlreadyCutOff,
    /// What stands under the setting's name: the value given, or the one that was there.
    Setting {
        /// The value that stands.
        stands: String,
    },
}

impl Outcome {
    /// Whether the change altered anything that others must learn of. A rehash did not: it changes neither
    /// what a key may do nor who holds it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        matches!(
            self,
            Self::Inserted | Self::Replaced | Self::Revoked | Self::CutOff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomError;

    #[test]
    fn change_ids_differ_even_when_randomness_fails_or_repeats() {
        #[derive(Debug)]
        struct Stuck(bool);
        impl RandomSource for Stuck {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                if self.0 {
                    Ok(())
                } else {
                    Err(RandomError::new("planted"))
                }
            }
            fn is_for_tests(&self) -> bool {
                true
            }
        }
        for source in [Stuck(true), Stuck(false)] {
            assert_ne!(ChangeId::generate(&source), ChangeId::generate(&source));
        }
    }

    #[test]
    fn a_set_is_bounded() {
        let set = |n: usize| {
            let change = |i| Change::Setting {
                name: format!("{i}"),
                value: String::new(),
            };
            ChangeSet::new(
                ChangeId::generate(&crate::random::OsRandom),
                (0..n).map(change),
            )
        };
        assert!(set(0).is_none());
        assert!(set(16).is_some());
        assert!(set(17).is_none());
    }
}
