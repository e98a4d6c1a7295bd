//! Connects a framework to the verifier: takes the head of a request and admits or rejects it.

mod deciding;
mod guarded;
mod limiting;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
#[cfg(any(feature = "actix", feature = "http"))]
use std::time::Duration;

#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) use guarded::Decided;

use super::answer::{ProblemJson, Renderer};
use super::caching::{self, ResponseHeader};
use super::client::Proxies;
use super::credentials;
use super::head::{Head, HeaderSource};
use super::key_in::KeyIn;
use super::limits::LimitHeaders;
use super::reason::RejectionReason;
use super::rejection::{About, Rejecting, Rejection, RejectionEvent};
use crate::Keyward;
use crate::verifier::{Admitted, Attempt, Grant, Verifier};

/// Reads credentials from requests, asks the [`Verifier`] and answers as the standards require.
///
/// An edge accepts no credential until [`accept`](Self::accept) names a form.
///
/// ```
/// use keyward::Keyward;
/// use keyward::http::{Edge, KeyIn, KeyInError};
///
/// fn edge(keyward: &Keyward) -> Result<Edge, KeyInError> {
///     let edge = Edge::new(keyward)
///         .accept(KeyIn::bearer())
///         .accept(KeyIn::header("X-API-Key")?);
///     // For the operator's log: the reason, and what the caller probably meant.
///     Ok(edge.observe(|event| eprintln!("{} {:?}", event.reason, event.near_misses)))
/// }
/// ```
#[derive(Clone)]
pub struct Edge {
    verifier: Verifier,
    forms: Vec<KeyIn>,
    proxies: Proxies,
    rejecting: Rejecting,
    requires_tls: bool,
    refuses_browsers: bool,
    may_be_cached: bool,
    limit_headers: LimitHeaders,
    shows_expiry: bool,
    vary: Box<str>,
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(super) adapters: AdapterSettings,
}

/// The settings that the core does not apply.
#[cfg(any(feature = "actix", feature = "http"))]
#[derive(Clone, Copy)]
pub(super) struct AdapterSettings {
    pub(super) max_request_bytes: u64,
    pub(super) max_response_bytes: u64,
    /// How long a client may stop reading. `None`: there is no bound.
    pub(super) stall_timeout: Option<Duration>,
    pub(super) ends_with_key: bool,
    pub(super) keeps_credential: bool,
}

