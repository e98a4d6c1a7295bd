//! The error of values that cannot be created, and the traits of values with a text form.

use std::net::IpAddr;

use crate::codes::codes;

/// Why a value, such as a title, a scope or a pepper, cannot be created.
///
/// # Security
/// It names the kind of value, the rule that is broken, and at most one character. It does not contain the refused
/// text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A text or a list is empty.
    #[error("{value} is empty")]
    Empty {
        /// The kind of value, such as `title`.
        value: &'static str,
    },
    /// The value is larger than its limit.
    #[error("{value} has more than {limit} {unit}")]
    TooLarge {
        /// The kind of value, such as `title`.
        value: &'static str,
        /// The limit.
        limit: usize,
        /// The unit of the limit, such as `characters`.
        unit: &'static str,
    },
    /// The text contains a character that is not allowed in it.
    #[error("{value} contains U+{:04X} at position {position}: {refused}", u32::from(*.character))]
    Character {
        /// The kind of value, such as `title`.
        value: &'static str,
        /// The character, the first that is refused.
        character: char,
        /// The position of the character in the text, in characters (Unicode scalar values) and counted from 1.
        position: usize,
        /// The reason, such as `a control character`.
        refused: &'static str,
    },
    /// The value does not have the required form.
    #[error("{value} must be {form}")]
    Malformed {
        /// The kind of value, such as `tenant id`.
        value: &'static str,
        /// The required form, such as `1 to 128 visible ASCII characters`.
        form: &'static str,
    },
    /// Bits of a network are set past the prefix length, which is more likely a mistake than a range.
    #[error("bits are set past the prefix length; the range would be {address}/{prefix_length}")]
    HostBits {
        /// The first address of the range.
        address: IpAddr,
        /// The length of the prefix in bits.
        prefix_length: u8,
    },
}

codes! {
    ValueError;
    Self::Empty { .. } => "empty",
    Self::TooLarge { .. } => "too_large",
    Self::Character { .. } => "refused_character",
    Self::Malformed { .. } => "malformed",
    Self::HostBits { .. } => "host_bits",
}

impl ValueError {
    pub(crate) const fn malformed(value: &'static str, form: &'static str) -> Self {
        Self::Malformed { value, form }
    }
}

/// Implements the conversions that serde uses, and `Debug` with the type's name, for a type with `FromStr` and
/// `Display`.
macro_rules! text_form {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = $crate::key::ValueError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}

pub(super) use text_form;
