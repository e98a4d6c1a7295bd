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
//!             .service(keys.resource("/v1/projects/{id}").get(Requirement::scope(READ).bind("project", path("id")), project))
//!             .service(
//!                 keys.resource("/v1/editions/{id}")
//!                     .get(Requirement::scope(READ).checked_by_handler("project"), edition)
//!                     .post(Requirement::scope(WRITE).bind("project", lookup(path("id"), project_of)), submit),
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
//! A handler that takes its edition as [`Permitted<Edition>`](Permitted) cannot forget the check: an extractor of the
//! application's own loads the edition, which says by [`Belongs`] what it belongs to, and the handler is called with
//! those that the key is permitted.
//!
//! # Where to put it
//! With [`resource`](KeyMiddleware::resource) each method has its requirement, and methods that a route has not are
//! behind the first of its guards: 401 without a key, and 403 or 405 with one. Nothing is looked up for them. The
//! middleware can also be put around what one has, by `.wrap(keys.require(..))`: around a route, a resource, a scope or
//! an application, and inside of one another. **Around a scope it sees the parameters of the scope's own path alone,
//! and around an application none**, since actix finds the route later: there, [`path`] refuses each request. Bind
//! resources with a middleware around the `web::resource`.
//!
//! - Between actix's router and this middleware nothing may keep the `HttpRequest`: actix panics, for keys that are
//!   good, when a request that somebody else holds is to be changed. Its own router does the same.
//! - actix does not drop a handler whose client goes away. The key's place among its concurrent requests is held until
//!   the handler has finished: give slow handlers a timeout of their own. Over HTTP/1,
//!   `HttpServer::h1_allow_half_closed(false)` drops the handler when the client closes its connection. Over HTTP/2
//!   actix has no such setting.
//! - An error that comes out of what it is around is an `InternalError` with the same answer.
//! - The body of a refused request is not read by this middleware. actix sends the answer, and closes the connection
//!   if it knows how much of the body was still to come.
//!
//! Put middleware that answers by itself outside of this one, which in actix is to say after it: one for CORS answers
//! preflights, which bear no key, and without it `OPTIONS` gets 401 like everything else. `testkit::assert_app_guarded`
//! tries all routes of an application without a key.

mod body;
mod guarded;
mod headers;
mod managing;
mod payload;
mod request;
mod resource;
mod response;
mod service;

use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{
    Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web,
};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

pub use self::resource::KeyResource;
pub use self::service::{KeyService, ResponseFuture};
pub use crate::http::{Belongs, Caller, Permitted, ResponseBody, Unguarded};
use crate::http::{Connection, Edge, Gate, Guard, Incoming, Source, at_once};
use crate::verifier::{Grant, ResourceDenied};

/// Lets requests through that bear a key which meets a requirement. Cheap to clone; one serves all workers.
#[derive(Clone)]
pub struct KeyMiddleware {
    gate: Gate<HttpRequest>,
}

impl KeyMiddleware {
    /// Middleware that admits requests by way of this edge. As it is, one requires [any
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
    /// reads alone: [`resource`](Self::resource) sees to that, and `wrap` cannot.
    #[must_use]
    pub fn require(&self, guard: impl Into<Guard<HttpRequest>>) -> Self {
        let gate = self.gate.require(guard.into());
        Self { gate }
    }

    /// A resource with this path, whose methods each have their requirement.
    pub fn resource(&self, path: &str) -> KeyResource {
        KeyResource::new(self.clone(), path)
    }

    /// How to learn from a request which connection it came over. By default it is the [`Connection`] in the
    /// connection's data, inserted by `HttpServer::on_connect`; or else the peer's address, with TLS if the server was
    /// bound with it. Headers are never asked.
    #[must_use]
    pub fn connection(
        self,
        connection: impl Fn(&HttpRequest) -> Connection + Send + Sync + 'static,
    ) -> Self {
        let gate = self.gate.connection(connection);
        Self { gate }
    }

    /// Refuses requests whose body has more bytes (413). By default there is no such bound.
    ///
    /// If the request states the length of its body, it is refused before the body is read. Otherwise whoever reads the
    /// body gets an error at the bound, and answers it: actix's extractors answer 413.
    ///
    /// It raises no other bound: actix's extractors have their own, such as 256 KiB for bytes and text and 16 KiB for
    /// forms, which `PayloadConfig`, `FormConfig` and `JsonConfig` set.
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
    #[must_use]
    pub fn stall_timeout(self, most: Duration) -> Self {
        let gate = self.gate.with(|config| config.stall_timeout = Some(most));
        Self { gate }
    }

    /// Cuts a response when its key ends while it is being sent
    /// ([`BodyCut::KeyEnded`](crate::http::BodyCut::KeyEnded)): see [`Grant::ended`]. Costs a task's wake-up a
    /// response.
    #[must_use]
    pub fn end_with_key(self) -> Self {
        let gate = self.gate.with(|config| config.ends_with_key = true);
        Self { gate }
    }

    /// Leaves the credential in the request, marked as sensitive.
    ///
    /// # Security
    /// Whatever logs requests behind the middleware may then log keys: the mark is only a hint.
    #[must_use]
    pub fn keep_credential(self) -> Self {
        let gate = self.gate.with(|config| config.keeps_credential = true);
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
        ready(Ok(KeyService::new(self.gate.clone(), Rc::new(inner))))
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

/// The resource that a parameter of the resource's path names, such as `id` in `/projects/{id}`: decoded, as
/// `web::Path` has it.
///
/// `HttpRequest::match_info` has it with `%2F`, `%25` and `%2B` left as they came: do not take it from there in a
/// handler.
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
        // Of two, nobody knows which the handler means.
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

impl<'de> Visitor<'de> for Collect {
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

/// The name of a parameter. actix hands names out to those alone who ask for an identifier, as derived structures do.
struct ParameterName(String);

impl<'de> Deserialize<'de> for ParameterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(ParameterNameVisitor)
    }
}

struct ParameterNameVisitor;

impl Visitor<'_> for ParameterNameVisitor {
    type Value = ParameterName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a parameter")
    }

    fn visit_str<E>(self, name: &str) -> Result<ParameterName, E> {
        Ok(ParameterName(name.to_owned()))
    }
}

impl FromRequest for Caller {
    type Error = Unguarded;
    type Future = Ready<Result<Self, Unguarded>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.admitted().map(Self).ok_or(Unguarded))
    }
}

impl<T> FromRequest for Permitted<T>
where
    T: FromRequest<Future: 'static> + Belongs + 'static,
{
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let grant = request.admitted();
        let loading = grant.map(|grant| (grant, T::from_request(request, payload)));
        Box::pin(async move {
            let (grant, loading) = loading.ok_or(Unguarded)?;
            let loaded = loading.await.map_err(Into::into)?;
            Ok(Self::new(loaded, &grant)?)
        })
    }
}

impl ResponseError for Unguarded {
    fn error_response(&self) -> HttpResponse {
        // The caller need not know why.
        HttpResponse::InternalServerError().finish()
    }
}

/// 403, in the words of an edge that answers in [problem details](crate::http::ProblemJson).
impl ResponseError for ResourceDenied {
    fn status_code(&self) -> StatusCode {
        StatusCode::FORBIDDEN
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::Forbidden()
            .insert_header(("content-type", "application/problem+json"))
            .insert_header(("cache-control", "no-store"))
            .body(crate::http::forbidden())
    }
}

impl fmt::Debug for KeyMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}
