//! What is actix's own: where a middleware may stand, errors in place of responses, and what is found when an
//! application starts, or when its routes are tried.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{ServerHandle, ServiceRequest};
use actix_web::error::{ErrorImATeapot, InternalError};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpResponse, HttpServer, test, web};
use futures_util::StreamExt as _;
use keyward::Keyward;
use keyward::actix::{Caller, KeyMiddleware, path};
use keyward::http::{Answer, Edge, KeyIn, Problem, Renderer};
use keyward::key::{Resource, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::{TestKey, assert_app_guarded, assert_app_guarded_except, keyward_with_key};
use keyward::verifier::{Attempt, Grant, Requirement};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::READ;
use crate::wire::{self, Reply};

struct Site {
    address: String,
    keyward: Keyward,
    key: TestKey,
    server: ServerHandle,
}

impl Site {
    /// With the routes that this makes of a middleware that accepts bearers.
    async fn open(
        routes: impl Fn(&KeyMiddleware, &mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        Self::behind(|edge| edge, routes).await
    }

    /// With an edge that differs in this.
    async fn behind(
        change: fn(Edge) -> Edge,
        routes: impl Fn(&KeyMiddleware, &mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
        let keys = KeyMiddleware::new(change(Edge::new(&keyward).accept(KeyIn::bearer())));
        let server = HttpServer::new(move || App::new().configure(|app| routes(&keys, app)));
        let server = server.workers(1).disable_signals();
        let server = server.bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0].to_string();
        let running = server.run();
        let server = running.handle();
        tokio::spawn(running);
        Self {
            address,
            keyward,
            key,
            server,
        }
    }

    async fn ask(&self, line: &str, key: Option<&TestKey>) -> Reply {
        let headers = key.map(|key| format!("Authorization: {}", key.bearer()));
        let headers: Vec<_> = headers.into_iter().collect();
        wire::ask(&self.address, line, &headers, "").await
    }

    async fn status(&self, line: &str, key: Option<&TestKey>) -> u16 {
        self.ask(line, key).await.status
    }

    /// A key for project p-1 alone.
    async fn restricted(&self) -> TestKey {
        let project: Resource = "project:p-1".parse().unwrap();
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "another", READ);
        TestKey::issue_as(&self.keyward, new.resources(project)).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // This stops it; the future only waits.
        drop(self.server.stop(false));
    }
}

async fn keys() -> KeyMiddleware {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    KeyMiddleware::new(Edge::new(&keyward).accept(KeyIn::bearer()))
}

fn read() -> Requirement {
    Requirement::scope(READ)
}

async fn perhaps(caller: Option<Caller>) -> String {
    caller.map_or_else(|| "nobody".to_owned(), |caller| caller.title().to_string())
}

async fn named(id: web::Path<String>) -> String {
    id.into_inner()
}

#[tokio::test]
async fn every_route_needs_a_key() {
    let keys = keys().await;
    let project = || read().bind("project", path("id"));
    let project = keys
        .resource("/projects/{id}")
        .get(project(), named)
        .put(project(), named)
        .patch(project(), named)
        .delete(project(), named);
    let empty = keys.resource("/empty");
    let app = test::init_service(App::new().service(project).service(empty)).await;
    assert_app_guarded(&app, ["/projects/p-1", "/projects/p-1?page=2", "/empty"]).await;
}

#[tokio::test]
#[should_panic(expected = "POST /open: 200")]
async fn an_open_method_is_found() {
    let open = web::resource("/open")
        .route(web::get().to(perhaps).wrap(keys().await))
        .route(web::post().to(perhaps));
    let app = test::init_service(App::new().service(open)).await;
    assert_app_guarded(&app, ["/open"]).await;
}

#[tokio::test]
async fn routes_for_guests_are_named() {
    let keys = keys().await;
    let catalogue = keys.resource("/catalogue").get(read().or_guest(), named);
    let fails = keys.resource("/fails").get(read().or_guest(), || async {
        Err::<String, _>(actix_web::error::ErrorNotFound("no such page"))
    });
    let app = test::init_service(App::new().service(catalogue).service(fails)).await;
    assert_app_guarded_except(&app, [], ["GET /catalogue", "GET /fails"]).await;
}

#[tokio::test]
#[should_panic(expected = "GET /open: 200, not let through by a guard")]
async fn a_named_route_still_needs_a_guard() {
    let open = web::resource("/open").route(web::get().to(perhaps));
    let app = test::init_service(App::new().service(open)).await;
    assert_app_guarded_except(&app, [], ["GET /open"]).await;
}

#[tokio::test]
#[should_panic(expected = "404")]
async fn a_dead_path_is_found() {
    let app = App::new().service(keys().await.resource("/a").get(read(), perhaps));
    let app = test::init_service(app).await;
    assert_app_guarded(&app, ["/b"]).await;
}

#[tokio::test]
#[should_panic(expected = "is for a")]
async fn a_handler_has_no_inner_guard() {
    let need = read().checked_by_inner_guard();
    let _ = keys().await.resource("/").get(need, perhaps);
}

#[tokio::test]
#[should_panic(expected = "for GET and HEAD only")]
async fn only_reading_routes_may_check_late() {
    let need = read().checked_by_handler("project");
    let methods = [Method::GET, Method::POST];
    let _ = keys().await.resource("/").on(methods, need, perhaps);
}

#[tokio::test]
#[should_panic(expected = "HEAD /a has a handler already")]
async fn a_method_cannot_have_two_handlers() {
    let resource = keys().await.resource("/a").get(read(), perhaps);
    let _ = resource.on([Method::HEAD], read(), perhaps);
}

#[tokio::test]
async fn a_405_needs_a_key() {
    let site = Site::open(|keys, app| {
        let resource = keys.resource("/a").get(read(), perhaps);
        app.service(resource.post(read(), perhaps));
    })
    .await;
    for method in ["PUT", "OPTIONS", "KEYWARD", "get"] {
        let line = format!("{method} /a");
        let without = site.ask(&line, None).await;
        assert_eq!((without.status, without.header("allow")), (401, None));
        let with = site.ask(&line, Some(&site.key)).await;
        assert_eq!(with.status, 405, "{method}");
        assert_eq!(with.header("allow"), Some("GET, HEAD, POST"));
        assert_eq!(with.header("cache-control"), Some("private"));
    }
}

#[tokio::test]
async fn a_resource_guard_covers_later_routes() {
    let site = Site::open(|keys, app| {
        let keys = keys.require(read().bind("project", path("id")));
        let resource = web::resource("/projects/{id}").route(web::get().to(named));
        app.service(resource.wrap(keys).route(web::post().to(named)));
    })
    .await;
    let restricted = site.restricted().await;
    for (method, status) in [("GET", 200), ("POST", 200), ("PUT", 405)] {
        let own = format!("{method} /projects/p-1");
        let other = format!("{method} /projects/p-2");
        assert_eq!(site.status(&own, None).await, 401, "{own}");
        assert_eq!(site.status(&own, Some(&restricted)).await, status, "{own}");
        assert_eq!(site.status(&other, Some(&restricted)).await, 403, "{other}");
        assert_eq!(site.status(&other, Some(&site.key)).await, status);
    }
}

#[tokio::test]
async fn a_scope_guard_sees_its_parameters() {
    let site = Site::open(|keys, app| {
        let keys = keys.require(read().bind("project", path("id")));
        let resource = web::resource("/editions").route(web::get().to(named));
        app.service(web::scope("/projects/{id}").service(resource).wrap(keys));
    })
    .await;
    let restricted = site.restricted().await;
    for (line, status) in [
        ("GET /projects/p-1/editions", 200),
        ("GET /projects/p-2/editions", 403),
    ] {
        assert_eq!(site.status(line, Some(&restricted)).await, status, "{line}");
    }
}

/// Reads on after an error.
async fn stubborn(mut body: web::Payload) -> String {
    let mut seen = String::new();
    while let Some(read) = body.next().await {
        match read {
            Ok(bytes) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
            Err(_) => seen.push('!'),
        }
    }
    seen
}

#[tokio::test]
async fn an_oversized_body_has_no_gap() {
    let site = Site::behind(
        |edge| edge.max_request_bytes(6),
        |keys, app| {
            app.service(keys.resource("/").post(read(), stubborn));
        },
    )
    .await;
    let headers = [
        format!("Authorization: {}", site.key.bearer()),
        "Transfer-Encoding: chunked".to_owned(),
    ];
    let body = "2\r\naa\r\n8\r\nbbbbbbbb\r\n2\r\ncc\r\n0\r\n\r\n";
    let reply = wire::ask(&site.address, "POST /", &headers, body).await;
    assert_eq!((reply.status, &*reply.body), (200, "aa!"));
}

/// Writes the name of a header as it likes.
#[derive(Debug)]
struct Loud;

impl Renderer for Loud {
    fn render(&self, _: &Problem, answer: &mut Answer) {
        answer.headers.push(("X-Why", "because".to_owned()));
        answer.headers.push(("not a name", "because".to_owned()));
    }
}

#[tokio::test]
async fn a_renderer_cannot_crash_the_server() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer()).renderer(Loud);
    let resource = KeyMiddleware::new(edge)
        .resource("/")
        .get(read(), || async { "" });
    let app = test::init_service(App::new().service(resource)).await;
    let reply = test::call_service(&app, test::TestRequest::default().to_request()).await;
    assert_eq!(reply.status(), 401);
    assert_eq!(reply.headers().get("x-why").unwrap(), "because");
}

