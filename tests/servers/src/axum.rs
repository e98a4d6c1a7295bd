//! What is axum's own: what is found when an application starts, and when its routes are tried.

use axum::Router;
use axum::routing::{MethodFilter, get, post};
use keyward::axum::{Caller, path};
use keyward::http::{Connection, Edge, KeyIn, Proxies};
use keyward::testkit::{assert_guarded, assert_guarded_except, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::Requirement;

use crate::READ;

async fn keys() -> KeyLayer {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()))
}

async fn perhaps() -> &'static str {
    "anyone"
}

fn read() -> Requirement {
    Requirement::scope(READ)
}

#[tokio::test]
async fn every_route_needs_a_key() {
    let keys = keys().await;
    let project = || read().bind("project", path("id"));
    let app = Router::new()
        .route("/projects", keys.get(read().filters("project"), perhaps))
        .route(
            "/projects/{id}",
            keys.get(project(), perhaps)
                .merge(keys.put(project(), perhaps))
                .merge(keys.patch(project(), perhaps))
                .merge(keys.delete(project(), perhaps)),
        );
    assert_guarded(app, ["/projects", "/projects/p-1", "/projects?page=2"]).await;
}

#[tokio::test]
#[should_panic(expected = "POST /open: 200")]
async fn late_methods_are_found() {
    let app = Router::new().route("/open", get(perhaps).layer(keys().await).post(perhaps));
    assert_guarded(app, ["/open"]).await;
}

#[tokio::test]
async fn routes_for_guests_are_named() {
    let keys = keys().await;
    let app = || {
        let catalogue = keys
            .get(read().or_guest(), perhaps)
            .merge(keys.put(read(), perhaps));
        Router::new()
            .route("/projects", keys.get(read(), perhaps))
            .route("/catalogue", catalogue)
    };
    assert_guarded_except(app(), ["/projects"], ["GET /catalogue"]).await;
}

#[tokio::test]
async fn routes_are_tried_over_tls() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer()).require_tls();
    let keys = KeyLayer::new(edge);
    let app = || Router::new().route("/open", keys.get(read().or_guest(), perhaps));
    assert_guarded_except(app(), [], ["GET /open"]).await;
}

#[tokio::test]
async fn the_checks_come_from_no_local_proxy() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let proxies = Proxies::x_forwarded(["127.0.0.1".parse().unwrap()]);
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let keys = KeyLayer::new(edge.trust_proxies(proxies.and_no_others()).require_tls());
    let app = Router::new().route("/projects", keys.get(read(), perhaps));
    assert_guarded(app, ["/projects"]).await;
}

#[tokio::test]
#[should_panic(expected = "GET /open: 403, not 401: if the edge requires TLS")]
async fn a_connection_without_tls_is_named() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer()).require_tls();
    let keys = KeyLayer::new(edge).connection(|_| Connection::default());
    assert_guarded(
        Router::new().route("/open", keys.get(read(), perhaps)),
        ["/open"],
    )
    .await;
}

#[tokio::test]
#[should_panic(expected = "GET /catalogue: 200, to a guest")]
async fn an_unnamed_route_for_guests_is_found() {
    let route = keys().await.get(read().or_guest(), perhaps);
    assert_guarded(Router::new().route("/catalogue", route), ["/catalogue"]).await;
}

#[tokio::test]
#[should_panic(expected = "GET /open: 200, not let through by a guard")]
async fn a_named_route_still_needs_a_guard() {
    let app = Router::new().route("/open", get(perhaps));
    assert_guarded_except(app, [], ["GET /open"]).await;
}

#[tokio::test]
async fn an_unguarded_route_has_no_guests() {
    async fn optional(_: Option<Caller>) -> &'static str {
        "anyone"
    }
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let reporting = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()).report_only());
    let mut app: Router = Router::new()
        .route("/open", get(optional))
        .route("/reported", reporting.get(read(), optional))
        .route("/guests", keys().await.get(read().or_guest(), optional));
    for (path, status) in [("/open", 500), ("/reported", 200), ("/guests", 200)] {
        let request = axum::extract::Request::get(path).body(axum::body::Body::empty());
        let response = tower_service::Service::call(&mut app, request.unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test]
#[should_panic(expected = "CONNECT /open: 200")]
async fn an_open_connect_route_is_found() {
    let route = keys().await.get(read(), perhaps).connect(perhaps);
    assert_guarded(Router::new().route("/open", route), ["/open"]).await;
}

#[tokio::test]
#[should_panic(expected = "404")]
async fn a_dead_path_is_found() {
    assert_guarded(Router::new().route("/a", post(perhaps)), ["/b"]).await;
}

#[tokio::test]
#[should_panic(expected = "is for a")]
async fn a_handler_has_no_inner_guard() {
    let need = read().checked_by_inner_guard();
    let _: Router = Router::new().route("/", keys().await.get(need, perhaps));
}

#[tokio::test]
#[should_panic(expected = "for GET and HEAD only")]
async fn only_reading_routes_may_check_late() {
    let need = read().checked_by_handler("project");
    let methods = MethodFilter::GET.or(MethodFilter::POST);
    let _: Router = Router::new().route("/", keys().await.on(methods, need, perhaps));
}

#[tokio::test]
#[should_panic(expected = "Overlapping method route")]
async fn a_method_cannot_have_two_handlers() {
    let keys = keys().await;
    let twice = keys.get(read(), perhaps).merge(keys.get(read(), perhaps));
    let _: Router = Router::new().route("/", twice);
}
