//! The tower layer under axum, over real sockets. What it has in common with actix is in [`both`](crate::both).

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::routing::{any, get};
use futures_util::stream;
use keyward::Keyward;
use keyward::http::{Connection, Edge, KeyIn};
use keyward::key::{Resource, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::{TestKey, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::{Attempt, Grant, Requirement};
use tokio::sync::Semaphore;

use crate::READ;
use crate::wire::{self, Site, bearer};

/// Serves the routes that this makes of a layer that accepts bearers.
async fn open(routes: impl FnOnce(KeyLayer) -> Router) -> Site {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    over(keyward, key, |edge| edge, routes).await
}

async fn over(
    keyward: Keyward,
    key: TestKey,
    accept: impl FnOnce(Edge) -> Edge,
    routes: impl FnOnce(KeyLayer) -> Router,
) -> Site {
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let local = Connection {
        peer: Some("127.0.0.1".parse().unwrap()),
        is_tls: false,
    };
    let layer = KeyLayer::new(accept(edge)).connection(move |_| local);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = routes(layer);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Site {
        address,
        keyward,
        key,
        scope: READ,
    }
}

async fn echo(grant: Option<Extension<Grant>>, request: Request) -> String {
    let title = grant.map(|Extension(grant)| grant.title().to_string());
    let headers: Vec<_> = request
        .headers()
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    format!("{title:?} {} {headers:?}", request.uri())
}

#[tokio::test]
async fn nested_routers_see_no_credential() {
    async fn original(uri: axum::extract::OriginalUri) -> String {
        uri.0.to_string()
    }
    let accept = |edge: Edge| edge.accept(KeyIn::query_parameter("api_key").unwrap());
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let routes = |keys: KeyLayer| {
        let inner = Router::new().route("/a", get(original)).layer(keys);
        Router::new().nest("/v1", inner)
    };
    let nested = over(keyward, key, accept, routes).await;
    let line = format!("GET /v1/a?b=1&api_key={}", nested.key.text());
    assert_eq!(nested.ask(&line, &[]).await.body, "/v1/a?b=1");
}

#[tokio::test]
async fn each_header_with_keys_is_in_vary() {
    let accept = |edge: Edge| edge.accept(KeyIn::web_socket_protocol("acme.key.").unwrap());
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let routes = |keys: KeyLayer| Router::new().route("/", get(echo)).layer(keys);
    let site = over(keyward, key, accept, routes).await;
    let protocol = format!("sec-websocket-protocol: acme.key.{}", site.key.text());
    let reply = site.ask("GET /", &[protocol]).await;
    let vary = reply.header("vary");
    assert_eq!(vary, Some("authorization, sec-websocket-protocol"));
}

#[tokio::test]
async fn a_resource_is_read_off_the_request() {
    let site = open(|keys| {
        let of_path = |parts: &axum::http::request::Parts| {
            let path = parts.uri.path().strip_prefix("/projects/")?;
            Some(path.to_owned())
        };
        let need = || Requirement::scope(READ).resource("project");
        Router::new()
            .route(
                "/projects/{id}",
                get(echo).layer(keys.require(Requirement::scope(READ).bind("project", of_path))),
            )
            .route("/unbound", get(echo).layer(keys.require(need())))
            .route(
                "/unsettled",
                get(echo).layer(keys.require(Requirement::scope(READ))),
            )
            .route(
                "/filtered",
                get(echo).layer(keys.require(Requirement::scope(READ).filters("project"))),
            )
    })
    .await;
    let project: Resource = "project:p-17".parse().unwrap();
    let restricted = site.issue(|new| new.resources(project)).await;
    for (path, of_restricted, of_any) in [
        ("/projects/p-17", 200, 200),
        ("/projects/p-18", 403, 200),
        ("/projects/p-17%2f..%2fp-18", 403, 200),
        ("/unbound", 403, 403),
        ("/unsettled", 403, 200),
        ("/filtered", 200, 200),
    ] {
        let line = format!("GET {path}");
        assert_eq!(
            site.status(&line, &[bearer(&restricted)]).await,
            of_restricted,
            "{path}"
        );
        assert_eq!(site.status(&line, &site.bearer()).await, of_any, "{path}");
    }
}

#[tokio::test]
async fn a_foreign_grant_opens_nothing() {
    let (inner, inner_key) = keyward_with_key([READ.described("For tests")], READ).await;
    let need = Requirement::any_key();
    let attempt = Attempt::new(inner_key.presented(), &need);
    let granted = inner.verifier().verify(&attempt).await.unwrap();
    let edge = Edge::new(&inner).accept(KeyIn::header("X-Inner-Key").unwrap());
    let site = open(|keys| {
        let inner = KeyLayer::new(edge);
        Router::new().route("/", get(echo)).layer(inner).layer(keys)
    })
    .await;
    assert_eq!(site.status("GET /", &site.bearer()).await, 401);
    let both = [
        bearer(&site.key),
        format!("X-Inner-Key: {}", inner_key.text()),
    ];
    assert_eq!(site.status("GET /", &both).await, 200);
    let again = |keyward: &Keyward| {
        keyward
            .verifier()
            .check_requirement(granted.grant(), &attempt)
            .is_ok()
    };
    assert_eq!((again(&inner), again(&site.keyward)), (true, false));
}

#[tokio::test]
async fn a_foreign_grant_makes_no_caller() {
    let (inner, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&inner).accept(KeyIn::header("X-Inner-Key").unwrap());
    let site = open(|keys| {
        let guests = KeyLayer::new(edge.clone()).require(Requirement::any_key().or_guest());
        let reporting = KeyLayer::new(edge.report_only());
        Router::new()
            .route("/guests", get(echo).layer(guests))
            .route("/reported", get(echo).layer(reporting))
            .layer(keys)
    })
    .await;
    for line in ["GET /guests", "GET /reported"] {
        let guest = site.ask(line, &site.bearer()).await;
        assert_eq!((guest.status, &guest.body[..4]), (200, "None"), "{line}");
    }
}

#[tokio::test]
async fn a_reporting_layer_keeps_its_callers() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer()).report_only();
    let reporting = KeyLayer::new(edge).require(Requirement::full_access());
    let routes = |keys| {
        Router::new()
            .route("/", get(echo).layer(reporting))
            .layer(keys)
    };
    let site = over(keyward, key, |edge| edge, routes).await;
    let reported = site.ask("GET /", &site.bearer()).await;
    assert_eq!((reported.status, &reported.body[..4]), (200, "Some"));
}

