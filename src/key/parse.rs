//! The parser of key texts: it allocates nothing, hashes only the checksum, and stops at the first invalid byte.

use std::fmt;

use super::format::{OVERHEAD, is_name};
use super::presented::Presentation;
use super::{Environment, KeyFormat, KeyId, KeyTextError, PresentedKey, base62};

/// Longest credential that the parser accepts, in bytes.
pub(crate) const MAX_TEXT: usize = 256;

/// The parts of a key text, before any check whether the key exists.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a> {
    environment: Option<&'a Environment>,
    id: KeyId,
    secret: &'a [u8],
}

impl<'a> ParsedKey<'a> {
    /// Returns the environment in the text; `None` for the two-value form, which names no environment.
    #[must_use]
    pub fn environment(&self) -> Option<&'a Environment> {
        self.environment
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the presented secret: ASCII letters and digits, as many as the format requires.
    ///
    /// # Security
    /// It may be a real key's secret. Never log or store it.
    #[must_use]
    pub fn expose_secret(&self) -> &'a [u8] {
        self.secret
    }
}

impl fmt::Debug for ParsedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedKey")
            .field("environment", &self.environment)
            .field("id", &self.id)
            .field("secret", &"[redacted]")
            .finish()
    }
}

impl KeyFormat {
    /// Parses the credential that a caller presented, in either form.
    ///
    /// # Errors
    /// [`KeyTextError`], as [`parse`](Self::parse); [`KeyTextError::Absent`], [`KeyTextError::Ambiguous`],
    /// [`KeyTextError::HalfPair`] or [`KeyTextError::Undecodable`] if the caller did not present exactly one whole
    /// key.
    #[inline(always)]
    pub(crate) fn parse_presented<'a>(
        &'a self,
        presented: PresentedKey<'a>,
    ) -> Result<ParsedKey<'a>, KeyTextError> {
        match presented.0 {
            Presentation::Text(text) => self.parse(text),
            Presentation::Pair { id, secret } => self.parse_pair(id, secret),
            Presentation::Unread(error) => Err(error),
        }
    }

    /// Parses a key text.
    ///
    /// Parsing stops at the first invalid byte, allocates nothing, and hashes nothing except for the checksum. A text
    /// that parses does not prove that the key exists: anyone can compute a checksum.
    ///
    /// # Errors
    /// [`KeyTextError`] describes the fault for an operator; it contains no part of the text.
    #[inline(always)]
    pub fn parse<'a>(&'a self, text: &'a [u8]) -> Result<ParsedKey<'a>, KeyTextError> {
        check_size(text)?;
        let Some((environment, head)) = self
            .heads()
            .find(|(_, head)| text.starts_with(head.as_bytes()))
        else {
            return Err(self.diagnose_head(text));
        };
        let secret_length = self.secret_characters();
        let body = text.get(head.len()..).unwrap_or_default();
        check_length(body, OVERHEAD + secret_length)?;
        check_digits(body, head.len())?;

        let malformed = KeyTextError::Checksum;
        let (covered, sum) = text
            .split_last_chunk::<{ base62::CHECKSUM_DIGITS }>()
            .ok_or(malformed)?;
        // A checksum's digits have one spelling, so comparing numbers is enough.
        if base62::decode_checksum(sum) != u64::from(crc32fast::hash(covered)) {
            return Err(malformed);
        }
        let (id, rest) = body
            .split_first_chunk::<{ base62::ID_DIGITS }>()
            .ok_or(malformed)?;
        let id = base62::decode(id).ok_or(KeyTextError::Id)?;
        Ok(ParsedKey {
            environment: Some(environment),
            id: KeyId::from_u128(id),
            secret: rest.get(..secret_length).ok_or(malformed)?,
        })
    }

    /// Parses a key that was sent as two values: the 36-character id and the secret.
    ///
    /// This form names no environment; the stored record does.
    ///
    /// # Errors
    /// [`KeyTextError`], as [`parse`](Self::parse).
    pub(crate) fn parse_pair<'a>(
        &self,
        id: &[u8],
        secret: &'a [u8],
    ) -> Result<ParsedKey<'a>, KeyTextError> {
        check_size(id)?;
        check_size(secret)?;
        let id = KeyId::from_text(id).ok_or(KeyTextError::Id)?;
        check_length(secret, self.secret_characters())?;
        check_digits(secret, 0)?;
        Ok(ParsedKey {
            environment: None,
            id,
            secret,
        })
    }

    /// Returns whether the text has the head or the shape of a key of this format, even if damaged: in another case, in
    /// quotation marks, or of another environment.
    pub(crate) fn resembles(&self, text: &[u8]) -> bool {
        let bare = match text.trim_ascii() {
            [b'"' | b'\'' | b'`', bare @ ..] => bare,
            bare => bare,
        };
        self.begins_in_any_case(bare) || self.is_shaped_as(bare)
    }

    /// Returns whether the text has the shape of a key of this format, in any environment.
    fn is_shaped_as(&self, text: &[u8]) -> bool {
        let rest = text.strip_prefix(self.prefix().as_bytes());
        let Some([b'_', rest @ ..]) = rest else {
            return false;
        };
        let mut parts = rest.splitn(2, |byte| *byte == b'_');
        let environment = parts.next().and_then(|name| std::str::from_utf8(name).ok());
        let body = parts.next().unwrap_or_default();
        environment.is_some_and(is_name)
            && body.len() == OVERHEAD + self.secret_characters()
            && body.iter().all(|byte| base62::is_digit(*byte))
    }

    /// Returns whether the text begins with a head of this format, in upper or lower case.
    fn begins_in_any_case(&self, text: &[u8]) -> bool {
        self.heads().any(|(_, head)| {
            let start = text.get(..head.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(head.as_bytes()))
        })
    }

    /// Returns the fault in the head of a text that begins with no head of the format.
    fn diagnose_head(&self, text: &[u8]) -> KeyTextError {
        if self.begins_in_any_case(text) {
            return KeyTextError::Recased;
        }
        // A key that is cut within its head is truncated, not of another prefix.
        if let Some((_, head)) = self
            .heads()
            .find(|(_, head)| head.as_bytes().starts_with(text))
        {
            let whole = head.len() + OVERHEAD + self.secret_characters();
            let missing = whole - text.len();
            return KeyTextError::Truncated { missing };
        }
        match text.strip_prefix(self.prefix().as_bytes()) {
            Some([b'_', ..]) => KeyTextError::Environment,
            _ => KeyTextError::Prefix,
        }
    }
}

