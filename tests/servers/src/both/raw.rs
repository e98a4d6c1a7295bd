//! Requests that no client of ours would write, byte by byte over HTTP/1.1.

use super::site::{Framework, Site};
use super::{Protocol, Served, served};
use crate::wire;

const BOTH: [Served; 2] = [
    served(Framework::Axum, Protocol::Http1),
    served(Framework::Actix, Protocol::Http1),
];

#[tokio::test]
async fn malformed_http_opens_nothing() {
    for served in BOTH {
        let site = Site::open(served).await;
        let key = site.key.text();
        for request in [
            // A name with a space behind it, a line that is folded, and lines that end otherwise.
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\r\n {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nX-A: b\rAuthorization: Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\n Authorization: Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nX-A: \0\r\nAuthorization: Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nAuthor\u{131}zation: Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization Bearer {key}"),
            // The credential where none is looked for.
            format!("GET /echo HTTP/1.1\r\nHost: Authorization: Bearer {key}"),
            format!("GET /echo HTTP/1.1\r\nHost: a\r\nX-A: Authorization: Bearer {key}"),
            format!("GET http://{key}@a/echo HTTP/1.1\r\nHost: a"),
            format!("GET http://a/echo#api_key={key} HTTP/1.1\r\nHost: a"),
            "GET /echo HTTP/1.0".to_owned(),
            "GET /echo HTTP/1.1".to_owned(),
            // Other protocols, and lines with too much in them.
            format!("GET /echo HTTP/3.0\r\nHost: a\r\nAuthorization: Bearer {key}"),
            format!("GET /echo ICY/1.1\r\nHost: a\r\nAuthorization: Bearer {key}"),
            format!("GET /echo b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}"),
            format!("GE\0T /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}"),
            format!("GET /ec\u{7f}ho HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}"),
            "GET /echo".to_owned(),
            "PRI * HTTP/2.0".to_owned(),
            // Two lengths, of which one is wrong.
            format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\
                 Authorization: Bearer {key}"
            ),
            format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\nAuthorization: Bearer {key}"
            ),
            format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\nAuthorization: Bearer {key}"
            ),
        ] {
            let bytes = format!("{request}\r\nConnection: close\r\n\r\n");
            let reply = wire::exchange(site.address(), bytes.as_bytes()).await;
            let is_refused = reply.status == 0 || reply.status >= 400;
            assert!(is_refused, "{served:?} {request:?}: {reply:?}");
            assert_eq!(site.acts(), 0, "{served:?} {request:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_body_is_no_request() {
    for served in BOTH {
        let site = Site::open(served).await;
        let bearer = site.key.bearer();
        let within = format!("GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n\r\n");
        let length = within.len();
        let (known, chunk) = (
            format!("Content-Length: {length}\r\n\r\n{within}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{within}\r\n0\r\n\r\n"),
        );
        for body in [known, chunk] {
            for (credential, status) in [
                (String::new(), 401),
                // Too large for what it is sent to.
                (format!("Authorization: {bearer}\r\n"), 413),
            ] {
                let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\n{credential}");
                let last = "GET /projects HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let bytes = format!("{head}{body}{last}");
                let reply = wire::exchange(site.address(), bytes.as_bytes()).await;
                assert_eq!(reply.status, status, "{served:?} {reply:?}");
                assert_eq!(site.acts(), 0, "{served:?} {bytes}");
            }
        }
    }
}

#[tokio::test]
async fn a_trailer_is_no_credential() {
    for served in BOTH {
        let site = Site::open(served).await;
        let trailer = format!("Authorization: {}\r\n", site.key.bearer());
        let ask = async |head: &str, trailer: &str| {
            let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}");
            let body = format!("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n");
            let bytes = head + &body;
            wire::exchange(site.address(), bytes.as_bytes()).await
        };
        let behind = ask("Trailer: Authorization\r\n", &trailer).await;
        assert_eq!((behind.status, site.acts()), (401, 0), "{served:?}");
        // Nor does one make the credential before it one of two, where the server reads it at all.
        let both = ask(&trailer, &trailer).await;
        assert_eq!(usize::from(both.status == 200), site.acts(), "{served:?}");
        assert_ne!(both.status, 401, "{served:?}");
    }
}

#[tokio::test]
async fn a_credential_counts_for_one_request() {
    for served in BOTH {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        let ask =
            |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        let with = |key: &str| format!("Authorization: Bearer {key}\r\n");
        let requests = [
            ask("/echo", &with(site.key.text())),
            ask("/projects/p-2", &with(restricted.text())),
            ask("/projects", &with(restricted.text())),
            ask("/echo", "Connection: close\r\n"),
        ]
        .concat();
        let reply = wire::exchange(site.address(), requests.as_bytes()).await;
        let all = format!("{}\r\n\r\n{}", reply.head, reply.body);
        let statuses: Vec<_> = all
            .split("HTTP/1.1 ")
            .filter_map(|rest| rest.get(..3)?.parse::<u16>().ok())
            .collect();
        assert_eq!(statuses, [200, 403, 200, 401], "{served:?} {all}");
        assert_eq!(site.acts(), 2);
    }
}
