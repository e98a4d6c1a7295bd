//! A store that writes down what became of its rows, and stores that do not keep the promise.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyward::audit::{ChainHead, EventAction, SealedEvent};
use keyward::key::{KeyId, KeyRecord, SecretOrigin, StoredKey, TenantId};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Committed, EventLog, FeedPage, KeyStore, Outcome, StoreError,
};
use tokio::sync::Mutex;

use crate::store::Store;

/// A step of a row's history, and what it was; none for a cutoff.
pub(super) type Step = (Option<(KeyId, u64)>, EventAction);

/// A store that compares the rows of each commit before and after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    pub(super) inner: Store,
    pub(super) steps: Arc<Mutex<Vec<Step>>>,
}

impl Recorder {
    async fn rows(&self, ids: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.push(self.inner.get(*id).await?);
        }
        Ok(rows)
    }
}

/// What made one row of the other.
fn steps(before: Option<StoredKey>, after: Option<StoredKey>) -> Vec<Step> {
    use EventAction as A;
    let Some(after) = after else {
        assert_eq!(before, None, "a row is gone");
        return Vec::new();
    };
    let (from, to) = (
        before.as_ref().map_or(0, |row| row.revision),
        after.revision,
    );
    let was_revoked = before.as_ref().is_some_and(|row| row.revocation.is_some());
    let after = KeyRecord::decode(after).unwrap();
    let before = before.map(|row| KeyRecord::decode(row).unwrap());
    let suspended = |record: &KeyRecord| record.suspended_at().is_some();
    let changed = match &before {
        None if matches!(after.origin(), SecretOrigin::Generated { .. }) => Some(A::KeyIssued),
        None => Some(A::KeyImported),
        Some(before) if before.rotation() != after.rotation() => Some(A::KeyRotated),
        Some(before) => match (suspended(before), suspended(&after)) {
            (false, true) => Some(A::KeySuspended),
            (true, false) => Some(A::KeyResumed),
            _ => (before.title() != after.title()).then_some(A::KeyUpdated),
        },
    };
    let revoked = after.revocation().is_some() && !was_revoked;
    let actions = changed.into_iter().chain(revoked.then_some(A::KeyRevoked));
    let actions: Vec<_> = actions.collect();
    let revisions = from + 1..=to;
    assert_eq!(
        revisions.clone().count(),
        actions.len(),
        "{before:?} {after:?}"
    );
    let keys = revisions.map(|revision| Some((after.id(), revision)));
    keys.zip(actions).collect()
}

#[async_trait]
impl KeyStore for Recorder {
    test_support::passes_on!(inner: get list tenants changes events usage);

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut written = self.steps.lock().await;
        let mut seen = HashSet::new();
        let ids = set.changes().iter().filter_map(Change::key_id);
        let ids: Vec<_> = ids.filter(|id| seen.insert(*id)).collect();
        let (position, before) = (self.position().await?, self.rows(&ids).await?);
        let committed = self.inner.commit(set).await;
        let after = self.rows(&ids).await?;
        for (before, after) in before.into_iter().zip(after) {
            written.extend(steps(before, after));
        }
        let has_moved = self.position().await? > position;
        let is_cutoff = matches!(set.changes(), [Change::Cutoff { .. }]);
        written.extend((has_moved && is_cutoff).then_some((None, EventAction::KeysCutOff)));
        committed
    }
}

impl Recorder {
    pub(super) async fn position(&self) -> Result<u64, StoreError> {
        match self.inner.changes(None, Duration::ZERO).await? {
            FeedPage::Resync { next } | FeedPage::Next { next, .. } => Ok(next.position),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// The event of an update is lost.
    UpdateIsSilent,
    /// The events of changes that were none are recorded.
    NothingIsTold,
    /// A retry under the same id is committed anew.
    RetryIsAnew,
    /// The events of a retry are recorded again.
    RetryIsToldAgain,
    /// A rotation is told as an update.
    WrongAction,
}

/// A recorder that keeps its own log, with one of these.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    recorder: Recorder,
    bug: Bug,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    head: ChainHead,
    events: Vec<SealedEvent>,
    committed: HashSet<ChangeId>,
}

impl Broken {
    pub(super) fn with(bug: Bug, recorder: Recorder) -> Self {
        Self {
            recorder,
            bug,
            log: Arc::default(),
        }
    }
}

#[async_trait]
impl KeyStore for Broken {
    test_support::passes_on!(recorder: get list tenants changes usage);

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        let mut log = self.log.lock().await;
        let is_anew = self.bug == Bug::RetryIsAnew;
        let committed = if is_anew {
            let id = ChangeId::generate(&OsRandom);
            let anew = ChangeSet::new(id, set.changes().to_vec()).unwrap();
            let conditions = set.preconditions().iter().cloned();
            let anew = conditions.fold(anew, ChangeSet::on_condition);
            self.recorder.commit(&anew).await?
        } else {
            self.recorder.commit(set).await?
        };
        let is_first = log.committed.insert(set.id());
        for (change, event) in set.events() {
            let mut event = event.clone();
            let is_published = committed
                .outcomes
                .get(change)
                .is_some_and(Outcome::is_published);
            let is_told = match self.bug {
                Bug::UpdateIsSilent if event.action == EventAction::KeyUpdated => false,
                Bug::NothingIsTold => is_first,
                Bug::RetryIsToldAgain | Bug::RetryIsAnew => is_published,
                _ => is_first && is_published,
            };
            if self.bug == Bug::WrongAction && event.action == EventAction::KeyRotated {
                event.action = EventAction::KeyUpdated;
            }
            if is_told {
                let (sealed, head) = log.head.seal(event);
                log.events.push(sealed);
                log.head = head;
            }
        }
        Ok(committed)
    }

    fn events(&self) -> Option<&dyn EventLog> {
        Some(self)
    }
}

#[async_trait]
impl EventLog for Broken {
    async fn read(
        &self,
        _: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, StoreError> {
        let log = self.log.lock().await;
        let after = usize::try_from(after).unwrap();
        let events = log.events.iter().skip(after).take(limit);
        Ok(events.cloned().collect())
    }
}
