//! Building a record from a request, and checking it against the bounds.

use std::collections::HashSet;

use time::OffsetDateTime;

use super::{Authorized, InvalidKey, KeyRequest, ManageError, ManagerParts};
use crate::clock::normalized;
use crate::key::{
    Access, Digest, Environment, FormatError, HasPassed, KeyId, KeyRecord, Metadata, Networks,
    Quota, Resources, Restrictions, SecretOrigin, Title,
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
        self.check_access_texts(&key.restrictions.access)?;
        self.check_resource_texts(&key.restrictions.resources)?;
        let environment = self.environment(key.environment.as_deref())?;
        if !key.restrictions.is_ever_valid() {
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
            restrictions: key.restrictions,
            metadata: key.metadata,
            origin: SecretOrigin::Imported { entropy_bits: None },
            digest: Digest::none(),
            created_at: now,
            created_by: self.actor().principal().clone(),
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
        self.check_bounds(&record.restrictions)?;
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
    /// Checks restrictions against the bounds of any key: its scopes are declared, and its lists are not too long.
    pub(super) fn check_bounds(&self, restrictions: &Restrictions) -> Result<(), InvalidKey> {
        self.check_declared(&restrictions.access)?;
        check_sizes(restrictions)
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

    /// Makes a title of this text, unless it holds a key.
    pub(super) fn title(&self, text: &str) -> Result<Title, InvalidKey> {
        let title = Title::new(text).map_err(InvalidKey::Title)?;
        self.refuse_keys("title", title.as_str())?;
        Ok(title)
    }

    pub(super) fn check_metadata(&self, metadata: &Metadata) -> Result<(), InvalidKey> {
        self.refuse_keys("metadata", &metadata.to_json())
    }

    /// Refuses scopes and resources that hold the text of a key. This runs before the check for undeclared scopes,
    /// which names the scope in its error. The names of quotas and the kinds of resources are too short for half of a
    /// secret.
    pub(super) fn check_access_texts(&self, access: &Access) -> Result<(), InvalidKey> {
        if let Access::Scopes(scopes) = access {
            for scope in scopes {
                self.refuse_keys("scope", scope.as_str())?;
            }
        }
        Ok(())
    }

    pub(super) fn check_resource_texts(&self, resources: &Resources) -> Result<(), InvalidKey> {
        if let Resources::Only(list) = resources {
            for resource in list {
                self.refuse_keys("resource", resource.value())?;
            }
        }
        Ok(())
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

/// Checks that no list of the restrictions is too long, and that each quota has a name of its own.
pub(super) fn check_sizes(restrictions: &Restrictions) -> Result<(), InvalidKey> {
    let Restrictions {
        resources,
        networks,
        quotas,
        ..
    } = restrictions;
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

/// Brings the instants of restrictions into the form in which records keep them.
pub(super) fn normalize(restrictions: &mut Restrictions) -> Result<(), InvalidKey> {
    let instants = [&mut restrictions.not_before, &mut restrictions.expires_at];
    for instant in instants.into_iter().flatten() {
        *instant = normalized(*instant).ok_or(InvalidKey::Instant)?;
    }
    Ok(())
}
