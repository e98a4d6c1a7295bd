//! A store with faults that a test plants.

use std::fmt;
use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::audit::SealedEvent;
use crate::key::{KeyId, StoredKey, TenantId};
use crate::store::{
    ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Outcome, Page,
    StoreError, Usage, UsageStore,
};
use crate::testkit::SeededRandom;

/// A call to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`KeyStore::get`].
    Get,
    /// [`KeyStore::list`] and [`KeyStore::tenants`].
    List,
    /// [`KeyStore::commit`].
    Commit,
    /// [`KeyStore::changes`].
    Changes,
    /// [`EventLog::read`].
    ReadEvents,
    /// [`UsageStore::merge`].
    MergeUsage,
    /// [`UsageStore::read`].
    ReadUsage,
}

impl Call {
    /// All calls.
    const ALL: [Self; 7] = [
        Self::Get,
        Self::List,
        Self::Commit,
        Self::Changes,
        Self::ReadEvents,
        Self::MergeUsage,
        Self::ReadUsage,
    ];

    const fn index(self) -> usize {
        self as usize
    }
}

/// The fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Does nothing and returns [`StoreError::Unavailable`].
    Unavailable,
    /// Does nothing and returns [`StoreError::Corrupt`].
    Corrupt,
    /// Does nothing and returns [`StoreError::Unsupported`].
    Unsupported,
    /// Does nothing and returns [`StoreError::Conflict`].
    Conflict,
    /// Does nothing and returns [`StoreError::Indeterminate`].
    Indeterminate,
    /// Makes the call and returns [`StoreError::Indeterminate`]: the connection was lost at COMMIT.
    LostAnswer,
    /// Makes the call after this delay.
    Delay(Duration),
    /// Makes the call after the caller has waited this many polls.
    Yield(u32),
    /// Does nothing and never returns.
    Hang,
    /// Makes the call and never returns.
    HangAfter,
    /// Reports that the key does not exist. Does not affect other calls.
    Missing,
    /// Returns this key instead of the requested one. Does not affect other calls.
    OtherKey(KeyId),
    /// Does nothing and returns outcomes that do not match the changes. Does not affect other calls.
    OtherOutcomes,
}

/// A wrapper around a store that makes calls fail, by a script or at random from a seed.
///
/// Clones share their script and their counts.
///
/// ```
/// use keyward::{store::{KeyStore, MemoryStore}, testkit::{Call, Fault, FaultyStore}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = FaultyStore::over(MemoryStore::new()).on(Call::Get, 1..2, Fault::Unavailable);
/// let id = keyward::key::KeyId::from_u128(7);
/// assert!(store.get(id).await.is_ok());
/// assert!(store.get(id).await.is_err(), "the second call");
/// assert!(store.get(id).await.is_ok());
/// # }
/// ```
#[derive(Clone)]
pub struct FaultyStore {
    store: Arc<dyn KeyStore>,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    rules: Vec<(Option<Call>, Range<u64>, Fault)>,
    random: Option<(SeededRandom, usize, Vec<Fault>)>,
    counts: [u64; Call::ALL.len()],
    total: u64,
}

impl FaultyStore {
    /// Wraps this store, without faults at first.
    #[must_use]
    pub fn over(store: impl KeyStore) -> Self {
        Self {
            store: Arc::new(store),
            script: Arc::default(),
        }
    }

    /// Plants this fault in the calls of this kind within the range, counted from 0 over calls of the kind.
    ///
    /// If several rules match a call, the first one applies.
    #[must_use]
    pub fn on(self, call: Call, which: Range<u64>, fault: Fault) -> Self {
        self.script().rules.push((Some(call), which, fault));
        self
    }

    /// Plants a fault as [`on`](Self::on) does, in calls of any kind, counted over all kinds.
    #[must_use]
    pub fn on_any(self, which: Range<u64>, fault: Fault) -> Self {
        self.script().rules.push((None, which, fault));
        self
    }

    /// Plants one of these faults in one of `one_in` other calls, drawn from the seed.
    #[must_use]
    pub fn at_random(
        self,
        seed: u64,
        one_in: u32,
        faults: impl IntoIterator<Item = Fault>,
    ) -> Self {
        let (random, faults) = (SeededRandom::new(seed), faults.into_iter().collect());
        let one_in = usize::try_from(one_in).unwrap_or(usize::MAX);
        self.script().random = Some((random, one_in, faults));
        self
    }

