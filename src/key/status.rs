//! Whether a key lives.

use std::fmt;

use serde::Serialize;

/// What state a key is in at some instant. Only an active key is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// It may be used.
    Active,
    /// Its first valid instant is still to come.
    NotYetValid,
    /// It is switched off, and may be switched on again.
    Suspended,
    /// Its last valid instant has passed.
    Expired,
    /// It was revoked, for good.
    Revoked,
}

/// `active`, `not_yet_valid`, `suspended`, `expired` or `revoked`, as it serializes.
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
