//! A resource without any unguarded method.

use actix_web::dev::{AppService, Handler, HttpServiceFactory};
use actix_web::guard::fn_guard;
use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Resource, Responder, Route, web};

use super::KeyMiddleware;
use super::guarded::guarded;
use crate::http::Guard;
use crate::verifier::Requirement;

/// A resource on which each method has its own requirement: see [`KeyMiddleware::resource`].
#[must_use = "a resource is to be registered with an application"]
pub struct KeyResource {
    keys: KeyMiddleware,
    resource: Resource,
    path: String,
    methods: Vec<Method>,
    /// The requirement of the first method.
    first: Option<Guard<HttpRequest>>,
}

impl KeyResource {
    pub(super) fn new(keys: KeyMiddleware, path: &str) -> Self {
        Self {
            keys,
            resource: web::resource(path),
            path: path.to_owned(),
            methods: Vec::new(),
            first: None,
        }
    }

    /// Names the resource, as `Resource::name` does.
    pub fn name(mut self, name: &str) -> Self {
        self.resource = self.resource.name(name);
        self
    }

    /// Adds data for its handlers, as `Resource::app_data` does.
    pub fn app_data<D: 'static>(mut self, data: D) -> Self {
        self.resource = self.resource.app_data(data);
        self
    }

    /// Routes GET and HEAD to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on), if either has a handler already.
    #[track_caller]
    pub fn get<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::GET, Method::HEAD], guard, handler)
    }

    /// Routes POST to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn post<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::POST], guard, handler)
    }

    /// Routes PUT to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn put<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::PUT], guard, handler)
    }

    /// Routes PATCH to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn patch<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::PATCH], guard, handler)
    }

    /// Routes DELETE to a handler behind this requirement.
    ///
    /// # Panics
    /// As for [`on`](Self::on).
    #[track_caller]
    pub fn delete<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::DELETE], guard, handler)
    }

    /// Routes these methods to a handler behind this requirement.
    ///
    /// # Panics
    /// If a method has a handler already, which would get all its requests. Also if the requirement leaves a check to
    /// the handler and a method is not GET or HEAD: a handler that forgets the check has already acted when the guard
    /// notices. Bind the resource instead, with [`lookup`](crate::http::lookup) if need be. Also if the requirement
    /// leaves the decision to [an inner guard](crate::verifier::Requirement::checked_by_inner_guard), which a handler
    /// has not. The panic occurs when the application starts.
    #[track_caller]
    pub fn on<F, Args>(
        mut self,
        methods: impl IntoIterator<Item = Method>,
        guard: impl Into<Guard<HttpRequest>>,
        handler: F,
    ) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let (methods, guard): (Vec<_>, _) = (methods.into_iter().collect(), guard.into());
        let path = &self.path;
        for method in &methods {
            let is_new = !self.methods.contains(method);
            assert!(is_new, "{method} {path} has a handler already");
        }
        let mut acts = methods
            .iter()
            .filter(|method| !matches!(**method, Method::GET | Method::HEAD));
        assert!(
            acts.next().is_none() || !guard.leaves_checks(),
            "{path}: a requirement that leaves a check to the handler is for GET and HEAD only"
        );
        assert!(
            !guard.is_checked_inside(),
            "{path}: a requirement that an inner guard checks is for a middleware around other guards"
        );
        self.methods.extend(methods.iter().cloned());
        self.first.get_or_insert_with(|| guard.clone());
        let route = Route::new()
            .guard(fn_guard(move |asked| {
                methods.contains(&asked.head().method)
            }))
            .service(guarded(self.keys.require(guard).gate, handler));
        self.resource = self.resource.route(route);
        self
    }
}

impl HttpServiceFactory for KeyResource {
    fn register(self, config: &mut AppService) {
        let allowed: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        let allowed = allowed.join(", ");
        let refuse = move || {
            let answer = HttpResponse::MethodNotAllowed()
                .insert_header((ALLOW, allowed.clone()))
                .finish();
            async { answer }
        };
        let guard = self.first.unwrap_or_else(|| Requirement::any_key().into());
        let others = guarded(self.keys.require(guard.for_other_methods()).gate, refuse);
        self.resource.default_service(others).register(config);
    }
}

impl std::fmt::Debug for KeyResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyResource")
            .field("path", &self.path)
            .field("methods", &self.methods)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
