//! Two nodes over one store.

use std::sync::Arc;
use std::time::Duration;

use keyward::Keyward;
use keyward::clock::MonotonicClock;
use keyward::key::{ApiKey, RevokeReason};
use keyward::testkit::{ManualClock, ManualMonotonicClock};
use keyward::verifier::{Admitted, Attempt, Denial, DenialReason, KeyCache, Requirement};
use tokio::task::JoinHandle;

use super::gate::{Gate, Tell};
use crate::common::{actor, builder, clock, new_key, tenant};
use crate::store::opened_again;

pub(super) const BOUND: Duration = Duration::from_secs(5);
pub(super) const INSTANT: Duration = Duration::from_nanos(1);

/// A node that is looked at, and another one over the same store that revokes.
pub(super) struct Nodes {
    pub(super) here: Keyward,
    pub(super) there: Keyward,
    pub(super) store: Gate,
    pub(super) monotonic: ManualMonotonicClock,
    pub(super) clock: ManualClock,
    background: Option<JoinHandle<()>>,
}

impl Nodes {
    pub(super) async fn new() -> Self {
        let monotonic = ManualMonotonicClock::new();
        Self::measuring(monotonic.clone(), monotonic, KeyCache::new().lease(BOUND)).await
    }

    pub(super) async fn cached(cache: KeyCache) -> Self {
        let monotonic = ManualMonotonicClock::new();
        Self::measuring(monotonic.clone(), monotonic, cache).await
    }

    /// The node measures with a clock of its own making.
    pub(super) async fn measuring(
        monotonic: ManualMonotonicClock,
        with: impl MonotonicClock,
        cache: KeyCache,
    ) -> Self {
        let (store, clock) = (Gate::new(), clock());
        let here = builder(store.clone(), clock.clone());
        let here = here.monotonic_clock(with).cache(cache).open();
        let there = builder(opened_again(&store.store), clock.clone()).open();
        Self {
            here: here.await.unwrap(),
            there: there.await.unwrap(),
            store,
            monotonic,
            clock,
            background: None,
        }
    }

    /// The same, with news: a first round that began now.
    pub(super) async fn following() -> Self {
        let mut nodes = Self::new().await;
        nodes.background = Some(tokio::spawn(nodes.here.background()));
        nodes.store.tell(Tell::All).await;
        assert!(nodes.here.verifier().stats().feed_is_current);
        nodes
    }

    pub(super) async fn issue(&self) -> Arc<ApiKey> {
        let issued = self.there.manager().issue(&actor(), new_key()).await;
        Arc::new(issued.unwrap().into_parts().0)
    }

    pub(super) async fn revoke(&self, key: &ApiKey) {
        let (manager, reason) = (self.there.manager(), RevokeReason::Leaked);
        let revoked = manager.revoke(&actor(), &tenant(), key.id(), reason).await;
        revoked.unwrap();
    }

    pub(super) async fn verify(&self, key: &ApiKey) -> Result<Admitted, Denial> {
        verify(&self.here, key).await
    }

    /// Verifies it, up to where the store has read it and not answered yet.
    pub(super) async fn begin_to_verify(
        &self,
        key: &Arc<ApiKey>,
    ) -> JoinHandle<Result<Admitted, Denial>> {
        self.store.hold_answers();
        let (here, key) = (self.here.clone(), Arc::clone(key));
        let waiting = tokio::spawn(async move { verify(&here, &key).await });
        self.store.is_holding(1).await;
        waiting
    }

    pub(super) async fn is_granted(&self, key: &ApiKey) -> bool {
        self.verify(key).await.is_ok()
    }

    /// That it is refused, as one that was revoked.
    pub(super) async fn is_revoked(&self, key: &ApiKey) -> bool {
        let denial = self.verify(key).await.unwrap_err();
        matches!(denial.reason(), DenialReason::Revoked { .. })
    }

    pub(super) fn reads(&self) -> u64 {
        self.here.verifier().stats().store_reads
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(background) = &self.background {
            background.abort();
        }
    }
}

pub(super) async fn verify(node: &Keyward, key: &ApiKey) -> Result<Admitted, Denial> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    node.verifier().verify(&attempt).await
}

/// Each key ten times at once.
pub(super) async fn all_are_granted(nodes: &Nodes, keys: &[Arc<ApiKey>]) -> bool {
    let asking = keys.iter().cycle().take(10 * keys.len()).map(|key| {
        let (here, key) = (nodes.here.clone(), Arc::clone(key));
        tokio::spawn(async move { verify(&here, &key).await.is_ok() })
    });
    let mut are_granted = true;
    for asked in asking.collect::<Vec<_>>() {
        are_granted &= asked.await.unwrap();
    }
    are_granted
}
