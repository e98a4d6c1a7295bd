//! State of a memory store, and the effect of a commit on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use time::OffsetDateTime;

use crate::audit::{ChainHead, SealedEvent};
use crate::clock::unix_micros;
use crate::key::{KeyId, Principal, StoredKey, TenantId};
use crate::store::query::MOST_SCANNED;
use crate::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, Cursor, CutoffScope, FeedPage, ListPosition,
    ListQuery, Outcome, Page, Precondition, StoreError, Usage,
};

/// Number of changes that the feed keeps.
const FEED_LENGTH: usize = 65_536;

/// Number of changes after which a page of the feed ends at the next commit.
const FEED_PAGE: usize = 1_024;

#[derive(Default)]
pub(super) struct State {
    history: u64,
    position: u64,
    keys: HashMap<KeyId, StoredKey>,
    /// The ids of purged keys: they stay taken.
    purged: HashSet<KeyId>,
    tenants: BTreeMap<TenantId, Lists>,
    cutoffs: HashMap<CutoffScope, OffsetDateTime>,
    settings: HashMap<String, String>,
    commits: HashMap<ChangeId, Committed>,
    feed: VecDeque<(u64, Changed)>,
    /// The position after which the feed is complete.
    feed_begins: u64,
    head: ChainHead,
    events: Vec<SealedEvent>,
    usage: HashMap<KeyId, Usage>,
    merged: HashSet<ChangeId>,
}

/// The two segments of a tenant's list.
#[derive(Default)]
struct Lists {
    /// By creation in microseconds, ascending: lists read it backwards.
    live: BTreeSet<(i64, KeyId)>,
    /// By the position of the commit that revoked the key.
    revoked: BTreeSet<(u64, KeyId)>,
}

/// Changes of one commit, checked whole first and then applied without an error.
#[derive(Default)]
struct Staged {
    keys: HashMap<KeyId, StoredKey>,
    purged: HashSet<KeyId>,
    /// Tenants that lose the cutoffs of their owners.
    removed: HashSet<TenantId>,
    cutoffs: HashMap<CutoffScope, OffsetDateTime>,
    settings: HashMap<String, String>,
    /// The number of the last event to remove.
    cut_through: u64,
    news: Vec<Changed>,
}

