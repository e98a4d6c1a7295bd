//! Promise 36: what was purged is gone from the store, and the rest of the log still verifies. Shown by
//! random lives of tenants, with purges, removals and cuts of the log, over a store that fails at random.
//! Then every key whose removal was told is looked for by all ways into the store, every key whose removal was not told
//! is there, and the log is verified after each step and against a copy that was kept elsewhere. That a call may be
//! dropped at any point is promise 16's test; a process that is killed is `tests/sqlite/tests/deletion.rs`.
//!
//! Planted bugs that it catches: a purge that is told and not done; a cut that removes one more event than it records;
//! a cut that no event records; a removal that leaves a key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyward::Keyward;
use keyward::audit::{ChainHead, EventAction, SealedEvent, verify_chain, verify_log};
use keyward::clock::Clock;
use keyward::key::{KeyId, Principal, RevokeReason, StoredKey, TenantId};
use keyward::manager::{Issued, NewKey, Overlap, RevokeAll};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, FeedPage, KeyStore, ListQuery, Outcome, Page,
    Segments, StoreError,
};
use keyward::testkit::{Fault, FaultyStore, ManualClock};
use keyward::verifier::{Attempt, Requirement};

use test_support::fixture::stored_key;

use crate::common::{Choices, READ, actor, builder, clock};
use crate::store::{IS_ON_DISK, Store};

const TENANTS: usize = 3;
const STEPS: usize = if IS_ON_DISK { 300 } else { 1_500 };
const LIVES: u64 = if IS_ON_DISK { 1 } else { 4 };
const FAULTS: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Yield(1),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A purge is told, and the key stays.
    PurgeIsNotDone,
    /// A cut removes one event more than it records.
    CutIsDeeper,
    /// No event records a cut.
    CutIsNotRecorded,
    /// A removal of a tenant finds no keys.
    TenantIsEmpty,
}

/// A store with one of these in front of it.
#[derive(Debug, Clone)]
struct Broken {
    inner: Store,
    bug: Bug,
}

impl Broken {
    /// The set as the bug has it.
    async fn planted(&self, set: &ChangeSet) -> ChangeSet {
        let mut changes = set.changes().to_vec();
        for change in &mut changes {
            match change {
                Change::Purge { id, .. } if self.bug == Bug::PurgeIsNotDone => {
                    // News in the place of it, so that the event is recorded.
                    if let Some(mut key) = self.inner.get(*id).await.unwrap() {
                        key.id = KeyId::from_u128(id.as_u128() ^ 1);
                        key.tenant = TenantId::new("elsewhere").unwrap();
                        *change = Change::Insert(Box::new(key));
                    }
                }
                Change::CutEvents { through } if self.bug == Bug::CutIsDeeper => {
                    let next = self.inner.events().unwrap();
                    let next = next.read(None, through.events, 1).await;
                    if let [next] = next.unwrap().as_slice() {
                        *through = next.head();
                    }
                }
                Change::RemoveTenant { tenant } if self.bug == Bug::TenantIsEmpty => {
                    *tenant = TenantId::new("nobody").unwrap();
                }
                _ => {}
            }
        }
        let is_silent = self.bug == Bug::CutIsNotRecorded
            && matches!(set.changes(), [Change::CutEvents { .. }]);
        let planted = ChangeSet::new(set.id(), changes).unwrap();
        let events = set.events().filter(|_| !is_silent);
        events.fold(planted, |planted, (change, event)| {
            planted.with_event_of(change, event.clone())
        })
    }
}

#[async_trait]
impl KeyStore for Broken {
    test_support::passes_on!(inner: get tenants changes events usage);

    async fn list(&self, query: &ListQuery) -> Result<Page<StoredKey>, StoreError> {
        let mut page = self.inner.list(query).await?;
        if self.bug == Bug::TenantIsEmpty && query.page_size() == 128 {
            page.items.truncate(1);
        }
        Ok(page)
    }

    async fn commit(&self, set: &ChangeSet) -> Result<Committed, StoreError> {
        if self.bug == Bug::None {
            return self.inner.commit(set).await;
        }
        let mut committed = self.inner.commit(&self.planted(set).await).await?;
        for (outcome, change) in committed.outcomes.iter_mut().zip(set.changes()) {
            if matches!(change, Change::Purge { .. }) && *outcome == Outcome::Inserted {
                *outcome = Outcome::Purged;
            }
        }
        Ok(committed)
    }
}

