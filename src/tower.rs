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
//! another one of the same Keyward finds that grant, checks only its own requirement, and counts only its own route's
//! quotas. If it refuses the request, the outer layer gives the cost back. A layer around others leaves resources to
//! them by [`checked_by_inner_guard`](crate::verifier::Requirement::checked_by_inner_guard): [middleware for each
//! key](crate::manual::http) goes between them.
//!
//! # Refused requests with a body
//! The layer reads and discards the body of a refused request, for at most two seconds and 16 MiB. A client that is
//! still sending then gets the answer and can use the connection again. The layer does not read the body of a request
//! with `Expect: 100-continue`. Over HTTP/1.1 hyper closes that connection after the answer, unless the whole body
//! has arrived by then.
//!
//! # Upgraded connections
//! The limit of concurrent requests and [`Edge::end_with_key`] apply to the response body. An
//! upgraded connection, such as a WebSocket, outlives the body: watch [`Grant::ended`] and close the connection
//! yourself.
//!
//! # CORS
//!
//! Put layers that answer by themselves outside this one. A CORS layer answers preflight requests, which carry no
//! key; without it, `OPTIONS` gets 401 like any other request.

mod request;
mod service;

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};

#[cfg(feature = "axum")]
pub(crate) use self::request::{begin, decide, drain, prepare};
pub use self::service::{KeyService, ResponseFuture};
pub use crate::http::ResponseBody;
use crate::http::{Connection, Edge, Gate, Guard, Incoming};
use crate::verifier::Grant;

/// A layer that lets a request through if its key meets a requirement. Cheap to clone.
#[derive(Clone)]
pub struct KeyLayer {
    pub(crate) gate: Arc<Gate<Parts>>,
}

impl KeyLayer {
    /// Creates a layer that admits requests through this edge. Until another requirement is set, it requires [any
    /// key](crate::verifier::Requirement::any_key).
    ///
    /// The edge also has the settings of requests and responses, such as [`Edge::max_request_bytes`] and
    /// [`Edge::end_with_key`]. Routes that differ in them have a layer of their own, with a clone of the edge.
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
        KeyService::new(Arc::clone(&self.gate), inner)
    }
}

impl fmt::Debug for KeyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}
