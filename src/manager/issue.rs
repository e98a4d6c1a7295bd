//! Issuing a key.

use std::fmt;

use serde::Serialize;

use time::OffsetDateTime;

use super::request_id::Cause;
use super::{Authorized, Expiry, InvalidKey, KeyRequest, ManageError, TenantRules, broken_store};
use crate::audit::{Event, EventAction, FieldChange};
use crate::clock::rfc3339;
use crate::key::{
    ApiKey, KeyRecord, KeyView, Principal, Quota, QuotaSubject, Secret, SecretOrigin, TenantId,
};
use crate::store::{Change, ChangeSet, CutoffScope, Outcome, Precondition, StoreError};

/// Number of ids to try before the random source counts as repeating itself. Two ids of 122 random bits do not collide
/// by chance.
pub(super) const ID_DRAWS: u32 = 4;

/// The changes that add keys, each with its event, and their preconditions.
#[derive(Clone)]
pub(super) struct Addition {
    pub(super) changes: Vec<(Change, Event)>,
    pub(super) conditions: Vec<Precondition>,
}

impl Authorized<'_> {
    pub(super) async fn issue(
        &self,
        key: KeyRequest,
        expiry: Option<Expiry>,
        request_id: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Issued, ManageError> {
        let (tenant, cause) = (&key.tenant, Cause::Issue { key: &key, expiry });
        let derived = self.derived_id(tenant, cause, request_id)?;
        self.refuse_repetition(tenant, derived, cause).await?;
        let rules = self.rules_of(tenant).await?;
        let draft = self.draft(key.clone(), now)?;
        rules.check(&draft, &self.catalog)?;
        self.check_ceiling(&draft)?;
        for _ in 0..ID_DRAWS {
            let mut record = draft.clone();
            let id = self.id_of_new(derived)?;
            (record.id, record.lineage) = (id, id);
            let api_key = self.draw_secret(&mut record).await?;
            let addition = self.addition(EventAction::KeyIssued, &record, &rules, Vec::new())?;
            let inserted = self.insert(addition).await;
            if self.answered(tenant, derived, cause, inserted).await? {
                return Ok(Issued { api_key, record });
            }
        }
        Err(ManageError::IdCollision)
    }

    /// Generates a secret for the record, and stores its digest there.
    pub(super) async fn draw_secret(&self, record: &mut KeyRecord) -> Result<ApiKey, ManageError> {
        let secret = self.format.generate_secret(&*self.random)?;
        record.origin = SecretOrigin::Generated {
            entropy_bits: Secret::entropy_bits(secret.length()),
        };
        let bytes = secret.expose_secret().as_bytes();
        record.digest = self.credentials.hasher.digest(record, bytes).await?;
        let api_key = self
            .format
            .compose(&record.environment, record.id, &secret)
            .map_err(InvalidKey::Format)?;
        Ok(api_key)
    }

    /// Builds the addition of a record, with the preconditions of every new key. The event shows `more` fields after
    /// the record's.
    pub(super) fn addition(
        &self,
        action: EventAction,
        record: &KeyRecord,
        rules: &TenantRules,
        more: Vec<FieldChange>,
    ) -> Result<Addition, ManageError> {
        let stored = record.encode().map_err(InvalidKey::Unwritable)?;
        let mut shown = described(record);
        shown.extend(more);
        // The record of an imported key has its original date of issue; the event has the current time.
        let event = self.event_of(self.now()?, action, &stored, shown);
        let cap = rules.cap().map(|limit| Precondition::UnrevokedKeysBelow {
            tenant: record.tenant.clone(),
            limit,
        });
        Ok(Addition {
            changes: vec![(Change::Insert(Box::new(stored)), event)],
            conditions: [not_cut_off(record)].into_iter().chain(cap).collect(),
        })
    }

    /// Commits an addition. `false` if the record's id already exists.
    pub(super) async fn insert(&self, addition: Addition) -> Result<bool, ManageError> {
        let set = self.set_of(addition.changes).ok_or_else(broken_store)?;
        let conditions = addition.conditions.into_iter();
        let set = conditions.fold(set, ChangeSet::on_condition);
        let is_as_wanted = |(change, outcome): (&Change, &Outcome)| {
            *outcome
                == match change {
                    Change::Insert(_) => Outcome::Inserted,
                    Change::Replace { .. } => Outcome::Replaced,
                    _ => Outcome::Revoked,
                }
        };
        match self.commit(&set).await {
            Ok(outcomes) if set.changes().iter().zip(&outcomes).all(is_as_wanted) => Ok(true),
            Ok(_) => Err(broken_store().into()),
            Err(StoreError::AlreadyExists) => Ok(false),
            Err(StoreError::PreconditionFailed { index }) => {
                Err(match set.preconditions().get(index) {
                    Some(Precondition::NotCutOff { tenant, owner, .. }) => {
                        self.why_cut_off(tenant, owner).await
                    }
                    Some(Precondition::UnrevokedKeysBelow { limit, .. }) => {
                        ManageError::TenantFull { limit: *limit }
                    }
                    None => broken_store().into(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns why a key of this owner cannot be issued now: the clock may be behind a cutoff.
    async fn why_cut_off(&self, tenant: &TenantId, owner: &Principal) -> ManageError {
        let latest = self.latest_cutoff(CutoffScope::binding(tenant, owner));
        // If the cutoffs or the clock cannot be read, the general reason is still true.
        match (latest.await, self.now()) {
            (Ok(Some(cutoff)), Ok(now)) if cutoff > now => {
                ManageError::ClockBehindCutoff { cutoff }
            }
            _ => ManageError::CutOff,
        }
    }
}

/// The precondition that no cutoff has ended the key.
pub(super) fn not_cut_off(record: &KeyRecord) -> Precondition {
    Precondition::NotCutOff {
        tenant: record.tenant.clone(),
        owner: record.owner.clone(),
        issued_at: record.created_at,
    }
}

/// Returns the fields that the event of a new key shows.
fn described(record: &KeyRecord) -> Vec<FieldChange> {
    let restrictions = &record.restrictions;
    let mut changes = vec![
        FieldChange::set("owner", record.owner.to_string()),
        FieldChange::set("environment", record.environment.as_str()),
        FieldChange::set("access", restrictions.access.to_string()),
        FieldChange::set("resources", restrictions.resources.to_string()),
        FieldChange::set("networks", restrictions.networks.to_string()),
    ];
    for quota in &restrictions.quotas {
        changes.push(FieldChange::set("quota", quota_text(quota)));
    }
    if let Some(limit) = restrictions.concurrency {
        changes.push(FieldChange::set("concurrency", limit.to_string()));
    }
    if let Some(instant) = restrictions.not_before {
        changes.push(FieldChange::set("not_before", rfc3339(instant)));
    }
    if let Some(instant) = restrictions.expires_at {
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
    let counted = match quota.subject() {
        QuotaSubject::Key => "",
        QuotaSubject::Lineage => " per lineage",
        QuotaSubject::Owner => " per owner",
        QuotaSubject::Tenant => " per tenant",
    };
    format!("{} {} in {seconds} s{counted}", quota.name(), quota.limit())
}

/// A newly issued key: its record and its text.
///
/// In axum and actix it is a response: 201 with the JSON of [`reveal`](Self::reveal), which caches must not store.
///
/// # Security
/// The only value that ever holds both. `Debug` shows neither the text nor the digest.
#[derive(Debug)]
pub struct Issued {
    pub(super) api_key: ApiKey,
    pub(super) record: KeyRecord,
}

impl Issued {
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

    /// Returns the key's text and its displayable fields as JSON, for a host that does not answer with the value
    /// itself.
    ///
    /// # Security
    /// See [`Revealed`].
    #[must_use]
    pub fn reveal(&self) -> Revealed<'_> {
        let (api_key, record) = (&self.api_key, &self.record);
        Revealed {
            view: record.view(record.created_at()),
            api_key: api_key.expose(),
            secret: api_key.expose_secret(),
        }
    }
}

/// A newly issued key, to send to the client that asked for it.
///
/// Serializes as its [`KeyView`] with two more members: `api_key`, the key as one text, and `secret`, which with `id`
/// is the key as two.
///
/// # Security
/// The serialized form contains the key: send it once, over TLS, and store it nowhere. `Debug` shows neither member.
#[derive(Serialize)]
pub struct Revealed<'a> {
    #[serde(flatten)]
    view: KeyView,
    api_key: &'a str,
    secret: &'a str,
}

impl fmt::Debug for Revealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revealed")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}
