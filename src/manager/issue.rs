//! Issuing a key.

use std::collections::HashSet;
use std::fmt;

use super::{
    Actor, InvalidKey, KeyManager, KeyRequest, ManageError, NewKey, Operation, broken_contract,
};
use crate::audit::{EventAction, FieldChange};
use crate::clock::{normalized, rfc3339};
use crate::hashing::Binding;
use crate::key::{
    Access, ApiKey, Digest, Environment, FormatError, KeyId, KeyRecord, Networks, Quota, Resources,
    Secret, SecretError, SecretOrigin, Title,
};
use crate::store::{Change, ChangeId, ChangeSet, Outcome, Precondition, StoreError};

/// How many ids are drawn before a random source is held to repeat itself. By chance two ids of 122 random
/// bits never meet.
const ID_DRAWS: u32 = 4;

impl KeyManager {
    /// Issues a key. Its text is in the answer, this once; nothing stored can bring it back.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`] for what was asked; [`ManageError::TenantFull`]; [`ManageError::Random`],
    /// [`ManageError::IdCollision`], [`ManageError::Clock`], [`ManageError::Hashing`], [`ManageError::Store`]. Nothing is
    /// issued on any of them; after [`StoreError::Indeterminate`] a key may stand in the list that nobody holds.
    pub async fn issue(&self, actor: &Actor, key: NewKey) -> Result<Issued, ManageError> {
        let key = key.into_request();
        if !actor.acts_for(&key.tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::Issue { key: &key }).await?;
        let draft = self.draft(actor, key)?;
        if let Some(axis) = actor.ceiling().exceeded_by(&draft, &self.parts.catalog) {
            return Err(ManageError::AboveCeiling(axis));
        }
        for _ in 0..ID_DRAWS {
            let (api_key, record) = self.complete(draft.clone()).await?;
            if self.insert(actor, &record).await? {
                return Ok(Issued { api_key, record });
            }
        }
        Err(ManageError::IdCollision)
    }

    /// The record of the key asked for, all but its id and its digest.
    fn draft(&self, actor: &Actor, key: KeyRequest) -> Result<KeyRecord, ManageError> {
        let now = self.now()?;
        self.check_bounds(&key)?;
        let title = Title::new(&key.title).map_err(InvalidKey::Title)?;
        let environment = self.environment(key.environment.as_deref())?;
        let expires_at = key.first_invalid_instant(now)?;
        let not_before = key
            .not_before
            .map(|instant| normalized(instant).ok_or(InvalidKey::Instant))
            .transpose()?;
        if expires_at.is_some_and(|end| not_before.is_some_and(|start| end <= start)) {
            return Err(InvalidKey::NeverValid.into());
        }
        let owner = key.owner.unwrap_or_else(|| actor.principal().clone());
        let redactor = self.parts.format.redactor();
        let metadata = key.metadata.to_json();
        for (field, text) in [
            ("title", title.as_str()),
            ("owner", owner.name()),
            ("actor", actor.principal().name()),
            ("metadata", &metadata),
        ] {
            if redactor.finds_key(text) {
                return Err(InvalidKey::HoldsKey { field }.into());
            }
        }
        let secret_length = self.parts.format.secret_characters();
        Ok(KeyRecord {
            id: KeyId::from_u128(0),
            tenant: key.tenant,
            owner,
            title,
            prefix: self.parts.format.prefix().into(),
            environment,
            access: key.access,
            resources: key.resources,
            networks: key.networks,
            quotas: key.quotas,
            concurrency: key.concurrency,
            metadata: key.metadata,
            origin: SecretOrigin::Generated {
                entropy_bits: Secret::entropy_bits(secret_length),
            },
            digest: Digest::none(),
            created_at: now,
            created_by: actor.principal().clone(),
            not_before,
            expires_at,
            suspended_at: None,
            revocation: None,
            cutoff: None,
            predecessor: None,
            lineage: KeyId::from_u128(0),
            revision: 1,
        })
    }

    fn check_bounds(&self, key: &KeyRequest) -> Result<(), InvalidKey> {
        if let Access::Scopes(scopes) = &key.access {
            let mut scopes = scopes.iter();
            if let Some(scope) = scopes.find(|scope| !self.parts.catalog.declares(scope)) {
                return Err(InvalidKey::UndeclaredScope(scope.clone()));
            }
        }
        if matches!(&key.resources, Resources::Only(list) if list.len() > Resources::MAX) {
            return Err(InvalidKey::TooManyResources);
        }
        if matches!(&key.networks, Networks::Only(list) if list.len() > Networks::MAX) {
            return Err(InvalidKey::TooManyNetworks);
        }
        if key.quotas.len() > Quota::MAX_PER_KEY {
            return Err(InvalidKey::TooManyQuotas);
        }
        let mut names = HashSet::new();
        match key.quotas.iter().find(|quota| !names.insert(quota.name())) {
            Some(quota) => Err(InvalidKey::RepeatedQuota(quota.name().to_owned())),
            None => Ok(()),
        }
    }

