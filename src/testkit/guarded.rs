//! Checks that all routes of an application are guarded.

use std::panic::Location;

#[cfg(feature = "http")]
use crate::http::Connection;
use crate::http::in_flight::ServedGuest;

/// The methods that an application may have opened by itself, and one that no application has.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "KEYWARD",
];

/// The connection of the requests, for edges that require TLS. Its peer is an address for documentation (RFC 5737),
/// which is no application's proxy: what a trusted proxy does not report counts as without TLS.
#[cfg(feature = "http")]
const OVER_TLS: Connection = Connection {
    peer: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
    is_tls: true,
};

/// Requests each of these paths with every method and without a key, and panics unless every answer is 401.
///
/// Pass the application as it is served, and a path for each of its routes: `/v1/projects/p-1` for
/// `/v1/projects/{id}`. A path without a route fails too. The requests have a
/// [`Connection`](crate::http::Connection) over TLS.
///
/// ```
/// use axum::{Router, routing::get};
/// use keyward::{http::{Edge, KeyIn}, testkit, tower::KeyLayer, verifier::Requirement};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (keyward, _) = testkit::keyward_with_key([], keyward::key::Access::Full).await;
/// let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
/// let app: Router = Router::new().route("/v1/projects/{id}", keys.get(Requirement::full_access(), || async {}));
///
/// testkit::assert_guarded(app, ["/v1/projects/p-1"]).await;
/// # }
/// ```
///
/// # Panics
/// If any answer is not 401. The message lists these requests. Name those that guests may send with
/// [`assert_guarded_except`].
#[cfg(feature = "axum")]
#[track_caller]
pub fn assert_guarded<'a>(
    app: axum::Router,
    paths: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()> {
    assert_guarded_except(app, paths, [])
}

/// Requests paths as [`assert_guarded`] does, of an application with routes for
/// [guests](crate::verifier::Requirement::or_guest). Each request that a guest may send is named, and all others are
/// answered 401.
///
/// A guest may send a request if a guard lets it through: a route without a guard fails although it is named. A GET
/// names the HEAD too.
///
/// ```
/// use axum::Router;
/// use keyward::{http::{Edge, KeyIn}, testkit, tower::KeyLayer, verifier::Requirement};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (keyward, _) = testkit::keyward_with_key([], keyward::key::Access::Full).await;
/// let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
/// let catalogue = keys.get(Requirement::any_key().or_guest(), || async {})
///     .merge(keys.post(Requirement::full_access(), || async {}));
/// let app: Router = Router::new().route("/v1/catalogue", catalogue);
///
/// testkit::assert_guarded_except(app, ["/v1/catalogue"], ["GET /v1/catalogue"]).await;
/// # }
/// ```
///
/// # Panics
/// If any other answer is not 401, or no guard lets a named request through as a guest's. The message lists these
/// requests.
#[cfg(feature = "axum")]
#[track_caller]
pub fn assert_guarded_except<'a>(
    app: axum::Router,
    paths: impl IntoIterator<Item = &'a str>,
    for_guests: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()> {
    use tower_service::Service as _;

    let send = move |request: http::Request<()>| {
        let mut app = app.clone();
        async move {
            let Ok(response) = app.call(request.map(|()| axum::body::Body::empty())).await;
            response
        }
    };
    assert_all_guarded(send, Tried::new(paths, for_guests), Location::caller())
}

