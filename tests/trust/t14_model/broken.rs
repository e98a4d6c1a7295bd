//! A store with one thing wrong with it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, StoredKey, TenantId};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Committed, Cursor, CutoffScope, EventLog, FeedPage, KeyStore,
    ListPosition, ListQuery, MemoryStore, Outcome, Page, Precondition, StoreError, UsageStore,
};

use super::Bug;

/// A memory store with one thing wrong with it.
#[derive(Debug)]
pub(super) struct Broken {
    store: MemoryStore,
    bug: Bug,
    cache: Mutex<HashMap<KeyId, Option<StoredKey>>>,
    events: AtomicU64,
    commits: AtomicU64,
}

impl Broken {
    pub(super) fn new(bug: Bug) -> Self {
        Self {
            store: MemoryStore::new(),
            bug,
            cache: Mutex::default(),
            events: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }
    }

    /// The set with other changes or conditions, under the same id or a new one.
    fn rebuilt(
        set: &ChangeSet,
        id: ChangeId,
        changes: impl IntoIterator<Item = Change>,
        conditions: &[Precondition],
    ) -> ChangeSet {
        let mut rebuilt = ChangeSet::new(id, changes).unwrap();
        for (index, event) in set.events() {
            rebuilt = rebuilt.with_event_of(index, event.clone());
        }
        let conditions = conditions.iter().cloned();
        conditions.fold(rebuilt, ChangeSet::on_condition)
    }

    async fn commit_wrongly(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let fresh = || ChangeId::generate(&OsRandom);
        let same = || set.changes().to_vec();
        match self.bug {
            Bug::InsertOverwrites => match self.store.commit(set).await {
                Err(StoreError::AlreadyExists) => {
                    let mut changes = Vec::new();
                    for change in same() {
                        changes.push(match change {
                            Change::Insert(key) => match self.store.get(key.id).await? {
                                Some(stored) => Change::Replace {
                                    expected: stored.revision,
                                    with: key,
                                },
                                None => Change::Insert(key),
                            },
                            other => other,
                        });
                    }
                    let upsert = Self::rebuilt(set, set.id(), changes, set.preconditions());
                    let mut committed = self.store.commit(&upsert).await?;
                    for (outcome, change) in committed.outcomes.iter_mut().zip(set.changes()) {
                        if matches!(change, Change::Insert(_)) {
                            *outcome = Outcome::Inserted;
                        }
                    }
                    Ok(committed)
                }
                committed => committed,
            },
            Bug::RetryIsCommittedAnew => {
                let anew = Self::rebuilt(set, fresh(), same(), set.preconditions());
                self.store.commit(&anew).await
            }
            Bug::ReplaceIgnoresRevision => {
                let changes = self.with_stored_revisions(set, false).await;
                let trusting = Self::rebuilt(set, set.id(), changes, set.preconditions());
                self.store.commit(&trusting).await
            }
            Bug::ReplaceChecksBefore => {
                let changes = self.with_stored_revisions(set, true).await;
                let trusting = Self::rebuilt(set, set.id(), changes, set.preconditions());
                self.store.commit(&trusting).await
            }
            Bug::SecondRevocationRevokes => {
                let mut committed = self.store.commit(set).await?;
                for outcome in &mut committed.outcomes {
                    if matches!(outcome, Outcome::AlreadyRevoked { .. }) {
                        *outcome = Outcome::Revoked;
                    }
                }
                Ok(committed)
            }
            Bug::SetIsTorn => self.torn(set).await,
            Bug::CapIsCheckedBefore => {
                if !self.cap_holds(set).await {
                    return self.store.commit(set).await;
                }
                let is_cap =
                    |one: &Precondition| matches!(one, Precondition::UnrevokedKeysBelow { .. });
                let kept: Vec<_> = set.preconditions().to_vec();
                let kept: Vec<_> = kept.into_iter().filter(|one| !is_cap(one)).collect();
                self.store
                    .commit(&Self::rebuilt(set, set.id(), same(), &kept))
                    .await
            }
            Bug::CutoffIsCheckedBefore => {
                let is_cutoff = |one: &Precondition| matches!(one, Precondition::NotCutOff { .. });
                let (cutoffs, others): (Vec<_>, Vec<_>) =
                    set.preconditions().iter().cloned().partition(is_cutoff);
                if cutoffs.is_empty() {
                    return self.store.commit(set).await;
                }
                // Asked in a transaction of its own, which changes nothing.
                let nothing = Change::Setting {
                    name: "asked".into(),
                    value: String::new(),
                };
                let asked = Self::rebuilt(set, fresh(), [nothing], set.preconditions());
                self.store.commit(&asked).await?;
                self.gap().await;
                self.store
                    .commit(&Self::rebuilt(set, set.id(), same(), &others))
                    .await
            }
            Bug::ConditionsArePassedOver => {
                self.store
                    .commit(&Self::rebuilt(set, set.id(), same(), &[]))
                    .await
            }
            Bug::OwnersCutoffIsForgotten => {
                let changes = same().into_iter().map(|change| match change {
                    Change::Cutoff {
                        scope: CutoffScope::Owner { tenant, .. },
                        before,
                    } => {
                        let nobody = keyward::key::Principal::system("nobody").unwrap();
                        let scope = CutoffScope::Owner {
                            tenant,
                            owner: nobody,
                        };
                        Change::Cutoff { scope, before }
                    }
                    other => other,
                });
                let changes: Vec<_> = changes.collect();
                self.store
                    .commit(&Self::rebuilt(set, set.id(), changes, set.preconditions()))
                    .await
            }
            Bug::EventIsLost | Bug::EventIsDoubled => {
                let mut other = ChangeSet::new(set.id(), same()).unwrap();
                for (index, event) in set.events() {
                    let is_third = self.events.fetch_add(1, Ordering::Relaxed) % 3 == 2;
                    let count = match self.bug {
                        Bug::EventIsLost => u32::from(!is_third),
                        _ => 1 + u32::from(is_third),
                    };
                    for _ in 0..count {
                        other = other.with_event_of(index, event.clone());
                    }
                }
                let conditions = set.preconditions().iter().cloned();
                let other = conditions.fold(other, ChangeSet::on_condition);
                self.store.commit(&other).await
            }
            _ => self.store.commit(set).await,
        }
    }

