//! Which credentials are found: one, in a form that is accepted, and no second one anywhere.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::hashing::Pepper;
use keyward::http::{Connection, Edge, Head, HeaderSource, KeyIn};
use keyward::import::{ImportedKey, ImportedKeys, LegacyFormat};
use keyward::key::TenantId;
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::builder;
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Fixture, READ, over_tls};

/// All forms at once.
fn every_form(edge: Edge) -> Edge {
    edge.accept(KeyIn::bearer())
        .accept(KeyIn::api_key())
        .accept(KeyIn::basic())
        .accept(KeyIn::header("X-API-Key").unwrap())
        .accept(KeyIn::pair("X-AuthenticationKeyId", "X-AuthenticationKeyValue").unwrap())
        .accept(KeyIn::query_parameter("api_key").unwrap())
}

/// What is sent: headers, and a query.
type Sent = (Vec<(&'static str, Vec<u8>)>, Option<String>);

fn header(name: &'static str, value: impl AsRef<[u8]>) -> Sent {
    (vec![(name, value.as_ref().to_vec())], None)
}

fn headers<const N: usize>(headers: [(&'static str, String); N]) -> Sent {
    let headers = headers.map(|(name, value)| (name, value.into_bytes()));
    (headers.to_vec(), None)
}

fn query(query: impl Into<String>) -> Sent {
    (Vec::new(), Some(query.into()))
}

async fn status(fixture: &Fixture, (headers, query): &Sent) -> u16 {
    let headers: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    match fixture.ask(&headers, query.as_deref()).await {
        Ok(_) => 200,
        Err(rejection) => rejection.answer.status,
    }
}

#[tokio::test]
async fn a_key_is_found_in_each_form() {
    let fixture = Fixture::new(every_form).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    let user = BASE64_STANDARD.encode(format!("{key}:"));
    let both = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    for sent in [
        header("Authorization", format!("Bearer {key}")),
        header("authorization", format!("bEARER \t {key} \t")),
        header("AUTHORIZATION", format!("ApiKey {key}")),
        header("authorization", format!("api-key {key}")),
        header("authorization", format!("Basic {user}")),
        header("authorization", format!("basic {both}")),
        header("X-API-Key", &key),
        header("x-api-key", format!(" {key}\t")),
        headers([
            ("X-AuthenticationKeyId", id.clone()),
            ("x-authenticationkeyvalue", secret.clone()),
        ]),
        headers([
            ("X-AuthenticationKeyValue", secret.clone()),
            ("X-AuthenticationKeyId", id.clone()),
        ]),
        query(format!("page=2&api_key={key}")),
        query(format!("api%5Fkey={}", key.replace('_', "%5f"))),
        // What is no credential is in nobody's way.
        (
            vec![
                ("accept", b"*/*".to_vec()),
                ("authorization", format!("Bearer {key}").into_bytes()),
                ("x-api-key-version", b"2".to_vec()),
            ],
            Some("api_keys=1".to_owned()),
        ),
    ] {
        assert_eq!(status(&fixture, &sent).await, 200, "{sent:?}");
    }
}

#[tokio::test]
async fn other_forms_are_no_credential() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    for sent in [
        header("X-API-Key", &key),
        header("authorization", format!("ApiKey {key}")),
        header("authorization", &key),
        header("proxy-authorization", format!("Bearer {key}")),
        header("cookie", format!("authorization=Bearer {key}")),
        headers([
            ("X-AuthenticationKeyId", id),
            ("X-AuthenticationKeyValue", secret),
        ]),
        query(format!("api_key={key}&access_token={key}")),
    ] {
        assert_eq!(status(&fixture, &sent).await, 401, "{sent:?}");
    }
    let nothing = Fixture::new(|edge| edge).await;
    let sent = header("authorization", format!("Bearer {}", nothing.text()));
    assert_eq!(
        status(&nothing, &sent).await,
        401,
        "an edge accepts what it is told to"
    );
}

#[tokio::test]
async fn two_credentials_are_always_refused() {
    let fixture = Fixture::new(every_form).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    let other = fixture.text().replace("acme_test_", "acme_test_0");
    let bearer = format!("Bearer {key}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{key}:")));
    let before = fixture.keyward.verifier().stats();
    let twice = [
        // In one form: equal, different, empty beside full, and joined by somebody on the way.
        headers([
            ("authorization", bearer.clone()),
            ("Authorization", bearer.clone()),
        ]),
        headers([
            ("authorization", bearer.clone()),
            ("authorization", format!("Bearer {other}")),
        ]),
        headers([
            ("authorization", bearer.clone()),
            ("authorization", "Digest x".to_owned()),
        ]),
        headers([
            ("authorization", "Digest x".to_owned()),
            ("authorization", bearer.clone()),
        ]),
        header("authorization", format!("{bearer}, {bearer}")),
        header("authorization", format!("{basic},{basic}")),
        headers([("x-api-key", key.clone()), ("X-API-Key", key.clone())]),
        headers([("x-api-key", key.clone()), ("x-api-key", String::new())]),
        header("x-api-key", format!("{key}, {key}")),
        header("x-api-key", format!("{key},")),
        headers([
            ("x-authenticationkeyid", id.clone()),
            ("x-authenticationkeyid", id.clone()),
            ("x-authenticationkeyvalue", secret.clone()),
        ]),
        headers([
            ("x-authenticationkeyid", id.clone()),
            ("x-authenticationkeyvalue", secret.clone()),
            ("x-authenticationkeyvalue", secret.clone()),
        ]),
        headers([
            ("x-authenticationkeyvalue", secret.clone()),
            ("x-authenticationkeyvalue", secret.clone()),
        ]),
        query(format!("api_key={key}&api_key={key}")),
        query(format!("api_key={key}&api%5fkey=")),
        // In two forms.
        headers([
            ("authorization", bearer.clone()),
            ("x-api-key", key.clone()),
        ]),
        headers([("authorization", basic.clone()), ("x-api-key", key.clone())]),
        headers([
            ("x-api-key", key.clone()),
            ("x-authenticationkeyid", id.clone()),
        ]),
        (
            vec![("authorization", bearer.clone().into_bytes())],
            Some(format!("api_key={key}")),
        ),
        (
            vec![("x-api-key", key.clone().into_bytes())],
            Some("api_key".to_owned()),
        ),
    ];
    for sent in &twice {
        assert_eq!(status(&fixture, sent).await, 400, "{sent:?}");
    }
    let after = fixture.keyward.verifier().stats();
    assert_eq!(
        after.malformed - before.malformed,
        u64::try_from(twice.len()).unwrap()
    );
    assert_eq!(
        (after.cache_hits, after.store_reads, after.fast_hashes),
        (before.cache_hits, before.store_reads, before.fast_hashes)
    );
}

#[tokio::test]
async fn malformed_credentials_cost_nothing() {
    let fixture = Fixture::new(every_form).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    let long = "a".repeat(64 * 1_024);
    let before = fixture.keyward.verifier().stats();
    for sent in [
        header("authorization", "Bearer"),
        header("authorization", "Bearer "),
        header("authorization", "Bearer \t"),
        header("authorization", format!("Bearer Bearer {key}")),
        header("authorization", format!("Bearer {key} {key}")),
        header(
            "authorization",
            format!("Bearer {} {}", &key[..20], &key[20..]),
        ),
        header("authorization", format!("Bearer \"{key}\"")),
        header("authorization", format!("Bearer {key}\r\nX-Evil: 1")),
        header("authorization", format!("Bearer {key}\0")),
        header(
            "authorization",
            format!("Bearer {}é", &key[..key.len() - 1]),
        ),
        header(
            "authorization",
            [b"Bearer ".as_slice(), &[0xff; 81]].concat(),
        ),
        header("authorization", format!("Bearer {long}")),
        header(
            "authorization",
            format!("Bearer {}", key.replace('_', "%5F")),
        ),
        header("authorization", "Basic"),
        header("authorization", "Basic ###"),
        // Good in every other form, and in this one not encoded.
        header("authorization", format!("Basic {key}")),
        header("authorization", format!("Basic {long}")),
        header(
            "authorization",
            format!("Basic {}", BASE64_STANDARD.encode(&key)),
        ),
        header(
            "authorization",
            format!("Basic {}", BASE64_STANDARD.encode(format!(":{key}"))),
        ),
        header(
            "authorization",
            format!("Basic {}", BASE64_STANDARD.encode(format!("{key}:x"))),
        ),
        header(
            "authorization",
            format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:"))),
        ),
        header(
            "authorization",
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{id}:{secret}:"))
            ),
        ),
        header("x-api-key", ""),
        header("x-api-key", &long),
        header("x-api-key", format!("'{key}'")),
        header("x-authenticationkeyid", &id),
        header("x-authenticationkeyvalue", &secret),
        headers([
            ("x-authenticationkeyid", secret.clone()),
            ("x-authenticationkeyvalue", id.clone()),
        ]),
        headers([
            ("x-authenticationkeyid", id.to_uppercase()),
            ("x-authenticationkeyvalue", secret.clone()),
        ]),
        query("api_key"),
        query("api_key="),
        query(format!("api_key=%{key}")),
        query(format!("api_key={key}%00")),
        query(format!("api_key={long}")),
    ] {
        assert_eq!(status(&fixture, &sent).await, 401, "{sent:?}");
    }
    let after = fixture.keyward.verifier().stats();
    assert_eq!(
        (after.cache_hits, after.store_reads, after.fast_hashes),
        (before.cache_hits, before.store_reads, before.fast_hashes)
    );
}

