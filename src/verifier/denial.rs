//! No, and why.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock::{ClockError, rfc3339};
use crate::hashing::HashingError;
use crate::key::{DecodeError, KeyId, KeyTextError, RevokeReason, Scope};
use crate::store::StoreError;

/// No. What the caller may see is its `Display`, and it depends on no more than whether a credential came and
/// on the class. What the operator should see is its [reason](Self::reason).
///
/// It has no `source`, so that an error report that follows sources cannot show a caller the reason.
#[derive(Debug)]
pub struct Denial {
    reason: DenialReason,
    key: Option<KeyId>,
}

/// How to answer. Exhaustive: a host handles each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialClass {
    /// The request is malformed: more than one credential came.
    BadRequest,
    /// No credential came, or the one that came is refused.
    Unauthenticated,
    /// The key is good, but not for this.
    Forbidden,
    /// The key is good, but too much in use.
    Throttled,
    /// It cannot be decided now.
    Undecidable,
}

impl DenialClass {
    /// The HTTP status (RFC 9110, RFC 6585): 400, 401, 403, 429 or 503.
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

    pub(crate) fn of_key(key: KeyId, reason: DenialReason) -> Self {
        Self {
            reason,
            key: Some(key),
        }
    }

    /// How to answer.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        self.reason.class()
    }

    /// Why. For the operator's log, never for the caller.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// The id that was presented, where one could be read. Anyone can present any id: for the operator.
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

/// Why a request was denied, as precisely as is known. For operators; bears no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// No credential came.
    #[error("no credential came")]
    NoCredential,
    /// More than one credential came.
    #[error("more than one credential came")]
    SeveralCredentials,
    /// The credential is no key of this format.
    #[error(transparent)]
    Malformed(KeyTextError),
    /// There is no key with this id.
    #[error("there is no key with this id")]
    UnknownKey,
    /// The key exists, and the secret is not its secret.
    #[error("the secret is not the key's")]
    WrongSecret,
    /// The key belongs to another environment than its text names, than the request addresses, or than are
    /// accepted here.
    #[error("the key belongs to another environment")]
    OtherEnvironment,
    /// The key was issued in a format with another prefix, or brought in from another system in another format than
    /// it was presented in.
    #[error("the key is of another format")]
    OtherFormat,
    /// The key belongs to another tenant than the request addresses.
    #[error("the key belongs to another tenant")]
    OtherTenant,
    /// The key was revoked.
    #[error("the key was revoked at {}: {reason}", rfc3339(*at))]
    Revoked {
        /// When.
        at: OffsetDateTime,
        /// Why.
        reason: RevokeReason,
    },
    /// The key was issued before a cutoff.
    #[error("the key was issued before a cutoff")]
    CutOff,
    /// The key's successor has taken its place.
    #[error("the key's successor has taken its place")]
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
    /// The key is restricted to networks, and where the request came from is not known.
    #[error("the key is restricted to networks, and the request's address is not known")]
    AddressUnknown,
    /// The key's access does not meet the route's requirement.
    #[error("the key's access does not meet the requirement")]
    MissingAccess,
    /// The key's access does not meet the requirement, which names a scope that is not declared: keys with full access
    /// alone could meet it. A typo, most likely; [`Verifier::prepare`](super::Verifier::prepare) finds it at start.
    #[error("the requirement names `{0}`, a scope that is not declared")]
    UndeclaredScope(Scope),
    /// The key is restricted in a kind of resource that the route does not settle.
    #[error("the key is restricted in `{kind}`, which the route does not settle")]
    ResourceUnsettled {
        /// The kind.
        kind: Arc<str>,
    },
    /// The request names more resources than are looked at.
    #[error("the request names more resources than are looked at")]
    TooManyResources,
    /// The route settles a kind of resource by the request, and the request names none.
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
    /// As many of the key's requests are in flight as it may have.
    #[error("as many of the key's requests are in flight as it may have")]
    TooManyInFlight,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The stored key cannot be read.
    #[error(transparent)]
    Unreadable(DecodeError),
    /// The secret can be neither confirmed nor refuted.
    #[error(transparent)]
    Hashing(HashingError),
    /// The clock failed.
    #[error(transparent)]
    Clock(ClockError),
    /// The cached record is too old to decide on, and could not be read again in time.
    #[error("the cached record is stale and could not be read again in time")]
    StaleCache,
    /// The clock stands before the key was issued, and cannot tell whether it has expired.
    #[error("the clock stands before the key was issued")]
    ClockBehind,
}

impl DenialReason {
    /// How to answer.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        match self {
            Self::SeveralCredentials => DenialClass::BadRequest,
            Self::NoCredential
            | Self::Malformed(_)
            | Self::UnknownKey
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
