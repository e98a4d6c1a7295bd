//! Issuing a key.

use std::fmt;

use super::{
    Actor, InvalidKey, KeyManager, ManageError, NewKey, Operation, TenantRules, broken_contract,
};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{ApiKey, KeyId, KeyRecord, Principal, Quota, Secret, SecretOrigin, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, Committed, CutoffScope, Outcome, Precondition, StoreError,
};

/// Number of ids to try before the random source counts as repeating itself. Two ids of 122 random bits do not collide
/// by chance.
pub(super) const ID_DRAWS: u32 = 4;

impl KeyManager {
    /// Issues a key. Only the answer contains the key's text: nothing stored can bring it back.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`] if the request is not allowed; [`ManageError::TenantFull`],
    /// [`ManageError::CutOff`], [`ManageError::ClockBehindCutoff`]; [`ManageError::Random`],
    /// [`ManageError::IdCollision`], [`ManageError::Clock`], [`ManageError::Hashing`], [`ManageError::Store`].
    ///
    /// After any of them but [`StoreError::Indeterminate`], nothing is issued. After that one, the list may contain a
    /// key that no client has the text of, and the text is lost. [Revoke](Self::revoke) that key, or
    /// [rotate](Self::rotate) it with [`Overlap::None`](super::Overlap::None), which ends it and returns a successor.
    pub async fn issue(&self, actor: &Actor, key: NewKey) -> Result<Issued, ManageError> {
        let key = key.into_request(actor);
        if !actor.acts_for(&key.tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::Issue { key: &key }).await?;
        let rules = self.rules_of(&key.tenant).await?;
        let draft = self.draft(actor, key, self.now()?)?;
        rules.check(&draft, &self.parts.catalog)?;
        self.check_ceiling(actor, &draft)?;
        for _ in 0..ID_DRAWS {
            let mut record = draft.clone();
            let id = KeyId::generate(&*self.parts.random)?;
            (record.id, record.lineage) = (id, id);
            let api_key = self.draw_secret(&mut record).await?;
            let addition = self.addition(actor, EventAction::KeyIssued, &record, &rules)?;
            let set = addition.into_set(ChangeId::generate(&*self.parts.random));
            if self.insert(&set).await? {
                return Ok(Issued { api_key, record });
            }
        }
        Err(ManageError::IdCollision)
    }

    /// Generates a secret for the record, and stores its digest there.
    pub(super) async fn draw_secret(&self, record: &mut KeyRecord) -> Result<ApiKey, ManageError> {
        let parts = &self.parts;
        let secret = parts.format.generate_secret(&*parts.random)?;
        record.origin = SecretOrigin::Generated {
            entropy_bits: Secret::entropy_bits(secret.length()),
        };
        let bytes = secret.expose_secret().as_bytes();
        record.digest = parts.credentials.hasher.digest(record, bytes).await?;
        let api_key = parts
            .format
            .compose(&record.environment, record.id, &secret)
            .map_err(InvalidKey::Format)?;
        Ok(api_key)
    }

    /// Builds the addition of a record, with the preconditions of every new key.
    pub(super) fn addition(
        &self,
        actor: &Actor,
        action: EventAction,
        record: &KeyRecord,
        rules: &TenantRules,
    ) -> Result<Addition, ManageError> {
        let stored = record.encode().map_err(InvalidKey::Unwritable)?;
        let redactor = self.parts.format.redactor();
        // The record of an imported key has its original date of issue; the event has the current time.
        let at = self.now()?;
        let event = actor.event(at, action, &stored, described(record), &redactor);
        let not_cut_off = Precondition::NotCutOff {
            tenant: record.tenant.clone(),
            owner: record.owner.clone(),
            issued_at: record.created_at,
        };
        let cap = rules.cap().map(|limit| Precondition::UnrevokedKeysBelow {
            tenant: record.tenant.clone(),
            limit,
        });
        Ok(Addition {
            change: Change::Insert(Box::new(stored)),
            event,
            conditions: [Some(not_cut_off), cap].into_iter().flatten().collect(),
        })
    }

