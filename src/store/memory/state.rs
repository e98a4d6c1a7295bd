//! What a memory store holds, and how a commit changes it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use time::OffsetDateTime;

use crate::audit::{ChainHead, SealedEvent};
use crate::key::{Digest, KeyId, Revocation, RevokeReason, StoredKey, TenantId};
use crate::store::query::micros;
use crate::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, Cursor, FeedPage, KeyQuery, ListPosition,
    Outcome, Page, Precondition, StoreError, Usage,
};

/// Changes that the feed keeps.
const FEED_LENGTH: usize = 65_536;

/// Changes that one look at the feed brings at most.
const FEED_PAGE: usize = 1_024;

#[derive(Default)]
pub(super) struct State {
    history: u64,
    position: u64,
    keys: HashMap<KeyId, StoredKey>,
    tenants: HashMap<TenantId, Lists>,
    cutoff_for_all: Option<OffsetDateTime>,
    cutoffs: HashMap<TenantId, OffsetDateTime>,
    settings: HashMap<String, String>,
    commits: HashMap<ChangeId, Committed>,
    feed: VecDeque<(u64, Changed)>,
    /// The position after which the feed is whole.
    feed_begins: u64,
    head: ChainHead,
    events: Vec<SealedEvent>,
    usage: HashMap<KeyId, Usage>,
    merged: HashSet<ChangeId>,
}

/// The two segments of a tenant's list.
#[derive(Default)]
struct Lists {
    /// By creation in microseconds, ascending: read backwards.
    live: BTreeSet<(i64, KeyId)>,
    /// By the position of the commit that revoked them.
    revoked: BTreeSet<(u64, KeyId)>,
}

