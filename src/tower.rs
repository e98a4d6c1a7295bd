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
//! What it guards finds the [`Grant`](crate::verifier::Grant) in the request's extensions, and no credential. A
//! layer inside of another one of the same Keyward finds that grant and checks its own requirement alone.
//!
//! Put layers that answer by themselves outside of this one: one for CORS answers preflights, which bear no key, and
//! without it `OPTIONS` gets 401 like everything else.

mod body;
mod guard;
mod service;

use std::fmt;
use std::sync::Arc;

use http::Extensions;

pub use self::body::{BodyCut, BoxError, ResponseBody};
pub use self::guard::{Bind, Guard, Source, lookup};
pub use self::service::{KeyService, ResponseFuture};
use crate::http::{Connection, Edge};
use crate::verifier::Requirement;

/// Lets requests through that bear a key which meets a requirement. Cheap to clone.
#[derive(Clone)]
pub struct KeyLayer {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
}

/// What all layers of one edge have in common.
#[derive(Clone)]
struct Shared {
    edge: Arc<Edge>,
    connection: Arc<dyn Fn(&Extensions) -> Connection + Send + Sync>,
    most_request_bytes: u64,
    most_response_bytes: u64,
    ends_with_key: bool,
    keeps_credential: bool,
}

impl KeyLayer {
    /// Layers that admit requests by way of this edge. As it is, one requires [any key](Requirement::any_key).
    #[must_use]
    pub fn new(edge: Edge) -> Self {
        Self {
            shared: Arc::new(Shared {
                edge: Arc::new(edge),
                connection: Arc::new(connection),
                most_request_bytes: u64::MAX,
                most_response_bytes: u64::MAX,
                ends_with_key: false,
                keeps_credential: false,
            }),
            guard: Arc::new(Requirement::any_key().into()),
        }
    }

    /// The same with this requirement. Where it names resources, say where requests name them: [`Bind`].
    #[must_use]
    pub fn require(&self, guard: impl Into<Guard>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            guard: Arc::new(guard.into()),
        }
    }

    /// Learns from a request's extensions what connection it came over. By default a [`Connection`] stands there, put in by
    /// whoever accepts connections; or with the feature `axum`, what its `into_make_service_with_connect_info` puts there, for a server
    /// without TLS. Where there is neither, the peer is unknown, and the connection not TLS.
    #[must_use]
    pub fn connection(
        self,
        connection: impl Fn(&Extensions) -> Connection + Send + Sync + 'static,
    ) -> Self {
        self.with(|shared| shared.connection = Arc::new(connection))
    }

    /// Refuses requests with bodies of more bytes (413): before the body is read where it says how long it is, and else
    /// its reader gets an error, once it has come so far.
    #[must_use]
    pub fn max_request_bytes(self, most: u64) -> Self {
        self.with(|shared| shared.most_request_bytes = most)
    }

    /// Lets no response have more bytes: one that says that it has is replaced by a 500, any other is cut
    /// ([`BodyCut::TooLong`]). The [observer](Edge::observe) is told of it.
    #[must_use]
    pub fn max_response_bytes(self, most: u64) -> Self {
        self.with(|shared| shared.most_response_bytes = most)
    }

    /// Cuts a response when its key ends while it is being sent ([`BodyCut::KeyEnded`]): see
    /// [`Grant::ended`](crate::verifier::Grant::ended). Costs a task's wake-up a response.
    #[must_use]
    pub fn end_with_key(self) -> Self {
        self.with(|shared| shared.ends_with_key = true)
    }

    /// Leaves the credential in the request, marked as sensitive.
    ///
    /// # Security
    /// Whatever logs requests behind the layer may then log keys: the mark is only a hint.
    #[must_use]
    pub fn keep_credential(self) -> Self {
        self.with(|shared| shared.keeps_credential = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

/// What the extensions say of the connection, if anything.
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
        KeyService::new(self.clone(), inner)
    }
}

impl fmt::Debug for KeyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLayer")
            .field("edge", &self.shared.edge)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