    /// Removes all rules: from now on no call fails. Counts go on.
    pub fn heal(&self) {
        let mut script = self.script();
        script.rules.clear();
        script.random = None;
    }

    /// Returns the number of calls of this kind.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        let script = self.script();
        script.counts.get(call.index()).copied().unwrap_or_default()
    }

    /// Returns the number of all calls.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.script().total
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, applies a fault that precedes it, and returns a fault that remains.
    async fn begin(&self, call: Call) -> Result<Option<Fault>, StoreError> {
        let fault = self.script().next(call);
        match fault {
            Some(Fault::Unavailable) => Err(StoreError::Unavailable(planted())),
            Some(Fault::Corrupt) => Err(StoreError::Corrupt(planted())),
            Some(Fault::Unsupported) => Err(StoreError::Unsupported),
            Some(Fault::Conflict) => Err(StoreError::Conflict),
            Some(Fault::Indeterminate) => Err(StoreError::Indeterminate(planted())),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Some(Fault::Yield(polls)) => {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
                Ok(None)
            }
            Some(Fault::Hang) => pending().await,
            other => Ok(other),
        }
    }

    /// Applies a fault that follows the call, and returns the answer.
    async fn end<T>(fault: Option<Fault>, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match fault {
            Some(Fault::LostAnswer) if answer.is_ok() => Err(StoreError::Indeterminate(planted())),
            Some(Fault::HangAfter) => pending().await,
            _ => answer,
        }
    }
}

impl Script {
    fn next(&mut self, call: Call) -> Option<Fault> {
        let count = self.counts.get_mut(call.index())?;
        let (of_kind, of_all) = (*count, self.total);
        *count += 1;
        self.total += 1;
        let mut rules = self.rules.iter();
        let scripted = rules.find(|(kind, which, _)| match kind {
            Some(kind) => *kind == call && which.contains(&of_kind),
            None => which.contains(&of_all),
        });
        if let Some((_, _, fault)) = scripted {
            return Some(*fault);
        }
        let (random, one_in, faults) = self.random.as_ref()?;
        let is_drawn = random.below(*one_in) == 0;
        is_drawn.then(|| faults.get(random.below(faults.len())).copied())?
    }
}

fn planted() -> Box<dyn std::error::Error + Send + Sync> {
    "planted by the test".into()
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        let fault = self.begin(Call::Get).await?;
        let answer = match fault {
            Some(Fault::Missing) => Ok(None),
            Some(Fault::OtherKey(other)) => self.store.get(other).await,
            _ => self.store.get(id).await,
        };
        Self::end(fault, answer).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let fault = self.begin(Call::List).await?;
        Self::end(fault, self.store.list(query).await).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let fault = self.begin(Call::List).await?;
        Self::end(fault, self.store.tenants(after, limit).await).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let fault = self.begin(Call::Commit).await?;
        if fault == Some(Fault::OtherOutcomes) {
            return Ok(Committed {
                position: 0,
                outcomes: vec![Outcome::Missing, Outcome::Inserted],
            });
        }
        Self::end(fault, self.store.commit(set).await).await
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        let fault = self.begin(Call::Changes).await?;
        Self::end(fault, self.store.changes(after, wait).await).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        self.store.events().map(|_| self as &dyn EventLog)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        self.store.usage().map(|_| self as &dyn UsageStore)
    }
}

#[async_trait]
impl EventLog for FaultyStore {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let fault = self.begin(Call::ReadEvents).await?;
        let events = self.store.events().ok_or(StoreError::Unsupported)?;
        Self::end(fault, events.read(tenant, after, limit).await).await
    }
}

#[async_trait]
impl UsageStore for FaultyStore {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        let fault = self.begin(Call::MergeUsage).await?;
        let usage = self.store.usage().ok_or(StoreError::Unsupported)?;
        Self::end(fault, usage.merge(id, batch).await).await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        let fault = self.begin(Call::ReadUsage).await?;
        let usage = self.store.usage().ok_or(StoreError::Unsupported)?;
        Self::end(fault, usage.read(ids).await).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script();
        f.debug_struct("FaultyStore")
            .field("store", &self.store)
            .field("rules", &script.rules)
            .field("calls", &script.total)
            .finish_non_exhaustive()
    }
}
