//! A presented credential, read and compared with a key's digest.
//!
//! `http/credentials.rs` finds the credential in a request, and `key/parse.rs` or `import.rs` parses its text.
//! `verifier.rs` decides on the key that it names. The cold path and explanations compare it with the stored digest;
//! the warm path compares tags.

use std::fmt;

use crate::hashing::{Hasher, HashingError, Possession, Purpose};
use crate::import::{self, ImportedKeys};
use crate::key::{
    Digest, Environment, KeyFormat, KeyId, KeyRecord, KeyTextError, PrefixIndex, PresentedKey,
};

/// A presented credential with the id of the key that it claims to be, in the application's own format or in a legacy
/// one.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    pub(crate) id: KeyId,
    /// The prefix of the text; `None` for a pair and for a legacy format.
    pub(crate) prefix: Option<PrefixIndex>,
    /// The environment in the text; `None` if the text names no environment.
    pub(crate) environment: Option<&'a Environment>,
    /// The part that Keyward's own digests cover.
    pub(crate) secret: &'a [u8],
    /// The part that tags cover, and imported digests if they cover a whole text: the text of a legacy key, and the
    /// secret of one of the application's own keys.
    pub(crate) text: &'a [u8],
    /// The name of the legacy format; `None` for the application's own format.
    pub(crate) legacy: Option<&'a str>,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("legacy", &self.legacy)
            .finish_non_exhaustive()
    }
}

/// Reads credentials and compares them with digests, Keyward's own and those of other systems.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) hasher: Hasher,
    /// The accepted keys of other systems, if any are configured.
    pub(crate) imported: Option<ImportedKeys>,
}

impl Credentials {
    /// Reads a presented credential, of this format or of an accepted legacy format.
    ///
    /// In the application's own format it checks the prefix, the environment's name, the length, each character and
    /// the checksum, before anything costs a hash or a read of the store.
    ///
    /// # Errors
    /// [`KeyTextError`] if no accepted format can read it: why the application's own format cannot.
    #[inline(always)]
    pub(crate) fn read<'a>(
        &'a self,
        presented: PresentedKey<'a>,
        format: &'a KeyFormat,
    ) -> Result<Credential<'a>, KeyTextError> {
        match format.parse_presented(presented) {
            Ok(parsed) => Ok(Credential {
                id: parsed.id(),
                prefix: parsed.prefix(),
                environment: parsed.environment(),
                secret: parsed.expose_secret(),
                text: parsed.expose_secret(),
                legacy: None,
            }),
            Err(error) => self.read_legacy(presented, format).ok_or(error),
        }
    }

    fn read_legacy<'a>(
        &'a self,
        presented: PresentedKey<'a>,
        own: &KeyFormat,
    ) -> Option<Credential<'a>> {
        let imported = self.imported.as_ref()?;
        let (format, id, parts) = imported.read(presented.whole_text()?, own)?;
        Some(Credential {
            id,
            prefix: None,
            environment: None,
            secret: parts.secret,
            text: parts.text,
            legacy: Some(format.name()),
        })
    }

    /// Returns the forms of the texts that could be keys.
    pub(crate) fn forms<'a>(&'a self, format: &'a KeyFormat) -> KeyForms<'a> {
        KeyForms {
            format,
            imported: self.imported.as_ref(),
        }
    }

    /// Compares a credential with a key's digest, in time that does not depend on where they differ.
    pub(crate) async fn verify(
        &self,
        record: &KeyRecord,
        credential: &Credential<'_>,
        purpose: Purpose,
    ) -> Result<Possession, HashingError> {
        match &self.imported {
            Some(imported) if import::is_legacy(record.digest()) => {
                let (secret, text) = (credential.secret, credential.text);
                let compared = imported.verify(&self.hasher, record, (secret, text), purpose);
                compared.await
            }
            _ => self.hasher.verify(record, credential.secret, purpose).await,
        }
    }

    /// Creates the replacement of a digest that ranks lower than the configured hashing, as every digest of another
    /// system does. `None`: it does not rank lower, or all permits for slow hashes are taken.
    ///
    /// The secret must have been proven against the record's digest. The work holds `turn` until it is done, even if
    /// the caller drops the future meanwhile.
    pub(crate) async fn improve(
        &self,
        record: &KeyRecord,
        secret: &[u8],
        turn: impl Send + 'static,
    ) -> Result<Option<Digest>, HashingError> {
        if import::is_legacy(record.digest()) {
            self.hasher.replace(record, secret, turn).await
        } else {
            self.hasher.improve(record, secret, turn).await
        }
    }

    /// Returns a name and a check value for each accepted pepper.
    pub(crate) fn pepper_checks(&self) -> impl Iterator<Item = (String, String)> {
        let lookup = self.imported.iter().map(ImportedKeys::pepper_check);
        self.hasher.pepper_checks().chain(lookup)
    }
}

/// The forms of the texts that could be keys. Nothing is hashed or looked up, and a text may be of two formats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyForms<'a> {
    pub(crate) format: &'a KeyFormat,
    pub(crate) imported: Option<&'a ImportedKeys>,
}

impl KeyForms<'_> {
    /// Returns whether the text could be a key of the application's own format, even if damaged.
    pub(crate) fn is_own(&self, text: &[u8]) -> bool {
        self.format.resembles(text)
    }

    /// Returns whether these could be the id and the secret of a key.
    pub(crate) fn is_pair(&self, id: &[u8], secret: &[u8]) -> bool {
        self.format.parse_pair(id, secret).is_ok()
    }

    /// Returns whether the text holds a key of the application's own format in any case, or most of one.
    pub(crate) fn are_in(&self, text: &[u8]) -> bool {
        self.format.is_in(text)
    }

    /// Returns whether the text is likely a key of an accepted format of another system, one with a prefix or a
    /// separator. `is_place_of_keys` says whether the place of the text makes a key likely.
    pub(crate) fn is_imported(&self, text: &[u8], is_place_of_keys: bool) -> bool {
        self.imported
            .is_some_and(|imported| imported.recognize(text, is_place_of_keys))
    }

    /// Returns the place of the first accepted format of another system that can read the text. `None` if none can.
    pub(crate) fn legacy_rank(&self, text: &[u8]) -> Option<usize> {
        self.imported?.rank(text, self.format)
    }
}
