//! Promise 1: after `revoke` returns, no verification that starts on that node is granted; once the row is revoked, the
//! same holds even if the caller of `revoke` went away half-way. Shown for all that revokes a key: `revoke`,
//! `revoke_all`, `revoke_leaked`, and a rotation without overlap.
//!
//! Planted bugs that the races catch: a read that is answered from a snapshot taken before; a replacement, and a new
//! digest, that write back the row as it was read and so undo a revocation; a revocation that is answered before it is
//! done. Planted bugs that the dropped futures catch: a cache that is told only once the answer arrived; a rotation
//! that is committed change by change.

mod planted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::key::{RevokeReason, TenantId};
use keyward::manager::{Issued, KeyUpdate, ManageError, NewKey, Overlap, RevokeAll};
use keyward::store::{KeyStore, ListQuery, Segments};
use keyward::testkit::{Call, Fault, FaultyStore, ManualClock};
use keyward::verifier::{Attempt, KeyCache, Requirement};
use test_support::size;

use self::planted::{Broken, Bug};
use crate::common::{READ, actor, builder, clock, tenant};
use crate::operations::{poll_times, poll_until};
use crate::store::{IS_ON_DISK, PAUSES, Store, assert_settled};

/// A planted bug must show within this many.
const PLANTED_RACES: u64 = 2_000;
const MOMENT: Duration = Duration::from_millis(1);

fn races() -> u64 {
    size("KEYWARD_RACES", if IS_ON_DISK { 1_000 } else { 2_000 }).into()
}

/// What ends a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Revoke,
    RevokeAll,
    RevokeLeaked,
    RotateAway,
}

const ENDINGS: [Ending; 4] = [
    Ending::Revoke,
    Ending::RevokeAll,
    Ending::RevokeLeaked,
    Ending::RotateAway,
];

impl Ending {
    async fn end(self, keyward: &Keyward, key: &Issued) -> Result<(), ManageError> {
        let (manager, actor) = (keyward.manager(), actor());
        let (tenant, id) = (key.record().tenant(), key.record().id());
        let reason = RevokeReason::Leaked;
        match self {
            Self::Revoke => manager.revoke(&actor, tenant, id, reason).await.map(drop),
            Self::RevokeAll => {
                let all = RevokeAll::new(reason);
                manager.revoke_all(&actor, tenant, all).await.map(drop)
            }
            Self::RevokeLeaked => {
                let leaked = manager.revoke_leaked(&actor, key.api_key().presented());
                leaked.await.map(drop)
            }
            Self::RotateAway => {
                let rotated = manager.rotate(&actor, tenant, id, Overlap::None);
                rotated.await.map(drop)
            }
        }
    }
}

/// What else happens to a key while it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Verified,
    Updated,
    Rehashed,
    Rotated,
    Suspended,
}

const MEANWHILE: [Meanwhile; 5] = [
    Meanwhile::Verified,
    Meanwhile::Updated,
    Meanwhile::Rehashed,
    Meanwhile::Rotated,
    Meanwhile::Suspended,
];

impl Meanwhile {
    async fn happen(self, keyward: &Keyward, key: &Issued) {
        let (manager, actor) = (keyward.manager(), actor());
        let (tenant, id) = (key.record().tenant(), key.record().id());
        // Each may find that the key has ended.
        match self {
            Self::Verified | Self::Rehashed => {
                let _ = is_granted(keyward, key).await;
            }
            Self::Updated => {
                for title in ["one", "two", "three"] {
                    let update = KeyUpdate::new().title(title);
                    let _ = manager.update(&actor, tenant, id, update).await;
                }
            }
            Self::Rotated => {
                let rotated = manager.rotate(&actor, tenant, id, Overlap::UntilRevoked);
                let _ = rotated.await;
            }
            Self::Suspended => {
                let _ = manager.suspend(&actor, tenant, id).await;
                let _ = manager.resume(&actor, tenant, id).await;
            }
        }
    }
}

