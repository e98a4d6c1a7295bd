//! Keys that another system issued: their texts, their digests, and importing them.
//!
//! [`KeyManager::import`](crate::manager::KeyManager::import) takes an [`ImportedKey`]. Keyward accepts its text once
//! the [`LegacyFormat`] is configured by [`Builder::imported_keys`](crate::Builder::imported_keys). The guide
//! [Migrating to Keyward](crate::manual::migrating) covers each case.
//!
//! The id of an imported key is derived, under a pepper of its own, from the id inside its text or from the digest by
//! which the old system found the text. Another library's digest is stored after a tag under the same pepper. The tag
//! binds it to environment and id, as with Keyward's own digests: a digest that is copied to another row, or planted,
//! is detected before it is used. On a key's first use, one of Keyward's digests replaces it.

mod digest;
mod encoding;
mod error;
mod format;
mod hash;
#[cfg(feature = "legacy-digests")]
mod heavy;
mod imported_key;

pub use digest::LegacyDigest;
pub use error::{ImportError, LegacyError};
pub use format::LegacyFormat;
pub(crate) use format::{Coverage, LegacyParts};
pub use hash::LegacyHash;
pub use imported_key::ImportedKey;
pub(crate) use imported_key::{Identified, Kept};

use std::fmt;
use std::sync::Arc;

use hmac::Mac;
use zeroize::Zeroizing;

use self::encoding::hex;
use self::format::is_name;
use crate::hashing::{
    Argon2Params, Binding, Hasher, HashingError, Output, Pepper, Possession, Purpose,
};
use crate::key::{Digest, KeyFormat, KeyId, KeyRecord};

/// A secret of another system's site.
type SharedSecret = Arc<Zeroizing<Vec<u8>>>;

const LOOKUP: &[u8] = b"keyward/lookup/v1";
const TAG: &[u8] = b"keyward/foreign-digest/v1";
const NAME: &str = "$keyward-foreign$v=1$";

/// The accepted legacy formats, and the pepper under which imported keys are found.
///
/// ```
/// use keyward::{hashing::Pepper, import::{ImportedKeys, LegacyFormat}};
///
/// # let lookup: Vec<u8> = (0..32).collect();
/// let imported = ImportedKeys::under(Pepper::new(1, lookup)?).accept(LegacyFormat::sanctum());
/// # let _ = imported;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ImportedKeys {
    lookup: Pepper,
    formats: Vec<LegacyFormat>,
    site_secrets: Vec<(Box<str>, SharedSecret)>,
}

impl ImportedKeys {
    /// Creates a configuration without formats, which finds imported keys under this pepper.
    ///
    /// The pepper must never change: losing it, or opening with another one, loses all imported keys. The store holds
    /// a check value of it.
    #[must_use]
    pub fn under(lookup: Pepper) -> Self {
        Self {
            lookup,
            formats: Vec::new(),
            site_secrets: Vec::new(),
        }
    }

    /// Accepts texts of this format too.
    ///
    /// If several formats can read a text, the format that was given first reads it.
    #[must_use]
    pub fn accept(mut self, format: LegacyFormat) -> Self {
        self.formats.push(format);
        self
    }

