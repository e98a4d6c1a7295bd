//! Why a request was denied.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::cache::ReadError;
use crate::clock::{ClockError, rfc3339};
use crate::hashing::HashingError;
use crate::key::{DecodeError, KeyId, KeyTextError, RevokeReason, Scope};
use crate::store::StoreError;

/// A request that was denied: its class, and the reason for the operator.
///
/// The caller may see its `Display`, which depends only on whether a credential came and on the class. The operator
/// should see its [reason](Self::reason).
///
/// # Security
/// It has no `source`, so that an error report that follows sources cannot show a caller the reason.
#[derive(Debug)]
pub struct Denial {
    reason: DenialReason,
    key: Option<KeyId>,
}

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
    /// The key is valid, but has reached a limit of use.
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

impl Denial {
    pub(crate) fn unreadable(reason: DenialReason) -> Self {
        Self { reason, key: None }
    }

    /// Denies a request with a credential that cannot be read.
    pub(super) fn malformed(error: KeyTextError) -> Self {
        Self::unreadable(match error {
            KeyTextError::Absent => DenialReason::NoCredential,
            KeyTextError::Ambiguous => DenialReason::SeveralCredentials,
            error => DenialReason::Malformed(error),
        })
    }

    pub(crate) fn of_key(key: KeyId, reason: DenialReason) -> Self {
        Self {
            reason,
            key: Some(key),
        }
    }

    /// Returns the kind of answer.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        self.reason.class()
    }

    /// Returns the reason, for the operator's log and never for the caller.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// Returns the presented id, for the operator; `None` if no id could be read.
    ///
    /// Anyone can present any id.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.key
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.class(), &self.reason) {
            (DenialClass::Unauthenticated, DenialReason::NoCredential) => "an API key is required",
            (DenialClass::Unauthenticated, _) => "the API key is not valid",
            (DenialClass::BadRequest, _) => "more than one API key was sent",
            (DenialClass::Forbidden, _) => "the API key does not permit this",
            (DenialClass::Throttled, _) => "too many requests with this API key",
            (DenialClass::Undecidable, _) => "the API key cannot be checked now",
        })
    }
}

impl std::error::Error for Denial {}

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
    /// access could meet it. It is most likely a typo; [`Verifier::prepare`](super::Verifier::prepare) finds it at
    /// start.
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
            | Self::ResourceRefused { .. } => DenialClass::Forbidden,
            Self::TooManyInFlight => DenialClass::Throttled,
            Self::Store(_)
            | Self::Unreadable(_)
            | Self::Hashing(_)
            | Self::Clock(_)
            | Self::StaleCache
            | Self::ClockBehind => DenialClass::Undecidable,
        }
    }
}
