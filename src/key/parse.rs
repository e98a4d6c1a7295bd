//! The parser of key texts: it allocates nothing, hashes only the checksum, and stops at the first invalid byte. It
//! reads base62 a word at a time.

use std::fmt;

use super::base62::{CHECKSUM_DIGITS, ID_DIGITS, is_digit};
use super::format::{DISPLAYED_ID_DIGITS, OVERHEAD, PrefixIndex, is_name};
use super::presented::Presentation;
use super::{Environment, KeyFormat, KeyId, KeyTextError, PresentedKey};

/// Longest credential that the parser accepts, in bytes.
pub(crate) const MAX_TEXT: usize = 256;

/// The parts of a key text, before any check whether the key exists.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a> {
    /// `None` for the two-value form, which has no prefix.
    prefix: Option<PrefixIndex>,
    environment: Option<&'a Environment>,
    id: KeyId,
    secret: &'a [u8],
}

/// Minimum number of letters and digits after a head for a text to be taken for a key in a place where none is
/// expected. A cookie may have the application's name before its own.
const LEAST_DIGITS: usize = 16;

impl<'a> ParsedKey<'a> {
    pub(crate) fn prefix(&self) -> Option<PrefixIndex> {
        self.prefix
    }

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
        let Some((prefix, environment, head)) = self
            .heads()
            .find(|(_, _, head)| text.starts_with(head.as_bytes()))
        else {
            return Err(self.diagnose_head(text));
        };
        let secret_length = self.secret_characters();
        let body = text.get(head.len()..).unwrap_or_default();
        check_length(body, OVERHEAD + secret_length)?;
        check_digits(body, head.len())?;