    fn environment(&self, name: Option<&str>) -> Result<Environment, InvalidKey> {
        let environment = self.parts.format.find_environment(name);
        let unknown = InvalidKey::Format(FormatError::UnknownEnvironment);
        environment.cloned().ok_or(unknown)
    }

    /// Draws an id and a secret, and hashes the secret.
    async fn complete(&self, mut record: KeyRecord) -> Result<(ApiKey, KeyRecord), ManageError> {
        let parts = &self.parts;
        record.id = KeyId::generate(&*parts.random)?;
        record.lineage = record.id;
        let length = parts.format.secret_characters();
        let secret = Secret::generate(&*parts.random, length).map_err(|error| match error {
            SecretError::Random(error) => ManageError::Random(error),
            // The format's length is a secret's, and what is drawn are digits.
            SecretError::Length { .. } | SecretError::Character => {
                InvalidKey::Format(FormatError::SecretLength { length }).into()
            }
        })?;
        let binding = Binding {
            environment: &record.environment,
            id: record.id,
        };
        let bytes = secret.expose_secret().as_bytes();
        record.digest = parts.hasher.digest(binding, bytes, record.origin).await?;
        let api_key = parts
            .format
            .compose(&record.environment, record.id, &secret)
            .map_err(InvalidKey::Format)?;
        Ok((api_key, record))
    }

    /// Whether the record was added; if not, its id exists.
    async fn insert(&self, actor: &Actor, record: &KeyRecord) -> Result<bool, ManageError> {
        let stored = record.encode().map_err(InvalidKey::Unwritable)?;
        let changes = described(record);
        let redactor = self.parts.format.redactor();
        let at = record.created_at;
        let event = actor.event(at, EventAction::KeyIssued, &stored, changes, &redactor);
        let id = ChangeId::generate(&*self.parts.random);
        let mut set = ChangeSet::one(id, Change::Insert(Box::new(stored))).with_event(event);
        if let Some(limit) = self.parts.keys_per_tenant {
            set = set.on_condition(Precondition::UnrevokedKeysBelow {
                tenant: record.tenant.clone(),
                limit,
            });
        }
        match self.commit(&set).await {
            Ok(committed) if committed.outcomes == [Outcome::Inserted] => Ok(true),
            Ok(_) => Err(broken_contract()),
            Err(StoreError::AlreadyExists) => Ok(false),
            Err(StoreError::PreconditionFailed) => Err(ManageError::TenantFull),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the event of issuing tells of the key.
fn described(record: &KeyRecord) -> Vec<FieldChange> {
    let mut changes = vec![
        FieldChange::set("owner", record.owner.to_string()),
        FieldChange::set("environment", record.environment.as_str()),
        FieldChange::set("access", record.access.to_string()),
        FieldChange::set("resources", record.resources.to_string()),
        FieldChange::set("networks", record.networks.to_string()),
    ];
    for quota in &record.quotas {
        let seconds = quota.window().as_secs();
        let text = format!("{} {} in {seconds} s", quota.name(), quota.limit());
        changes.push(FieldChange::set("quota", text));
    }
    if let Some(limit) = record.concurrency {
        changes.push(FieldChange::set("concurrency", limit.to_string()));
    }
    if let Some(instant) = record.not_before {
        changes.push(FieldChange::set("not_before", rfc3339(instant)));
    }
    if let Some(instant) = record.expires_at {
        changes.push(FieldChange::set("expires_at", rfc3339(instant)));
    }
    changes
}

/// A key that was just issued, with its text.
///
/// # Security
/// The only value that ever holds both. `Debug` shows neither the text nor the digest.
pub struct Issued {
    api_key: ApiKey,
    record: KeyRecord,
}

impl Issued {
    /// The key's text. Show it once.
    #[must_use]
    pub fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    /// What is kept of the key.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Both, each on its own.
    #[must_use]
    pub fn into_parts(self) -> (ApiKey, KeyRecord) {
        (self.api_key, self.record)
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("api_key", &self.api_key)
            .field("record", &self.record)
            .finish()
    }
}