/// Requests each of these paths with every method and without a key, of an application that this function calls: one
/// of a framework for which you have written the middleware.
///
/// The function sends the request to the application as it is served, and returns its response with its extensions: in
/// these Keyward leaves a mark of guests. The request has a [`Connection`](crate::http::Connection) over TLS in its
/// extensions. Each request that a [guest](crate::verifier::Requirement::or_guest) may send is named, as in
/// `GET /v1/catalogue`, and all others are answered 401; or 405, as many frameworks answer methods that a route lacks
/// before any middleware of the route is asked.
///
/// ```
/// use http::{Request, Response};
/// use keyward::{http::{Edge, Guard, Head, KeyIn, ResponseBody}, testkit, verifier::Requirement};
///
/// type Answer = Response<ResponseBody<String>>;
///
/// fn head(request: &Request<()>) -> Head<'_, http::HeaderMap> {
///     Head { headers: request.headers(), connection: Default::default(), query: request.uri().query() }
/// }
///
/// async fn app(edge: &Edge, guard: &Guard<Request<()>>, mut request: Request<()>) -> Answer {
///     match edge.admit_guarded(guard, &mut request, None, head).await {
///         Ok(admission) => admission
///             .enter(&mut request, Request::headers_mut, Request::uri_mut, Request::extensions_mut)
///             .finish(Response::default()),
///         Err(refused) => Response::from(*refused),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (keyward, _) = testkit::keyward_with_key([], keyward::key::Access::Full).await;
/// let edge = Edge::new(&keyward).accept(KeyIn::bearer());
/// let guard = Requirement::full_access().into();
///
/// testkit::assert_requests_guarded(|request| app(&edge, &guard, request), ["/v1/projects/p-1"], []).await;
/// # }
/// ```
///
/// # Panics
/// If any other answer is neither, or no guard lets a named request through as a guest's. The message lists these
/// requests.
#[cfg(feature = "http")]
#[track_caller]
pub fn assert_requests_guarded<'a, Sending, B>(
    send: impl FnMut(http::Request<()>) -> Sending,
    paths: impl IntoIterator<Item = &'a str>,
    for_guests: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()>
where
    Sending: Future<Output = http::Response<B>>,
{
    let tried = Tried {
        may_lack_methods: true,
        ..Tried::new(paths, for_guests)
    };
    assert_all_guarded(send, tried, Location::caller())
}

#[cfg(feature = "http")]
async fn assert_all_guarded<Sending, B>(
    mut send: impl FnMut(http::Request<()>) -> Sending,
    mut tried: Tried,
    caller: &Location<'_>,
) where
    Sending: Future<Output = http::Response<B>>,
{
    for (method, path) in tried.requests() {
        let request = http::Request::builder().method(method).uri(&path);
        let Ok(request) = request.extension(OVER_TLS).body(()) else {
            tried
                .wrong
                .push(format!("{method} {path}: this is no path"));
            continue;
        };
        let response = send(request).await;
        let is_of_guest = response.extensions().get::<ServedGuest>().is_some();
        tried.note(method, &path, response.status().as_u16(), is_of_guest);
    }
    tried.assert_none_is_wrong(caller);
}

/// Requests paths as [`assert_guarded`] does, of an actix application. Pass the result of
/// `actix_web::test::init_service`.
///
/// ```
/// use actix_web::{App, test};
/// use keyward::{actix::KeyMiddleware, http::{Edge, KeyIn}, testkit, verifier::Requirement};
///
/// # #[actix_web::main]
/// # async fn main() {
/// let (keyward, _) = testkit::keyward_with_key([], keyward::key::Access::Full).await;
/// let keys = KeyMiddleware::new(Edge::new(&keyward).accept(KeyIn::bearer()));
/// let project = keys.resource("/v1/projects/{id}").get(Requirement::full_access(), || async { "" });
/// let app = test::init_service(App::new().service(project)).await;
///
/// testkit::assert_app_guarded(&app, ["/v1/projects/p-1"]).await;
/// # }
/// ```
///
/// # Panics
/// If any answer is not 401. The message lists these requests. Name those that guests may send with
/// [`assert_app_guarded_except`].
#[cfg(feature = "actix")]
#[track_caller]
pub fn assert_app_guarded<'a, S, B>(
    app: &'a S,
    paths: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()>
where
    S: actix_web::dev::Service<
            actix_http::Request,
            Response = actix_web::dev::ServiceResponse<B>,
            Error = actix_web::Error,
        >,
{
    assert_app_guarded_except(app, paths, [])
}

