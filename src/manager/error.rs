//! Errors of management operations.

use std::num::NonZeroU32;

use time::OffsetDateTime;

use super::{Axis, PageCursorError, PolicyError};
use crate::clock::rfc3339;
use crate::codes::codes;
use crate::hashing::HashingError;
use crate::import::ImportError;
use crate::key::{
    DecodeError, EncodeError, FormatError, KeyId, KeyStatus, Quota, Resources, Scope, ValueError,
};
use crate::random::RandomError;
use crate::store::StoreError;

/// Why a management operation was not done. Contains no secret and no digest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// The policy refuses, or the tenant is not the actor's.
    #[error("the actor may not do this")]
    Refused,
    /// The policy could not decide.
    #[error(transparent)]
    Policy(PolicyError),
    /// The tenant has no such key, or is not the actor's: the answer is the same.
    #[error("there is no such key")]
    NotFound,
    /// The key was already revoked.
    #[error("the key was revoked at {}", rfc3339(*at))]
    AlreadyRevoked {
        /// Instant of the revocation.
        at: OffsetDateTime,
    },
    /// The key has expired, or a rotation or a cutoff has ended it.
    #[error("the key has ended: it is {0}")]
    Ended(KeyStatus),
    /// The key is already suspended.
    #[error("the key was suspended at {}", rfc3339(*at))]
    AlreadySuspended {
        /// Instant of the suspension.
        at: OffsetDateTime,
    },
    /// The key is not suspended.
    #[error("the key is not suspended")]
    NotSuspended,
    /// The key is suspended and cannot be rotated: its successor would be active.
    #[error("the key is suspended; resume it first")]
    Suspended,
    /// The key already has a successor. Rotate that one.
    #[error("the key was rotated already; its successor is {successor}")]
    AlreadyRotated {
        /// Id of the successor.
        successor: KeyId,
    },
    /// A key was issued for this request already. Its secret was shown once, and cannot be shown again: if the answer
    /// was lost, [rotate](super::KeyManager::rotate) the key with [`Overlap::None`](super::Overlap::None), under a
    /// request id of its own, which ends it and returns another secret.
    #[error(
        "the key {id} was issued for this request already; rotate it without an overlap if its text is lost"
    )]
    AlreadyIssued {
        /// Id of the key.
        id: KeyId,
    },
    /// The request id was used for a key with other fields. Each key takes a request id of its own.
    #[error("the request id was used already, for the key {id}, with other fields")]
    RequestIdReused {
        /// Id of the key.
        id: KeyId,
    },
    /// The tenant already has the imported key.
    #[error("the key was imported already, as {id}")]
    AlreadyImported {
        /// The key's id in Keyward.
        id: KeyId,
    },
    /// The tenant already has the imported key, with another secret, or under another digest that its client has not
    /// used yet. The stored key does not change.
    #[error("the key was imported already, as {id}, with another secret or digest")]
    ImportedOtherwise {
        /// The key's id in Keyward.
        id: KeyId,
    },
    /// The id of the key to import, or the one of a request id, belongs to another key.
    #[error("the id {id} belongs to another key")]
    IdTaken {
        /// The id, which another key already has.
        id: KeyId,
    },
    /// The key cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A cutoff that was set meanwhile has ended everything issued at that instant. Try again.
    #[error("a cutoff ends all keys issued at that instant")]
    CutOff,
    /// A cutoff was set at an instant that this node's clock has not reached: a key issued now would have
    /// ended. One of the two clocks is wrong. If this node's clock is behind, correct it and wait until it has reached
    /// the instant; if the other clock was ahead, [lower the cutoff](super::KeyManager::lower_cutoff).
    #[error(
        "all that is issued before {} is cut off, and this node's clock is behind that: correct the clock, or lower \
         the cutoff",
        rfc3339(*cutoff)
    )]
    ClockBehindCutoff {
        /// First instant of issue that is valid.
        cutoff: OffsetDateTime,
    },
    /// The cutoff is not lowered, because keys that it ended, dated in the future by a clock that was ahead, would
    /// live again. Revoke them first, with [`revoke_all`](super::KeyManager::revoke_all).
    #[error(
        "keys that are dated in the future would live again; revoke all keys of the scope first"
    )]
    WouldRevive,
    /// The instant lies in the future.
    #[error("the instant is in the future")]
    InTheFuture,
    /// All keys issued before the instant have ended, but not all are stored as revoked, or removed, yet.
    #[error(
        "all keys issued before {} have ended, but not all are stored as revoked, or removed, yet",
        rfc3339(*before)
    )]
    Unfinished {
        /// The instant with which to continue.
        before: OffsetDateTime,
        /// The error that stopped it.
        source: StoreError,
    },
    /// The actor presented 100 texts within a minute that are no key of its tenants, or are another tenant's key.
    #[error("more than 100 failed look-ups or imports in a minute; try again in a minute")]
    TooManyLookups,
    /// The cursor belongs to another list.
    #[error(transparent)]
    Cursor(#[from] PageCursorError),
    /// The requested key is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidKey),
    /// The requested key exceeds the actor's ceiling.
    #[error("the key exceeds what the actor may grant: {0}")]
    AboveCeiling(Axis),
    /// The tenant has reached its limit of keys. Keys that have expired, or that a cutoff or a rotation has
    /// ended, count until they are revoked, and so do old keys in the overlap of a rotation:
    /// [`revoke_all`](super::KeyManager::revoke_all) revokes those that a cutoff has ended.
    #[error(
        "the tenant has reached its maximum of {limit} keys; keys that have ended, or are in the overlap of a \
         rotation, count until they are revoked"
    )]
    TenantFull {
        /// The tenant's limit.
        limit: NonZeroU32,
    },
    /// The tenant has reached its limit of keys, and a rotation with this overlap needs a place under it. See
    /// [`TenantRules::max_keys`](super::TenantRules::max_keys).
    #[error(
        "the tenant has reached its maximum of {limit} keys; a rotation needs no further place if its overlap ends \
         within 90 days and the key's own predecessors are revoked, or without an overlap"
    )]
    OverlapNeedsPlace {
        /// The tenant's limit.
        limit: NonZeroU32,
    },
    /// All generated key ids already existed: the random source repeats itself. Nothing was issued.
    #[error("all generated key ids exist already; the random source repeats itself")]
    IdCollision,
    /// The random source failed. Nothing was issued.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The clock cannot tell the time, or its time is outside the years 0000 to 9999.
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

