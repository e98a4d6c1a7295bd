//! Whether a key that was granted something is still good.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::compiled::Wall;
use super::slots::Slots;
use super::{Core, DenialReason};
use crate::key::KeyId;

/// How long is waited at most before the next look: wall clocks can be set.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The wait before another look where the last one brought nothing.
const PAUSE: Duration = Duration::from_millis(200);

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
                let seen_end = slot.seen_end.unwrap_or_else(|| self.slots.seen.latest(id));
                let entry = self.usable(slot, now)?;
                let is_good = entry.compiled.is_good(&wall, seen_end).ok()?;
                let end = entry.compiled.end_reached(&wall).unwrap_or(i64::MIN);
                slot.seen_end = Some(seen_end.max(end));
                Some(is_good)
            },
        );
        is_good.flatten()
    }

    /// Whether the key is good, as the store has it now.
    pub(super) async fn is_still_good(&self, id: KeyId) -> Result<bool, DenialReason> {
        let left = self.look_again(id).await?;
        Ok(left.is_some())
    }

    /// Ends when the key is not good any more, or when that cannot be told for longer than the lease.
    pub(super) async fn last(&self, id: KeyId) {
        let watching = Watching::new(&self.slots, id);
        let mut silent_since = None;
        loop {
            // Listening before the look, so that no change falls between the two.
            let mut changed = pin!(watching.woken.notified());
            changed.as_mut().enable();
            let wait = match self.look_again(id).await {
                Ok(Some(wait)) => {
                    silent_since = None;
                    wait
                }
                Ok(None) => return,
                Err(_) => {
                    let Ok(now) = self.slots.now() else {
                        return;
                    };
                    let since = *silent_since.get_or_insert(now);
                    let silence = Duration::from_nanos(now.saturating_sub(since));
                    if silence >= self.patience {
                        return;
                    }
                    PAUSE.min(self.patience)
                }
            };
            // Either outcome only says when to look again.
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }

    /// How long the key is good for without another look; none if it is not good.
    async fn look_again(&self, id: KeyId) -> Result<Option<Duration>, DenialReason> {
        let pin = self.pin(id, None);
        for tries in 0..TRIES {
            let look = self.fetch(&pin, tries > 0).await?;
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let may_decide = self
                .slots
                .with(id, |slot| self.may_decide(slot, &look, pin.since, now));
            if !may_decide {
                continue;
            }
            let wall = Wall::read(&*self.parts.clock)?;
            let seen_end = self.slots.seen_end(id);
            if let Some(end) = look.compiled.end_reached(&wall) {
                self.slots.saw_end(id, end);
            }
            if !look.compiled.is_good(&wall, seen_end)? {
                return Ok(None);
            }
            let left = look.compiled.ends.saturating_sub(wall.coarse());
            let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
            // A coarse clock lags behind: not to be woken over and over before the end.
            let least = Duration::from_millis(1);
            return Ok(Some(left.min(self.patience).min(MOST_WAIT).max(least)));
        }
        Err(DenialReason::TooOld)
    }
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
