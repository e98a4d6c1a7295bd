//! Promise 4: a fill that raced a change never brings the key back: on the node that revokes, suspends or cuts off,
//! nothing is granted that starts after the call returned, however cold, lapsed or crowded out the key was when it
//! began. Threads of the machine's own here; in what order they can meet is explored elsewhere.
//!
//! Planted bugs that it catches: a node that changes the store without a fence; a store that answers a read with what
//! stood before the read began.

mod late;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keyward::Keyward;
use keyward::key::{ApiKey, RevokeReason, TenantId};
use keyward::manager::NewKey;
use keyward::store::KeyStore;
use keyward::testkit::{ManualClock, ManualMonotonicClock};
use keyward::verifier::{Attempt, KeyCache, Requirement};

use self::late::Late;
use crate::common::{READ, actor, builder, clock};
use crate::operations::poll_until;
use crate::store::{IS_ON_DISK, opened_again};

const RACES: u64 = if IS_ON_DISK { 300 } else { 2_000 };
const MOMENT: Duration = Duration::from_millis(1);
const BOUND: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Revoke,
    Suspend,
    CutOff,
}

const ENDINGS: [Ending; 3] = [Ending::Revoke, Ending::Suspend, Ending::CutOff];

/// What the node holds of the key when the race begins, and what becomes of it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Cold,
    Warm,
    /// The lease ends during the race, over and over.
    Lapsing,
    /// Other keys take its place during the race.
    CrowdedOut,
}

const HELD: [Held; 4] = [Held::Cold, Held::Warm, Held::Lapsing, Held::CrowdedOut];

struct Key {
    key: ApiKey,
    tenant: TenantId,
}

struct Track {
    here: Keyward,
    /// A node over the same store that fences nothing here.
    there: Keyward,
    store: Late,
    clock: ManualClock,
    monotonic: ManualMonotonicClock,
    crowd: Vec<Key>,
    /// Stamps what must be told before from after.
    stamps: AtomicU64,
}

impl Track {
    async fn over(store: Late) -> Arc<Self> {
        let (clock, monotonic) = (clock(), ManualMonotonicClock::new());
        // Room for some ten keys.
        let cache = KeyCache::new().lease(BOUND).max_bytes(16 << 10);
        let here = builder(store.clone(), clock.clone());
        let here = here.monotonic_clock(monotonic.clone()).cache(cache).open();
        let there = builder(opened_again(store.inner()), clock.clone()).open();
        let mut track = Self {
            here: here.await.unwrap(),
            there: there.await.unwrap(),
            store,
            clock,
            monotonic,
            crowd: Vec::new(),
            stamps: AtomicU64::new(1),
        };
        for n in 0..40 {
            let key = track.issue(&format!("crowd-{n}")).await;
            track.crowd.push(key);
        }
        Arc::new(track)
    }

    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    async fn issue(&self, tenant: &str) -> Key {
        let tenant = TenantId::new(tenant).unwrap();
        let new = NewKey::new(tenant.clone(), "raced", READ);
        let issued = self.here.manager().issue(&actor(), new).await.unwrap();
        let (key, _) = issued.into_parts();
        Key { key, tenant }
    }

    async fn is_granted(&self, key: &Key) -> bool {
        let any = Requirement::any_key();
        let attempt = Attempt::new(key.key.presented(), &any);
        self.here.verifier().verify(&attempt).await.is_ok()
    }

    async fn end(&self, node: &Keyward, key: &Key, ending: Ending) {
        let (manager, actor, id) = (node.manager(), actor(), key.key.id());
        match ending {
            Ending::Revoke => {
                let reason = RevokeReason::Leaked;
                manager
                    .revoke(&actor, &key.tenant, id, reason)
                    .await
                    .unwrap();
            }
            Ending::Suspend => {
                manager.suspend(&actor, &key.tenant, id).await.unwrap();
            }
            Ending::CutOff => {
                let now = keyward::clock::Clock::now(&self.clock).unwrap();
                let cut = manager.deny_issued_before(&actor, now, &key.tenant);
                cut.await.unwrap();
            }
        }
    }

    /// Verifies until the key has ended, and then some: the stamp of the last start that was granted.
    async fn verify_until(&self, over: &AtomicBool, key: &Key) -> u64 {
        let (mut granted, mut after) = (0, 0);
        while after < 2 {
            after += u64::from(over.load(Ordering::SeqCst));
            let start = self.stamp();
            if self.is_granted(key).await {
                granted = start;
            }
            tokio::task::yield_now().await;
        }
        granted
    }