    /// Adds a secret with which another system made its digests, under a name of the host's choice: the key of its
    /// HMAC, or the salt of the site that it hashed before or after each token.
    ///
    /// A [`LegacyHash`] names it. The store keeps the name and never the secret.
    ///
    /// # Errors
    /// [`LegacyError::SiteSecret`] if the name is not 1 to 32 lower-case ASCII letters, digits and hyphens, or the
    /// secret is empty.
    pub fn site_secret(
        mut self,
        name: &str,
        secret: impl Into<Vec<u8>>,
    ) -> Result<Self, LegacyError> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() || !is_name(name) {
            return Err(LegacyError::SiteSecret);
        }
        self.site_secrets.push((name.into(), Arc::new(secret)));
        Ok(self)
    }

    /// Finds the format of this name.
    fn format(&self, name: &str) -> Result<&LegacyFormat, ImportError> {
        let mut formats = self.formats.iter();
        let format = formats.find(|format| format.name() == name);
        format.ok_or(ImportError::UnknownFormat)
    }

    /// Reads a text by the first format that can read it, and returns the id of its key. `None` if there is no such
    /// format, or the text could be of the application's own format.
    pub(crate) fn read<'a>(
        &self,
        text: &'a [u8],
        own: &KeyFormat,
    ) -> Option<(&LegacyFormat, KeyId, LegacyParts<'a>)> {
        let (format, parts) = self.parse(text, own)?;
        Some((format, self.id_of(format, &parts)?, parts))
    }

    /// Splits a text by the first format that can read it.
    fn parse<'a>(
        &self,
        text: &'a [u8],
        own: &KeyFormat,
    ) -> Option<(&LegacyFormat, LegacyParts<'a>)> {
        // No damaged key of the application's own is taken for a legacy one, unless a format has texts like these only.
        let resembles = own.resembles(text);
        self.formats.iter().find_map(|format| {
            if resembles && !format.begins_as(own) {
                return None;
            }
            Some((format, format.parse(text)?))
        })
    }

    /// Returns the place of the first format that can read a text, by its form alone. `None` if there is no such
    /// format, or the text could be of the application's own format.
    pub(crate) fn rank(&self, text: &[u8], own: &KeyFormat) -> Option<usize> {
        let mut formats = self.formats.iter();
        let rank = formats.position(|format| format.parse(text).is_some());
        rank.filter(|_| !own.resembles(text))
    }

    /// Returns whether a format with a prefix or a separator can read the text, and nothing else is likely to be such a
    /// text. `is_place_of_keys` says whether the place of the text makes a key likely.
    pub(crate) fn recognize(&self, text: &[u8], is_place_of_keys: bool) -> bool {
        let mut formats = self.formats.iter();
        formats.any(|format| format.recognizes(text, is_place_of_keys))
    }

    /// Returns the first contradiction; `None` if the configuration is consistent.
    pub(crate) fn fault(&self, own: &KeyFormat) -> Option<String> {
        let mut names: Vec<_> = self.site_secrets.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let mut pairs = names.iter().zip(names.iter().skip(1));
        if let Some((name, _)) = pairs.find(|(a, b)| a == b) {
            return Some(format!("the site secret `{name}` is given twice"));
        }
        let formats = self.formats.iter().enumerate();
        for (index, format) in formats {
            let mut earlier = self.formats.iter().take(index);
            if earlier.any(|other| other.name() == format.name()) {
                return Some(format!(
                    "the legacy format `{}` is given twice",
                    format.name()
                ));
            }
            if let Some(length) = format.confusable_length(own) {
                return Some(format!(
                    "the texts of the legacy format `{}` begin as the application's own keys and can be as long, \
                     {length} characters: set its `secret_length` to the lengths that the old generator made",
                    format.name()
                ));
            }
            let (name, hash) = (format.name(), format.lookup());
            if !hash.function().is_available() {
                return Some(format!(
                    "the legacy format `{name}` needs the feature `legacy-digests`"
                ));
            }
            match hash.site_secret() {
                // The name is not shown: it may be the secret itself, given by mistake.
                Some(secret) if !is_name(secret) => {
                    return Some(format!(
                        "the legacy format `{name}` names a site secret that is not 1 to 32 lower-case letters, \
                         digits and hyphens"
                    ));
                }
                Some(secret) if self.site_secret_named(secret).is_none() => {
                    return Some(format!(
                        "the legacy format `{name}` needs a site secret named `{secret}`"
                    ));
                }
                _ => {}
            }
        }
        None
    }

    /// Returns a name and a check value for the lookup pepper.
    pub(crate) fn pepper_check(&self) -> (String, String) {
        ("pepper.lookup".to_owned(), self.lookup.check_value())
    }

    fn site_secret_named(&self, name: &str) -> Option<&SharedSecret> {
        let mut secrets = self.site_secrets.iter();
        secrets
            .find(|(known, _)| **known == *name)
            .map(|(_, secret)| secret)
    }

    /// Returns the id of the key with these parts; `None` if the site secret that is needed for it is missing.
    fn id_of(&self, format: &LegacyFormat, parts: &LegacyParts<'_>) -> Option<KeyId> {
        if let Some(id) = parts.id {
            return Some(self.id_named(format, id.as_bytes()));
        }
        let hash = format.lookup();
        let secret: &[u8] = match hash.site_secret() {
            Some(name) => self.site_secret_named(name)?,
            None => b"",
        };
        Some(self.id_named(format, &hash.of(parts.text, secret)?))
    }

    /// Returns the id of the key with this id in a format with ids inside.
    fn id_of_id(&self, format: &LegacyFormat, id: &str) -> Result<KeyId, ImportError> {
        if !format.has_id() || !format.is_id(id) {
            return Err(ImportError::Id);
        }
        Ok(self.id_named(format, id.as_bytes()))
    }

    /// Returns the id of the key with this id in the format of this name.
    pub(crate) fn id_in(&self, format: &str, id: &str) -> Result<KeyId, ImportError> {
        self.id_of_id(self.format(format)?, id)
    }

    /// Returns the id of the key with this digest; `None` if its format does not find texts by such a digest.
    fn id_of_digest(&self, format: &LegacyFormat, digest: &LegacyDigest) -> Option<KeyId> {
        let name = digest.as_lookup(format.lookup())?;
        Some(self.id_named(format, name))
    }

    /// Derives an id: the first 128 bits of HMAC-SHA-256 under the pepper, of a domain tag, the format's name after
    /// its length, and the key's name within the format.
    fn id_named(&self, format: &LegacyFormat, named: &[u8]) -> KeyId {
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

    /// Encodes a legacy digest in the form that is stored until the key's first use.
    ///
    /// # Errors
    /// [`ImportError`] if no key could be verified with it here.
    pub(crate) fn keep(
        &self,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &LegacyDigest,
        most: Argon2Params,
    ) -> Result<Digest, ImportError> {
        digest.check_bounds(most)?;
        self.secret_for(digest)
            .map_err(|name| ImportError::UnknownSiteSecret { name })?;
        let covers = coverage_name(coverage);
        let text = digest.to_text();
        let tag = self.tag(binding, covers, &text);
        let tag = tag.expose();
        Digest::new(format!("{NAME}{covers}${tag}${text}")).map_err(|_| ImportError::Unverifiable {
            reason: "its digest is too long to be stored",
        })
    }

    /// Returns whether the record's digest may come from this legacy digest. A digest that has since replaced it does
    /// not show its source, so the answer is then `true`.
    pub(crate) fn may_be_kept_as(
        &self,
        record: &KeyRecord,
        coverage: Coverage,
        digest: &LegacyDigest,
        most: Argon2Params,
    ) -> Result<bool, ImportError> {
        let kept = record.digest();
        Ok(!is_legacy(kept) || self.keep(Binding::of(record), coverage, digest, most)? == *kept)
    }

    /// Compares a presented secret, or the whole text, with a key's legacy digest.
    pub(crate) async fn verify(
        &self,
        hasher: &Hasher,
        record: &KeyRecord,
        (secret, text): (&[u8], &[u8]),
        purpose: Purpose,
    ) -> Result<Possession, HashingError> {
        let most = hasher.most_obeyed();
        let (coverage, digest) = self.decode(record.digest(), Binding::of(record), most)?;
        let presented = match coverage {
            Coverage::Secret => secret,
            Coverage::Text => text,
        };
        let secret = self
            .secret_for(&digest)
            .map_err(|name| HashingError::UnknownSiteSecret { name })?
            .cloned();
        let is_slow = digest.is_slow();
        let compare = move |presented: &[u8], memory: &mut _| {
            let secret = secret.as_ref().map(|secret| secret.as_slice());
            digest.is_of(presented, secret.unwrap_or_default(), most, memory)
        };
        let compared = hasher.verify_by(record, presented, purpose, is_slow, compare);
        compared.await
    }

    /// Decodes a stored legacy digest, after its tag has shown that it belongs to this key.
    fn decode(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        most: Argon2Params,
    ) -> Result<(Coverage, LegacyDigest), HashingError> {
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
        let is_ours = expected.is(tag.as_bytes());
        let coverage = [Coverage::Secret, Coverage::Text]
            .into_iter()
            .find(|coverage| coverage_name(*coverage) == covers);
        match coverage {
            Some(coverage) if is_ours => Ok((coverage, LegacyDigest::from_text(text, most)?)),
            _ => Err(malformed),
        }
    }

    fn tag(&self, binding: Binding<'_>, covers: &str, text: &str) -> Output<String> {
        let mut mac = self.lookup.mac();
        mac.update(TAG);
        binding.feed(|part| mac.update(part));
        mac.update(covers.as_bytes());
        mac.update(b"$");
        mac.update(text.as_bytes());
        Output::new(hex(&mac.finalize().into_bytes()))
    }

    /// Returns the site secret that the digest needs; `None` if it needs none.
    ///
    /// # Errors
    /// The name of the secret, if it is not configured.
    fn secret_for(&self, digest: &LegacyDigest) -> Result<Option<&SharedSecret>, Box<str>> {
        let Some(name) = digest.site_secret() else {
            return Ok(None);
        };
        let secret = self.site_secret_named(name);
        secret.map(Some).ok_or_else(|| name.into())
    }
}

