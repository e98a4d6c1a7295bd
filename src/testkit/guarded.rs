//! Checks that all routes of an application are guarded.

use std::panic::Location;

/// The methods that an application may have opened by itself, and one that no application has.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "KEYWARD",
];

/// Requests each of these paths with every method and without a key, and panics unless every answer is 401.
///
/// Pass the application as it is served, and a path for each of its routes: `/v1/projects/p-1` for
/// `/v1/projects/{id}`. A path without a route fails too.
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
/// If any answer is not 401. The message lists these requests.
#[cfg(feature = "axum")]
#[track_caller]
pub fn assert_guarded<'a>(
    mut app: axum::Router,
    paths: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()> {
    use tower_service::Service as _;

    let (paths, caller) = (owned(paths), Location::caller());
    async move {
        let mut open = Vec::new();
        for (method, path) in requests(&paths) {
            let request = http::Request::builder().method(method).uri(path);
            let Ok(request) = request.body(axum::body::Body::empty()) else {
                open.push(format!("{method} {path}: this is no path"));
                continue;
            };
            let Ok(response) = app.call(request).await;
            note(&mut open, method, path, response.status().as_u16());
        }
        assert_none(&open, caller);
    }
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
/// If any answer is not 401. The message lists these requests.
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
    use actix_web::http::Method;
    use actix_web::test::TestRequest;

    let (paths, caller) = (owned(paths), Location::caller());
    async move {
        let mut open = Vec::new();
        for (method, path) in requests(&paths) {
            let Ok(uri) = path.parse::<actix_web::http::Uri>() else {
                open.push(format!("{method} {path}: this is no path"));
                continue;
            };
            let name = Method::from_bytes(method.as_bytes()).unwrap_or_default();
            let request = TestRequest::default().method(name).uri(&uri.to_string());
            let status = match app.call(request.to_request()).await {
                Ok(response) => response.status(),
                Err(error) => error.as_response_error().status_code(),
            };
            note(&mut open, method, path, status.as_u16());
        }
        assert_none(&open, caller);
    }
}

fn owned<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    paths.into_iter().map(str::to_owned).collect()
}

fn requests(paths: &[String]) -> impl Iterator<Item = (&'static str, &str)> {
    paths
        .iter()
        .flat_map(|path| METHODS.map(|method| (method, &**path)))
}

fn note(open: &mut Vec<String>, method: &str, path: &str, status: u16) {
    if status != 401 {
        open.push(format!("{method} {path}: {status}"));
    }
}

fn assert_none(open: &[String], caller: &Location<'_>) {
    assert!(
        open.is_empty(),
        "{caller}: without a key, not all routes are answered 401:\n{}",
        open.join("\n")
    );
}
