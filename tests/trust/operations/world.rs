//! Keys over a store that never fails, and what was done to them.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyward::audit::{ChainHead, EventAction, SealedEvent, verify_chain, verify_log};
use keyward::clock::Clock;
use keyward::hashing::Pepper;
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::{KeyId, KeyRecord, PresentedKey, RevokeReason, TenantId};
use keyward::manager::{Bound, Issued, KeyBound, NewKey, Overlap};
use keyward::store::{Changed, Cursor, FeedPage, KeyStore, ListQuery, Segments};
use keyward::testkit::ManualClock;
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, Requirement};
use keyward::{Builder, Keyward};

use super::{Done, HOUR, LEGACY, Op, SWEPT, new_key, swept};
use crate::common::{READ, actor, builder, clock, tenant};
use crate::store::{Image, Store, image, restored};

/// A store with a key in each state that an operation needs, and how to look into it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: ManualClock,
    keys: Arc<Keys>,
}

/// What was put into a world.
pub(crate) struct Keys {
    pub(crate) live: Issued,
    pub(crate) suspended: Issued,
    pub(crate) revoked: Issued,
    /// Its overlap with `heir` is over, and it is not listed as revoked yet.
    pub(crate) ancestor: Issued,
    pub(crate) heir: Issued,
    /// The revocations of another tenant's keys, as they were exported before a backup was restored.
    pub(crate) kept: Vec<KeyBound>,
    /// When it was made.
    pub(crate) now: OffsetDateTime,
    start: Cursor,
    /// The events until then, in case they are cut.
    before: Vec<SealedEvent>,
}

impl Deref for World {
    type Target = Keys;

    fn deref(&self) -> &Keys {
        &self.keys
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        // Where a store can be copied, the first world is made, and the others are copies of it.
        static FIRST: OnceLock<(Image, Arc<Keys>)> = OnceLock::new();
        if let Some((image, keys)) = FIRST.get() {
            return Self {
                store: restored(image),
                clock: ManualClock::new(keys.now),
                keys: Arc::clone(keys),
            };
        }
        let world = Self::made().await;
        if let Some(image) = image(&world.store).await {
            let _ = FIRST.set((image, Arc::clone(&world.keys)));
        }
        world
    }

    async fn made() -> Self {
        let (store, clock) = (Store::new(), clock());
        let FeedPage::Resync { next: start } = feed(&store, None).await else {
            panic!("an empty store has no news");
        };
        let keyward = open(store.clone(), &clock).await;
        let (manager, actor, tenant) = (keyward.manager(), actor(), tenant());
        let issue = async |title| manager.issue(&actor, new_key(title)).await.unwrap();
        let (live, suspended) = (issue("live").await, issue("suspended").await);
        let (revoked, ancestor) = (issue("revoked").await, issue("ancestor").await);
        let id = |key: &Issued| key.record().id();
        let done = manager.suspend(&actor, &tenant, id(&suspended)).await;
        done.unwrap();
        let reason = RevokeReason::Requested;
        let done = manager.revoke(&actor, &tenant, id(&revoked), reason).await;
        done.unwrap();
        let heir = manager.rotate(&actor, &tenant, id(&ancestor), Overlap::For(HOUR));
        let heir = heir.await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..SWEPT {
            let key = manager.issue(&actor, NewKey::new(swept(), "swept", READ));
            kept.push(KeyBound::revoked(
                id(&key.await.unwrap()),
                swept(),
                live.record().created_at(),
                RevokeReason::Leaked,
            ));
        }
        clock.advance(HOUR);
        let now = clock.now().unwrap();
        let keys = Keys {
            live,
            suspended,
            revoked,
            ancestor,
            heir,
            kept,
            now,
            start,
            before: events(&store).await,
        };
        let keys = Arc::new(keys);
        Self { store, clock, keys }
    }

    /// A Keyward over a store in front of this world's, or over that itself.
    pub(crate) async fn open(&self, store: impl KeyStore) -> Keyward {
        open(store, &self.clock).await
    }

