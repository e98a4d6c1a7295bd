//! A key that another system issued, to be imported.

use std::fmt;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Coverage, ImportError, ImportedKeys, LegacyDigest, LegacyFormat, LegacyParts};
use crate::key::{KeyFormat, KeyId, LegacyText, Timestamp, instant_of};

/// A key that another system issued: its text or digest, and how strong its secret is.
///
/// The guide [Migrating to Keyward](crate::manual::migrating) covers each case.
///
/// ```
/// use keyward::import::{ImportedKey, LegacyDigest};
///
/// # let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
/// // A row of Sanctum's table: the client's text `12|x7Hq…` is not known, only the digest of what follows the bar.
/// let key = ImportedKey::digest("sanctum", "12", LegacyDigest::sha256(sha256)?).entropy_bits(238);
/// # let _ = key;
/// # Ok::<(), keyward::import::LegacyError>(())
/// ```
#[derive(Clone)]
pub struct ImportedKey {
    form: ImportedForm,
    pub(crate) entropy_bits: Option<u16>,
    pub(crate) issued_at: Option<OffsetDateTime>,
}

#[derive(Clone)]
enum ImportedForm {
    /// The whole text, as the client sends it.
    Text {
        format: Box<str>,
        text: Zeroizing<Vec<u8>>,
    },
    /// The id inside the text, and a digest.
    Digest {
        format: Box<str>,
        id: Box<str>,
        digest: LegacyDigest,
    },
    /// A digest by which the key is found.
    OpaqueDigest {
        format: Box<str>,
        digest: LegacyDigest,
    },
    /// A key of two values, with an id like Keyward's own.
    Pair {
        id: KeyId,
        secret: Zeroizing<Vec<u8>>,
    },
    PairDigest {
        id: KeyId,
        digest: LegacyDigest,
    },
}

impl ImportedKey {
    /// Describes a key by its whole text, of the [legacy format](LegacyFormat) of this name.
    #[must_use]
    pub fn text(format: &str, text: impl Into<Vec<u8>>) -> Self {
        Self::of(ImportedForm::Text {
            format: format.into(),
            text: Zeroizing::new(text.into()),
        })
    }

    /// Describes a key by its id and a digest, of a format with ids inside.
    #[must_use]
    pub fn digest(format: &str, id: &str, digest: LegacyDigest) -> Self {
        Self::of(ImportedForm::Digest {
            format: format.into(),
            id: id.into(),
            digest,
        })
    }

    /// Describes a key by its digest alone, of a format without ids inside.
    ///
    /// The digest must be the one by which the format finds the key. A salted digest finds nothing: such a key needs
    /// an id, or its text.
    #[must_use]
    pub fn opaque_digest(format: &str, digest: LegacyDigest) -> Self {
        Self::of(ImportedForm::OpaqueDigest {
            format: format.into(),
            digest,
        })
    }

    /// Describes a key of two values, an id of 36 characters and a secret of the length of the application's own
    /// format.
    #[must_use]
    pub fn pair(id: KeyId, secret: impl Into<Vec<u8>>) -> Self {
        Self::of(ImportedForm::Pair {
            id,
            secret: Zeroizing::new(secret.into()),
        })
    }

    /// Describes a key of two values by its id and a digest of its secret, as [`pair`](Self::pair).
    #[must_use]
    pub fn pair_digest(id: KeyId, digest: LegacyDigest) -> Self {
        Self::of(ImportedForm::PairDigest { id, digest })
    }

    fn of(form: ImportedForm) -> Self {
        Self {
            form,
            entropy_bits: None,
            issued_at: None,
        }
    }

    /// Declares the entropy of the secret, in bits: the randomness that its generator drew, such as 238 for 40 random
    /// letters and digits. From 112 bits on, the secret is kept under a fast hash. Undeclared, it counts as weak and
    /// is kept under Argon2id.
    ///
    /// # Security
    /// Keyward cannot check the number. If a secret that can be guessed is declared strong, it can be guessed from a
    /// stolen backup.
    #[must_use]
    pub fn entropy_bits(mut self, bits: u16) -> Self {
        self.entropy_bits = Some(bits);
        self
    }

    /// Returns the name of the key's legacy format. `None` for a key of two values.
    #[must_use]
    pub fn format(&self) -> Option<&str> {
        match &self.form {
            ImportedForm::Text { format, .. }
            | ImportedForm::Digest { format, .. }
            | ImportedForm::OpaqueDigest { format, .. } => Some(format),
            ImportedForm::Pair { .. } | ImportedForm::PairDigest { .. } => None,
        }
    }

    /// Sets the instant at which the key was issued, from which its age counts. By default its age counts from the
    /// import.
    #[must_use]
    pub fn issued_at(mut self, instant: impl Into<Timestamp>) -> Self {
        self.issued_at = Some(instant_of(instant));
        self
    }

