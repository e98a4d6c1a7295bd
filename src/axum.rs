//! Keys in an axum application (feature `axum`).
//!
//! ```
//! use axum::{Router, extract::Path};
//! use keyward::axum::{Caller, path};
//! use keyward::http::{Edge, KeyIn, lookup};
//! use keyward::tower::KeyLayer;
//! use keyward::verifier::{ResourceDenied, Requirement};
//! use keyward::{Keyward, key::Scope, scope};
//!
//! const READ: Scope = scope!("read:editions");
//! const WRITE: Scope = scope!("write:editions");
//!
//! fn app(keyward: &Keyward) -> Router {
//!     let keys = KeyLayer::new(Edge::new(keyward).accept(KeyIn::bearer()));
//!     Router::new()
//!         .route("/v1/projects", keys.get(Requirement::scope(READ).filters("project"), projects))
//!         .route("/v1/projects/{id}", keys.get(Requirement::scope(READ).bind("project", path("id")), project))
//!         .route(
//!             "/v1/editions/{id}",
//!             keys.get(Requirement::scope(READ).checked_by_handler("project"), edition)
//!                 .merge(keys.post(
//!                     Requirement::scope(WRITE).bind("project", lookup(path("id"), |_, id| project_of(id))),
//!                     submit,
//!                 )),
//!         )
//! }
//!
//! async fn projects(caller: Caller) -> String {
//!     let only = caller.only("project"); // a restricted key's list is filtered
//!     ["p-1", "p-2"].into_iter().filter(|id| only.permits(id)).collect()
//! }
//!
//! async fn project(Path(id): Path<String>) -> String {
//!     id
//! }
//!
//! async fn edition(caller: Caller, Path(_id): Path<String>) -> Result<&'static str, ResourceDenied> {
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
//! # let _ = app;
//! ```
//!
//! A handler that takes its edition as [`Permitted<Edition>`](Permitted) cannot forget the check. The application's
//! own extractor loads the edition, [`Belongs`] names the resource that it belongs to, and the handler is called only
//! for editions that the key is permitted.
//!
//! # Why not `get(handler).layer(…)`?
//! A layer does not cover a method that is added after it: `get(a).layer(keys).post(b)` leaves the POST open to
//! everyone.
//!
//! - With [`get`](KeyLayer::get), [`post`](KeyLayer::post) and the others, each method has its own requirement and
//!   stays guarded when method routers are merged.
//! - A method that the route lacks is guarded too, by the requirement that was merged last: the answer is 401 without
//!   a key, and 403 or 405 with one. No look-up is made for it.
//! - The second point requires two things: the method router that is merged last also comes from here, and the router
//!   has no `method_not_allowed_fallback`, which axum would use instead. If they are missing, guarded handlers still
//!   stay guarded.
//! - `testkit::assert_guarded` tries all routes of an application without a key.

mod guarded;
mod management;

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::StatusCode;
use http::request::Parts;

use self::guarded::Guarded;
pub use self::management::management_routes;
use crate::http::{Answer, Guard, Source, at_once};
pub use crate::http::{Belongs, Caller, Permitted, Visitor};
use crate::manager::{Issued, ManageError};
use crate::tower::KeyLayer;
use crate::verifier::ResourceDenied;

