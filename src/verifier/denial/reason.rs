//! The classes of denials, and their reasons.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::cache::ReadError;
use crate::clock::{ClockError, rfc3339};
use crate::codes::codes;
use crate::hashing::HashingError;
use crate::key::{DecodeError, KeyTextError, RevokeReason, Scope};
use crate::limiter::{LimiterError, PlanError};
use crate::store::StoreError;

/// The kind of answer to a denied request.
///
/// It is exhaustive: a host application handles each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialClass {
    /// The request is malformed: more than one credential was presented.
    BadRequest,
    /// No credential came, or the one that came is refused.
    Unauthenticated,
    /// The key is valid, but does not permit this request.
    Forbidden,
    /// The key is valid, but has reached a limit of use. Or it was not looked at, since too many authentications from
    /// the same address [have failed](DenialReason::TooManyFailures).
    Throttled,
    /// The verifier cannot decide now.
    Undecidable,
}

impl DenialClass {
    /// Returns the HTTP status (RFC 9110, RFC 6585): 400, 401, 403, 429 or 503.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::Throttled => 429,
            Self::Undecidable => 503,
        }
    }
}

/// Why a request was denied, as precisely as the verifier can say.
///
/// It is for operators, and contains no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// No credential came.
    #[error("no credential was presented")]
    NoCredential,
    /// More than one credential came.
    #[error("more than one credential was presented")]
    SeveralCredentials,
    /// The credential is no key of this format.
    #[error(transparent)]
    Malformed(KeyTextError),
    /// No key has this id.
    #[error("there is no key with this id")]
    UnknownKey,
    /// Another [`Keyward`](crate::Keyward) admitted the request: its keys, scopes and resources are not this one's.
    #[error("the request was admitted by another Keyward")]
    OtherKeyward,
    /// The key exists, and the secret is not its secret.
    #[error("the secret is wrong")]
    WrongSecret,
    /// The key belongs to another environment than its text names, than the request addresses, or than this verifier
    /// accepts.
    #[error("the key belongs to another environment")]
    OtherEnvironment,
    /// The key was issued in a format with another prefix, or imported from another system in another format than it
    /// was presented in.
    #[error("the key is of another format")]
    OtherFormat,
    /// The key belongs to another tenant than the request addresses.
    #[error("the key belongs to another tenant")]
    OtherTenant,
    /// The key was revoked.
    #[error("the key was revoked at {}: {reason}", rfc3339(*at))]
    Revoked {
        /// The instant of the revocation.
        at: OffsetDateTime,
        /// The reason for it.
        reason: RevokeReason,
    },
    /// The key was issued before a cutoff.
    #[error("the key was issued before a cutoff")]
    CutOff,
    /// The key's successor has replaced it.
    #[error("the key was replaced by its successor")]
    Superseded,
    /// The key is suspended.
    #[error("the key is suspended")]
    Suspended,
    /// The key is not valid yet.
    #[error("the key is not valid yet")]
    NotYetValid,
    /// The key has expired.
    #[error("the key has expired")]
    Expired,
    /// The key has ended since the request was admitted.
    #[error("the key has ended since the request was admitted")]
    Ended,
    /// The request came from outside the key's networks.
    #[error("the request came from outside the key's networks")]
    OutsideNetworks,
    /// The key is restricted to networks, and the client address is unknown.
    #[error("the key is restricted to networks, and the request's address is not known")]
    AddressUnknown,
    /// The key's access does not meet the route's requirement.
    #[error("the key's access does not meet the requirement")]
    MissingAccess,
    /// The key's access does not meet the requirement, which names a scope that is not declared: only keys with full
    /// access could meet it. It is most likely a typo; [`Verifier::prepare`](crate::verifier::Verifier::prepare) finds
    /// it at start.
    #[error("the requirement names `{0}`, a scope that is not declared")]
    UndeclaredScope(Scope),
    /// The key is restricted in a kind of resource that the route does not settle.
    #[error("the key is restricted in `{kind}`, which the route does not settle")]
    ResourceUnsettled {
        /// The kind.
        kind: Arc<str>,
    },
    /// The request names more than four resources.
    #[error("the request names too many resources to check")]
    TooManyResources,
    /// The route settles a kind of resource by the request, and the request names no resource of that kind.
    #[error("the route is not bound to a `{kind}`")]
    ResourceUnbound {
        /// The kind.
        kind: Arc<str>,
    },
    /// The key is not permitted the resource.
    #[error("the key is not permitted this `{kind}`")]
    ResourceRefused {
        /// The kind.
        kind: Arc<str>,
    },
    /// The key has as many requests in flight as it may have.
    #[error("the key has its maximum number of requests in flight")]
    TooManyInFlight,
    /// A quota has less left than the request costs.
    #[error("the quota `{quota}` is used up for another {retry_after:.1?}")]
    QuotaExceeded {
        /// The name of the quota, or of the first of several.
        quota: Arc<str>,
        /// When all quotas will have it, if nothing more is taken.
        retry_after: Duration,
    },
    /// The request costs more than a quota's limit: it can never be admitted.
    #[error("the request costs more than the whole quota `{quota}`")]
    CostAboveLimit {
        /// The name of the quota, or of the first of several.
        quota: Arc<str>,
    },
    /// Too many authentications from the request's address have
    /// [failed](crate::limiter::RateLimiting::failed_authentications), or are in progress. Nothing is known about the
    /// credential: it was not looked at.
    #[error("too many authentications from this address have failed, for another {retry_after:?}")]
    TooManyFailures {
        /// When an authentication from there may begin, if none fails meanwhile.
        retry_after: Duration,
    },
    /// The limiter cannot tell.
    #[error(transparent)]
    Limiter(LimiterError),
    /// The limits of the key's tenant are not known.
    #[error(transparent)]
    Plan(PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The stored key cannot be read.
    #[error(transparent)]
    Unreadable(DecodeError),
    /// The secret could be neither confirmed nor refuted.
    #[error(transparent)]
    Hashing(HashingError),
    /// The clock failed.
    #[error(transparent)]
    Clock(ClockError),
    /// The cached record is too old to decide on, and could not be read again in time.
    #[error("the cached record is stale and could not be read again in time")]
    StaleCache,
    /// The clock is earlier than the key's issue, and cannot show whether the key has expired.
    #[error("the clock is earlier than the instant at which the key was issued")]
    ClockBehind,
}

