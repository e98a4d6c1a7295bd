//! Renders the state of limits as headers by which clients can slow down.
//!
//! There are two families. `X-RateLimit-*` is described by no standard, but most clients know it. `RateLimit` with
//! `RateLimit-Policy` comes from draft-ietf-httpapi-ratelimit-headers, which is work in progress. Neither is a promise:
//! other requests of the same client, or of another one that shares a quota, may use the rest.

use std::cmp::Reverse;
use std::time::Duration;

use time::OffsetDateTime;

use crate::limiter::{LimitRule, LimitState};

/// Largest integer that a structured field can hold: 15 digits (RFC 9651 §3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// The families of limit headers to send: see [`Edge::limit_headers`](super::Edge::limit_headers).
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use keyward::{http::LimitHeaders, key::{KeyId, Quota, TenantId}, limiter::{Limit, LimitRule, LimitSource}};
/// use keyward::limiter::{LimitState, Subject};
///
/// let quota = Quota::new("minute", NonZeroU32::new(60).ok_or("zero")?, Duration::from_secs(60))?;
/// let subject = Subject::Key(TenantId::new("acme-inc")?, KeyId::from_u128(7));
/// let limit = Limit::new(subject, LimitSource::Key, LimitRule::Quota(quota));
/// let state = LimitState::new(limit, 12, Duration::from_millis(33_400));
/// assert_eq!(LimitHeaders::RateLimit.render(&[state], None), [
///     ("ratelimit-policy", r#""minute";q=60;w=60"#.to_owned()),
///     ("ratelimit", r#""minute";r=12;t=34"#.to_owned()),
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
    /// No limit headers.
    Off,
}

impl LimitHeaders {
    /// Renders the headers, with names in lower case (RFC 9113 §8.2.1). Empty if there is no limit.
    ///
    /// `X-RateLimit-*` can describe only one quota: the one with the fewest left and, among equals, the one that resets
    /// last. Its reset is in seconds of Unix time, and is left out if `now` is `None`. `RateLimit` counts seconds from
    /// now. Both are rounded up, so that no client comes back too early. Of limits of one name, the tighter is shown.
    ///
    /// Read the states before the wall clock: the reset is otherwise too early by the time between.
    #[must_use]
    pub fn render(
        self,
        states: &[LimitState],
        now: Option<OffsetDateTime>,
    ) -> Vec<(&'static str, String)> {
        let shown = states.iter().cloned().map(|state| ShownLimit {
            has_refused: false,
            is_short: state.remaining == 0,
            state,
        });
        self.fields(&distinct(shown), now)
    }

    /// Renders as [`render`](Self::render) does. A quota that has refused the request comes first.
    pub(super) fn fields(
        self,
        shown: &[ShownLimit],
        now: Option<OffsetDateTime>,
    ) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if matches!(self, Self::XRateLimit | Self::All) {
            let quotas = shown.iter().filter(|shown| shown.state.is_quota());
            if let Some(ShownLimit { state, .. }) = quotas.min_by_key(|shown| shown.tightness()) {
                fields.push(("x-ratelimit-limit", state.limit.most().to_string()));
                fields.push(("x-ratelimit-remaining", state.remaining.to_string()));
                let reset = now.map(|now| unix_seconds_up(now, state.reset_after));
                fields.extend(reset.map(|reset| ("x-ratelimit-reset", reset.to_string())));
            }
        }
        if matches!(self, Self::RateLimit | Self::All) && !shown.is_empty() {
            fields.push(("ratelimit-policy", list(shown, policy)));
            fields.push(("ratelimit", list(shown, service_limit)));
        }
        fields
    }
}

/// The limits as an answer shows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// The header fields.
    pub(super) fields: Vec<(&'static str, String)>,
    /// In how many seconds the quotas that have refused the request reset. Zero if there are none.
    pub(super) reset: u64,
}

/// A limit's state, as it is for one request.
#[derive(Debug, Clone)]
pub(super) struct ShownLimit {
    pub(super) state: LimitState,
    /// Whether it has refused the request.
    pub(super) has_refused: bool,
    /// Whether it would refuse the next request of this cost.
    pub(super) is_short: bool,
}

impl ShownLimit {
    /// Returns a key by which the tightest comes first. Of quotas that are short, a client has to wait for the last.
    fn tightness(&self) -> (Reverse<bool>, u32, Reverse<Duration>) {
        let remaining = if self.is_short {
            0
        } else {
            self.state.remaining
        };
        let resets_last = Reverse(self.state.reset_after);
        (Reverse(self.has_refused), remaining, resets_last)
    }
}

/// Keeps the tighter of two limits with one name. Names in one response are distinct, as the draft requires.
pub(super) fn distinct(states: impl IntoIterator<Item = ShownLimit>) -> Vec<ShownLimit> {
    let mut kept: Vec<ShownLimit> = Vec::new();
    for shown in states {
        let name = shown.state.limit.name();
        match kept.iter_mut().find(|kept| kept.state.limit.name() == name) {
            Some(kept) if shown.tightness() < kept.tightness() => *kept = shown,
            Some(_) => {}
            None => kept.push(shown),
        }
    }
    kept
}

/// Returns the `t` of the quota that has refused the request and that resets last; zero if there is none.
pub(super) fn latest_reset(shown: &[ShownLimit]) -> u64 {
    let refused = shown.iter().filter(|shown| shown.has_refused);
    let resets = refused.map(|shown| seconds_up(shown.state.reset_after));
    resets.max().unwrap_or(0)
}

