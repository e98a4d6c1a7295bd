//! The key as a domain object.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::format::DISPLAYED_ID_DIGITS;
use super::restrictions::least;
use super::{
    Digest, Environment, KeyId, Metadata, Principal, Restrictions, Revocation, RevokeReason,
    SecretOrigin, TenantId, Timestamp, Title, instant_of,
};

/// All data of a key except its secret.
///
/// It is read only: the manager changes keys, by named fields. Instants are UTC in whole microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) tenant: TenantId,
    pub(crate) owner: Principal,
    pub(crate) title: Title,
    pub(crate) prefix: Box<str>,
    pub(crate) environment: Environment,
    pub(crate) restrictions: Restrictions,
    pub(crate) metadata: Metadata,
    pub(crate) origin: SecretOrigin,
    pub(crate) digest: Digest,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) created_by: Principal,
    pub(crate) suspended_at: Option<OffsetDateTime>,
    pub(crate) revocation: Option<Revocation>,
    pub(crate) cutoff: Option<OffsetDateTime>,
    pub(crate) predecessor: Option<KeyId>,
    pub(crate) lineage: KeyId,
    pub(crate) rotation: Option<Rotated>,
    pub(crate) legacy: Option<LegacyText>,
    pub(crate) revision: u64,
    /// Whether this process had seen the key's [end](Self::end) pass when it read the record.
    pub(crate) has_passed: HasPassed,
}

/// Whether this process had seen an end pass.
///
/// It describes the reader, not the key: records that differ in nothing else are equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HasPassed(pub(crate) bool);

impl PartialEq for HasPassed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for HasPassed {}

/// The successor of a rotated key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rotated {
    /// The id of the successor.
    pub successor: KeyId,
    /// The instant at which the successor was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The first instant at which only the successor is valid; `None` if both are valid until this key is revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub overlap_ends: Option<OffsetDateTime>,
    /// The instant at which the key would have expired without a successor; `None` if it would never have expired.
    #[serde(with = "time::serde::rfc3339::option")]
    pub own_end: Option<OffsetDateTime>,
}

/// The state of a key at some instant.
///
/// Only an active key is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// The key may be used.
    Active,
    /// The key's first valid instant is still to come.
    NotYetValid,
    /// The key is suspended, and may be resumed.
    Suspended,
    /// The key's last valid instant has passed.
    Expired,
    /// The key is permanently revoked.
    Revoked,
}

/// `active`, `not_yet_valid`, `suspended`, `expired` or `revoked`, as in the serialized form.
impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::NotYetValid => "not_yet_valid",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// The legacy format of an imported key, and the part of its text that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegacyText {
    pub(crate) format: Box<str>,
    pub(crate) shown: Box<str>,
}

impl KeyRecord {
    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the tenant that the key belongs to.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns the user, integration or part of the system that the key was issued to.
    #[must_use]
    pub fn owner(&self) -> &Principal {
        &self.owner
    }

    /// Returns the key's title.
    #[must_use]
    pub fn title(&self) -> &Title {
        &self.title
    }

    /// Returns the prefix of the format in which the key was issued.
    #[must_use]
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the environment for which the key was issued; the digest binds it.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the key's restrictions: its access, and where, how much and when it may be used.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// Returns the metadata that the host attached, which is untrusted.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the origin of the key's secret.
    #[must_use]
    pub fn origin(&self) -> SecretOrigin {
        self.origin
    }

    /// Returns the digest of the key's secret.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the instant at which the key was issued.
    #[must_use]
    pub fn created_at(&self) -> OffsetDateTime {
        self.created_at
    }

    /// Returns the actor who issued the key.
    #[must_use]
    pub fn created_by(&self) -> &Principal {
        &self.created_by
    }

    /// Returns the instant at which the key was suspended; `None` if it is not suspended.
    #[must_use]
    pub fn suspended_at(&self) -> Option<OffsetDateTime> {
        self.suspended_at
    }

    /// Returns when and why the key was revoked; `None` if it is not revoked.
    #[must_use]
    pub fn revocation(&self) -> Option<&Revocation> {
        self.revocation.as_ref()
    }

    /// Returns the key that this one replaces; `None` if it did not come from a rotation.
    #[must_use]
    pub fn predecessor(&self) -> Option<KeyId> {
        self.predecessor
    }

    /// Returns the first key of the line of rotations; the key's own id if there was no rotation.
    #[must_use]
    pub fn lineage(&self) -> KeyId {
        self.lineage
    }

    /// Returns the successor and the end of the overlap; `None` if the key has no successor.
    #[must_use]
    pub fn rotation(&self) -> Option<&Rotated> {
        self.rotation.as_ref()
    }

    /// Returns the name of the legacy format of the key's text; `None` for keys of the application's own format.
    #[must_use]
    pub fn legacy_format(&self) -> Option<&str> {
        self.legacy.as_ref().map(|legacy| &*legacy.format)
    }

