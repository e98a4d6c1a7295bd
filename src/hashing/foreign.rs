//! Keys that another system issued: how their texts are found, and how its digests are kept.
//!
//! The id of an imported key is derived from its text, under a pepper of its own: the id that stands inside, or
//! the digest by which the old system found it. A digest that another library made is kept behind a tag under the
//! same pepper, which binds it to environment and id as Keyward's own digests are: one that is copied to another
//! row, or planted, is found out before it is used. On its first use a key's digest is replaced by one of Keyward's.

mod digest;
mod hash;

pub use digest::{ForeignDigest, ForeignDigestError};

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{Argon2Params, Binding, HashingError, Pepper};
use crate::key::{
    Coverage, Digest, Environment, ForeignFormat, ForeignParts, KeyFormat, KeyId, KeyTextError,
    Lookup, PresentedKey, may_be_foreign,
};

const LOOKUP: &[u8] = b"keyward/lookup/v1";
const TAG: &[u8] = b"keyward/foreign-digest/v1";
const NAME: &str = "$keyward-foreign$v=1$";

/// Which keys of other systems are accepted, and the pepper under which they are found.
///
/// ```
/// use keyward::{hashing::{ForeignKeys, Pepper}, key::ForeignFormat};
///
/// # let lookup: Vec<u8> = (0..32).collect();
/// let foreign = ForeignKeys::under(Pepper::new(1, lookup)?).accept(ForeignFormat::sanctum());
/// # let _ = foreign;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ForeignKeys {
    lookup: Pepper,
    formats: Vec<ForeignFormat>,
    hmac_keys: Vec<(Box<str>, Arc<Hmac<Sha256>>)>,
}

impl ForeignKeys {
    /// None yet. Imported keys are found under this pepper, which therefore never changes: losing it, or
    /// opening with another one, loses them all. The store holds a check value of it.
    #[must_use]
    pub fn under(lookup: Pepper) -> Self {
        Self {
            lookup,
            formats: Vec::new(),
            hmac_keys: Vec::new(),
        }
    }

    /// Accepts texts of this format too. Where several formats could read a text, the one that was given first does.
    #[must_use]
    pub fn accept(mut self, format: ForeignFormat) -> Self {
        self.formats.push(format);
        self
    }

    /// The key under which another system made its HMAC-SHA-256 digests, by a name of the host's choice.
    ///
    /// # Errors
    /// [`ForeignDigestError::Key`] if the name is not 1 to 32 lower-case ASCII letters, digits and hyphens, or the
    /// key is empty.
    pub fn hmac_key(mut self, name: &str, key: &[u8]) -> Result<Self, ForeignDigestError> {
        if key.is_empty() || !digest::is_key_name(name) {
            return Err(ForeignDigestError::Key);
        }
        let keyed = Hmac::new_from_slice(key).map_err(|_| ForeignDigestError::Key)?;
        self.hmac_keys.push((name.into(), Arc::new(keyed)));
        Ok(self)
    }

    pub(crate) fn format(&self, name: &str) -> Option<&ForeignFormat> {
        self.formats.iter().find(|format| format.name() == name)
    }

    /// The first thing that cannot be as it was given.
    pub(crate) fn fault(&self) -> Option<String> {
        let formats = self.formats.iter().enumerate();
        for (index, format) in formats {
            let mut earlier = self.formats.iter().take(index);
            if earlier.any(|other| other.name() == format.name()) {
                return Some(format!(
                    "the foreign format `{}` is given twice",
                    format.name()
                ));
            }
            if let Lookup::HmacSha256 { key } = format.lookup()
                && self.hmac_key_named(key).is_none()
            {
                return Some(format!("there is no foreign key named `{key}`"));
            }
        }
        None
    }

    pub(super) fn check_value(&self) -> String {
        self.lookup.check_value()
    }

    fn hmac_key_named(&self, name: &str) -> Option<&Hmac<Sha256>> {
        let mut keys = self.hmac_keys.iter();
        keys.find(|(known, _)| **known == *name)
            .map(|(_, key)| &**key)
    }

    /// The id of the key with these parts; none if the digest that would name it cannot be made.
    pub(crate) fn id_of(&self, format: &ForeignFormat, parts: &ForeignParts<'_>) -> Option<KeyId> {
        if let Some(id) = parts.id {
            return Some(self.id_named(format, id.as_bytes()));
        }
        Some(match format.lookup() {
            Lookup::Sha256 => self.id_named(format, &Sha256::digest(parts.text)),
            Lookup::Sha512 => self.id_named(format, &Sha512::digest(parts.text)),
            Lookup::HmacSha256 { key } => {
                let mut mac = self.hmac_key_named(key)?.clone();
                mac.update(parts.text);
                self.id_named(format, &mac.finalize().into_bytes())
            }
        })
    }

    /// The id of the key that bears this id in a format with ids inside.
    pub(crate) fn id_of_id(&self, format: &ForeignFormat, id: &str) -> KeyId {
        self.id_named(format, id.as_bytes())
    }

    /// The id of the key that is displayed so.
    pub(crate) fn id_displayed_as(&self, shown: &str) -> Option<KeyId> {
        self.formats.iter().find_map(|format| {
            let id = format.id_displayed_as(shown)?;
            Some(self.id_of_id(format, id))
        })
    }