#[tokio::test]
async fn inner_parameters_are_not_visible() {
    let site = Site::open(|keys, app| {
        let keys = keys.require(read().bind("project", path("id")));
        let resource = web::resource("/projects/{id}").route(web::get().to(named));
        app.service(web::scope("/v1").service(resource).wrap(keys));
    })
    .await;
    let restricted = site.restricted().await;
    for line in ["GET /v1/projects/p-1", "GET /v1/projects/p-2"] {
        assert_eq!(site.status(line, None).await, 401, "{line}");
        assert_eq!(site.status(line, Some(&restricted)).await, 403, "{line}");
        assert_eq!(site.status(line, Some(&site.key)).await, 403, "{line}");
    }
}

#[tokio::test]
async fn an_ambiguous_parameter_is_refused() {
    let site = Site::open(|keys, app| {
        let keys = keys.require(read().bind("project", path("id")));
        let resource = web::resource("/projects/{id}").route(web::get().to(perhaps));
        app.service(web::scope("/of/{id}").service(resource.wrap(keys)));
    })
    .await;
    let restricted = site.restricted().await;
    for line in ["GET /of/p-1/projects/p-2", "GET /of/p-2/projects/p-1"] {
        assert_eq!(site.status(line, Some(&restricted)).await, 403, "{line}");
    }
}

