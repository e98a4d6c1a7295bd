//! Conversion between a record and the columns and document that a backend keeps.
//!
//! The document is JSON. A field that this version does not know makes the document unreadable, since ignoring a
//! restriction would lift it. If the schema number is above this version's, the error says so.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::record::{HasPassed, LegacyText, Rotated};
use super::{Environment, KeyRecord, Metadata, Principal, Restrictions, SecretOrigin, StoredKey};

use crate::codes::codes;

/// The schema that this version writes, and the newest that it can read.
const SCHEMA: u16 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    prefix: String,
    environment: String,
    restrictions: Restrictions,
    metadata: Map<String, Value>,
    origin: SecretOrigin,
    created_by: Principal,
    #[serde(with = "time::serde::rfc3339::option")]
    suspended_at: Option<OffsetDateTime>,
    // This makes the field mandatory: a document without it is damaged, and does not mean a key without a successor.
    #[serde(deserialize_with = "Option::deserialize")]
    rotation: Option<Rotated>,
    #[serde(rename = "foreign", deserialize_with = "Option::deserialize")]
    legacy: Option<LegacyText>,
}

impl KeyRecord {
    /// Encodes the record for a backend.
    ///
    /// # Errors
    /// [`EncodeError`] if the record is too large, or has an instant that RFC 3339 cannot write.
    pub fn encode(&self) -> Result<StoredKey, EncodeError> {
        let document = Document {
            prefix: self.prefix.clone().into(),
            environment: self.environment.as_str().to_owned(),
            restrictions: self.restrictions.clone(),
            metadata: self.metadata.as_object().clone(),
            origin: self.origin,
            created_by: self.created_by.clone(),
            suspended_at: self.suspended_at,
            rotation: self.rotation,
            legacy: self.legacy.clone(),
        };
        let document = serde_json::to_vec(&document).map_err(EncodeError::Unwritable)?;
        if document.len() > StoredKey::MAX_DOCUMENT_BYTES {
            return Err(EncodeError::TooLarge {
                bytes: document.len(),
            });
        }
        Ok(StoredKey {
            id: self.id,
            tenant: self.tenant.clone(),
            owner: self.owner.clone(),
            title: self.title.clone(),
            created_at: self.created_at,
            revocation: self.revocation.clone(),
            expires_at: self.restrictions.expires_at,
            predecessor: self.predecessor,
            lineage: self.lineage,
            digest: self.digest.clone(),
            revision: self.revision,
            schema: SCHEMA,
            document: document.into(),
            cutoff: self.cutoff,
        })
    }

    /// Decodes a record from a backend.
    ///
    /// # Errors
    /// [`DecodeError::TooNew`] if a later version of Keyward wrote it, [`DecodeError::Corrupt`] if it cannot be read.
    /// In both cases the key is neither granted nor reported as wrong.
    pub fn decode(stored: StoredKey) -> Result<Self, DecodeError> {
        let corrupt = || DecodeError::Corrupt { source: None };
        if stored.is_damaged() {
            return Err(corrupt());
        }
        if stored.schema > SCHEMA {
            return Err(DecodeError::TooNew {
                schema: stored.schema,
            });
        }
        if stored.schema == 0 || stored.document.len() > StoredKey::MAX_DOCUMENT_BYTES {
            return Err(corrupt());
        }
        let document: Document =
            serde_json::from_slice(&stored.document).map_err(|source| DecodeError::Corrupt {
                source: Some(source),
            })?;
        let environment = Environment::new(&document.environment).map_err(|_| corrupt())?;
        // The column repeats the document's field, so that backends can index it.
        if stored.expires_at != document.restrictions.expires_at {
            return Err(corrupt());
        }
        Ok(Self {
            id: stored.id,
            tenant: stored.tenant,
            owner: stored.owner,
            title: stored.title,
            prefix: document.prefix.into(),
            environment,
            restrictions: document.restrictions,
            metadata: Metadata::stored(document.metadata),
            origin: document.origin,
            digest: stored.digest,
            created_at: stored.created_at,
            created_by: document.created_by,
            suspended_at: document.suspended_at,
            revocation: stored.revocation,
            cutoff: stored.cutoff,
            predecessor: stored.predecessor,
            lineage: stored.lineage,
            rotation: document.rotation,
            legacy: document.legacy,
            revision: stored.revision,
            has_passed: HasPassed::default(),
        })
    }
}

/// Why a record cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The document would be larger than 512 KiB.
    #[error("the key's document has {bytes} bytes, more than 524,288")]
    TooLarge {
        /// The document's size in bytes.
        bytes: usize,
    },
    /// A field cannot be written, such as an instant outside the years 0000 to 9999.
    #[error("the key's document cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

codes! {
    EncodeError;
    Self::TooLarge { .. } => "too_large",
    Self::Unwritable(_) => "unwritable",
}

/// Why a stored key cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A later version of Keyward wrote the stored key.
    #[error("the stored key follows schema {schema}, newer than this version reads")]
    TooNew {
        /// The schema of the stored key.
        schema: u16,
    },
    /// The stored key is damaged.
    #[error("the stored key is damaged")]
    Corrupt {
        /// The error of the JSON parser; `None` if another check failed.
        #[source]
        source: Option<serde_json::Error>,
    },
}

codes! {
    DecodeError, inside "unreadable_";
    Self::TooNew { .. } => "too_new",
    Self::Corrupt { .. } => "corrupt",
}
