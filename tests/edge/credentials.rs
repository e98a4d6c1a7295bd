//! Which credentials an edge finds. The table of all forms is with the servers' tests, which run it at an edge too.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::hashing::Pepper;
use keyward::http::{Connection, Edge, Head, HeaderSource, KeyIn};
use keyward::import::{ImportedKey, ImportedKeys, LegacyFormat};
use keyward::key::TenantId;
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{TestKey, builder};
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Events, Fixture, READ, over_tls, recording, values};

async fn status(fixture: &Fixture, name: &str, value: impl AsRef<[u8]>) -> u16 {
    match fixture.ask(&[(name, value.as_ref())], None).await {
        Ok(_) => 200,
        Err(rejection) => rejection.answer.status,
    }
}

#[tokio::test]
async fn both_spellings_of_apikey_are_read() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::api_key())).await;
    for scheme in ["ApiKey", "api-key", "APIKEY"] {
        let value = format!("{scheme} {}", fixture.text());
        assert_eq!(status(&fixture, "authorization", value).await, 200);
    }
}

#[tokio::test]
async fn apikey_takes_an_encoded_pair() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::api_key())).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    for (decoded, expected) in [
        (format!("{id}:{secret}"), 200),
        (format!("{id}:{}", &secret[1..]), 401),
        (format!("{}:{secret}", &id[1..]), 401),
        (format!("{key}:"), 401),
        (key, 401),
    ] {
        let value = format!("ApiKey {}", BASE64_STANDARD.encode(&decoded));
        let status = status(&fixture, "authorization", value).await;
        assert_eq!(status, expected, "{decoded}");
    }
}

#[tokio::test]
async fn a_scheme_of_the_host_is_read() {
    let token = KeyIn::scheme("Token").unwrap();
    let fixture = Fixture::new(|edge| edge.accept(token)).await;
    let key = fixture.text();
    for (value, expected) in [
        (format!("Token {key}"), 200),
        (format!("TOKEN  {key}"), 200),
        (format!("Token token={key}"), 200),
        (format!("Token token=\"{key}\""), 200),
        (format!("Token Token=\"{key}\", nonce=\"x\""), 200),
        (format!("Token key={key}"), 401),
        (format!("Token token={key}\""), 401),
        (format!("Token{key}"), 401),
        (format!("Bearer {key}"), 401),
        (key.clone(), 401),
        (format!("Token token={key}, token={key}"), 400),
        (format!("Token token={key}, Token token={key}"), 400),
        (format!("Token token={key}, Bearer {key}"), 400),
        (format!("Token token={key},{key}"), 400),
        (format!("Token token={key},"), 400),
        (format!("Token nonce=x, token={key}"), 400),
        (format!("Token {key},{key}"), 400),
    ] {
        let status = status(&fixture, "authorization", &value).await;
        assert_eq!(status, expected, "{value}");
    }
}

#[tokio::test]
async fn a_bare_authorization_is_read() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::authorization())
            .accept(KeyIn::header("X-API-Key").unwrap())
    })
    .await;
    let key = fixture.text();
    for (value, expected) in [
        (key.clone(), 200),
        (format!("  {key} "), 200),
        (format!("Bearer {key}"), 200),
        (format!("Token {key}"), 401),
        (format!("{key} {key}"), 401),
        (format!("\"{key}\""), 401),
        ("Bearer".to_owned(), 401),
        (String::new(), 401),
        (format!("{key},{key}"), 400),
        (format!("{key},"), 400),
        (format!("Bearer {key},{key}"), 400),
    ] {
        let status = status(&fixture, "authorization", &value).await;
        assert_eq!(status, expected, "{value}");
    }
    let twice = [("authorization", key.as_bytes()); 2];
    let other = [
        ("authorization", b"x".as_slice()),
        ("x-api-key", key.as_bytes()),
    ];
    for sent in [&twice, &other] {
        let rejection = fixture.ask(sent, None).await.unwrap_err();
        assert_eq!(rejection.answer.status, 400, "{sent:?}");
    }
    // A scheme that is not accepted disturbs no other form.
    let digest = [
        ("authorization", b"Digest x".as_slice()),
        ("x-api-key", key.as_bytes()),
    ];
    assert!(fixture.ask(&digest, None).await.is_ok());
}

