//! Renders the state of quotas as headers by which clients can slow down.
//!
//! **The edge does not send them yet**, since quotas are not counted in this version. A host that counts requests
//! itself can [render](LimitHeaders::render) and send them.
//!
//! There are two families. `X-RateLimit-*` is described by no standard, but most clients know it. `RateLimit` with
//! `RateLimit-Policy` comes from draft-ietf-httpapi-ratelimit-headers-11, which is work in progress. Neither is a
//! promise: a request may be refused although some are left.

use std::cmp::Reverse;
use std::time::Duration;

use time::OffsetDateTime;

use crate::key::Quota;

/// Largest integer that a structured field can hold: 15 digits (RFC 9651 §3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// A quota and the number of requests left in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    quota: Quota,
    remaining: u32,
    reset_after: Duration,
}

impl QuotaState {
    /// Creates the state of a quota with `remaining` requests left until it resets after `reset_after`. `remaining`
    /// is capped at the quota's limit.
    #[must_use]
    pub fn new(quota: Quota, remaining: u32, reset_after: Duration) -> Self {
        Self {
            remaining: remaining.min(quota.limit().get()),
            quota,
            reset_after,
        }
    }
}

/// The families of limit headers to render.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::{http::{LimitHeaders, QuotaState}, key::Quota, time::OffsetDateTime};
///
/// let quota = Quota::new("minute", NonZeroU32::new(60).ok_or("zero")?, Duration::from_secs(60))?;
/// let state = QuotaState::new(quota, 50, Duration::from_secs(30));
/// let headers = LimitHeaders::RateLimit;
/// assert_eq!(headers.render(&[state], OffsetDateTime::UNIX_EPOCH), [
///     ("ratelimit-policy", r#""minute";q=60;w=60"#.to_owned()),
///     ("ratelimit", r#""minute";r=50;t=30"#.to_owned()),
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
    XRateLimit,
    /// `RateLimit` and `RateLimit-Policy`.
    RateLimit,
    /// Both families.
    All,
}

impl LimitHeaders {
    /// Renders the headers, with names in lower case (RFC 9113 §8.2.1). Empty if there is no quota.
    ///
    /// `X-RateLimit-*` can describe only one quota: the one with the fewest requests left and, among equals, the one
    /// that resets last. Its reset is in seconds of Unix time, while `RateLimit` counts seconds from now. Both are
    /// rounded up, so that no client comes back too early.
    #[must_use]
    pub fn render(self, states: &[QuotaState], now: OffsetDateTime) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let tightest = states
            .iter()
            .min_by_key(|state| (state.remaining, Reverse(state.reset_after)));
        let Some(tightest) = tightest else {
            return headers;
        };
        if self != Self::RateLimit {
            let reset = unix_seconds_up(now, tightest.reset_after);
            headers.push(("x-ratelimit-limit", tightest.quota.limit().to_string()));
            headers.push(("x-ratelimit-remaining", tightest.remaining.to_string()));
            headers.push(("x-ratelimit-reset", reset.to_string()));
        }
        if self != Self::XRateLimit {
            headers.push(("ratelimit-policy", list(states, policy)));
            headers.push(("ratelimit", list(states, service_limit)));
        }
        headers
    }
}

/// Formats a list of structured fields (RFC 9651 §3.1).
fn list(states: &[QuotaState], item: fn(&QuotaState) -> String) -> String {
    let items: Vec<String> = states.iter().map(item).collect();
    items.join(", ")
}

/// Formats a quota policy item (draft §3.1). A quota's name contains no character that a string would have to escape.
fn policy(state: &QuotaState) -> String {
    let (name, limit) = (state.quota.name(), state.quota.limit());
    let window = seconds_up(state.quota.window());
    format!("\"{name}\";q={limit};w={window}")
}

/// Formats a service limit item (draft §4.1).
fn service_limit(state: &QuotaState) -> String {
    let (name, remaining) = (state.quota.name(), state.remaining);
    let reset = seconds_up(state.reset_after);
    format!("\"{name}\";r={remaining};t={reset}")
}

pub(super) fn seconds_up(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(part).min(MAX_INTEGER)
}

/// Returns the Unix time after this duration, never before 1970.
fn unix_seconds_up(now: OffsetDateTime, after: Duration) -> u64 {
    let after = i128::try_from(after.as_nanos()).unwrap_or(i128::MAX);
    let nanos = now.unix_timestamp_nanos().saturating_add(after).max(0);
    let seconds = nanos.unsigned_abs().div_ceil(1_000_000_000);
    u64::try_from(seconds).map_or(MAX_INTEGER, |seconds| seconds.min(MAX_INTEGER))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn state(name: &str, limit: u32, remaining: u32, reset_after: Duration) -> QuotaState {
        let limit = NonZeroU32::new(limit).unwrap();
        let quota = Quota::new(name, limit, Duration::from_secs(60)).unwrap();
        QuotaState::new(quota, remaining, reset_after)
    }

    fn value(headers: &[(&'static str, String)], name: &str) -> String {
        let mut found = headers.iter().filter(|(other, _)| *other == name);
        let (_, value) = found.next().unwrap();
        assert!(found.next().is_none(), "{name} twice");
        value.clone()
    }

    #[test]
    fn the_tightest_quota_is_shown() {
        let states = [
            state("loose", 10, 9, Duration::from_secs(90)),
            state("soon", 100, 3, Duration::from_secs(5)),
            state("tight", 200, 3, Duration::from_millis(7_500)),
            state("wide", 300, 4, Duration::from_secs(60)),
        ];
        let headers = LimitHeaders::XRateLimit.render(&states, EPOCH);
        assert_eq!(
            headers,
            [
                ("x-ratelimit-limit", "200".to_owned()),
                ("x-ratelimit-remaining", "3".to_owned()),
                ("x-ratelimit-reset", "8".to_owned()),
            ]
        );
    }

    #[test]
    fn only_the_chosen_family_is_rendered() {
        let states = [state("q", 1, 1, Duration::ZERO)];
        let count = |headers: LimitHeaders| headers.render(&states, EPOCH).len();
        assert_eq!(count(LimitHeaders::All), 5);
        assert_eq!(count(LimitHeaders::XRateLimit), 3);
        assert_eq!(count(LimitHeaders::RateLimit), 2);
        assert!(LimitHeaders::All.render(&[], EPOCH).is_empty());
    }

    #[test]
    fn resets_are_never_too_early() {
        let reset = |now_nanos: i64, after| {
            let now = EPOCH + time::Duration::nanoseconds(now_nanos);
            let headers = LimitHeaders::All.render(&[state("q", 1, 0, after)], now);
            value(&headers, "x-ratelimit-reset")
        };
        assert_eq!(reset(0, Duration::ZERO), "0");
        assert_eq!(reset(0, Duration::from_nanos(1)), "1");
        assert_eq!(reset(0, Duration::from_secs(1)), "1");
        assert_eq!(reset(999_999_999, Duration::from_nanos(1)), "1");
        assert_eq!(reset(999_999_999, Duration::from_nanos(2)), "2");
        assert_eq!(reset(-2_000_000_000, Duration::from_secs(1)), "0");
        assert_eq!(reset(0, Duration::MAX), "999999999999999");
    }

    #[test]
    fn remaining_never_exceeds_the_limit() {
        assert_eq!(state("q", 5, 6, Duration::ZERO).remaining, 5);
    }
}
