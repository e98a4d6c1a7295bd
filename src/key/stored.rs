//! What a backend persists.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Digest, KeyId, Principal, Redactor, TenantId, Title, TitleError};

/// One key as a backend keeps it: a few columns that it may index, and a document that it does not look into.
///
/// Built from its parts, so that a backend can write and read it column by column. A later version of Keyward
/// puts new fields into the document, under a higher `schema`: no backend changes for it.
///
/// Instants are UTC in whole microseconds.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's id; unique in the store for ever.
    pub id: KeyId,
    /// Whose key it is. Never changes.
    pub tenant: TenantId,
    /// Which user, integration or part of the system it was issued to. Never changes.
    pub owner: Principal,
    /// What people call it.
    pub title: Title,
    /// When it was issued. Never changes; orders lists, newest first, then by id.
    pub created_at: OffsetDateTime,
    /// When and why it was revoked, once it has been. Never changes back.
    pub revocation: Option<Revocation>,
    /// The first instant at which it is no longer valid.
    pub expires_at: Option<OffsetDateTime>,
    /// The key that it replaces, where it came of a rotation.
    pub predecessor: Option<KeyId>,
    /// The first key of the line of rotations that it belongs to; its own id where there was none.
    pub lineage: KeyId,
    /// What is kept of its secret. Changed by [`Change::Rehash`](crate::store::Change::Rehash) alone.
    pub digest: Digest,
    /// 1 when inserted, and one more at each change but a rehash.
    pub revision: u64,
    /// Which version of Keyward's schema the document follows.
    pub schema: u16,
    /// All the rest. Opaque.
    pub document: Box<[u8]>,
    /// The latest [cutoff](crate::store::Change::Cutoff) that binds this key, of its owner, its tenant or all. Not a
    /// column: the store fills it in when it reads, and ignores it when it writes.
    pub cutoff: Option<OffsetDateTime>,
}

impl StoredKey {
    /// Most bytes of a document.
    pub const MAX_DOCUMENT_BYTES: usize = 512 * 1024;
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
            .field("digest", &self.digest)
            .field("revision", &self.revision)
            .field("schema", &self.schema)
            .field("document", &format_args!("{} bytes", self.document.len()))
            .finish_non_exhaustive()
    }
}

/// When and why a key was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevokeReason,
    /// The position of the commit that revoked it: the order of revoked keys in lists.
    pub position: u64,
}

/// Why a key was revoked. Told to operators and kept in the audit log; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum RevokeReason {
    /// Somebody asked for it, and gave no other reason.
    Requested,
    /// Its secret became known to others, or may have.
    Leaked,
    /// Another key took its place.
    Rotated,
    /// What used it is no more.
    Decommissioned,
    /// Another reason, in the host's own words.
    Other(Title),
}

impl RevokeReason {
    /// A reason in the host's own words: one visible line, as a [`Title`] is.
    ///
    /// # Errors
    /// [`TitleError`] if they are empty, too long, or hold a character that is refused.
    pub fn other(words: &str) -> Result<Self, TitleError> {
        Title::new(words).map(Self::Other)
    }

    /// The reason of this stored name. For backends.
    ///
    /// Never fails: a reason that cannot be read must not make a revoked key unreadable. Words that could not stand
    /// in a [`Title`] become `unreadable`.
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

    /// The same with keys in it masked.
    pub(crate) fn masked(self, redactor: &Redactor) -> Self {
        match &self {
            Self::Other(words) => match redactor.redact(words.as_str()) {
                Cow::Owned(masked) => Self::from_stored(&masked),
                Cow::Borrowed(_) => self,
            },
            _ => self,
        }
    }

    /// The reason's name, as stored.
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
