//! The form in which a backend persists a key.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Digest, KeyId, Principal, Redactor, TenantId, Title, ValueError};

use crate::codes::codes;

/// A key as a backend keeps it: a few columns that it may index, and a document that it does not interpret.
///
/// All parts are public, so that a backend can write and read a key column by column. A later version of Keyward puts
/// new fields into the document, under a higher `schema`, so backends need no change.
///
/// Instants are UTC in whole microseconds.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id, unique in the store forever.
    pub id: KeyId,
    /// The tenant that the key belongs to; never changes.
    pub tenant: TenantId,
    /// The user, integration or part of the system that the key was issued to; never changes.
    pub owner: Principal,
    /// The key's title.
    pub title: Title,
    /// The instant at which the key was issued; never changes.
    ///
    /// It orders lists: newest first, then by id.
    pub created_at: OffsetDateTime,
    /// When and why the key was revoked; `None` if it is not revoked.
    ///
    /// A revocation is never undone.
    pub revocation: Option<Revocation>,
    /// The first instant at which the key is no longer valid; `None` if it is valid until revoked.
    ///
    /// The document contains it too. A key whose column differs from it, by a microsecond or more, is unreadable.
    pub expires_at: Option<OffsetDateTime>,
    /// The key that this one replaces; `None` if it did not come from a rotation.
    pub predecessor: Option<KeyId>,
    /// The first key of the line of rotations; the key's own id if there was no rotation.
    pub lineage: KeyId,
    /// The digest of the key's secret; only [`Change::Rehash`](crate::store::Change::Rehash) changes it.
    pub digest: Digest,
    /// The revision: 1 when inserted, and one more at each change except a rehash.
    pub revision: u64,
    /// The version of Keyward's schema that the document follows.
    pub schema: u16,
    /// All other fields, opaque to the backend.
    pub document: Box<[u8]>,
    /// The latest [cutoff](crate::store::Change::Cutoff) that applies to this key: of its owner, its tenant or all
    /// tenants.
    ///
    /// It is not a column: the store fills it in when it reads a key, and ignores it when it writes one.
    pub cutoff: Option<OffsetDateTime>,
}

impl StoredKey {
    /// Most bytes of a document.
    pub const MAX_DOCUMENT_BYTES: usize = 512 * 1024;

    /// Returns what a store reads in place of a key that is damaged: an empty document, which no version can read, and
    /// placeholders for the other columns.
    ///
    /// Such a key is never granted. Lists report it as unreadable. It can be revoked, and not changed otherwise. The
    /// store puts in the revocation and the revision that it has read:
    /// `StoredKey { revocation, revision, ..StoredKey::damaged(id, tenant, created_at) }`.
    #[must_use]
    pub fn damaged(id: KeyId, tenant: TenantId, created_at: OffsetDateTime) -> Self {
        Self {
            id,
            tenant,
            owner: Principal::unnamed_system(),
            title: Title::unreadable(),
            created_at,
            revocation: None,
            expires_at: None,
            predecessor: None,
            lineage: id,
            digest: Digest::none(),
            revision: 1,
            schema: u16::MAX,
            document: Box::default(),
            cutoff: None,
        }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.schema == u16::MAX && self.document.is_empty()
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("owner", &self.owner)
            .field("title", &self.title)
            .field("created_at", &self.created_at)
            .field("revocation", &self.revocation)
            .field("expires_at", &self.expires_at)
            .field("predecessor", &self.predecessor)
            .field("lineage", &self.lineage)
            .field("digest", &self.digest)
            .field("revision", &self.revision)
            .field("schema", &self.schema)
            .field("document", &format_args!("{} bytes", self.document.len()))
            .field("cutoff", &self.cutoff)
            .finish()
    }
}

/// The time of and the reason for a key's revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The instant of the revocation.
    pub at: OffsetDateTime,
    /// The reason.
    pub reason: RevokeReason,
    /// The position of the commit that revoked the key, which orders revoked keys in lists.
    pub position: u64,
}

/// The reason for a key's revocation.
///
/// It is shown to operators and kept in the audit log; Keyward decides nothing by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum RevokeReason {
    /// The revocation was requested, without another reason.
    Requested,
    /// The secret became known to others, or may have.
    Leaked,
    /// Another key took this key's place.
    Rotated,
    /// The client that used the key no longer exists.
    Decommissioned,
    /// Another reason in the host's own words.
    Other(Title),
}

codes! {
    RevokeReason;
    Self::Requested => "requested",
    Self::Leaked => "leaked",
    Self::Rotated => "rotated",
    Self::Decommissioned => "decommissioned",
    Self::Other(_) => "other",
}

impl RevokeReason {
    /// Creates a reason in the host's own words: one visible line, as a [`Title`].
    ///
    /// # Errors
    /// [`ValueError`] if the words are empty, too long, or contain a refused character.
    pub fn other(words: &str) -> Result<Self, ValueError> {
        Title::new(words).map(Self::Other)
    }

    /// Returns the reason for this stored name, for backends.
    ///
    /// It never fails: an unreadable reason must not make a revoked key unreadable. Words that a [`Title`] could not
    /// contain become `unreadable`.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        match name {
            "requested" => Self::Requested,
            "leaked" => Self::Leaked,
            "rotated" => Self::Rotated,
            "decommissioned" => Self::Decommissioned,
            words => Self::Other(Title::new(words).unwrap_or_else(|_| Title::unreadable())),
        }
    }

    /// Returns the reason with keys in its words masked.
    pub(crate) fn masked(self, redactor: &Redactor) -> Self {
        match &self {
            Self::Other(words) => match redactor.redact(words.as_str()) {
                Cow::Owned(masked) => Self::from_stored(&masked),
                Cow::Borrowed(_) => self,
            },
            _ => self,
        }
    }

    /// Returns the reason's name, as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Requested => "requested",
            Self::Leaked => "leaked",
            Self::Rotated => "rotated",
            Self::Decommissioned => "decommissioned",
            Self::Other(words) => words.as_str(),
        }
    }
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As [`RevokeReason::from_stored`].
impl From<String> for RevokeReason {
    fn from(name: String) -> Self {
        Self::from_stored(&name)
    }
}

impl From<RevokeReason> for String {
    fn from(reason: RevokeReason) -> Self {
        reason.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{DecodeError, KeyRecord};

    /// It would look like a rollout to the operator otherwise.
    #[test]
    fn a_damaged_key_is_not_taken_for_a_newer_one() {
        let tenant = TenantId::new("t").unwrap();
        let damaged = StoredKey::damaged(KeyId::from_u128(1), tenant, OffsetDateTime::UNIX_EPOCH);
        let newer = StoredKey {
            document: b"{}".to_vec().into(),
            ..damaged.clone()
        };
        let damaged = KeyRecord::decode(damaged).unwrap_err();
        assert!(matches!(damaged, DecodeError::Corrupt { .. }), "{damaged}");
        let newer = KeyRecord::decode(newer).unwrap_err();
        assert!(matches!(newer, DecodeError::TooNew { .. }), "{newer}");
    }
}
