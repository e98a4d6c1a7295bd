//! The guide's middleware, over real sockets.

#[path = "../../../src/manual/poem.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a program of its own, tried here"
)]
mod program;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use keyward::http::{Edge, KeyIn};
use keyward::key::{Network, Quota, Resource};
use keyward::testkit::keyward_with_key;
use keyward::verifier::{Grant, Requirement};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::Data;
use poem::{Body, EndpointExt as _, Request, Response, Route, Server, get, handler};

use self::program::{KeyMiddleware, READ, path};
use crate::wire::{self, Site, bearer};

#[handler]
fn echo(request: &Request, Data(grant): Data<&Grant>) -> String {
    let headers: Vec<_> = request
        .headers()
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    format!("{} {:?} {headers:?}", grant.title(), request.uri().query())
}

#[handler]
fn original(request: &Request) -> String {
    request.original_uri().to_string()
}

#[handler]
fn endless() -> Response {
    let ticks = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>("tick\n"), ()))
    });
    Response::builder().body(Body::from_bytes_stream(ticks))
}

#[handler]
fn forgetful() -> &'static str {
    "what the key may not see"
}

#[handler]
fn missing() -> poem::http::StatusCode {
    poem::http::StatusCode::NOT_FOUND
}

#[handler]
fn expired() -> poem::http::StatusCode {
    poem::http::StatusCode::UNAUTHORIZED
}

#[handler]
fn titled(grant: Option<Data<&Grant>>) -> String {
    grant.map_or_else(String::new, |Data(grant)| grant.title().to_string())
}

async fn open(accept: impl FnOnce(Edge) -> Edge) -> Site {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Arc::new(accept(Edge::new(&keyward)));
    let any = || KeyMiddleware::new(&edge, Requirement::any_key());
    let promising = || {
        let need = Requirement::any_key().checked_by_handler("project");
        KeyMiddleware::new(&edge, need)
    };
    // Its second parameter is misspelt.
    let misbound = Requirement::any_key().bind("project", path("from"));
    let misbound = KeyMiddleware::new(&edge, misbound.bind("project", path("too")));
    // Another Keyward, of which no caller has a key.
    let (other, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let other = Edge::new(&other).accept(KeyIn::header("X-Inner-Key").unwrap());
    let for_guests = Requirement::any_key().or_guest();
    let guests = KeyMiddleware::new(&Arc::new(other.clone()), for_guests);
    let reporting = KeyMiddleware::new(&Arc::new(other.report_only()), Requirement::any_key());
    let outer = || {
        let outer = Requirement::any_key().checked_by_inner_guard();
        KeyMiddleware::new(&edge, outer.or_guest())
    };
    let within_outer = || KeyMiddleware::new(&edge, Requirement::any_key().or_guest());
    let full = || KeyMiddleware::new(&edge, Requirement::full_access());
    let site = Route::new()
        .at("/guests", get(titled).with(guests).with(any()))
        .at("/reported", get(titled).with(reporting).with(any()))
        .at("/plain", get(titled).with(outer()))
        .at("/expired", get(expired).with(any()))
        .at("/twice", get(titled).with(within_outer()).with(outer()))
        .at("/refused-twice", get(titled).with(full()).with(any()))
        .at("/echo", get(echo).with(any()))
        .at("/original", get(original).with(any()))
        .at("/endless", get(endless).with(any()))
        .at("/forgetful", get(forgetful).with(promising()))
        .at("/missing", get(missing).with(promising()))
        .at("/moves/:from/:to", get(missing).with(misbound))
        .nest_no_strip("/v1", program::app(&edge));
    let listener = TcpListener::bind("127.0.0.1:0").into_acceptor();
    let listener = listener.await.unwrap();
    let address = listener.local_addr()[0]
        .as_socket_addr()
        .unwrap()
        .to_string();
    tokio::spawn(Server::new_with_acceptor(listener).run(site));
    Site {
        address,
        keyward,
        key,
        scope: READ,
    }
}

#[tokio::test]
async fn a_key_opens_its_route_and_no_other() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-17".parse().unwrap();
    let key = site.issue(|new| new.resources(project)).await;
    let path = "/v1/projects/p-17/blueprints";
    let good = site.ask(&format!("GET {path}"), &[bearer(&key)]).await;
    assert_eq!(
        (good.status, &*good.body),
        (200, "the blueprints of p-17, for another\n")
    );
    assert_eq!(good.header("cache-control"), Some("private"));
    assert_eq!(good.header("vary"), Some("authorization"));
    assert_eq!(
        site.status(&format!("HEAD {path}"), &[bearer(&key)]).await,
        200
    );
    assert_eq!(
        site.status("GET /v1/projects/p-18/blueprints", &[bearer(&key)])
            .await,
        403
    );

    for method in ["GET", "HEAD", "OPTIONS", "POST", "DELETE"] {
        let refused = site.ask(&format!("{method} {path}"), &[]).await;
        assert_eq!(refused.status, 401, "{method}");
        assert_eq!(
            refused.header("www-authenticate"),
            Some(r#"Bearer realm="api""#)
        );
        assert_eq!(refused.header("cache-control"), Some("no-store"));
    }
    let twice = site
        .ask(&format!("GET {path}"), &[bearer(&key), bearer(&key)])
        .await;
    assert_eq!(twice.status, 400);
    key.revoke(&site.keyward).await;
    assert_eq!(
        site.status(&format!("GET {path}"), &[bearer(&key)]).await,
        401
    );
}

#[tokio::test]
async fn a_misspelt_parameter_is_closed() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-17".parse().unwrap();
    let restricted = site.issue(|new| new.resources(project)).await;
    for key in [&restricted, &site.key] {
        let moved = site.ask("GET /moves/p-17/p-18", &[bearer(key)]).await;
        assert_eq!(moved.status, 403);
    }
}

