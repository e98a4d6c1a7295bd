//! Keys in front of a tower service of the crate `http`'s requests and responses (feature `tower`).
//!
//! ```
//! # use keyward::{Keyward, http::{Edge, KeyIn}, key::Scope, scope, tower::KeyLayer, verifier::{Grant, Requirement}};
//! # fn f(keyward: &Keyward) {
//! const READ_EDITIONS: Scope = scope!("read:editions");
//!
//! let keys = KeyLayer::new(Edge::new(keyward).accept(KeyIn::bearer()));
//! let layer = keys.require(Requirement::scope(READ_EDITIONS));
//! # let _ = layer;
//! # }
//! ```
//!
//! Tried under hyper, axum and tonic, over HTTP/1.1 and HTTP/2; for tonic, let the edge answer in
//! [gRPC's statuses](crate::http::GrpcStatus).
//!
//! What it guards finds the [`Grant`] in the request's extensions, and no credential. (In axum applications enable the
//! feature `axum`: without it a key that came in the query stays in axum's `OriginalUri`.) A layer inside of another
//! one of the same Keyward finds that grant and checks its own requirement alone.
//!
//! # Refused requests with a body
//! The body of a refused request is read and discarded, for at most two seconds and 16 MiB: a client that is still
//! sending then gets the answer, and can use the connection again. The body of a request with `Expect: 100-continue` is
//! not read. Over HTTP/1.1 hyper closes that connection after the answer, unless the whole body has arrived by then.
//!
//! # Upgraded connections
//! The limit of concurrent requests and [`end_with_key`](KeyLayer::end_with_key) belong to the response body. A
//! connection that is upgraded, such as a WebSocket, outlives it: watch [`Grant::ended`] and close it yourself.
//!
//! # CORS
//!
//! Put layers that answer by themselves outside of this one: one for CORS answers preflights, which bear no key, and
//! without it `OPTIONS` gets 401 like everything else.

mod body;
mod drain;
mod request;
mod response;
mod service;

use std::fmt;
use std::time::Duration;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};

#[cfg(feature = "axum")]
pub(crate) use self::drain::drain;
#[cfg(feature = "axum")]
pub(crate) use self::request::{Entered, enter, prepare_request};
#[cfg(feature = "axum")]
pub(crate) use self::response::{add_headers, answer};
pub use self::service::{KeyService, ResponseFuture};
pub use crate::http::ResponseBody;
use crate::http::{Connection, Edge, Gate, Guard, Incoming};
use crate::verifier::Grant;

/// Lets requests through that bear a key which meets a requirement. Cheap to clone.
#[derive(Clone)]
pub struct KeyLayer {
    pub(crate) gate: Gate<Parts>,
}

impl KeyLayer {
    /// Layers that admit requests by way of this edge. As it is, one requires [any
    /// key](crate::verifier::Requirement::any_key).
    #[must_use]
    pub fn new(edge: Edge) -> Self {
        let gate = Gate::new(edge);
        Self { gate }
    }

    /// The same with this requirement. Where it names resources, say where requests name them:
    /// [`Requirement::bind`](crate::verifier::Requirement::bind).
    ///
    /// A requirement that [leaves a check](crate::verifier::Requirement::checked_by_handler) to the handler is for what
    /// reads alone: by the time that a handler which forgot is found out, it has acted.
    #[must_use]
    pub fn require(&self, guard: impl Into<Guard<Parts>>) -> Self {
        let gate = self.gate.require(guard.into());
        Self { gate }
    }

    /// How to learn from a request's head which connection it came over. By default it is the [`Connection`] in the
    /// request's extensions, inserted by whoever accepts connections; or, with the feature `axum`, the address that
    /// `into_make_service_with_connect_info::<SocketAddr>()` inserts, which counts as a connection without TLS.
    ///
    /// If there is neither, the peer is unknown and the connection counts as without TLS: keys that are restricted to
    /// networks are then refused, and an edge that [requires TLS](Edge::require_tls) refuses every request.
    #[must_use]
    pub fn connection(
        self,
        connection: impl Fn(&Parts) -> Connection + Send + Sync + 'static,
    ) -> Self {
        let gate = self.gate.connection(connection);
        Self { gate }
    }

