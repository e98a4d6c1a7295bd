//! Whether the key of a grant is still good.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::compiled::WallClockReading;
use super::reads::{SlotGuard, within};
use super::slot::Slot;
use super::slots::Slots;
use crate::key::KeyId;
use crate::verifier::{Core, DenialReason};

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

impl Core {
    /// Returns whether the key is good; `None` if its slot cannot decide.
    pub(crate) fn is_good(&self, id: KeyId) -> Option<bool> {
        let wall = WallClockReading::read(&*self.parts.clock).ok()?;
        let is_good = self.slots.find(
            id,
            || (),
            |(), slot| {
                let now = self.slots.now().ok()?;
                let entry = self.usable(slot, now)?;
                entry.compiled.is_good(&wall, &self.parts.passed).ok()
            },
        );
        is_good.flatten()
    }

    /// Returns whether the key is good, as the store has it now.
    pub(crate) async fn is_still_good(&self, id: KeyId) -> Result<bool, DenialReason> {
        let checked = self.check_again(&self.guard_slot(id, None)).await?;
        Ok(checked.is_some())
    }

    /// Resolves when the key is no longer good, or when the lease of the last successful check has ended.
    ///
    /// A check that reads the store starts when half of the lease is left, so that a store that answers is never too
    /// late, and one that does not answer never extends the lease.
    pub(crate) async fn wait_until_ended(&self, id: KeyId) {
        let watching = Watching::new(&self.slots, id);
        let grace = MOST_GRACE.min(self.patience / 4);
        let mut known_until = self.known_until(id);
        let mut has_failed = false;
        loop {
            // Listening before the check, so that no change falls between the two.
            let mut changed = pin!(watching.woken.notified());
            changed.as_mut().enable();
            let Ok(now) = self.slots.now() else {
                return;
            };
            let left = Duration::from_nanos(known_until.saturating_sub(now));
            if has_failed && left.is_zero() {
                return;
            }
            // The lease may be over before this check starts, if the handler was slow or the process was not running.
            let limit = if has_failed { left } else { left.max(grace) };
            let mut guard = self.guard_slot(id, None);
            guard.ahead = self.slots.lease.bound() / 2;
            let checked = within(limit, self.check_again(&guard)).await;
            drop(guard);
            let Ok(now) = self.slots.now() else {
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

    /// Returns when the lease of the key's cache entry ends, in nanoseconds of the monotonic clock. Zero if there is no
    /// entry that may decide.
    fn known_until(&self, id: KeyId) -> u64 {
        let end = |(), slot: &mut Slot| {
            let entry = slot.admitted()?;
            Some(self.slots.lease.end(entry.stamp))
        };
        let found = self.slots.find(id, || (), end);
        found.flatten().unwrap_or(0)
    }

    /// Checks the key once more; `None` if it is not good.
    async fn check_again(&self, guard: &SlotGuard<'_>) -> Result<Option<Good>, DenialReason> {
        let id = guard.id;
        for tries in 0..TRIES {
            let snapshot = self.fetch(guard, tries > 0).await?;
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let may_decide = self.slots.with(id, |slot| {
                self.may_decide(slot, &snapshot, guard.since, guard.since, now)
            });
            if !may_decide {
                continue;
            }
            let wall = WallClockReading::read(&*self.parts.clock)?;
            if !snapshot.compiled.is_good(&wall, &self.parts.passed)? {
                return Ok(None);
            }
            let left = match snapshot.compiled.ends {
                i64::MAX => i64::MAX,
                end => end.saturating_sub(wall.exact()?),
            };
            let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
            let own = snapshot.stamp.began.saturating_add(patience);
            return Ok(Some(Good {
                expires_in: Duration::from_micros(u64::try_from(left).unwrap_or(0)),
                known_until: own.max(self.slots.lease.end(snapshot.stamp)),
            }));
        }
        Err(DenialReason::StaleCache)
    }
}

/// A check that found the key good.
struct Good {
    expires_in: Duration,
    /// When the lease of this check ends, in nanoseconds of the monotonic clock.
    known_until: u64,
}

/// A task that waits for a key to change.
struct Watching<'a> {
    slots: &'a Slots,
    id: KeyId,
    woken: Arc<Notify>,
}

impl<'a> Watching<'a> {
    fn new(slots: &'a Slots, id: KeyId) -> Self {
        let woken = slots.watchers.watch(id);
        Self { slots, id, woken }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.slots.watchers.leave(self.id, &self.woken);
    }
}
