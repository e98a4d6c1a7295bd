//! Why a request was denied.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::cache::{CachedRecord, ReadError};
use crate::clock::{ClockError, rfc3339};
use crate::codes::codes;
use crate::hashing::HashingError;
use crate::key::{DecodeError, KeyId, KeyRecord, KeyTextError, RevokeReason, Scope};
use crate::limiter::{Limit, LimitRule, LimitSet, LimiterError, Meter, PlanError, TakeError};
use crate::store::StoreError;

/// A request that was denied: its class, and the reason for the operator.
///
/// The caller may see its `Display`. Unless the caller has proven its key, it depends only on whether a credential came
/// and on the class. The operator should see its [reason](Self::reason), and the [key](Self::key) with its tenant,
/// owner and title.
///
/// # Security
/// It has no `source`, so that an error report that follows sources cannot show a caller the reason.
#[derive(Debug)]
pub struct Denial {
    reason: DenialReason,
    key: DeniedKey,
    limited: Option<Limited>,
}

/// A key that a denied request claimed to hold. For the operator, never for the caller.
///
/// Anyone can present any id: the request did not prove that it comes from the key's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedKey<'a> {
    /// The presented id.
    pub id: KeyId,
    /// The record of the key with this id. `None` if there is no such key, or the verifier did not read it.
    pub record: Option<&'a KeyRecord>,
}

/// The key of a denied request, as far as the verifier knows it.
#[derive(Clone)]
pub(super) enum DeniedKey {
    /// No id could be read.
    Unread,
    /// The presented id. The record was not read.
    Named(KeyId),
    /// The record with the presented id. The secret was not proven.
    Claimed(Arc<CachedRecord>),
    /// The record of the key, with a proven secret.
    Proven(Arc<CachedRecord>),
}

/// The limits that apply to a refused request, and those that it would have exceeded.
#[derive(Debug, Clone)]
pub(crate) struct Limited {
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) exceeded: LimitSet,
    pub(crate) cost: u32,
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

impl Denial {
    pub(crate) fn unreadable(reason: DenialReason) -> Self {
        Self::new(DeniedKey::Unread, reason, None)
    }

    /// Denies a request with a credential that cannot be read.
    pub(super) fn malformed(error: KeyTextError) -> Self {
        Self::unreadable(match error {
            KeyTextError::Absent => DenialReason::NoCredential,
            KeyTextError::Ambiguous => DenialReason::SeveralCredentials,
            error => DenialReason::Malformed(error),
        })
    }

    /// Denies a request with this id, before the record was read.
    pub(crate) fn naming(id: KeyId, reason: DenialReason) -> Self {
        Self::new(DeniedKey::Named(id), reason, None)
    }

    /// Denies a request with a key that has proven its secret.
    pub(crate) fn of_key(cached: &Arc<CachedRecord>, reason: DenialReason) -> Self {
        Self::new(DeniedKey::Proven(Arc::clone(cached)), reason, None)
    }

    /// Denies a request. The limits apply to it, and the caller may know them.
    pub(super) fn new(key: DeniedKey, reason: DenialReason, limited: Option<Limited>) -> Self {
        Self {
            reason,
            key,
            limited,
        }
    }

    /// Returns the limits that apply to the request. `None` if there are none, or the caller has not proven the key.
    pub(crate) fn limited(&self) -> Option<&Limited> {
        self.limited.as_ref()
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

    /// Returns the record of the key, with its tenant, owner and title, for the operator's log and never for the
    /// caller. `None` if the request did not prove the key's secret.
    #[must_use]
    pub fn key(&self) -> Option<&KeyRecord> {
        match &self.key {
            DeniedKey::Proven(cached) => Some(&cached.record),
            _ => None,
        }
    }

    /// Returns the key that the request claimed to hold and did not prove, for the operator's log and never for the
    /// caller. `None` if no id could be read, or the secret was proven: see [`key`](Self::key).
    #[must_use]
    pub fn claimed_key(&self) -> Option<ClaimedKey<'_>> {
        match &self.key {
            DeniedKey::Claimed(cached) => Some(ClaimedKey {
                id: cached.record.id(),
                record: Some(&cached.record),
            }),
            DeniedKey::Named(id) => Some(ClaimedKey::unknown(*id)),
            DeniedKey::Unread | DeniedKey::Proven(_) => None,
        }
    }
}