/// Middleware that says what it answers in its error.
async fn fails(
    request: ServiceRequest,
    _: Next<actix_web::body::BoxBody>,
) -> Result<actix_web::dev::ServiceResponse, Error> {
    Err(match request.path() {
        "/teapot" | "/forgetful/teapot" => ErrorImATeapot("short and stout"),
        _ => {
            let response = HttpResponse::Ok().body("what the key may not see");
            InternalError::from_response("no error", response).into()
        }
    })
}

#[tokio::test]
async fn inner_errors_are_ordinary_answers() {
    let routes = |keys: &KeyMiddleware, app: &mut web::ServiceConfig| {
        let failing = |path: &str, need: Requirement| {
            let resource = web::resource(path).route(web::get().to(perhaps));
            resource.wrap(from_fn(fails)).wrap(keys.require(need))
        };
        let forgetful = || read().checked_by_handler("project");
        app.service(failing("/teapot", read()))
            .service(failing("/fine", read()))
            .service(failing("/forgetful/teapot", forgetful()))
            .service(failing("/forgetful", forgetful()))
            .service(failing("/short", read()));
    };
    let open = Site::open(routes).await;
    let short = Site::behind(|edge| edge.max_response_bytes(10), routes).await;
    for (path, status, caching) in [
        ("/teapot", 418, "private"),
        ("/fine", 200, "private"),
        // It has failed: there is nothing to have been checked.
        ("/forgetful/teapot", 418, "private"),
        ("/forgetful", 500, "no-store"),
        ("/short", 500, "no-store"),
    ] {
        let line = format!("GET {path}");
        let site = if path == "/short" { &short } else { &open };
        assert_eq!(site.status(&line, None).await, 401, "{path}");
        let reply = site.ask(&line, Some(&site.key)).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.headers("cache-control"), [caching], "{path}");
        let vary = (caching == "private").then_some("authorization");
        assert_eq!(reply.header("vary"), vary, "{path}");
        let shows = reply.body.contains("may not see");
        assert_eq!(shows, path == "/fine", "{path}");
    }
}

