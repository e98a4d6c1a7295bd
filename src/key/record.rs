//! The key as the application's domain knows it.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::format::DISPLAYED_ID_DIGITS;
use super::{
    Access, Digest, Environment, KeyId, KeyStatus, KeyView, Metadata, Networks, Principal, Quota,
    Resources, Revocation, SecretOrigin, TenantId, Title,
};

/// All that is known of a key but its secret. Read only: the manager changes keys, by named fields.
///
/// Instants are UTC in whole microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) tenant: TenantId,
    pub(crate) owner: Principal,
    pub(crate) title: Title,
    pub(crate) prefix: Box<str>,
    pub(crate) environment: Environment,
    pub(crate) access: Access,
    pub(crate) resources: Resources,
    pub(crate) networks: Networks,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) concurrency: Option<NonZeroU32>,
    pub(crate) metadata: Metadata,
    pub(crate) origin: SecretOrigin,
    pub(crate) digest: Digest,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) created_by: Principal,
    pub(crate) not_before: Option<OffsetDateTime>,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) suspended_at: Option<OffsetDateTime>,
    pub(crate) revocation: Option<Revocation>,
    pub(crate) cutoff: Option<OffsetDateTime>,
    pub(crate) predecessor: Option<KeyId>,
    pub(crate) lineage: KeyId,
    pub(crate) rotation: Option<Rotated>,
    pub(crate) legacy: Option<LegacyText>,
    pub(crate) revision: u64,
    /// Whether this process had seen its [end](Self::end) pass when the record was read.
    pub(crate) has_passed: HasPassed,
}

/// Whether an end was seen to pass. It says nothing about the key, but about who read it: records that differ in
/// nothing else are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HasPassed(pub(crate) bool);

impl PartialEq for HasPassed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for HasPassed {}

/// That a key has a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rotated {
    /// The key that takes its place.
    pub successor: KeyId,
    /// When the successor was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The first instant at which only the successor is good; none: once this key is revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub overlap_ends: Option<OffsetDateTime>,
    /// When the key would have expired without a successor; none: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub own_end: Option<OffsetDateTime>,
}

/// The legacy format of an imported key, and the part of its text that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegacyText {
    pub(crate) format: Box<str>,
    pub(crate) shown: Box<str>,
}

impl KeyRecord {
    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whose key it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Which user, integration or part of the system it was issued to.
    #[must_use]
    pub fn owner(&self) -> &Principal {
        &self.owner
    }

    /// What people call it.
    #[must_use]
    pub fn title(&self) -> &Title {
        &self.title
    }

    /// The prefix of the format it was issued in.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The environment it was issued for. The digest binds it.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What it may do.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Which things it may touch.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// From where it may be used.
    #[must_use]
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The quotas declared on it.
    #[must_use]
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Most requests that it may have in flight at once on one node; `None`: no limit. Each node counts for itself, so
    /// that several nodes together admit several times as many.
    #[must_use]
    pub fn concurrency(&self) -> Option<NonZeroU32> {
        self.concurrency
    }

    /// What the host attached. Untrusted.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where its secret came from.
    #[must_use]
    pub fn origin(&self) -> SecretOrigin {
        self.origin
    }

    /// What is kept of its secret.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// When it was issued.
    #[must_use]
    pub fn created_at(&self) -> OffsetDateTime {
        self.created_at
    }

    /// Who issued it.
    #[must_use]
    pub fn created_by(&self) -> &Principal {
        &self.created_by
    }

    /// The first instant at which it is valid; none: from the start.
    #[must_use]
    pub fn not_before(&self) -> Option<OffsetDateTime> {
        self.not_before
    }