    /// Returns the revision: 1 when issued, and one more at each change except a rehash.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns whether a cutoff has ended this key: one at an instant after the key was issued.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cutoff.is_some_and(|cutoff| self.created_at < cutoff)
    }

    /// Returns the first instant at which expiry or the end of a rotation's overlap ends the key; `None` if neither
    /// ever does.
    pub(crate) fn end(&self) -> Option<OffsetDateTime> {
        let overlap_ends = self.rotation.and_then(|rotated| rotated.overlap_ends);
        least(self.restrictions.expires_at, overlap_ends)
    }

    /// Returns the instant by which the key's ends are judged: no earlier than its end, if that was seen to pass.
    fn latest_seen(&self, now: OffsetDateTime) -> OffsetDateTime {
        match self.end() {
            Some(end) if self.has_passed.0 => end.max(now),
            _ => now,
        }
    }

    /// Returns whether a rotation has ended the key: its overlap with the successor is over.
    ///
    /// An end that the [`Keyward`](crate::Keyward) had seen pass when it read the record has passed at any instant, as
    /// for [`status`](Self::status).
    #[must_use]
    pub(crate) fn is_superseded(&self, now: OffsetDateTime) -> bool {
        let overlap_ends = self.rotation.and_then(|rotated| rotated.overlap_ends);
        overlap_ends.is_some_and(|end| self.latest_seen(now) >= end)
    }

    /// Returns the key's state at an instant.
    ///
    /// A key that a cutoff or a rotation has ended counts as revoked.
    ///
    /// A key that the [`Keyward`](crate::Keyward) had seen expired when it read the record is expired at any instant:
    /// a clock that runs back revives neither the key nor its status. For a clock that had leapt ahead, see
    /// [`forget_future_ends`](crate::Keyward::forget_future_ends).
    #[must_use]
    pub fn status(&self, now: impl Into<Timestamp>) -> KeyStatus {
        let now = instant_of(now);
        let Restrictions {
            not_before,
            expires_at,
            ..
        } = self.restrictions;
        if self.revocation.is_some() || self.is_cut_off() || self.is_superseded(now) {
            KeyStatus::Revoked
        } else if expires_at.is_some_and(|end| self.latest_seen(now) >= end) {
            KeyStatus::Expired
        } else if self.suspended_at.is_some() {
            KeyStatus::Suspended
        } else if not_before.is_some_and(|start| now < start) {
            KeyStatus::NotYetValid
        } else {
            KeyStatus::Active
        }
    }

    /// Returns the part of the key's text that may be shown, such as `acme_live_2Nq8vR1x`.
    ///
    /// No part of it is secret.
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

    /// Returns the view that a host may send to a browser: the record without its digest.
    #[must_use]
    pub fn view(&self, now: impl Into<Timestamp>) -> KeyView {
        let revocation = self.revocation();
        KeyView {
            id: self.id,
            display_prefix: self.display_prefix(),
            title: self.title.clone(),
            tenant: self.tenant.clone(),
            owner: self.owner.clone(),
            environment: self.environment.clone(),
            status: self.status(now),
            restrictions: self.restrictions.clone(),
            metadata: self.metadata.clone(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            suspended_at: self.suspended_at,
            revoked_at: revocation.map(|revocation| revocation.at),
            revoke_reason: revocation.map(|revocation| revocation.reason.clone()),
            predecessor: self.predecessor,
            successor: self.rotation.map(|rotated| rotated.successor),
            overlap_ends: self.rotation.and_then(|rotated| rotated.overlap_ends),
        }
    }
}

/// A key as a host may send it to a browser: everything except the digest of its secret.
///
/// It serializes instants as RFC 3339. Title and metadata are text that a person typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyView {
    /// The key's id, 36 characters.
    pub id: KeyId,
    /// The part of the key's text that may be shown, such as `acme_live_2Nq8vR1x`.
    pub display_prefix: String,
    /// The key's title.
    pub title: Title,
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The user, integration or part of the system that the key was issued to.
    pub owner: Principal,
    /// The environment for which the key was issued.
    #[serde(serialize_with = "as_text")]
    pub environment: Environment,
    /// The key's state when the view was created.
    pub status: KeyStatus,
    /// The key's restrictions, which serialize as members of the view itself.
    #[serde(flatten)]
    pub restrictions: Restrictions,
    /// The metadata that the host attached, which is untrusted.
    pub metadata: Metadata,
    /// The instant at which the key was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The actor who issued the key.
    pub created_by: Principal,
    /// The instant at which the key was suspended; `None` if it is not suspended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub suspended_at: Option<OffsetDateTime>,
    /// The instant at which the key was revoked; `None` if it is not revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// The reason for the revocation; `None` if the key is not revoked.
    pub revoke_reason: Option<RevokeReason>,
    /// The key that this one replaces; `None` if it did not come from a rotation.
    pub predecessor: Option<KeyId>,
    /// The key that replaces this one; `None` if the key was not rotated.
    pub successor: Option<KeyId>,
    /// The first instant at which only the successor is valid; `None` if the overlap has no set end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub overlap_ends: Option<OffsetDateTime>,
}

fn as_text<S: serde::Serializer>(
    environment: &Environment,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(environment.as_str())
}
