//! Limits on the number of requests in a window.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::ValueError;

const NAME: ValueError = ValueError::malformed(
    "quota name",
    "1 to 32 lower-case letters, digits, `_` and `-`, and not `concurrency`",
);
const WINDOW: ValueError =
    ValueError::malformed("quota window", "whole seconds, from 1 second to 366 days");

/// A limit of requests in any window of a given length.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::key::{Quota, QuotaSubject};
///
/// let sixty = NonZeroU32::new(60).ok_or("zero")?;
/// let quota = Quota::new("minute", sixty, Duration::from_secs(60))?;
/// assert_eq!(quota.limit(), sixty);
/// assert_eq!(quota.subject(), QuotaSubject::Key); // each key has sixty of its own
/// let shared = quota.per(QuotaSubject::Tenant); // the tenant's keys have sixty together
/// # let _ = shared;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A key may carry quotas, a route may ([`Requirement::quota`](crate::verifier::Requirement::quota)), and a tenant's
/// [plan](crate::limiter::TenantPlan) may. All that apply to a request must hold. The name identifies the counter: a
/// quota with another limit or window under the same name continues the count. Another subject is another
/// counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "QuotaParts", into = "QuotaParts")]
pub struct Quota {
    name: Arc<str>,
    limit: NonZeroU32,
    window: Duration,
    subject: QuotaSubject,
}

/// The requests that a quota counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaSubject {
    /// Those of one key.
    #[default]
    Key,
    /// Those of a key and of all keys that rotations put in its place, so that a rotation does not reset the quota.
    Lineage,
    /// Those of all keys of the key's owner in the tenant.
    Owner,
    /// Those of all keys of the tenant.
    Tenant,
}

impl Quota {
    /// Most quotas a key can carry.
    pub(crate) const MAX_PER_KEY: usize = 8;

    /// The name of the limit on concurrent requests, where limits are listed by name.
    pub(crate) const CONCURRENCY: &str = "concurrency";

    /// Creates a quota of at most `limit` requests in any `window`, under a name such as `minute`. It
    /// counts [each key](QuotaSubject::Key) apart.
    ///
    /// # Errors
    /// [`ValueError`] unless the name is 1 to 32 lower-case ASCII letters, digits, `_` and `-`, and the window is
    /// whole seconds from 1 second to 366 days. The name `concurrency` is that of the limit on concurrent requests.
    pub fn new(name: &str, limit: NonZeroU32, window: Duration) -> Result<Self, ValueError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        let is_well_formed = (1..=32).contains(&name.len()) && name.bytes().all(allowed);
        if !is_well_formed || name == Self::CONCURRENCY {
            return Err(NAME);
        }
        let longest = Duration::from_secs(366 * 86_400);
        if window.is_zero() || window > longest || window.subsec_nanos() != 0 {
            return Err(WINDOW);
        }
        Ok(Self {
            name: name.into(),
            limit,
            window,
            subject: QuotaSubject::Key,
        })
    }

    /// Returns the quota with this subject.
    #[must_use]
    pub fn per(mut self, subject: QuotaSubject) -> Self {
        self.subject = subject;
        self
    }

    /// Returns the quota's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the maximum number of requests in a window.
    #[must_use]
    pub fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    /// Returns the length of the window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Returns which requests it counts together.
    #[must_use]
    pub fn subject(&self) -> QuotaSubject {
        self.subject
    }

    /// Returns the name, which the clones of a quota share.
    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns whether this quota is at least as strict as `other`: no more requests, in no shorter a window, by no
    /// fewer keys together.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let counts_as_many = self.subject == other.subject
            || self.subject == QuotaSubject::Tenant
            || other.subject == QuotaSubject::Key;
        self.limit <= other.limit && self.window >= other.window && counts_as_many
    }
}

/// Reads a key's quotas: not too many, and each under a name of its own, as the manager writes them.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Quota>, D::Error> {
    let quotas = Vec::<Quota>::deserialize(source)?;
    let mut names: Vec<_> = quotas.iter().map(Quota::name).collect();
    names.sort_unstable();
    names.dedup();
    if quotas.len() > Quota::MAX_PER_KEY || names.len() < quotas.len() {
        return Err(D::Error::custom("quotas are too many, or share a name"));
    }
    Ok(quotas)
}

/// Returns quotas that satisfy both lists; `None` if a key cannot carry them.
pub(super) fn common_quotas(ours: &[Quota], theirs: &[Quota]) -> Option<Vec<Quota>> {
    let mut quotas = ours.to_vec();
    for bound in theirs {
        if quotas.iter().any(|quota| quota.is_within(bound)) {
            continue;
        }
        let mut named = quotas.iter_mut();
        match named.find(|quota| quota.name() == bound.name()) {
            Some(quota) if bound.is_within(quota) => *quota = bound.clone(),
            Some(_) => return None,
            None => quotas.push(bound.clone()),
        }
    }
    (quotas.len() <= Quota::MAX_PER_KEY).then_some(quotas)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaParts {
    name: String,
    limit: NonZeroU32,
    window_seconds: u64,
    subject: QuotaSubject,
}

impl TryFrom<QuotaParts> for Quota {
    type Error = ValueError;

    fn try_from(parts: QuotaParts) -> Result<Self, Self::Error> {
        let window = Duration::from_secs(parts.window_seconds);
        Ok(Self::new(&parts.name, parts.limit, window)?.per(parts.subject))
    }
}

impl From<Quota> for QuotaParts {
    fn from(quota: Quota) -> Self {
        Self {
            name: (*quota.name).into(),
            limit: quota.limit,
            window_seconds: quota.window.as_secs(),
            subject: quota.subject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_bounded() {
        let ten = NonZeroU32::new(10).unwrap();
        let minute = Duration::from_secs(60);
        assert!(Quota::new("minute", ten, minute).is_ok());
        for name in ["", "Minute", "a b", "concurrency", &"a".repeat(33)] {
            assert_eq!(Quota::new(name, ten, minute), Err(NAME));
        }
        for window in [
            Duration::ZERO,
            Duration::from_millis(1_500),
            Duration::from_secs(367 * 86_400),
            Duration::MAX,
        ] {
            assert_eq!(Quota::new("q", ten, window), Err(WINDOW));
        }
    }

    #[test]
    fn a_stricter_quota_is_within() {
        let quota = |limit, seconds| {
            let limit = NonZeroU32::new(limit).unwrap();
            Quota::new("q", limit, Duration::from_secs(seconds)).unwrap()
        };
        assert!(quota(10, 60).is_within(&quota(10, 60)));
        assert!(quota(5, 120).is_within(&quota(10, 60)));
        assert!(!quota(11, 60).is_within(&quota(10, 60)));
        assert!(!quota(10, 59).is_within(&quota(10, 60)));
        use QuotaSubject::{Key, Lineage, Owner, Tenant};
        for (subject, within, not_within) in [
            (Key, &[Key][..], &[Lineage, Owner, Tenant][..]),
            (Lineage, &[Key, Lineage], &[Owner, Tenant]),
            (Owner, &[Key, Owner], &[Lineage, Tenant]),
            (Tenant, &[Key, Lineage, Owner, Tenant], &[]),
        ] {
            let is_within = |other: &QuotaSubject| {
                quota(10, 60)
                    .per(subject)
                    .is_within(&quota(10, 60).per(*other))
            };
            assert!(within.iter().all(is_within), "{subject:?}");
            assert!(!not_within.iter().any(is_within), "{subject:?}");
        }
    }
}
