//! What a key may do at most.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::quota::{common_quotas, deserialize as deserialize_quotas};
use super::{Access, Networks, Quota, Resources, ScopeCatalog};

/// The restrictions of a key: its access, and where, how much and when it may be used.
///
/// A restriction that is not set does not exist: [`Resources::Any`], [`Networks::Any`], no quotas, `None`. An empty
/// list of scopes, resources or networks cannot be written.
///
/// Deserializes only if every field is present and there is no other: half-reading restrictions would lift some.
/// Instants are UTC in whole microseconds, and serialize as RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Restrictions {
    /// The key's access: everything, or scopes.
    pub access: Access,
    /// The resources to which the key is restricted.
    pub resources: Resources,
    /// The networks from which the key may be used.
    pub networks: Networks,
    /// The key's own quotas.
    #[serde(deserialize_with = "deserialize_quotas")]
    pub quotas: Vec<Quota>,
    /// Maximum number of requests in flight at once; `None` if there is no limit.
    ///
    /// With the default limiter, each node counts for itself: several nodes together admit several times as many.
    // This makes the field mandatory: without it, the restrictions are damaged, and do not mean a key without a limit.
    #[serde(deserialize_with = "Option::deserialize")]
    pub concurrency: Option<NonZeroU32>,
    /// The first instant at which the key is valid; `None` if it is valid from the start.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// The first instant at which the key is no longer valid; `None` if it is valid until revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

impl Restrictions {
    /// Restricts the access, and nothing else.
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            resources: Resources::Any,
            networks: Networks::Any,
            quotas: Vec::new(),
            concurrency: None,
            not_before: None,
            expires_at: None,
        }
    }

    /// Returns whether there is an instant at which the key is valid.
    pub(crate) fn is_ever_valid(&self) -> bool {
        match (self.not_before, self.expires_at) {
            (Some(start), Some(end)) => start < end,
            _ => true,
        }
    }

    /// Returns what both allow, and whether the result is within `most`.
    ///
    /// Where the two have nothing in common that a key can express, the result is `self`'s part and not within `most`.
    pub(crate) fn narrowed(&self, most: &Self, catalog: &ScopeCatalog) -> (Self, bool) {
        let access = self.access.common(&most.access, catalog);
        let resources = self.resources.common(&most.resources);
        let networks = self.networks.common(&most.networks);
        let quotas = common_quotas(&self.quotas, &most.quotas);
        let is_within =
            access.is_some() && resources.is_some() && networks.is_some() && quotas.is_some();
        let narrowed = Self {
            access: access.unwrap_or_else(|| self.access.clone()),
            resources: resources.unwrap_or_else(|| self.resources.clone()),
            networks: networks.unwrap_or_else(|| self.networks.clone()),
            quotas: quotas.unwrap_or_else(|| self.quotas.clone()),
            concurrency: least(self.concurrency, most.concurrency),
            not_before: self.not_before.max(most.not_before), // `None` is the earliest.
            expires_at: least(self.expires_at, most.expires_at),
        };
        (narrowed, is_within)
    }
}

/// Returns the lower of two limits, where `None` means no limit.
pub(super) fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}
