//! gRPC: tonic behind the tower layer, and asked by tonic's own client over HTTP/2.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::Keyward;
use keyward::http::{Connection, Edge, GrpcStatus, KeyIn, Proxies};
use keyward::key::{Quota, TenantId};
use keyward::manager::NewKey;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::{KeyCache, Requirement};
use tonic::transport::Channel;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::READ;
use crate::refused::Fixture;

struct Site {
    client: HealthClient<Channel>,
    keyward: Keyward,
    key: TestKey,
}

impl Site {
    async fn open(keyward: Keyward, key: TestKey, require: Requirement) -> Self {
        let proxy = IpAddr::from([127, 0, 0, 1]);
        let edge = Edge::new(&keyward)
            .accept(KeyIn::bearer())
            .trust_proxies(Proxies::forwarded([proxy.into()]))
            .renderer(GrpcStatus)
            .end_with_key();
        let keys = KeyLayer::new(edge).connection(move |_| Connection {
            peer: Some(proxy),
            is_tls: false,
        });
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = format!("http://{}", incoming.local_addr().unwrap());
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder()
            .layer(keys.require(require))
            .add_service(health);
        tokio::spawn(server.serve_with_incoming(incoming));
        let channel = Channel::from_shared(address).unwrap();
        Self {
            client: HealthClient::new(channel.connect().await.unwrap()),
            keyward,
            key,
        }
    }

    async fn check(&mut self, bearer: Option<&str>) -> Result<(), Status> {
        self.client.check(asking(bearer)).await.map(drop)
    }
}

fn asking(bearer: Option<&str>) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    if let Some(bearer) = bearer {
        let bearer = bearer.parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

#[tokio::test]
async fn denials_are_grpc_statuses() {
    let write = keyward::scope!("write:editions");
    let store = MemoryStore::new();
    let keyward = builder(store, [READ, write.clone()]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let another = TestKey::issue(&keyward, [write]).await;
    let mut site = Site::open(keyward, key, Requirement::scope(READ)).await;
    let bearer = site.key.bearer();
    assert!(site.check(Some(&bearer)).await.is_ok());
    let twice = format!("{bearer}, {bearer}");
    for (sent, code, message) in [
        (None, Code::Unauthenticated, "An API key is required."),
        (
            Some("Bearer no-key"),
            Code::Unauthenticated,
            "The API key is not valid.",
        ),
        (
            Some(&*another.bearer()),
            Code::PermissionDenied,
            "The API key lacks a scope that this needs.",
        ),
        (
            Some(&*twice),
            Code::InvalidArgument,
            "Send one API key, once.",
        ),
    ] {
        let status = site.check(sent).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message));
    }
    let status = site.check(Some(&another.bearer())).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("INSUFFICIENT_SCOPE", "keyward")
    );
    assert_eq!(info.metadata["sufficient_scopes"], "read:editions");
    site.key.revoke(&site.keyward).await;
    let status = site.check(Some(&bearer)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn refusals_by_limits_say_when_to_retry() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let hour = Duration::from_secs(3_600);
    let one = NonZeroU32::MIN;
    let (quota, tenant) = (Quota::new("hour", one, hour), TenantId::new("acme-inc"));
    let (quota, tenant) = (quota.unwrap(), tenant.unwrap());
    let new = || NewKey::new(tenant.clone(), "limited", READ);
    let counted = TestKey::issue_as(&keyward, new().quota(quota)).await;
    let narrow = TestKey::issue_as(&keyward, new().concurrency(one)).await;
    let mut site = Site::open(keyward, counted, Requirement::scope(READ)).await;

    let bearer = site.key.bearer();
    let granted = site.client.check(asking(Some(&bearer))).await.unwrap();
    assert_eq!(
        granted.metadata().get("x-ratelimit-remaining").unwrap(),
        "0"
    );
    let status = site.check(Some(&bearer)).await.unwrap_err();
    let delay = retry_delay(&status);
    assert!(delay > hour - Duration::from_secs(600), "{delay:?}");
    assert!(delay < hour + Duration::from_secs(600), "{delay:?}");
    let retry_after = status.metadata().get("retry-after").unwrap();
    assert_eq!(retry_after, &*delay.as_secs().to_string());
    assert!(status.metadata().contains_key("ratelimit"));

    let bearer = narrow.bearer();
    let watch = site.client.watch(asking(Some(&bearer))).await.unwrap();
    let status = site.check(Some(&bearer)).await.unwrap_err();
    assert_eq!(retry_delay(&status), Duration::from_secs(1));
    drop(watch);
}

/// The delay after which a client may retry, as the crate `tonic-types` reads it.
fn retry_delay(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info = status.get_details_retry_info().unwrap();
    info.retry_delay.unwrap()
}

#[tokio::test]
async fn refused_credentials_look_alike() {
    let fixture = Fixture::open().await;
    let key = TestKey::issue(&fixture.keyward, [READ]).await;
    let refused = fixture.refused().await;
    let mut site = Site::open(fixture.keyward, key, Requirement::scope(READ)).await;
    let mut first = None;
    for refused in refused {
        let mut request = asking(Some(&format!("Bearer {}", refused.text)));
        if let Some(from) = refused.forwarded {
            let from = from.parse().unwrap();
            request.metadata_mut().insert("forwarded", from);
        }
        let status = site.client.check(request).await.unwrap_err();
        let mut headers = status.metadata().clone().into_headers();
        headers.remove("date");
        let reply = (status.code(), status.message().to_owned(), headers);
        assert_eq!(reply.0, Code::Unauthenticated, "{}", refused.why);
        assert_eq!(
            &reply,
            first.get_or_insert_with(|| reply.clone()),
            "{}",
            refused.why
        );
    }
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_its_key() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "narrow", READ);
    let key = TestKey::issue_as(&keyward, new.concurrency(NonZeroU32::MIN)).await;
    let mut site = Site::open(keyward, key, Requirement::scope(READ)).await;
    let bearer = site.key.bearer();
    let watch = site.client.watch(asking(Some(&bearer))).await.unwrap();
    let mut watch = watch.into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let status = site.check(Some(&bearer)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);

    drop(watch);
    let watch = loop {
        // The server hears of it in its own time.
        match site.client.watch(asking(Some(&bearer))).await {
            Ok(watch) => break watch,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut watch = watch.into_inner();
    assert!(watch.message().await.unwrap().is_some());
    site.key.revoke(&site.keyward).await;
    let end = tokio::time::timeout(Duration::from_secs(10), watch.message());
    assert!(end.await.expect("it goes on").is_err());
}

#[tokio::test]
async fn undecidable_is_unavailable() {
    let store = FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..1, Fault::Unavailable);
    let keyward = builder(store, [READ])
        .cache(KeyCache::off())
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let mut site = Site::open(keyward, key, Requirement::scope(READ)).await;
    let bearer = site.key.bearer();
    let status = site.check(Some(&bearer)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(site.check(Some(&bearer)).await.is_ok());
}
