//! The store contract in its simplest form: every look-up is a linear search, and the code shares nothing with that
//! of the backends.

use std::time::Duration;

use time::OffsetDateTime;

use super::operation::{Answer, IDS, Operation, World, query_of};
use crate::audit::{ChainHead, Event, verify_chain};
use crate::key::{KeyId, Revocation, StoredKey};
use crate::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, Cursor, CutoffScope, FeedPage, ListQuery,
    Outcome, Precondition, Segments, StoreError,
};
use crate::testkit::conformance::material::{Store, Verdict};
use crate::testkit::conformance::{Failure, check, check_eq};

/// The expected contents of a store.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) position: u64,
    keys: Vec<StoredKey>,
    purged: Vec<KeyId>,
    cutoffs: Vec<(CutoffScope, OffsetDateTime)>,
    settings: Vec<(String, String)>,
    news: Vec<Changed>,
    events: Vec<Event>,
    committed: Vec<(ChangeId, Committed)>,
}

/// The reason why a set must fail, in a comparable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    AlreadyExists,
    Conflict,
    Precondition(usize),
}

impl Reference {
    pub(super) fn new(position: u64) -> Self {
        Self {
            position,
            keys: Vec::new(),
            purged: Vec::new(),
            cutoffs: Vec::new(),
            settings: Vec::new(),
            news: Vec::new(),
            events: Vec::new(),
            committed: Vec::new(),
        }
    }

    /// Performs an operation and returns the expected answer.
    pub(super) fn answer(&mut self, world: &World, operation: &Operation) -> Answer {
        match operation {
            Operation::Commit { .. } | Operation::Again(_) => match world.committed_by(operation) {
                Some(set) => Answer::Committed(self.commit(&set).map_err(StoreError::from)),
                None => Answer::Nothing,
            },
            Operation::Get(id) => Answer::Key(Box::new(self.get(KeyId::from_u128(*id)))),
            Operation::List { .. } => match query_of(operation) {
                Ok(query) => Answer::Keys(self.list(&query)),
                Err(failure) => Answer::Fault(failure),
            },
        }
    }

    /// Commits a set, once for each id.
    pub(super) fn commit(&mut self, set: &ChangeSet) -> Result<Committed, Refusal> {
        for (id, committed) in &self.committed {
            if *id == set.id() {
                return Ok(committed.clone());
            }
        }
        let (mut after, outcomes) = self.after(set)?;
        let committed = Committed {
            position: after.position,
            outcomes,
        };
        after.committed.push((set.id(), committed.clone()));
        *self = after;
        Ok(committed)
    }

    /// Returns the state and outcomes after a set, regardless of whether its id was committed before.
    pub(super) fn after(&self, set: &ChangeSet) -> Result<(Self, Vec<Outcome>), Refusal> {
        for (index, condition) in set.preconditions().iter().enumerate() {
            if !self.meets(condition) {
                return Err(Refusal::Precondition(index));
            }
        }
        let mut after = self.clone();
        let mut outcomes = Vec::new();
        for change in set.changes() {
            let outcome = after.make(change, self.position + 1)?;
            outcomes.push(outcome);
        }
        let mut moved = false;
        for (index, outcome) in outcomes.iter().enumerate() {
            let is_published = matches!(
                outcome,
                Outcome::Inserted
                    | Outcome::Replaced
                    | Outcome::Revoked
                    | Outcome::Purged
                    | Outcome::TenantRemoved
                    | Outcome::CutOff
                    | Outcome::CutoffLowered
            );
            if !is_published {
                continue;
            }
            moved = true;
            for (of, event) in set.events() {
                if of == index {
                    after.events.push(event.clone());
                }
            }
        }
        if moved {
            after.position += 1;
        }
        Ok((after, outcomes))
    }

    fn meets(&self, condition: &Precondition) -> bool {
        match condition {
            Precondition::UnrevokedKeysBelow { tenant, limit } => {
                let mut count = 0;
                for key in &self.keys {
                    if key.tenant == *tenant && key.revocation.is_none() {
                        count += 1;
                    }
                }
                count < limit.get()
            }
            Precondition::NotCutOff {
                tenant,
                owner,
                issued_at,
            } => !self.cutoffs.iter().any(|(scope, before)| {
                let binds = match scope {
                    CutoffScope::All => true,
                    CutoffScope::Tenant(of) => of == tenant,
                    CutoffScope::Owner {
                        tenant: of,
                        owner: by,
                    } => of == tenant && by == owner,
                };
                binds && issued_at < before
            }),
        }
    }

