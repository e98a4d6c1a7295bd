//! The part of a key that proves possession, and its origin, from which its strength follows.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ValueError, base62};
use crate::random::{RandomError, RandomSource};

const MALFORMED: ValueError = ValueError::malformed("secret", "22 to 128 ASCII letters and digits");

/// The part of a key that proves possession: random, shown once, never stored.
///
/// # Security
/// The secret is wiped from memory when dropped. `Debug` shows its length only; there is no `Display`, no `Serialize`
/// and no `PartialEq`. The only way to its text is [`expose_secret`](Self::expose_secret).
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Shortest secret in characters: 22 base62 digits carry 130 bits (NIST SP 800-63B-4 requires 112 for a fast hash
    /// to be enough).
    pub(crate) const MIN_LENGTH: usize = 22;

    /// Longest secret in characters.
    pub(crate) const MAX_LENGTH: usize = 128;

    /// Generates a secret of `length` base62 digits, each uniform. The format bounds the length.
    ///
    /// # Errors
    /// [`RandomError`] if the source fails.
    pub(super) fn generate(random: &dyn RandomSource, length: usize) -> Result<Self, RandomError> {
        // A byte below 248 = 4 * 62 gives a uniform digit; other bytes are drawn again. Without a limit, a source that
        // yields only larger bytes would never end.
        const MOST_DRAWS: usize = 64;
        const UNIFORM_BELOW: u8 = 248;
        let mut text = Zeroizing::new(String::with_capacity(length));
        let mut bytes = Zeroizing::new([0_u8; 64]);
        for _ in 0..MOST_DRAWS {
            random.fill(bytes.as_mut_slice())?;
            let digits = bytes
                .iter()
                .filter(|byte| **byte < UNIFORM_BELOW)
                .filter_map(|byte| base62::ALPHABET.get(usize::from(byte % 62)))
                .map(|digit| char::from(*digit));
            let missing = length - text.len();
            text.extend(digits.take(missing));
            if text.len() == length {
                return Ok(Self(text));
            }
        }
        Err(RandomError::new("the source keeps repeating itself"))
    }

    /// Creates a secret from an existing text, such as one from a test vector.
    ///
    /// # Errors
    /// [`ValueError`] if the text is not 22 to 128 ASCII letters and digits. The text is wiped in either case.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueError> {
        let text = Zeroizing::new(text.into());
        let is_sized = (Self::MIN_LENGTH..=Self::MAX_LENGTH).contains(&text.len());
        if is_sized && text.bytes().all(base62::is_digit) {
            Ok(Self(text))
        } else {
            Err(MALFORMED)
        }
    }

    /// Returns the secret's text.
    ///
    /// # Security
    /// Anyone who has this text has the key. Show it to the client once; never log or store it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }

    /// Returns the length in characters.
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    /// Returns the entropy in bits of a generated secret of `length` base62 digits, rounded down.
    pub(crate) fn entropy_bits(length: usize) -> u16 {
        // log2(62) = 5.954196…
        u16::try_from(length.saturating_mul(5_954) / 1_000).unwrap_or(u16::MAX)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret([redacted, {} characters])", self.length())
    }
}

/// The origin of a key's secret, kept with the key so that a weak secret is never moved to a fast hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OriginForm", into = "OriginForm")]
#[non_exhaustive]
pub enum SecretOrigin {
    /// Keyward drew it from a random source.
    Generated {
        /// Entropy in bits, rounded down.
        entropy_bits: u16,
    },
    /// The secret was imported from another system.
    Imported {
        /// Entropy in bits, as declared at the import; `None` (unknown) counts as weak.
        entropy_bits: Option<u16>,
    },
}

impl SecretOrigin {
    /// Least entropy in bits for which a fast hash is enough: the bound of NIST SP 800-63B-4 for look-up secrets,
    /// applied by analogy.
    pub(crate) const STRONG_BITS: u16 = 112;

    /// Returns the origin, with a declared entropy that is impossible replaced by unknown: `characters` visible ASCII
    /// characters hold at most 6.55 bits each.
    pub(crate) fn at_most(self, characters: usize) -> Self {
        match self {
            Self::Imported {
                entropy_bits: Some(bits),
            } if usize::from(bits) > characters.saturating_mul(655) / 100 => {
                Self::Imported { entropy_bits: None }
            }
            origin => origin,
        }
    }

