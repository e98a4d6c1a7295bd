//! Whether a key that was granted something is still good.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::compiled::Wall;
use super::reads::{Pin, within};
use super::slot::Slot;
use super::slots::Slots;
use super::{Core, DenialReason};
use crate::key::KeyId;

/// How long is waited at most before the next look: wall clocks can be set.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The shortest wait: the timer's resolution, so that the watcher is not woken over and over just before the end.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// The wait before another look where the last one brought nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest time that a look may take which starts when the lease is over.
const MOST_GRACE: Duration = Duration::from_secs(1);

/// How often what was read may turn out to be old.
const TRIES: u32 = 4;

impl Core {
    /// Whether the key is good, as far as its slot can say.
    pub(super) fn is_good(&self, id: KeyId) -> Option<bool> {
        let wall = Wall::read(&*self.parts.clock).ok()?;
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

    /// Whether the key is good, as the store has it now.
    pub(super) async fn is_still_good(&self, id: KeyId) -> Result<bool, DenialReason> {
        let looked = self.look_again(&self.pin(id, None)).await?;
        Ok(looked.is_some())
    }

    /// Resolves when the key is no longer good, or when the lease of the last successful look has ended.
    ///
    /// A look that reads the store starts when half of the lease is left, so that a store which answers is never too
    /// late, and one which does not answer never extends the lease.
    pub(super) async fn last(&self, id: KeyId) {
        let watching = Watching::new(&self.slots, id);
        let grace = MOST_GRACE.min(self.patience / 4);
        let mut known_until = self.known_until(id);
        let mut has_failed = false;
        loop {
            // Listening before the look, so that no change falls between the two.
            let mut changed = pin!(watching.woken.notified());
            changed.as_mut().enable();
            let Ok(now) = self.slots.now() else {
                return;
            };
            let left = Duration::from_nanos(known_until.saturating_sub(now));
            if has_failed && left.is_zero() {
                return;
            }
            // The lease may be over before this look starts, if the handler was slow or the process was not running.
            let limit = if has_failed { left } else { left.max(grace) };
            let mut pin = self.pin(id, None);
            pin.ahead = self.slots.lease.bound() / 2;
            let looked = within(limit, self.look_again(&pin)).await;
            drop(pin);
            let Ok(now) = self.slots.now() else {
                return;
            };
            has_failed = !matches!(looked, Some(Ok(_)));
            let most = match looked {
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
            // Either outcome only says when to look again.
            let _ = tokio::time::timeout(most.max(LEAST_WAIT), changed).await;
        }
    }

    /// When the lease of the key's cache entry ends, in nanoseconds of the monotonic clock. Zero if there is no entry
    /// that may decide.
    fn known_until(&self, id: KeyId) -> u64 {
        let end = |(), slot: &mut Slot| {
            let entry = slot.admitted()?;
            Some(self.slots.lease.end(entry.stamp))
        };
        let found = self.slots.find(id, || (), end);
        found.flatten().unwrap_or(0)
    }

    /// Looks at the key once more. `None` if it is not good.
    async fn look_again(&self, pin: &Pin<'_>) -> Result<Option<Good>, DenialReason> {
        let id = pin.id;
        for tries in 0..TRIES {
            let look = self.fetch(pin, tries > 0).await?;
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let may_decide = self.slots.with(id, |slot| {
                self.may_decide(slot, &look, pin.since, pin.since, now)
            });
            if !may_decide {
                continue;
            }
            let wall = Wall::read(&*self.parts.clock)?;
            if !look.compiled.is_good(&wall, &self.parts.passed)? {
                return Ok(None);
            }
            let left = match look.compiled.ends {
                i64::MAX => i64::MAX,
                end => end.saturating_sub(wall.exact()?),
            };
            let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
            let own = look.stamp.began.saturating_add(patience);
            return Ok(Some(Good {
                expires_in: Duration::from_micros(u64::try_from(left).unwrap_or(0)),
                known_until: own.max(self.slots.lease.end(look.stamp)),
            }));
        }
        Err(DenialReason::StaleCache)
    }
}

/// A look that found the key good.
struct Good {
    expires_in: Duration,
    /// When the lease of this look ends, in nanoseconds of the monotonic clock.
    known_until: u64,
}

/// Somebody who waits for a key to change.
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