    /// Finds the id of the key, and the part of it from which its stored digest is made.
    pub(crate) fn identify<'a>(
        &'a self,
        own: &KeyFormat,
        imported: Option<&'a ImportedKeys>,
    ) -> Result<Identified<'a>, ImportError> {
        let imported = imported.ok_or(ImportError::NotAccepted);
        let (id, legacy, kept) = match &self.form {
            ImportedForm::Text { format, text } => {
                let imported = imported?;
                let format = imported.format(format)?;
                let (id, parts) = read_as(format, text, own, imported)?;
                let kept = Kept::Secret {
                    secret: parts.secret,
                    text: parts.text,
                };
                (id, Some(shown(format, parts.id)), kept)
            }
            ImportedForm::Digest { format, id, digest } => {
                let imported = imported?;
                let format = imported.format(format)?;
                let key_id = imported.id_of_id(format, id)?;
                check_readable(format, Some(id), own, imported)?;
                check_reach(digest, format.least_covered(Some(id)))?;
                let kept = Kept::Digest(imported, format.coverage(), digest);
                (key_id, Some(shown(format, Some(id))), kept)
            }
            ImportedForm::OpaqueDigest { format, digest } => {
                let imported = imported?;
                let format = imported.format(format)?;
                if format.has_id() {
                    return Err(ImportError::Id);
                }
                check_readable(format, None, own, imported)?;
                let id = imported.id_of_digest(format, digest);
                let id = id.ok_or(ImportError::Unfindable)?;
                let kept = Kept::Digest(imported, format.coverage(), digest);
                (id, Some(shown(format, None)), kept)
            }
            ImportedForm::Pair { id, secret } => {
                let parsed = own.parse_pair(id.to_string().as_bytes(), secret);
                parsed.map_err(|_| ImportError::Text)?;
                let text = secret;
                (*id, None, Kept::Secret { secret, text })
            }
            ImportedForm::PairDigest { id, digest } => {
                check_reach(digest, own.secret_characters())?;
                (*id, None, Kept::Digest(imported?, Coverage::Secret, digest))
            }
        };
        Ok(Identified { id, legacy, kept })
    }
}

/// A key to import, as Keyward finds it.
pub(crate) struct Identified<'a> {
    pub(crate) id: KeyId,
    pub(crate) legacy: Option<LegacyText>,
    pub(crate) kept: Kept<'a>,
}

/// The part of an imported key from which its stored digest is made.
pub(crate) enum Kept<'a> {
    Secret {
        secret: &'a [u8],
        /// The whole text of a key that is sent as one text; the secret of a pair.
        text: &'a [u8],
    },
    Digest(&'a ImportedKeys, Coverage, &'a LegacyDigest),
}

/// Reads a text by the format that will read it when a client sends it, which must be this one.
fn read_as<'a>(
    format: &LegacyFormat,
    text: &'a [u8],
    own: &KeyFormat,
    imported: &ImportedKeys,
) -> Result<(KeyId, LegacyParts<'a>), ImportError> {
    match imported.read(text, own) {
        Some((read, id, parts)) if read.name() == format.name() => Ok((id, parts)),
        Some(_) => Err(ImportError::OtherFormat),
        None if own.resembles(text) => Err(ImportError::OwnFormat),
        None => Err(ImportError::Text),
    }
}

/// Checks that the format will read the key's text when a client sends it: a text of each length that it can have.
fn check_readable(
    format: &LegacyFormat,
    id: Option<&str>,
    own: &KeyFormat,
    imported: &ImportedKeys,
) -> Result<(), ImportError> {
    let (sample, lengths) = format.sample(id);
    if lengths.is_empty() {
        let reason = "its text would have more than 256 characters";
        return Err(ImportError::Unverifiable { reason });
    }
    for text in lengths.filter_map(|length| sample.as_bytes().get(..length)) {
        match imported.parse(text, own) {
            Some((read, _)) if read.name() == format.name() => {}
            None if own.resembles(text) => return Err(ImportError::OwnFormat),
            _ => return Err(ImportError::OtherFormat),
        }
    }
    Ok(())
}

/// Checks that the digest's scheme reads as many bytes as the shortest secret has.
fn check_reach(digest: &LegacyDigest, least: usize) -> Result<(), ImportError> {
    match digest.most_bytes() {
        Some(most) if least > most => Err(ImportError::Unverifiable {
            reason: "bcrypt reads 72 bytes, and the secrets of its format are longer",
        }),
        _ => Ok(()),
    }
}

fn shown(format: &LegacyFormat, id: Option<&str>) -> LegacyText {
    LegacyText {
        format: format.name().into(),
        shown: format.shown(id).into(),
    }
}

/// Omits the secret and the digest.
impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match &self.form {
            ImportedForm::Text { .. } => "text",
            ImportedForm::Digest { .. } => "digest",
            ImportedForm::OpaqueDigest { .. } => "opaque digest",
            ImportedForm::Pair { .. } => "pair",
            ImportedForm::PairDigest { .. } => "digest of a pair",
        };
        f.debug_struct("ImportedKey")
            .field("form", &form)
            .field("entropy_bits", &self.entropy_bits)
            .field("issued_at", &self.issued_at)
            .finish()
    }
}
