//! How an edge responds: the review and the headers of responses, and rejections.

use std::borrow::Cow;

use super::Edge;
use crate::http::caching::{self, ResponseHeader};
use crate::http::credentials;
use crate::http::head::{Head, HeaderSource};
use crate::http::key_in::KeyIn;
use crate::http::reason::RejectionReason;
use crate::http::rejection::{About, Rejection};
use crate::verifier::Grant;

impl Edge {
    /// Reviews a handler's response.
    ///
    /// If it is a 403 or 404 after [`Grant::permits`] has refused a resource of a kind that the route [leaves to the
    /// handler](crate::verifier::Requirement::checked_by_handler), the observer hears of it, once.
    ///
    /// # Errors
    /// [`Rejection`] to send instead, if the response is not a failure (4xx or 5xx) and the handler never made a
    /// check that it promised: see [`checked_by_handler`](crate::verifier::Requirement::checked_by_handler). Or if the
    /// decision was left to an inner guard and there was none: see
    /// [`checked_by_inner_guard`](crate::verifier::Requirement::checked_by_inner_guard). It is never [only
    /// reported](Self::report_only): reporting is for callers, and this is the application's mistake.
    pub fn review(&self, grant: &Grant, status: u16) -> Result<(), Box<Rejection>> {
        // Switching protocols (101) counts as a success too.
        if (400..600).contains(&status) {
            if matches!(status, 403 | 404) {
                self.observe_refusal(grant);
            }
            return Ok(());
        }
        let reason = if grant.awaits_inner_guard() {
            RejectionReason::NoInnerGuard
        } else if let Some(kind) = grant.unchecked() {
            let kind = kind.into();
            RejectionReason::Unchecked { kind }
        } else {
            return Ok(());
        };
        Err(self.reject(reason, Some(grant)))
    }

    /// Returns the headers to add to a granted response with these headers, so that no cache serves it to another
    /// client.
    ///
    /// They are `Cache-Control` with `private` in it, and `Vary` with the headers that credentials are read from.
    /// Headers that an application addresses to its own CDN, `CDN-Cache-Control` (RFC 9213) or `Surrogate-Control`,
    /// are left unchanged.
    pub fn response_headers<'a, H: HeaderSource + ?Sized>(
        &'a self,
        response: &H,
    ) -> impl Iterator<Item = ResponseHeader<'a>> + use<'a, H> {
        let cache_control = self.cache_control(response).map(|value| ResponseHeader {
            name: "cache-control",
            value,
            replaces: true,
        });
        cache_control
            .into_iter()
            .chain(self.guest_response_headers())
    }

    /// Returns the headers to add to the response of a [guest](Self::admit_or_guest), so that no cache serves it to the
    /// holder of a key: `Vary`, with the headers that credentials are read from.
    pub fn guest_response_headers(&self) -> impl Iterator<Item = ResponseHeader<'_>> + use<'_> {
        let vary = self.vary().map(|value| ResponseHeader {
            name: "vary",
            value: value.into(),
            replaces: false,
        });
        vary.into_iter()
    }

    /// Returns the new `Cache-Control` for a granted response with these headers. `None` if it need not change.
    pub(crate) fn cache_control<H: HeaderSource + ?Sized>(
        &self,
        response: &H,
    ) -> Option<Cow<'static, str>> {
        if self.may_be_cached {
            return None;
        }
        caching::private(response)
    }

    /// Returns the `Vary` header of granted responses. `None` if they have no such header.
    pub(crate) fn vary(&self) -> Option<&str> {
        Some(&*self.vary).filter(|vary| !vary.is_empty() && !self.may_be_cached)
    }

    /// Returns the headers that hold nothing but a credential, in lower case.
    ///
    /// An adapter removes them from the request before the handler sees it, so that neither the handler nor a log
    /// behind it holds a key.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        let is_any_scheme = self.forms.iter().any(|form| form.auth_scheme().is_some());
        let headers = self.forms.iter().flat_map(KeyIn::headers);
        is_any_scheme
            .then_some("authorization")
            .into_iter()
            .chain(headers.map(|name| &*name.lower))
    }

    /// Removes the parameters that credentials are read from. `None` if the query has no such parameter.
    #[must_use]
    pub fn query_without_credential(&self, query: &str) -> Option<String> {
        credentials::without_parameters(&self.forms, query)
    }

    /// Removes the sub-protocols that credentials are read from, from a line of `Sec-WebSocket-Protocol`. `None` if the
    /// line has no such sub-protocol; nothing remains if it has no other.
    ///
    /// See [`KeyIn::web_socket_protocol`].
    #[must_use]
    pub fn protocols_without_credential(&self, line: &[u8]) -> Option<Vec<u8>> {
        credentials::without_protocols(&self.forms, line)
    }

    /// Rejects a request for a reason of the middleware's own, such as the length of its body.
    ///
    /// The observer is called, with the grant if there was one.
    #[must_use]
    pub fn reject_request<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        reason: RejectionReason,
        grant: Option<&Grant>,
    ) -> Box<Rejection> {
        let about = About {
            client: self.proxies.origin(head.connection, head.headers).client,
            grant,
            ..About::default()
        };
        self.reject_about(reason, about)
    }

    /// Rejects as [`reject_request`](Self::reject_request) does, without a head at hand, as when a response is
    /// replaced: the observer does not get the client's address.
    #[must_use]
    pub fn reject(&self, reason: RejectionReason, grant: Option<&Grant>) -> Box<Rejection> {
        let about = About {
            grant,
            ..About::default()
        };
        self.reject_about(reason, about)
    }

    /// Reports a resource that the handler has refused.
    fn observe_refusal(&self, grant: &Grant) {
        if let Some(denial) = grant.take_refusal() {
            let about = About {
                grant: Some(grant),
                ..About::default()
            };
            let reason = RejectionReason::Denied(denial);
            self.rejecting.observe(&reason, about, false);
        }
    }

    pub(super) fn reject_about(&self, reason: RejectionReason, about: About<'_>) -> Box<Rejection> {
        let shown = self.show_refused(&reason, about.grant);
        self.rejecting.reject(&self.forms, reason, about, &shown)
    }
}