    async fn torn(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut outcomes = Vec::new();
        let mut position = 0;
        for (index, change) in set.changes().iter().enumerate() {
            let mut one = ChangeSet::one(ChangeId::generate(&OsRandom), change.clone());
            for (_, event) in set.events().filter(|(of, _)| *of == index) {
                one = one.with_event(event.clone());
            }
            let committed = self.store.commit(&one).await?;
            position = committed.position;
            outcomes.extend(committed.outcomes);
        }
        Ok(Committed { position, outcomes })
    }

    /// The changes with the revisions that are stored in place of those expected, if `trusts` says so.
    async fn with_stored_revisions(&self, set: &ChangeSet, only_if_equal: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for change in set.changes() {
            let mut change = change.clone();
            if let Change::Replace { expected, with } = &mut change
                && let Some(stored) = self.store.get(with.id).await.unwrap()
            {
                if only_if_equal && stored.revision == *expected {
                    self.gap().await;
                    let now = self.store.get(with.id).await.unwrap().unwrap();
                    *expected = now.revision;
                } else if !only_if_equal {
                    *expected = stored.revision;
                }
            }
            changes.push(change);
        }
        changes
    }

    /// The gap in which another task gets in between. It lasts until one has, for on a busy machine each task might
    /// else run to its end alone; and not for ever, for there may be no other.
    async fn gap(&self) {
        let before = self.commits.load(Ordering::Relaxed);
        for _ in 0..200 {
            tokio::task::yield_now().await;
            if self.commits.load(Ordering::Relaxed) != before {
                return;
            }
        }
    }

    async fn cap_holds(&self, set: &ChangeSet) -> bool {
        for condition in set.preconditions() {
            if let Precondition::UnrevokedKeysBelow { tenant, limit } = condition {
                let page = self.store.list(&ListQuery::of(tenant).limit(1_000)).await;
                let count = page.unwrap().items.len();
                self.gap().await;
                if count >= usize::try_from(limit.get()).unwrap() {
                    return false;
                }
            }
        }
        true
    }
}

#[async_trait]
impl KeyStore for Broken {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let stored = self.store.get(id).await?;
        match self.bug {
            Bug::ReadsAreCached => {
                let mut cache = self.cache.lock().unwrap();
                Ok(cache.entry(id).or_insert(stored).clone())
            }
            // What was read last time is answered, and what is read now the next.
            Bug::ReadsLag => {
                let mut cache = self.cache.lock().unwrap();
                Ok(cache.insert(id, stored.clone()).unwrap_or(stored))
            }
            _ => Ok(stored),
        }
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let mut page = match (self.bug, query.position()) {
            (Bug::PagesOverlap, Some(ListPosition::Live { created_micros, id })) => {
                let next = KeyId::from_u128(id.as_u128().saturating_add(1));
                let before = ListPosition::Live {
                    created_micros,
                    id: next,
                };
                self.store.list(&query.clone().after(before)).await?
            }
            _ => self.store.list(query).await?,
        };
        match self.bug {
            Bug::ListKnowsNoCutoff => page.items.iter_mut().for_each(|key| key.cutoff = None),
            Bug::RevokedByDate => page.items.sort_by_key(|key| {
                let revoked_at = key.revocation.as_ref().map(|revocation| revocation.at);
                (revoked_at, std::cmp::Reverse((key.created_at, key.id)))
            }),
            _ => {}
        }
        Ok(page)
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let committed = self.commit_wrongly(set).await;
        self.commits.fetch_add(1, Ordering::Relaxed);
        committed
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        let mut page = self.store.changes(after, wait).await?;
        if let (Bug::FeedSkips, FeedPage::Next { items, .. }) = (self.bug, &mut page)
            && items.len() > 2
        {
            items.remove(1);
        }
        if let (Bug::SaysThatWasAll, FeedPage::Next { has_more, .. }) = (self.bug, &mut page) {
            *has_more = false;
        }
        Ok(page)
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.store.usage()
    }
}

#[async_trait]
impl EventLog for Broken {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let events = self.store.events().unwrap();
        events.read(tenant, after, limit).await
    }
}
