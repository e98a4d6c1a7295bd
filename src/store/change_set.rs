//! Changes that are committed together.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Change, Outcome, Precondition};
use crate::audit::{ChainHead, Event, SealedEvent};
use crate::random::RandomSource;

/// Id of one commit, so that a retry after a lost answer changes nothing twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(Uuid);

impl ChangeId {
    /// Creates a new id.
    ///
    /// The id is unique even if the random source fails or repeats itself: a revocation must not wait for randomness,
    /// nor be mistaken for the retry of another commit.
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

    /// Returns the id as 16 bytes.
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
    /// Events, each with the index of the change that it records.
    events: Vec<(usize, Event)>,
}

impl ChangeSet {
    /// Maximum number of changes in a set.
    pub const MAX_CHANGES: usize = 16;

    /// Creates a set of these changes; `None` if there are no changes or more than [`MAX_CHANGES`](Self::MAX_CHANGES).
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

    /// Creates a set of one change.
    #[must_use]
    pub fn one(id: ChangeId, change: Change) -> Self {
        Self {
            id,
            changes: vec![change],
            preconditions: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Adds a condition without which the store does nothing of the set.
    #[must_use]
    pub fn on_condition(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Adds the event that records the last change.
    #[must_use]
    pub fn with_event(self, event: Event) -> Self {
        let last = self.changes.len().saturating_sub(1);
        self.with_event_of(last, event)
    }

    /// Adds the event that records one of the changes, counted from 0.
    ///
    /// The store records the event if that change [is published](Outcome::is_published), and not otherwise.
    #[must_use]
    pub fn with_event_of(mut self, change: usize, event: Event) -> Self {
        self.events.push((change, event));
        self
    }

    /// Returns the id of this commit.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.id
    }

    /// Returns the changes, in the order in which they are made.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns the conditions, all of which must hold before the first change.
    #[must_use]
    pub fn preconditions(&self) -> &[Precondition] {
        &self.preconditions
    }

    /// Returns the events, each with the index of its change, before they have their place in the chain.
    pub fn events(&self) -> impl Iterator<Item = (usize, &Event)> {
        self.events.iter().map(|(change, event)| (*change, event))
    }

    /// Places the events of the published changes in the chain after `head`, and returns the events to store and the
    /// new head.
    ///
    /// A store calls it inside the commit, and again for each attempt. `outcomes` are those of the changes, in their
    /// order.
    #[must_use]
    pub fn seal(&self, head: ChainHead, outcomes: &[Outcome]) -> (Vec<SealedEvent>, ChainHead) {
        let is_published =
            |change: &usize| outcomes.get(*change).is_some_and(Outcome::is_published);
        let mut head = head;
        let mut sealed = Vec::with_capacity(self.events.len());
        for (_, event) in self
            .events
            .iter()
            .filter(|(change, _)| is_published(change))
        {
            let (event, next) = head.seal(event.clone());
            sealed.push(event);
            head = next;
        }
        (sealed, head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomError;

    #[test]
    fn ids_differ_without_randomness() {
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