#[tokio::test]
async fn an_inner_layer_still_requires_tls() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let strict = Edge::new(&keyward).accept(KeyIn::bearer()).require_tls();
    let connection = |is_tls| Connection { peer: None, is_tls };
    let routes = |keys: KeyLayer| {
        let inner = |is_tls| KeyLayer::new(strict.clone()).connection(move |_| connection(is_tls));
        Router::new()
            .route("/clear", get(echo).layer(inner(false)))
            .route("/tls", get(echo).layer(inner(true)))
            .layer(keys)
    };
    let site = over(keyward, key, |edge| edge, routes).await;
    assert_eq!(site.status("GET /clear", &site.bearer()).await, 403);
    assert_eq!(site.status("GET /tls", &site.bearer()).await, 200);
}

#[tokio::test]
async fn the_host_states_the_connection() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer()).require_tls();
    let app = |connection: Option<Connection>| {
        let layer = KeyLayer::new(edge.clone());
        let mut request = Request::builder()
            .uri("/")
            .header("authorization", key.bearer());
        if let Some(connection) = connection {
            request = request.extension(connection);
        }
        let service = tower_layer::Layer::layer(&layer, Router::new().fallback(any(echo)));
        async move {
            let mut service = service;
            let request = request.body(Body::empty()).unwrap();
            let response = tower_service::Service::call(&mut service, request)
                .await
                .unwrap();
            response.status().as_u16()
        }
    };
    let tls = Connection {
        peer: None,
        is_tls: true,
    };
    assert_eq!(app(None).await, 403, "not said to be TLS");
    assert_eq!(
        app(Some(Connection {
            is_tls: false,
            ..tls
        }))
        .await,
        403
    );
    assert_eq!(app(Some(tls)).await, 200);
}

#[tokio::test]
async fn early_refusals_keep_connections() {
    let read = || Requirement::scope(READ);
    let guarded = open(|keys| {
        let handlers = keys
            .get(read(), async || "read")
            .merge(keys.post(read(), async || "sent"));
        Router::new().route("/", handlers)
    });
    let layered =
        open(|keys| Router::new().route("/", any(async || "any").layer(keys.require(read()))));
    for site in [guarded.await, layered.await] {
        let (mut went_on, bearer) = (0, site.key.bearer());
        for _ in 0..40 {
            let begun = Instant::now();
            let statuses = wire::goes_on_after_a_refusal(&site.address, &bearer).await;
            // The server drains the body for only two seconds, so a stalled client may get no answer.
            if statuses != [401, 200] && begun.elapsed() > Duration::from_secs(1) {
                continue;
            }
            assert_eq!(statuses, [401, 200]);
            went_on += 1;
            if went_on == 20 {
                break;
            }
        }
        assert_eq!(went_on, 20, "the machine stalled every other time");
    }
}

/// Whether the next part is one, or the error of a response that was cut.
async fn next(body: &mut (impl http_body_util::BodyExt<Error: std::fmt::Debug> + Unpin)) -> bool {
    body.frame().await.expect("it never ends").is_ok()
}

#[tokio::test]
async fn only_the_client_stalls_a_response() {
    const STALL: Duration = Duration::from_millis(1);
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "another", READ);
    let key = TestKey::issue_as(&keyward, new.concurrency(NonZeroU32::MIN)).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let layer = KeyLayer::new(edge.stall_timeout(STALL));
    let (gate, opened) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let of_handler = (Arc::clone(&gate), Arc::clone(&opened));
    let handler = move || {
        let (gate, opened) = of_handler.clone();
        let parts = stream::unfold((gate, opened), |(gate, opened)| async {
            opened.add_permits(1);
            gate.acquire().await.unwrap().forget();
            Some((Ok::<_, Infallible>("part"), (gate, opened)))
        });
        async { Body::from_stream(parts) }
    };
    let mut service = tower_layer::Layer::layer(&layer, Router::new().fallback(any(handler)));
    let request = Request::builder().header("authorization", key.bearer());
    let request = request.body(Body::empty()).unwrap();
    let response = tower_service::Service::call(&mut service, request).await;
    let mut body = response.unwrap().into_body();
    let is_free = async || {
        let need = Requirement::any_key();
        let attempt = Attempt::new(key.presented(), &need);
        keyward.verifier().verify(&attempt).await.is_ok()
    };
    // The server waits for the handler, which does not count as a stalled client.
    let waiting = tokio::time::timeout(STALL * 50, next(&mut body)).await;
    assert!(waiting.is_err());
    assert!(!is_free().await, "the handler is at work");
    gate.add_permits(2);
    assert!(next(&mut body).await);
    // Now the server does not ask for more.
    while !is_free().await {
        tokio::time::sleep(STALL).await;
    }
    assert!(!next(&mut body).await, "it does not go on uncounted");
    assert_eq!(opened.available_permits(), 1, "nor is the handler asked");
    drop(body);
    assert!(is_free().await, "and its place is given back once");
}
