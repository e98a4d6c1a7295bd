//! The most that an actor may grant.

use std::fmt;
use std::num::NonZeroU32;

use crate::key::{
    Access, Environment, KeyRecord, Networks, NonEmpty, Quota, Resources, Restrictions,
    ScopeCatalog, Timestamp, instant_of,
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

/// A bound on each axis of a key's power. A key's [start](crate::key::Restrictions::not_before) is no axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    environments: Option<NonEmpty<Environment>>,
    restrictions: Restrictions,
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
            environments: None,
            restrictions: Restrictions::new(access.into()),
        }
    }

    /// Takes a key's own power as the limits, for an actor that authenticated with that key.
    #[must_use]
    pub fn of_key(record: &KeyRecord) -> Self {
        Self {
            environments: Some(NonEmpty::from(record.environment().clone())),
            restrictions: record.restrictions().clone(),
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
        self.restrictions.resources = resources;
        self
    }

    /// Allows only keys that are restricted to addresses in these networks.
    #[must_use]
    pub fn networks(mut self, networks: Networks) -> Self {
        self.restrictions.networks = networks;
        self
    }

    /// Allows only keys that expire, at this instant or earlier.
    #[must_use]
    pub fn expires_by(mut self, instant: impl Into<Timestamp>) -> Self {
        self.restrictions.expires_at = Some(instant_of(instant));
        self
    }

    /// Allows only keys with a quota at least as strict: no more requests, in a window that is no
    /// shorter, counted for no fewer keys together.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.restrictions.quotas.push(quota);
        self
    }

    /// Allows only keys with a limit of at most this many requests in flight at once.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroU32) -> Self {
        self.restrictions.concurrency = Some(limit);
        self
    }

    /// Returns the first axis on which the key exceeds these limits.
    fn exceeded_by(&self, key: &KeyRecord, catalog: &ScopeCatalog) -> Option<Axis> {
        let (key_environment, key, most) =
            (key.environment(), key.restrictions(), &self.restrictions);
        let environment = self
            .environments
            .as_ref()
            .is_none_or(|environments| environments.contains(key_environment));
        let quotas = most
            .quotas
            .iter()
            .all(|bound| key.quotas.iter().any(|quota| quota.is_within(bound)));
        [
            (Axis::Access, key.access.within(&most.access, catalog)),
            (Axis::Environment, environment),
            (Axis::Resources, key.resources.within(&most.resources)),
            (Axis::Networks, key.networks.within(&most.networks)),
            (Axis::Expiry, is_at_most(key.expires_at, most.expires_at)),
            (Axis::Quotas, quotas),
            (
                Axis::Concurrency,
                is_at_most(key.concurrency, most.concurrency),
            ),
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

/// Returns whether a limit is at most another, where `None` means no limit.
fn is_at_most<T: Ord>(limit: Option<T>, most: Option<T>) -> bool {
    most.is_none_or(|most| limit.is_some_and(|limit| limit <= most))
}
