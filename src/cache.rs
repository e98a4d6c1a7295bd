//! What a node knows of keys: cached records, the feed of changes, and the reads of the store.
//!
//! The verifier decides on it; nothing here knows the verifier.
//!
//! # Why is a cache entry safe to decide on?
//! `Lease::may_decide` is the one place that says whether a read may decide on a request. It asks
//! - *the lease* (`lease.rs`): a read decides for a bounded time after it began, or for as long as polls of the feed
//!   keep completing. Without polls every key is read again once per bound; without the store nothing is granted;
//! - and *the fence* (`slot.rs`, and `Epochs` for all keys): neither a commit of this node nor a change from the feed
//!   has overtaken the read. A node that revokes a key fences it before the commit (`fenced_store.rs`), and until the
//!   outcome is known.
//!
//! A mismatch of *the tag* (`tag.rs`) counts as a wrong secret only if the tag is of a secret that was proven against
//! the very digest in the entry.

mod compiled;
mod feed;
mod fenced_store;
mod key_cache;
mod lease;
mod map;
mod reads;
mod segments;
mod slot;
mod slots;
mod tag;
mod watchers;
mod weight;

pub(crate) use compiled::{
    CachedRecord, CatalogId, CompiledRecord, Compiler, Home, Reach, Standing,
};
pub(crate) use fenced_store::FencedStore;
pub use key_cache::KeyCache;
pub(crate) use lease::RequestEpochs;
pub(crate) use reads::{ReadError, Reads, SlotGuard};
pub(crate) use slot::{Entry, Match, Proof, Slot, Snapshot};
pub(crate) use slots::Slots;
pub(crate) use tag::{Tag, Tagger};

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;

use self::feed::Feed;
use crate::clock::{Clock, PassedEnds, WallClockReading};
use crate::key::{KeyFormat, KeyId, ScopeCatalog};
use crate::sync::{Ordering, within};

/// The longest wait before the next check: wall clocks can be set.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The shortest wait: the timer's resolution, so that the watcher is not woken over and over just before the end.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// The wait before the next check if the last one failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest time for a check that starts when the lease is over.
const MOST_GRACE: Duration = Duration::from_secs(1);

/// Number of attempts at a check; each may find that its snapshot has become old.
const TRIES: u32 = 4;

/// This node's knowledge of keys.
pub(crate) struct Cache {
    pub(crate) slots: Arc<Slots>,
    pub(crate) reads: Reads,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) passed: Arc<PassedEnds>,
    pub(crate) store: Arc<FencedStore>,
    feed: Feed,
}

/// Counters of a cache since its start, and what it holds now.
pub(crate) struct CacheStats {
    pub(crate) store_reads: u64,
    pub(crate) feed_polls: u64,
    pub(crate) feed_poll_failures: u64,
    pub(crate) feed_is_current: bool,
    pub(crate) resident_keys: usize,
    pub(crate) resident_bytes: u64,
}