        let malformed = KeyTextError::Checksum;
        let (covered, sum) = text
            .split_last_chunk::<{ CHECKSUM_DIGITS }>()
            .ok_or(malformed)?;
        // A checksum's digits have one spelling, so comparing numbers is enough.
        if decode_checksum(sum) != u64::from(crc32fast::hash(covered)) {
            return Err(malformed);
        }
        let (id, rest) = body.split_first_chunk::<{ ID_DIGITS }>().ok_or(malformed)?;
        let id = decode(id).ok_or(KeyTextError::Id)?;
        Ok(ParsedKey {
            prefix: Some(prefix),
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
            prefix: None,
            environment: None,
            id,
            secret,
        })
    }

    /// Returns the first and the last id of the keys with a display prefix that begins with `start`; `None` if there
    /// are no such keys.
    ///
    /// Ids do not depend on the readable head: the caller must also compare the head with the record's.
    pub(crate) fn ids_displayed_as(&self, start: &str) -> Option<(KeyId, KeyId)> {
        let every = (KeyId::from_u128(0), KeyId::from_u128(u128::MAX));
        if self.heads().any(|(_, _, head)| head.starts_with(start)) {
            return Some(every);
        }
        let digits = self
            .heads()
            .find_map(|(_, _, head)| start.strip_prefix(head))?;
        if digits.len() > DISPLAYED_ID_DIGITS || !are_digits(digits.as_bytes()) {
            return None;
        }
        let fill = |digit: u8| {
            let mut id = [digit; ID_DIGITS];
            for (place, digit) in id.iter_mut().zip(digits.bytes()) {
                *place = digit;
            }
            id
        };
        let first = decode(&fill(b'0'))?;
        // The greatest digits exceed the last id.
        let last = decode(&fill(b'z')).unwrap_or(u128::MAX);
        Some((KeyId::from_u128(first), KeyId::from_u128(last)))
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
        let Some(rest) = self.strip_any_prefix(text) else {
            return false;
        };
        let mut parts = rest.splitn(2, |byte| *byte == b'_');
        let environment = parts.next().and_then(|name| std::str::from_utf8(name).ok());
        let body = parts.next().unwrap_or_default();
        environment.is_some_and(is_name)
            && body.len() == OVERHEAD + self.secret_characters()
            && body.iter().all(|byte| is_digit(*byte))
    }

    /// Returns the text after a prefix of the format and its `_`.
    pub(crate) fn strip_any_prefix<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        self.prefixes().find_map(|prefix| {
            let rest = text.strip_prefix(prefix.as_bytes())?;
            rest.strip_prefix(b"_")
        })
    }

    /// Returns whether a key of this format begins anywhere in the text: in upper or lower case, in any environment,
    /// and with [`LEAST_DIGITS`] letters and digits or more.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        let begins_at = |at: usize| {
            let (before, rest) = text.split_at_checked(at).unwrap_or_default();
            let mut prefixes = self.prefixes();
            let is_after_prefix = prefixes.any(|prefix| {
                let start = before.len().checked_sub(prefix.len());
                let last = start.and_then(|start| before.get(start..));
                last.is_some_and(|last| last.eq_ignore_ascii_case(prefix.as_bytes()))
            });
            is_after_prefix && {
                let mut parts = rest.splitn(3, |byte| *byte == b'_').skip(1);
                let environment = parts.next().unwrap_or_default();
                let digits = parts.next().unwrap_or_default().iter();
                let count = digits.take(LEAST_DIGITS).filter(|byte| is_digit(**byte));
                !environment.is_empty()
                    && environment.iter().all(|byte| is_digit(*byte))
                    && count.count() == LEAST_DIGITS
            }
        };
        let mut bytes = text.iter().enumerate();
        bytes.any(|(at, byte)| *byte == b'_' && begins_at(at))
    }

    /// Returns whether the text begins with a head of this format, in upper or lower case.
    fn begins_in_any_case(&self, text: &[u8]) -> bool {
        self.length_of_those_like(text).is_some()
    }

    /// Returns the length of a key with the head with which the text begins, in upper or lower case; `None` if it
    /// begins with no head.
    pub(crate) fn length_of_those_like(&self, text: &[u8]) -> Option<usize> {
        let mut heads = self.heads();
        let (_, _, head) = heads.find(|(_, _, head)| {
            let start = text.get(..head.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(head.as_bytes()))
        })?;
        Some(head.len() + OVERHEAD + self.secret_characters())
    }

    /// Returns the fault in the head of a text that begins with no head of the format.
    fn diagnose_head(&self, text: &[u8]) -> KeyTextError {
        if self.begins_in_any_case(text) {
            return KeyTextError::Recased;
        }
        // A key that is cut within its head is truncated, not of another prefix.
        if let Some((_, _, head)) = self
            .heads()
            .find(|(_, _, head)| head.as_bytes().starts_with(text))
        {
            let whole = head.len() + OVERHEAD + self.secret_characters();
            let missing = whole - text.len();
            return KeyTextError::Truncated { missing };
        }
        match self.strip_any_prefix(text) {
            Some(_) => KeyTextError::Environment,
            None => KeyTextError::Prefix,
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
    if are_digits(body) {
        return Ok(());
    }
    match body.iter().position(|byte| !is_digit(*byte)) {
        Some(position) => Err(KeyTextError::Character {
            position: offset + position,
        }),
        None => Ok(()),
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

/// Returns the value of an id's digits; `None` if it is 2^128 or more. The caller has checked that they are digits.
#[inline]
fn decode(digits: &[u8; ID_DIGITS]) -> Option<u128> {
    debug_assert!(are_digits(digits), "every byte is a base62 digit");
    let (first, rest) = digits.split_first_chunk::<6>()?;
    let (second, third) = rest.split_first_chunk::<8>()?;
    let third = third.first_chunk::<8>()?;
    let [first, second, third] = [padded(*first), *second, *third].map(decode_eight);
    // 62^14 fits in 128 bits: only the last step can overflow.
    let start = u128::from(first) * u128::from(WEIGHT) + u128::from(second);
    start
        .checked_mul(u128::from(WEIGHT))?
        .checked_add(u128::from(third))
}

/// Returns the value of a checksum's digits. The caller has checked that they are digits.
#[inline]
fn decode_checksum(digits: &[u8; CHECKSUM_DIGITS]) -> u64 {
    debug_assert!(are_digits(digits), "every byte is a base62 digit");
    decode_eight(padded(*digits))
}

/// Pads to eight digits of the same value.
#[inline]
fn padded([a, b, c, d, e, f]: [u8; 6]) -> [u8; 8] {
    [b'0', b'0', a, b, c, d, e, f]
}

/// The weight of eight digits.
const WEIGHT: u64 = 62_u64.pow(8);

/// Returns the value of eight digits, computed in parallel in the bytes of one word.
#[inline]
fn decode_eight(digits: [u8; 8]) -> u64 {
    const EVEN_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    const EVEN_PAIRS: u64 = 0x0000_ffff_0000_ffff;
    let bytes = u64::from_le_bytes(digits);
    // ASCII: digits from 0x30, capitals from 0x41, small letters from 0x61. Each step subtracts the gap before its
    // range.
    let letters = bytes >> 6 & ONES;
    let small = letters & bytes >> 5;
    let values = bytes - ONES * 0x30 - letters * 7 - small * 6;
    // The first digit is the most significant, and in the lowest byte: combine pairs, then pairs of pairs, then both
    // halves.
    let pairs = (values & EVEN_BYTES) * 62 + (values >> 8 & EVEN_BYTES);
    let fours = (pairs & EVEN_PAIRS) * 62_u64.pow(2) + (pairs >> 16 & EVEN_PAIRS);
    (fours & 0xffff_ffff) * 62_u64.pow(4) + (fours >> 32)
}

/// Returns whether all bytes are digits. It checks a word at a time, and some of the last bytes twice.
#[inline]
fn are_digits(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| is_digit(*byte));
    };
    let (mut all, mut rest) = (digits_of(*last), bytes);
    while let Some((word, after)) = rest.split_first_chunk() {
        all &= digits_of(*word);
        rest = after;
    }
    all & HIGH_BITS == HIGH_BITS
}

const ONES: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = ONES << 7;

/// Sets the high bit of each byte if all bytes are digits, and not of each if one is none. Other bits have no meaning.
#[inline]
fn digits_of(bytes: [u8; 8]) -> u64 {
    let bytes = u64::from_ne_bytes(bytes);
    let folded = bytes | (ONES * 0x20);
    // An ASCII byte does not carry into the next byte. Another byte may, but its own high bit is cleared in the end.
    let reaches = |bytes: u64, least: u8| bytes.wrapping_add(ONES * u64::from(0x80 - least));
    // A byte that reaches the end of a range reaches its start as well, and no byte is in both ranges.
    let is_digit = reaches(bytes, b'0') ^ reaches(bytes, b'9' + 1);
    let is_letter = reaches(folded, b'a') ^ reaches(folded, b'z' + 1);
    (is_digit ^ is_letter) & !bytes
}

#[cfg(test)]
mod tests;
