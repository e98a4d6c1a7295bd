//! Records the operations of several concurrent tasks, and checks that some order explains the answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::operation::{Answer, Operation, World, query_of};
use super::reference::{Reference, Refusal};
use crate::key::KeyId;
use crate::store::{ChangeSet, Committed, Outcome};
use crate::testkit::conformance::material::{Store, Verdict};
use crate::testkit::conformance::{Failure, check, check_eq};

/// The operations performed, and the positions between which each took place.
#[derive(Debug)]
pub(super) struct History {
    start: u64,
    /// The highest position that any task has received.
    reached: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    operation: Operation,
    set: Option<ChangeSet>,
    /// The highest position that any task had received before the call.
    after: u64,
    answer: Answer,
}

impl History {
    pub(super) fn new(start: u64) -> Self {
        Self {
            start,
            reached: AtomicU64::new(start),
            entries: Mutex::default(),
        }
    }

    /// Performs these operations one after the other, as one of the tasks.
    pub(super) async fn perform_all(&self, store: &Store, operations: Vec<Operation>) -> Verdict {
        let mut world = World::default();
        for operation in operations {
            let after = self.reached.load(Ordering::SeqCst);
            let answer = match &operation {
                // Pages are read at different moments, so a single page with all keys is compared.
                Operation::List { .. } => {
                    let page = store.list(&query_of(&operation)?.limit(1_000)).await?;
                    Answer::Keys(page.items)
                }
                _ => world.perform(store, &operation).await,
            };
            if let Answer::Committed(Ok(committed)) = &answer {
                self.reached.fetch_max(committed.position, Ordering::SeqCst);
            }
            match answer {
                Answer::Fault(failure) => return Err(failure),
                // Such an error says nothing about the set, so later answers could not be checked.
                Answer::Committed(Err(error)) if Refusal::of(&error).is_none() => {
                    return Err(error.into());
                }
                _ => {}
            }
            let set = world.committed_by(&operation);
            let entry = Entry {
                operation,
                set,
                after,
                answer,
            };
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.push(entry);
        }
        Ok(())
    }

    /// Repeats the commits on a reference, in the order of their positions, and checks every answer against it.
    pub(super) fn check(&self) -> Result<Reference, Failure> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut commits: Vec<(&ChangeSet, &Committed)> = Vec::new();
        for entry in &*entries {
            let (Some(set), Answer::Committed(Ok(committed))) = (&entry.set, &entry.answer) else {
                continue;
            };
            match commits.iter().find(|(known, _)| known.id() == set.id()) {
                Some((_, first)) => check_eq!(committed, *first, "{set:?} committed again"),
                None => commits.push((set, committed)),
            }
        }
        commits.retain(|(_, committed)| committed.outcomes.iter().any(Outcome::is_published));
        commits.sort_by_key(|(_, committed)| committed.position);
        // The state after each position, beginning with the start.
        let mut states = vec![Reference::new(self.start)];
        for (set, committed) in commits {
            let last = states.last().ok_or_else(|| Failure::new("no state"))?;
            let mut next = last.clone();
            let expected = next.commit(set).map_err(|refusal| {
                Failure::new(format!(
                    "{set:?} was committed at {}, where it must fail: {refusal:?}",
                    committed.position
                ))
            })?;
            check_eq!(*committed, expected, "{set:?} in the order of positions");
            states.push(next);
        }
        for entry in &*entries {
            self.check_entry(entry, &states)?;
        }
        states.pop().ok_or_else(|| Failure::new("no state"))
    }

    fn check_entry(&self, entry: &Entry, states: &[Reference]) -> Verdict {
        let since = usize::try_from(entry.after.saturating_sub(self.start))?;
        let mut possible = states.iter().skip(since);
        let is_right = match (&entry.set, &entry.answer) {
            (Some(set), Answer::Committed(Ok(committed))) => {
                let is_published = committed.outcomes.iter().any(Outcome::is_published);
                // Commits that added to the feed are compared above. Any other commit leaves the state at its
                // position unchanged.
                is_published
                    || states.iter().any(|state| {
                        let decided = state.after(set);
                        state.position == committed.position
                            && decided.is_ok_and(|(_, outcomes)| outcomes == committed.outcomes)
                    })
            }
            (Some(set), Answer::Committed(Err(error))) => {
                let refusal = Refusal::of(error);
                refusal.is_some() && possible.any(|state| state.after(set).err() == refusal)
            }
            (_, Answer::Key(found)) => {
                let Operation::Get(id) = entry.operation else {
                    return Err(Failure::new("not a read"));
                };
                possible.any(|state| state.get(KeyId::from_u128(id)) == **found)
            }
            (_, Answer::Keys(found)) => {
                let query = query_of(&entry.operation)?;
                possible.any(|state| state.list(&query) == *found)
            }
            _ => true,
        };
        check!(
            is_right,
            "no moment after position {} explains\n  {:?}\n  found: {:?}",
            entry.after,
            entry.operation,
            entry.answer
        );
        Ok(())
    }
}