    fn make(&mut self, change: &Change, position: u64) -> Result<Outcome, Refusal> {
        match change {
            Change::Insert(key) => {
                let is_there = self.keys.iter().any(|known| known.id == key.id);
                if is_there || self.purged.contains(&key.id) {
                    return Err(Refusal::AlreadyExists);
                }
                self.keys.push((**key).clone());
                self.tell(key.id, 1);
                Ok(Outcome::Inserted)
            }
            Change::Replace { expected, with } => {
                let mut keys = self.keys.iter_mut();
                let key = keys
                    .find(|key| key.id == with.id)
                    .ok_or(Refusal::Conflict)?;
                if key.revision != *expected || key.revocation.is_some() {
                    return Err(Refusal::Conflict);
                }
                key.title = with.title.clone();
                key.expires_at = with.expires_at;
                key.predecessor = with.predecessor;
                key.lineage = with.lineage;
                key.schema = with.schema;
                key.document = with.document.clone();
                key.revision += 1;
                let (id, revision) = (key.id, key.revision);
                self.tell(id, revision);
                Ok(Outcome::Replaced)
            }
            Change::Revoke { id, at, reason } => {
                let Some(key) = self.keys.iter_mut().find(|key| key.id == *id) else {
                    return Ok(Outcome::Missing);
                };
                if let Some(before) = &key.revocation {
                    return Ok(Outcome::AlreadyRevoked { at: before.at });
                }
                key.revocation = Some(Revocation {
                    at: *at,
                    reason: reason.clone(),
                    position,
                });
                key.revision += 1;
                let revision = key.revision;
                self.tell(*id, revision);
                Ok(Outcome::Revoked)
            }
            Change::Rehash { id, from, to } => {
                for key in &mut self.keys {
                    if key.id == *id && key.revocation.is_none() && key.digest == *from {
                        key.digest = to.clone();
                        return Ok(Outcome::Rehashed);
                    }
                }
                Ok(Outcome::NotRehashed)
            }
            Change::Purge { id, ended_before } => {
                let Some(place) = self.keys.iter().position(|key| key.id == *id) else {
                    return Ok(Outcome::Missing);
                };
                let key = self.keys.get(place).ok_or(Refusal::Conflict)?;
                let is_revoked = key
                    .revocation
                    .as_ref()
                    .is_some_and(|one| one.at < *ended_before);
                let is_expired = key.expires_at.is_some_and(|end| end < *ended_before);
                if !is_revoked && !is_expired {
                    return Ok(Outcome::NotPurged);
                }
                let revision = key.revision + 1;
                self.keys.remove(place);
                self.purged.push(*id);
                self.tell(*id, revision);
                Ok(Outcome::Purged)
            }
            Change::RemoveTenant { tenant } => {
                if self.keys.iter().any(|key| key.tenant == *tenant) {
                    return Ok(Outcome::TenantHasKeys);
                }
                let whole = CutoffScope::Tenant(tenant.clone());
                let mut latest = None;
                let mut others = Vec::new();
                for (scope, before) in self.cutoffs.drain(..) {
                    if scope.tenant() == Some(tenant) {
                        latest = latest.max(Some(before));
                    } else {
                        others.push((scope, before));
                    }
                }
                self.cutoffs = others;
                if let Some(latest) = latest {
                    self.cutoffs.push((whole.clone(), latest));
                }
                for news in &mut self.news {
                    match news {
                        Changed::Cutoff { scope } if scope.tenant() == Some(tenant) => {
                            *scope = whole.clone();
                        }
                        _ => {}
                    }
                }
                self.news.push(Changed::Cutoff { scope: whole });
                Ok(Outcome::TenantRemoved)
            }
            // No random step creates this change.
            Change::CutEvents { .. } => Ok(Outcome::EventsNotCut),
            Change::LowerCutoff { scope, from, to } => {
                let mut cutoffs = self.cutoffs.iter_mut();
                let Some((_, stands)) = cutoffs.find(|(known, _)| known == scope) else {
                    return Ok(Outcome::CutoffStands { at: None });
                };
                if *stands != *from || *to >= *from {
                    return Ok(Outcome::CutoffStands { at: Some(*stands) });
                }
                for key in &self.keys {
                    let is_bound = match scope {
                        CutoffScope::All => true,
                        CutoffScope::Tenant(tenant) => *tenant == key.tenant,
                        CutoffScope::Owner { tenant, owner } => {
                            *tenant == key.tenant && *owner == key.owner
                        }
                    };
                    let is_between = key.created_at >= *to && key.created_at < *from;
                    if is_bound && is_between && key.revocation.is_none() {
                        return Ok(Outcome::WouldRevive);
                    }
                }
                *stands = *to;
                self.news.push(Changed::Cutoff {
                    scope: scope.clone(),
                });
                Ok(Outcome::CutoffLowered)
            }
            Change::Cutoff { scope, before } => {
                for (known, stands) in &mut self.cutoffs {
                    if known == scope {
                        if *stands >= *before {
                            return Ok(Outcome::AlreadyCutOff);
                        }
                        *stands = *before;
                        self.news.push(Changed::Cutoff {
                            scope: scope.clone(),
                        });
                        return Ok(Outcome::CutOff);
                    }
                }
                self.cutoffs.push((scope.clone(), *before));
                self.news.push(Changed::Cutoff {
                    scope: scope.clone(),
                });
                Ok(Outcome::CutOff)
            }
            Change::Setting { name, value } => {
                for (known, stands) in &self.settings {
                    if known == name {
                        let stands = stands.clone();
                        return Ok(Outcome::Setting { stands });
                    }
                }
                self.settings.push((name.clone(), value.clone()));
                let stands = value.clone();
                Ok(Outcome::Setting { stands })
            }
        }
    }

