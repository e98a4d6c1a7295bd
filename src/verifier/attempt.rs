//! One request's question.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::Requirement;
use crate::key::{Environment, PresentedKey, TenantId};

/// One request's question: this credential, for what this route needs, from this address, about these resources.
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
    pub(super) presented: PresentedKey<'a>,
    pub(crate) requirement: &'a Requirement,
    pub(super) client: Option<IpAddr>,
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) environment: Option<&'a Environment>,
    pub(super) cost: NonZeroU32,
    resources: [Option<(&'a str, &'a str)>; Attempt::MAX_RESOURCES],
    has_too_many: bool,
}

impl<'a> Attempt<'a> {
    /// Most resources that one request can name. With more it is refused.
    pub const MAX_RESOURCES: usize = 4;

    /// A request that presents this credential to a route with this requirement.
    #[must_use]
    pub fn new(presented: PresentedKey<'a>, requirement: &'a Requirement) -> Self {
        Self {
            presented,
            requirement,
            client: None,
            tenant: None,
            environment: None,
            cost: NonZeroU32::MIN,
            resources: [None; Self::MAX_RESOURCES],
            has_too_many: false,
        }
    }

    /// A request to a route with this requirement, whose credential an [`Edge`](crate::http::Edge) will read.
    #[must_use]
    pub fn of(requirement: &'a Requirement) -> Self {
        Self::new(PresentedKey::none(), requirement)
    }

    /// Presents this credential, from this address.
    #[inline]
    pub(crate) fn present(&mut self, presented: PresentedKey<'a>, client: Option<IpAddr>) {
        self.presented = presented;
        self.client = client;
    }

    /// The address that the request came from. Without it, a key with a network rule is refused.
    #[must_use]
    pub fn client(mut self, address: IpAddr) -> Self {
        self.client = Some(address);
        self
    }

    /// The tenant that the request addresses, where the host tells by a subdomain or a path. A key of any other
    /// tenant is refused like a wrong one.
    #[must_use]
    pub fn tenant(mut self, tenant: &'a TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The environment that the request addresses, where the host serves several. A key of any other is refused
    /// like a wrong one.
    #[must_use]
    pub fn environment(mut self, environment: &'a Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// A resource that the request names, such as by a value in its path. Each one named must be permitted.
    #[must_use]
    pub fn resource(mut self, kind: &'a str, value: &'a str) -> Self {
        match self.resources.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some((kind, value)),
            None => self.has_too_many = true,
        }
        self
    }

    /// What the request counts for against the key's quotas; by default 1. Quotas are not counted yet.
    #[must_use]
    pub fn cost(mut self, cost: NonZeroU32) -> Self {
        self.cost = cost;
        self
    }

    /// What the request counts for against the key's quotas.
    #[must_use]
    pub fn request_cost(&self) -> NonZeroU32 {
        self.cost
    }

    /// Whether the request names more resources than are looked at.
    pub(super) fn names_too_many(&self) -> bool {
        self.has_too_many
    }

    /// The resources that the request names: kind and value.
    pub(super) fn named_resources(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.resources.iter().flatten().copied()
    }
}