/// What a commit is about to change: checked whole first, then applied without fail.
#[derive(Default)]
struct Staged {
    keys: HashMap<KeyId, StoredKey>,
    cutoffs: Vec<(Option<TenantId>, OffsetDateTime)>,
    settings: HashMap<String, String>,
    news: Vec<Changed>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            history: RandomState::new().hash_one(0),
            ..Self::default()
        }
    }

    pub(super) fn get(&self, id: KeyId) -> Option<StoredKey> {
        self.keys.get(&id).map(|key| self.with_cutoff(key))
    }

    fn with_cutoff(&self, key: &StoredKey) -> StoredKey {
        StoredKey {
            cutoff: self.cutoff(Some(&key.tenant)).max(self.cutoff_for_all),
            ..key.clone()
        }
    }

    fn cutoff(&self, tenant: Option<&TenantId>) -> Option<OffsetDateTime> {
        match tenant {
            Some(tenant) => self.cutoffs.get(tenant).copied(),
            None => self.cutoff_for_all,
        }
    }

    pub(super) fn list(&self, query: &KeyQuery) -> Page<StoredKey> {
        let none = Lists::default();
        let lists = self.tenants.get(query.tenant()).unwrap_or(&none);
        // The two segments, each cut to what comes after the cursor.
        let (live_end, revoked_start) = match query.position() {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some(ListPosition::Live { created_micros, id }) => {
                (Bound::Excluded((created_micros, id)), Bound::Unbounded)
            }
            Some(ListPosition::Revoked { position, id }) => (
                Bound::Excluded((i64::MIN, KeyId::from_u128(0))),
                Bound::Excluded((position, id)),
            ),
        };
        let live = lists.live.range((Bound::Unbounded, live_end)).rev();
        let revoked = lists.revoked.range((revoked_start, Bound::Unbounded));
        let revoked = revoked.take_while(|_| query.lists_revoked());

        let mut ids = live.map(|(_, id)| *id).chain(revoked.map(|(_, id)| *id));
        let page = ids.by_ref().take(query.page_size());
        let items: Vec<_> = page.filter_map(|id| self.get(id)).collect();
        let next = match (items.last(), ids.next()) {
            (Some(last), Some(_)) => Some(query.cursor_after(last)),
            _ => None,
        };
        Page { items, next }
    }

    pub(super) fn commit(&mut self, set: &ChangeSet) -> Result<Committed, StoreError> {
        if let Some(committed) = self.commits.get(&set.id()) {
            return Ok(committed.clone());
        }
        for precondition in set.preconditions() {
            self.check(precondition)?;
        }
        let position = self.position.saturating_add(1);
        let mut staged = Staged::default();
        let outcomes = set
            .changes()
            .iter()
            .map(|change| self.stage(change, position, &mut staged))
            .collect::<Result<Vec<_>, _>>()?;
        if outcomes.iter().any(Outcome::is_news) {
            let (sealed, head) = set.seal(self.head);
            self.events.extend(sealed);
            self.head = head;
            self.position = position;
        }
        self.apply(staged);
        let committed = Committed {
            position: self.position,
            outcomes,
        };
        self.commits.insert(set.id(), committed.clone());
        Ok(committed)
    }

    fn check(&self, precondition: &Precondition) -> Result<(), StoreError> {
        let Precondition::UnrevokedKeysBelow { tenant, limit } = precondition;
        let lists = self.tenants.get(tenant);
        let keys = lists.map_or(0, |lists| lists.live.len());
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        if keys < limit {
            Ok(())
        } else {
            Err(StoreError::PreconditionFailed)
        }
    }

    fn stage(
        &self,
        change: &Change,
        position: u64,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        match change {
            Change::Insert(key) => {
                if self.current(key.id, staged).is_some() {
                    return Err(StoreError::AlreadyExists);
                }
                let mut key = (**key).clone();
                (key.revision, key.revocation) = (1, None);
                staged.put(key);
                Ok(Outcome::Inserted)
            }
            Change::Replace { expected, with } => self.stage_replace(*expected, with, staged),
            Change::Revoke { id, at, reason } => {
                Ok(self.stage_revoke(*id, *at, reason, position, staged))
            }
            Change::Rehash { id, from, to } => Ok(self.stage_rehash(*id, from, to, staged)),
            Change::Cutoff { tenant, before } => {
                let earlier = staged.cutoffs.iter().filter(|(of, _)| of == tenant);
                let staged_cutoff = earlier.map(|(_, before)| *before).max();
                if self.cutoff(tenant.as_ref()).max(staged_cutoff) >= Some(*before) {
                    return Ok(Outcome::AlreadyCutOff);
                }
                staged.cutoffs.push((tenant.clone(), *before));
                staged.news.push(Changed::Cutoff);
                Ok(Outcome::CutOff)
            }
            Change::Setting { name, value } => {
                let stored = self
                    .settings
                    .get(name)
                    .or_else(|| staged.settings.get(name));
                let stands = stored.unwrap_or(value).clone();
                staged.settings.insert(name.clone(), stands.clone());
                Ok(Outcome::Setting { stands })
            }
        }
    }

    fn stage_replace(
        &self,
        expected: u64,
        with: &StoredKey,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        let stored = self.current(with.id, staged).ok_or(StoreError::Conflict)?;
        if stored.revision != expected || stored.revocation.is_some() {
            return Err(StoreError::Conflict);
        }
        let key = StoredKey {
            tenant: stored.tenant.clone(),
            created_at: stored.created_at,
            digest: stored.digest.clone(),
            revocation: None,
            revision: expected.saturating_add(1),
            ..with.clone()
        };
        staged.put(key);
        Ok(Outcome::Replaced)
    }

    fn stage_revoke(
        &self,
        id: KeyId,
        at: OffsetDateTime,
        reason: &RevokeReason,
        position: u64,
        staged: &mut Staged,
    ) -> Outcome {
        let Some(stored) = self.current(id, staged) else {
            return Outcome::Missing;
        };
        if let Some(revocation) = &stored.revocation {
            return Outcome::AlreadyRevoked { at: revocation.at };
        }
        let key = StoredKey {
            revision: stored.revision.saturating_add(1),
            revocation: Some(Revocation {
                at,
                reason: reason.clone(),
                position,
            }),
            ..stored.clone()
        };
        staged.put(key);
        Outcome::Revoked
    }

    fn stage_rehash(&self, id: KeyId, from: &Digest, to: &Digest, staged: &mut Staged) -> Outcome {
        match self.current(id, staged) {
            Some(stored) if stored.revocation.is_none() && stored.digest == *from => {
                let key = StoredKey {
                    digest: to.clone(),
                    ..stored.clone()
                };
                staged.keys.insert(id, key);
                Outcome::Rehashed
            }
            _ => Outcome::NotRehashed,
        }
    }

    fn current<'a>(&'a self, id: KeyId, staged: &'a Staged) -> Option<&'a StoredKey> {
        staged.keys.get(&id).or_else(|| self.keys.get(&id))
    }

    fn apply(&mut self, staged: Staged) {
        for (id, key) in staged.keys {
            let lists = self.tenants.entry(key.tenant.clone()).or_default();
            let created = micros(key.created_at);
            match &key.revocation {
                None => lists.live.insert((created, id)),
                Some(revocation) => {
                    lists.live.remove(&(created, id));
                    lists.revoked.insert((revocation.position, id))
                }
            };
            self.keys.insert(id, key);
        }
        for (tenant, before) in staged.cutoffs {
            match tenant {
                Some(tenant) => {
                    let cutoff = self.cutoffs.entry(tenant).or_insert(before);
                    *cutoff = before.max(*cutoff);
                }
                None => self.cutoff_for_all = self.cutoff_for_all.max(Some(before)),
            }
        }
        self.settings.extend(staged.settings);
        let position = self.position;
        self.feed
            .extend(staged.news.into_iter().map(|news| (position, news)));
        while self.feed.len() > FEED_LENGTH {
            if let Some((position, _)) = self.feed.pop_front() {
                self.feed_begins = position;
            }
        }
    }

    pub(super) fn changes(&self, after: Option<&Cursor>) -> FeedPage {
        let cursor = |position| Cursor {
            history: self.history,
            position,
        };
        let known = after.filter(|after| {
            after.history == self.history
                && (self.feed_begins..=self.position).contains(&after.position)
        });
        let Some(after) = known else {
            return FeedPage::Resync {
                next: cursor(self.position),
            };
        };
        let start = self
            .feed
            .partition_point(|(position, _)| *position <= after.position);
        let mut items = Vec::new();
        let mut reached = after.position;
        for (position, news) in self.feed.range(start..) {
            // A commit is told whole: a cursor cannot point into it.
            if items.len() >= FEED_PAGE && *position != reached {
                break;
            }
            reached = *position;
            items.push(news.clone());
        }
        FeedPage::Next {
            items,
            next: cursor(reached),
        }
    }

    pub(super) fn events(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Vec<SealedEvent> {
        let events = self.events.iter();
        let events = events.skip(usize::try_from(after).unwrap_or(usize::MAX));
        let events =
            events.filter(|sealed| tenant.is_none_or(|tenant| sealed.event.tenant == *tenant));
        events.take(limit).cloned().collect()
    }

    pub(super) fn merge_usage(&mut self, id: ChangeId, batch: &[(KeyId, Usage)]) {
        if !self.merged.insert(id) {
            return;
        }
        for (key, more) in batch.iter().filter(|(key, _)| self.keys.contains_key(key)) {
            let merged = self
                .usage
                .get(key)
                .map_or(*more, |usage| usage.merged(*more));
            self.usage.insert(*key, merged);
        }
    }

    pub(super) fn usage(&self, id: KeyId) -> Option<Usage> {
        self.usage.get(&id).copied()
    }

    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }
}

impl Staged {
    fn put(&mut self, key: StoredKey) {
        self.news.push(Changed::Key {
            id: key.id,
            revision: key.revision,
        });
        self.keys.insert(key.id, key);
    }
}
