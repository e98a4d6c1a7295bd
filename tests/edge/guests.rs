//! Which requests are guests', and which are refused.

use keyward::http::{Connection, Edge, Head, KeyIn};
use keyward::key::Resource;
use keyward::manager::NewKey;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::{Attempt, KeyCache, Requirement};

use crate::common::{Events, Fixture, READ, over_tls, recording};

/// Returns who comes in with these headers: a guest, or a holder; or the status of the refusal.
async fn visits(edge: &Edge, headers: &[(&str, &str)], is_tls: bool) -> Result<&'static str, u16> {
    let head = Head {
        headers,
        connection: Connection {
            is_tls,
            ..over_tls()
        },
        query: None,
    };
    let need = Requirement::scope(READ);
    match edge.admit_or_guest(&head, Attempt::of(&need)).await {
        Ok(None) => Ok("guest"),
        Ok(Some(_)) => Ok("holder"),
        Err(rejection) => Err(rejection.answer.status),
    }
}

#[tokio::test]
async fn a_foreign_token_is_no_credential() {
    let by_header = Fixture::new(|edge| edge.accept(KeyIn::header("X-API-Key").unwrap())).await;
    let by_bearer = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let session = ("authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln");
    let text = by_header.text();
    for (sent, with_header, with_bearer) in [
        (&[][..], Ok("guest"), Ok("guest")),
        (&[session], Ok("guest"), Err(401)),
        (&[session, ("x-api-key", &*text)], Ok("holder"), Err(401)),
        (&[session, ("x-api-key", "wrong")], Err(401), Err(401)),
    ] {
        assert_eq!(
            visits(&by_header.edge, sent, true).await,
            with_header,
            "{sent:?}"
        );
        assert_eq!(
            visits(&by_bearer.edge, sent, true).await,
            with_bearer,
            "{sent:?}"
        );
    }
}

#[tokio::test]
async fn an_unreadable_credential_is_no_guest() {
    let fixture = Fixture::new(|edge| {
        let pair = KeyIn::pair("X-Key-Id", "X-Key-Secret").unwrap();
        edge.accept(pair).accept(KeyIn::basic())
    })
    .await;
    for (sent, status) in [
        (&[("authorization", "Basic ???")][..], 401),
        (&[("authorization", "Basic")], 401),
        (
            &[
                ("authorization", "Basic YTpi"),
                ("x-key-id", "a"),
                ("x-key-secret", "b"),
            ],
            400,
        ),
        (&[("x-key-id", "a")], 401),
        (&[("x-key-secret", "b")], 401),
        (
            &[("x-key-id", "a"), ("x-key-id", "a"), ("x-key-secret", "b")],
            400,
        ),
    ] {
        assert_eq!(
            visits(&fixture.edge, sent, true).await,
            Err(status),
            "{sent:?}"
        );
    }
}

#[tokio::test]
async fn the_operator_sees_a_misplaced_key() {
    let told = Events::default();
    let fixture = Fixture::new(|edge| {
        let edge = edge.accept(KeyIn::header("X-API-Key").unwrap());
        recording(edge, &told)
    })
    .await;
    let text = fixture.text();
    let guests = visits(&fixture.edge, &[("accept", "*/*")], true).await;
    assert_eq!((guests, told.lock().unwrap().len()), (Ok("guest"), 0));
    let misspelt = visits(&fixture.edge, &[("x-api-kye", &*text)], true).await;
    assert_eq!(misspelt, Err(401));
    let (reason, _, near_misses) = told.lock().unwrap().pop().unwrap();
    assert_eq!(reason, "no credential was presented");
    assert_eq!(near_misses.len(), 1);
}

#[tokio::test]
async fn guests_need_tls_where_holders_do() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).require_tls()).await;
    assert_eq!(visits(&fixture.edge, &[], true).await, Ok("guest"));
    assert_eq!(visits(&fixture.edge, &[], false).await, Err(403));
}

#[tokio::test]
async fn undecidable_is_no_guest() {
    let store =
        FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..u64::MAX, Fault::Unavailable);
    let keyward = builder(store, [READ]).cache(KeyCache::off());
    let keyward = keyward.open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let bearer = key.bearer();
    let asked = visits(&edge, &[("authorization", &*bearer)], true).await;
    assert_eq!(asked, Err(503));
    assert_eq!(visits(&edge, &[], true).await, Ok("guest"));
}

#[tokio::test]
async fn caches_tell_guests_from_holders() {
    let accept = |edge: Edge| edge.accept(KeyIn::header("X-API-Key").unwrap());
    let fixture = Fixture::new(|edge| accept(edge).accept(KeyIn::bearer())).await;
    let added = fixture.edge.guest_response_headers();
    let added: Vec<_> = added
        .map(|header| (header.name, header.value.into_owned()))
        .collect();
    assert_eq!(added, [("vary", "authorization, x-api-key".to_owned())]);
    let fixture = Fixture::new(|edge| accept(edge).without_cache_headers()).await;
    assert_eq!(fixture.edge.guest_response_headers().count(), 0);
}

#[tokio::test]
async fn a_status_page_is_for_restricted_keys_too() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project = "project:p-1".parse::<Resource>().unwrap();
    let tenant = fixture.key.record().tenant().clone();
    let new = NewKey::new(tenant, "restricted", READ).resources(project);
    let key = TestKey::issue_as(&fixture.keyward, new).await;
    let status = async |need: Requirement, resource: Option<&str>| {
        let headers = [("authorization", key.bearer())];
        let head = Head {
            headers: headers.as_slice(),
            connection: over_tls(),
            query: None,
        };
        let attempt = match resource {
            Some(value) => Attempt::of(&need).resource("project", value),
            None => Attempt::of(&need),
        };
        let admitted = fixture.edge.admit_or_guest(&head, attempt).await;
        admitted.map_or_else(|rejection| rejection.answer.status, |_| 200)
    };
    let any = Requirement::any_key;
    assert_eq!(status(any(), None).await, 403);
    let of_none = || any().serves_no_resource();
    assert_eq!(status(of_none(), None).await, 200);
    // It loosens nothing else.
    assert_eq!(status(of_none(), Some("p-1")).await, 200);
    assert_eq!(status(of_none(), Some("p-2")).await, 403);
    assert_eq!(status(of_none().resource("project"), None).await, 403);
    let full = Requirement::full_access().serves_no_resource();
    assert_eq!(status(full, None).await, 403);
}
