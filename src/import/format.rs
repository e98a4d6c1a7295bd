//! Text formats of keys that another system issued and that clients continue to use.

use std::fmt;
use std::ops::RangeInclusive;

use super::{LegacyError, LegacyHash};
use crate::key::{KeyFormat, MAX_TEXT};

/// The text format of keys that another system issued.
///
/// Keyward never issues keys of such a format, it only [imports](crate::manager::KeyManager::import) them: the text
/// that a client holds continues to work. A text that begins like a key of the application's own format is never read
/// as a legacy text.
///
/// ```
/// use keyward::import::LegacyFormat;
///
/// // `12|x7Hq…`: the id before the bar, and a SHA-256 of what follows it in the old table.
/// let sanctum = LegacyFormat::sanctum();
/// // `sk_live_51H8…`: no id inside.
/// let opaque = LegacyFormat::opaque("billing-v1")?.prefix("sk_live_")?.secret_length(24..=64)?;
/// # let _ = (sanctum, opaque);
/// # Ok::<(), keyward::import::LegacyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyFormat {
    name: Box<str>,
    prefix: Box<str>,
    /// The character between id and secret; `None` if the text contains no id.
    separator: Option<char>,
    ids_are_numbers: bool,
    secret_length: RangeInclusive<usize>,
    coverage: Coverage,
    lookup: LegacyHash,
}

/// The part of a text that a legacy digest covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coverage {
    Secret,
    Text,
}

/// The parts of a legacy text.
#[derive(Clone, Copy)]
pub(crate) struct LegacyParts<'a> {
    pub(super) id: Option<&'a str>,
    pub(crate) secret: &'a [u8],
    pub(crate) text: &'a [u8],
}

impl LegacyFormat {
    const MAX_PREFIX: usize = 64;
    const MAX_ID: usize = 64;
    /// Minimum length of a prefix that no other text is likely to begin with.
    const DISTINCT_PREFIX: usize = 3;

    /// Creates a format of texts with an id: `{prefix}{id}{separator}{secret}`.
    ///
    /// The digest covers the secret. The name is the host's own and must never change: the ids of imported keys depend
    /// on it.
    ///
    /// # Errors
    /// [`LegacyError`] unless the name is 1 to 32 lower-case ASCII letters, digits and hyphens, and the
    /// separator a visible ASCII character.
    pub fn with_id(name: &str, separator: char) -> Result<Self, LegacyError> {
        if !separator.is_ascii_graphic() {
            return Err(LegacyError::Separator);
        }
        Self::new(name, Some(separator))
    }

    /// Creates a format of texts without an id: `{prefix}{anything}`.
    ///
    /// The digest covers the whole text, and Keyward finds the text by its SHA-256.
    ///
    /// # Errors
    /// [`LegacyError::Name`], as [`with_id`](Self::with_id).
    pub fn opaque(name: &str) -> Result<Self, LegacyError> {
        let format = Self::new(name, None)?;
        Ok(Self {
            coverage: Coverage::Text,
            ..format
        })
    }

    fn new(name: &str, separator: Option<char>) -> Result<Self, LegacyError> {
        if !is_name(name) {
            return Err(LegacyError::Name);
        }
        Ok(Self::preset(name, separator))
    }

    /// Creates the format of Laravel Sanctum's personal access tokens: `{id}|{token}`.
    ///
    /// The id is a number, and the old table holds the SHA-256 of the token in hex.
    ///
    /// Source: Laravel's documentation, *Sanctum: Issuing API Tokens*.
    #[must_use]
    pub fn sanctum() -> Self {
        Self {
            ids_are_numbers: true,
            ..Self::preset("sanctum", Some('|'))
        }
    }

    /// Creates the format of `prefixed-api-key`: `{prefix}_{short token}_{long token}`.
    ///
    /// The old table holds the SHA-256 of the long token in hex.
    ///
    /// # Errors
    /// [`LegacyError::Prefix`] unless the prefix is 1 to 63 visible ASCII characters.
    pub fn prefixed_api_key(prefix: &str) -> Result<Self, LegacyError> {
        if prefix.is_empty() {
            return Err(LegacyError::Prefix);
        }
        Self::preset("prefixed-api-key", Some('_')).prefix(&format!("{prefix}_"))
    }

    /// Creates the format of `djangorestframework-api-key`: `{prefix}.{secret}`.
    ///
    /// The old table holds one of Django's hashes of the whole text.
    #[must_use]
    pub fn django_rest_framework() -> Self {
        Self::preset("drf-api-key", Some('.')).digest_of_whole_text()
    }

