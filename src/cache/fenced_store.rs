//! The store as the parts of one Keyward see it: its commits fence the keys that they change.
//!
//! The store fences keys before a commit, so that no earlier read decides on them, and lifts the fence once the outcome
//! is known. If the caller drops the future, or gets no answer, the outcome is unknown: the keys stay fenced for as
//! long as a commit may take to end, and each request needs a read of them that began after the request came. A machine
//! that is suspended at that moment may send a commit after it wakes, later than that time: this node then notices the
//! change like one by another node.
//!
//! A manager's read of a key is compared with the entry that decides on requests. Otherwise this node could answer a
//! revocation by saying that another node has revoked the key already, and go on granting the key until its own feed
//! reports that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::slots::Slots;
use crate::key::{KeyId, StoredKey, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, Committed, Cursor, CutoffScope, EventLog, FeedPage, KeyStore,
    ListQuery, Page, StoreError, UsageStore,
};
use crate::sync::{Mutex, lock};

/// Time for which a commit may still take place after its caller has gone, by the contract of [`KeyStore`].
const MOST_TIME: Duration = Duration::from_secs(10 * 60);

/// A store with commits that fence this node's slots.
pub(crate) struct FencedStore {
    store: Arc<dyn KeyStore>,
    slots: Arc<Slots>,
    held: HeldFences,
}

/// The fences of commits with an unknown outcome, each with the instant by which the commit has ended. The instant is
/// `None` until the clock can be read.
type HeldFences = Mutex<HashMap<ChangeId, (Option<u64>, Fences)>>;

impl FencedStore {
    pub(crate) fn new(store: Arc<dyn KeyStore>, slots: Arc<Slots>) -> Self {
        Self {
            store,
            slots,
            held: HeldFences::default(),
        }
    }

    /// Reads a key for the verifier, like `get`; the fence judges the snapshot when it arrives.
    pub(crate) async fn read(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.store.get(id).await
    }

    /// Lifts the fences of commits that must have ended.
    fn lift_overdue(&self) {
        let overdue: Vec<_> = {
            let mut held = lock(&self.held);
            let Ok(now) = self.slots.lease.now() else {
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

/// The keys and cutoffs that one commit fences. Dropping it lifts the fence.
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
                // The cache holds no read of a missing key, nor of any key of a tenant that can be removed. A rehashed
                // digest is of the same secret. A cutoff moves back only if that revives no key. Settings and events
                // decide on no key.
                Change::Insert(_)
                | Change::RemoveTenant { .. }
                | Change::Rehash { .. }
                | Change::LowerCutoff { .. }
                | Change::CutEvents { .. }
                | Change::Setting { .. } => {}
            }
        }
        for id in &fences.keys {
            slots.map.with(*id, super::slot::Slot::begin_commit);
        }
        for scope in &fences.cutoffs {
            slots.lease.epochs.begin_cutoff(scope);
        }
        fences
    }
}

impl Drop for Fences {
    fn drop(&mut self) {
        for id in &self.keys {
            let epoch = self.slots.lease.epochs.next();
            self.slots.map.with(*id, |slot| slot.end_commit(epoch));
            self.slots.release(*id);
            self.slots.watchers.wake(*id);
        }
        for scope in &self.cutoffs {
            self.slots.cut_off(scope);
            self.slots.lease.epochs.end_cutoff(scope);
        }
    }
}

/// A commit in progress. If it is dropped before its outcome is known, the fences stay.
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
            // Earlier attempts with this id were the same commit.
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
        if fences_nothing {
            return;
        }
        let most = u64::try_from(MOST_TIME.as_nanos()).unwrap_or(u64::MAX);
        let now = self.store.slots.lease.now().ok();
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

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        self.store.tenants(after, limit).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        self.lift_overdue();
        let under_way = UnderWay {
            store: self,
            id: set.id(),
            fences: Some(Fences::begin(&self.slots, set)),
        };
        let result = self.store.commit(set).await;
        let is_known = !matches!(result, Err(StoreError::Indeterminate(_)));
        under_way.end(is_known, result.is_ok());
        result
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        // Here too, so that a node without further commits lifts them.
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
