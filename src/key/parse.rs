//! The parser of key texts: it allocates nothing, hashes only the checksum, and stops at the first invalid byte.

use std::fmt;

use super::format::OVERHEAD;
use super::{Environment, KeyFormat, KeyId, base62};

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

/// Why a credential is not a key text of this format.
///
/// It is for the operator and contains no part of the text: a caller only learns that the credential was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// No credential was presented.
    #[error("no credential was presented")]
    Absent,
    /// More than one credential was presented.
    #[error("more than one credential was presented")]
    Ambiguous,
    /// One value of the two-value form was presented without the other.
    #[error("one half of an id and secret pair was presented without the other")]
    HalfPair,
    /// The credential is not encoded as its scheme requires.
    #[error("the credential is not encoded as its scheme asks")]
    Undecodable,
    /// The credential is empty.
    #[error("the credential is empty")]
    Empty,
    /// The credential is longer than any key.
    #[error("the credential is longer than 256 bytes")]
    Oversize,
    /// There is white space around the key.
    #[error("there is white space around the key")]
    Padded,
    /// There are quotation marks around the key.
    #[error("there are quotation marks around the key")]
    Quoted,
    /// The text does not begin with the format's prefix.
    #[error("the text does not begin with this application's prefix")]
    Prefix,
    /// The prefix and environment are right except for upper and lower case.
    #[error("the text's prefix or environment is in the wrong case")]
    Recased,
    /// The text names an environment that is not accepted here.
    #[error("the text names an environment that is not accepted here")]
    Environment,
    /// The text is shorter than a key.
    #[error("the text is {missing} characters short")]
    Truncated {
        /// The number of missing characters.
        missing: usize,
    },
    /// The text is longer than a key.
    #[error("the text is {extra} characters too long")]
    Extended {
        /// The number of characters beyond the end of a key.
        extra: usize,
    },
    /// A byte is not an ASCII letter or digit.
    #[error("the byte at position {position} is not a letter or digit")]
    Character {
        /// Position in bytes from the start of the text (from the start of the secret in the two-value form).
        position: usize,
    },
    /// The checksum does not match: the text was mistyped or altered.
    #[error("the checksum does not match: the text was mistyped or altered")]
    Checksum,
    /// The id is out of range or not in its canonical spelling.
    #[error("the id is not one, or not in its one spelling")]
    Id,
}

impl KeyTextError {
    /// Returns a short stable name, as used in the published test vectors.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ambiguous => "ambiguous",
            Self::HalfPair => "half_pair",
            Self::Undecodable => "undecodable",
            Self::Empty => "empty",
            Self::Oversize => "oversize",
            Self::Padded => "padded",
            Self::Quoted => "quoted",
            Self::Prefix => "prefix",
            Self::Recased => "recased",
            Self::Environment => "environment",
            Self::Truncated { .. } => "truncated",
            Self::Extended { .. } => "extended",
            Self::Character { .. } => "character",
            Self::Checksum => "checksum",
            Self::Id => "id",
        }
    }
}

#[inline(always)]
pub(super) fn text<'a>(
    format: &'a KeyFormat,
    text: &'a [u8],
) -> Result<ParsedKey<'a>, KeyTextError> {
    check_size(text)?;
    let Some((environment, head)) = format
        .heads()
        .find(|(_, head)| text.starts_with(head.as_bytes()))
    else {
        return Err(diagnose_head(format, text));
    };
    let secret_length = format.secret_characters();
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

pub(super) fn pair<'a>(
    format: &KeyFormat,
    id: &[u8],
    secret: &'a [u8],
) -> Result<ParsedKey<'a>, KeyTextError> {
    check_size(id)?;
    check_size(secret)?;
    let id = KeyId::from_text(id).ok_or(KeyTextError::Id)?;
    check_length(secret, format.secret_characters())?;
    check_digits(secret, 0)?;
    Ok(ParsedKey {
        environment: None,
        id,
        secret,
    })
}

/// Returns the CRC-32 (ISO-HDLC, as in zlib and PNG) of everything before it, in base62.
pub(super) fn checksum(covered: &[u8]) -> [u8; base62::CHECKSUM_DIGITS] {
    let mut digits = [0; base62::CHECKSUM_DIGITS];
    base62::encode(u128::from(crc32fast::hash(covered)), &mut digits);
    digits
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

/// Returns the fault in the head of a text that begins with no head of the format.
fn diagnose_head(format: &KeyFormat, text: &[u8]) -> KeyTextError {
    let begins_with = |head: &str| {
        text.get(..head.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(head.as_bytes()))
    };
    if format.heads().any(|(_, head)| begins_with(head)) {
        return KeyTextError::Recased;
    }
    // A key that is cut within its head is truncated, not of another prefix.
    if let Some((_, head)) = format
        .heads()
        .find(|(_, head)| head.as_bytes().starts_with(text))
    {
        let whole = head.len() + OVERHEAD + format.secret_characters();
        let missing = whole - text.len();
        return KeyTextError::Truncated { missing };
    }
    match text.strip_prefix(format.prefix().as_bytes()) {
        Some([b'_', ..]) => KeyTextError::Environment,
        _ => KeyTextError::Prefix,
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}
