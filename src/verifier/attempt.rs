//! One request to be decided.

use std::net::IpAddr;

use super::requirement::Requirement;
use crate::key::{Environment, PresentedKey, TenantId};

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
    pub(crate) tenant: Option<&'a TenantId>,
    pub(crate) environment: Option<&'a Environment>,
    resources: [Option<(&'a str, &'a str)>; Attempt::MAX_RESOURCES],
    /// Whether the request names more than [`MAX_RESOURCES`](Self::MAX_RESOURCES) resources.
    pub(super) has_too_many: bool,
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
            tenant: None,
            environment: None,
            resources: [None; Self::MAX_RESOURCES],
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

    /// Sets the address that the request came from.
    ///
    /// Without it, a key with a network rule is refused.
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

    /// Returns the resources that the request names, as kind and value.
    pub(crate) fn named_resources(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.resources.iter().flatten().copied()
    }
}