codes! {
    ManageError;
    Self::Refused => "refused",
    Self::Policy(_) => "policy_failed",
    Self::NotFound => "not_found",
    Self::AlreadyRevoked { .. } => "already_revoked",
    Self::Ended(_) => "ended",
    Self::AlreadySuspended { .. } => "already_suspended",
    Self::NotSuspended => "not_suspended",
    Self::Suspended => "suspended",
    Self::AlreadyRotated { .. } => "already_rotated",
    Self::AlreadyImported { .. } => "already_imported",
    Self::ImportedOtherwise { .. } => "imported_otherwise",
    Self::IdTaken { .. } => "id_taken",
    Self::Import(_) => "invalid_import",
    Self::CutOff => "cut_off",
    Self::ClockBehindCutoff { .. } => "clock_behind_cutoff",
    Self::WouldRevive => "would_revive",
    Self::InTheFuture => "in_the_future",
    Self::Unfinished { .. } => "unfinished",
    Self::TooManyLookups => "too_many_lookups",
    Self::Cursor(_) => "bad_cursor",
    Self::Invalid(_) => "invalid_key",
    Self::AboveCeiling(_) => "above_ceiling",
    Self::AlreadyIssued { .. } => "already_issued",
    Self::RequestIdReused { .. } => "request_id_reused",
    Self::TenantFull { .. } => "tenant_full",
    Self::OverlapNeedsPlace { .. } => "overlap_needs_place",
    Self::IdCollision => "id_collision",
    Self::Random(_) => "random_failed",
    Self::Clock => "clock_failed",
    @ Self::Hashing(error) => error.code_inside(), of HashingError::codes_inside(),
    @ Self::Unreadable(error) => error.code_inside(), of DecodeError::codes_inside(),
    @ Self::Store(error) => error.code(), of StoreError::codes(),
}

/// Why a requested key is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The title is empty, too long, or holds a character that is refused.
    #[error(transparent)]
    Title(ValueError),
    /// The request id is not 1 to 255 visible ASCII characters.
    #[error(transparent)]
    RequestId(ValueError),
    /// A field holds the text of a key, or of one with at least half of its secret, which every list would show.
    #[error("the {field} holds the text of a key")]
    HoldsKey {
        /// Name of the field.
        field: &'static str,
    },
    /// A scope is not declared.
    #[error("the scope `{0}` is not declared")]
    UndeclaredScope(Scope),
    /// The tenant's rules do not allow this access.
    #[error("the tenant's rules do not allow this access")]
    AccessBarred,
    /// The key's lifetime exceeds the maximum of the tenant's rules.
    #[error("the tenant's rules require an earlier expiry")]
    LifetimeTooLong,
    /// The format has no such environment.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The key would already have expired: its end is not in the future, or no later than one that this process has
    /// seen pass before its clock ran back.
    #[error("the expiry is not in the future")]
    Expired,
    /// A rotation's overlap would already have ended, as for [`Expired`](Self::Expired).
    #[error("the overlap has to end in the future; without one, the old key is revoked at once")]
    Overlap,
    /// The key was rotated, and would expire after the overlap with its successor.
    #[error("the key was rotated and ends by {}, with the overlap", rfc3339(*ends_at))]
    BeyondOverlap {
        /// First instant at which only the successor is valid.
        ends_at: OffsetDateTime,
    },
    /// The key would expire before it becomes valid.
    #[error("the key would expire before it becomes valid")]
    NeverValid,
    /// An instant lies outside the years 0000 to 9999.
    #[error("an instant is outside the years 0000 to 9999")]
    Instant,
    /// Two quotas have the same name.
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
    /// The record cannot be encoded.
    #[error(transparent)]
    Unwritable(#[from] EncodeError),
}

codes! {
    InvalidKey;
    Self::Title(_) => "invalid_title",
    Self::RequestId(_) => "invalid_request_id",
    Self::HoldsKey { .. } => "holds_key",
    Self::UndeclaredScope(_) => "undeclared_scope",
    Self::AccessBarred => "access_barred",
    Self::LifetimeTooLong => "lifetime_too_long",
    Self::Format(_) => "invalid_environment",
    Self::Expired => "expired",
    Self::Overlap => "overlap_ended",
    Self::BeyondOverlap { .. } => "beyond_overlap",
    Self::NeverValid => "never_valid",
    Self::Instant => "invalid_instant",
    Self::RepeatedQuota(_) => "repeated_quota",
    Self::TooManyQuotas => "too_many_quotas",
    Self::TooManyResources => "too_many_resources",
    Self::TooManyNetworks => "too_many_networks",
    Self::Unwritable(_) => "unwritable",
}
