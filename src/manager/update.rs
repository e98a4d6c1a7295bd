//! Changing individual fields of a key.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use time::{Date, OffsetDateTime};

use super::amend::{Amendment, differences, set_expiry};
use super::draft::check_sizes;
use super::{Expiry, InvalidKey, ManageError, ManagerParts, OnKey};
use crate::audit::EventAction;
use crate::key::{Access, KeyRecord, Metadata, Networks, Quota, Resources, Timestamp, instant_of};

/// The fields of a key to change. Fields that are not named stay as they are. It deserializes from JSON, where a member
/// that is absent leaves its field as it is.
///
/// ```
/// use keyward::{key::Resources, manager::KeyUpdate, scope};
///
/// let update = KeyUpdate::new()
///     .title("Power BI dashboard (EU)")
///     .access(scope!("read:editions"))
///     .resources(Resources::only(["project:p-17".parse()?])?);
/// # let _ = update;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
#[must_use = "nothing is changed until it is given to the manager"]
pub struct KeyUpdate {
    /// The new title. `None`: unchanged.
    pub title: Option<String>,
    /// The new metadata. `None`: unchanged.
    pub metadata: Option<Metadata>,
    /// The new access. `None`: unchanged.
    pub access: Option<Access>,
    /// The new resources. `None`: unchanged.
    pub resources: Option<Resources>,
    /// The new networks. `None`: unchanged.
    pub networks: Option<Networks>,
    /// The new quotas. `None`: unchanged. An empty list removes all quotas.
    pub quotas: Option<Vec<Quota>>,
    /// The new limit on requests in flight. `None`: unchanged, `Some(None)`: no limit any more.
    pub concurrency: Option<Option<NonZeroU32>>,
    /// The new expiry, earlier or later than the old one. `None`: unchanged, `Some(None)`: never.
    pub expiry: Option<Option<Expiry>>,
}

/// Shown in place of text that may hold a key.
const UNCHECKED: &str = "[unchecked]";

impl KeyUpdate {
    /// Creates an update that changes no field yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the title. [`KeyManager::update`](super::KeyManager::update) checks the text.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Replaces all metadata.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Replaces the access.
    pub fn access(mut self, access: impl Into<Access>) -> Self {
        self.access = Some(access.into());
        self
    }

    /// Replaces the resources that the key may touch. [`Resources::Any`] lifts the restriction.
    pub fn resources(mut self, resources: impl Into<Resources>) -> Self {
        self.resources = Some(resources.into());
        self
    }

    /// Replaces the networks from which the key may be used. [`Networks::Any`] lifts the restriction.
    pub fn networks(mut self, networks: impl Into<Networks>) -> Self {
        self.networks = Some(networks.into());
        self
    }

    /// Replaces all quotas. An empty list removes them.
    pub fn quotas(mut self, quotas: impl IntoIterator<Item = Quota>) -> Self {
        self.quotas = Some(quotas.into_iter().collect());
        self
    }

    /// Changes how many of the key's requests may be in flight at once on one node. `None` lifts the limit.
    pub fn concurrency(mut self, limit: Option<NonZeroU32>) -> Self {
        self.concurrency = Some(limit);
        self
    }

    /// Makes the key invalid from this instant on: earlier or later than before, while it has not ended.
    ///
    /// The overlap of a rotation is never lengthened: a key that has one ends with it, or earlier.
    pub fn expires_at(mut self, instant: impl Into<Timestamp>) -> Self {
        self.expiry = Some(Some(Expiry::At(instant_of(instant))));
        self
    }

    /// Makes the key invalid this long after the update, as [`expires_at`](Self::expires_at).
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.expiry = Some(Some(Expiry::In(duration)));
        self
    }

    /// Makes the key valid to the end of this day in UTC, as [`expires_at`](Self::expires_at).
    pub fn expires_on(mut self, day: Date) -> Self {
        self.expiry = Some(Some(Expiry::On(day)));
        self
    }

    /// Makes the key valid until it is revoked, unless it is in the overlap of a rotation.
    pub fn never_expires(mut self) -> Self {
        self.expiry = Some(None);
        self
    }
}

/// Omits unchecked text: it may hold a key.
impl fmt::Debug for KeyUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyUpdate")
            .field("title", &self.title.as_ref().map(|_| UNCHECKED))
            .field("metadata", &self.metadata.as_ref().map(|_| UNCHECKED))
            .field("access", &self.access.as_ref().map(|_| UNCHECKED))
            .field("resources", &self.resources.as_ref().map(|_| UNCHECKED))
            .field("networks", &self.networks)
            .field("quotas", &self.quotas)
            .field("concurrency", &self.concurrency)
            .field("expiry", &self.expiry)
            .finish()
    }
}

impl OnKey<'_> {
    pub(super) async fn update(self, update: &KeyUpdate) -> Result<KeyRecord, ManageError> {
        let by = self.by;
        let rules = by.rules_of(&self.stored.tenant).await?;
        self.amend(|record, now| {
            by.check_ceiling(record)?;
            let with = by.updated(record, update, now)?;
            let changes = differences(record, &with);
            if changes.is_empty() {
                return Ok(None);
            }
            check_sizes(&with.restrictions)?;
            let access = &with.restrictions().access;
            if *access != record.restrictions().access {
                by.check_declared(access)?;
                rules.check_access(access, &by.catalog)?;
            }
            if with.restrictions.expires_at != record.restrictions.expires_at {
                rules.check_lifetime(&with)?;
            }
            by.check_ceiling(&with)?;
            Ok(Some(Amendment {
                record: with,
                action: EventAction::KeyUpdated,
                changes,
            }))
        })
        .await
    }
}

impl ManagerParts {
    /// Returns the record with the named fields changed.
    fn updated(
        &self,
        record: &KeyRecord,
        update: &KeyUpdate,
        now: OffsetDateTime,
    ) -> Result<KeyRecord, InvalidKey> {
        let mut with = record.clone();
        if let Some(title) = &update.title {
            with.title = self.title(title)?;
        }
        if let Some(metadata) = &update.metadata {
            self.check_metadata(metadata)?;
            with.metadata = metadata.clone();
        }
        let restrictions = &mut with.restrictions;
        set(&mut restrictions.access, &update.access);
        set(&mut restrictions.resources, &update.resources);
        set(&mut restrictions.networks, &update.networks);
        set(&mut restrictions.quotas, &update.quotas);
        set(&mut restrictions.concurrency, &update.concurrency);
        if restrictions.access != record.restrictions.access {
            self.check_access_texts(&restrictions.access)?;
        }
        if restrictions.resources != record.restrictions.resources {
            self.check_resource_texts(&restrictions.resources)?;
        }
        if let Some(expiry) = update.expiry {
            let end = expiry.map(|expiry| self.end_of(expiry, now)).transpose()?;
            move_expiry(&mut with, end)?;
        }
        Ok(with)
    }
}

/// Moves the expiry of a key, not beyond the overlap of its rotation.
fn move_expiry(record: &mut KeyRecord, end: Option<OffsetDateTime>) -> Result<(), InvalidKey> {
    let overlap_ends = record.rotation.and_then(|rotated| rotated.overlap_ends);
    if let Some(ends_at) = overlap_ends {
        if end.is_none_or(|end| end > ends_at) {
            return Err(InvalidKey::BeyondOverlap { ends_at });
        }
    }
    set_expiry(record, end);
    if record.restrictions.is_ever_valid() {
        Ok(())
    } else {
        Err(InvalidKey::NeverValid)
    }
}

/// Changes a field if the update names it.
fn set<T: Clone>(field: &mut T, new: &Option<T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}
