//! Limits on the number of requests in a window.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ValueError;

const NAME: ValueError = ValueError::malformed(
    "quota name",
    "1 to 32 lower-case letters, digits, `_` and `-`",
);
const WINDOW: ValueError =
    ValueError::malformed("quota window", "whole seconds, from 1 second to 366 days");

/// A limit of requests in any window of a given length.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::key::Quota;
///
/// let sixty = NonZeroU32::new(60).ok_or("zero")?;
/// let quota = Quota::new("minute", sixty, Duration::from_secs(60))?;
/// assert_eq!(quota.limit(), sixty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A quota is declared on a key, stored and shown. It is not counted yet: this version enforces a key's limit on
/// concurrent requests and no quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "QuotaParts", into = "QuotaParts")]
pub struct Quota {
    name: Box<str>,
    limit: NonZeroU32,
    window: Duration,
}

impl Quota {
    /// Most quotas a key can carry.
    pub(crate) const MAX_PER_KEY: usize = 8;

    /// Creates a quota of at most `limit` requests in any `window`, under a name such as `minute`.
    ///
    /// # Errors
    /// [`ValueError`] unless the name is 1 to 32 lower-case ASCII letters, digits, `_` and `-`, and the window is
    /// whole seconds from 1 second to 366 days.
    pub fn new(name: &str, limit: NonZeroU32, window: Duration) -> Result<Self, ValueError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        if !(1..=32).contains(&name.len()) || !name.bytes().all(allowed) {
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
        })
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

    /// Returns whether this quota is at least as strict as `other`: no more requests, in no shorter a window.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.limit <= other.limit && self.window >= other.window
    }
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
}

impl TryFrom<QuotaParts> for Quota {
    type Error = ValueError;

    fn try_from(parts: QuotaParts) -> Result<Self, Self::Error> {
        Self::new(
            &parts.name,
            parts.limit,
            Duration::from_secs(parts.window_seconds),
        )
    }
}

impl From<Quota> for QuotaParts {
    fn from(quota: Quota) -> Self {
        Self {
            name: quota.name.into(),
            limit: quota.limit,
            window_seconds: quota.window.as_secs(),
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
        for name in ["", "Minute", "a b", &"a".repeat(33)] {
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
    }
}