/// Without the feature `legacy-digests`, no digest of a scheme that needs it can be made, and a stored one is of an
/// unknown algorithm.
#[cfg(not(feature = "legacy-digests"))]
mod heavy {
    use super::LegacyError;
    use crate::hashing::HashingError;
    use crate::hashing::argon2id::Memory;

    #[derive(Clone)]
    pub(super) enum Heavy {}

    impl Heavy {
        pub(super) fn stored(_scheme: &str, _text: &str) -> Result<Self, HashingError> {
            Err(HashingError::UnknownAlgorithm)
        }

        pub(super) fn bcrypt(_: &str) -> Result<Self, LegacyError> {
            Err(LegacyError::NeedsFeature { scheme: "bcrypt" })
        }

        pub(super) fn django(_: &str) -> Result<Self, LegacyError> {
            let scheme = "Django's hashers except Argon2";
            Err(LegacyError::NeedsFeature { scheme })
        }

        pub(super) fn passlib(_: &str) -> Result<Self, LegacyError> {
            let scheme = "passlib except Argon2";
            Err(LegacyError::NeedsFeature { scheme })
        }

        pub(super) fn werkzeug(_: &str) -> Result<Self, LegacyError> {
            let scheme = "Werkzeug's PBKDF2 and scrypt";
            Err(LegacyError::NeedsFeature { scheme })
        }

        pub(super) fn scheme(&self) -> &'static str {
            match *self {}
        }

        pub(super) fn text(&self) -> &str {
            match *self {}
        }

        pub(super) fn most_bytes(&self) -> Option<usize> {
            match *self {}
        }

        pub(super) fn is_of(&self, _: &[u8], _: &mut Memory) -> Result<bool, HashingError> {
            match *self {}
        }
    }
}

/// Returns whether another library created the digest.
pub(crate) fn is_legacy(digest: &Digest) -> bool {
    digest.expose().starts_with(NAME)
}

const fn coverage_name(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Secret => "secret",
        Coverage::Text => "text",
    }
}

impl fmt::Debug for ImportedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.site_secrets.iter().map(|(name, _)| name);
        f.debug_struct("ImportedKeys")
            .field("lookup", &self.lookup)
            .field("formats", &self.formats)
            .field("site_secrets", &names.collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests;