    fn preset(name: &str, separator: Option<char>) -> Self {
        Self {
            name: name.into(),
            prefix: Box::default(),
            separator,
            ids_are_numbers: false,
            secret_length: 16..=MAX_TEXT,
            coverage: Coverage::Secret,
            lookup: LegacyHash::SHA256,
        }
    }

    /// Sets the prefix with which every text begins.
    ///
    /// # Errors
    /// [`LegacyError::Prefix`] unless it is at most 64 visible ASCII characters.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, LegacyError> {
        if prefix.len() > Self::MAX_PREFIX || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LegacyError::Prefix);
        }
        self.prefix = prefix.into();
        Ok(self)
    }

    /// Sets the number of characters of the secret, by default 16 to 256.
    ///
    /// The secret is the part after the id, or after the prefix if the text has no id. Set the lengths that the old
    /// generator made: a text of another length is not read as a key, and a narrower range mistakes fewer texts for
    /// keys.
    ///
    /// # Errors
    /// [`LegacyError::SecretLength`] if the range is empty, begins below 8 or ends above 256.
    pub fn secret_length(mut self, length: RangeInclusive<usize>) -> Result<Self, LegacyError> {
        if length.is_empty() || *length.start() < 8 || *length.end() > MAX_TEXT {
            return Err(LegacyError::SecretLength);
        }
        self.secret_length = length;
        Ok(self)
    }

    /// Declares that the old digests cover the whole text, not only the secret in it.
    #[must_use]
    pub fn digest_of_whole_text(mut self) -> Self {
        self.coverage = Coverage::Text;
        self
    }

    /// Finds a text without an id by this hash of the whole text, for an old table that holds such a digest; by
    /// default by its SHA-256.
    #[must_use]
    pub fn found_by(mut self, hash: LegacyHash) -> Self {
        self.lookup = hash;
        self
    }

    /// Returns the format's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn coverage(&self) -> Coverage {
        self.coverage
    }

    pub(super) fn lookup(&self) -> &LegacyHash {
        &self.lookup
    }

    pub(super) fn has_id(&self) -> bool {
        self.separator.is_some()
    }

    /// Returns the part of the text that may be shown, which contains nothing of the secret.
    pub(super) fn shown(&self, id: Option<&str>) -> String {
        match id {
            Some(id) => format!("{}{id}", self.prefix),
            None if self.prefix.is_empty() => self.name.to_string(),
            None => self.prefix.to_string(),
        }
    }

    /// Returns whether a text of this format can have this id between prefix and separator.
    pub(super) fn is_id(&self, id: &str) -> bool {
        let mut characters = id.chars();
        (1..=Self::MAX_ID).contains(&id.len())
            && characters.all(|one| {
                let is_allowed = if self.ids_are_numbers {
                    one.is_ascii_digit()
                } else {
                    one.is_ascii_graphic()
                };
                is_allowed && Some(one) != self.separator
            })
    }

    /// Returns the longest text with this id, or without an id, and the lengths of such texts, to check which other
    /// formats would read them.
    pub(super) fn sample(&self, id: Option<&str>) -> (String, RangeInclusive<usize>) {
        let mut text = match (id, self.separator) {
            (Some(id), Some(separator)) => format!("{}{id}{separator}", self.prefix),
            _ => self.prefix.to_string(),
        };
        let head = text.len();
        let longest = (head + self.secret_length.end()).min(MAX_TEXT);
        let shortest = head + self.secret_length.start();
        text.extend(std::iter::repeat_n('x', longest.saturating_sub(head)));
        (text, shortest..=longest)
    }

    /// Returns the least number of bytes that a digest of a text with this id covers.
    pub(super) fn least_covered(&self, id: Option<&str>) -> usize {
        match (self.coverage, id) {
            (Coverage::Secret, Some(_)) => *self.secret_length.start(),
            _ => *self.sample(id).1.start(),
        }
    }

    /// Returns whether every text of this format begins as the application's own keys, up to upper and lower case.
    pub(super) fn begins_as(&self, own: &KeyFormat) -> bool {
        own.length_of_those_like(self.prefix.as_bytes()).is_some()
    }

    /// Returns the length of the application's own keys, if a text of this format could be taken for one of them.
    ///
    /// Texts are told apart by their length, or by a separator that no key of the application's own contains.
    pub(super) fn confusable_length(&self, own: &KeyFormat) -> Option<usize> {
        let length = own.length_of_those_like(self.prefix.as_bytes())?;
        let ids = match self.separator {
            Some(separator) if !separator.is_ascii_alphanumeric() => return None,
            Some(_) => 2..=Self::MAX_ID + 1,
            None => 0..=0,
        };
        let shortest = self.prefix.len() + ids.start() + self.secret_length.start();
        let longest = self.prefix.len() + ids.end() + self.secret_length.end();
        (shortest..=longest).contains(&length).then_some(length)
    }

    /// Returns whether the text is surely of this format, by its prefix or the number before its separator. Where keys
    /// are expected (`is_place_of_keys`), a separator or a short prefix is enough, except in signed tokens and e-mail
    /// addresses. A format with neither prefix nor separator recognizes no text.
    pub(super) fn recognizes(&self, text: &[u8], is_place_of_keys: bool) -> bool {
        let is_distinct = self.prefix.len() >= Self::DISTINCT_PREFIX || self.ids_are_numbers;
        let is_marked = self.separator.is_some() || !self.prefix.is_empty();
        let is_other = || {
            let dots = text.iter().filter(|byte| **byte == b'.').count();
            dots > 1 || text.contains(&b'@')
        };
        (is_distinct || is_place_of_keys && is_marked && !is_other()) && self.parse(text).is_some()
    }

    /// Splits a text of this format into its parts; `None` if it is not of this format.
    pub(super) fn parse<'a>(&self, text: &'a [u8]) -> Option<LegacyParts<'a>> {
        if text.len() > MAX_TEXT || !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let text_str = std::str::from_utf8(text).ok()?;
        let rest = text_str.strip_prefix(&*self.prefix)?;
        let (id, secret) = match self.separator {
            Some(separator) => {
                let (id, secret) = rest.split_once(separator)?;
                (Some(id), secret)
            }
            None => (None, rest),
        };
        let is_whole =
            self.secret_length.contains(&secret.len()) && id.is_none_or(|id| self.is_id(id));
        // Without an id, the whole text is the secret.
        let secret = if id.is_some() {
            secret.as_bytes()
        } else {
            text
        };
        is_whole.then_some(LegacyParts { id, secret, text })
    }
}

