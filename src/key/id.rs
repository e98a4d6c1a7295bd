//! The public id of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::value_error::text_form;
use super::{ValueError, base62};
use crate::random::{RandomError, RandomSource};

const MALFORMED: ValueError =
    ValueError::malformed("key id", "36 characters, lower case and hyphenated");

/// The public id of a key: 128 bits, for issued keys a random (version 4) UUID (RFC 9562).
///
/// It is written in one of two ways: as 36 characters, lower case and hyphenated ([`Display`](fmt::Display)), or as 22
/// base62 digits inside a key text. An id is not a secret: it may be logged and shown.
///
/// ```
/// use keyward::key::KeyId;
///
/// let id: KeyId = "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f".parse()?;
/// assert_eq!(id.to_string(), "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f");
/// assert!("0B9C1F5E-6D0A-4C1E-9F52-3A8B7C6D5E4F".parse::<KeyId>().is_err(), "one spelling each");
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(u128);

impl KeyId {
    /// Length of the hyphenated form in characters.
    pub(crate) const TEXT_LENGTH: usize = 36;

    /// Generates a new id: a version 4 UUID.
    ///
    /// # Errors
    /// [`RandomError`] if the source fails.
    pub fn generate(random: &dyn RandomSource) -> Result<Self, RandomError> {
        let mut bytes = [0; 16];
        random.fill(&mut bytes)?;
        Ok(Self(
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .as_u128(),
        ))
    }

    /// Creates the id with these bytes, most significant first, for backends that keep 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Creates the id with this value, for backends that keep a number of 128 bits.
    #[must_use]
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    /// Returns the id as a number.
    #[must_use]
    pub const fn as_u128(&self) -> u128 {
        self.0
    }

    /// Returns the id as 16 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub(super) fn base62(self) -> [u8; base62::ID_DIGITS] {
        let mut digits = [0; base62::ID_DIGITS];
        base62::encode(self.0, &mut digits);
        digits
    }

    /// Parses the hyphenated form; `None` for any other spelling of a UUID.
    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::TEXT_LENGTH] = text.try_into().ok()?;
        if text.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        // The length admits the hyphenated form only: the braced and URN forms are longer, the plain one is shorter.
        Uuid::try_parse_ascii(text)
            .ok()
            .map(|id| Self(id.as_u128()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Uuid::from_u128(self.0).hyphenated())
    }
}

text_form!(KeyId);

impl FromStr for KeyId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_text(text.as_bytes()).ok_or(MALFORMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f";
        assert_eq!(id.parse::<KeyId>().unwrap().to_string(), id);
        for other in [
            "0B9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f",
            "0b9c1f5e6d0a4c1e9f523a8b7c6d5e4f",
            "{0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f}",
            "urn:uuid:0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f",
            "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4",
            "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f ",
            "0b9c1f5e-6d0a-4c1e-9f523-a8b7c6d5e4f",
            "0b9c1f5e_6d0a_4c1e_9f52_3a8b7c6d5e4f",
            "",
        ] {
            assert_eq!(other.parse::<KeyId>(), Err(MALFORMED), "{other}");
        }
    }
}
