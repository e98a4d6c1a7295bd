//! The settings of an edge.

use std::sync::Arc;
#[cfg(any(feature = "actix", feature = "http"))]
use std::time::Duration;

use super::Edge;
use crate::http::answer::Renderer;
use crate::http::client::Proxies;
use crate::http::key_in::KeyIn;
use crate::http::limits::LimitHeaders;
use crate::http::rejection::RejectionEvent;

impl Edge {
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

    /// Answers in a format other than [problem details](crate::http::ProblemJson).
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
    /// after [`Grant::permits`](crate::verifier::Grant::permits) has refused a resource that the route [leaves to the
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

    /// Marks rejections as [only reported](crate::http::Rejection::is_report_only), so that the host can see which
    /// requests would be refused before any is.
    ///
    /// Adapters then let the request pass. Each guard that it passes reports it.
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
    /// ([`BodyCut::TooLong`](crate::http::BodyCut::TooLong)). Both are reported to the [observer](Self::observe).
    #[must_use]
    pub fn max_response_bytes(mut self, max: u64) -> Self {
        self.adapters.max_response_bytes = max;
        self
    }

    /// Gives back a key's place among its concurrent requests if the client has not read for this long while the
    /// response is sent.
    ///
    /// If the client reads on later, the response is cut ([`BodyCut::Stalled`](crate::http::BodyCut::Stalled)). By
    /// default there is no such bound, and a client that stops reading keeps its places until its connection closes.
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
    /// ([`BodyCut::KeyEnded`](crate::http::BodyCut::KeyEnded)). See [`Grant::ended`](crate::verifier::Grant::ended).
    ///
    /// This costs one task wake-up per response.
    ///
    /// In tower and axum, an upgraded connection (101, such as a WebSocket, or CONNECT over HTTP/2) is not a response
    /// that can be cut. Its response ends as it begins, and so does the key's place among its requests in flight. Let
    /// the task that serves the connection stop at [`Grant::ended`](crate::verifier::Grant::ended), and hold anything
    /// else that bounds the connection in that task.
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