/// Formats a list of structured fields (RFC 9651 §3.1).
fn list(shown: &[ShownLimit], item: fn(&LimitState) -> String) -> String {
    let items: Vec<String> = shown.iter().map(|shown| item(&shown.state)).collect();
    items.join(", ")
}

/// Formats a quota policy item (draft §3.1). A limit's name contains no character that a string would have to escape.
fn policy(state: &LimitState) -> String {
    let (name, most) = (state.limit.name(), state.limit.most());
    match &state.limit.rule {
        LimitRule::Quota(quota) => {
            let window = seconds_up(quota.window());
            format!("\"{name}\";q={most};w={window}")
        }
        LimitRule::Concurrency(_) => format!("\"{name}\";q={most};qu=\"concurrent-requests\""),
    }
}

/// Formats a service limit item (draft §4.1).
fn service_limit(state: &LimitState) -> String {
    let (name, remaining) = (state.limit.name(), state.remaining);
    if state.is_quota() {
        let reset = seconds_up(state.reset_after);
        format!("\"{name}\";r={remaining};t={reset}")
    } else {
        format!("\"{name}\";r={remaining}")
    }
}

/// Returns the seconds of a duration, rounded up.
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
    use crate::key::{KeyId, Quota, TenantId};
    use crate::limiter::{Limit, LimitSource, Subject};

    const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn limit(rule: LimitRule) -> Limit {
        let tenant = TenantId::new("acme-inc").unwrap();
        let subject = Subject::Key(tenant, KeyId::from_u128(1));
        Limit::new(subject, LimitSource::Key, rule)
    }

    fn state(name: &str, most: u32, remaining: u32, reset_after: Duration) -> LimitState {
        let most = NonZeroU32::new(most).unwrap();
        let quota = Quota::new(name, most, Duration::from_secs(60)).unwrap();
        LimitState::new(limit(LimitRule::Quota(quota)), remaining, reset_after)
    }

    fn concurrency(most: u32, remaining: u32) -> LimitState {
        let most = NonZeroU32::new(most).unwrap();
        let limit = limit(LimitRule::Concurrency(most));
        LimitState::new(limit, remaining, Duration::ZERO)
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
        let headers = LimitHeaders::XRateLimit.render(&states, Some(EPOCH));
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
        let count = |headers: LimitHeaders| headers.render(&states, Some(EPOCH)).len();
        assert_eq!(count(LimitHeaders::All), 5);
        assert_eq!(count(LimitHeaders::XRateLimit), 3);
        assert_eq!(count(LimitHeaders::RateLimit), 2);
        assert_eq!(count(LimitHeaders::Off), 0);
        assert!(LimitHeaders::All.render(&[], Some(EPOCH)).is_empty());
    }

    #[test]
    fn resets_are_never_too_early() {
        let reset = |now_nanos: i64, after| {
            let now = EPOCH + time::Duration::nanoseconds(now_nanos);
            let headers = LimitHeaders::All.render(&[state("q", 1, 0, after)], Some(now));
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

    #[test]
    fn concurrency_is_not_shown_as_a_quota() {
        let headers = LimitHeaders::All.render(&[concurrency(5, 0)], Some(EPOCH));
        let policy = r#""concurrency";q=5;qu="concurrent-requests""#.to_owned();
        let state = r#""concurrency";r=0"#.to_owned();
        assert_eq!(
            headers,
            [("ratelimit-policy", policy), ("ratelimit", state)]
        );
        let both = [concurrency(5, 0), state_of_60()];
        let headers = LimitHeaders::All.render(&both, Some(EPOCH));
        assert_eq!(value(&headers, "x-ratelimit-limit"), "60");
    }

    fn state_of_60() -> LimitState {
        state("minute", 60, 59, Duration::from_secs(1))
    }

    #[test]
    fn a_name_is_shown_once_by_the_tighter() {
        let (loose, tight) = (
            state("minute", 100, 90, Duration::from_secs(1)),
            state("minute", 20, 10, Duration::from_secs(1)),
        );
        for states in [[loose.clone(), tight.clone()], [tight, loose]] {
            let headers = LimitHeaders::RateLimit.render(&states, None);
            assert_eq!(value(&headers, "ratelimit-policy"), r#""minute";q=20;w=60"#);
            assert_eq!(value(&headers, "ratelimit"), r#""minute";r=10;t=1"#);
        }
    }

    #[test]
    fn the_refusing_quota_comes_first() {
        let shown = |state, has_refused| ShownLimit {
            state,
            has_refused,
            is_short: has_refused,
        };
        let limit_of = |shown: &[ShownLimit]| {
            let headers = LimitHeaders::XRateLimit.fields(shown, None);
            value(&headers, "x-ratelimit-limit")
        };
        let second = Duration::from_secs(1);
        let refusing = shown(state("costly", 50, 3, second * 9), true);
        let empty = shown(state("empty", 10, 0, second), false);
        assert_eq!(limit_of(&[empty.clone(), refusing.clone()]), "50");
        // A client that waits for the other one would be refused again.
        let sooner = shown(state("sooner", 30, 1, second), true);
        assert_eq!(limit_of(&[sooner.clone(), refusing.clone()]), "50");
        assert_eq!(latest_reset(&[empty, sooner, refusing]), 9);
    }

    #[test]
    fn a_failed_wall_clock_omits_the_reset() {
        let headers = LimitHeaders::XRateLimit.render(&[state_of_60()], None);
        assert_eq!(
            headers,
            [
                ("x-ratelimit-limit", "60".to_owned()),
                ("x-ratelimit-remaining", "59".to_owned())
            ]
        );
    }
}
