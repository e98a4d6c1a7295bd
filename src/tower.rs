//! Keys in front of a tower service that takes the `http` crate's requests and responses (feature `tower`).
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
//! The layer is tested under hyper, axum and tonic, over HTTP/1.1 and HTTP/2. For tonic, let the edge answer in
//! [gRPC's statuses](crate::http::GrpcStatus).
//!
//! The guarded service finds the [`Grant`] in the request's extensions, and no credential. (In axum applications
//! enable the feature `axum`: without it, a key that came in the query stays in axum's `OriginalUri`.) A layer inside
//! another one of the same Keyward finds that grant and checks only its own requirement.
//!
//! # Refused requests with a body
//! The layer reads and discards the body of a refused request, for at most two seconds and 16 MiB. A client that is
//! still sending then gets the answer and can use the connection again. The layer does not read the body of a request
//! with `Expect: 100-continue`. Over HTTP/1.1 hyper closes that connection after the answer, unless the whole body
//! has arrived by then.
//!
//! # Upgraded connections
//! The limit of concurrent requests and [`end_with_key`](KeyLayer::end_with_key) apply to the response body. An
//! upgraded connection, such as a WebSocket, outlives the body: watch [`Grant::ended`] and close the connection
//! yourself.
//!
//! # CORS
//!
//! Put layers that answer by themselves outside this one. A CORS layer answers preflight requests, which carry no
//! key; without it, `OPTIONS` gets 401 like any other request.

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

/// A layer that lets a request through if its key meets a requirement. Cheap to clone.
#[derive(Clone)]
pub struct KeyLayer {
    pub(crate) gate: Gate<Parts>,
}

impl KeyLayer {
    /// Creates a layer that admits requests through this edge. Until another requirement is set, it requires [any
    /// key](crate::verifier::Requirement::any_key).
    #[must_use]
    pub fn new(edge: Edge) -> Self {
        let gate = Gate::new(edge);
        Self { gate }
    }

    /// Returns the layer with this requirement.
    ///
    /// If the requirement names resources, say where requests name them:
    /// [`Requirement::bind`](crate::verifier::Requirement::bind).
    ///
    /// Use a requirement that [leaves a check](crate::verifier::Requirement::checked_by_handler) to the handler only
    /// for handlers that read: a handler that forgets the check has already acted when the layer notices.
    #[must_use]
    pub fn require(&self, guard: impl Into<Guard<Parts>>) -> Self {
        let gate = self.gate.require(guard.into());
        Self { gate }
    }

    /// Sets the function that determines a request's connection from its head.
    ///
    /// By default it is the [`Connection`] in the request's extensions, which the code that accepts connections
    /// inserts. With the feature `axum`, it is otherwise the address that
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

    /// Refuses requests with a larger body (413). By default there is no such bound.
    ///
    /// If the request states the length of its body, the layer refuses it before the body is read. Otherwise the
    /// reader of the body gets an error at the bound and has to answer: axum's extractors answer 413.
    ///
    /// This raises no other bound: axum's extractors read at most 2 MiB, unless `DefaultBodyLimit` says otherwise.
    #[must_use]
    pub fn max_request_bytes(self, max: u64) -> Self {
        let gate = self.gate.with(|config| config.max_request_bytes = max);
        Self { gate }
    }

    /// Limits the length of responses.
    ///
    /// A response that announces more bytes is replaced by a 500. Any other longer response is cut
    /// ([`BodyCut::TooLong`](crate::http::BodyCut::TooLong)). Both are reported to the [observer](Edge::observe).
    #[must_use]
    pub fn max_response_bytes(self, max: u64) -> Self {
        let gate = self.gate.with(|config| config.max_response_bytes = max);
        Self { gate }
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
    pub fn stall_timeout(self, most: Duration) -> Self {
        let gate = self.gate.with(|config| config.stall_timeout = Some(most));
        Self { gate }
    }

    /// Cuts a response if its key ends while the response is being sent
    /// ([`BodyCut::KeyEnded`](crate::http::BodyCut::KeyEnded)). See [`Grant::ended`].
    ///
    /// This costs one task wake-up per response.
    ///
    /// An upgraded connection (101, such as a WebSocket, or CONNECT over HTTP/2) is not a response that can be cut.
    /// Its response ends as it begins, and so does the key's place among its requests in flight. Let the task that
    /// serves the connection stop at [`Grant::ended`], and hold anything else that bounds the connection in that
    /// task.
    #[must_use]
    pub fn end_with_key(self) -> Self {
        let gate = self.gate.with(|config| config.ends_with_key = true);
        Self { gate }
    }

    /// Leaves the credential in the request, marked as sensitive.
    ///
    /// # Security
    /// Any code behind the layer that logs requests may then log keys: the mark is only a hint.
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

/// The request in one piece: splitting it into parts and reassembling it would move it repeatedly.
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
