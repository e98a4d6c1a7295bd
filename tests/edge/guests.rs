//! Which requests are guests', and which are refused.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::hashing::Pepper;
use keyward::http::{Connection, Edge, Head, KeyIn};
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::Resource;
use keyward::manager::NewKey;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::{Attempt, KeyCache, Requirement};

use crate::common::{Events, Fixture, READ, filled, over_tls, recording};

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

/// Asserts that an edge refuses each of these lines, in which `KEY`, `ID` and `SECRET` are the key's, `base64(…)` is
/// encoded, and `?` is the query.
async fn assert_no_guest(edge: &Edge, fixture: &Fixture, lines: &[&str]) {
    let (text, (id, secret)) = (fixture.text(), fixture.pair());
    let recased = text.to_uppercase();
    let values = [
        ("RECASED", recased),
        ("KEY", text),
        ("ID", id),
        ("SECRET", secret),
    ];
    let fill = |template: &str| filled(template, &values);
    for line in lines {
        let line = match line.split_once("base64(") {
            Some((before, inner)) => {
                let inner = fill(inner.strip_suffix(')').unwrap());
                format!("{before}{}", BASE64_STANDARD.encode(inner))
            }
            None => fill(line),
        };
        let (name, value) = line.split_once(": ").unwrap_or_default();
        let headers = [(name, value)];
        let query = line.strip_prefix('?');
        let head = Head {
            headers: &headers[..usize::from(query.is_none())],
            connection: over_tls(),
            query,
        };
        let need = Requirement::scope(READ);
        let status = match edge.admit_or_guest(&head, Attempt::of(&need)).await {
            Ok(visitor) => panic!("{line}: {visitor:?}"),
            Err(rejection) => rejection.answer.status,
        };
        assert!(matches!(status, 400 | 401), "{line}: {status}");
    }
}

#[tokio::test]
async fn a_misplaced_key_is_no_guests() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::authorization())).await;
    let lines = ["KEY x", "KEY KEY", "KEY, Bearer KEY", "Digest a=KEY"];
    let lines = lines.map(|line| format!("authorization: {line}"));
    assert_no_guest(
        &fixture.edge,
        &fixture,
        &lines.each_ref().map(|line| &**line),
    )
    .await;
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let lines = [
        "authorization: Digest x=\"y\", Bearer KEY",
        "authorization: Negotiate abc, Bearer KEY",
        "authorization: Digest x=\"y\", Bearer wrong",
        "authorization: Basic base64(ID:SECRET)",
        "authorization: Basic base64(KEY)",
        "authorization: Basic base64(RECASED:)",
        "authorization: ApiKey base64(ID:SECRET)",
        "authorization: Token foo=1, token=KEY",
        "authorization: Token foo=1, token=\"KEY\"",
        "authorization: RECASED",
        "authorization: Token RECASED",
        "x-token: RECASED",
        "?api_key=RECASED",
        "?KEY",
        "cookie: theme=dark; api_key=KEY",
        "cookie: api_key=RECASED",
        "cookie: KEY",
        "x-api-key: key=KEY",
        "x-other: [KEY]",
        "x-other: {\"key\":\"KEY\"}",
        "proxy-authorization: Basic base64(KEY:)",
        "sec-websocket-protocol: acme.v1, acme.key.RECASED",
    ];
    assert_no_guest(&fixture.edge, &fixture, &lines).await;
}

fn imported(format: LegacyFormat) -> ImportedKeys {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    ImportedKeys::under(lookup).accept(format)
}

#[tokio::test]
async fn a_misplaced_imported_key_is_no_guests() {
    let fixture = Fixture::new(|edge| edge).await;
    let opaque = LegacyFormat::opaque("old").unwrap();
    for (format, text) in [
        (LegacyFormat::sanctum(), "12|x7Hqk9aa1bb2cc3dd4ee5ff6"),
        (
            LegacyFormat::django_rest_framework(),
            "a1b2c3d4.x7Hqk9aa1bb2cc3dd4ee5ff6",
        ),
        (
            opaque.prefix("sk_live_").unwrap(),
            "sk_live_x7Hqk9aa1bb2cc3dd4ee5ff6",
        ),
    ] {
        let keyward = builder(MemoryStore::new(), [READ]).imported_keys(imported(format));
        let keyward = keyward.open().await.unwrap();
        let edge = Edge::new(&keyward).accept(KeyIn::header("X-Own-Key").unwrap());
        let lines = [
            "authorization: Bearer TEXT",
            "authorization: TEXT",
            "authorization: Token token=\"TEXT\"",
            "authorization: Basic base64(TEXT:)",
            "authorization: Basic base64(api:TEXT)",
            "x-token: TEXT",
            "x-api-key: key=TEXT",
            "cookie: api_key=TEXT",
            "?api_key=TEXT",
        ];
        let lines = lines.map(|line| line.replace("TEXT", text));
        assert_no_guest(&edge, &fixture, &lines.each_ref().map(|line| &**line)).await;
        for (name, value) in [
            (
                "authorization",
                "Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJlLW9mLXNlc3Npb24",
            ),
            ("host", "www.editions-of-the-north.example.com"),
            (
                "cookie",
                "_ga=GA1.2.1234567890.1234567890; session=abc.defghijklmnopqrstuv",
            ),
            ("x-request-id", "550e8400-e29b-41d4-a716-446655440000"),
            ("x-user", "alice.of-the-north@example.com"),
        ] {
            let visit = visits(&edge, &[(name, value)], true).await;
            assert_eq!(visit, Ok("guest"), "{text}: {name}: {value}");
        }
    }
}

#[tokio::test]
async fn a_header_of_a_proxy_bars_no_guest() {
    let pair = KeyIn::pair("X-Client-Id", "X-Client-Secret").unwrap();
    let fixture = Fixture::new(|edge| edge.accept(pair).accept(KeyIn::bearer())).await;
    let (text, (id, secret)) = (fixture.text(), fixture.pair());
    for (name, value, expected) in [
        ("X-Client-IP", "203.0.113.9", Ok("guest")),
        ("X-Client-IP", "2001:db8:85a3::8a2e:370:7334", Ok("guest")),
        ("X-Client-OS", "linux", Ok("guest")),
        ("Cookie", "acme_test_theme=dark", Ok("guest")),
        ("X-Client-Ids", &*id, Err(401)),
        ("X-Client-Secrt", &*secret, Err(401)),
        ("X-Client-Secrt", &secret[3..], Err(401)),
        ("Authorisation", "Bearer x", Err(401)),
        ("Authorisation", &*text, Err(401)),
    ] {
        let visit = visits(&fixture.edge, &[(name, value)], true).await;
        assert_eq!(visit, expected, "{name}: {value}");
    }
}
