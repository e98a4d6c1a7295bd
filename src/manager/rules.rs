//! Rules for a tenant's keys, independent of the actor.

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;

use super::{InvalidKey, PolicyError};
use crate::clock::later;
use crate::key::{Access, KeyRecord, ScopeCatalog, TenantId};

/// Rules for a tenant's keys, independent of the actor: a ceiling bounds an actor, these bound the tenant.
///
/// They apply to every key that is issued, imported, rotated, resumed, or given other access or another expiry from
/// now on. An existing key that breaks a newer rule goes on working until one of these operations is done to it.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::{manager::TenantRules, scope};
///
/// let rules = TenantRules::new()
///     .max_lifetime(Duration::from_secs(365 * 86_400))
///     .access(scope!("read:editions"))
///     .max_keys(NonZeroU32::new(20).ok_or("not 0")?);
/// # let _ = rules;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantRules {
    access: Option<Access>,
    max_lifetime: Option<Duration>,
    max_keys: Option<NonZeroU32>,
}

impl TenantRules {
    /// Creates an empty set of rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the access of keys to this.
    #[must_use]
    pub fn access(mut self, access: impl Into<Access>) -> Self {
        self.access = Some(access.into());
        self
    }

    /// Limits the lifetime of a key from the instant it was issued. Every key must then expire.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Limits how many keys of the tenant are not revoked. Keys that have expired, or that a cutoff has ended,
    /// count until they are revoked.
    ///
    /// A [rotation](super::KeyManager::rotate) needs no further place if it has no overlap, and if its overlap ends
    /// within 90 days and no predecessor of the key is unrevoked: until it ends, a key and its successor take one place
    /// together. The old keys count for every other new key, and all unrevoked keys together are never more than twice
    /// the limit. A rotation with a longer overlap, or one without an end, needs a place of its own.
    #[must_use]
    pub fn max_keys(mut self, limit: NonZeroU32) -> Self {
        self.max_keys = Some(limit);
        self
    }

    pub(super) fn cap(&self) -> Option<NonZeroU32> {
        self.max_keys
    }

    pub(super) fn check_access(
        &self,
        access: &Access,
        catalog: &ScopeCatalog,
    ) -> Result<(), InvalidKey> {
        let most = self.access.as_ref();
        if most.is_none_or(|most| access.within(most, catalog)) {
            Ok(())
        } else {
            Err(InvalidKey::AccessBarred)
        }
    }

    pub(super) fn check(&self, key: &KeyRecord, catalog: &ScopeCatalog) -> Result<(), InvalidKey> {
        self.check_access(&key.restrictions().access, catalog)?;
        self.check_lifetime(key)
    }

    /// Checks the time from the key's issue to its expiry.
    pub(super) fn check_lifetime(&self, key: &KeyRecord) -> Result<(), InvalidKey> {
        let Some(lifetime) = self.max_lifetime else {
            return Ok(());
        };
        // A lifetime that ends beyond the calendar sets no limit.
        let latest = later(key.created_at(), lifetime);
        match (key.restrictions().expires_at, latest) {
            (Some(end), Some(latest)) if end > latest => Err(InvalidKey::LifetimeTooLong),
            (None, _) => Err(InvalidKey::LifetimeTooLong),
            _ => Ok(()),
        }
    }
}

/// A source of each tenant's rules, such as a table of the host application.
///
/// [`TenantRules`] is a source itself: the same rules for all tenants.
#[async_trait]
pub trait RuleBook: Debug + Send + Sync + 'static {
    /// Returns the rules of this tenant.
    ///
    /// # Errors
    /// [`PolicyError`] if the source cannot read them. The operation is then not done.
    async fn rules_of(&self, tenant: &TenantId) -> Result<TenantRules, PolicyError>;
}

#[async_trait]
impl RuleBook for TenantRules {
    async fn rules_of(&self, _: &TenantId) -> Result<TenantRules, PolicyError> {
        Ok(self.clone())
    }
}