/// Returns whether the removal of these tenants removes this cutoff.
fn removes(tenants: &HashSet<TenantId>, scope: &CutoffScope) -> bool {
    match scope {
        CutoffScope::Owner { tenant, .. } => tenants.contains(tenant),
        CutoffScope::All | CutoffScope::Tenant(_) => false,
    }
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
            cutoff: self.cutoff(&key.tenant, &key.owner),
            ..key.clone()
        }
    }

    fn cutoff(&self, tenant: &TenantId, owner: &Principal) -> Option<OffsetDateTime> {
        let scopes = CutoffScope::binding(tenant, owner);
        scopes
            .filter_map(|scope| self.cutoffs.get(&scope).copied())
            .max()
    }

    pub(super) fn list(&self, query: &ListQuery) -> Page<StoredKey> {
        let none = Lists::default();
        let lists = self.tenants.get(query.tenant()).unwrap_or(&none);
        // The two segments, each cut to the part after the cursor.
        let (live_end, revoked_start) = match query.start() {
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
        let live = live.take_while(|_| query.lists_live());
        let revoked = lists.revoked.range((revoked_start, Bound::Unbounded));
        let revoked = revoked.take_while(|_| query.lists_revoked());

        let ids = live.map(|(_, id)| *id).chain(revoked.map(|(_, id)| *id));
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let mut looked_at = None;
        for (scanned, key) in ids.filter_map(|id| self.keys.get(&id)).enumerate() {
            if scanned == MOST_SCANNED {
                page.next = looked_at;
                break;
            }
            if query.admits(key) {
                if page.items.len() == query.page_size() {
                    page.next = page.items.last().map(ListPosition::of);
                    break;
                }
                page.items.push(self.with_cutoff(key));
            }
            looked_at = Some(ListPosition::of(key));
        }
        page
    }

    pub(super) fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Vec<TenantId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tenants = self.tenants.range((start, Bound::Unbounded));
        tenants
            .take(limit)
            .map(|(tenant, _)| tenant.clone())
            .collect()
    }

    pub(super) fn commit(&mut self, set: &ChangeSet) -> Result<Committed, StoreError> {
        if let Some(committed) = self.commits.get(&set.id()) {
            return Ok(committed.clone());
        }
        for (index, precondition) in set.preconditions().iter().enumerate() {
            if !self.holds(precondition) {
                return Err(StoreError::PreconditionFailed { index });
            }
        }
        let position = self.position.saturating_add(1);
        let mut staged = Staged::default();
        let outcomes = set
            .changes()
            .iter()
            .map(|change| self.stage(change, position, &mut staged))
            .collect::<Result<Vec<_>, _>>()?;
        if outcomes.iter().any(Outcome::is_published) {
            let (sealed, head) = set.seal(self.head, &outcomes);
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

    fn holds(&self, precondition: &Precondition) -> bool {
        match precondition {
            Precondition::UnrevokedKeysBelow { tenant, limit } => {
                let lists = self.tenants.get(tenant);
                let keys = lists.map_or(0, |lists| lists.live.len());
                keys < usize::try_from(limit.get()).unwrap_or(usize::MAX)
            }
            Precondition::NotCutOff {
                tenant,
                owner,
                issued_at,
            } => self.cutoff(tenant, owner) <= Some(*issued_at),
        }
    }

    fn stage(
        &self,
        change: &Change,
        position: u64,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        match change {
            Change::Cutoff { scope, before } => {
                if self.cutoff_of(scope, staged) >= Some(*before) {
                    return Ok(Outcome::AlreadyCutOff);
                }
                staged.cutoffs.insert(scope.clone(), *before);
                staged.news.push(Changed::Cutoff {
                    scope: scope.clone(),
                });
                Ok(Outcome::CutOff)
            }
            Change::LowerCutoff { scope, from, to } => {
                let stands = self.cutoff_of(scope, staged);
                let current = |id| self.current(id, staged);
                let ids = staged.keys.keys().chain(self.keys.keys()).copied();
                let keys = ids.filter_map(current);
                let outcome = Outcome::of_lowering(scope, (*from, *to), stands, keys);
                if outcome == Outcome::CutoffLowered {
                    let scope = scope.clone();
                    staged.cutoffs.insert(scope.clone(), *to);
                    staged.news.push(Changed::Cutoff { scope });
                }
                Ok(outcome)
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
            Change::Purge { id, ended_before } => {
                let stored = self.current(*id, staged);
                let revision = stored.map_or(0, |key| key.revision.saturating_add(1));
                let outcome = Outcome::of_purge(stored, *ended_before);
                if outcome == Outcome::Purged {
                    staged.keys.remove(id);
                    staged.purged.insert(*id);
                    staged.news.push(Changed::Key { id: *id, revision });
                }
                Ok(outcome)
            }
            Change::RemoveTenant { tenant } => Ok(self.stage_removal(tenant, staged)),
            Change::CutEvents { through } => {
                let is_stored = self.event(through.events).is_some_and(|sealed| {
                    sealed.hash == through.hash && sealed.number > staged.cut_through
                });
                if !is_stored {
                    return Ok(Outcome::EventsNotCut);
                }
                staged.cut_through = through.events;
                staged.news.push(Changed::EventsCut {
                    through: through.events,
                });
                Ok(Outcome::EventsCut)
            }
            Change::Insert(key) if self.is_purged(key.id, staged) => Err(StoreError::AlreadyExists),
            of_a_key => {
                let id = of_a_key.key_id();
                let stored = id.and_then(|id| self.current(id, staged));
                let applied = of_a_key.apply(stored, position)?;
                if let Some(key) = applied.key {
                    if applied.outcome.is_published() {
                        staged.news.push(Changed::Key {
                            id: key.id,
                            revision: key.revision,
                        });
                    }
                    staged.keys.insert(key.id, key);
                }
                Ok(applied.outcome)
            }
        }
    }

    fn stage_removal(&self, tenant: &TenantId, staged: &mut Staged) -> Outcome {
        let lists = self.tenants.get(tenant).into_iter();
        let mut stored = lists.flat_map(|lists| {
            let live = lists.live.iter().map(|(_, id)| id);
            live.chain(lists.revoked.iter().map(|(_, id)| id))
        });
        let is_here = |key: &StoredKey| key.tenant == *tenant;
        if stored.any(|id| !staged.purged.contains(id)) || staged.keys.values().any(is_here) {
            return Outcome::TenantHasKeys;
        }
        let whole = CutoffScope::from(tenant);
        let scopes = self.cutoffs.keys().chain(staged.cutoffs.keys());
        let scopes = scopes.filter(|scope| scope.tenant() == Some(tenant));
        let latest = scopes
            .filter_map(|scope| self.cutoff_of(scope, staged))
            .max();
        staged.removed.insert(tenant.clone());
        let is_owners = |scope: &CutoffScope| scope.tenant() == Some(tenant) && *scope != whole;
        staged.cutoffs.retain(|scope, _| !is_owners(scope));
        staged
            .cutoffs
            .extend(latest.map(|latest| (whole.clone(), latest)));
        for news in &mut staged.news {
            news.forget_owner(tenant);
        }
        staged.news.push(Changed::Cutoff { scope: whole });
        Outcome::TenantRemoved
    }

    /// Returns the cutoff of one scope, as the changes made so far leave it.
    fn cutoff_of(&self, scope: &CutoffScope, staged: &Staged) -> Option<OffsetDateTime> {
        let stored = || {
            self.cutoffs
                .get(scope)
                .filter(|_| !removes(&staged.removed, scope))
        };
        staged.cutoffs.get(scope).or_else(stored).copied()
    }

    fn event(&self, number: u64) -> Option<&SealedEvent> {
        let place = self
            .events
            .binary_search_by_key(&number, |sealed| sealed.number);
        self.events.get(place.ok()?)
    }

    fn current<'a>(&'a self, id: KeyId, staged: &'a Staged) -> Option<&'a StoredKey> {
        if self.is_purged(id, staged) {
            return None;
        }
        staged.keys.get(&id).or_else(|| self.keys.get(&id))
    }

    fn is_purged(&self, id: KeyId, staged: &Staged) -> bool {
        self.purged.contains(&id) || staged.purged.contains(&id)
    }

    /// Removes the key and its usage, and keeps its id and its events.
    fn purge(&mut self, id: KeyId) {
        self.purged.insert(id);
        self.usage.remove(&id);
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        let Some(lists) = self.tenants.get_mut(&key.tenant) else {
            return;
        };
        match &key.revocation {
            None => lists.live.remove(&(unix_micros(key.created_at), id)),
            Some(revocation) => lists.revoked.remove(&(revocation.position, id)),
        };
        if lists.live.is_empty() && lists.revoked.is_empty() {
            self.tenants.remove(&key.tenant);
        }
    }

    fn apply(&mut self, staged: Staged) {
        for id in staged.purged {
            self.purge(id);
        }
        for (id, key) in staged.keys {
            let lists = self.tenants.entry(key.tenant.clone()).or_default();
            let created = unix_micros(key.created_at);
            match &key.revocation {
                None => lists.live.insert((created, id)),
                Some(revocation) => {
                    lists.live.remove(&(created, id));
                    lists.revoked.insert((revocation.position, id))
                }
            };
            self.keys.insert(id, key);
        }
        if !staged.removed.is_empty() {
            self.cutoffs
                .retain(|scope, _| !removes(&staged.removed, scope));
        }
        self.cutoffs.extend(staged.cutoffs);
        let cut = self
            .events
            .partition_point(|sealed| sealed.number <= staged.cut_through);
        self.events.drain(..cut);
        self.settings.extend(staged.settings);
        for tenant in &staged.removed {
            for (_, news) in &mut self.feed {
                news.forget_owner(tenant);
            }
        }
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
        let mut has_more = false;
        for (position, news) in self.feed.range(start..) {
            // A page holds whole commits: a cursor cannot point into one.
            if items.len() >= FEED_PAGE && *position != reached {
                has_more = true;
                break;
            }
            reached = *position;
            items.push(news.clone());
        }
        FeedPage::Next {
            items,
            next: cursor(reached),
            has_more,
        }
    }

    pub(super) fn events(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: usize,
    ) -> Vec<SealedEvent> {
        let start = self.events.partition_point(|sealed| sealed.number <= after);
        let events = self.events.iter().skip(start);
        let events =
            events.filter(|sealed| tenant.is_none() || sealed.event.tenant.as_ref() == tenant);
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