#[tokio::test]
async fn early_refusals_are_answered() {
    let read = || Requirement::scope(READ);
    let guarded = Site::open(move |keys, app| {
        let resource = keys.resource("/").get(read(), async || "read");
        app.service(resource.post(read(), async || "sent"));
    });
    let wrapped = Site::open(move |keys, app| {
        let resource = web::resource("/").wrap(keys.require(read()));
        app.service(resource.to(async || "any"));
    });
    for site in [guarded.await, wrapped.await] {
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let (address, bearer) = (site.address.clone(), site.key.bearer());
            clients.spawn(async move { wire::goes_on_after_a_refusal(&address, &bearer).await });
        }
        for statuses in clients.join_all().await {
            // actix says that it closes the connection, and lets it linger until the answer has been read.
            assert_eq!(statuses, [401, 0]);
        }
    }
}

/// Whether a key's only place is free while the handler of a client that has closed its connection still works.
async fn is_freed_by_a_close(allow_half_closed: bool) -> bool {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "another", READ);
    let key = TestKey::issue_as(&keyward, new.concurrency(NonZeroU32::MIN)).await;
    let keys = KeyMiddleware::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let of_handler = (Arc::clone(&entered), Arc::clone(&gate));
    let app = move || {
        let of_handler = of_handler.clone();
        let handler = move || {
            let (entered, gate) = of_handler.clone();
            async move {
                entered.add_permits(1);
                gate.acquire().await.unwrap().forget();
                "done"
            }
        };
        App::new().service(keys.resource("/").get(read(), handler))
    };
    let server = HttpServer::new(app).workers(1).disable_signals();
    let server = server.h1_allow_half_closed(allow_half_closed);
    let server = server.bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0].to_string();
    let running = server.run();
    let handle = running.handle();
    tokio::spawn(running);
    let bearer = key.bearer();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n\r\n");
    let client = wire::send(&address, &request).await;
    entered.acquire().await.unwrap().forget();
    drop(client);
    let becomes_free = async |tries: u32| {
        for _ in 0..tries {
            let need = Requirement::any_key();
            let attempt = Attempt::new(key.presented(), &need);
            if keyward.verifier().verify(&attempt).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    };
    let is_freed = becomes_free(if allow_half_closed { 20 } else { 4_000 }).await;
    gate.add_permits(1);
    assert!(becomes_free(4_000).await, "the handler has ended");
    drop(handle.stop(false));
    is_freed
}

#[tokio::test]
async fn a_close_frees_a_place_if_configured() {
    assert!(is_freed_by_a_close(false).await);
    assert!(!is_freed_by_a_close(true).await, "actix's default");
}

/// The title of the caller's key.
async fn titled(grant: Option<web::ReqData<Grant>>) -> String {
    let title = grant.map(|grant| grant.title().to_string());
    title.unwrap_or_default()
}

#[actix_web::test]
async fn a_foreign_grant_makes_no_caller() {
    let (inner, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&inner).accept(KeyIn::header("X-Inner-Key").unwrap());
    let site = Site::open(move |keys, app| {
        let any = Requirement::any_key;
        let guests = KeyMiddleware::new(edge.clone()).require(any().or_guest());
        let reporting = KeyMiddleware::new(edge.clone().report_only());
        let routes = web::scope("")
            .service(
                web::resource("/guests")
                    .route(web::get().to(titled))
                    .wrap(guests),
            )
            .service(
                web::resource("/reported")
                    .route(web::get().to(titled))
                    .wrap(reporting),
            )
            .wrap(keys.require(any()));
        app.service(routes);
    })
    .await;
    for line in ["GET /guests", "GET /reported"] {
        let reply = site.ask(line, Some(&site.key)).await;
        assert_eq!((reply.status, &*reply.body), (200, ""), "{line}");
    }
}
