//! The limit on texts that an actor presents and that turn out to be no key of its tenants.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Actor, ManageError, Tenants};
use crate::clock::SteadyClock;
use crate::key::{Principal, TenantId};

/// Recent misses, counted for each principal of each tenant on the steady clock.
///
/// Every miss is kept with its instant, so no interval of the window's length holds more than the limit. Memory is
/// bounded: a tenant has a log of its own for its first principals and one shared by all others, so invented names
/// exhaust only the allowance of the tenant that invents them. If too many tenants miss at once, the least recently
/// counted one is forgotten: it is never refused because of others.
pub(crate) struct Lookups {
    steady: Arc<dyn SteadyClock>,
    groups: Mutex<HashMap<Tenants, Group>>,
}

/// The logs of actors that act for the same tenants.
#[derive(Default)]
struct Group {
    latest: Duration,
    /// `None`: the log that principals without a log of their own share.
    logs: HashMap<Option<Principal>, VecDeque<Duration>>,
}

impl Lookups {
    /// Most misses in any interval of the window's length.
    const LIMIT: usize = 100;
    const WINDOW: Duration = Duration::from_mins(1);
    /// Most principals of a tenant that have a log of their own.
    const MAX_PRINCIPALS: usize = 16;
    const MAX_GROUPS: usize = 1_000;

    pub(crate) fn new(steady: Arc<dyn SteadyClock>) -> Self {
        Self {
            steady,
            groups: Mutex::default(),
        }
    }

    /// Begins a look-up in whatever tenants the actor acts for.
    ///
    /// # Errors
    /// [`ManageError::TooManyLookups`] at the limit, [`ManageError::Clock`].
    pub(super) fn begin(&self, actor: &Actor) -> Result<Lookup<'_>, ManageError> {
        self.count(actor.tenants().clone(), actor.principal())
    }

    /// Begins a look-up on behalf of one tenant. Errors as [`begin`](Self::begin).
    pub(super) fn begin_for(
        &self,
        tenant: &TenantId,
        actor: &Actor,
    ) -> Result<Lookup<'_>, ManageError> {
        self.count(Tenants::from(tenant.clone()), actor.principal())
    }

    /// Counts a miss from the start, so that simultaneous look-ups cannot exceed the limit.
    fn count(&self, tenants: Tenants, principal: &Principal) -> Result<Lookup<'_>, ManageError> {
        let mut groups = self.groups();
        let now = self.steady.elapsed().map_err(|_| ManageError::Clock)?;
        if !groups.contains_key(&tenants) && groups.len() >= Self::MAX_GROUPS {
            let oldest = groups.iter().min_by_key(|(_, group)| group.latest);
            if let Some(oldest) = oldest.map(|(tenants, _)| tenants.clone()) {
                groups.remove(&oldest);
            }
        }
        let group = groups.entry(tenants.clone()).or_default();
        group.latest = now;
        group.logs.retain(|_, log| {
            log.retain(|at| now.saturating_sub(*at) < Self::WINDOW);
            !log.is_empty()
        });
        let mut name = Some(principal.clone());
        if !group.logs.contains_key(&name) && group.logs.len() >= Self::MAX_PRINCIPALS {
            name = None;
        }
        let log = group.logs.entry(name.clone()).or_default();
        if log.len() >= Self::LIMIT {
            return Err(ManageError::TooManyLookups);
        }
        log.push_back(now);
        Ok(Lookup {
            of: self,
            tenants,
            name,
            at: now,
            is_miss: false,
        })
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Tenants, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows no names of tenants or principals.
impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookups({} groups)", self.groups().len())
    }
}

/// A look-up in progress. Dropped without a miss, it is not counted: it succeeded, failed or was cancelled.
pub(super) struct Lookup<'a> {
    of: &'a Lookups,
    tenants: Tenants,
    name: Option<Principal>,
    at: Duration,
    is_miss: bool,
}

impl Lookup<'_> {
    /// Keeps the look-up counted.
    pub(super) fn missed(mut self) {
        self.is_miss = true;
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        if self.is_miss {
            return;
        }
        let mut groups = self.of.groups();
        let group = groups.get_mut(&self.tenants);
        let Some(log) = group.and_then(|group| group.logs.get_mut(&self.name)) else {
            return;
        };
        if let Some(index) = log.iter().position(|at| *at == self.at) {
            log.remove(index);
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::manager::Ceiling;
    use crate::testkit::ManualSteadyClock;

    fn actor(name: &str, tenant: &str) -> Actor {
        let tenant = TenantId::new(tenant).unwrap();
        Actor::user(name, tenant, Ceiling::Unlimited).unwrap()
    }

    fn lookups() -> (Lookups, ManualSteadyClock) {
        let steady = ManualSteadyClock::new();
        (Lookups::new(Arc::new(steady.clone())), steady)
    }

    fn exhaust(lookups: &Lookups, actor: &Actor) -> usize {
        let begun = std::iter::from_fn(|| lookups.begin(actor).ok());
        begun.map(Lookup::missed).count()
    }

    #[test]
    fn no_interval_holds_more_than_the_limit() {
        let (lookups, steady) = lookups();
        let alice = actor("alice", "a");
        lookups.begin(&alice).unwrap().missed();
        steady.advance(Lookups::WINDOW - Duration::from_millis(100));
        assert_eq!(exhaust(&lookups, &alice), 99);
        steady.advance(Duration::from_millis(100));
        assert_eq!(exhaust(&lookups, &alice), 1);
    }

    #[test]
    fn tenants_do_not_share_a_limit() {
        let (lookups, _) = lookups();
        assert_eq!(exhaust(&lookups, &actor("admin", "a")), 100);
        assert_eq!(exhaust(&lookups, &actor("admin", "b")), 100);
        assert_eq!(exhaust(&lookups, &Actor::system("admin")), 100);
    }

    #[test]
    fn invented_names_hurt_only_their_tenant() {
        let (lookups, _) = lookups();
        let mut missed = 0;
        for n in 0..10_000 {
            missed += exhaust(&lookups, &actor(&format!("name-{n}"), "a"));
        }
        assert_eq!(missed, (Lookups::MAX_PRINCIPALS + 1) * Lookups::LIMIT);
        assert_eq!(exhaust(&lookups, &actor("admin", "b")), 100);
    }

    #[test]
    fn many_tenants_lock_out_nobody() {
        let (lookups, _) = lookups();
        for n in 0..Lookups::MAX_GROUPS + 1 {
            lookups
                .begin(&actor("admin", &n.to_string()))
                .unwrap()
                .missed();
        }
        assert_eq!(lookups.groups().len(), Lookups::MAX_GROUPS);
        assert_eq!(exhaust(&lookups, &actor("admin", "new")), 100);
    }

    #[test]
    fn a_stale_drop_takes_back_no_later_miss() {
        let (lookups, steady) = lookups();
        let alice = actor("alice", "a");
        let old: Vec<_> = (0..50).map(|_| lookups.begin(&alice).unwrap()).collect();
        steady.advance(Lookups::WINDOW);
        assert_eq!(exhaust(&lookups, &alice), 100);
        drop(old);
        assert!(lookups.begin(&alice).is_err());
    }
}