impl KeyLayer {
    /// Routes GET and HEAD to a handler behind this requirement.
    pub fn get<H, T, S>(&self, guard: impl Into<Guard<Parts>>, handler: H) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.on(MethodFilter::GET, guard, handler)
    }

    /// Routes POST to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn post<H, T, S>(&self, guard: impl Into<Guard<Parts>>, handler: H) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.on(MethodFilter::POST, guard, handler)
    }

    /// Routes PUT to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn put<H, T, S>(&self, guard: impl Into<Guard<Parts>>, handler: H) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.on(MethodFilter::PUT, guard, handler)
    }

    /// Routes PATCH to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn patch<H, T, S>(&self, guard: impl Into<Guard<Parts>>, handler: H) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.on(MethodFilter::PATCH, guard, handler)
    }

    /// Routes DELETE to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn delete<H, T, S>(&self, guard: impl Into<Guard<Parts>>, handler: H) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.on(MethodFilter::DELETE, guard, handler)
    }

    /// Routes these methods to a handler behind this requirement.
    ///
    /// # Panics
    /// If the requirement leaves a check to the handler and a method is not GET or HEAD: a handler that forgets the
    /// check has already acted when the guard notices. Bind the resource instead, with
    /// [`lookup`](crate::http::lookup) if need be. Also if the requirement leaves the decision to [an inner
    /// guard](crate::verifier::Requirement::checked_by_inner_guard), which a handler has not. The panic occurs when the
    /// application starts, as it does for axum's own invalid routes.
    #[track_caller]
    pub fn on<H, T, S>(
        &self,
        methods: MethodFilter,
        guard: impl Into<Guard<Parts>>,
        handler: H,
    ) -> MethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        let guard = guard.into();
        let only_reads = [
            MethodFilter::GET,
            MethodFilter::HEAD,
            MethodFilter::GET.or(MethodFilter::HEAD),
        ];
        assert!(
            only_reads.contains(&methods) || !guard.leaves_checks(),
            "a requirement that leaves a check to the handler is for GET and HEAD only"
        );
        assert!(
            !guard.is_checked_inside(),
            "a requirement that an inner guard checks is for a layer around other guards"
        );
        // Methods that the route lacks go to the fallback that was merged last.
        let others = self.require(guard.clone().for_other_methods());
        let others = MethodRouter::<S>::new().layer(others);
        let keys = self.require(guard);
        on(methods, Guarded::new(keys.gate, handler)).merge(others)
    }
}

/// The resource that a parameter of the route's path names, such as `id` in `/projects/{id}`.
///
/// The value is decoded, as in axum's `Path`.
#[must_use]
pub fn path(parameter: &str) -> Source<Parts> {
    let parameter: Arc<str> = parameter.into();
    Source::reading(move |parts| {
        // axum gives path parameters only to extractors.
        let extracting = <RawPathParams as FromRequestParts<()>>::from_request_parts(parts, &());
        let parameters = at_once(extracting)?.ok()?;
        let mut values = parameters
            .iter()
            .filter(|(name, _)| **name == *parameter)
            .map(|(_, value)| value.to_owned());
        // Of two parameters with this name, the guard cannot tell which the handler uses.
        values.next().filter(|_| values.next().is_none())
    })
}

/// The answer if a handler takes a [`Caller`] although no guard admitted the request. The caller need not know why.
const UNGUARDED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Self::find(&parts.extensions).ok_or(UNGUARDED)
    }
}

/// `None` for a guest. Without a guard the answer is 500, so that a route that lost its guard serves no one.
impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, StatusCode> {
        let visitor = Visitor::find(&parts.extensions).ok_or(UNGUARDED)?;
        Ok(visitor.0)
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Self::find(&parts.extensions).ok_or(UNGUARDED)
    }
}

impl<T, S> FromRequestParts<S> for Permitted<T>
where
    T: FromRequestParts<S> + Belongs,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let caller = Caller::find(&parts.extensions);
        let Caller(grant) = caller.ok_or_else(|| UNGUARDED.into_response())?;
        let loading = T::from_request_parts(parts, state).await;
        let loaded = loading.map_err(IntoResponse::into_response)?;
        Self::new(loaded, &grant).map_err(IntoResponse::into_response)
    }
}

/// Answers 403 in the words of an edge that uses [problem details](crate::http::ProblemJson).
impl IntoResponse for ResourceDenied {
    fn into_response(self) -> Response {
        Response::from(Answer::from(&self))
    }
}

/// Responds with the error's [`Answer`]. The response's extensions contain the error itself as an `Arc<ManageError>`,
/// for the host's log.
impl IntoResponse for ManageError {
    fn into_response(self) -> Response {
        let mut response = Response::from(Answer::from(&self));
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// 201 with the key, which no cache keeps.
impl IntoResponse for Issued {
    fn into_response(self) -> Response {
        Response::from(Answer::from(&self))
    }
}
