//! A store that reads damaged rows, with one thing wrong with how it treats them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use keyward::key::{KeyId, StoredKey, TenantId, Title};
use keyward::store::{
    Change, ChangeSet, Committed, KeyStore, ListQuery, MemoryStore, Outcome, Page, Precondition,
    StoreError,
};

/// A way to treat a damaged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Right,
    IsMissing,
    IsReadAsWhole,
    FailsItsList,
    IsLeftOutOfLists,
    IsNotRevoked,
    RevocationRewrites,
    RevocationRepairs,
    RevocationIsNotFinal,
    IsReplaced,
    IsRehashed,
    IsInsertedAgain,
    IsNotUnderTheCap,
    IsNotUnderCutoffs,
    FailsCutoffs,
    IsRevived,
    IsOfNoTenant,
    HidesItsTenant,
    IsNotPurged,
    IsPurgedAlive,
}

pub(super) const WRONG: [Treatment; 19] = [
    Treatment::IsMissing,
    Treatment::IsReadAsWhole,
    Treatment::FailsItsList,
    Treatment::IsLeftOutOfLists,
    Treatment::IsNotRevoked,
    Treatment::RevocationRewrites,
    Treatment::RevocationRepairs,
    Treatment::RevocationIsNotFinal,
    Treatment::IsReplaced,
    Treatment::IsRehashed,
    Treatment::IsInsertedAgain,
    Treatment::IsNotUnderTheCap,
    Treatment::IsNotUnderCutoffs,
    Treatment::FailsCutoffs,
    Treatment::IsRevived,
    Treatment::IsOfNoTenant,
    Treatment::HidesItsTenant,
    Treatment::IsNotPurged,
    Treatment::IsPurgedAlive,
];

/// A memory store beside which a test keeps nonsense for titles.
#[derive(Debug, Clone)]
pub(super) struct Damageable {
    store: MemoryStore,
    treatment: Treatment,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    /// The titles of damaged keys.
    nonsense: HashMap<KeyId, String>,
    /// The keys that hold only placeholders.
    overwritten: HashSet<KeyId>,
}

fn corrupt<T>() -> Result<T, StoreError> {
    Err(StoreError::Corrupt("a damaged row".into()))
}

impl Damageable {
    pub(super) fn new(treatment: Treatment) -> Self {
        Self {
            store: MemoryStore::new(),
            treatment,
            rows: Arc::default(),
        }
    }

