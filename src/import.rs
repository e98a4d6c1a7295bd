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
#[cfg(feature = "legacy-digests")]
mod heavy;
mod imported_key;

pub use digest::LegacyDigest;
pub use error::{ImportError, LegacyError};
pub use format::LegacyFormat;
pub(crate) use format::{Coverage, LegacyParts};
pub use imported_key::ImportedKey;
pub(crate) use imported_key::{Identified, Kept};

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};

use self::encoding::hex;
use self::format::{Lookup, is_name};
use crate::hashing::{
    Argon2Params, Binding, Hasher, HashingError, Output, Pepper, Possession, Purpose,
};
use crate::key::{Digest, KeyFormat, KeyId, KeyRecord};

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
    hmac_keys: Vec<(Box<str>, Arc<Hmac<Sha256>>)>,
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
            hmac_keys: Vec::new(),
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

    /// Adds the key under which another system created its HMAC-SHA-256 digests, under a name of the host's choice.
    ///
    /// # Errors
    /// [`LegacyError::HmacKey`] if the name is not 1 to 32 lower-case ASCII letters, digits and hyphens, or the key
    /// is empty.
    pub fn hmac_key(mut self, name: &str, key: &[u8]) -> Result<Self, LegacyError> {
        if key.is_empty() || !is_name(name) {
            return Err(LegacyError::HmacKey);
        }
        let keyed = Hmac::new_from_slice(key).map_err(|_| LegacyError::HmacKey)?;
        self.hmac_keys.push((name.into(), Arc::new(keyed)));
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
        if own.resembles(text) {
            return None;
        }
        self.formats.iter().find_map(|format| {
            let parts = format.parse(text)?;
            Some((format, self.id_of(format, &parts)?, parts))
        })
    }

    /// Returns the place of the first format that can read a text, by its form alone. `None` if there is no such
    /// format, or the text could be of the application's own format.
    pub(crate) fn rank(&self, text: &[u8], own: &KeyFormat) -> Option<usize> {
        let mut formats = self.formats.iter();
        let rank = formats.position(|format| format.parse(text).is_some());
        rank.filter(|_| !own.resembles(text))
    }

    /// Returns the first contradiction; `None` if the configuration is consistent.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut names: Vec<_> = self.hmac_keys.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let mut pairs = names.iter().zip(names.iter().skip(1));
        if let Some((name, _)) = pairs.find(|(a, b)| a == b) {
            return Some(format!("the HMAC key `{name}` is given twice"));
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
            match format.lookup() {
                Lookup::HmacSha256 { key } if self.hmac_key_named(key).is_none() => {
                    return Some(format!("there is no HMAC key named `{key}`"));
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

    fn hmac_key_named(&self, name: &str) -> Option<&Hmac<Sha256>> {
        let mut keys = self.hmac_keys.iter();
        keys.find(|(known, _)| **known == *name)
            .map(|(_, key)| &**key)
    }

    /// Returns the id of the key with these parts; `None` if the HMAC key that is needed for it is missing.
    fn id_of(&self, format: &LegacyFormat, parts: &LegacyParts<'_>) -> Option<KeyId> {
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

    /// Encodes a legacy digest in the form that is stored until the key's first use; fails if its parameters are above
    /// the accepted limits.
    pub(crate) fn keep(
        &self,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &LegacyDigest,
        most: Argon2Params,
    ) -> Result<Digest, HashingError> {
        digest.check_bounds(most)?;
        self.mac_for(digest)?;
        let covers = coverage_name(coverage);
        let text = digest.to_text();
        let tag = self.tag(binding, covers, &text);
        let tag = tag.expose();
        Digest::new(format!("{NAME}{covers}${tag}${text}")).map_err(|_| HashingError::Malformed)
    }

    /// Returns whether the record's digest may come from this legacy digest. A digest that has since replaced it does
    /// not show its source, so the answer is then `true`.
    pub(crate) fn may_be_kept_as(
        &self,
        record: &KeyRecord,
        coverage: Coverage,
        digest: &LegacyDigest,
        most: Argon2Params,
    ) -> Result<bool, HashingError> {
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
        let mac = self.mac_for(&digest)?;
        let is_slow = digest.is_slow();
        let compare =
            move |presented: &[u8], memory: &mut _| digest.is_of(presented, mac, most, memory);
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

    /// Returns the keyed hash that the digest needs; `None` if it needs no key.
    fn mac_for(&self, digest: &LegacyDigest) -> Result<Option<Hmac<Sha256>>, HashingError> {
        match digest.key_name() {
            None => Ok(None),
            Some(name) => match self.hmac_key_named(name) {
                Some(key) => Ok(Some(key.clone())),
                None => Err(HashingError::UnknownHmacKey { name: name.into() }),
            },
        }
    }
}

/// Without the feature `legacy-digests`, a stored digest of a scheme that needs it is of an unknown algorithm.
#[cfg(not(feature = "legacy-digests"))]
mod heavy {
    use crate::hashing::HashingError;
    use crate::hashing::argon2id::Memory;

    #[derive(Clone)]
    pub(super) enum Heavy {}

    impl Heavy {
        pub(super) fn stored(_scheme: &str, _text: &str) -> Result<Self, HashingError> {
            Err(HashingError::UnknownAlgorithm)
        }

        pub(super) fn scheme(&self) -> &'static str {
            match *self {}
        }

        pub(super) fn text(&self) -> &str {
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
        let names = self.hmac_keys.iter().map(|(name, _)| name);
        f.debug_struct("ImportedKeys")
            .field("lookup", &self.lookup)
            .field("formats", &self.formats)
            .field("hmac_keys", &names.collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Environment;

    const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

    /// Answers from docs/format.md, computed by tests/fixtures/known_answers.py.
    const ANSWERS: &str = include_str!("../docs/format.md");

    fn answer(name: &str) -> &'static str {
        let line = ANSWERS.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap()
    }

    fn pepper() -> Pepper {
        Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap()
    }

    #[test]
    fn published_ids_and_digests_match() {
        let old = LegacyFormat::opaque("old").unwrap().prefix("sk_").unwrap();
        let imported = ImportedKeys::under(pepper())
            .accept(LegacyFormat::sanctum())
            .accept(old);
        let own = KeyFormat::new("acme").unwrap().environment("live").unwrap();
        let read = |text: &str| {
            let (format, id, _) = imported.read(text.as_bytes(), &own).unwrap();
            (id, format.name().to_owned())
        };
        let (id, format) = read(&format!("12|{SECRET}"));
        assert_eq!(
            (id.to_string().as_str(), format.as_str()),
            (answer("imported id "), "sanctum")
        );
        let (opaque, format) = read(&format!("sk_{SECRET}"));
        assert_eq!(
            (opaque.to_string().as_str(), format.as_str()),
            (answer("opaque id "), "old")
        );

        let environment = Environment::new("live").unwrap();
        let binding = Binding {
            environment: &environment,
            id,
        };
        let digest = hex(&Sha256::digest(SECRET));
        let digest = LegacyDigest::sha256(&digest).unwrap();
        let most = Argon2Params::MOST_OBEYED;
        let kept = imported.keep(binding, Coverage::Secret, &digest, most);
        let kept = kept.unwrap();
        assert_eq!(kept.expose(), answer("legacy digest "));
        let (coverage, read) = imported.decode(&kept, binding, most).unwrap();
        assert_eq!((coverage, read), (Coverage::Secret, digest));
    }

    #[test]
    fn kept_digests_bind_row_and_pepper() {
        let imported = ImportedKeys::under(pepper());
        let (live, test) = (
            Environment::new("live").unwrap(),
            Environment::new("test").unwrap(),
        );
        let binding = |environment, id| Binding {
            environment,
            id: KeyId::from_u128(id),
        };
        let digest = LegacyDigest::sha512(&"ab".repeat(64)).unwrap();
        let most = Argon2Params::MOST_OBEYED;
        let kept = imported.keep(binding(&live, 7), Coverage::Text, &digest, most);
        let kept = kept.unwrap();
        assert!(imported.decode(&kept, binding(&live, 7), most).is_ok());
        assert!(imported.decode(&kept, binding(&live, 8), most).is_err());
        assert!(imported.decode(&kept, binding(&test, 7), most).is_err());
        let other = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
        let other = ImportedKeys::under(other);
        assert!(other.decode(&kept, binding(&live, 7), most).is_err());
        let as_secret = Digest::new(kept.expose().replace("$text$", "$secret$")).unwrap();
        assert!(
            imported
                .decode(&as_secret, binding(&live, 7), most)
                .is_err()
        );
    }

    #[test]
    fn invalid_settings_fail_at_opening() {
        let by_mac = LegacyFormat::opaque("a").unwrap().found_by_hmac_sha256("k");
        let keys = ImportedKeys::under(pepper()).accept(by_mac);
        assert!(keys.fault().unwrap().contains("`k`"));
        let keys = keys.hmac_key("k", b"key").unwrap();
        assert_eq!(keys.fault(), None);
        let again = keys.accept(LegacyFormat::opaque("a").unwrap());
        assert!(again.fault().unwrap().contains("twice"));
        let keys = ImportedKeys::under(pepper());
        let twice = keys.clone().hmac_key("k", b"a").unwrap();
        assert!(
            twice
                .hmac_key("k", b"b")
                .unwrap()
                .fault()
                .unwrap()
                .contains("twice")
        );
        assert!(keys.clone().hmac_key("K", b"key").is_err());
        assert!(keys.hmac_key("k", b"").is_err());
    }
}