    /// Refuses requests whose body has more bytes (413). By default there is no such bound.
    ///
    /// If the request states the length of its body, it is refused before the body is read. Otherwise whoever reads the
    /// body gets an error at the bound, and answers it: axum's extractors answer 413.
    ///
    /// It raises no other bound: axum's extractors read at most 2 MiB, unless `DefaultBodyLimit` is set otherwise.
    #[must_use]
    pub fn max_request_bytes(self, max: u64) -> Self {
        let gate = self.gate.with(|config| config.max_request_bytes = max);
        Self { gate }
    }

    /// Lets no response have more bytes: one that says that it has is replaced by a 500, any other is cut
    /// ([`BodyCut::TooLong`](crate::http::BodyCut::TooLong)). The [observer](Edge::observe) is told of it.
    #[must_use]
    pub fn max_response_bytes(self, max: u64) -> Self {
        let gate = self.gate.with(|config| config.max_response_bytes = max);
        Self { gate }
    }

    /// Gives a key's place among its concurrent requests back when the client has not read for this long while the
    /// response is sent. If the client reads on later, the response is cut
    /// ([`BodyCut::Stalled`](crate::http::BodyCut::Stalled)). By default there is no such bound, and a client that
    /// stops reading keeps its places for as long as its connection stands.
    ///
    /// Only time in which the server cannot send counts, and not time in which the handler prepares the next part. It
    /// applies to keys with a limit of concurrent requests, and is set on the outermost of nested guards. Servers
    /// buffer: how much a client must read to go on is up to the server and the protocol.
    ///
    /// It needs a tokio runtime with its timer enabled. Under another runtime there is no such bound.
    #[must_use]
    pub fn stall_timeout(self, most: Duration) -> Self {
        let gate = self.gate.with(|config| config.stall_timeout = Some(most));
        Self { gate }
    }

    /// Cuts a response when its key ends while it is being sent
    /// ([`BodyCut::KeyEnded`](crate::http::BodyCut::KeyEnded)): see [`Grant::ended`]. Costs a task's wake-up a
    /// response.
    ///
    /// An upgraded connection (101, such as a WebSocket, or CONNECT over HTTP/2) is no response that could be cut: its
    /// response ends as it begins, and with it the key's place among its requests in flight. Let the task that serves
    /// the connection stop at [`Grant::ended`], and hold what else bounds it there.
    #[must_use]
    pub fn end_with_key(self) -> Self {
        let gate = self.gate.with(|config| config.ends_with_key = true);
        Self { gate }
    }

    /// Leaves the credential in the request, marked as sensitive.
    ///
    /// # Security
    /// Whatever logs requests behind the layer may then log keys: the mark is only a hint.
    #[must_use]
    pub fn keep_credential(self) -> Self {
        let gate = self.gate.with(|config| config.keeps_credential = true);
        Self { gate }
    }
}

impl Incoming for Parts {
    type Headers = HeaderMap;
    type HeaderName = HeaderName;
    type HeaderValue = HeaderValue;

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    fn connection(&self) -> Connection {
        connection(&self.extensions)
    }

    fn admitted(&self) -> Option<Grant> {
        self.extensions.get().cloned()
    }
}

/// The same request in one piece: to take it apart and put it together again is to move it about.
impl<B> Incoming for Request<B> {
    type Headers = HeaderMap;
    type HeaderName = HeaderName;
    type HeaderValue = HeaderValue;

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn query(&self) -> Option<&str> {
        self.uri().query()
    }

    fn connection(&self) -> Connection {
        connection(self.extensions())
    }

    fn admitted(&self) -> Option<Grant> {
        self.extensions().get().cloned()
    }
}

#[inline(always)]
fn connection(extensions: &Extensions) -> Connection {
    if let Some(connection) = extensions.get() {
        return *connection;
    }
    #[cfg(feature = "axum")]
    if let Some(info) = extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>() {
        return Connection {
            peer: Some(info.0.ip()),
            is_tls: false,
        };
    }
    Connection::default()
}

impl<S> tower_layer::Layer<S> for KeyLayer {
    type Service = KeyService<S>;

    fn layer(&self, inner: S) -> KeyService<S> {
        KeyService::new(self.gate.clone(), inner)
    }
}

impl fmt::Debug for KeyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}
