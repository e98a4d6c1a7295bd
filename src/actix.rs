//! Keys in an actix application (feature `actix`).
//!
//! ```
//! use actix_web::{App, web};
//! use keyward::actix::{Caller, KeyMiddleware, path};
//! use keyward::http::{Edge, KeyIn, lookup};
//! use keyward::verifier::{ResourceDenied, Requirement};
//! use keyward::{Keyward, key::Scope, scope};
//!
//! const READ: Scope = scope!("read:editions");
//! const WRITE: Scope = scope!("write:editions");
//!
//! fn routes(keyward: &Keyward) -> impl FnOnce(&mut web::ServiceConfig) + Clone + use<> {
//!     let keys = KeyMiddleware::new(Edge::new(keyward).accept(KeyIn::bearer()));
//!     move |app| {
//!         app.service(keys.resource("/v1/projects").get(Requirement::scope(READ).filters("project"), projects))
//!             .service(
//!                 keys.resource("/v1/projects/{id}")
//!                     .get(Requirement::scope(READ).bind("project", path("id")), project),
//!             )
//!             .service(
//!                 keys.resource("/v1/editions/{id}")
//!                     .get(Requirement::scope(READ).checked_by_handler("project"), edition)
//!                     .post(
//!                         Requirement::scope(WRITE).bind("project", lookup(path("id"), |_, id| project_of(id))),
//!                         submit,
//!                     ),
//!             );
//!     }
//! }
//!
//! async fn projects(caller: Caller) -> String {
//!     let only = caller.only("project"); // a restricted key's list is filtered
//!     ["p-1", "p-2"].into_iter().filter(|id| only.permits(id)).collect()
//! }
//!
//! async fn project(id: web::Path<String>) -> String {
//!     id.into_inner()
//! }
//!
//! async fn edition(caller: Caller) -> Result<&'static str, ResourceDenied> {
//!     caller.permits("project", "p-1")?; // forgotten: 500 in place of what would have been answered
//!     Ok("the edition")
//! }
//!
//! async fn project_of(_edition: String) -> Result<Option<String>, std::io::Error> {
//!     Ok(Some("p-1".to_owned())) // before the handler acts
//! }
//!
//! async fn submit() -> &'static str {
//!     "submitted"
//! }
//!
//! # fn f(keyward: &Keyward) {
//! let routes = routes(keyward); // once, and one clone for each worker
//! let app = move || App::new().configure(routes.clone());
//! # let _ = app;
//! # }
//! ```
//!
//! A handler that takes its edition as [`Permitted<Edition>`](Permitted) cannot forget the check. The application's
//! own extractor loads the edition, [`Belongs`] names the resource that it belongs to, and the handler is called only
//! for editions that the key is permitted.
//!
//! # Where to put it
//! With [`resource`](KeyMiddleware::resource) each method has its own requirement. Methods that a route lacks are
//! behind its first guard: 401 without a key, and 403 or 405 with one. No look-up is made for them. You can also wrap
//! a route, a resource, a scope or an application in the middleware, with `.wrap(keys.require(..))`, and nest it.
//! **Around a scope the middleware sees only the parameters of the scope's own path, and around an application it
//! sees none**, since actix finds the route later: [`path`] refuses every request there. Bind resources with a
//! middleware around the `web::resource`.
//!
//! - Nothing between actix's router and this middleware may keep the `HttpRequest`. To change a request that other
//!   code holds, actix panics, and it does so for valid keys. Its own router does the same.
//! - actix does not drop a handler if its client disconnects. The key's place among its concurrent requests is held
//!   until the handler has finished, so give slow handlers a timeout of their own. Over HTTP/1,
//!   `HttpServer::h1_allow_half_closed(false)` drops the handler when the client closes its connection. Over HTTP/2
//!   actix has no such setting.
//! - An error from the wrapped service becomes an `InternalError` with the same answer.
//! - This middleware does not read the body of a refused request. actix sends the answer, and closes the connection
//!   if it knows how much of the body was still to come.
//!
//! Put middleware that answers by itself outside this one, which in actix means adding it later. A CORS middleware
//! answers preflight requests, which carry no key; without it, `OPTIONS` gets 401 like any other request.
//! `testkit::assert_app_guarded` tries all routes of an application without a key.

mod guarded;
mod management;
mod request;
mod resource;
mod response;
mod service;

use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use actix_web::{
    Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, Responder, ResponseError, web,
};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess};

pub use self::management::management_scope;
pub use self::resource::KeyResource;
use self::response::answer;
pub use self::service::{KeyService, ResponseFuture};
use crate::http::{Answer, Connection, Edge, Gate, Guard, HeaderSource, Incoming, Source, at_once};
pub use crate::http::{Belongs, Caller, Permitted, ResponseBody, Visitor};
use crate::manager::{Issued, ManageError};
use crate::verifier::{Grant, ResourceDenied};

/// A middleware that lets a request through if its key meets a requirement. Cheap to clone; one serves all workers.
#[derive(Clone)]
pub struct KeyMiddleware {
    gate: Arc<Gate<HttpRequest>>,
}

impl KeyMiddleware {
    /// Creates middleware that admits requests through this edge. Until another requirement is set, it requires [any
    /// key](crate::verifier::Requirement::any_key).
    ///
    /// The edge also has the settings of requests and responses, such as [`Edge::max_request_bytes`] and
    /// [`Edge::end_with_key`]. Routes that differ in them have middleware of their own, with a clone of the edge.
    #[must_use]
    pub fn new(edge: Edge) -> Self {
        let gate = Gate::new(edge);
        Self { gate }
    }

