//! A resource none of whose methods is open.

use actix_web::dev::{AppService, Handler, HttpServiceFactory};
use actix_web::guard::fn_guard;
use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Resource, Responder, Route, web};

use super::KeyMiddleware;
use super::guarded::guarded;
use crate::http::Guard;
use crate::verifier::Requirement;

/// A resource whose methods each have their requirement: see [`KeyMiddleware::resource`].
#[must_use = "a resource is to be registered with an application"]
pub struct KeyResource {
    keys: KeyMiddleware,
    resource: Resource,
    path: String,
    methods: Vec<Method>,
    /// What the first of its methods requires.
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

    /// Hands data to its handlers, as `Resource::app_data` does.
    pub fn app_data<D: 'static>(mut self, data: D) -> Self {
        self.resource = self.resource.app_data(data);
        self
    }

    /// A handler of GET and HEAD behind this requirement.
    ///
    /// # Panics
    /// As [`on`](Self::on), if one of both has a handler already.
    #[track_caller]
    pub fn get<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::GET, Method::HEAD], guard, handler)
    }

    /// A handler of POST behind this requirement.
    ///
    /// # Panics
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn post<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::POST], guard, handler)
    }

    /// A handler of PUT behind this requirement.
    ///
    /// # Panics
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn put<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::PUT], guard, handler)
    }

    /// A handler of PATCH behind this requirement.
    ///
    /// # Panics
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn patch<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::PATCH], guard, handler)
    }

    /// A handler of DELETE behind this requirement.
    ///
    /// # Panics
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn delete<F, Args>(self, guard: impl Into<Guard<HttpRequest>>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::DELETE], guard, handler)
    }

    /// A handler of these methods behind this requirement.
    ///
    /// # Panics
    /// If a method has a handler already, which would get all requests; or if the requirement leaves a check to the
    /// handler and a method is another than GET or HEAD: by the time that a handler which forgot is found out, it has
    /// acted. Bind the resource instead, with [`lookup`](crate::http::lookup) if need be. A route that cannot be is
    /// found when the application starts.
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
        let others = guarded(self.keys.require(guard.without_lookups()).gate, refuse);
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
