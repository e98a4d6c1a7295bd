//! The limit on texts that an actor presents and that are no key of its tenants.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Actor, ManageError, Tenants};
use crate::clock::MonotonicClock;
use crate::key::Principal;

/// Recent misses, counted for each principal of each tenant on the monotonic clock.
///
/// Each miss is kept with its instant, and a look-up in progress holds a place, so no interval of the window's length
/// contains more misses than the limit. Memory is bounded: the first principals of a tenant have a log each, and all
/// others share one, so invented names use up only the allowance of the tenant that invents them. If more than
/// [`MAX_GROUPS`](Self::MAX_GROUPS) tenants miss within one window, the counts of the least recent one are dropped:
/// one tenant must not cause another to be refused.
pub(crate) struct Lookups {
    monotonic: Arc<dyn MonotonicClock>,
    groups: Mutex<HashMap<Tenants, Group>>,
}

/// The logs of actors that act for the same tenants.
#[derive(Default)]
struct Group {
    latest: Duration,
    /// `None`: the log that principals without a log of their own share.
    logs: HashMap<Option<Principal>, Arc<Log>>,
}

#[derive(Default)]
struct Log {
    entries: Mutex<Entries>,
    /// INVARIANT: notified when a look-up ends, and by a waiter that leaves without beginning one.
    ended: Notify,
}

#[derive(Default)]
struct Entries {
    misses: VecDeque<Duration>,
    in_progress: usize,
}

impl Lookups {
    /// Most misses in any interval of the window's length.
    const LIMIT: usize = 100;
    const WINDOW: Duration = Duration::from_secs(60);
    /// Most principals of a tenant that have a log of their own.
    const MAX_PRINCIPALS: usize = 16;
    const MAX_GROUPS: usize = 1_000;

    pub(crate) fn new(monotonic: Arc<dyn MonotonicClock>) -> Self {
        Self {
            monotonic,
            groups: Mutex::default(),
        }
    }

    /// Begins a look-up. Waits while look-ups in progress could reach the limit.
    ///
    /// # Errors
    /// [`ManageError::TooManyLookups`] at the limit, [`ManageError::Clock`].
    pub(super) async fn begin(&self, actor: &Actor) -> Result<Lookup<'_>, ManageError> {
        let log = self.log(actor, self.now()?);
        let begun = loop {
            let ended = log.ended.notified();
            let Ok(now) = self.now() else {
                log.ended.notify_one();
                return Err(ManageError::Clock);
            };
            {
                let mut entries = log.entries();
                entries.forget_before(now);
                if entries.misses.len() >= Self::LIMIT {
                    return Err(ManageError::TooManyLookups);
                }
                if entries.misses.len() + entries.in_progress < Self::LIMIT {
                    entries.in_progress += 1;
                    break now;
                }
            }
            ended.await;
        };
        Ok(Lookup {
            of: self,
            log,
            begun,
            is_miss: false,
        })
    }

    fn now(&self) -> Result<Duration, ManageError> {
        self.monotonic.elapsed().map_err(|_| ManageError::Clock)
    }

    fn log(&self, actor: &Actor, now: Duration) -> Arc<Log> {
        let (tenants, principal) = (actor.tenants(), actor.principal());
        let mut groups = self.groups();
        if !groups.contains_key(tenants) && groups.len() >= Self::MAX_GROUPS {
            groups.retain(|_, group| group.is_needed(now));
            if groups.len() >= Self::MAX_GROUPS {
                let oldest = groups.iter().min_by_key(|(_, group)| group.latest);
                if let Some(oldest) = oldest.map(|(tenants, _)| tenants.clone()) {
                    groups.remove(&oldest);
                }
            }
        }
        let group = groups.entry(tenants.clone()).or_default();
        group.is_needed(now);
        group.latest = now;
        let mut name = Some(principal.clone());
        if !group.logs.contains_key(&name) && group.logs.len() >= Self::MAX_PRINCIPALS {
            name = None;
        }
        Arc::clone(group.logs.entry(name).or_default())
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Tenants, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Omits the names of tenants and principals.
impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookups({} groups)", self.groups().len())
    }
}

impl Group {
    /// Drops the logs that no longer limit anything. `false` if no log is left.
    fn is_needed(&mut self, now: Duration) -> bool {
        self.logs.retain(|_, log| {
            // A caller that begins or waits holds the log too.
            let is_in_use = Arc::strong_count(log) > 1;
            let mut entries = log.entries();
            entries.forget_before(now);
            is_in_use || !entries.misses.is_empty()
        });
        !self.logs.is_empty()
    }
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn forget_before(&mut self, now: Duration) {
        self.misses
            .retain(|at| now.saturating_sub(*at) < Lookups::WINDOW);
    }
}

/// A look-up in progress. If it is dropped without a miss, because it succeeded, failed or was cancelled, it does not
/// count.
pub(super) struct Lookup<'a> {
    of: &'a Lookups,
    log: Arc<Log>,
    begun: Duration,
    is_miss: bool,
}