impl Edge {
    /// Creates an edge in front of this Keyward's verifier.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            verifier: keyward.verifier().clone(),
            forms: Vec::new(),
            proxies: Proxies::default(),
            rejecting: Rejecting {
                realm: "api".into(),
                renderer: Arc::new(ProblemJson),
                observer: None,
                is_report_only: false,
            },
            requires_tls: false,
            refuses_browsers: false,
            may_be_cached: false,
            limit_headers: LimitHeaders::All,
            shows_expiry: false,
            vary: Box::default(),
            #[cfg(any(feature = "actix", feature = "http"))]
            adapters: AdapterSettings {
                max_request_bytes: u64::MAX,
                max_response_bytes: u64::MAX,
                stall_timeout: None,
                ends_with_key: false,
                keeps_credential: false,
            },
        }
    }

    /// Also accepts keys in this form. Challenges name the forms in the order in which they were added.
    #[must_use]
    pub fn accept(mut self, form: KeyIn) -> Self {
        if !self.forms.contains(&form) {
            self.forms.push(form);
            let mut headers: Vec<_> = self.credential_headers().collect();
            if self
                .forms
                .iter()
                .any(|form| form.sub_protocol_prefix().is_some())
            {
                headers.push("sec-websocket-protocol");
            }
            self.vary = headers.join(", ").into();
        }
        self
    }

    /// Trusts these proxies to report where requests come from. By default no proxy is trusted.
    ///
    /// Say which proxies there are, or that there are [none](Proxies::none). Until then, failed authentications are not
    /// limited for requests with a forwarding header: see [`Proxies`].
    #[must_use]
    pub fn trust_proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Refuses requests that came without TLS (403).
    ///
    /// The edge never redirects them: a client that is redirected sends its key in clear each time.
    #[must_use]
    pub fn require_tls(mut self) -> Self {
        self.requires_tls = true;
        self
    }

    /// Refuses credentials that come from a web browser (403): everyone who can open a page can read the keys in it.
    ///
    /// A browser shows by `Sec-Fetch-Site` (W3C Fetch Metadata) or by `Origin` (Fetch Standard): pages can neither set
    /// nor remove these headers. The edge looks at them before it looks at the credential, so the answer reveals
    /// nothing about a key. It is a guard against mistakes, since any other client can omit the headers: a page that
    /// calls its own origin without TLS by GET sends neither, and some libraries for WebSockets send an `Origin` from
    /// servers.
    ///
    /// Requests without a credential are treated as before.
    #[must_use]
    pub fn refuse_browsers(mut self) -> Self {
        self.refuses_browsers = true;
        self
    }

    /// Sets the name of the protected space in challenges (RFC 9110 §11.5). The default is `api`.
    ///
    /// Characters that would have to be quoted are left out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        let is_plain = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        self.rejecting.realm = realm.chars().filter(is_plain).collect();
        self
    }

    /// Answers in a format other than [problem details](ProblemJson).
    #[must_use]
    pub fn renderer(mut self, renderer: impl Renderer) -> Self {
        self.rejecting.renderer = Arc::new(renderer);
        self
    }

    /// Calls this function with every rejection, for the operator's log.
    ///
    /// The edge calls it before the answer is sent, so it must not block.
    ///
    /// It is also called for rejections that are [only reported](Self::report_only), and for a handler's own 403 or 404
    /// after [`Grant::permits`] has refused a resource that the route [leaves to the
    /// handler](crate::verifier::Requirement::checked_by_handler). It is not called for other answers of handlers: not
    /// if a request body turns out to be too long while a handler reads it, not for such a refusal with another status,
    /// as in gRPC, and not if the route did not promise the check.
    ///
    /// The event does not name the route. The function is called on the request's task, so an event of `tracing` that
    /// it emits is in the span of a layer [outside of Keyward's](crate::manual::operations#what-should-i-log), which
    /// knows it.
    #[must_use]
    pub fn observe(
        mut self,
        observer: impl Fn(&RejectionEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.rejecting.observer = Some(Arc::new(observer));
        self
    }

    /// Marks rejections as [only reported](Rejection::is_report_only), so that the host can see which requests would
    /// be refused before any is.
    ///
    /// Adapters then let the request pass.
    ///
    /// # Security
    /// **Every caller gets in**, without a key and without a grant, and the request is passed on unchanged,
    /// credential included. Use it in the weeks before an API is closed.
    #[must_use]
    pub fn report_only(mut self) -> Self {
        self.rejecting.is_report_only = true;
        self
    }

    /// Sets the families of limit headers that responses have: all by default.
    ///
    /// A key without limits gets none. Nor does a caller that has not proven its key, such as with a 401.
    #[must_use]
    pub fn limit_headers(mut self, families: LimitHeaders) -> Self {
        self.limit_headers = families;
        self
    }

    /// Tells the holder of a key when the key ends, in two headers of responses. They are off by default.
    ///
    /// - `API-Key-Expires`: the instant at which the key expires, or at which the overlap after its rotation ends,
    ///   whichever is earlier. A key without an end has no such header.
    /// - `API-Key-Rotated`: the instant at which the key's successor was issued. It says that the client has to change
    ///   to the successor.
    ///
    /// Both are dates as in `Expires` (RFC 9110 §5.6.7), in whole seconds and never later than the instant. They are on
    /// responses of handlers, and on refusals once the caller has proven its key (403, 429 and the edge's others), but
    /// never on a 401. No standard defines such headers; GitHub sends `GitHub-Authentication-Token-Expiration`.
    #[must_use]
    pub fn expiry_headers(mut self) -> Self {
        self.shows_expiry = true;
        self
    }

    /// Adds no cache headers: the application sets `Cache-Control` and `Vary` of granted responses.
    ///
    /// # Security
    /// A shared cache in between may then serve one key's response to the next client.
    #[must_use]
    pub fn without_cache_headers(mut self) -> Self {
        self.may_be_cached = true;
        self
    }
}

/// What Keyward does with requests and responses, beside deciding: in the layers and routes of the features `tower`,
/// `axum` and `actix`, and in middleware of your own with the feature `http`.
#[cfg(any(feature = "actix", feature = "http"))]
impl Edge {
    /// Refuses requests with a larger body (413). By default there is no such bound.
    ///
    /// If the request states the length of its body, it is refused before the body is read. Otherwise the reader of
    /// the body gets an error at the bound and has to answer: the extractors of axum and actix answer 413. Middleware
    /// of your own has to bound such a body by itself.
    ///
    /// This raises no other bound. axum's extractors read at most 2 MiB, unless `DefaultBodyLimit` says otherwise;
    /// those of actix have bounds of their own, which `PayloadConfig`, `FormConfig` and `JsonConfig` set.
    #[must_use]
    pub fn max_request_bytes(mut self, max: u64) -> Self {
        self.adapters.max_request_bytes = max;
        self
    }

    /// Limits the length of responses.
    ///
    /// A response that announces more bytes is replaced by a 500. Any other longer response is cut
    /// ([`BodyCut::TooLong`](super::BodyCut::TooLong)). Both are reported to the [observer](Self::observe).
    #[must_use]
    pub fn max_response_bytes(mut self, max: u64) -> Self {
        self.adapters.max_response_bytes = max;
        self
    }

