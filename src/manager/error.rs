//! Why a management operation was not done.

use time::OffsetDateTime;

use super::{Axis, PolicyError};
use crate::clock::rfc3339;
use crate::hashing::HashingError;
use crate::key::{DecodeError, EncodeError, FormatError, Quota, Resources, Scope, TitleError};
use crate::random::RandomError;
use crate::store::StoreError;

/// Why a management operation was not done. Bears no secret and no digest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// The policy says no, or the tenant is not the actor's.
    #[error("the actor may not do this")]
    Refused,
    /// The policy could not tell.
    #[error(transparent)]
    Policy(PolicyError),
    /// The tenant has no such key, or is not the actor's: the answer is the same.
    #[error("there is no such key")]
    NotFound,
    /// The key was revoked before.
    #[error("the key was revoked at {}", rfc3339(*at))]
    AlreadyRevoked {
        /// When.
        at: OffsetDateTime,
    },
    /// The key asked for cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidKey),
    /// The key asked for exceeds what the actor may grant.
    #[error("the key exceeds what the actor may grant: {0}")]
    AboveCeiling(Axis),
    /// The tenant has as many keys as it may have.
    #[error("the tenant has as many keys as it may have")]
    TenantFull,
    /// The key ids drawn all existed: the random source repeats itself. Nothing was issued.
    #[error("the key ids drawn all exist; the random source repeats itself")]
    IdCollision,
    /// No random bytes can be had. Nothing was issued.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The clock cannot tell the time, or a time outside the years 0000 to 9999.
    #[error("the clock cannot tell the time")]
    Clock,
    /// The secret could not be hashed. Nothing was issued.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The stored key cannot be read.
    #[error(transparent)]
    Unreadable(DecodeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the key asked for cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The title is empty, too long, or holds a character that is refused.
    #[error(transparent)]
    Title(#[from] TitleError),
    /// A field holds the text of a key, or of one with at least half of its secret, which would be shown in every list.
    #[error("the {field} holds the text of a key")]
    HoldsKey {
        /// The field.
        field: &'static str,
    },
    /// A scope is not declared.
    #[error("the scope `{0}` is not declared")]
    UndeclaredScope(Scope),
    /// The environment is not one of the format's.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It would have expired already.
    #[error("the expiry is not in the future")]
    Expired,
    /// It would expire before it becomes valid.
    #[error("the key would expire before it becomes valid")]
    NeverValid,
    /// An instant lies outside the years 0000 to 9999.
    #[error("an instant lies outside the years 0000 to 9999")]
    Instant,
    /// Two quotas bear one name.
    #[error("two quotas are named `{0}`")]
    RepeatedQuota(String),
    /// There are too many quotas.
    #[error("a key carries at most {} quotas", Quota::MAX_PER_KEY)]
    TooManyQuotas,
    /// There are too many resources.
    #[error("a key is restricted to at most {} resources", Resources::MAX)]
    TooManyResources,
    /// There are too many networks.
    #[error("a key is restricted to at most 100 networks")]
    TooManyNetworks,
    /// The record cannot be written.
    #[error(transparent)]
    Unwritable(#[from] EncodeError),
}
