//! The origin of a secret, from which its strength follows.

use serde::{Deserialize, Serialize};

/// The origin of a key's secret, kept with the key so that a weak secret is never moved to a fast hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
        #[serde(rename = "declared_bits")]
        entropy_bits: Option<u16>,
    },
}

impl SecretOrigin {
    /// Least entropy in bits for which a fast hash is enough: the bound of NIST SP 800-63B-4 for look-up secrets,
    /// applied by analogy.
    pub const STRONG_BITS: u16 = 112;

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
    pub fn is_strong(&self) -> bool {
        match self {
            Self::Generated { entropy_bits } => *entropy_bits >= Self::STRONG_BITS,
            Self::Imported { entropy_bits } => {
                entropy_bits.is_some_and(|bits| bits >= Self::STRONG_BITS)
            }
        }
    }
}
