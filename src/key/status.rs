//! The state of a key.

use std::fmt;

use serde::Serialize;

/// The state of a key at some instant.
///
/// Only an active key is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// The key may be used.
    Active,
    /// The key's first valid instant is still to come.
    NotYetValid,
    /// The key is suspended, and may be resumed.
    Suspended,
    /// The key's last valid instant has passed.
    Expired,
    /// The key is permanently revoked.
    Revoked,
}

/// `active`, `not_yet_valid`, `suspended`, `expired` or `revoked`, as in the serialized form.
impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::NotYetValid => "not_yet_valid",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}
