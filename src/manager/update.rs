//! Changing individual fields of a key.

use std::fmt;
use std::num::NonZeroU32;

use super::amend::{Amendment, differences};
use super::{ManageError, ManagerParts, OnKey};
use crate::audit::{EventAction, FieldChange};
use crate::key::{Access, KeyRecord, Metadata, Networks, Quota, Resources};

/// The fields of a key to change. Fields that are not named stay as they are.
///
/// A key's lifetime cannot be changed: issue another key, or [rotate](super::KeyManager::rotate) it.
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
#[must_use = "nothing is changed until it is given to the manager"]
pub struct KeyUpdate {
    title: Option<String>,
    metadata: Option<Metadata>,
    access: Option<Access>,
    resources: Option<Resources>,
    networks: Option<Networks>,
    quotas: Option<Vec<Quota>>,
    concurrency: Option<Option<NonZeroU32>>,
}

/// Shown in place of text that may hold a key.
const UNCHECKED: &str = "[unchecked]";

impl KeyUpdate {
    /// Creates an update that changes no field yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the new title. `None`: unchanged.
    #[must_use]
    pub fn title_change(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Returns the new metadata. `None`: unchanged.
    #[must_use]
    pub fn metadata_change(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Returns the new access. `None`: unchanged.
    #[must_use]
    pub fn access_change(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Returns the new resources. `None`: unchanged.
    #[must_use]
    pub fn resources_change(&self) -> Option<&Resources> {
        self.resources.as_ref()
    }

    /// Returns the new networks. `None`: unchanged.
    #[must_use]
    pub fn networks_change(&self) -> Option<&Networks> {
        self.networks.as_ref()
    }

    /// Returns the new quotas. `None`: unchanged. An empty slice removes all quotas.
    #[must_use]
    pub fn quotas_change(&self) -> Option<&[Quota]> {
        self.quotas.as_deref()
    }

    /// Returns the new limit on requests in flight. `None`: unchanged, `Some(None)`: no limit any more.
    #[must_use]
    pub fn concurrency_change(&self) -> Option<Option<NonZeroU32>> {
        self.concurrency
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
            .finish()
    }
}

impl OnKey<'_> {
    pub(super) async fn update(self, update: &KeyUpdate) -> Result<KeyRecord, ManageError> {
        let by = self.by;
        let rules = by.rules_of(&self.stored.tenant).await?;
        self.amend(|record, _| {
            by.check_ceiling(record)?;
            let (with, changes) = by.updated(record, update)?;
            if changes.is_empty() {
                return Ok(None);
            }
            by.check_sizes(&with.resources, &with.networks, &with.quotas)?;
            if with.access != record.access {
                by.check_declared(&with.access)?;
                rules.check_access(&with.access, &by.catalog)?;
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
    /// Returns the record with the named fields changed, and the fields that differ.
    fn updated(
        &self,
        record: &KeyRecord,
        update: &KeyUpdate,
    ) -> Result<(KeyRecord, Vec<FieldChange>), ManageError> {
        let mut with = record.clone();
        if let Some(title) = &update.title {
            with.title = self.title(title)?;
        }
        if let Some(metadata) = &update.metadata {
            self.check_metadata(metadata)?;
            with.metadata = metadata.clone();
        }
        if let Some(access) = &update.access {
            self.check_access_texts(access)?;
            with.access = access.clone();
        }
        if let Some(resources) = &update.resources {
            self.check_resource_texts(resources)?;
            with.resources = resources.clone();
        }
        with.networks = update.networks.clone().unwrap_or(with.networks);
        with.quotas = update.quotas.clone().unwrap_or(with.quotas);
        with.concurrency = update.concurrency.unwrap_or(with.concurrency);

        let changes = differences(record, &with);
        Ok((with, changes))
    }
}