    /// Puts a text in the place of a title.
    pub(super) fn retitle(&self, id: KeyId, title: String) {
        self.rows().nonsense.insert(id, title);
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    fn is_damaged(&self, id: KeyId) -> bool {
        let rows = self.rows();
        let is_nonsense = |title: &String| Title::new(title).is_err();
        rows.nonsense.get(&id).is_some_and(is_nonsense)
    }

    fn read(&self, key: StoredKey) -> StoredKey {
        let is_whole = !self.is_damaged(key.id) || self.treatment == Treatment::IsReadAsWhole;
        if is_whole && !self.rows().overwritten.contains(&key.id) {
            return key;
        }
        let cutoff = key.cutoff;
        StoredKey {
            revocation: key.revocation,
            revision: key.revision,
            cutoff: cutoff.filter(|_| self.treatment != Treatment::IsNotUnderCutoffs),
            ..StoredKey::damaged(key.id, key.tenant, key.created_at)
        }
    }

    async fn damaged_of(&self, tenant: &TenantId) -> Vec<StoredKey> {
        let page = self.store.list(&ListQuery::of(tenant)).await.unwrap();
        let keys = page.items.into_iter();
        keys.filter(|key| self.is_damaged(key.id)).collect()
    }

    /// Whether the tenant has keys, and all of them are damaged.
    async fn has_only_damaged(&self, tenant: &TenantId) -> bool {
        let page = self.store.list(&ListQuery::of(tenant)).await.unwrap();
        let mut keys = page.items.iter();
        !page.items.is_empty() && keys.all(|key| self.is_damaged(key.id))
    }

    /// The answer in place of the right one, if this change is treated wrongly.
    async fn wrong_answer(&self, change: &Change) -> Result<Option<Outcome>, StoreError> {
        let is_damaged = change.key_id().is_some_and(|id| self.is_damaged(id));
        Ok(match (self.treatment, change) {
            (Treatment::IsNotRevoked, Change::Revoke { .. }) if is_damaged => corrupt()?,
            (Treatment::RevocationIsNotFinal, Change::Revoke { id, .. }) if is_damaged => {
                let key = self.store.get(*id).await?;
                let is_revoked = key.is_some_and(|key| key.revocation.is_some());
                is_revoked.then_some(Outcome::Revoked)
            }
            (Treatment::IsReplaced, Change::Replace { with, .. }) if is_damaged => {
                self.retitle(with.id, with.title.as_str().to_owned());
                None
            }
            (_, Change::Replace { .. }) if is_damaged => corrupt()?,
            (Treatment::IsRehashed, Change::Rehash { .. }) => None,
            (_, Change::Rehash { .. }) if is_damaged => Some(Outcome::NotRehashed),
            (Treatment::IsInsertedAgain, Change::Insert(_)) if is_damaged => {
                Some(Outcome::Inserted)
            }
            (Treatment::FailsCutoffs, Change::Cutoff { scope, .. }) => match scope.tenant() {
                Some(tenant) if !self.damaged_of(tenant).await.is_empty() => corrupt()?,
                _ => None,
            },
            (Treatment::IsRevived, Change::LowerCutoff { scope, .. }) => match scope.tenant() {
                Some(tenant) if self.has_only_damaged(tenant).await => Some(Outcome::CutoffLowered),
                _ => None,
            },
            (Treatment::IsOfNoTenant, Change::RemoveTenant { tenant }) => {
                let is_removed = self.has_only_damaged(tenant).await;
                is_removed.then_some(Outcome::TenantRemoved)
            }
            (Treatment::IsNotPurged, Change::Purge { .. }) if is_damaged => {
                Some(Outcome::NotPurged)
            }
            (Treatment::IsPurgedAlive, Change::Purge { .. }) if is_damaged => Some(Outcome::Purged),
            _ => None,
        })
    }

    /// The set without its condition, if the cap does not count damaged keys and would hold without them.
    async fn uncapped(&self, set: &ChangeSet) -> Option<ChangeSet> {
        let [Precondition::UnrevokedKeysBelow { tenant, limit }] = set.preconditions() else {
            return None;
        };
        let damaged = self.damaged_of(tenant).await.len();
        let uncapped = ChangeSet::new(set.id(), set.changes().to_vec());
        let is_uncapped = self.treatment == Treatment::IsNotUnderTheCap;
        uncapped.filter(|_| is_uncapped && damaged > 0 && limit.get() == 1)
    }
}

#[async_trait]
impl KeyStore for Damageable {
    test_support::passes_on!(store: changes events usage);

    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        if self.treatment == Treatment::IsMissing && self.is_damaged(id) {
            return Ok(None);
        }
        Ok(self.store.get(id).await?.map(|key| self.read(key)))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let mut page = self.store.list(query).await?;
        let is_damaged = |key: &StoredKey| self.is_damaged(key.id);
        match self.treatment {
            Treatment::FailsItsList if page.items.iter().any(is_damaged) => return corrupt(),
            Treatment::IsLeftOutOfLists => page.items.retain(|key| !is_damaged(key)),
            _ => {}
        }
        page.items = page.items.into_iter().map(|key| self.read(key)).collect();
        Ok(page)
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut tenants = self.store.tenants(after, limit).await?;
        if self.treatment == Treatment::HidesItsTenant {
            let mut seen = Vec::new();
            for tenant in tenants {
                if !self.has_only_damaged(&tenant).await {
                    seen.push(tenant);
                }
            }
            tenants = seen;
        }
        Ok(tenants)
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut answers = Vec::new();
        for change in set.changes() {
            answers.push(self.wrong_answer(change).await?);
        }
        if let [Some(answer)] = &answers[..] {
            let position = 0;
            let outcomes = vec![answer.clone()];
            return Ok(Committed { position, outcomes });
        }
        let uncapped = self.uncapped(set).await;
        let committed = self.store.commit(uncapped.as_ref().unwrap_or(set)).await?;
        for change in set.changes() {
            match change {
                Change::Revoke { id, .. } if self.is_damaged(*id) => match self.treatment {
                    Treatment::RevocationRewrites => drop(self.rows().overwritten.insert(*id)),
                    Treatment::RevocationRepairs => drop(self.rows().nonsense.remove(id)),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(committed)
    }
}
