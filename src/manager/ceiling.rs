//! The most that an actor may grant.

use std::fmt;
use std::num::NonZeroU32;

use time::OffsetDateTime;

use crate::key::{
    Access, Environment, KeyRecord, Networks, NonEmpty, Quota, Resources, ScopeCatalog,
};

/// The most that an actor may grant. Every actor names its ceiling, even [`Unlimited`](Self::Unlimited): otherwise a
/// forgotten limit would look like an intended absence of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ceiling {
    /// No limit.
    Unlimited,
    /// At most these limits, on every axis.
    Limited(Limits),
}

/// A bound on each axis of a key's power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    access: Access,
    environments: Option<NonEmpty<Environment>>,
    resources: Resources,
    networks: Networks,
    expires_by: Option<OffsetDateTime>,
    quotas: Vec<Quota>,
    concurrency: Option<NonZeroU32>,
}

/// An axis on which a key can exceed a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Axis {
    /// The key's access: full, or its scopes.
    Access,
    /// The key's environment.
    Environment,
    /// The resources that the key may touch.
    Resources,
    /// The networks from which the key may be used.
    Networks,
    /// The key's lifetime.
    Expiry,
    /// The rate at which the key may be used.
    Quotas,
    /// The number of the key's requests that may be in flight at once.
    Concurrency,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Access => "access",
            Self::Environment => "environment",
            Self::Resources => "resources",
            Self::Networks => "networks",
            Self::Expiry => "expiry",
            Self::Quotas => "quotas",
            Self::Concurrency => "concurrency",
        })
    }
}

impl Limits {
    /// Limits the access, and leaves every other axis unbounded.
    #[must_use]
    pub fn new(access: impl Into<Access>) -> Self {
        Self {
            access: access.into(),
            environments: None,
            resources: Resources::Any,
            networks: Networks::Any,
            expires_by: None,
            quotas: Vec::new(),
            concurrency: None,
        }
    }

    /// Takes a key's own power as the limits, for an actor that authenticated with that key.
    #[must_use]
    pub fn of_key(record: &KeyRecord) -> Self {
        Self {
            access: record.access().clone(),
            environments: Some(NonEmpty::one(record.environment().clone())),
            resources: record.resources().clone(),
            networks: record.networks().clone(),
            expires_by: record.expires_at(),
            quotas: record.quotas().to_vec(),
            concurrency: record.concurrency(),
        }
    }

    /// Allows only keys for these environments.
    #[must_use]
    pub fn environments(mut self, environments: impl Into<NonEmpty<Environment>>) -> Self {
        self.environments = Some(environments.into());
        self
    }

    /// Allows only keys that are restricted, in each kind listed here, to the resources listed here.
    #[must_use]
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// Allows only keys that are restricted to addresses in these networks.
    #[must_use]
    pub fn networks(mut self, networks: Networks) -> Self {
        self.networks = networks;
        self
    }

    /// Allows only keys that expire, at this instant or earlier.
    #[must_use]
    pub fn expires_by(mut self, instant: OffsetDateTime) -> Self {
        self.expires_by = Some(instant);
        self
    }

    /// Allows only keys with a quota at least as strict: no more requests, in a window that is no shorter.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// Allows only keys with a limit of at most this many requests in flight at once.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroU32) -> Self {
        self.concurrency = Some(limit);
        self
    }

    /// Returns the first axis on which the key exceeds these limits.
    fn exceeded_by(&self, key: &KeyRecord, catalog: &ScopeCatalog) -> Option<Axis> {
        let access = match (&self.access, key.access()) {
            (Access::Full, _) => true,
            (Access::Scopes(_), Access::Full) => false,
            (Access::Scopes(held), Access::Scopes(asked)) => catalog.covers(held, asked),
        };
        let environment = self
            .environments
            .as_ref()
            .is_none_or(|environments| environments.contains(key.environment()));
        let expiry = match (self.expires_by, key.expires_at()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(latest), Some(end)) => end <= latest,
        };
        let quotas = self
            .quotas
            .iter()
            .all(|bound| key.quotas().iter().any(|quota| quota.is_within(bound)));
        let concurrency = match (self.concurrency, key.concurrency()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(most), Some(asked)) => asked <= most,
        };
        [
            (Axis::Access, access),
            (Axis::Environment, environment),
            (Axis::Resources, key.resources().within(&self.resources)),
            (Axis::Networks, key.networks().within(&self.networks)),
            (Axis::Expiry, expiry),
            (Axis::Quotas, quotas),
            (Axis::Concurrency, concurrency),
        ]
        .into_iter()
        .find_map(|(axis, is_within)| (!is_within).then_some(axis))
    }
}

impl Ceiling {
    /// Returns the first axis on which the key exceeds the ceiling.
    pub(super) fn exceeded_by(&self, key: &KeyRecord, catalog: &ScopeCatalog) -> Option<Axis> {
        match self {
            Self::Unlimited => None,
            Self::Limited(limits) => limits.exceeded_by(key, catalog),
        }
    }
}