fn tenant(n: usize) -> TenantId {
    TenantId::new(format!("tenant-{n}")).unwrap()
}

/// One random life.
struct Life {
    keyward: Keyward,
    store: Store,
    faulty: FaultyStore,
    clock: ManualClock,
    choices: Choices,
    keys: Vec<Arc<Issued>>,
    /// All events that there ever were.
    kept: Vec<SealedEvent>,
    head: ChainHead,
}

impl Life {
    async fn new(bug: Bug, seed: u64) -> Self {
        let (store, clock) = (Store::new(), clock());
        let faulty = FaultyStore::over(Broken {
            inner: store.clone(),
            bug,
        });
        let keyward = builder(faulty.clone(), clock.clone()).open().await.unwrap();
        Self {
            keyward,
            store,
            faulty,
            clock,
            choices: Choices::new(seed),
            keys: Vec::new(),
            kept: Vec::new(),
            head: ChainHead::default(),
        }
    }

    /// Does something, which may fail.
    async fn step(&mut self, n: usize) {
        let manager = self.keyward.manager();
        let (actor, now) = (actor(), self.clock.now().unwrap());
        let ago = Duration::from_secs(u64::try_from(self.choices.below(40)).unwrap());
        let of = tenant(self.choices.below(TENANTS));
        let reason = RevokeReason::Requested;
        let any = self.choices.below(self.keys.len().max(1));
        let key = self.keys.get(any).map(Arc::clone);
        match (self.choices.below(100), key) {
            (0..40, _) | (_, None) => {
                let owner = Principal::user(&format!("owner-{}", n % 7)).unwrap();
                let new = NewKey::new(of, format!("title-{n}"), READ).owner(owner);
                let issued = manager.issue(&actor, new).await;
                self.keys.extend(issued.map(Arc::new));
            }
            (40..50, Some(key)) => {
                let any = Requirement::any_key();
                let attempt = Attempt::new(key.api_key().presented(), &any);
                let _ = self.keyward.verifier().verify(&attempt).await;
                let _ = self.keyward.flush_usage().await;
            }
            (50..58, Some(key)) => {
                let (of, id) = (key.record().tenant(), key.record().id());
                let rotated = manager.rotate(&actor, of, id, Overlap::None).await;
                self.keys.extend(rotated.map(Arc::new));
            }
            (58..72, Some(key)) => {
                let (of, id) = (key.record().tenant(), key.record().id());
                let _ = manager.revoke(&actor, of, id, reason).await;
            }
            (72..75, Some(key)) => {
                let all = RevokeAll::new(reason).owner(key.record().owner());
                let _ = manager.revoke_all(&actor, key.record().tenant(), all).await;
            }
            (75..90, _) => {
                let _ = manager.purge(&actor, &of, now - ago, None).await;
            }
            (90..94, _) => {
                let _ = manager.remove_tenant(&actor, &of).await;
            }
            _ => {
                let _ = manager.cut_events(&actor, now - ago).await;
            }
        }
        self.clock.advance(Duration::from_secs(1));
    }

    /// Verifies the log, and keeps what is new of it.
    async fn keep(&mut self) -> Result<(), String> {
        let log = self.store.events().unwrap();
        let events = log.read(None, 0, usize::MAX).await;
        let events = events.unwrap();
        let head = verify_log(&events).map_err(|broken| broken.to_string())?;
        let known = self.head.events;
        let new = events.into_iter().filter(|sealed| sealed.number > known);
        let new: Vec<_> = new.collect();
        // No event was cut before it was seen here.
        let seen = verify_chain(self.head, &new);
        if seen != Ok(head) {
            return Err(format!("{seen:?}, and the log ends at {head:?}"));
        }
        self.kept.extend(new);
        self.head = head;
        Ok(())
    }

    fn told(&self, action: EventAction) -> impl Iterator<Item = KeyId> {
        let told = self
            .kept
            .iter()
            .filter(move |sealed| sealed.event.action == action);
        told.filter_map(|sealed| sealed.event.key)
    }

