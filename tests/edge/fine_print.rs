//! What a review of the edge found.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::hashing::{ImportedKeys, Pepper};
use keyward::http::{Connection, Edge, Head, HeaderSource, KeyIn};
use keyward::key::{LegacyFormat, TenantId};
use keyward::manager::{Actor, ImportedKey, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::builder;
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Fixture, READ, over_tls};

#[tokio::test]
async fn a_head_shows_no_credential() {
    let fixture = Fixture::new(|edge| edge).await;
    let text = fixture.text();
    let headers = [("authorization", format!("Bearer {text}"))];
    let query = format!("api_key={text}");
    let head = Head {
        headers: headers.as_slice(),
        connection: over_tls(),
        query: Some(&query),
    };
    assert!(!format!("{head:?}").contains(&text));
}

#[tokio::test]
async fn a_header_is_accepted_once_however_often_and_in_whatever_case_it_is_named() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::header("x-api-key").unwrap())
    })
    .await;
    let text = fixture.text();
    assert!(
        fixture
            .ask(&[("x-api-key", text.as_bytes())], None)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn half_a_pair_that_is_spelt_right_is_not_misspelt() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::pair("X-AuthenticationKeyId", "X-AuthenticationKeyValue").unwrap())
            .observe(move |refused| {
                into.lock()
                    .unwrap()
                    .push(format!("{:?}", refused.near_misses));
            })
    })
    .await;
    let (id, secret) = fixture.pair();
    let half: [(&str, &[u8]); 1] = [("x-authenticationkeyid", id.as_bytes())];
    assert!(fixture.ask(&half, None).await.is_err());
    assert_eq!(told.lock().unwrap().pop().unwrap(), "[]");
    let misspelt: [(&str, &[u8]); 2] = [
        ("x-authenticationkeyid", id.as_bytes()),
        ("x-authenticationkeyvalu", secret.as_bytes()),
    ];
    assert!(fixture.ask(&misspelt, None).await.is_err());
    assert_eq!(
        told.lock().unwrap().pop().unwrap(),
        r#"[MisspeltHeader { name: "x-authenticationkeyvalu", meant: "X-AuthenticationKeyValue" }]"#
    );
}

#[tokio::test]
async fn a_near_miss_holds_no_part_of_a_secret_and_there_are_few() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::header("X-API-Key").unwrap())
            .observe(move |refused| {
                into.lock()
                    .unwrap()
                    .push(format!("{:?}", refused.near_misses));
            })
    })
    .await;
    let text = fixture.text();
    let (_, secret) = fixture.pair();
    let lower = text.to_ascii_lowercase();
    let sent: [(&str, &[u8]); 1] = [(&lower, text.as_bytes())];
    assert!(
        fixture
            .ask(&sent, Some(&format!("{text}={text}")))
            .await
            .is_err()
    );
    let seen = told.lock().unwrap().pop().unwrap();
    assert!(!seen.contains(&secret[..12]), "{seen}");
    assert!(!seen.contains(&secret[..12].to_ascii_lowercase()), "{seen}");

    let flood: Vec<String> = (0..5_000).map(|n| format!("a{n}=acme_")).collect();
    assert!(fixture.ask(&[], Some(&flood.join("&"))).await.is_err());
    let seen = told.lock().unwrap().pop().unwrap();
    assert!(
        seen.len() < 4_096,
        "{} bytes of log for one request",
        seen.len()
    );
}

#[tokio::test]
async fn a_switch_of_protocols_is_a_success_too() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let bearer = fixture.key.bearer();
    let need = Requirement::any_key().checked_by_handler("project");
    let sent: [(&str, &[u8]); 1] = [("authorization", bearer.as_bytes())];
    let (grant, _permit) = fixture
        .ask_for(&need, &sent, None)
        .await
        .unwrap()
        .into_parts();
    for status in [101, 200, 206, 302, 304, 399] {
        assert!(fixture.edge.review(&grant, status).is_err(), "{status}");
    }
    for status in [400, 404, 500] {
        assert!(fixture.edge.review(&grant, status).is_ok(), "{status}");
    }
}

