//! The way to the cold path: past the limit on failed authentications of a client address.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Shared;
use super::attempt::Attempt;
use super::denial::{Denial, DenialReason};
use super::grant::Admitted;
use crate::credential::Credential;
use crate::limiter::{Begun, Failures, Place};
use crate::sync::within;

impl Shared {
    /// Decides on a request that the warm path cannot decide on.
    ///
    /// Unless the secret was proven here before, the request first takes a place among those of its address that may
    /// still fail: before the store is read, and before anything is hashed that is not in memory.
    pub(super) async fn cold(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Admitted, Denial> {
        let tagged = self.cache.slots.map.find(
            credential.id,
            || self.tag(credential),
            |tag, slot| {
                let proof = slot.entry.as_ref().and_then(|entry| entry.proof);
                (tag, proof.is_some_and(|proof| proof.tag.matches(&tag)))
            },
        );
        let is_proven = tagged.is_some_and(|(_, is_proven)| is_proven);
        let failures = self.limiting.failures.as_ref().filter(|_| !is_proven);
        let client = attempt.client.filter(|_| !attempt.is_by_unlisted_proxy);
        let decide = async {
            let tag = tagged.map_or_else(|| self.tag(credential), |(tag, _)| tag);
            let decided = self.prover.decide(credential, attempt, tag).await;
            decided.inspect_err(|denial| self.note(denial))
        };
        let (Some(failures), Some(client)) = (failures, client) else {
            let decided = decide.await;
            if failures.is_some() && attempt.is_by_unlisted_proxy && has_failed(&decided) {
                self.counters
                    .add_one(|counters| &counters.failures_not_limited);
            }
            return decided;
        };
        let place = match self.begin(failures, client, credential, attempt).await {
            Ok(place) => place,
            Err(decided) => return decided,
        };
        let decided = decide.await;
        if has_failed(&decided) {
            place.fail(self.cache.slots.lease.now().unwrap_or(0));
        }
        decided
    }

    /// Takes a place among the authentications of this address that may still fail, as soon as there is one.
    ///
    /// # Errors
    /// The decision, if it is made before.
    async fn begin<'a>(
        &self,
        failures: &'a Failures,
        client: IpAddr,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Place<'a>, Result<Admitted, Denial>> {
        let lease = &self.cache.slots.lease;
        let denied = |reason| {
            let denial = Denial::naming(credential.id, reason);
            self.note(&denial);
            Err(denial)
        };
        let refused = |retry_after| denied(DenialReason::TooManyFailures { retry_after });
        let mut since = None;
        let mut waiting: Option<Arc<Notify>> = None;
        loop {
            let waits_for = waiting.take();
            // Before the look at the counters: from here on, no end of another request is missed.
            let notified = waits_for.as_deref().map(Notify::notified);
            let now = match lease.now() {
                Ok(now) => now,
                Err(error) => {
                    wake_next(waits_for.as_deref());
                    return Err(denied(DenialReason::Clock(error)));
                }
            };
            let begun = failures.begin(client, now);
            let (busy, is_same) = match begun {
                Begun::Yes(place) => return Ok(place),
                Begun::No(retry_after) => {
                    wake_next(waits_for.as_deref());
                    return Err(refused(retry_after));
                }
                Begun::Later(busy) => {
                    let is_same = waits_for.as_ref().is_some_and(|of| Arc::ptr_eq(of, &busy));
                    (busy, is_same)
                }
            };
            if let Some(notified) = notified.filter(|_| is_same) {
                let waited = now.saturating_sub(*since.get_or_insert(now));
                let is_woken = within(lease.patience(), notified).await.is_some();
                if !is_woken || u128::from(waited) > lease.patience().as_nanos() {
                    wake_next(waits_for.as_deref());
                    return Err(denied(DenialReason::StaleCache));
                }
                // The request that was waited for may have proven this very key.
                if let Some(decided) = self.warm(credential, attempt) {
                    wake_next(waits_for.as_deref());
                    return Err(decided);
                }
            } else {
                wake_next(waits_for.as_deref());
            }
            waiting = Some(busy);
        }
    }
}

/// Passes on that there may be room: it is for one request, which has not used it.
fn wake_next(waiting: Option<&Notify>) {
    if let Some(waiting) = waiting {
        waiting.notify_one();
    }
}

/// Returns whether an authentication has failed: at a cost, and not for another reason than the credential.
fn has_failed(decided: &Result<Admitted, Denial>) -> bool {
    let reason = decided.as_ref().err().map(Denial::reason);
    matches!(
        reason,
        Some(DenialReason::UnknownKey | DenialReason::WrongSecret)
    )
}
