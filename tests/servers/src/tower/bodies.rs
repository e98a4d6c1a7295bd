//! What is tied to bodies: permits, caps, and cuts.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{any, get, post};

use super::{Site, bearer, echo};
use crate::wire;

/// Ticks for ever.
async fn endless() -> Body {
    let ticks = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, std::io::Error>("tick\n"), ()))
    });
    Body::from_stream(ticks)
}

#[tokio::test]
async fn a_permit_is_held_until_the_response_ends_or_is_given_up() {
    let site = Site::open(|keys| {
        let brief = || async {
            let parts = ["a", "b"].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures_util::stream::iter(parts))
        };
        let routes = Router::new()
            .route("/endless", get(endless))
            .route("/brief", get(brief))
            .fallback(any(echo));
        routes.layer(keys)
    })
    .await;
    let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
    let headers = [bearer(&key)];
    for _ in 0..3 {
        assert_eq!(site.ask("GET /brief", &headers).await.body, "ab");
    }
    let request = format!("GET /endless HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", headers[0]);
    let mut streaming = wire::send(&site.address, &request).await;
    wire::read_until(&mut streaming, "tick").await;
    let second = site.ask("GET /", &headers).await;
    assert_eq!(
        (second.status, second.header("retry-after")),
        (429, Some("1"))
    );
    drop(streaming);
    // The server hears of it when it next writes.
    for _ in 0..400 {
        if site.status("GET /", &headers).await == 200 {
            assert_eq!(
                site.status("GET /", &headers).await,
                200,
                "and so does one that has ended"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the permit was never given back");
}

#[tokio::test]
async fn a_response_is_cut_when_its_key_ends() {
    let site = Site::open(|keys| {
        let cut = Router::new()
            .route("/cut", get(endless))
            .layer(keys.clone().end_with_key());
        cut.merge(Router::new().route("/uncut", get(endless)).layer(keys))
    })
    .await;
    let request = |path: &str| {
        let authorization = bearer(&site.key);
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{authorization}\r\n\r\n")
    };
    let mut cut = wire::send(&site.address, &request("/cut")).await;
    let mut uncut = wire::send(&site.address, &request("/uncut")).await;
    wire::read_until(&mut cut, "tick").await;
    wire::read_until(&mut uncut, "tick").await;
    site.key.revoke(&site.keyward).await;
    let mut rest = Vec::new();
    let ending = tokio::io::AsyncReadExt::read_to_end(&mut cut, &mut rest);
    let _ = tokio::time::timeout(Duration::from_secs(10), ending)
        .await
        .expect("it goes on");
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "a response that was cut must not look whole"
    );
    wire::read_until(&mut uncut, "tick").await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_before_it_is_read() {
    let site = Site::open(|keys| {
        let keys = keys.max_request_bytes(10);
        let read = |body: Bytes| async move { body.len().to_string() };
        Router::new().route("/", post(read)).layer(keys)
    })
    .await;
    let length = |length: usize| format!("Content-Length: {length}");
    let chunked = "Transfer-Encoding: chunked".to_owned();
    for (header, body, status) in [
        (length(10), "0123456789", 200),
        // Never sent: it is refused by what it says.
        (length(11), "", 413),
        (length(5_000_000), "", 413),
        (chunked.clone(), "a\r\n0123456789\r\n0\r\n\r\n", 200),
        (
            chunked.clone(),
            "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
            413,
        ),
    ] {
        let headers = [bearer(&site.key), header];
        let reply = wire::ask(&site.address, "POST /", &headers, body).await;
        assert_eq!(reply.status, status, "{headers:?}");
        let without = wire::ask(&site.address, "POST /", &headers[1..], body).await;
        assert_eq!(without.status, 401, "strangers learn no limits");
    }
    let told = site.told();
    assert_eq!(
        told.iter().filter(|told| told.contains("longer")).count(),
        2,
        "{told:?}"
    );
}

#[tokio::test]
async fn a_response_that_is_too_large_is_replaced_or_cut_and_reported() {
    let site = Site::open(|keys| {
        let stream = || async {
            let parts = ["01234", "56789", "x"].map(Ok::<_, std::io::Error>);
            Body::from_stream(futures_util::stream::iter(parts))
        };
        Router::new()
            .route("/fits", get(|| async { "0123456789" }))
            .route("/known", get(|| async { "0123456789x" }))
            .route("/streamed", get(stream))
            .layer(keys.max_response_bytes(10))
    })
    .await;
    let fits = site.ask("GET /fits", &site.bearer()).await;
    assert_eq!((fits.status, &*fits.body), (200, "0123456789"));
    assert_eq!(site.told(), [""; 0]);
    let known = site.ask("GET /known", &site.bearer()).await;
    assert_eq!(known.status, 500);
    assert!(!known.body.contains("01234"), "{}", known.body);
    assert_eq!(site.told(), ["the response is longer than it may be"]);
    let streamed = site.ask("GET /streamed", &site.bearer()).await;
    assert!(
        streamed.is_cut && !streamed.body.contains('x'),
        "{streamed:?}"
    );
    assert_eq!(site.told(), ["the response is longer than it may be"]);
}