    fn tell(&mut self, id: KeyId, revision: u64) {
        self.news.push(Changed::Key { id, revision });
    }

    pub(super) fn get(&self, id: KeyId) -> Option<StoredKey> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        Some(self.with_cutoff(key))
    }

    fn with_cutoff(&self, key: &StoredKey) -> StoredKey {
        let mut cutoff = None;
        for (scope, before) in &self.cutoffs {
            let binds = match scope {
                CutoffScope::All => true,
                CutoffScope::Tenant(of) => *of == key.tenant,
                CutoffScope::Owner { tenant, owner } => {
                    *tenant == key.tenant && *owner == key.owner
                }
            };
            if binds {
                cutoff = cutoff.max(Some(*before));
            }
        }
        let mut key = key.clone();
        key.cutoff = cutoff;
        key
    }

    /// Returns all keys that a query lists, regardless of its page size.
    pub(super) fn list(&self, query: &ListQuery) -> Vec<StoredKey> {
        let of_tenant = self.keys.iter().filter(|key| key.tenant == *query.tenant());
        let wanted =
            of_tenant.filter(|key| query.filters().iter().all(|filter| filter.admits(key)));
        let (mut revoked, mut live): (Vec<_>, Vec<_>) = wanted
            .map(|key| self.with_cutoff(key))
            .partition(|key| key.revocation.is_some());
        live.sort_by_key(|key| (std::cmp::Reverse(key.created_at), std::cmp::Reverse(key.id)));
        revoked.sort_by_key(|key| (key.revocation.as_ref().map(|one| one.position), key.id));
        if !query.lists_live() {
            live.clear();
        }
        if query.lists_revoked() {
            live.extend(revoked);
        }
        live
    }

    /// Compares the whole contents of a store: keys, lists, feed items and events.
    pub(super) async fn compare_all(&self, store: &Store, start: &Cursor) -> Verdict {
        for id in 0..IDS {
            let id = KeyId::from_u128(id);
            let (found, expected) = (store.get(id).await?, self.get(id));
            check_eq!(found, expected, "in the end, key {id}");
            let digests = found
                .zip(expected)
                .is_none_or(|(a, b)| a.digest == b.digest);
            check!(digests, "in the end, the digest of key {id}");
        }
        for tenant in ["t0", "t1"] {
            let query = ListQuery::of(&crate::key::TenantId::new(tenant)?);
            let query = query.listing(Segments::LiveThenRevoked).at_latest();
            let found = store.list(&query).await?.items;
            check_eq!(found, self.list(&query), "in the end, the list of {tenant}");
        }
        let (mut news, mut cursor) = (Vec::new(), start.clone());
        loop {
            match store.changes(Some(&cursor), Duration::ZERO).await? {
                FeedPage::Next { items, next, .. } if items.is_empty() => {
                    check_eq!(next.position, self.position, "in the end, the position");
                    break;
                }
                FeedPage::Next { items, next, .. } => {
                    news.extend(items);
                    cursor = next;
                }
                FeedPage::Resync { .. } => return Err(Failure::new("the cursor is known")),
            }
        }
        check_eq!(news, self.news, "in the end, the news");
        if let Some(log) = store.events() {
            let sealed = log.read(None, 0, 10_000).await?;
            verify_chain(ChainHead::default(), &sealed)?;
            let events: Vec<_> = sealed.into_iter().map(|sealed| sealed.event).collect();
            check_eq!(events, self.events, "in the end, the events");
        }
        Ok(())
    }
}

impl Refusal {
    /// Converts an error. `None` if the error says nothing about the set.
    pub(super) fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::AlreadyExists => Some(Self::AlreadyExists),
            StoreError::Conflict => Some(Self::Conflict),
            StoreError::PreconditionFailed { index } => Some(Self::Precondition(*index)),
            _ => None,
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AlreadyExists => Self::AlreadyExists,
            Refusal::Conflict => Self::Conflict,
            Refusal::Precondition(index) => Self::PreconditionFailed { index },
        }
    }
}

impl Answer {
    pub(super) fn compare(&self, expected: &Self, operation: &Operation) -> Verdict {
        let agree = match (self, expected) {
            (Self::Committed(Ok(found)), Self::Committed(Ok(expected))) => found == expected,
            (Self::Committed(Err(found)), Self::Committed(Err(expected))) => {
                Refusal::of(found).is_some() && Refusal::of(found) == Refusal::of(expected)
            }
            (Self::Key(found), Self::Key(expected)) => {
                let digest = |key: &Option<StoredKey>| key.as_ref().map(|key| key.digest.clone());
                found == expected && digest(found) == digest(expected)
            }
            (Self::Keys(found), Self::Keys(expected)) => found == expected,
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        };
        check!(
            agree,
            "{operation:?}\n  found:    {self:?}\n  expected: {expected:?}"
        );
        Ok(())
    }
}