#[tokio::test]
async fn basic_takes_the_part_that_is_a_key() {
    let told = Events::default();
    let fixture = Fixture::new(|edge| recording(edge.accept(KeyIn::basic()), &told)).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    let other = key.replace("_test_", "_live_");
    let two = "more than one credential was presented";
    for (user, expected) in [
        (format!("{key}:"), ""),
        (format!("{key}:x"), ""),
        (format!("{key}:x-oauth-basic"), ""),
        (format!("{key}:x:y"), ""),
        (format!("{key}:\n"), ""),
        (format!(":{key}"), ""),
        (format!("api:{key}"), ""),
        (format!("alice@example.com:{key}"), ""),
        (format!("{id}:{secret}"), ""),
        (format!("{key}:{key}"), two),
        (format!("{key}:{other}"), two),
        (format!("{other}:{key}"), two),
        (format!("{}:{key}", &key[..20]), two),
        (format!("{id}:{key}"), two),
        (format!("{key}:{secret}"), ""),
        (
            format!("x:{}", &key[..60]),
            "the text is 21 characters short",
        ),
        (
            format!("{}:x", &key[..60]),
            "the text is 21 characters short",
        ),
        (format!(":{key}:"), "the text is 1 characters too long"),
        (
            format!("api:{key}\n"),
            "there is white space around the key",
        ),
        (
            format!("api:{other}"),
            "the text names an environment that is not accepted here",
        ),
        (
            format!("{id}:{}", &secret[1..]),
            "the text is 1 characters short",
        ),
        (
            format!("{}:{secret}", id.replace('-', "_")),
            "the id is not one, or not in its one spelling",
        ),
        (
            "alice:secret".to_owned(),
            "the text does not begin with this application's prefix",
        ),
        (":".to_owned(), "the credential is empty"),
        (
            "x".to_owned(),
            "the credential is not encoded as its scheme asks",
        ),
    ] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(&user));
        let status = status(&fixture, "authorization", value).await;
        let expected_status = match expected {
            "" => 200,
            expected if expected == two => 400,
            _ => 401,
        };
        assert_eq!(status, expected_status, "{user}");
        let reason = told.lock().unwrap().pop().map(|(reason, ..)| reason);
        assert_eq!(reason.unwrap_or_default(), expected, "{user}");
    }
}

/// Returns the status of a request with these lines of `Sec-WebSocket-Protocol`.
async fn web_socket(fixture: &Fixture, lines: &[String]) -> u16 {
    let name = "Sec-WebSocket-Protocol";
    let sent: Vec<_> = lines.iter().map(|line| (name, line.as_bytes())).collect();
    let admitted = fixture.ask(&sent, None).await;
    admitted.map_or_else(|rejection| rejection.answer.status, |_| 200)
}

#[tokio::test]
async fn a_web_socket_key_is_read() {
    let form = KeyIn::web_socket_protocol("acme.key.").unwrap();
    let fixture = Fixture::new(|edge| edge.accept(form).accept(KeyIn::bearer())).await;
    let key = fixture.text();
    let line = |text: &str| text.replace("<key>", &key);
    for (lines, expected) in [
        (&["acme.key.<key>"][..], 200),
        (&["acme.v1, acme.key.<key>"], 200),
        (&["acme.key.<key>,acme.v1"], 200),
        (&[" , acme.v1 ,\tacme.key.<key> ,, acme.v2"], 200),
        (&["acme.v1", "acme.v2,acme.key.<key>"], 200),
        (&["acme.v1, acme.v2"], 401),
        (&["<key>"], 401),
        (&["ACME.KEY.<key>"], 401),
        (&["acme.key.<key> x"], 401),
        (&["acme.key.", "acme.v1"], 401),
        (&["acme.key.<key>, acme.key.<key>"], 400),
        (&["acme.key.<key>", "acme.key.<key>"], 400),
        (&["acme.key., acme.key.<key>"], 400),
    ] {
        let lines: Vec<_> = lines.iter().map(|text| line(text)).collect();
        assert_eq!(web_socket(&fixture, &lines).await, expected, "{lines:?}");
    }
    let both = [
        ("authorization", fixture.key.bearer()),
        ("sec-websocket-protocol", line("acme.key.<key>")),
    ];
    let both = both
        .each_ref()
        .map(|(name, value)| (*name, value.as_bytes()));
    let rejection = fixture.ask(&both, None).await.unwrap_err();
    assert_eq!(rejection.answer.status, 400);
}