    /// The first instant at which it is no longer valid; none: until revoked.
    #[must_use]
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires_at
    }

    /// When it was switched off, where it is.
    #[must_use]
    pub fn suspended_at(&self) -> Option<OffsetDateTime> {
        self.suspended_at
    }

    /// When and why it was revoked, where it has been.
    #[must_use]
    pub fn revocation(&self) -> Option<&Revocation> {
        self.revocation.as_ref()
    }

    /// The key that it replaces, where it came of a rotation.
    #[must_use]
    pub fn predecessor(&self) -> Option<KeyId> {
        self.predecessor
    }

    /// The first key of its line of rotations; its own id where there was none.
    #[must_use]
    pub fn lineage(&self) -> KeyId {
        self.lineage
    }

    /// Its successor, and until when both are good, once it has one.
    #[must_use]
    pub fn rotation(&self) -> Option<&Rotated> {
        self.rotation.as_ref()
    }

    /// The name of the legacy format of its text; `None` for keys of the application's own format.
    #[must_use]
    pub fn legacy_format(&self) -> Option<&str> {
        self.legacy.as_ref().map(|legacy| &*legacy.format)
    }

    /// 1 when issued, and one more at each change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether a kill switch, set to an instant after this key was issued, has ended it.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cutoff.is_some_and(|cutoff| self.created_at < cutoff)
    }

    /// The first instant at which its expiry or the end of its rotation's overlap ends it. `None`: neither ever does.
    pub(crate) fn end(&self) -> Option<OffsetDateTime> {
        let overlap_ends = self.rotation.and_then(|rotated| rotated.overlap_ends);
        self.expires_at.into_iter().chain(overlap_ends).min()
    }

    /// The instant by which its ends are judged: no earlier than its end, if that was seen to pass.
    fn latest_seen(&self, now: OffsetDateTime) -> OffsetDateTime {
        match self.end() {
            Some(end) if self.has_passed.0 => end.max(now),
            _ => now,
        }
    }

    /// Whether a rotation has ended it: its successor's overlap with it is over.
    ///
    /// An end that the [`Keyward`](crate::Keyward) had seen pass when it read the record has passed at any instant, as
    /// for [`status`](Self::status).
    #[must_use]
    pub fn is_superseded(&self, now: OffsetDateTime) -> bool {
        let overlap_ends = self.rotation.and_then(|rotated| rotated.overlap_ends);
        overlap_ends.is_some_and(|end| self.latest_seen(now) >= end)
    }

    /// The key's state at an instant. A key that a kill switch or a rotation has ended counts as revoked.
    ///
    /// A key that the [`Keyward`](crate::Keyward) had seen expired when it read the record is expired at any instant: a
    /// clock that runs back revives neither the key nor its status. See
    /// [`forget_future_ends`](crate::Keyward::forget_future_ends) for a clock that had leapt ahead.
    #[must_use]
    pub fn status(&self, now: OffsetDateTime) -> KeyStatus {
        if self.revocation.is_some() || self.is_cut_off() || self.is_superseded(now) {
            KeyStatus::Revoked
        } else if self
            .expires_at
            .is_some_and(|end| self.latest_seen(now) >= end)
        {
            KeyStatus::Expired
        } else if self.suspended_at.is_some() {
            KeyStatus::Suspended
        } else if self.not_before.is_some_and(|start| now < start) {
            KeyStatus::NotYetValid
        } else {
            KeyStatus::Active
        }
    }

    /// The part of the key's text that may be shown, such as `acme_live_2Nq8vR1x`. None of it is secret.
    #[must_use]
    pub fn display_prefix(&self) -> String {
        if let Some(legacy) = &self.legacy {
            return legacy.shown.to_string();
        }
        let digits = self.id.base62();
        let shown = digits.into_iter().take(DISPLAYED_ID_DIGITS);
        let mut text = format!("{}_{}_", self.prefix, self.environment);
        text.extend(shown.map(char::from));
        text
    }

    /// What a host may send to a browser: the record without its digest.
    #[must_use]
    pub fn view(&self, now: OffsetDateTime) -> KeyView {
        KeyView::new(self, now)
    }
}