    async fn disturb(&self, over: &AtomicBool, held: Held) {
        while !over.load(Ordering::SeqCst) {
            match held {
                Held::Cold | Held::Warm => return,
                Held::Lapsing => self.monotonic.advance(BOUND),
                Held::CrowdedOut => {
                    for key in &self.crowd {
                        assert!(self.is_granted(key).await);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether a verification was granted that started after the key was ended on that node.
    async fn race(self: Arc<Self>, race: u64, ending: Ending, held: Held, is_fenced: bool) -> bool {
        let key = Arc::new(self.issue(&format!("tenant-{race}")).await);
        self.clock.advance(MOMENT);
        if held != Held::Cold {
            assert!(self.is_granted(&key).await);
        }
        let over = Arc::new(AtomicBool::new(false));
        let verifying = (0..2).map(|_| {
            let (track, over, key) = (Arc::clone(&self), Arc::clone(&over), Arc::clone(&key));
            tokio::spawn(async move { track.verify_until(&over, &key).await })
        });
        let verifying: Vec<_> = verifying.collect();
        let disturbing = {
            let (track, over) = (Arc::clone(&self), Arc::clone(&over));
            tokio::spawn(async move { track.disturb(&over, held).await })
        };
        for _ in 0..race % 4 {
            tokio::task::yield_now().await;
        }
        let node = if is_fenced { &self.here } else { &self.there };
        self.end(node, &key, ending).await;
        let ended = self.stamp();
        over.store(true, Ordering::SeqCst);
        disturbing.await.unwrap();
        let mut is_late = false;
        for granted in verifying {
            is_late |= granted.await.unwrap() > ended;
        }
        is_late || self.is_granted(&key).await
    }

    /// How many of so many races granted too late; the first such race ends it where one is enough.
    async fn late(self: &Arc<Self>, races: u64, is_fenced: bool, first: bool) -> u64 {
        let mut late = 0;
        for race in 0..races {
            let choose = |n: usize| usize::try_from(race).unwrap() % n;
            let (ending, held) = (ENDINGS[choose(3)], HELD[choose(4)]);
            let racing = Arc::clone(self).race(race, ending, held, is_fenced);
            let is_late = tokio::spawn(racing).await.unwrap();
            assert!(!is_late || first, "{ending:?} of a key that was {held:?}");
            late += u64::from(is_late);
            if first && late > 0 {
                break;
            }
        }
        late
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_racing_fill_revives_no_key() {
    let track = Track::over(Late::new()).await;
    assert_eq!(track.late(RACES, true, false).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_without_a_fence_is_caught() {
    let track = Track::over(Late::new()).await;
    assert!(track.late(RACES, false, true).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_from_before_are_caught() {
    let track = Track::over(Late::new().answering_from_before()).await;
    assert!(track.late(RACES, true, true).await > 0);
}

/// Whoever called `revoke` went away. Its commit lands later, and from then on nothing is granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_revocation_outlasts_a_fill() {
    let track = Track::over(Late::new().holding_revocations()).await;
    let mut landed_later = 0;
    for race in 0..300 {
        let key = Arc::new(track.issue(&format!("dropped-{race}")).await);
        track.clock.advance(MOMENT);
        if race % 2 == 0 {
            assert!(track.is_granted(&key).await);
        }
        let over = Arc::new(AtomicBool::new(false));
        let verifying = (0..2).map(|_| {
            let (track, over, key) = (Arc::clone(&track), Arc::clone(&over), Arc::clone(&key));
            tokio::spawn(async move { track.verify_until(&over, &key).await })
        });
        let verifying: Vec<_> = verifying.collect();
        // Half of them are dropped once the commit has begun, the others after some polls, before that or after it.
        let before = track.store.commits_begun();
        let has_begun = || track.store.commits_begun() > before;
        let mut polls = if race % 4 < 2 {
            u64::MAX
        } else {
            1 + race % 10
        };
        let is_dropped = || {
            polls -= 1;
            polls == 0 || has_begun()
        };
        let revoking = track.end(&track.here, &key, Ending::Revoke);
        let done = poll_until(revoking, is_dropped, Duration::ZERO).await;
        assert!(done.is_none(), "{race}: it has not landed");
        let has_begun = has_begun();
        let is_revoked = async || {
            let row = track.store.inner().get(key.key.id()).await.unwrap();
            row.is_some_and(|row| row.revocation.is_some())
        };
        assert!(!is_revoked().await, "{race}: it has not landed");
        track.store.let_one_land();
        if has_begun {
            landed_later += 1;
            while !is_revoked().await {
                tokio::task::yield_now().await;
            }
        } else {
            track.end(&track.here, &key, Ending::Revoke).await;
        }
        let ended = track.stamp();
        over.store(true, Ordering::SeqCst);
        for granted in verifying {
            let granted = granted.await.unwrap();
            assert!(granted < ended, "{race}");
        }
        assert!(!track.is_granted(&key).await, "{race}");
    }
    assert!(landed_later > 0, "some landed after their callers had gone");
}