#[tokio::test]
async fn web_socket_keys_are_cut_from_lists() {
    let form = KeyIn::web_socket_protocol("acme.key.").unwrap();
    let fixture = Fixture::new(|edge| edge.accept(form)).await;
    let without = |line: &str| {
        let rest = fixture.edge.protocols_without_credential(line.as_bytes());
        rest.map(|rest| String::from_utf8(rest).unwrap())
    };
    assert_eq!(without("acme.v1, acme.key"), None);
    assert_eq!(without(""), None);
    assert_eq!(without("acme.key.x").as_deref(), Some(""));
    let all = without("acme.key.x,, acme.v1,\tacme.key. ,acme.v2 ");
    assert_eq!(all.as_deref(), Some("acme.v1, acme.v2"));
    // The rest of the header is the application's.
    assert_eq!(fixture.edge.credential_headers().count(), 0);
    let headers = fixture.edge.response_headers(&[("a", "b")]);
    let vary = headers.filter(|header| header.name == "vary");
    let vary: Vec<_> = vary.map(|header| header.value.into_owned()).collect();
    assert_eq!(vary, ["sec-websocket-protocol"]);
}

#[tokio::test]
async fn the_forms_of_a_host_have_challenges() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::scheme("Token").unwrap())
            .accept(KeyIn::scheme("token").unwrap())
            .accept(KeyIn::authorization())
            .accept(KeyIn::web_socket_protocol("acme.key.").unwrap())
    })
    .await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(
        values(&rejection, "www-authenticate"),
        [
            r#"Token realm="api""#,
            r#"ApiKey realm="api", in="header", name="Authorization""#,
            r#"ApiKey realm="api", in="header", name="Sec-WebSocket-Protocol""#,
        ]
    );
}

#[tokio::test]
async fn other_forms_are_no_credential() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    for (name, value) in [
        ("x-api-key", &*key),
        ("authorization", &format!("ApiKey {key}")),
        ("authorization", &key),
        ("proxy-authorization", &format!("Bearer {key}")),
        ("cookie", &format!("authorization=Bearer {key}")),
        ("sec-websocket-protocol", &key),
    ] {
        assert_eq!(status(&fixture, name, value).await, 401, "{name}: {value}");
    }
    let pair = [
        ("x-key-id", id.as_bytes()),
        ("x-key-secret", secret.as_bytes()),
    ];
    assert!(fixture.ask(&pair, None).await.is_err());
    let query = format!("api_key={key}&access_token={key}");
    assert!(fixture.ask(&[], Some(&query)).await.is_err());
    let none = Fixture::new(|edge| edge).await;
    let bearer = none.key.bearer();
    assert_eq!(
        status(&none, "authorization", bearer).await,
        401,
        "an edge accepts only the forms that it was given"
    );
}