#[tokio::test]
async fn no_path_spelling_evades_a_route() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-17".parse().unwrap();
    let key = site.issue(|new| new.resources(project)).await;
    for target in [
        "/v1/projects/p-18/blueprints",
        "//v1/projects/p-18/blueprints",
        "/v1//projects/p-18/blueprints",
        "/v1/projects/p-18/blueprints/",
        "/v1/projects/p-17/../p-18/blueprints",
        "/v1/projects/p-17/%2e%2e/p-18/blueprints",
        "/v1/projects/p-17%2f..%2fp-18/blueprints",
        "/v1/projects/p%2d18/blueprints",
        "/v1/projects/P-17/blueprints",
        "/v1/projects/p-17%00/blueprints",
        "/v1/projects/p-17%20/blueprints",
        "/v1/projects/%2e/blueprints",
        "/V1/projects/p-18/blueprints",
        "http://example.com/v1/projects/p-18/blueprints",
    ] {
        for headers in [vec![], vec![bearer(&key)]] {
            let reply = site.ask(&format!("GET {target}"), &headers).await;
            assert!(
                matches!(reply.status, 400..500),
                "{target}: {}",
                reply.status
            );
        }
    }
    let absolute = "GET http://example.com/v1/projects/p-17/blueprints";
    assert_eq!(site.status(absolute, &[bearer(&key)]).await, 200);
    let spelt_out = site
        .ask("GET /v1/projects/%70-17/blueprints", &[bearer(&key)])
        .await;
    assert_eq!(
        (spelt_out.status, &*spelt_out.body),
        (200, "the blueprints of p-17, for another\n")
    );
}

#[tokio::test]
async fn the_handler_sees_no_credential() {
    let site = open(|edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::query_parameter("api_key").unwrap())
    })
    .await;
    let key = site.key.text();
    let seen = "a key for tests None [\"host\", \"connection\"]";
    assert_eq!(site.ask("GET /echo", &site.bearer()).await.body, seen);
    assert_eq!(
        site.ask("GET /echo", &[format!("x-api-key: {key}")])
            .await
            .body,
        seen
    );
    assert_eq!(
        site.ask(&format!("GET /echo?api_key={key}"), &[])
            .await
            .body,
        seen
    );
    let kept = site
        .ask(&format!("GET /echo?a=%20&api%5fkey={key}&b"), &[])
        .await
        .body;
    assert_eq!(kept, seen.replace("None", "Some(\"a=%20&b\")"));
}

#[tokio::test]
async fn a_permit_lasts_until_the_body_ends() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
    let authorization = bearer(&key);
    let request = format!("GET /endless HTTP/1.1\r\nHost: a\r\n{authorization}\r\n\r\n");
    let mut streaming = wire::send(&site.address, &request).await;
    wire::read_until(&mut streaming, "tick").await;
    let headers = [authorization];
    let second = site.ask("GET /echo", &headers).await;
    assert_eq!(
        (second.status, second.header("retry-after")),
        (429, Some("1"))
    );
    drop(streaming);
    // The server hears of it when it next writes.
    for _ in 0..4_000 {
        if site.status("GET /echo", &headers).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the permit was never given back");
}

#[tokio::test]
async fn a_forgotten_check_is_a_500() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let forgot = site.ask("GET /forgetful", &site.bearer()).await;
    assert_eq!(forgot.status, 500);
    assert!(!forgot.body.contains("may not see"), "{}", forgot.body);
    assert_eq!(
        site.status("GET /missing", &site.bearer()).await,
        404,
        "a failure stays what it is"
    );
}