codes! {
    DenialReason;
    Self::NoCredential => "missing_credential",
    Self::SeveralCredentials => "several_credentials",
    Self::UnknownKey => "unknown_key",
    Self::OtherKeyward => "other_keyward",
    Self::WrongSecret => "wrong_secret",
    Self::OtherEnvironment => "other_environment",
    Self::OtherFormat => "other_format",
    Self::OtherTenant => "other_tenant",
    Self::Revoked { .. } => "revoked",
    Self::CutOff => "cut_off",
    Self::Superseded => "superseded",
    Self::Suspended => "suspended",
    Self::NotYetValid => "not_yet_valid",
    Self::Expired => "expired",
    Self::Ended => "ended",
    Self::OutsideNetworks => "outside_networks",
    Self::AddressUnknown => "address_unknown",
    Self::MissingAccess => "insufficient_scope",
    Self::UndeclaredScope(_) => "undeclared_scope",
    Self::ResourceUnsettled { .. } => "restricted_key",
    Self::TooManyResources => "too_many_resources",
    Self::ResourceUnbound { .. } => "resource_not_named",
    Self::ResourceRefused { .. } => "resource_not_permitted",
    Self::TooManyInFlight => "too_many_in_flight",
    Self::QuotaExceeded { .. } => "quota_exceeded",
    Self::CostAboveLimit { .. } => "cost_above_limit",
    Self::TooManyFailures { .. } => "too_many_failures",
    Self::Plan(_) => "plan_unavailable",
    Self::Clock(_) => "clock_failed",
    Self::StaleCache => "stale_cache",
    Self::ClockBehind => "clock_behind",
    @ Self::Malformed(error) => error.code_inside(), of KeyTextError::codes_inside(),
    @ Self::Limiter(error) => error.code_inside(), of LimiterError::codes_inside(),
    @ Self::Store(error) => error.code_inside(), of StoreError::codes_inside(),
    @ Self::Unreadable(error) => error.code_inside(), of DecodeError::codes_inside(),
    @ Self::Hashing(error) => error.code_inside(), of HashingError::codes_inside(),
}

impl From<ReadError> for DenialReason {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unknown => Self::UnknownKey,
            ReadError::Store(error) => Self::Store(error),
            ReadError::Unreadable(error) => Self::Unreadable(error),
            ReadError::Clock(error) => Self::Clock(error),
            ReadError::Stale => Self::StaleCache,
        }
    }
}

impl DenialReason {
    /// Returns the kind of answer.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        match self {
            Self::SeveralCredentials => DenialClass::BadRequest,
            Self::NoCredential
            | Self::Malformed(_)
            | Self::UnknownKey
            | Self::OtherKeyward
            | Self::WrongSecret
            | Self::OtherEnvironment
            | Self::OtherFormat
            | Self::OtherTenant
            | Self::Revoked { .. }
            | Self::CutOff
            | Self::Superseded
            | Self::Suspended
            | Self::NotYetValid
            | Self::Expired
            | Self::Ended
            | Self::OutsideNetworks
            | Self::AddressUnknown => DenialClass::Unauthenticated,
            Self::MissingAccess
            | Self::UndeclaredScope(_)
            | Self::ResourceUnsettled { .. }
            | Self::TooManyResources
            | Self::ResourceUnbound { .. }
            | Self::ResourceRefused { .. }
            | Self::CostAboveLimit { .. } => DenialClass::Forbidden,
            Self::TooManyInFlight | Self::QuotaExceeded { .. } | Self::TooManyFailures { .. } => {
                DenialClass::Throttled
            }
            Self::Store(_)
            | Self::Unreadable(_)
            | Self::Hashing(_)
            | Self::Clock(_)
            | Self::StaleCache
            | Self::ClockBehind
            | Self::Limiter(_)
            | Self::Plan(_) => DenialClass::Undecidable,
        }
    }
}