impl ClaimedKey<'_> {
    /// Creates the claim of an id without a record.
    pub(crate) fn unknown(id: KeyId) -> Self {
        Self { id, record: None }
    }
}

impl DeniedKey {
    /// Returns the key of a request that a cache entry has denied for this reason. The entry refutes a secret before
    /// anything else.
    #[cold]
    pub(super) fn cached(cached: &Arc<CachedRecord>, reason: &DenialReason) -> Self {
        let cached = Arc::clone(cached);
        match reason {
            DenialReason::WrongSecret => Self::Claimed(cached),
            _ => Self::Proven(cached),
        }
    }

    /// Returns the id; `None` if it could not be read.
    pub(super) fn id(&self) -> Option<KeyId> {
        match self {
            Self::Unread => None,
            Self::Named(id) => Some(*id),
            Self::Claimed(cached) | Self::Proven(cached) => Some(cached.record.id()),
        }
    }
}

/// Shows the key's id, and the tenant and the title of a proven key only.
impl fmt::Debug for DeniedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.id()) {
            (Self::Proven(cached), _) => f
                .debug_struct("Proven")
                .field("key_id", &cached.record.id())
                .field("tenant", cached.record.tenant())
                .field("title", cached.record.title())
                .finish_non_exhaustive(),
            (_, Some(id)) => f.debug_tuple("Claimed").field(&id).finish(),
            (_, None) => f.write_str("Unread"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.class(), &self.reason) {
            (DenialClass::Unauthenticated, DenialReason::NoCredential) => "an API key is required",
            (DenialClass::Unauthenticated, _) => "the API key is not valid",
            (DenialClass::BadRequest, _) => "more than one API key was sent",
            (
                DenialClass::Forbidden,
                DenialReason::MissingAccess | DenialReason::UndeclaredScope(_),
            ) => "the API key lacks a scope that this needs",
            (DenialClass::Forbidden, DenialReason::ResourceRefused { .. }) => {
                "the API key does not permit this resource"
            }
            (DenialClass::Forbidden, _) => "the API key does not permit this",
            (DenialClass::Throttled, DenialReason::TooManyFailures { .. }) => {
                "too many API keys from this address were not valid"
            }
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

impl Limited {
    /// Records that a meter applies to a request of this cost, which was refused for another reason.
    pub(super) fn by(meter: &Arc<dyn Meter>, cost: u32) -> Self {
        Self {
            meter: Arc::clone(meter),
            exceeded: LimitSet::default(),
            cost,
        }
    }

    /// Returns the limits that the request would have exceeded.
    pub(crate) fn exceeded(&self) -> impl Iterator<Item = &Limit> {
        let limits = self.meter.limits().iter().enumerate();
        let exceeded = limits.filter(|(index, _)| self.exceeded.contains(*index));
        exceeded.map(|(_, limit)| limit)
    }

    /// Returns why a charge was refused, and the limits. `None` for a limiter that failed.
    pub(super) fn refused(
        meter: &Arc<dyn Meter>,
        cost: u32,
        error: TakeError,
    ) -> (DenialReason, Option<Self>) {
        let quota = |limits: LimitSet| {
            let first = limits.first().and_then(|first| meter.limits().get(first));
            match first.map(|limit| &limit.rule) {
                Some(LimitRule::Quota(quota)) => Arc::clone(quota.shared_name()),
                _ => Arc::default(),
            }
        };
        let (reason, exceeded) = match error {
            TakeError::Exceeded {
                limits,
                retry_after,
            } => {
                let quota = quota(limits);
                (DenialReason::QuotaExceeded { quota, retry_after }, limits)
            }
            TakeError::CostAboveLimit { limits } => {
                let quota = quota(limits);
                (DenialReason::CostAboveLimit { quota }, limits)
            }
            TakeError::TooManyInFlight { limits } => (DenialReason::TooManyInFlight, limits),
            TakeError::Failed(error) => return (DenialReason::Limiter(error), None),
        };
        let limited = Self {
            exceeded,
            ..Self::by(meter, cost)
        };
        (reason, Some(limited))
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