async fn is_granted(keyward: &Keyward, key: &Issued) -> bool {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.api_key().presented(), &any);
    keyward.verifier().verify(&attempt).await.is_ok()
}

/// Two nodes over one store, one of which has been given a pepper that the other does not have yet.
struct Track {
    peppered: Keyward,
    plain: Keyward,
    clock: ManualClock,
    /// Stamps what must be told before from after.
    stamps: AtomicU64,
}

impl Track {
    async fn over(store: impl KeyStore) -> Arc<Self> {
        let (store, clock): (Arc<dyn KeyStore>, _) = (Arc::new(store), clock());
        let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
        let peppered = builder(Arc::clone(&store), clock.clone())
            .hashing(Hashing::recommended().pepper(pepper))
            .open();
        Arc::new(Self {
            peppered: peppered.await.unwrap(),
            plain: builder(store, clock.clone()).open().await.unwrap(),
            clock,
            stamps: AtomicU64::new(1),
        })
    }

    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    async fn issue(&self, race: u64, meanwhile: Meanwhile) -> Issued {
        let keyward = match meanwhile {
            Meanwhile::Rehashed => &self.plain,
            _ => &self.peppered,
        };
        let tenant = TenantId::new(format!("tenant-{race}")).unwrap();
        let key = NewKey::new(tenant, "raced", READ);
        keyward.manager().issue(&actor(), key).await.unwrap()
    }

    /// Verifies until the key has ended, and then some: the stamp of the last start that was granted.
    async fn verify_until(&self, over: &AtomicU64, key: &Issued) -> u64 {
        let (mut granted, mut after) = (0, 0);
        while after < 2 {
            if over.load(Ordering::SeqCst) > 0 {
                after += 1;
            }
            let start = self.stamp();
            if is_granted(&self.peppered, key).await {
                granted = start;
            }
            tokio::task::yield_now().await;
        }
        granted
    }

    /// Whether a verification was granted that started after the key was ended.
    async fn race(self: Arc<Self>, race: u64, ending: Ending, meanwhile: Meanwhile) -> bool {
        let key = Arc::new(self.issue(race, meanwhile).await);
        if race.is_multiple_of(2) {
            self.clock.advance(MOMENT); // else it ends at the very instant at which it was issued
        }
        let over = Arc::new(AtomicU64::new(0));
        let verifying = (0..2).map(|_| {
            let (track, over, key) = (Arc::clone(&self), Arc::clone(&over), Arc::clone(&key));
            tokio::spawn(async move { track.verify_until(&over, &key).await })
        });
        let verifying: Vec<_> = verifying.collect();
        let disturbing = {
            let (track, key) = (Arc::clone(&self), Arc::clone(&key));
            tokio::spawn(async move { meanwhile.happen(&track.peppered, &key).await })
        };
        let revoking = {
            let (track, key) = (Arc::clone(&self), Arc::clone(&key));
            tokio::spawn(async move {
                if race % 3 == 1 {
                    tokio::task::yield_now().await;
                }
                if ending.end(&track.peppered, &key).await.is_err() {
                    // A key that is suspended or was rotated meanwhile is not rotated.
                    assert_eq!(ending, Ending::RotateAway);
                    Ending::Revoke.end(&track.peppered, &key).await.unwrap();
                }
                over.store(track.stamp(), Ordering::SeqCst);
                over.load(Ordering::SeqCst)
            })
        };
        disturbing.await.unwrap();
        let ended = revoking.await.unwrap();
        let mut is_late = is_granted(&self.peppered, &key).await;
        for granted in verifying {
            is_late |= granted.await.unwrap() > ended;
        }
        is_late || is_granted(&self.peppered, &key).await
    }
}