#[tokio::test]
async fn forged_headers_change_no_address() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let here: Network = "127.0.0.0/8".parse().unwrap();
    let there: Network = "203.0.113.0/24".parse().unwrap();
    let (here, there) = (
        site.issue(|new| new.networks(here)).await,
        site.issue(|new| new.networks(there)).await,
    );
    let forged = [
        "X-Forwarded-For: 203.0.113.7".to_owned(),
        "Forwarded: for=203.0.113.7".to_owned(),
    ];
    for (key, status) in [(here, 200), (there, 401)] {
        let headers = [&forged[..], &[bearer(&key)]].concat();
        assert_eq!(site.status("GET /echo", &headers).await, status);
    }
}

#[tokio::test]
async fn report_only_lets_refusals_through() {
    let site = open(|edge| edge.accept(KeyIn::bearer()).report_only()).await;
    // The handler asks for a grant that there is none of: poem answers 500 in its place.
    assert_eq!(site.status("GET /echo", &[]).await, 500);
    assert_eq!(site.status("GET /echo", &site.bearer()).await, 200);
    assert_eq!(site.status("GET /forgetful", &[]).await, 200);
    assert_eq!(site.status("GET /forgetful", &site.bearer()).await, 500);
}

#[tokio::test]
async fn a_client_sees_its_limits() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let hour = Duration::from_secs(3_600);
    let quota = Quota::new("hour", NonZeroU32::new(2).unwrap(), hour).unwrap();
    let key = site.issue(|new| new.quota(quota)).await;
    // A forgotten check is a 500 that was counted.
    for (line, status, left) in [
        ("GET /echo", 200, "1"),
        ("GET /forgetful", 500, "0"),
        ("GET /echo", 429, "0"),
    ] {
        let reply = site.ask(line, &[bearer(&key)]).await;
        assert_eq!(reply.status, status, "{line}");
        assert_eq!(reply.headers("x-ratelimit-remaining"), [left], "{line}");
        assert_eq!(reply.headers("ratelimit").len(), 1, "{line}");
    }
    let reply = site.ask("GET /echo", &site.bearer()).await;
    assert_eq!(reply.header("ratelimit"), None, "a key without limits");
}

#[tokio::test]
async fn no_401_shows_limits_or_expiry() {
    let site = open(|edge| edge.accept(KeyIn::bearer()).expiry_headers()).await;
    let day = Duration::from_secs(86_400);
    let quota = Quota::new("day", NonZeroU32::new(9).unwrap(), day).unwrap();
    let key = site.issue(|new| new.quota(quota).expires_in(day)).await;
    for (line, status, shown) in [("GET /echo", 200, true), ("GET /expired", 401, false)] {
        let reply = site.ask(line, &[bearer(&key)]).await;
        assert_eq!(reply.status, status, "{line}");
        for name in ["ratelimit", "x-ratelimit-limit", "api-key-expires"] {
            assert_eq!(reply.header(name).is_some(), shown, "{line} {name}");
        }
    }
}

#[tokio::test]
async fn a_foreign_grant_makes_no_caller() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    for line in ["GET /guests", "GET /reported"] {
        let reply = site.ask(line, &site.bearer()).await;
        assert_eq!((reply.status, &*reply.body), (200, ""), "{line}");
    }
}

#[tokio::test]
async fn no_guest_passes_to_a_missing_guard() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    for headers in [vec![], vec![bearer(&site.key)]] {
        assert_eq!(site.status("GET /plain", &headers).await, 500);
    }
}

#[tokio::test]
async fn guards_inside_of_guards_work() {
    let site = open(|edge| edge.accept(KeyIn::bearer())).await;
    let day = Duration::from_secs(86_400);
    let quota = Quota::new("day", NonZeroU32::new(9).unwrap(), day).unwrap();
    let key = site.issue(|new| new.quota(quota)).await;
    for (line, headers, status, body, left) in [
        (
            "GET /refused-twice",
            vec![bearer(&key)],
            403,
            None,
            Some("9"),
        ),
        (
            "GET /twice",
            vec![bearer(&key)],
            200,
            Some("another"),
            Some("8"),
        ),
        ("GET /twice", vec![], 200, Some(""), None),
    ] {
        let reply = site.ask(line, &headers).await;
        assert_eq!(reply.status, status, "{line}");
        assert_eq!(reply.header("x-ratelimit-remaining"), left, "{line}");
        assert_eq!(reply.headers("vary"), ["authorization"], "{line}");
        if let Some(body) = body {
            assert_eq!(reply.body, body, "{line}");
            let length = body.len().to_string();
            assert_eq!(reply.header("content-length"), Some(&*length), "{line}");
        }
    }
}