    /// Inserts a record. `false` if its id already exists.
    pub(super) async fn insert(&self, set: &ChangeSet) -> Result<bool, ManageError> {
        match self.commit(set).await {
            Ok(committed) if is_as_wanted(set, &committed) => Ok(true),
            Ok(_) => Err(broken_contract()),
            Err(StoreError::AlreadyExists) => Ok(false),
            Err(StoreError::PreconditionFailed { index }) => {
                Err(match set.preconditions().get(index) {
                    Some(Precondition::NotCutOff { tenant, owner, .. }) => {
                        self.why_cut_off(tenant, owner).await
                    }
                    Some(Precondition::UnrevokedKeysBelow { .. }) => ManageError::TenantFull,
                    None => broken_contract(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl KeyManager {
    /// Returns why a key of this owner cannot be issued now: the clock may be behind a cutoff.
    async fn why_cut_off(&self, tenant: &TenantId, owner: &Principal) -> ManageError {
        let standing = self.standing(CutoffScope::binding(tenant, owner)).await;
        // If the cutoffs or the clock cannot be read, the general reason is still true.
        let (Ok(standing), Ok(now)) = (standing, self.now()) else {
            return ManageError::CutOff;
        };
        match standing.into_iter().flatten().max() {
            Some(cutoff) if cutoff > now => ManageError::ClockBehindCutoff { cutoff },
            _ => ManageError::CutOff,
        }
    }
}

/// Returns whether the store made each change of a set that adds a key.
fn is_as_wanted(set: &ChangeSet, committed: &Committed) -> bool {
    let outcomes = &committed.outcomes;
    let changes = set.changes();
    changes.len() == outcomes.len()
        && changes.iter().zip(outcomes).all(|(change, outcome)| {
            *outcome
                == match change {
                    Change::Insert(_) => Outcome::Inserted,
                    Change::Replace { .. } => Outcome::Replaced,
                    _ => Outcome::Revoked,
                }
        })
}

/// The change that adds a key, its event, and its preconditions.
pub(super) struct Addition {
    pub(super) change: Change,
    pub(super) event: Event,
    pub(super) conditions: Vec<Precondition>,
}

impl Addition {
    pub(super) fn into_set(self, id: ChangeId) -> ChangeSet {
        let set = ChangeSet::one(id, self.change).with_event(self.event);
        self.conditions
            .into_iter()
            .fold(set, ChangeSet::on_condition)
    }
}

/// Returns the fields that the event of a new key shows.
fn described(record: &KeyRecord) -> Vec<FieldChange> {
    let mut changes = vec![
        FieldChange::set("owner", record.owner.to_string()),
        FieldChange::set("environment", record.environment.as_str()),
        FieldChange::set("access", record.access.to_string()),
        FieldChange::set("resources", record.resources.to_string()),
        FieldChange::set("networks", record.networks.to_string()),
    ];
    for quota in &record.quotas {
        changes.push(FieldChange::set("quota", quota_text(quota)));
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
    if let Some(predecessor) = record.predecessor {
        changes.push(FieldChange::set("predecessor", predecessor.to_string()));
    }
    if let Some(format) = record.legacy_format() {
        changes.push(FieldChange::set("foreign_format", format));
    }
    changes
}

pub(super) fn quota_text(quota: &Quota) -> String {
    let seconds = quota.window().as_secs();
    format!("{} {} in {seconds} s", quota.name(), quota.limit())
}

/// A newly issued key: its record and its text.
///
/// # Security
/// The only value that ever holds both. `Debug` shows neither the text nor the digest.
pub struct Issued {
    api_key: ApiKey,
    record: KeyRecord,
}

impl Issued {
    pub(super) fn new(api_key: ApiKey, record: KeyRecord) -> Self {
        Self { api_key, record }
    }

    /// Returns the key's text. Show it once.
    #[must_use]
    pub fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    /// Returns the key's record.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Splits the value into the key's text and its record.
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
