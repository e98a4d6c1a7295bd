//! The single description of an application's key text.
//!
//! The generator, the parser, the display prefix, the pattern for secret scanners and the redactor all derive from it,
//! so that they cannot disagree. `docs/format.md` describes the format for implementers in other languages.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{ApiKey, KeyId, Redactor, Secret, base62};
use crate::codes::codes;
use crate::random::{RandomError, RandomSource};

/// Characters of the id in the display prefix: 47 random bits, enough to tell keys apart.
pub(super) const DISPLAYED_ID_DIGITS: usize = 8;

/// Digits after the head that are not the secret's: those of the id and the checksum.
pub(super) const OVERHEAD: usize = base62::ID_DIGITS + base62::CHECKSUM_DIGITS;

const MAX_NAME: usize = 16;
const MAX_ACCEPTED: usize = 16;
const DEFAULT_SECRET_LENGTH: usize = 43;

/// The format of an application's key texts: `{prefix}_{environment}_{id}{secret}{checksum}`.
///
/// ```
/// use keyward::key::KeyFormat;
///
/// let format = KeyFormat::new("acme")?.environment("live")?;
/// assert_eq!(format.scanner_pattern(), r"\bacme_(?:live)_[0-9A-Za-z]{71}\b");
/// # Ok::<(), keyward::key::FormatError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFormat {
    prefix: KeyPrefix,
    /// Never empty; each environment with its head, `{prefix}_{environment}_`.
    environments: Vec<(Environment, Box<str>)>,
    /// Prefixes that are accepted, and not issued.
    accepted: Vec<KeyPrefix>,
    /// Each environment with its head under each of those prefixes.
    accepted_heads: Vec<Head>,
    secret_length: usize,
}

/// The beginning of a key text, `{prefix}_{environment}_`, with a prefix that is accepted and not issued.
#[derive(Clone, PartialEq, Eq)]
struct Head {
    prefix: PrefixIndex,
    environment: Environment,
    text: Box<str>,
}

/// One of a format's prefixes: 0 for the one that it issues, then those that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrefixIndex(u8);

impl PrefixIndex {
    pub(super) const ISSUED: Self = Self(0);
    /// The index of no prefix of the format.
    pub(crate) const NONE: Self = Self(u8::MAX);
}

