//! Why a request was denied.

mod reason;

pub use reason::{DenialClass, DenialReason};

use std::fmt;
use std::sync::Arc;

use crate::cache::CachedRecord;
use crate::key::{KeyId, KeyRecord, KeyTextError};
use crate::limiter::{Limit, LimitRule, LimitSet, Meter, TakeError};

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