#[inline]
fn check_size(text: &[u8]) -> Result<(), KeyTextError> {
    match text {
        [] => Err(KeyTextError::Empty),
        _ if text.len() > MAX_TEXT => Err(KeyTextError::Oversize),
        [first, .., last] if is_space(*first) || is_space(*last) => Err(KeyTextError::Padded),
        [only] if is_space(*only) => Err(KeyTextError::Padded),
        [first @ (b'"' | b'\'' | b'`'), ..] if text.last() == Some(first) => {
            Err(KeyTextError::Quoted)
        }
        _ => Ok(()),
    }
}

#[inline]
fn check_length(body: &[u8], expected: usize) -> Result<(), KeyTextError> {
    if body.len() < expected {
        let missing = expected - body.len();
        return Err(KeyTextError::Truncated { missing });
    }
    if body.len() > expected {
        let extra = body.len() - expected;
        return Err(KeyTextError::Extended { extra });
    }
    Ok(())
}

#[inline]
fn check_digits(body: &[u8], offset: usize) -> Result<(), KeyTextError> {
    if base62::are_digits(body) {
        return Ok(());
    }
    match body.iter().position(|byte| !base62::is_digit(*byte)) {
        Some(position) => Err(KeyTextError::Character {
            position: offset + position,
        }),
        None => Ok(()),
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}