    pub(crate) async fn record(&self, id: KeyId) -> KeyRecord {
        let stored = self.store.get(id).await.unwrap().unwrap();
        KeyRecord::decode(stored).unwrap()
    }

    /// All keys of a tenant.
    async fn records(&self, tenant: &TenantId) -> Vec<KeyRecord> {
        let query = ListQuery::of(tenant).listing(Segments::LiveThenRevoked);
        let page = self.store.list(&query.limit(100)).await.unwrap();
        let records = page.items.into_iter().map(KeyRecord::decode);
        records.collect::<Result<_, _>>().unwrap()
    }

    /// What was done to the keys since the world was made, as the events tell, once it is shown that these tell the
    /// truth: each piece of news in the feed has one event, and each row is what its events make of it. What was done
    /// to the ancestor is left out.
    pub(crate) async fn told(&self) -> Vec<EventAction> {
        let stored = events(&self.store).await;
        verify_log(&stored).unwrap();
        let since = |sealed: &SealedEvent| sealed.number > self.before.len() as u64;
        let since: Vec<_> = stored.into_iter().filter(since).collect();
        let events = [self.before.clone(), since.clone()].concat();
        verify_chain(ChainHead::default(), &events).unwrap();
        let mut news = Vec::new();
        let mut cursor = self.start.clone();
        loop {
            let FeedPage::Next { items, next, .. } = feed(&self.store, Some(&cursor)).await else {
                panic!("the feed is whole");
            };
            if items.is_empty() {
                break;
            }
            news.extend(items);
            cursor = next;
        }
        assert_eq!(news.len(), events.len(), "{news:?}\n{events:#?}");
        let mut histories: HashMap<KeyId, Vec<EventAction>> = HashMap::new();
        for (news, SealedEvent { event, .. }) in news.into_iter().zip(&events) {
            let (id, revision) = match news {
                Changed::Key { id, revision } => (id, revision),
                Changed::EventsCut { .. } => {
                    assert_eq!((event.key, event.action), (None, EventAction::EventsCut));
                    continue;
                }
                _ => {
                    let of_tenant = [EventAction::KeysCutOff, EventAction::TenantRemoved];
                    assert!(event.key.is_none() && of_tenant.contains(&event.action));
                    continue;
                }
            };
            let history = histories.entry(id).or_default();
            history.push(event.action);
            assert_eq!(event.key, Some(id), "{event:?}");
            assert_eq!(u64::try_from(history.len()), Ok(revision), "{event:?}");
        }
        for tenant in [tenant(), swept()] {
            for record in self.records(&tenant).await {
                is_as_told(&record, &histories.remove(&record.id()).unwrap());
            }
        }
        histories.retain(|_, history| history.last() != Some(&EventAction::KeyPurged));
        assert!(histories.is_empty(), "told of no key: {histories:?}");
        let since = since.into_iter();
        let ancestor = Some(self.ancestor.record().id());
        let since = since.filter(|sealed| sealed.event.key != ancestor);
        since.map(|sealed| sealed.event.action).collect()
    }