impl Lookup<'_> {
    /// Counts the look-up as a miss, from now.
    pub(super) fn missed(mut self) {
        self.is_miss = true;
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut entries = self.log.entries();
        entries.in_progress = entries.in_progress.saturating_sub(1);
        if self.is_miss {
            let now = self.of.monotonic.elapsed();
            entries.misses.push_back(now.unwrap_or(self.begun));
        }
        if entries.misses.len() >= Lookups::LIMIT {
            self.log.ended.notify_waiters();
        } else {
            self.log.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::TenantId;
    use crate::manager::Ceiling;
    use crate::testkit::ManualMonotonicClock;

    fn actor(name: &str, tenant: &str) -> Actor {
        let tenant = TenantId::new(tenant).unwrap();
        Actor::user(name, tenant, Ceiling::Unlimited).unwrap()
    }

    fn lookups() -> (Lookups, ManualMonotonicClock) {
        let monotonic = ManualMonotonicClock::new();
        (Lookups::new(Arc::new(monotonic.clone())), monotonic)
    }

    async fn begin_many<'a>(lookups: &'a Lookups, actor: &Actor, count: usize) -> Vec<Lookup<'a>> {
        let mut begun = Vec::new();
        for _ in 0..count {
            begun.push(lookups.begin(actor).await.unwrap());
        }
        begun
    }

    async fn exhaust(lookups: &Lookups, actor: &Actor) -> usize {
        let mut missed = 0;
        while let Ok(lookup) = lookups.begin(actor).await {
            lookup.missed();
            missed += 1;
        }
        missed
    }

    #[tokio::test]
    async fn no_window_exceeds_the_limit() {
        let (lookups, monotonic) = lookups();
        let alice = actor("alice", "a");
        lookups.begin(&alice).await.unwrap().missed();
        monotonic.advance(Lookups::WINDOW - Duration::from_millis(100));
        assert_eq!(exhaust(&lookups, &alice).await, 99);
        monotonic.advance(Duration::from_millis(100));
        assert_eq!(exhaust(&lookups, &alice).await, 1);
    }

    #[tokio::test]
    async fn a_slow_lookup_counts_when_answered() {
        let (lookups, monotonic) = lookups();
        let alice = actor("alice", "a");
        let slow = begin_many(&lookups, &alice, 60).await;
        monotonic.advance(Lookups::WINDOW);
        let more = begin_many(&lookups, &alice, 40).await;
        slow.into_iter().chain(more).for_each(Lookup::missed);
        assert_eq!(exhaust(&lookups, &alice).await, 0);
    }

    #[tokio::test]
    async fn a_dropped_lookup_frees_its_place() {
        let (lookups, _) = lookups();
        let alice = actor("alice", "a");
        drop(begin_many(&lookups, &alice, 100).await);
        assert_eq!(exhaust(&lookups, &alice).await, 100);
    }

    #[tokio::test]
    async fn lookups_wait_for_those_in_progress() {
        for misses in [0, 1, 100] {
            let lookups = Arc::new(lookups().0);
            let alice = actor("alice", "a");
            let begun = begin_many(&lookups, &alice, 100).await;
            let mut waiting = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let (lookups, alice) = (Arc::clone(&lookups), alice.clone());
                waiting.spawn(async move { lookups.begin(&alice).await.map(drop).is_ok() });
            }
            tokio::task::yield_now().await;
            for (n, lookup) in begun.into_iter().enumerate() {
                if n < misses {
                    lookup.missed();
                }
            }
            let began = waiting.join_all().await;
            let expected = if misses < 100 { 50 } else { 0 };
            assert_eq!(began.into_iter().filter(|is_ok| *is_ok).count(), expected);
        }
    }

    #[tokio::test]
    async fn tenants_do_not_share_a_limit() {
        let (lookups, _) = lookups();
        assert_eq!(exhaust(&lookups, &actor("admin", "a")).await, 100);
        assert_eq!(exhaust(&lookups, &actor("admin", "b")).await, 100);
        assert_eq!(exhaust(&lookups, &Actor::system("admin")).await, 100);
    }

    #[tokio::test]
    async fn invented_names_hurt_one_tenant() {
        let (lookups, _) = lookups();
        let mut missed = 0;
        for n in 0..10_000 {
            missed += exhaust(&lookups, &actor(&format!("name-{n}"), "a")).await;
        }
        assert_eq!(missed, (Lookups::MAX_PRINCIPALS + 1) * Lookups::LIMIT);
        assert_eq!(exhaust(&lookups, &actor("admin", "b")).await, 100);
    }

    #[tokio::test]
    async fn many_tenants_lock_out_no_other() {
        let (lookups, monotonic) = lookups();
        let admin = |n: usize| actor("admin", &n.to_string());
        for n in 0..=Lookups::MAX_GROUPS {
            lookups.begin(&admin(n)).await.unwrap().missed();
        }
        assert_eq!(lookups.groups().len(), Lookups::MAX_GROUPS);
        assert_eq!(exhaust(&lookups, &actor("admin", "new")).await, 100);
        // Expired counts go before any that still limit.
        monotonic.advance(Lookups::WINDOW);
        lookups.begin(&admin(0)).await.unwrap().missed();
        lookups
            .begin(&actor("admin", "newer"))
            .await
            .unwrap()
            .missed();
        assert_eq!(lookups.groups().len(), 2);
    }

    #[tokio::test]
    async fn a_failing_clock_begins_nothing() {
        let (lookups, monotonic) = lookups();
        let alice = actor("alice", "a");
        monotonic.fail();
        assert!(matches!(
            lookups.begin(&alice).await,
            Err(ManageError::Clock)
        ));
    }
}