impl KeyFormat {
    /// Starts a format with the prefix of all the application's keys, such as `acme`.
    ///
    /// The format is complete once it has an [`environment`](KeyPrefix::environment).
    ///
    /// # Errors
    /// [`FormatError::Name`] unless the prefix is 2 to 16 lower-case ASCII letters and digits that start with a
    /// letter.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a format without an environment could neither issue nor accept a key"
    )]
    pub fn new(prefix: &str) -> Result<KeyPrefix, FormatError> {
        if prefix.len() < 2 || !is_name(prefix) {
            return Err(FormatError::Name {
                part: "prefix",
                least: 2,
            });
        }
        Ok(KeyPrefix(prefix.into()))
    }

    /// Accepts another environment.
    ///
    /// Keys are issued for the first environment unless the caller asks for another.
    ///
    /// # Errors
    /// [`FormatError::Name`] unless the name is 1 to 16 lower-case ASCII letters and digits that start with a letter,
    /// [`FormatError::Repeated`] if the format has it already.
    pub fn environment(mut self, name: &str) -> Result<Self, FormatError> {
        let environment = Environment::new(name)?;
        if self.environments().any(|known| *known == environment) {
            return Err(FormatError::Repeated);
        }
        self.environments.push(self.prefix.head(environment));
        self.compose_accepted_heads();
        Ok(self)
    }

    /// Accepts keys with this prefix too, without issuing any: the one before a change of prefix, or the next one.
    ///
    /// A key goes on in the text that its client has. Redactors and the scanner pattern find keys of either prefix, and
    /// [`rotate`](crate::manager::KeyManager::rotate) gives a key a successor with the prefix that is issued. To change
    /// a prefix, roll it out as a pepper: first every node accepts the new one, then every node issues it and accepts
    /// the old one.
    ///
    /// An environment is renamed by declaring both names, the new one first. Keys of the two are keys of different
    /// environments, because digests bind the name.
    ///
    /// ```
    /// use keyward::key::KeyFormat;
    ///
    /// let first = KeyFormat::new("acme")?.environment("live")?.accept_prefix("beta")?;
    /// let then = KeyFormat::new("beta")?.environment("live")?.accept_prefix("acme")?;
    /// assert_eq!(then.scanner_pattern(), r"\b(?:beta|acme)_(?:live)_[0-9A-Za-z]{71}\b");
    /// # let _ = first;
    /// # Ok::<(), keyward::key::FormatError>(())
    /// ```
    ///
    /// # Errors
    /// [`FormatError::Name`] as [`new`](Self::new), [`FormatError::Repeated`] if it is the format's prefix or accepted
    /// already, [`FormatError::TooManyPrefixes`] beyond 16.
    pub fn accept_prefix(mut self, prefix: &str) -> Result<Self, FormatError> {
        let accepted = Self::new(prefix)?;
        if self.prefixes().any(|known| known == prefix) {
            return Err(FormatError::Repeated);
        }
        if self.accepted.len() >= MAX_ACCEPTED {
            return Err(FormatError::TooManyPrefixes);
        }
        self.accepted.push(accepted);
        self.compose_accepted_heads();
        Ok(self)
    }

    fn compose_accepted_heads(&mut self) {
        let indexed = (1_u8..).map(PrefixIndex).zip(&self.accepted);
        self.accepted_heads = indexed
            .flat_map(|(index, prefix)| {
                self.environments.iter().map(move |(environment, _)| {
                    let (environment, text) = prefix.head(environment.clone());
                    Head {
                        prefix: index,
                        environment,
                        text,
                    }
                })
            })
            .collect();
    }

    /// Sets the length of the secret in characters: 22 to 128, by default 43 (256 bits).
    ///
    /// Keys with secrets of another length do not match the format, so a change orphans all keys that were issued
    /// before.
    ///
    /// # Errors
    /// [`FormatError::SecretLength`] if the length is out of these bounds.
    pub fn secret_length(mut self, length: usize) -> Result<Self, FormatError> {
        if !(Secret::MIN_LENGTH..=Secret::MAX_LENGTH).contains(&length) {
            return Err(FormatError::SecretLength { length });
        }
        self.secret_length = length;
        Ok(self)
    }

    /// Returns the prefix with which this format issues keys.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix.0
    }

    /// Iterates over the prefix with which keys are issued, and those that are accepted.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        let accepted = self.accepted.iter().map(|prefix| &*prefix.0);
        std::iter::once(self.prefix()).chain(accepted)
    }

    /// Finds a prefix of the format; [`PrefixIndex::NONE`] if the format has no such prefix.
    pub(crate) fn index_of(&self, prefix: &str) -> PrefixIndex {
        let mut indexed = (0_u8..).zip(self.prefixes());
        let found = indexed.find(|(_, known)| *known == prefix);
        found.map_or(PrefixIndex::NONE, |(index, _)| PrefixIndex(index))
    }

    /// Iterates over the environments that this format accepts, starting with the one it issues for.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.iter().map(|(environment, _)| environment)
    }

    /// Finds the environment of this name, or the first one for `None`.
    ///
    /// Returns `None` if the format does not accept the environment.
    #[must_use]
    pub(crate) fn find_environment(&self, name: Option<&str>) -> Option<&Environment> {
        self.environments()
            .find(|environment| name.is_none_or(|name| environment.as_str() == name))
    }

    /// Returns the length of the secret in characters.
    #[must_use]
    pub(crate) fn secret_characters(&self) -> usize {
        self.secret_length
    }

    /// Generates a secret of the format's length.
    ///
    /// # Errors
    /// [`RandomError`] if the source fails.
    pub(crate) fn generate_secret(&self, random: &dyn RandomSource) -> Result<Secret, RandomError> {
        Secret::generate(random, self.secret_length)
    }

    /// Composes the text of a key.
    ///
    /// # Errors
    /// [`FormatError::UnknownEnvironment`] or [`FormatError::OtherSecretLength`] if the environment or the secret's
    /// length is not the format's.
    pub fn compose(
        &self,
        environment: &Environment,
        id: KeyId,
        secret: &Secret,
    ) -> Result<ApiKey, FormatError> {
        let mut issued = self.environments.iter();
        let (_, head) = issued
            .find(|(known, _)| known == environment)
            .ok_or(FormatError::UnknownEnvironment)?;
        let (length, expected) = (secret.length(), self.secret_length);
        if length != expected {
            return Err(FormatError::OtherSecretLength { length, expected });
        }
        // Exact capacity: growing would leave a copy of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(head.len() + OVERHEAD + length));
        text.push_str(head);
        text.extend(id.base62().map(char::from));
        text.push_str(secret.expose_secret());
        let checksum = base62::checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(ApiKey::new(text, id, head.len(), length))
    }

    /// Returns a regular expression with which secret scanners find keys of this format.
    ///
    /// It is anchored at word boundaries, and uses only syntax that RE2, PCRE, Hyperscan and the `regex` crate share.
    #[must_use]
    pub fn scanner_pattern(&self) -> String {
        let environments: Vec<_> = self.environments().map(Environment::as_str).collect();
        let prefixes: Vec<_> = self.prefixes().collect();
        let prefix = match prefixes.as_slice() {
            [only] => (*only).to_owned(),
            several => format!("(?:{})", several.join("|")),
        };
        format!(
            r"\b{prefix}_(?:{})_[0-9A-Za-z]{{{}}}\b",
            environments.join("|"),
            OVERHEAD + self.secret_length,
        )
    }

    /// Returns a redactor that masks keys of this format in any text.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.prefixes(), self.secret_length)
    }

    /// Iterates over the heads of key texts: first those with which keys are issued.
    #[inline(always)]
    pub(super) fn heads(&self) -> impl Iterator<Item = (PrefixIndex, &Environment, &str)> {
        let issued = self.environments.iter();
        let issued = issued.map(|(environment, head)| (PrefixIndex::ISSUED, environment, &**head));
        let accepted = self.accepted_heads.iter();
        issued.chain(accepted.map(|head| (head.prefix, &head.environment, &*head.text)))
    }
}

