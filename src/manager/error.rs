//! Why a management operation was not done.

use time::OffsetDateTime;

use super::{Axis, ImportError, PageCursorError, PolicyError};
use crate::clock::rfc3339;
use crate::hashing::HashingError;
use crate::key::{
    DecodeError, EncodeError, FormatError, KeyId, KeyStatus, Quota, Resources, Scope, TitleError,
};
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
    /// The key has expired, or a rotation or a kill switch has ended it.
    #[error("the key has ended: it is {0}")]
    Ended(KeyStatus),
    /// The key is suspended already.
    #[error("the key was suspended at {}", rfc3339(*at))]
    AlreadySuspended {
        /// When.
        at: OffsetDateTime,
    },
    /// The key is not suspended.
    #[error("the key is not suspended")]
    NotSuspended,
    /// A suspended key is not rotated: its successor would be switched on.
    #[error("the key is suspended; resume it first")]
    Suspended,
    /// The key has a successor, which is the one to rotate.
    #[error("the key was rotated already; its successor is {successor}")]
    AlreadyRotated {
        /// The successor.
        successor: KeyId,
    },
    /// The key is there already.
    #[error("the key was imported already, as {id}")]
    AlreadyImported {
        /// Its id here.
        id: KeyId,
    },
    /// The key is there already, with another secret, or under another digest that its client has not used yet: what is
    /// there stays as it is.
    #[error("the key was imported already, as {id}, with another secret or digest")]
    ImportedOtherwise {
        /// Its id here.
        id: KeyId,
    },
    /// The id of the key that is to be brought in is another key's.
    #[error("the id {id} is another key's")]
    IdTaken {
        /// The id.
        id: KeyId,
    },
    /// The key cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A kill switch that was thrown meanwhile has ended all that was issued at that instant. Try again.
    #[error("a cutoff has ended all that was issued at that instant")]
    CutOff,
    /// A kill switch was thrown at an instant that this node's clock has not reached: what is issued now would have
    /// ended. One of the two clocks is wrong. Correct this node's if it is behind, and wait until it has reached the
    /// instant; if the other was ahead, [lower the cutoff](super::KeyManager::lower_cutoff).
    #[error(
        "all that is issued before {} is cut off, and this node's clock is behind that: correct the clock, or lower \
         the cutoff",
        rfc3339(*cutoff)
    )]
    ClockBehindCutoff {
        /// The first instant of issue that is good.
        cutoff: OffsetDateTime,
    },
    /// The cutoff is not lowered: keys that it ended, dated in the future by a clock that was ahead, would live again.
    /// Revoke them first, with [`revoke_all`](super::KeyManager::revoke_all).
    #[error(
        "keys that are dated in the future would live again; revoke all keys of the scope first"
    )]
    WouldRevive,
    /// The instant lies in the future.
    #[error("the instant lies in the future")]
    InTheFuture,
    /// All keys issued before the instant have ended, and not all are stored as revoked, or removed, yet.
    #[error("all keys issued before {} have ended, but not all are stored as revoked, or removed, yet", rfc3339(*before))]
    Unfinished {
        /// The instant with which to go on.
        before: OffsetDateTime,
        /// Why it stopped.
        source: StoreError,
    },
    /// The actor presented 100 texts within a minute that are no key of its tenants, or are taken by another tenant.
    #[error("more than 100 failed look-ups or imports in a minute; try again in a minute")]
    TooManyLookups,
    /// The cursor came of another list.
    #[error(transparent)]
    Cursor(#[from] PageCursorError),
    /// The key asked for cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidKey),
    /// The key asked for exceeds what the actor may grant.
    #[error("the key exceeds what the actor may grant: {0}")]
    AboveCeiling(Axis),
    /// The tenant has as many keys as it may have. Those that have expired, or that a kill switch or a rotation has
    /// ended, count until they are revoked: [`revoke_all`](super::KeyManager::revoke_all) does it after a kill switch.
    #[error("the tenant has as many keys as it may have; ended ones count until they are revoked")]
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
    /// The tenant's rules bar this access.
    #[error("the tenant's rules bar this access")]
    AccessBarred,
    /// The key's lifetime exceeds the maximum of the tenant's rules.
    #[error("the tenant's rules want keys to expire sooner")]
    LifetimeTooLong,
    /// The environment is not one of the format's.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It would have expired already: its end is not in the future, or no later than one that this process has seen
    /// pass before its clock ran back.
    #[error("the expiry is not in the future")]
    Expired,
    /// A rotation's overlap would have ended already, as for [`Expired`](Self::Expired).
    #[error("the overlap has to end in the future; without one, the old key is revoked at once")]
    Overlap,
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