/// Requests paths as [`assert_app_guarded`] does, of an application with routes for
/// [guests](crate::verifier::Requirement::or_guest). Each request that a guest may send is named, as in
/// `GET /v1/catalogue`, and all others are answered 401.
///
/// A guest may send a request if a guard lets it through: a route without a guard fails although it is named. A GET
/// names the HEAD too.
///
/// # Panics
/// If any other answer is not 401, or no guard lets a named request through as a guest's. The message lists these
/// requests.
#[cfg(feature = "actix")]
#[track_caller]
pub fn assert_app_guarded_except<'a, S, B>(
    app: &'a S,
    paths: impl IntoIterator<Item = &'a str>,
    for_guests: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()>
where
    S: actix_web::dev::Service<
            actix_http::Request,
            Response = actix_web::dev::ServiceResponse<B>,
            Error = actix_web::Error,
        >,
{
    use actix_web::dev::Extensions;
    use actix_web::http::{Method, StatusCode};
    use actix_web::test::TestRequest;

    let (mut tried, caller) = (Tried::new(paths, for_guests), Location::caller());
    async move {
        for (method, path) in tried.requests() {
            let Ok(uri) = path.parse::<actix_web::http::Uri>() else {
                tried
                    .wrong
                    .push(format!("{method} {path}: this is no path"));
                continue;
            };
            let name = Method::from_bytes(method.as_bytes()).unwrap_or_default();
            let request = TestRequest::default().method(name).uri(&uri.to_string());
            let mut note = |status: StatusCode, extensions: &Extensions| {
                tried.note(
                    method,
                    &path,
                    status.as_u16(),
                    extensions.contains::<ServedGuest>(),
                );
            };
            match app.call(request.to_request()).await {
                Ok(response) => note(response.status(), &response.response().extensions()),
                Err(error) => {
                    let response = error.error_response();
                    note(response.status(), &response.extensions());
                }
            }
        }
        tried.assert_none_is_wrong(caller);
    }
}

/// The requests of an application that are tried without a key.
struct Tried {
    paths: Vec<String>,
    /// Those that guests may send, as `GET /path`.
    for_guests: Vec<String>,
    /// Whether a method that a route lacks may be answered 405 without a key.
    may_lack_methods: bool,
    /// Those that were not answered as they should be.
    wrong: Vec<String>,
}

impl Tried {
    fn new<'a>(
        paths: impl IntoIterator<Item = &'a str>,
        for_guests: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let for_guests: Vec<String> = for_guests.into_iter().map(str::to_owned).collect();
        let guests_paths = for_guests.iter().map(|line| match line.split_once(' ') {
            Some((_, path)) => path.to_owned(),
            None => line.clone(),
        });
        let mut all: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        all.extend(guests_paths);
        all.sort();
        all.dedup();
        Self {
            paths: all,
            for_guests,
            may_lack_methods: false,
            wrong: Vec::new(),
        }
    }

    fn requests(&self) -> Vec<(&'static str, String)> {
        let paths = self.paths.iter();
        let requests = paths.flat_map(|path| METHODS.map(|method| (method, path.clone())));
        requests.collect()
    }

    fn note(&mut self, method: &str, path: &str, status: u16, is_of_guest: bool) {
        let named = if method == "HEAD" { "GET" } else { method };
        let is_named = |name: &str| self.for_guests.contains(&format!("{name} {path}"));
        let is_for_guests = is_named(method) || is_named(named);
        let why = match (is_for_guests, is_of_guest) {
            (true, true) => return,
            (false, _) if status == 401 => return,
            (_, false) if status == 405 && self.may_lack_methods && !is_named(method) => return,
            (true, false) => "not let through by a guard as a guest's",
            (false, true) => "to a guest: name it among those for guests",
            (false, false) if status == 403 => {
                "not 401: if the edge requires TLS, the request did not count as over TLS"
            }
            (false, false) => "not 401",
        };
        self.wrong.push(format!("{method} {path}: {status}, {why}"));
    }

    fn assert_none_is_wrong(&self, caller: &Location<'_>) {
        assert!(
            self.wrong.is_empty(),
            "{caller}: without a key, not all routes are answered as they should be:\n{}",
            self.wrong.join("\n")
        );
    }
}
