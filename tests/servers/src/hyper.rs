//! The tower layer under hyper alone, without a framework.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use keyward::http::{Connection, Edge, KeyIn};
use keyward::key::{Network, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::{TestKey, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::{Grant, Requirement};
use tokio::net::TcpListener;
use tower_layer::Layer as _;

use crate::READ;
use crate::client::{Ask, Protocol, Sent};

/// What it was sent, and by whom.
async fn echo(request: Request<Limited<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let title = parts.extensions.get::<Grant>().unwrap().title().to_string();
    let text = match body.collect().await {
        Ok(body) => format!("{title}: {:?}", body.to_bytes()),
        Err(error) => format!("{title}: {error}"),
    };
    Ok(Response::new(text.into()))
}

#[tokio::test]
async fn hyper_is_guarded_on_both_protocols() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let keys = KeyLayer::new(edge.max_request_bytes(10)).require(Requirement::scope(READ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            // The host that accepts connections states where they come from.
            let connection = Connection {
                peer: Some(peer.ip()),
                is_tls: false,
            };
            let keys = keys.clone().connection(move |_| connection);
            let service = TowerToHyperService::new(keys.layer(tower::service_fn(echo)));
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "elsewhere", READ);
    let elsewhere: Network = "203.0.113.0/24".parse().unwrap();
    let elsewhere = TestKey::issue_as(&keyward, new.networks(elsewhere)).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let post = |sent| Ask::of("POST /").body(sent);
        for (ask, status, body) in [
            (
                post(Sent::Whole("0123456789")).with(&key),
                200,
                "a key for tests: b\"0123456789\"",
            ),
            (post(Sent::Whole("0123456789x")).with(&key), 413, ""),
            (
                post(Sent::Parts(&["01234", "56789", "x"])).with(&key),
                200,
                "a key for tests: length limit exceeded",
            ),
            (post(Sent::Nothing), 401, ""),
            (post(Sent::Nothing).with(&elsewhere), 401, ""),
        ] {
            let reply = ask.send(protocol, &address).await.unwrap();
            assert_eq!(reply.status, status, "{protocol:?} {ask:?}: {reply:?}");
            assert!(reply.body.contains(body), "{protocol:?} {ask:?}: {reply:?}");
        }
    }
}
