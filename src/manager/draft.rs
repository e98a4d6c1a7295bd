//! Building a record from a request, and checking it against the bounds.

use std::collections::HashSet;

use time::OffsetDateTime;

use super::{Authorized, InvalidKey, KeyRequest, ManageError, ManagerParts};
use crate::clock::normalized;
use crate::key::{
    Access, Digest, Environment, FormatError, HasPassed, KeyId, KeyRecord, Metadata, Networks,
    Quota, Resources, SecretOrigin, Title,
};

impl Authorized<'_> {
    /// Builds the record of the requested key, without its id, its digest and the origin of its secret.
    pub(super) fn draft(
        &self,
        key: KeyRequest,
        now: OffsetDateTime,
    ) -> Result<KeyRecord, InvalidKey> {
        self.refuse_keys("tenant", key.tenant.as_str())?;
        let title = self.title(&key.title)?;
        self.check_metadata(&key.metadata)?;
        self.check_access_texts(&key.access)?;
        self.check_resource_texts(&key.resources)?;
        let environment = self.environment(key.environment.as_deref())?;
        let end = key.expiry.map(|expiry| self.end_of(expiry, now));
        let expires_at = end.transpose()?;
        let not_before = key
            .not_before
            .map(|instant| normalized(instant).ok_or(InvalidKey::Instant))
            .transpose()?;
        if expires_at.is_some_and(|end| not_before.is_some_and(|start| end <= start)) {
            return Err(InvalidKey::NeverValid);
        }
        let owner = key
            .owner
            .unwrap_or_else(|| self.actor().principal().clone());
        self.refuse_keys("owner", owner.name())?;
        self.check_actor()?;
        let record = KeyRecord {
            id: KeyId::from_u128(0),
            tenant: key.tenant,
            owner,
            title,
            prefix: self.format.prefix().into(),
            environment,
            access: key.access,
            resources: key.resources,
            networks: key.networks,
            quotas: key.quotas,
            concurrency: key.concurrency,
            metadata: key.metadata,
            origin: SecretOrigin::Imported { entropy_bits: None },
            digest: Digest::none(),
            created_at: now,
            created_by: self.actor().principal().clone(),
            not_before,
            expires_at,
            suspended_at: None,
            revocation: None,
            cutoff: None,
            predecessor: None,
            lineage: KeyId::from_u128(0),
            rotation: None,
            legacy: None,
            revision: 1,
            has_passed: HasPassed::default(),
        };
        self.check_bounds(&record)?;
        Ok(record)
    }

    /// Checks a record against the actor's ceiling.
    pub(super) fn check_ceiling(&self, record: &KeyRecord) -> Result<(), ManageError> {
        match self.actor().ceiling().exceeded_by(record, &self.catalog) {
            Some(axis) => Err(ManageError::AboveCeiling(axis)),
            None => Ok(()),
        }
    }

    /// Refuses an actor with the text of a key in its name: the record stores the name of its creator.
    pub(super) fn check_actor(&self) -> Result<(), InvalidKey> {
        self.refuse_keys("actor", self.actor().principal().name())
    }
}

impl ManagerParts {
    /// Checks a record against the bounds of any key: its scopes are declared, and its lists are not too long.
    pub(super) fn check_bounds(&self, record: &KeyRecord) -> Result<(), InvalidKey> {
        self.check_declared(&record.access)?;
        self.check_sizes(&record.resources, &record.networks, &record.quotas)
    }

    pub(super) fn check_declared(&self, access: &Access) -> Result<(), InvalidKey> {
        let Access::Scopes(scopes) = access else {
            return Ok(());
        };
        let mut scopes = scopes.iter();
        match scopes.find(|scope| !self.catalog.declares(scope)) {
            Some(scope) => Err(InvalidKey::UndeclaredScope(scope.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn check_sizes(
        &self,
        resources: &Resources,
        networks: &Networks,
        quotas: &[Quota],
    ) -> Result<(), InvalidKey> {
        if matches!(resources, Resources::Only(list) if list.len() > Resources::MAX) {
            return Err(InvalidKey::TooManyResources);
        }
        if matches!(networks, Networks::Only(list) if list.len() > Networks::MAX) {
            return Err(InvalidKey::TooManyNetworks);
        }
        if quotas.len() > Quota::MAX_PER_KEY {
            return Err(InvalidKey::TooManyQuotas);
        }
        let mut names = HashSet::new();
        let mut quotas = quotas.iter();
        match quotas.find(|quota| !names.insert(quota.name())) {
            Some(quota) => Err(InvalidKey::RepeatedQuota(quota.name().to_owned())),
            None => Ok(()),
        }
    }

    /// Makes a title of this text, unless it holds a key.
    pub(super) fn title(&self, text: &str) -> Result<Title, InvalidKey> {
        let title = Title::new(text).map_err(InvalidKey::Title)?;
        self.refuse_keys("title", title.as_str())?;
        Ok(title)
    }

    pub(super) fn check_metadata(&self, metadata: &Metadata) -> Result<(), InvalidKey> {
        self.refuse_keys("metadata", &metadata.to_json())
    }

    /// Refuses scopes that hold the text of a key. This runs before the check for undeclared scopes, which names the
    /// scope in its error. The names of quotas and the kinds of resources are too short for half of a secret.
    pub(super) fn check_access_texts(&self, access: &Access) -> Result<(), InvalidKey> {
        match access {
            Access::Full => Ok(()),
            Access::Scopes(scopes) => {
                let mut scopes = scopes.iter();
                scopes.try_for_each(|scope| self.refuse_keys("scope", scope.as_str()))
            }
        }
    }

    pub(super) fn check_resource_texts(&self, resources: &Resources) -> Result<(), InvalidKey> {
        match resources {
            Resources::Any => Ok(()),
            Resources::Only(list) => {
                let mut list = list.iter();
                list.try_for_each(|resource| self.refuse_keys("resource", resource.value()))
            }
        }
    }

    pub(super) fn refuse_keys(&self, field: &'static str, text: &str) -> Result<(), InvalidKey> {
        if self.format.redactor().finds_key(text) {
            return Err(InvalidKey::HoldsKey { field });
        }
        Ok(())
    }

    fn environment(&self, name: Option<&str>) -> Result<Environment, InvalidKey> {
        let environment = self.format.find_environment(name);
        let unknown = InvalidKey::Format(FormatError::UnknownEnvironment);
        environment.cloned().ok_or(unknown)
    }
}