    /// The id of the key with this digest, where that is how its format finds a text.
    pub(crate) fn id_of_digest(
        &self,
        format: &ForeignFormat,
        digest: &ForeignDigest,
    ) -> Option<KeyId> {
        let name = digest.as_lookup(format.lookup())?;
        Some(self.id_named(format, name))
    }

    /// The first 128 bits of HMAC-SHA-256 under the pepper, of a domain tag, the format's name behind its length, and
    /// what names the key in it.
    fn id_named(&self, format: &ForeignFormat, named: &[u8]) -> KeyId {
        let mut mac = self.lookup.mac();
        mac.update(LOOKUP);
        let name = format.name().as_bytes();
        // A name has at most 32 characters.
        mac.update(&[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        mac.update(name);
        mac.update(named);
        let output: [u8; 32] = mac.finalize().into_bytes().into();
        let first: [u8; 16] = output.first_chunk().copied().unwrap_or_default();
        KeyId::from_u128(u128::from_be_bytes(first))
    }

    /// Writes a foreign digest as it is kept.
    pub(crate) fn keep(
        &self,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &ForeignDigest,
    ) -> Result<Digest, HashingError> {
        let covers = coverage_name(coverage);
        let text = digest.to_text();
        let tag = self.tag(binding, covers, &text);
        Digest::new(format!("{NAME}{covers}${tag}${text}")).map_err(|_| HashingError::Malformed)
    }

    /// Reads a foreign digest as it is kept, once its tag has shown that it belongs here.
    pub(super) fn read(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        most: Argon2Params,
    ) -> Result<(Coverage, ForeignDigest), HashingError> {
        let malformed = HashingError::Malformed;
        let mut parts = digest
            .expose()
            .strip_prefix(NAME)
            .unwrap_or_default()
            .splitn(3, '$');
        let (Some(covers), Some(tag), Some(text)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        let expected = self.tag(binding, covers, text);
        let is_ours: bool = expected.as_bytes().ct_eq(tag.as_bytes()).into();
        let coverage = [Coverage::Secret, Coverage::Text]
            .into_iter()
            .find(|coverage| coverage_name(*coverage) == covers);
        match coverage {
            Some(coverage) if is_ours => Ok((coverage, ForeignDigest::from_text(text, most)?)),
            _ => Err(malformed),
        }
    }

    fn tag(&self, binding: Binding<'_>, covers: &str, text: &str) -> String {
        let mut mac = self.lookup.mac();
        mac.update(TAG);
        binding.feed(|part| mac.update(part));
        mac.update(covers.as_bytes());
        mac.update(b"$");
        mac.update(text.as_bytes());
        digest::hex(&mac.finalize().into_bytes())
    }

    /// Whether the credential is what the digest was made of.
    pub(super) fn hash_for(
        &self,
        digest: &ForeignDigest,
    ) -> Result<Option<Hmac<Sha256>>, HashingError> {
        match digest.key_name() {
            None => Ok(None),
            Some(name) => match self.hmac_key_named(name) {
                Some(key) => Ok(Some(key.clone())),
                None => Err(HashingError::UnknownForeignKey { name: name.into() }),
            },
        }
    }
}

/// Whether the digest was made elsewhere.
pub(super) fn is_foreign(digest: &Digest) -> bool {
    digest.expose().starts_with(NAME)
}

const fn coverage_name(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Secret => "secret",
        Coverage::Text => "text",
    }
}

impl fmt::Debug for ForeignKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.hmac_keys.iter().map(|(name, _)| name);
        f.debug_struct("ForeignKeys")
            .field("lookup", &self.lookup)
            .field("formats", &self.formats)
            .field("hmac_keys", &names.collect::<Vec<_>>())
            .finish()
    }
}

/// What was presented, with the id of the key that it claims to be: of the application's format or a foreign one.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    pub(crate) id: KeyId,
    /// The environment that the text names, where it names one.
    pub(crate) environment: Option<&'a Environment>,
    /// What Keyward's own digests cover.
    pub(crate) secret: &'a [u8],
    /// All that came as one text; of a pair, the secret.
    pub(crate) text: &'a [u8],
    /// The foreign format that it is written in.
    pub(crate) foreign: Option<&'a str>,
}

impl<'a> Credential<'a> {
    /// Reads what was presented.
    ///
    /// # Errors
    /// [`KeyTextError`] if it is of no format that is accepted: what is wrong with it as one of the application's own.
    pub(crate) fn read(
        presented: PresentedKey<'a>,
        format: &'a KeyFormat,
        foreign: Option<&'a ForeignKeys>,
    ) -> Result<Self, KeyTextError> {
        let error = match format.parse_presented(presented) {
            Ok(parsed) => {
                let secret = parsed.expose_secret();
                return Ok(Self {
                    id: parsed.id(),
                    environment: parsed.environment(),
                    secret,
                    text: secret,
                    foreign: None,
                });
            }
            Err(error) => error,
        };
        let (Some(foreign), Some(text)) = (foreign, may_be_foreign(presented, format)) else {
            return Err(error);
        };
        let read = foreign.formats.iter().find_map(|format| {
            let parts = format.parse(text)?;
            Some(Self {
                id: foreign.id_of(format, &parts)?,
                environment: None,
                secret: parts.secret,
                text: parts.text,
                foreign: Some(format.name()),
            })
        });
        read.ok_or(error)
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("foreign", &self.foreign)
            .finish_non_exhaustive()
    }
}
