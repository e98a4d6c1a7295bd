//! The limits that an edge shows to callers, and the ends of their keys.

use super::Edge;
use crate::http::caching::ResponseHeader;
use crate::http::expiry;
use crate::http::limits::{LimitHeaders, Shown, ShownLimit, distinct, latest_reset};
use crate::http::reason::RejectionReason;
use crate::http::rejection::Rejection;
use crate::key::KeyRecord;
use crate::verifier::{Attempt, Denial};
use crate::verifier::{DenialClass, Grant, Limited, Permit};

impl Edge {
    /// Returns the headers to add to the response of an admitted request, by which its client can slow down.
    ///
    /// Add them to the responses of handlers, errors included, and to the [answers](super::super::Rejection::answer) of
    /// rejections after the request was admitted, but not to a 401. The answers of [`admit`](Self::admit) have them
    /// already. Empty if no limit applies to the request.
    pub fn limit_headers_of<'a>(
        &'a self,
        permit: &Permit,
    ) -> impl Iterator<Item = ResponseHeader<'a>> + use<'a> {
        let shown = self.show(permit.limited());
        let fields = shown.fields.into_iter();
        fields.map(|(name, value)| ResponseHeader {
            name,
            value: value.into(),
            replaces: true,
        })
    }

    /// Returns the headers by which the holder of an admitted key learns when it ends: see
    /// [`expiry_headers`](Self::expiry_headers). Empty unless they are on.
    ///
    /// Add them to the responses of handlers, errors included, but not to a 401. Answers of the edge have them already.
    pub fn expiry_headers_of<'a>(
        &'a self,
        grant: &Grant,
    ) -> impl Iterator<Item = ResponseHeader<'a>> + use<'a> {
        let fields = self.expiry_of(grant.record()).into_iter();
        fields.map(|(name, value)| ResponseHeader {
            name,
            value: value.into(),
            replaces: true,
        })
    }

    /// Returns the headers that show when this key ends, if they are on.
    pub(in crate::http) fn expiry_of(&self, record: &KeyRecord) -> Vec<(&'static str, String)> {
        let shown = self.shows_expiry.then(|| expiry::fields(record));
        shown.into_iter().flatten().collect()
    }

    /// Returns the limits that a rejection names, and when the key ends, if the caller has proven its key.
    pub(super) fn show_refused(&self, reason: &RejectionReason, grant: Option<&Grant>) -> Shown {
        let granted = grant.map(Grant::record);
        let (mut shown, proven) = match reason {
            RejectionReason::Denied(denial) => {
                let is_proven = matches!(
                    denial.class(),
                    DenialClass::Forbidden | DenialClass::Throttled
                );
                let proven = granted.or(denial.key()).filter(|_| is_proven);
                (self.show(denial.limited().cloned()), proven)
            }
            // The answer would be the same without the proof.
            RejectionReason::InsecureTransport { .. } | RejectionReason::FromBrowser { .. } => {
                return Shown::default();
            }
            _ => (Shown::default(), granted),
        };
        if let Some(record) = proven {
            shown.fields.extend(self.expiry_of(record));
        }
        shown
    }

    /// Returns these limits as an answer shows them.
    pub(in crate::http) fn show(&self, limits: impl IntoIterator<Item = Limited>) -> Shown {
        let mut limits = limits.into_iter().peekable();
        if self.limit_headers == LimitHeaders::Off || limits.peek().is_none() {
            return Shown::default();
        }
        let states = limits.flat_map(|limited| {
            let states = self.verifier.states_of(&limited).into_iter();
            states.map(move |state| ShownLimit {
                has_refused: limited.exceeded().any(|limit| *limit == state.limit),
                is_short: state.remaining < limited.cost,
                state,
            })
        });
        let states = distinct(states);
        // After the states: the reset is never too early.
        let now = self.verifier.wall_time();
        Shown {
            fields: self.limit_headers.fields(&states, now),
            reset: latest_reset(&states),
        }
    }

    /// Counts an admitted request, and adds the charge to the permit. `is_inner` is whether an outer guard has
    /// counted it for all but the quotas of this route.
    ///
    /// # Errors
    /// [`Denial`] if a quota does not have it, or the limiter cannot tell.
    pub(in crate::http) async fn count(
        &self,
        grant: &Grant,
        attempt: &Attempt<'_>,
        permit: &mut Permit,
        is_inner: bool,
    ) -> Result<(), Denial> {
        if is_inner {
            *permit = self.verifier.count_inner(grant, attempt).await?;
            Ok(())
        } else {
            self.verifier.count(grant, attempt, permit).await
        }
    }

    /// Adds the limits of an admitted request to its rejection, unless the caller must not learn of them.
    pub(in crate::http) fn with_limits(
        &self,
        mut rejection: Box<Rejection>,
        permit: &Permit,
    ) -> Box<Rejection> {
        if !rejection.reason.hides_limits() {
            let shown = self.show(permit.limited());
            rejection.answer.headers.extend(shown.fields);
        }
        rejection
    }
}