/// The bytes reach the edge only from servers that pass on what HTTP forbids.
#[tokio::test]
async fn forbidden_bytes_are_no_part_of_a_key() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let bearer = fixture.key.bearer();
    for value in [
        format!("{bearer}\r\nX-Evil: 1").into_bytes(),
        format!("{bearer}\0").into_bytes(),
        [b"Bearer ".as_slice(), &[0xff; 81]].concat(),
    ] {
        assert_eq!(status(&fixture, "authorization", value).await, 401);
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

    // Two of another scheme are no credential, and disturb none.
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

/// Headers that cannot be sent to another thread.
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
        format!("{id}:{secret}:"),
        format!("{id}:{secret}:{secret}"),
        format!("{}:{id}:", "a".repeat(700)),
    ] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(user));
        let rejection = fixture
            .ask(&[("authorization", value.as_bytes())], None)
            .await;
        assert_eq!(rejection.unwrap_err().answer.status, 401);
    }
    // A value longer than any key is not decoded.
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
        } else {
            // A UUID could be the id of a key, and `x` is no secret.
            all.push(("authorization", basic(format!("{text}:x"))));
            all.push(("authorization", basic(format!("api:{text}"))));
            all.push(("authorization", basic(format!(":{text}"))));
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

#[tokio::test]
async fn two_imported_texts_are_ambiguous() {
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let (_keyward, edge) = imported(LegacyFormat::opaque("old").unwrap(), uuid).await;
    for (user, expected) in [
        (format!("{uuid}:{uuid}"), 400),
        (format!("a-name-of-16-chars:{uuid}"), 400),
        (format!("short-name:{uuid}"), 200),
        // A text of the other system may contain a colon, if neither part could be a whole text.
        ("key-17:aa1bb2cc3".to_owned(), 401),
    ] {
        let value = format!("Basic {}", BASE64_STANDARD.encode(&user));
        let headers = [("authorization", value)];
        let head = Head {
            headers: headers.as_slice(),
            connection: over_tls(),
            query: None,
        };
        let need = Requirement::scope(READ);
        let admitted = edge.admit(&head, Attempt::of(&need)).await;
        let status = admitted.map_or_else(|rejection| rejection.answer.status, |_| 200);
        assert_eq!(status, expected, "{user}");
    }
}

/// The format that is given first reads a text, as in any other form.
#[tokio::test]
async fn the_first_format_reads_a_basic_text() {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let text = "key-17:k9aa1bb2cc3dd4ee5ff6";
    let imported = ImportedKeys::under(lookup)
        .accept(LegacyFormat::with_id("old", ':').unwrap())
        .accept(LegacyFormat::opaque("older").unwrap());
    let keyward = builder(MemoryStore::new(), [READ]).imported_keys(imported);
    let keyward = keyward.open().await.unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "imported", READ);
    let key = ImportedKey::text("old", text).entropy_bits(122);
    let manager = keyward.manager();
    manager
        .import(&Actor::system("tests"), new, key)
        .await
        .unwrap();
    let edge = Edge::new(&keyward).accept(KeyIn::basic());
    let value = format!("Basic {}", BASE64_STANDARD.encode(text));
    let head = Head {
        headers: &[("authorization", value)],
        connection: over_tls(),
        query: None,
    };
    let need = Requirement::scope(READ);
    assert!(edge.admit(&head, Attempt::of(&need)).await.is_ok());
}

#[tokio::test]
async fn an_own_and_an_imported_key_are_two() {
    let lookup = || Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let any = ImportedKeys::under(lookup()).accept(LegacyFormat::opaque("old").unwrap());
    let sanctum = ImportedKeys::under(lookup()).accept(LegacyFormat::sanctum());
    let token = "12|x7Hqk9aa1bb2cc3dd4ee5ff6";
    for (imported, with_token) in [(sanctum, 400), (any, 200)] {
        let keyward = builder(MemoryStore::new(), [READ]).imported_keys(imported);
        let keyward = keyward.open().await.unwrap();
        let key = TestKey::issue(&keyward, [READ]).await;
        let (edge, key) = (Edge::new(&keyward).accept(KeyIn::basic()), key.text());
        for (user, expected) in [
            (format!("{key}:{token}"), with_token),
            (format!("{token}:{key}"), with_token),
            (format!("{key}:x-oauth-basic"), 200),
            (format!("alice.of-the-north@example.com:{key}"), 200),
        ] {
            let value = format!("Basic {}", BASE64_STANDARD.encode(&user));
            let head = Head {
                headers: &[("authorization", value)],
                connection: over_tls(),
                query: None,
            };
            let need = Requirement::scope(READ);
            let admitted = edge.admit(&head, Attempt::of(&need)).await;
            let status = admitted.map_or_else(|rejection| rejection.answer.status, |_| 200);
            assert_eq!(status, expected, "{user}");
        }
    }
}