impl fmt::Debug for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFormat")
            .field("prefix", &self.prefix())
            .field("environments", &self.environments().collect::<Vec<_>>())
            .field("accepted_prefixes", &self.accepted)
            .field("secret_length", &self.secret_length)
            .finish()
    }
}

/// A format that has a prefix and still lacks an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(Box<str>);

impl KeyPrefix {
    /// Completes the format with the environment for which it issues keys, such as `live` or `test`.
    ///
    /// # Errors
    /// As [`KeyFormat::environment`].
    pub fn environment(self, name: &str) -> Result<KeyFormat, FormatError> {
        let first = self.head(Environment::new(name)?);
        Ok(KeyFormat {
            prefix: self,
            environments: vec![first],
            accepted: Vec::new(),
            accepted_heads: Vec::new(),
            secret_length: DEFAULT_SECRET_LENGTH,
        })
    }

    fn head(&self, environment: Environment) -> (Environment, Box<str>) {
        let head = format!("{}_{environment}_", self.0).into();
        (environment, head)
    }
}

/// The installation of an application that a key belongs to, such as `live` or `test`.
///
/// The environment in a key's text is a label, not a boundary: anyone can rewrite it and the checksum. The boundary is
/// the environment in the stored record, which the digest binds and every verification compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Environment(Arc<str>);

impl Environment {
    /// Creates an environment of this name.
    ///
    /// # Errors
    /// [`FormatError::Name`] unless it is 1 to 16 lower-case ASCII letters and digits that start with a letter.
    pub fn new(name: &str) -> Result<Self, FormatError> {
        if !is_name(name) {
            return Err(FormatError::Name {
                part: "environment",
                least: 1,
            });
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is the test environment, the one named `test`.
    pub(crate) fn is_test(&self) -> bool {
        &*self.0 == "test"
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({self})")
    }
}

/// Why a key format, or a key of it, cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A prefix or environment is malformed.
    #[error("the {part} is {least} to 16 lower-case letters and digits, a letter first")]
    Name {
        /// The invalid part: `prefix` or `environment`.
        part: &'static str,
        /// The part's minimum length in characters.
        least: usize,
    },
    /// The environment or prefix is declared already.
    #[error("the environment or prefix is declared twice")]
    Repeated,
    /// Too many prefixes are accepted.
    #[error("a format accepts at most {MAX_ACCEPTED} prefixes beside its own")]
    TooManyPrefixes,
    /// The format does not have this environment.
    #[error("the format has no such environment")]
    UnknownEnvironment,
    /// The secret's length is out of bounds.
    #[error("a secret has 22 to 128 characters, not {length}")]
    SecretLength {
        /// The length in characters.
        length: usize,
    },
    /// The secret's length is not the format's.
    #[error("the format's secrets have {expected} characters, not {length}")]
    OtherSecretLength {
        /// The length in characters.
        length: usize,
        /// The format's length in characters.
        expected: usize,
    },
}

codes! {
    FormatError;
    Self::Name { .. } => "invalid_name",
    Self::Repeated => "repeated_name",
    Self::TooManyPrefixes => "too_many_prefixes",
    Self::UnknownEnvironment => "unknown_environment",
    Self::SecretLength { .. } => "invalid_secret_length",
    Self::OtherSecretLength { .. } => "other_secret_length",
}

/// Returns whether the text is a valid prefix or environment. It has no `_`: otherwise `a_b` + `live` and `a` +
/// `b_live` would read alike.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
