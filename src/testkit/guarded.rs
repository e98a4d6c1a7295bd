//! Whether an application's routes are closed.

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use tower_service::Service as _;

/// Tries each of these paths with every method and without a key, and fails unless all are answered 401.
///
/// Hand it the application as it is served, and a path for each of its routes: `/v1/projects/p-1` for
/// `/v1/projects/{id}`. A path that leads nowhere fails too.
///
/// ```
/// use axum::{Router, routing::get};
/// use keyward::{http::{Edge, KeyIn}, testkit, tower::KeyLayer, verifier::Requirement};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (keyward, _) = testkit::keyward_with_key(keyward::key::Access::Full).await;
/// let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
/// let app: Router = Router::new().route("/v1/projects/{id}", keys.get(Requirement::full_access(), || async {}));
///
/// testkit::assert_guarded(app, ["/v1/projects/p-1"]).await;
/// # }
/// ```
///
/// # Panics
/// If any is answered otherwise, with the list of those.
#[track_caller]
pub fn assert_guarded<'a>(
    app: Router,
    paths: impl IntoIterator<Item = &'a str>,
) -> impl Future<Output = ()> {
    let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
    let caller = std::panic::Location::caller();
    async move {
        let open = open(app, &paths).await;
        assert!(
            open.is_empty(),
            "{caller}: without a key, not all routes are answered 401:\n{}",
            open.join("\n")
        );
    }
}

async fn open(mut app: Router, paths: &[String]) -> Vec<String> {
    let extension = Method::from_bytes(b"KEYWARD").unwrap_or_default();
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        extension,
    ];
    let mut open = Vec::new();
    for path in paths {
        for method in &methods {
            let asked = format!("{method} {path}");
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty());
            let Ok(request) = request else {
                open.push(format!("{asked}: this is no path"));
                continue;
            };
            let Ok(response) = app.call(request).await;
            if response.status() != 401 {
                open.push(format!("{asked}: {}", response.status()));
            }
        }
    }
    open
}
