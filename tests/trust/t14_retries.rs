//! Promise 14 where the store is hard to reach: the suite's random sequences, of one task and of several, over a store
//! whose calls are lost on the way there or back, and that is asked again until it answers. A commit that is asked for
//! again under its id takes place once, so the sequences must not tell the difference.
//!
//! A planted bug that it catches: a retry under another id, which takes place twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, StoredKey, TenantId};
use keyward::random::OsRandom;
use keyward::store::{
    ChangeId, ChangeSet, Committed, Cursor, EventLog, FeedPage, KeyStore, ListQuery, Page,
    StoreError, Usage, UsageStore,
};
use keyward::testkit::conformance::{Failure, Suite};
use keyward::testkit::{Fault, FaultyStore};

use crate::store::Store;

const LOSSES: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Yield(1),
];
const CASES: [&str; 2] = [
    "one_task_agrees_with_the_reference",
    "several_tasks_agree_with_the_reference",
];

/// Asks a store again for as long as its answers are lost.
#[derive(Debug)]
struct Insistent {
    store: FaultyStore,
    /// Whether a commit is asked for under another id each time.
    is_forgetful: bool,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

async fn insist<'a, T>(ask: impl Fn() -> Answer<'a, T>) -> Result<T, StoreError> {
    loop {
        let answer = ask().await;
        if !is_lost(&answer) {
            return answer;
        }
    }
}

fn is_lost<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(
        answer,
        Err(StoreError::Unavailable(_) | StoreError::Indeterminate(_))
    )
}

/// The same changes under another id.
fn anew(set: &ChangeSet) -> Option<ChangeSet> {
    let anew = ChangeSet::new(ChangeId::generate(&OsRandom), set.changes().to_vec())?;
    let conditions = set.preconditions().iter().cloned();
    let anew = conditions.fold(anew, ChangeSet::on_condition);
    let events = set.events();
    Some(events.fold(anew, |set, (of, event)| {
        set.with_event_of(of, event.clone())
    }))
}

#[async_trait]
impl KeyStore for Insistent {
    async fn get(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        insist(|| self.store.get(id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        insist(|| self.store.list(query)).await
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut answer = self.store.commit(set).await;
        while is_lost(&answer) {
            answer = match anew(set).filter(|_| self.is_forgetful) {
                Some(anew) => self.store.commit(&anew).await,
                None => self.store.commit(set).await,
            };
        }
        answer
    }

    async fn changes(
        &self,
        after: Option<&Cursor>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        insist(|| self.store.changes(after, wait)).await
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }
}

#[async_trait]
impl EventLog for Insistent {
    async fn read(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        insist(|| EventLog::read(&self.store, tenant, after, limit)).await
    }
}

#[async_trait]
impl UsageStore for Insistent {
    async fn merge(&self, id: ChangeId, batch: &[(KeyId, Usage)]) -> Result<(), StoreError> {
        insist(|| self.store.merge(id, batch)).await
    }

    async fn read(&self, ids: &[KeyId]) -> Result<Vec<Option<Usage>>, StoreError> {
        insist(|| UsageStore::read(&self.store, ids)).await
    }
}

fn suite(is_forgetful: bool) -> Suite {
    static SEED: AtomicU64 = AtomicU64::new(14);
    Suite::new(move || async move {
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let store = Insistent {
            store: FaultyStore::over(Store::new()).at_random(seed, 3, LOSSES),
            is_forgetful,
        };
        Ok(((), store))
    })
}

#[test]
fn retried_calls_agree_with_the_model() -> Result<(), Failure> {
    CASES.iter().try_for_each(|case| suite(false).run(case))
}

#[test]
fn a_repeated_commit_is_caught() {
    let suite = suite(true).sequences(200);
    assert!(CASES.iter().any(|case| suite.run(case).is_err()));
}
