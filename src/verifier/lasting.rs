//! Whether a key that was granted something is still good.

use std::time::Duration;

use super::Core;
use super::compiled::Wall;
use crate::key::KeyId;

/// How long is waited at most before a look at what is known: wall clocks can be set.
const MOST_WAIT: Duration = Duration::from_secs(5);

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
                Some(entry.compiled.is_good(&wall, seen_end))
            },
        );
        is_good.flatten()
    }

    /// Waits until something may have changed; whether the key is good then.
    pub(super) async fn lasts(&self, id: KeyId) -> bool {
        let woken = self.slots.watchers.watch(id);
        let is_good = {
            // Listening before the look, so that no change falls between the two.
            let mut changed = std::pin::pin!(woken.notified());
            changed.as_mut().enable();
            let until_end = self.look_again(id).await;
            match until_end {
                None => false,
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, changed).await;
                    true
                }
            }
        };
        self.slots.watchers.leave(id, woken);
        is_good
    }

    /// How long the key is good for without another look; none if it is not good.
    async fn look_again(&self, id: KeyId) -> Option<Duration> {
        let look = self.fetch(&self.pin(id), false).await.ok()?;
        let wall = Wall::read(&*self.parts.clock).ok()?;
        if !look.compiled.is_good(&wall, self.slots.seen.latest(id)) {
            return None;
        }
        let left = look.compiled.ends.saturating_sub(wall.coarse());
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        let lease = Duration::from_nanos(self.slots.lease.bound());
        let most = if lease.is_zero() {
            MOST_WAIT
        } else {
            lease.min(MOST_WAIT)
        };
        // A coarse clock lags behind: not to be woken over and over before the end.
        Some(left.min(most).max(Duration::from_millis(1)))
    }
}