#[tokio::test]
async fn half_a_pair_is_a_401() {
    let fixture = Fixture::new(every_form).await;
    let (id, secret) = fixture.pair();
    for sent in [
        header("x-authenticationkeyid", id),
        header("x-authenticationkeyvalue", secret),
    ] {
        assert_eq!(status(&fixture, &sent).await, 401, "{sent:?}");
    }
}

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
async fn repeated_header_names_count_once() {
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
async fn credentials_are_cut_from_queries() {
    let parameter = KeyIn::query_parameter("api.key-v_1").unwrap();
    let fixture = Fixture::new(|edge| edge.accept(parameter)).await;
    let without = |query| fixture.edge.query_without_credential(query);
    assert_eq!(without("a=1&&b=%20"), None);
    assert_eq!(without(""), None);
    assert_eq!(without("a&api.key-v_1=x&&b").as_deref(), Some("a&&b"));
    assert_eq!(without("api%2ekey-v_1=x&api.key-v_1").as_deref(), Some(""));
    let text = fixture.text();
    let query = format!("api.key-v_1={text}");
    assert!(fixture.ask(&[], Some(&query)).await.is_ok());
    let added: Vec<_> = fixture.edge.response_headers(&[("a", "b")]).collect();
    assert_eq!(added.len(), 1, "nothing to vary by: {added:?}");
    assert_eq!(
        (added[0].name, &*added[0].value, added[0].replaces),
        ("cache-control", "private", true)
    );
}

#[tokio::test]
async fn unused_authorization_is_left_alone() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::header("X-API-Key").unwrap())).await;
    let headers: Vec<_> = fixture.edge.credential_headers().collect();
    assert_eq!(headers, ["x-api-key"]);
    let both = fixture.edge.clone().accept(KeyIn::bearer());
    let headers: Vec<_> = both.credential_headers().collect();
    assert_eq!(headers, ["authorization", "x-api-key"]);

    // Two of another scheme are no credential, and in nobody's way.
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
    })
    .await;
    let text = fixture.text();
    let digest: (&str, &[u8]) = ("authorization", b"Digest x");
    let rejection = fixture.ask(&[digest, digest], None).await.unwrap_err();
    assert_eq!(rejection.answer.status, 401);
    let sent = [digest, digest, ("x-api-key", text.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_ok());
    let padded = format!(" \tBearer {text}");
    let sent: [(&str, &[u8]); 1] = [("authorization", padded.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_ok());
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
async fn admission_is_send_for_any_headers() {
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
async fn invalid_basic_is_refused() {
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
        assert_eq!(rejection.unwrap_err().answer.status, 401);
    }
    // No more is decoded than any key has.
    for (bytes, is_decoded) in [(768, true), (769, false)] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(":".repeat(bytes)));
        let rejection = fixture
            .ask(&[("authorization", value.as_bytes())], None)
            .await;
        let why = rejection.unwrap_err().reason.to_string();
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
async fn imported_keys_come_in_every_form() {
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