    /// Returns whether the secret is strong enough for a fast hash.
    #[must_use]
    pub(crate) fn is_strong(&self) -> bool {
        match self {
            Self::Generated { entropy_bits } => *entropy_bits >= Self::STRONG_BITS,
            Self::Imported { entropy_bits } => {
                entropy_bits.is_some_and(|bits| bits >= Self::STRONG_BITS)
            }
        }
    }
}

/// The stored form of an origin. An entropy that is not there is damage, and does not mean an unknown one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginForm {
    r#type: OriginType,
    #[serde(deserialize_with = "Option::deserialize")]
    entropy_bits: Option<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OriginType {
    Generated,
    Imported,
}

impl TryFrom<OriginForm> for SecretOrigin {
    type Error = ValueError;

    fn try_from(form: OriginForm) -> Result<Self, Self::Error> {
        match (form.r#type, form.entropy_bits) {
            (OriginType::Generated, Some(entropy_bits)) => Ok(Self::Generated { entropy_bits }),
            (OriginType::Generated, None) => Err(ValueError::Empty { value: "entropy" }),
            (OriginType::Imported, entropy_bits) => Ok(Self::Imported { entropy_bits }),
        }
    }
}

impl From<SecretOrigin> for OriginForm {
    fn from(origin: SecretOrigin) -> Self {
        let (r#type, entropy_bits) = match origin {
            SecretOrigin::Generated { entropy_bits } => (OriginType::Generated, Some(entropy_bits)),
            SecretOrigin::Imported { entropy_bits } => (OriginType::Imported, entropy_bits),
        };
        Self {
            r#type,
            entropy_bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;
    use zeroize::ZeroizeOnDrop;

    #[test]
    fn text_is_wiped_on_drop() {
        fn is_wiped_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        // Fails to compile if the field no longer wipes itself.
        let Secret(text) = &Secret::new("a".repeat(43)).unwrap();
        is_wiped_on_drop(text);
    }

    #[test]
    fn digits_are_uniform() {
        const DRAWS: usize = 2_000;
        let mut counts = [0_u32; 256];
        for _ in 0..DRAWS {
            let secret = Secret::generate(&OsRandom, 128).unwrap();
            for byte in secret.expose_secret().bytes() {
                counts[usize::from(byte)] += 1;
            }
        }
        let expected = f64::from(u32::try_from(DRAWS * 128).unwrap()) / 62.0;
        let chi_square: f64 = base62::ALPHABET
            .iter()
            .map(|digit| (f64::from(counts[usize::from(*digit)]) - expected).powi(2) / expected)
            .sum();
        // 61 degrees of freedom: chance exceeds 150 in about one of 10^9 runs. The planted bug, which takes every byte
        // modulo 62, gives more than 900.
        assert!(chi_square < 150.0, "{chi_square}");
    }

    #[test]
    fn an_unusable_source_is_given_up() {
        #[derive(Debug)]
        struct AllOnes;
        impl RandomSource for AllOnes {
            fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
                buffer.fill(255);
                Ok(())
            }
            fn is_for_tests(&self) -> bool {
                true
            }
        }
        assert!(Secret::generate(&AllOnes, 43).is_err());
    }

    #[test]
    fn entropy_is_that_of_the_digits() {
        assert_eq!(Secret::entropy_bits(22), 130);
        assert_eq!(Secret::entropy_bits(43), 256);
        assert_eq!(Secret::entropy_bits(64), 381);
    }

    #[test]
    fn length_and_alphabet_are_bounded() {
        assert!(Secret::new("a".repeat(21)).is_err());
        assert!(Secret::new("a".repeat(22)).is_ok());
        assert!(Secret::new("a".repeat(128)).is_ok());
        assert!(Secret::new("a".repeat(129)).is_err());
        assert!(Secret::new("é".repeat(22)).is_err());
        assert!(Secret::new(format!("{}_", "a".repeat(30))).is_err());
    }
}