    /// Gives back a key's place among its concurrent requests if the client has not read for this long while the
    /// response is sent.
    ///
    /// If the client reads on later, the response is cut ([`BodyCut::Stalled`](super::BodyCut::Stalled)). By default
    /// there is no such bound, and a client that stops reading keeps its places until its connection closes.
    ///
    /// Only time in which the server cannot send counts, not time in which the handler prepares the next part. The
    /// timeout applies to keys with a limit of concurrent requests; set it on the outermost of nested guards. Servers
    /// buffer, so it depends on the server and the protocol how much a client must read to go on.
    ///
    /// It needs a tokio runtime with its timer enabled. Under another runtime there is no such bound.
    #[must_use]
    pub fn stall_timeout(mut self, most: Duration) -> Self {
        self.adapters.stall_timeout = Some(most);
        self
    }

    /// Cuts a response if its key ends while the response is being sent
    /// ([`BodyCut::KeyEnded`](super::BodyCut::KeyEnded)). See [`Grant::ended`].
    ///
    /// This costs one task wake-up per response.
    ///
    /// In tower and axum, an upgraded connection (101, such as a WebSocket, or CONNECT over HTTP/2) is not a response
    /// that can be cut. Its response ends as it begins, and so does the key's place among its requests in flight. Let
    /// the task that serves the connection stop at [`Grant::ended`], and hold anything else that bounds the connection
    /// in that task.
    #[must_use]
    pub fn end_with_key(mut self) -> Self {
        self.adapters.ends_with_key = true;
        self
    }

    /// Leaves the credential in the request, marked as sensitive.
    ///
    /// # Security
    /// Any code behind the guard that logs requests may then log keys: the mark is only a hint.
    #[must_use]
    pub fn keep_credential(mut self) -> Self {
        self.adapters.keeps_credential = true;
        self
    }
}

impl Edge {
    /// Decides on a request.
    ///
    /// If neither the store nor a slow hash is needed, it decides at once, even if the future is never polled. The
    /// credential and the address in the attempt are replaced by those of the head.
    ///
    /// # Errors
    /// [`Rejection`] contains the answer to send. Do not process the request further, unless the rejection [is only
    /// reported](Rejection::is_report_only): then let the request through, without a grant.
    pub fn admit<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Admitted, Box<Rejection>>> + use<'a, 'h, H> {
        let (found, origin) = self.read(head);
        self.admit_found(head, found, origin, attempt)
    }

    /// Decides on a request to a route that guests may use. `None`: the request is a guest's, and has no credential.
    ///
    /// [`Requirement::or_guest`](crate::verifier::Requirement) says which requests are guests'. Add
    /// [`guest_response_headers`](Self::guest_response_headers) to their responses.
    ///
    /// # Errors
    /// As for [`admit`](Self::admit): a credential that is refused or cannot be read never makes a guest. Also (500)
    /// for a guest if the requirement [leaves the decision to an inner
    /// guard](crate::verifier::Requirement::checked_by_inner_guard).
    pub fn admit_or_guest<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Option<Admitted>, Box<Rejection>>> + use<'a, 'h, H> {
        let (found, origin) = self.read(head);
        let admitting = if !self.is_guests(head, &found, origin) {
            Ok(self.admit_found(head, found, origin, attempt))
        } else if attempt.requirement.is_checked_inside() {
            // A guest has no grant, by which `review` could find that no inner guard has decided.
            Err(Err(self.reject_request(
                head,
                RejectionReason::NoInnerGuard,
                None,
            )))
        } else {
            Err(Ok(None))
        };
        async move {
            match admitting {
                Ok(admitting) => admitting.await.map(Some),
                Err(guest) => guest,
            }
        }
    }

    /// Decides on a request that an outer guard has already admitted.
    ///
    /// It checks that the grant meets the attempt's requirement, that it is for the tenant and environment that the
    /// attempt addresses, and that the request came over TLS if this edge [requires it](Self::require_tls). See
    /// [`Verifier::check_requirement`].
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub fn check_requirement<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let about = self.about_admitted(head, grant, attempt.requirement)?;
        let decided = self.verifier.check_requirement(grant, &attempt);
        decided.map_err(|denial| self.reject_about(RejectionReason::Denied(denial), about))
    }

    /// Decides as [`check_requirement`](Self::check_requirement) does, for a request that has waited since it was
    /// admitted.
    ///
    /// A look-up of a resource that the request names is such a wait. If the key has ended meanwhile, the request is
    /// refused. See [`Verifier::reverify`].
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub async fn reverify<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let about = self.about_admitted(head, grant, attempt.requirement)?;
        let decided = self.verifier.reverify(grant, &attempt).await;
        decided.map_err(|denial| self.reject_about(RejectionReason::Denied(denial), about))
    }

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

    fn reject_about(&self, reason: RejectionReason, about: About<'_>) -> Box<Rejection> {
        let shown = self.show_refused(&reason, about.grant);
        self.rejecting.reject(&self.forms, reason, about, &shown)
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("forms", &self.forms)
            .field("proxies", &self.proxies)
            .field("realm", &self.rejecting.realm)
            .field("renderer", &self.rejecting.renderer)
            .field("requires_tls", &self.requires_tls)
            .field("refuses_browsers", &self.refuses_browsers)
            .field("is_report_only", &self.rejecting.is_report_only)
            .finish_non_exhaustive()
    }
}
