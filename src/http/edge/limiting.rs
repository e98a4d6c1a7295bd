//! The limits that an edge shows to callers.

use super::Edge;
use crate::http::caching::ResponseHeader;
use crate::http::limits::{LimitHeaders, Shown, ShownLimit, distinct, latest_reset};
use crate::http::reason::RejectionReason;
#[cfg(any(feature = "actix", feature = "tower"))]
use crate::http::rejection::Rejection;
#[cfg(any(feature = "actix", feature = "tower"))]
use crate::verifier::{Attempt, Denial, Grant};
use crate::verifier::{Limited, Permit};

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

    /// Returns the limits that a rejection names, if the caller has proven its key.
    pub(super) fn show_refused(&self, reason: &RejectionReason) -> Shown {
        match reason {
            RejectionReason::Denied(denial) => self.show(denial.limited().cloned()),
            _ => Shown::default(),
        }
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
    #[cfg(any(feature = "actix", feature = "tower"))]
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
    #[cfg(any(feature = "actix", feature = "tower"))]
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
