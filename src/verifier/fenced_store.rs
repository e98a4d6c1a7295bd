//! The store as the parts of one Keyward see it: its commits fence what they change.
//!
//! Before a commit its keys are fenced, so that nothing that was read decides on them, and stay so until the outcome
//! is known. Whoever drops the future, or gets no answer, does not know it: the keys stay fenced for as long as a
//! commit may take to end, and each request needs a read of them that began after it came. A machine that is suspended
//! just then may send a commit after it wakes that took longer: what it ends is noticed as if another node had done it.
//!
//! What a manager reads of a key is held against what the requests are decided on: else this node could tell whoever
//! revokes a key that another node has done so already, and go on granting it until it hears of that itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::slots::Slots;
use crate::key::{KeyId, StoredKey};
use crate::store::{
    Change, ChangeId, ChangeSet, Committed, Cursor, CutoffScope, EventLog, FeedPage, KeyStore,
    ListQuery, Page, StoreError, UsageStore,
};
use crate::sync::{Mutex, Planted, lock, planted};

/// How long a commit may still take place after whoever made it went away: the contract of [`KeyStore`] says so.
const MOST_TIME: Duration = Duration::from_secs(10 * 60);

/// A store whose commits fence this node's slots.
pub(crate) struct FencedStore {
    store: Arc<dyn KeyStore>,
    slots: Arc<Slots>,
    held: HeldFences,
}

/// The fences of commits of which no outcome is known, with the instant from which none is possible, once a clock has
/// told it.
type HeldFences = Mutex<HashMap<ChangeId, (Option<u64>, Fences)>>;

impl FencedStore {
    pub(crate) fn new(store: Arc<dyn KeyStore>, slots: Arc<Slots>) -> Self {
        Self {
            store,
            slots,
            held: HeldFences::default(),
        }
    }

    /// As `get`, for the verifier's own reads, which the fence judges when they arrive.
    pub(super) async fn read(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.store.get(id).await
    }

    /// Lifts the fences of commits that must have ended.
    fn lift_overdue(&self) {
        let overdue: Vec<_> = {
            let mut held = lock(&self.held);
            let Ok(now) = self.slots.now() else {
                return;
            };
            let most = u64::try_from(MOST_TIME.as_nanos()).unwrap_or(u64::MAX);
            let overdue = held.iter_mut().filter_map(|(id, (until, _))| {
                (*until.get_or_insert(now.saturating_add(most)) <= now).then_some(*id)
            });
            let overdue: Vec<_> = overdue.collect();
            let fences = overdue.iter().filter_map(|id| held.remove(id));
            fences.collect()
        };
        drop(overdue);
    }
}

/// What one commit fences. Dropped, it lifts the fence.
struct Fences {
    slots: Arc<Slots>,
    keys: Vec<KeyId>,
    cutoffs: Vec<CutoffScope>,
}

impl Fences {
    fn begin(slots: &Arc<Slots>, set: &ChangeSet) -> Self {
        let mut fences = Self {
            slots: Arc::clone(slots),
            keys: Vec::new(),
            cutoffs: Vec::new(),
        };
        for change in set.changes() {
            match change {
                Change::Replace { .. } | Change::Revoke { .. } | Change::Purge { .. } => {
                    fences.keys.extend(change.key_id());
                }
                Change::Cutoff { scope, .. } => fences.cutoffs.push(scope.clone()),
                // Nothing can have been read of a key that is not there, nor of any key of a tenant that can be
                // removed; a digest that is made anew is of the same secret; a cutoff is moved back only if no key
                // comes to life by it; settings and events decide on no key.
                Change::Insert(_)
                | Change::RemoveTenant { .. }
                | Change::Rehash { .. }
                | Change::LowerCutoff { .. }
                | Change::CutEvents { .. }
                | Change::Setting { .. } => {}
            }
        }
        for id in &fences.keys {
            slots.with(*id, super::slot::Slot::begin_commit);
        }
        for scope in &fences.cutoffs {
            slots.epochs.begin_cutoff(scope);
        }
        fences
    }
}

impl Drop for Fences {
    fn drop(&mut self) {
        for id in &self.keys {
            let epoch = self.slots.epochs.next();
            self.slots.with(*id, |slot| slot.end_commit(epoch));
            self.slots.release(*id);
            self.slots.watchers.wake(*id);
        }
        for scope in &self.cutoffs {
            self.slots.cut_off(scope);
            self.slots.epochs.end_cutoff(scope);
        }
    }
}

/// A commit under way. Dropped before its outcome is known, it leaves the fences standing.
struct UnderWay<'a> {
    store: &'a FencedStore,
    id: ChangeId,
    fences: Option<Fences>,
}

impl UnderWay<'_> {
    fn end(mut self, is_known: bool, is_committed: bool) {
        if is_known {
            self.fences = None;
        }
        if is_committed {
            // The tries before it were the same commit.
            let before = lock(&self.store.held).remove(&self.id);
            drop(before);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(fences) = self.fences.take() else {
            return;
        };
        let fences_nothing = fences.keys.is_empty() && fences.cutoffs.is_empty();
        if fences_nothing || planted(Planted::DropLiftsFence) {
            return;
        }
        let most = u64::try_from(MOST_TIME.as_nanos()).unwrap_or(u64::MAX);
        let now = self.store.slots.now().ok();
        let until = now.map(|now| now.saturating_add(most));
        let before = lock(&self.store.held).insert(self.id, (until, fences));
        drop(before);
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeyStore for FencedStore {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let stored = self.store.get(id).await?;
        self.slots.compare(id, stored.as_ref());
        Ok(stored)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        self.store.list(query).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        self.lift_overdue();
        if planted(Planted::FenceAfterCommit) {
            let result = self.store.commit(set).await;
            drop(Fences::begin(&self.slots, set));
            return result;
        }
        let under_way = UnderWay {
            store: self,
            id: set.id(),
            fences: Some(Fences::begin(&self.slots, set)),
        };
        let result = self.store.commit(set).await;
        let is_known = !matches!(result, Err(StoreError::Indeterminate(_)));
        under_way.end(
            is_known || planted(Planted::LostAnswerLiftsFence),
            result.is_ok(),
        );
        result
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        // Here too, so that a node on which nobody commits any more lifts them.
        self.lift_overdue();
        self.store.changes(after, wait).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        self.store.events()
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.store.usage()
    }
}

impl std::fmt::Debug for FencedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}