/// Returns whether this is a valid name of a legacy format or a site secret.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (1..=32).contains(&name.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl fmt::Debug for LegacyParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyParts")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_texts_are_split() {
        let secret = "x7Hq".repeat(10);
        for (format, text, id) in [
            (LegacyFormat::sanctum(), format!("12|{secret}"), Some("12")),
            (
                LegacyFormat::prefixed_api_key("my_co").unwrap(),
                format!("my_co_BRTRKFsL_{secret}"),
                Some("BRTRKFsL"),
            ),
            (
                LegacyFormat::django_rest_framework(),
                format!("Ab12.{secret}"),
                Some("Ab12"),
            ),
        ] {
            let parts = format.parse(text.as_bytes()).unwrap();
            assert_eq!((parts.id, parts.secret), (id, secret.as_bytes()), "{text}");
            assert_eq!(parts.text, text.as_bytes());
        }
        let opaque = LegacyFormat::opaque("old").unwrap().prefix("sk_").unwrap();
        let text = format!("sk_{secret}");
        let parts = opaque.parse(text.as_bytes()).unwrap();
        assert_eq!((parts.id, parts.secret), (None, text.as_bytes()));
    }

    #[test]
    fn malformed_texts_are_refused() {
        let secret = "x7Hq".repeat(10);
        let sanctum = LegacyFormat::sanctum().secret_length(40..=40).unwrap();
        for text in [
            String::new(),
            "|".into(),
            format!("|{secret}"),
            format!("12{secret}"),
            format!("12|{}", &secret[1..]),
            format!("12|{secret}x"),
            format!("1 2|{secret}"),
            format!("12|{}é", &secret[2..]),
            format!("12|{}\n", &secret[1..]),
            format!("{}|{secret}", "1".repeat(65)),
        ] {
            assert!(sanctum.parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(
            LegacyFormat::opaque("o")
                .unwrap()
                .parse(&[b'a'; 257])
                .is_none()
        );
    }

    #[test]
    fn names_and_lengths_are_bounded() {
        for name in ["", "A", "a_b", "ä", &"a".repeat(33)] {
            assert_eq!(LegacyFormat::opaque(name), Err(LegacyError::Name));
        }
        assert!(LegacyFormat::with_id("a", ' ').is_err());
        for length in [7..=20, 20..=257, RangeInclusive::new(20, 19)] {
            assert!(LegacyFormat::sanctum().secret_length(length).is_err());
        }
        assert!(LegacyFormat::sanctum().prefix("a b").is_err());
        assert!(LegacyFormat::prefixed_api_key("").is_err());
    }
}
