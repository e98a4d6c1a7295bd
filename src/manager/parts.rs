//! The dependencies of a manager, and the answers that need only them.

use std::sync::Arc;

use time::OffsetDateTime;

use super::authorize::StoreAccess;
use super::{Expiry, InvalidKey, Lookups, ManageError, RuleBook, TenantRules};
use crate::clock::{Clock, PassedEnds, normalized, unix_micros};
use crate::credential::Credentials;
use crate::key::{HasPassed, KeyFormat, KeyRecord, ScopeCatalog, TenantId};
use crate::random::RandomSource;
use crate::store::PendingUsage;

/// The dependencies of a manager.
#[derive(Debug)]
pub(crate) struct ManagerParts {
    pub(crate) access: StoreAccess,
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn RandomSource>,
    pub(crate) rules: Box<dyn RuleBook>,
    pub(crate) usage: Arc<PendingUsage>,
    pub(crate) lookups: Lookups,
    pub(crate) passed: Arc<PassedEnds>,
}

impl ManagerParts {
    pub(super) fn now(&self) -> Result<OffsetDateTime, ManageError> {
        let now = self.clock.now().map_err(|_| ManageError::Clock)?;
        normalized(now).ok_or(ManageError::Clock)
    }

    pub(super) async fn rules_of(&self, tenant: &TenantId) -> Result<TenantRules, ManageError> {
        let rules = self.rules.rules_of(tenant).await;
        rules.map_err(ManageError::Policy)
    }

    /// Returns whether an instant has come, or was seen to pass before the clock ran back.
    pub(super) fn has_passed(&self, end: OffsetDateTime, now: OffsetDateTime) -> bool {
        end <= now || self.passed.include(unix_micros(end))
    }

    /// Returns the first instant at which a key issued now is invalid.
    pub(super) fn end_of(
        &self,
        expiry: Expiry,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, InvalidKey> {
        let end = expiry.instant(now).ok_or(InvalidKey::Instant)?;
        if self.has_passed(end, now) {
            return Err(InvalidKey::Expired);
        }
        Ok(end)
    }

    /// Marks a record as ended if its end has come by `now` or was seen to pass before. Remembers an end that has
    /// come, so that the verifier refuses the key from here on. `now` is `None` if the clock cannot tell the time.
    pub(super) fn judge(&self, mut record: KeyRecord, now: Option<OffsetDateTime>) -> KeyRecord {
        if let Some(end) = record.end() {
            let micros = unix_micros(end);
            if now.is_some_and(|now| now >= end) {
                self.passed.add(micros);
            }
            record.has_passed = HasPassed(self.passed.include(micros));
        }
        record
    }
}