/// How many of so many races granted too late; the first such race ends it where one is enough.
async fn late(track: &Arc<Track>, races: u64, meanwhile: &[Meanwhile], first: bool) -> u64 {
    let mut late = 0;
    for race in 0..races {
        let choose = |n: usize| usize::try_from(race).unwrap() % n;
        let ending = ENDINGS[choose(ENDINGS.len())];
        let meanwhile = meanwhile[choose(meanwhile.len())];
        let racing = Arc::clone(track).race(race, ending, meanwhile);
        late += u64::from(tokio::spawn(racing).await.unwrap());
        if first && late > 0 {
            break;
        }
    }
    late
}

fn hesitant(store: impl KeyStore) -> FaultyStore {
    let yields = [Fault::Yield(1), Fault::Yield(2), Fault::Yield(3)];
    FaultyStore::over(store).at_random(1, 2, yields)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_grant_after_revoke_returned() {
    let straight = Track::over(Store::new()).await;
    assert_eq!(late(&straight, races() / 2, &MEANWHILE, false).await, 0);
    let hesitant = Track::over(hesitant(Store::new())).await;
    assert_eq!(late(&hesitant, races() / 2, &MEANWHILE, false).await, 0);
    let rehashed = hesitant.peppered.verifier().stats().rehashed;
    assert!(rehashed > 0, "digests were replaced while keys ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_races_catch_planted_bugs() {
    for (bug, meanwhile) in [
        (Bug::StaleReads, Meanwhile::Verified),
        (Bug::ReplaceUndoes, Meanwhile::Updated),
        (Bug::ReplaceUndoes, Meanwhile::Suspended),
        (Bug::RehashUndoes, Meanwhile::Rehashed),
        (Bug::AnswersEarly, Meanwhile::Verified),
    ] {
        let track = Track::over(hesitant(Broken::with(bug))).await;
        let caught = late(&track, PLANTED_RACES, &[meanwhile], true).await;
        assert!(caught > 0, "{bug:?} while {meanwhile:?}");
    }
}

/// What becomes of the first tries of a commit.
const LOSSES: [&[Fault]; 6] = [
    &[],
    &[Fault::LostAnswer],
    &[Fault::LostAnswer, Fault::LostAnswer, Fault::LostAnswer],
    &[Fault::Indeterminate],
    &[Fault::Indeterminate, Fault::LostAnswer],
    &[Fault::HangAfter],
];

/// Drops the call that ends a key after so many polls, or once its commit hangs, looks, and calls it again. Whether it
/// had ended by itself.
async fn drop_after(
    (polls, pause): (usize, Duration),
    ending: Ending,
    bug: Bug,
    losses: &[Fault],
) -> bool {
    let store = Broken::with(bug);
    let mut losing = FaultyStore::over(store.clone());
    for (call, fault) in (0..).zip(losses) {
        losing = losing.on(Call::Commit, call + 1..call + 2, *fault); // the first issues the key
    }
    let waiting = FaultyStore::over(losing.clone()).on_any(0..u64::MAX, Fault::Yield(2));
    let clock = clock();
    let node = builder(waiting, clock.clone()).open().await.unwrap();
    let key = NewKey::new(tenant(), "dropped", READ);
    let key = node.manager().issue(&actor(), key).await.unwrap();
    clock.advance(MOMENT);
    let call = ending.end(&node, &key);
    let has_ended = if losses.contains(&Fault::HangAfter) {
        poll_until(call, || losing.calls(Call::Commit) > 1, pause).await
    } else {
        poll_times(call, polls, pause).await
    };
    let has_ended = has_ended.is_some();
    losing.heal();
    assert_settled(&store.inner).await;

    let what = format!("{ending:?} with {losses:?}, dropped after {polls} polls and {pause:?}");
    // Another node, which asks the store each time: what it may miss for a while is promise 3's.
    let other = builder(store.opened_again(), clock).cache(KeyCache::off());
    let other = other.open().await.unwrap();
    let row = store.inner.get(key.record().id()).await.unwrap().unwrap();
    let is_over = row.revocation.is_some() || row.cutoff > Some(row.created_at);
    for _ in 0..2 {
        assert_eq!(is_granted(&node, &key).await, !is_over, "{what}");
        assert_eq!(is_granted(&other, &key).await, !is_over, "{what}");
    }
    let all = store
        .inner
        .list(&ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked))
        .await
        .unwrap();
    let successors = usize::from(ending == Ending::RotateAway && is_over);
    assert_eq!(all.items.len(), 1 + successors, "{what}");

    match ending.end(&node, &key).await {
        Ok(()) => {}
        Err(ManageError::AlreadyRevoked { .. }) if row.revocation.is_some() => {}
        Err(error) => panic!("{what}, then {error}"),
    }
    let row = store.inner.get(key.record().id()).await.unwrap().unwrap();
    assert!(row.revocation.is_some(), "{what}");
    assert!(!is_granted(&node, &key).await, "{what}");
    assert!(!is_granted(&other, &key).await, "{what}");
    has_ended
}

async fn drop_after_every_poll(bug: Bug, ending: Ending) {
    for (losses, pause) in LOSSES
        .into_iter()
        .flat_map(|of| PAUSES.map(|pause| (of, pause)))
    {
        let hangs = losses.contains(&Fault::HangAfter);
        // What a lost answer changes is the same after a while, and on a disk not tried at each poll.
        let step = if IS_ON_DISK && !losses.is_empty() {
            3
        } else {
            1
        };
        if !pause.is_zero() && !losses.is_empty() && !hangs {
            continue;
        }
        let mut polls = 0;
        while !drop_after((polls, pause), ending, bug, losses).await {
            polls += step;
            assert!(polls < 1_000, "{ending:?} with {losses:?} does not end");
            if hangs {
                break;
            }
        }
        assert!(polls > 0, "{losses:?}: it was dropped under way");
    }
}

#[tokio::test]
async fn a_dropped_revocation_is_done_or_not() {
    for ending in ENDINGS {
        drop_after_every_poll(Bug::None, ending).await;
    }
}

#[tokio::test]
async fn the_drops_catch_planted_bugs() {
    for (bug, ending) in [
        (Bug::CacheToldLate, Ending::Revoke),
        (Bug::SetIsTorn, Ending::RotateAway),
    ] {
        let caught = tokio::spawn(drop_after_every_poll(bug, ending)).await;
        assert!(caught.is_err(), "{bug:?}");
    }
}

/// A sweep that stopped is taken up again as its error says. A key that was issued at its very instant, or by a node
/// whose clock is ahead, was the tenant's when it began.
#[tokio::test]
async fn a_resumed_sweep_ends_the_same_keys() {
    for call in [Call::List, Call::Commit] {
        for failing in 0..4 {
            let store = FaultyStore::over(Store::new());
            let clock = clock();
            let node = builder(store.clone(), clock.clone()).open().await.unwrap();
            let issue = || NewKey::new(tenant(), "swept", READ);
            let mut keys = Vec::new();
            for ahead in [MOMENT, Duration::ZERO, MOMENT * 2] {
                clock.advance(ahead);
                keys.push(node.manager().issue(&actor(), issue()).await.unwrap());
            }
            clock.set(keys[1].record().created_at());
            let failing = store.calls(call) + failing;
            let _ = store
                .clone()
                .on(call, failing..failing + 1, Fault::Unavailable);
            let all = || RevokeAll::new(RevokeReason::Leaked);
            let manager = node.manager();
            let rest = match manager.revoke_all(&actor(), &tenant(), all()).await {
                Err(ManageError::Unfinished { before, .. }) => {
                    for key in &keys {
                        assert!(!is_granted(&node, key).await, "{call:?} {failing}");
                    }
                    all().issued_before(before)
                }
                _ => all(),
            };
            store.heal();
            let done = manager.revoke_all(&actor(), &tenant(), rest).await;
            done.unwrap();
            for key in &keys {
                assert!(!is_granted(&node, key).await, "{call:?} {failing}");
            }
        }
    }
}