#[tokio::test]
async fn what_is_quoted_in_cache_control_is_one_value() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::header("X-API-Key").unwrap())).await;
    for (before, after) in [
        (
            r#"private="set-cookie, x-user", max-age=60"#,
            Some("max-age=60, private"),
        ),
        (
            r#"ext="a, private, b""#,
            Some(r#"ext="a, private, b", private"#),
        ),
        (
            r#"ext="a, no-store""#,
            Some(r#"ext="a, no-store", private"#),
        ),
        (r#"max-age=60, ext="never closed"#, Some("private")),
        (
            r#"ext="\", private", max-age=1"#,
            Some(r#"ext="\", private", max-age=1, private"#),
        ),
        ("Proxy-Revalidate, max-age=1", Some("max-age=1, private")),
        ("no-store, public", Some("no-store, private")),
    ] {
        let response = [("cache-control", before)];
        let mut added = fixture.edge.response_headers(&response);
        let cache = added.find(|header| header.name == "cache-control");
        assert_eq!(
            cache.as_ref().map(|header| &*header.value),
            after,
            "{before}"
        );
    }
}

#[tokio::test]
async fn a_401_always_has_a_challenge() {
    let fixture = Fixture::new(|edge| edge).await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    let headers = &rejection.answer().headers;
    assert!(
        headers.iter().any(|(name, _)| *name == "www-authenticate"),
        "RFC 9110 §15.5.2"
    );
}

/// Its headers are not to be sent to another thread.
struct Mine(Rc<Vec<(String, String)>>);

impl HeaderSource for Mine {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (&**name, value.as_bytes()))
    }
}

#[tokio::test]
async fn a_decision_may_be_awaited_on_any_thread_whatever_keeps_the_headers() {
    fn sent<T: Send>(future: T) -> T {
        future
    }
    fn generic<'a, H: HeaderSource>(
        edge: &'a Edge,
        headers: &'a H,
        need: &'a Requirement,
    ) -> impl Future<Output = bool> + Send + use<'a, H> {
        let head = Head {
            headers,
            connection: Connection::default(),
            query: None,
        };
        let admitted = edge.admit(&head, Attempt::of(need));
        async move { admitted.await.is_ok() }
    }
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let headers = Mine(Rc::new(vec![(
        "authorization".into(),
        fixture.key.bearer(),
    )]));
    let need = Requirement::any_key();
    assert!(sent(generic(&fixture.edge, &headers, &need)).await);
}

#[tokio::test]
async fn basic_with_a_colon_in_the_password_or_too_long_is_refused() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::basic())).await;
    let (id, secret) = fixture.pair();
    for user in [
        format!("{id}:{secret}:{secret}"),
        format!("{}:{id}:", "a".repeat(700)),
    ] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(user));
        let rejection = fixture
            .ask(&[("authorization", value.as_bytes())], None)
            .await;
        assert_eq!(rejection.unwrap_err().answer().status, 401);
    }
    // No more is decoded than any key has.
    for (bytes, is_decoded) in [(768, true), (769, false)] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(":".repeat(bytes)));
        let rejection = fixture
            .ask(&[("authorization", value.as_bytes())], None)
            .await;
        let why = rejection.unwrap_err().reason().to_string();
        assert_eq!(why.contains("not encoded"), !is_decoded, "{why}");
    }
}

/// An edge that accepts everything, before a Keyward with a key that another system issued.
async fn imported(format: LegacyFormat, text: &str) -> (keyward::Keyward, Edge) {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let imported = ImportedKeys::under(lookup).accept(format);
    let keyward = builder(MemoryStore::new(), [READ]).imported_keys(imported);
    let keyward = keyward.open().await.unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "imported", READ);
    let key = ImportedKey::text("old", text).entropy_bits(122);
    let manager = keyward.manager();
    manager
        .import(&Actor::system("tests"), new, key)
        .await
        .unwrap();
    let edge = Edge::new(&keyward)
        .accept(KeyIn::header("X-API-Key").unwrap())
        .accept(KeyIn::basic());
    (keyward, edge)
}

#[tokio::test]
async fn keys_from_elsewhere_come_in_every_form() {
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let colon = "key-17:k9aa1bb2cc3dd4ee5ff6";
    let old = |separator| LegacyFormat::with_id("old", separator).unwrap();
    for (format, text) in [
        (LegacyFormat::opaque("old").unwrap(), uuid),
        (old(':'), colon),
    ] {
        let (_keyward, edge) = imported(format, text).await;
        let basic = |user: String| format!("Basic {}", BASE64_STANDARD.encode(user));
        let mut all = vec![
            ("x-api-key", text.to_owned()),
            ("authorization", basic(format!("{text}:"))),
        ];
        if text == colon {
            // As `curl -u` sends it.
            all.push(("authorization", basic(text.to_owned())));
        }
        for sent in all {
            let headers = [sent.clone()];
            let head = Head {
                headers: headers.as_slice(),
                connection: over_tls(),
                query: None,
            };
            let need = Requirement::scope(READ);
            let admitted = edge.admit(&head, Attempt::of(&need)).await;
            assert!(admitted.is_ok(), "{sent:?}: {admitted:?}");
        }
    }
}
