//! A memory store that counts its calls, loses answers, and lets others in between two calls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, StoredKey, TenantId};
use keyward::store::{
    Change, ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery,
    MemoryStore, Page, StoreError, Usage, UsageStore,
};
use keyward::testkit::SeededRandom;

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It takes place, and its answer is lost.
    Answer,
    /// It does not take place, and nobody knows.
    Commit,
    /// The store is away.
    Away,
    /// It does not fail.
    None,
}

/// How the store keeps usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UsageMode {
    #[default]
    Kept,
    NotKept,
    Failing,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Shim(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    inner: MemoryStore,
    gets: AtomicU64,
    lists: AtomicU64,
    commits: AtomicU64,
    losses: Mutex<VecDeque<Loss>>,
    first: Mutex<VecDeque<Vec<Change>>>,
    lists_left: Mutex<Option<u64>>,
    usage: Mutex<UsageMode>,
    stray: Mutex<Option<StoredKey>>,
    hidden: Mutex<Option<u64>>,
    meanwhile: Mutex<Option<Meanwhile>>,
    tenants: Mutex<TenantsMode>,
    repeats_events: AtomicBool,
}

/// How the store lists tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TenantsMode {
    #[default]
    Listed,
    NotListed,
    Repeated,
}

/// What happens during a commit.
struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Shim {
    pub(crate) fn inner(&self) -> &MemoryStore {
        &self.0.inner
    }

    /// How often it was asked for anything at all.
    pub(crate) fn calls(&self) -> u64 {
        self.lists() + self.0.gets.load(Ordering::SeqCst) + self.commits()
    }

    pub(crate) fn lists(&self) -> u64 {
        self.0.lists.load(Ordering::SeqCst)
    }

    pub(crate) fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::SeqCst)
    }

    /// What becomes of the next commits.
    pub(crate) fn lose(&self, losses: impl IntoIterator<Item = Loss>) {
        *self.0.losses.lock().unwrap() = losses.into_iter().collect();
    }

    /// What somebody else does just before the next commits, one each.
    pub(crate) fn first(&self, changes: impl IntoIterator<Item = Change>) {
        let each = changes.into_iter().map(|change| vec![change]);
        *self.0.first.lock().unwrap() = each.collect();
    }

    /// What somebody else does just before the next commit.
    pub(crate) fn first_all(&self, changes: impl IntoIterator<Item = Change>) {
        *self.0.first.lock().unwrap() = [changes.into_iter().collect()].into();
    }

    pub(crate) fn list_tenants(&self, is_listed: bool) {
        *self.0.tenants.lock().unwrap() = match is_listed {
            true => TenantsMode::Listed,
            false => TenantsMode::NotListed,
        };
    }

    /// The list of tenants begins anew on each page.
    pub(crate) fn repeat_tenants(&self) {
        *self.0.tenants.lock().unwrap() = TenantsMode::Repeated;
    }

    /// Each page of events begins anew.
    pub(crate) fn repeat_events(&self) {
        self.0.repeats_events.store(true, Ordering::SeqCst);
    }

    /// What happens during the next commit.
    pub(crate) fn meanwhile(&self, what: impl FnOnce() + Send + 'static) {
        *self.0.meanwhile.lock().unwrap() = Some(Meanwhile(Box::new(what)));
    }

    /// Lists fail once this many were answered.
    pub(crate) fn answer_lists(&self, count: Option<u64>) {
        *self.0.lists_left.lock().unwrap() = count;
    }

    /// Every list ends with this key, whoever's it is.
    pub(crate) fn let_stray(&self, key: StoredKey) {
        *self.0.stray.lock().unwrap() = Some(key);
    }

    /// The event of this number is not read.
    pub(crate) fn hide_event(&self, number: Option<u64>) {
        *self.0.hidden.lock().unwrap() = number;
    }

    pub(crate) fn keep_usage(&self, mode: UsageMode) {
        *self.0.usage.lock().unwrap() = mode;
    }

    /// Changes something behind the manager's back.
    pub(crate) async fn change(&self, change: Change) {
        let id = ChangeId::generate(&SeededRandom::new(0));
        let set = ChangeSet::one(id, change);
        self.0.inner.commit(&set).await.unwrap();
    }
}

#[async_trait]
impl KeyStore for Shim {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.0.gets.fetch_add(1, Ordering::SeqCst);
        self.0.inner.get(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        if let Some(left) = &mut *self.0.lists_left.lock().unwrap() {
            if *left == 0 {
                return Err(StoreError::Unavailable("planted".into()));
            }
            *left -= 1;
        }
        let mut page = self.0.inner.list(query).await?;
        page.items.extend(self.0.stray.lock().unwrap().clone());
        Ok(page)
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        let mode = *self.0.tenants.lock().unwrap();
        match mode {
            TenantsMode::Listed => self.0.inner.tenants(after, limit).await,
            TenantsMode::NotListed => Err(StoreError::Unsupported),
            TenantsMode::Repeated => self.0.inner.tenants(None, limit).await,
        }
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        self.0.commits.fetch_add(1, Ordering::SeqCst);
        let first = self.0.first.lock().unwrap().pop_front();
        for change in first.into_iter().flatten() {
            self.change(change).await;
        }
        if let Some(Meanwhile(what)) = self.0.meanwhile.lock().unwrap().take() {
            what();
        }
        let loss = self.0.losses.lock().unwrap().pop_front();
        match loss.unwrap_or(Loss::None) {
            Loss::None => self.0.inner.commit(set).await,
            Loss::Answer => {
                self.0.inner.commit(set).await?;
                Err(StoreError::Indeterminate("planted".into()))
            }
            Loss::Commit => Err(StoreError::Indeterminate("planted".into())),
            Loss::Away => Err(StoreError::Unavailable("planted".into())),
        }
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        self.0.inner.changes(after, wait).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        let mode = *self.0.usage.lock().unwrap();
        (mode != UsageMode::NotKept).then_some(self)
    }
}

#[async_trait]
impl EventLog for Shim {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let hidden = *self.0.hidden.lock().unwrap();
        let repeats = self.0.repeats_events.load(Ordering::SeqCst);
        let after = if repeats { 0 } else { after };
        let events = EventLog::read(&self.0.inner, tenant, after, limit).await?;
        let shown = events.into_iter();
        Ok(shown
            .filter(|sealed| Some(sealed.number) != hidden)
            .collect())
    }
}

#[async_trait]
impl UsageStore for Shim {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        self.0.inner.merge(id, batch).await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        let mode = *self.0.usage.lock().unwrap();
        if mode == UsageMode::Failing {
            return Err(StoreError::Unavailable("planted".into()));
        }
        UsageStore::read(&self.0.inner, ids).await
    }
}