    /// Returns the middleware with this requirement.
    ///
    /// If the requirement names resources, say where requests name them:
    /// [`Requirement::bind`](crate::verifier::Requirement::bind).
    ///
    /// Use a requirement that [leaves a check](crate::verifier::Requirement::checked_by_handler) to the handler only
    /// for handlers that read. [`resource`](Self::resource) enforces this; `wrap` cannot.
    #[must_use]
    pub fn require(&self, guard: impl Into<Guard<HttpRequest>>) -> Self {
        let gate = self.gate.require(guard.into());
        Self { gate }
    }

    /// Creates a resource with this path, on which each method has its own requirement.
    pub fn resource(&self, path: &str) -> KeyResource {
        KeyResource::new(self.clone(), path)
    }

    /// Sets the function that determines a request's connection.
    ///
    /// By default it is the [`Connection`] in the connection's data, which `HttpServer::on_connect` inserts.
    /// Otherwise it is the peer's address, with TLS if the server was bound with it. Headers are never consulted.
    #[must_use]
    pub fn connection(
        self,
        connection: impl Fn(&HttpRequest) -> Connection + Send + Sync + 'static,
    ) -> Self {
        let gate = self.gate.connection(connection);
        Self { gate }
    }
}

impl<S, B> Transform<S, ServiceRequest> for KeyMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<ResponseBody<B>>;
    type Error = Error;
    type Transform = KeyService<S>;
    type InitError = ();
    type Future = Ready<Result<KeyService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(KeyService::new(Arc::clone(&self.gate), Rc::new(inner))))
    }
}

impl Incoming for HttpRequest {
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
        let said = self.conn_data().copied();
        said.unwrap_or_else(|| Connection {
            peer: self.peer_addr().map(|peer| peer.ip()),
            is_tls: self.app_config().secure(),
        })
    }

    fn admitted(&self) -> Option<Grant> {
        self.extensions().get().cloned()
    }
}

/// actix uses an older version of the `http` crate.
impl HeaderSource for HeaderMap {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    #[inline]
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Uses the map's own look-up: the default would scan all headers for each name.
        let values = match name {
            // A known name need not be parsed.
            "authorization" => self.get_all(AUTHORIZATION),
            "cache-control" => self.get_all(CACHE_CONTROL),
            other => self.get_all(other),
        };
        values.map(|value| value.as_bytes())
    }
}

/// The resource that a parameter of the resource's path names, such as `id` in `/projects/{id}`.
///
/// The value is decoded, as in `web::Path`. `HttpRequest::match_info` leaves `%2F`, `%25` and `%2B` encoded: do not
/// take the value from there in a handler.
#[must_use]
pub fn path(parameter: &str) -> Source<HttpRequest> {
    let parameter: Arc<str> = parameter.into();
    Source::reading(move |request| {
        let extracted = at_once(web::Path::<Parameters>::extract(request))?;
        let Parameters(parameters) = extracted.ok()?.into_inner();
        let mut values = parameters
            .into_iter()
            .filter(|(name, _)| **name == *parameter)
            .map(|(_, value)| value);
        // Of two parameters with this name, the guard cannot tell which the handler uses.
        values.next().filter(|_| values.next().is_none())
    })
}

/// All parameters of a path, decoded.
struct Parameters(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> de::Visitor<'de> for Collect {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parameters of a path")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Parameters, M::Error> {
        let mut parameters = Vec::new();
        while let Some((ParameterName(name), value)) = map.next_entry()? {
            parameters.push((name, value));
        }
        Ok(Parameters(parameters))
    }
}

/// The name of a parameter. actix gives names only to code that asks for an identifier, as derived structs do.
struct ParameterName(String);

impl<'de> Deserialize<'de> for ParameterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(ParameterNameVisitor)
    }
}

struct ParameterNameVisitor;

impl de::Visitor<'_> for ParameterNameVisitor {
    type Value = ParameterName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a parameter")
    }

    fn visit_str<E>(self, name: &str) -> Result<ParameterName, E> {
        Ok(ParameterName(name.to_owned()))
    }
}

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::found(&*request.extensions()).ok_or_else(unguarded))
    }
}

impl FromRequest for Visitor {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::found(&*request.extensions()).ok_or_else(unguarded))
    }
}

impl<T> FromRequest for Permitted<T>
where
    T: FromRequest<Future: 'static> + Belongs + 'static,
{
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::found(&*request.extensions());
        let loading = caller.map(|Caller(grant)| (grant, T::from_request(request, payload)));
        Box::pin(async move {
            let (grant, loading) = loading.ok_or_else(unguarded)?;
            let loaded = loading.await.map_err(Into::into)?;
            Ok(Self::new(loaded, &grant)?)
        })
    }
}

/// Creates the error of a handler that takes a [`Caller`] although no guard admitted the request.
fn unguarded() -> Error {
    // The caller need not know why.
    let response = HttpResponse::InternalServerError().finish();
    InternalError::from_response("the route is not guarded", response).into()
}

/// Answers 403 in the words of an edge that uses [problem details](crate::http::ProblemJson).
impl ResponseError for ResourceDenied {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    fn error_response(&self) -> HttpResponse {
        answer(Answer::from(self), BoxBody::new)
    }
}

/// Responds with the error's [`Answer`]. The response carries the error itself, for the host's log.
impl ResponseError for ManageError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(Answer::from(self).status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        answer(Answer::from(self), BoxBody::new)
    }
}

/// 201 with the key, which no cache keeps.
impl Responder for Issued {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        answer(Answer::from(&self), BoxBody::new)
    }
}

impl fmt::Debug for KeyMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}