    /// That what an operation answered is what a second handle on the store shows.
    pub(crate) async fn confirm(&self, op: Op, done: Done) {
        let same = async |record: &KeyRecord| {
            assert_eq!(*record, self.record(record.id()).await, "{op:?}");
        };
        let revoked = async || {
            let all = self.records(&swept()).await;
            let revoked = all.iter().filter(|key| key.revocation().is_some());
            u64::try_from(revoked.count()).unwrap()
        };
        match done {
            Done::Issued(key) => {
                same(key.record()).await;
                assert!(self.admits(key.api_key().presented()).await, "{op:?}");
            }
            Done::Record(record) => {
                same(&record).await;
                if op == Op::Import {
                    assert!(self.admits(PresentedKey::text(LEGACY)).await);
                }
            }
            Done::Found(found) => same(&found.record).await,
            Done::Listed(list) => {
                let all = self.records(&tenant()).await;
                assert_eq!((list.keys, list.next), (all, None));
            }
            Done::Revoked(revoked) => {
                let record = self.record(revoked.id).await;
                assert_eq!(record.revocation().unwrap().at, revoked.at);
            }
            Done::Swept(swept) => assert_eq!(revoked().await, swept.revoked, "{swept:?}"),
            Done::Replayed(replayed) => {
                let gone = replayed.revoked + replayed.already;
                assert_eq!(revoked().await, gone, "{replayed:?}");
            }
            Done::Narrowed(narrowed) => {
                assert_eq!(narrowed.narrowed + narrowed.already, 1, "{narrowed:?}");
                let live = self.record(self.live.record().id()).await;
                assert!(live.suspended_at().is_some());
            }
            Done::CutOff => {
                let all = self.records(&swept()).await;
                assert!(all.iter().all(KeyRecord::is_cut_off));
            }
            Done::Exported(page) => {
                let all = self.records(&tenant()).await;
                let ids: Vec<_> = all.iter().map(KeyRecord::id).collect();
                let exported = page.restrictions.iter();
                assert_eq!(exported.map(|one| one.id).collect::<Vec<_>>(), ids);
                let is_revoked = |one: &&KeyBound| matches!(one.bound, Bound::Revoked { .. });
                let mut revoked = page.restrictions.iter().filter(is_revoked);
                assert_eq!(revoked.next().unwrap().id, self.revoked.record().id());
                assert_eq!(revoked.next(), None);
            }
            Done::Purged(purged) => {
                assert_eq!(purged.keys, [self.revoked.record().id()]);
                assert_eq!(self.store.get(purged.keys[0]).await.unwrap(), None);
            }
            Done::Removed(removed) => {
                assert_eq!(usize::try_from(removed), Ok(SWEPT));
                assert!(self.records(&swept()).await.is_empty());
            }
            Done::EventsCut(cut) => {
                assert_eq!(cut, self.before.len() as u64);
                assert_eq!(events(&self.store).await[0].number, cut + 1);
            }
        }
    }

    /// Whether a second Keyward over the same store admits a key.
    pub(crate) async fn admits(&self, presented: PresentedKey<'_>) -> bool {
        let keyward = self.open(self.store.clone()).await;
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any);
        keyward.verifier().verify(&attempt).await.is_ok()
    }
}

/// That a row is what its events make of it.
fn is_as_told(record: &KeyRecord, history: &[EventAction]) {
    use EventAction as A;
    let last = |of: &[A]| history.iter().rposition(|action| of.contains(action));
    let revoked = history.iter().filter(|action| **action == A::KeyRevoked);
    assert_eq!(revoked.count(), usize::from(record.revocation().is_some()));
    assert_eq!(history.len(), usize::try_from(record.revision()).unwrap());
    assert!(matches!(history[0], A::KeyIssued | A::KeyImported));
    let switched = last(&[A::KeySuspended, A::KeyResumed]);
    let suspended = switched.is_some_and(|at| history[at] == A::KeySuspended);
    assert_eq!(record.suspended_at().is_some(), suspended, "{history:?}");
    assert_eq!(
        record.rotation().is_some(),
        last(&[A::KeyRotated]).is_some()
    );
}

async fn events(store: &Store) -> Vec<SealedEvent> {
    let log = store.events().unwrap();
    log.read(None, 0, usize::MAX).await.unwrap()
}

async fn feed(store: &Store, after: Option<&Cursor>) -> FeedPage {
    store.changes(after, Duration::ZERO).await.unwrap()
}

/// One that accepts imported keys too.
pub(crate) fn assemble(store: impl KeyStore, clock: &ManualClock) -> Builder {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
    let imported = ImportedKeys::under(lookup).accept(legacy);
    builder(store, clock.clone()).imported_keys(imported)
}

async fn open(store: impl KeyStore, clock: &ManualClock) -> Keyward {
    assemble(store, clock).open().await.unwrap()
}