    /// How many keys were purged; every one of them is gone, and no other.
    async fn check(&self) -> Result<usize, String> {
        let purged: HashSet<_> = self.told(EventAction::KeyPurged).collect();
        let mut listed = HashSet::new();
        for n in 0..TENANTS {
            let query = ListQuery::of(&tenant(n)).listing(Segments::LiveThenRevoked);
            let page = self.store.list(&query.limit(u16::MAX)).await.unwrap();
            listed.extend(page.items.into_iter().map(|key| key.id));
        }
        for id in self.told(EventAction::KeyIssued) {
            let stored = self.store.get(id).await.unwrap();
            let usage = self.store.usage().unwrap();
            let usage = usage.read(&[id]).await.unwrap();
            let is_gone = purged.contains(&id);
            if stored.is_none() != is_gone || listed.contains(&id) == is_gone {
                return Err(format!("{id} was purged: {is_gone}, and is {stored:?}"));
            }
            if is_gone && usage != [None] {
                return Err(format!("{id} was purged, and its usage is {usage:?}"));
            }
        }
        for key in self
            .keys
            .iter()
            .filter(|key| purged.contains(&key.record().id()))
        {
            let again = Change::Insert(Box::new(stored_key(key.record().id())));
            let set = ChangeSet::one(ChangeId::generate(&OsRandom), again);
            match self.store.commit(&set).await {
                Err(StoreError::AlreadyExists) => {}
                other => return Err(format!("a purged id is free: {other:?}")),
            }
        }
        Ok(purged.len())
    }

    /// Everything is removed, and nobody's name is left.
    async fn end(&mut self) -> Result<(), String> {
        self.faulty.heal();
        let manager = self.keyward.manager();
        for n in 0..TENANTS {
            let removed = manager.remove_tenant(&actor(), &tenant(n)).await;
            removed.map_err(|error| error.to_string())?;
        }
        self.keep().await?;
        self.clock.advance(Duration::from_secs(1));
        let now = self.clock.now().unwrap();
        let cut = self.keyward.manager().cut_events(&actor(), now).await;
        cut.map_err(|error| error.to_string())?;
        self.keep().await?;
        let purged = self.check().await?;
        let issued = self.told(EventAction::KeyIssued).count();
        if purged != issued {
            return Err(format!("{purged} of {issued} keys are gone"));
        }
        let log = self.store.events().unwrap();
        let events = log.read(None, 0, usize::MAX).await;
        let left = format!("{:?} {:?}", events.unwrap(), self.feed().await);
        for name in ["owner-", "title-"] {
            if left.contains(name) {
                return Err(format!("{name} is left: {left}"));
            }
        }
        Ok(())
    }

    /// All that was ever told.
    async fn feed(&self) -> Vec<Changed> {
        let mut all = Vec::new();
        let begun = self.store.changes(None, Duration::ZERO).await.unwrap();
        let FeedPage::Resync { next: mut cursor } = begun else {
            panic!("no cursor was given");
        };
        cursor.position = 0;
        loop {
            let page = self.store.changes(Some(&cursor), Duration::ZERO).await;
            let FeedPage::Next {
                items,
                next,
                has_more,
            } = page.unwrap()
            else {
                panic!("the feed is whole");
            };
            all.extend(items);
            if !has_more {
                return all;
            }
            cursor = next;
        }
    }
}

async fn live(bug: Bug, seed: u64) -> Result<usize, String> {
    let mut life = Life::new(bug, seed).await;
    let _ = life.faulty.clone().at_random(seed, 12, FAULTS);
    for n in 0..STEPS {
        life.step(n).await;
        life.keep().await?;
    }
    let purged = life.check().await?;
    life.end().await?;
    Ok(purged)
}

#[tokio::test]
async fn purged_keys_are_gone() {
    for seed in 0..LIVES {
        let purged = live(Bug::None, seed).await.unwrap();
        assert!(purged > STEPS / 15, "{purged}");
    }
}

#[tokio::test]
async fn planted_bugs_are_caught() {
    for bug in [
        Bug::PurgeIsNotDone,
        Bug::CutIsDeeper,
        Bug::CutIsNotRecorded,
        Bug::TenantIsEmpty,
    ] {
        let caught = live(bug, 1).await;
        assert!(caught.is_err(), "{bug:?}");
    }
}
