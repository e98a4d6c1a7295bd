//! One request to be decided.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::checks::KeyUse;
use super::requirement::Requirement;
use crate::key::{Environment, PresentedKey, TenantId};
use crate::limiter::Charge;

/// One request to be decided: its credential, the route's requirement, the client address and the named resources.
///
/// ```
/// use keyward::{key::PresentedKey, scope, verifier::{Attempt, Requirement}};
///
/// let need = Requirement::scope(scope!("read:blueprints")).resource("project");
/// let attempt = Attempt::new(PresentedKey::text("acme_live_…"), &need)
///     .client("203.0.113.7".parse()?)
///     .resource("project", "p-17");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub(crate) presented: PresentedKey<'a>,
    pub(crate) requirement: &'a Requirement,
    pub(crate) client: Option<IpAddr>,
    /// Whether the address is probably that of a proxy which is not configured, and stands for many clients.
    pub(super) is_by_unlisted_proxy: bool,
    pub(crate) tenant: Option<&'a TenantId>,
    pub(crate) environment: Option<&'a Environment>,
    resources: [Option<(&'a str, &'a str)>; Attempt::MAX_RESOURCES],
    cost: Option<NonZeroU32>,
    pub(super) is_estimate: bool,
    counted: Counted,
    /// Whether the request names more than [`MAX_RESOURCES`](Self::MAX_RESOURCES) resources.
    pub(super) has_too_many: bool,
}

/// How much of a request is counted when it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Whole,
    /// Its place among the concurrent requests. Its cost is counted later.
    Place,
    Nothing,
}

impl<'a> Attempt<'a> {
    /// Maximum number of resources that one request can name. A request with more is refused.
    pub(crate) const MAX_RESOURCES: usize = 4;

    /// Creates an attempt with this credential on a route with this requirement.
    #[must_use]
    pub fn new(presented: PresentedKey<'a>, requirement: &'a Requirement) -> Self {
        Self {
            presented,
            requirement,
            client: None,
            is_by_unlisted_proxy: false,
            tenant: None,
            environment: None,
            resources: [None; Self::MAX_RESOURCES],
            cost: None,
            is_estimate: requirement.is_estimate(),
            counted: Counted::Whole,
            has_too_many: false,
        }
    }

    /// Creates an attempt on a route with this requirement; an [`Edge`](crate::http::Edge) reads the credential later.
    #[must_use]
    pub fn of(requirement: &'a Requirement) -> Self {
        Self::new(PresentedKey::none(), requirement)
    }

    /// Sets the credential and the client address.
    #[inline]
    pub(crate) fn present(&mut self, presented: PresentedKey<'a>, client: Option<IpAddr>) {
        self.presented = presented;
        self.client = client;
    }

    /// Records whether the address is probably that of a proxy which is not configured.
    pub(crate) fn by_unlisted_proxy(&mut self, is_by_unlisted_proxy: bool) {
        self.is_by_unlisted_proxy = is_by_unlisted_proxy;
    }

    /// Sets the address that the request came from.
    ///
    /// Without it, a key with a network rule is refused. Authentications that
    /// [fail](crate::limiter::RateLimiting::failed_authentications) are counted by it: it must be the client's own
    /// address, not that of a proxy in between.
    #[must_use]
    pub fn client(mut self, address: IpAddr) -> Self {
        self.client = Some(address);
        self
    }

    /// Sets the tenant that the request addresses, if the host application knows it, as from a subdomain or a path.
    ///
    /// A key of any other tenant is refused like a wrong one.
    #[must_use]
    pub fn tenant(mut self, tenant: &'a TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Sets the environment that the request addresses, if the host application serves several.
    ///
    /// A key of any other environment is refused like a wrong one.
    #[must_use]
    pub fn environment(mut self, environment: &'a Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Adds a resource that the request names, such as by a value in its path.
    ///
    /// The key must be permitted each named resource. A request that names more than four is refused.
    #[must_use]
    pub fn resource(mut self, kind: &'a str, value: &'a str) -> Self {
        match self.resources.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some((kind, value)),
            None => self.has_too_many = true,
        }
        self
    }

    /// Sets what the request takes of each quota, in place of the requirement's [cost](Requirement::cost), for
    /// middleware of your own.
    #[must_use]
    pub fn cost(mut self, cost: NonZeroU32) -> Self {
        (self.cost, self.is_estimate) = (Some(cost), false);
        self
    }

    /// Sets what the request takes of each quota until the true cost is known, as
    /// [`Requirement::estimate`] does.
    ///
    /// [`Permit::settle`](super::Permit::settle) and [`Grant::settle`](super::Grant::settle) correct it.
    #[must_use]
    pub fn estimate(mut self, cost: NonZeroU32) -> Self {
        (self.cost, self.is_estimate) = (Some(cost), true);
        self
    }

    /// Takes nothing of the quotas yet, only a place among the key's concurrent requests.
    ///
    /// Once it is known that the request will be served, as after a look-up,
    /// [`Verifier::count`](super::Verifier::count) takes its cost. The key's [usage](crate::store::Usage) records the
    /// request then too, and not at all if you refuse it before.
    #[must_use]
    pub fn count_later(mut self) -> Self {
        self.counted = Counted::Place;
        self
    }

    /// Takes nothing of any limit: the request will be refused even if its key is good.
    pub(crate) fn count_nothing(mut self) -> Self {
        self.counted = Counted::Nothing;
        self
    }

    /// Returns the cost that the request takes of a quota.
    pub(crate) fn cost_of_quotas(&self) -> NonZeroU32 {
        self.cost.unwrap_or(self.requirement.cost_of_quotas())
    }

    /// Returns the charge that the request takes when it is admitted.
    pub(super) fn charge(&self) -> Charge {
        match self.counted {
            Counted::Whole => Charge::new(self.cost_of_quotas().get(), true),
            Counted::Place => Charge::new(0, true),
            Counted::Nothing => Charge::new(0, false),
        }
    }

    /// Returns how the request uses the key if it is admitted. `None` if that is decided later.
    #[inline(always)]
    pub(super) fn use_if_admitted(&self) -> Option<KeyUse> {
        match self.counted {
            Counted::Whole => Some(KeyUse::Granted),
            Counted::Place => None,
            Counted::Nothing => Some(KeyUse::Refused),
        }
    }

    /// Returns the resources that the request names, as kind and value.
    pub(crate) fn named_resources(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.resources.iter().flatten().copied()
    }
}