impl Cache {
    /// Creates the cache of a store over its slots.
    pub(crate) fn new(
        settings: KeyCache,
        slots: Arc<Slots>,
        store: Arc<FencedStore>,
        (format, catalog): (KeyFormat, Arc<ScopeCatalog>),
        clock: Arc<dyn Clock>,
        passed: Arc<PassedEnds>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| {
            let compiler = Compiler::new(format, catalog, Weak::clone(me) as _);
            Self {
                reads: Reads::new(
                    Arc::clone(&slots),
                    Arc::clone(&store),
                    compiler,
                    settings.reads,
                ),
                feed: Feed::new(Arc::clone(&slots), Arc::clone(&store)),
                slots,
                store,
                clock,
                passed,
            }
        })
    }

    /// Follows the store's change feed for as long as the future is polled. It never ends.
    pub(crate) async fn follow(&self) {
        self.feed.follow().await;
    }

    /// Polls the feed once; returns whether there may be more already.
    #[cfg(keyward_shuttle)]
    pub(crate) async fn round(
        &self,
        cursor: &mut Option<crate::store::Cursor>,
    ) -> Result<bool, crate::store::StoreError> {
        self.feed.round(cursor, Duration::ZERO).await
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let now = self.slots.lease.now();
        let (resident_keys, resident_bytes) = self.slots.occupancy();
        CacheStats {
            store_reads: self.reads.count.load(Ordering::Relaxed),
            feed_polls: self.feed.polls.load(Ordering::Relaxed),
            feed_poll_failures: self.feed.failures.load(Ordering::Relaxed),
            feed_is_current: now.is_ok_and(|now| self.slots.lease.is_followed(now)),
            resident_keys,
            resident_bytes,
        }
    }

    /// Returns whether the key is good, as the store has it now.
    pub(crate) async fn is_still_good(&self, id: KeyId) -> Result<bool, ReadError> {
        let checked = self.check_again(&self.reads.guard_slot(id, None)).await?;
        Ok(checked.is_some())
    }

    /// Returns when the lease of the key's cache entry ends, in nanoseconds of the monotonic clock. Zero if there is no
    /// entry that may decide.
    fn known_until(&self, id: KeyId) -> u64 {
        let end = |(), slot: &mut Slot| {
            let entry = slot.entry.as_ref()?;
            let may_stay = slot.may_enter(&entry.snapshot);
            may_stay.then(|| self.slots.lease.end(entry.snapshot.stamp))
        };
        let found = self.slots.map.find(id, || (), end);
        found.flatten().unwrap_or(0)
    }

    /// Checks the key once more; `None` if it is not good.
    async fn check_again(&self, guard: &SlotGuard<'_>) -> Result<Option<Good>, ReadError> {
        let Slots { map, lease, .. } = &*self.slots;
        for tries in 0..TRIES {
            let snapshot = self.reads.fetch(guard, tries > 0).await?;
            let now = lease.now()?;
            let request = RequestEpochs {
                came: guard.since,
                hashed: guard.since,
            };
            let may_decide = map.with(guard.id, |slot| {
                lease.may_decide(slot, &snapshot, Some(request), now)
            });
            if !may_decide {
                continue;
            }
            let wall = WallClockReading::read(&*self.clock)?;
            if !snapshot.compiled.is_good(&wall, &self.passed)? {
                return Ok(None);
            }
            let left = match snapshot.compiled.ends {
                i64::MAX => i64::MAX,
                end => end.saturating_sub(wall.exact()?),
            };
            let patience = u64::try_from(lease.patience().as_nanos()).unwrap_or(u64::MAX);
            let own = snapshot.stamp.began.saturating_add(patience);
            return Ok(Some(Good {
                expires_in: Duration::from_micros(u64::try_from(left).unwrap_or(0)),
                known_until: own.max(lease.end(snapshot.stamp)),
            }));
        }
        Err(ReadError::Stale)
    }
}

#[async_trait]
impl Home for Cache {
    fn now(&self) -> Option<u64> {
        self.slots.lease.now().ok()
    }

    fn is_good(&self, id: KeyId) -> Option<bool> {
        let wall = WallClockReading::read(&*self.clock).ok()?;
        let is_good = self.slots.map.find(
            id,
            || (),
            |(), slot| {
                let now = self.slots.lease.now().ok()?;
                let entry = self.slots.lease.usable(slot, now)?;
                entry.snapshot.compiled.is_good(&wall, &self.passed).ok()
            },
        );
        is_good.flatten()
    }

    // A check that reads the store starts when half of the lease is left, so that a store that answers is never too
    // late, and one that does not answer never extends the lease.
    async fn wait_until_ended(&self, id: KeyId) {
        let watching = self.slots.watchers.watch(id);
        let grace = MOST_GRACE.min(self.slots.lease.patience() / 4);
        let mut known_until = self.known_until(id);
        let mut has_failed = false;
        loop {
            // Listening before the check, so that no change falls between the two.
            let mut changed = pin!(watching.woken.notified());
            changed.as_mut().enable();
            let Ok(now) = self.slots.lease.now() else {
                return;
            };
            let left = Duration::from_nanos(known_until.saturating_sub(now));
            if has_failed && left.is_zero() {
                return;
            }
            // The lease may be over before this check starts, if the handler was slow or the process was not running.
            let limit = if has_failed { left } else { left.max(grace) };
            let mut guard = self.reads.guard_slot(id, None);
            guard.ahead = self.slots.lease.bound() / 2;
            let checked = within(limit, self.check_again(&guard)).await;
            drop(guard);
            let Ok(now) = self.slots.lease.now() else {
                return;
            };
            has_failed = !matches!(checked, Some(Ok(_)));
            let most = match checked {
                Some(Ok(Some(good))) => {
                    known_until = good.known_until;
                    let left = Duration::from_nanos(known_until.saturating_sub(now));
                    good.expires_in.min(left / 2).min(MOST_WAIT)
                }
                Some(Ok(None)) => return,
                Some(Err(_)) | None => {
                    let left = Duration::from_nanos(known_until.saturating_sub(now));
                    if left.is_zero() {
                        return;
                    }
                    PAUSE.min(left)
                }
            };
            // Either outcome only says when to check again.
            let _ = tokio::time::timeout(most.max(LEAST_WAIT), changed).await;
        }
    }
}

/// A check that found the key good.
struct Good {
    expires_in: Duration,
    /// When the lease of this check ends, in nanoseconds of the monotonic clock.
    known_until: u64,
}
