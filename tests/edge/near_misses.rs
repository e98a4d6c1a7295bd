//! "My key gives 401": the operator sees why, and the caller does not.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::http::{Head, KeyIn, NearMiss};
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Events, Fixture, READ, over_tls, recording};

/// A report to an observer: the reason and the near misses.
type Told = Arc<Mutex<Vec<(String, Vec<NearMiss>)>>>;

async fn fixture() -> (Fixture, Told) {
    let observed = Told::default();
    let into = Arc::clone(&observed);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
            .observe(move |event| {
                let observed = (event.reason.to_string(), event.near_misses.to_vec());
                into.lock().unwrap().push(observed);
            })
    })
    .await;
    (fixture, observed)
}

#[tokio::test]
async fn only_the_operator_sees_a_near_miss() {
    let (fixture, observed) = fixture().await;
    let key = fixture.text();
    let misspelt = |name: &str| NearMiss::MisspeltHeader {
        name: name.into(),
        meant: "X-API-Key".into(),
    };
    let mut answers = Vec::new();
    for (name, value, expected) in [
        ("authorization", key.clone(), NearMiss::SchemeMissing),
        (
            "authorization",
            format!("\"{key}\""),
            NearMiss::SchemeMissing,
        ),
        (
            "authorization",
            format!("Token {key}"),
            NearMiss::OtherScheme,
        ),
        ("X-Api-Kye", key.clone(), misspelt("x-api-kye")),
        ("x-apikey", key.clone(), misspelt("x-apikey")),
        ("x_api_key", key.clone(), misspelt("x_api_key")),
        ("X-API-Keys", "anything".to_owned(), misspelt("x-api-keys")),
        (
            "api-token",
            key.clone(),
            NearMiss::OtherHeader {
                name: "api-token".into(),
            },
        ),
    ] {
        let rejection = fixture
            .ask(&[(name, value.as_bytes())], None)
            .await
            .unwrap_err();
        answers.push(rejection.answer);
        let (reason, near_misses) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&*reason, near_misses),
            ("no credential was presented", vec![expected]),
            "{name}"
        );
    }
    fixture
        .ask(&[], Some(&format!("key={key}")))
        .await
        .unwrap_err();
    let parameter = "key".into();
    assert_eq!(
        observed.lock().unwrap().pop().unwrap().1,
        [NearMiss::InQuery { parameter }]
    );
    fixture
        .ask(&[("accept", b"*/*")], Some("page=2"))
        .await
        .unwrap_err();
    assert_eq!(observed.lock().unwrap().pop().unwrap().1, []);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn the_operator_sees_why_a_key_fails() {
    let (fixture, observed) = fixture().await;
    let key = fixture.text();
    for (value, expected) in [
        (key[..60].to_owned(), "the text is 21 characters short"),
        (
            format!("\"{key}\""),
            "there are quotation marks around the key",
        ),
        (
            key.to_uppercase(),
            "the text's prefix or environment is in the wrong case",
        ),
        (
            key.replace("_test_", "_live_"),
            "the text names an environment that is not accepted here",
        ),
        (
            "sk_live_51H".to_owned(),
            "the text does not begin with this application's prefix",
        ),
        (String::new(), "the credential is empty"),
    ] {
        fixture
            .ask(&[("x-api-key", value.as_bytes())], None)
            .await
            .unwrap_err();
        let (reason, near_misses) = observed.lock().unwrap().pop().unwrap();
        assert_eq!((&*reason, near_misses), (expected, vec![]));
    }
}

#[tokio::test]
async fn observers_never_see_a_key() {
    let (fixture, observed) = fixture().await;
    let key = fixture.text();
    let long = "k".repeat(500);
    let headers: [(&str, &[u8]); 3] = [
        ("authorization", key.as_bytes()),
        ("x-api-kye", key.as_bytes()),
        (&long, key.as_bytes()),
    ];
    fixture
        .ask(&headers, Some(&format!("{key}={key}")))
        .await
        .unwrap_err();
    let observed = format!("{:?}", observed.lock().unwrap());
    assert!(
        !observed.contains(&key) && !observed.contains(&long),
        "{observed}"
    );
}

#[test]
fn a_near_miss_is_one_line() {
    let name = || "x-api-key\r\nforged: line".into();
    for (near_miss, expected) in [
        (NearMiss::SchemeMissing, "no scheme before it"),
        (NearMiss::OtherScheme, "a scheme that is not accepted"),
        (
            NearMiss::OtherHeader { name: name() },
            r"x-api-key\r\nforged",
        ),
        (
            NearMiss::MisspeltHeader {
                name: name(),
                meant: "X-API-Key".into(),
            },
            "perhaps to be `X-API-Key`",
        ),
        (NearMiss::InQuery { parameter: name() }, r"\r\nforged"),
        (NearMiss::SchemeDoubled, "two schemes"),
        (NearMiss::SchemeMalformed, "not just a space"),
        (
            NearMiss::SchemeInHeader { name: name() },
            r"\r\nforged: line` holds a scheme",
        ),
        (NearMiss::Repeated { name: name() }, "came twice"),
    ] {
        let line = near_miss.to_string();
        assert!(line.contains(expected), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[tokio::test]
async fn a_correct_half_pair_is_not_misspelt() {
    let observed: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&observed);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::pair("X-AuthenticationKeyId", "X-AuthenticationKeyValue").unwrap())
            .observe(move |event| {
                into.lock()
                    .unwrap()
                    .push(format!("{:?}", event.near_misses));
            })
    })
    .await;
    let (id, secret) = fixture.pair();
    let half: [(&str, &[u8]); 1] = [("x-authenticationkeyid", id.as_bytes())];
    assert!(fixture.ask(&half, None).await.is_err());
    assert_eq!(observed.lock().unwrap().pop().unwrap(), "[]");
    let misspelt: [(&str, &[u8]); 2] = [
        ("x-authenticationkeyid", id.as_bytes()),
        ("x-authenticationkeyvalu", secret.as_bytes()),
    ];
    assert!(fixture.ask(&misspelt, None).await.is_err());
    assert_eq!(
        observed.lock().unwrap().pop().unwrap(),
        r#"[MisspeltHeader { name: "x-authenticationkeyvalu", meant: "X-AuthenticationKeyValue" }]"#
    );
}

#[tokio::test]
async fn near_misses_are_few_and_secret_free() {
    let observed: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&observed);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::header("X-API-Key").unwrap())
            .observe(move |event| {
                into.lock()
                    .unwrap()
                    .push(format!("{:?}", event.near_misses));
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
    let seen = observed.lock().unwrap().pop().unwrap();
    assert!(!seen.contains(&secret[..12]), "{seen}");
    assert!(!seen.contains(&secret[..12].to_ascii_lowercase()), "{seen}");

    let names: Vec<String> = (0..100).map(|n| format!("x-flood-{n}")).collect();
    let flood = names.iter().map(|name| (&**name, text.as_bytes()));
    let flood: Vec<_> = flood.collect();
    assert!(fixture.ask(&flood, None).await.is_err());
    let seen = observed.lock().unwrap().pop().unwrap();
    assert_eq!(seen.matches("OtherHeader").count(), 8, "{seen}");

    let query: Vec<String> = (0..5_000).map(|n| format!("a{n}={text}")).collect();
    let query = query.join("&");
    for sent in [&flood[..0], &flood[..5], &flood[..]] {
        assert!(fixture.ask(sent, Some(&query)).await.is_err());
        let seen = observed.lock().unwrap().pop().unwrap();
        let in_headers = sent.len().min(8);
        assert_eq!(seen.matches("OtherHeader").count(), in_headers, "{seen}");
        assert_eq!(seen.matches("InQuery").count(), 8 - in_headers, "{seen}");
    }
}

/// Anyone can cause a search, so it ends soon. The last place in which a key is found, and the first in which none is.
#[tokio::test]
async fn a_search_ends_where_it_should() {
    let observed = Events::default();
    let name = |length: usize| format!("x-{}", "a".repeat(length - 2));
    let fixture = Fixture::new(|edge| {
        let edge = edge
            .accept(KeyIn::bearer())
            .accept(KeyIn::header(&name(64)).unwrap())
            .accept(KeyIn::header(&name(68)).unwrap());
        recording(edge, &observed)
    })
    .await;
    let text = fixture.text();
    let after = |length: usize| format!("{} {text}", "x".repeat(length - 1));
    let cookies = |count: usize| format!("{}key={text}", "a=b; ".repeat(count - 1));
    let between = |between: &str| format!("Bearer{between}{text}");
    let longest = name(63) + "b";
    let too_long = name(67) + "b";
    let many = 8 * 1_024;
    for (name, value, is_found) in [
        ("x-other", after(many - text.len()), true),
        ("x-other", after(many), false),
        ("cookie", cookies(64), true),
        ("cookie", cookies(65), false),
        ("authorization", between(" :::"), true),
        ("authorization", between(" ::::"), false),
        (&longest, "1".to_owned(), true),
        (&too_long, "1".to_owned(), false),
    ] {
        let sent: [(&str, &[u8]); 1] = [(name, value.as_bytes())];
        fixture.ask(&sent, None).await.unwrap_err();
        let (_, _, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(!found.is_empty(), is_found, "{name}: {value}");
    }
    for (count, is_found) in [(64, true), (65, false)] {
        let query = format!("{}key={text}", "a=b&".repeat(count - 1));
        fixture.ask(&[], Some(&query)).await.unwrap_err();
        let (_, _, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(!found.is_empty(), is_found, "{count}");
    }
}

/// Under a nearly right name, a value as long as an id or a secret is perhaps one.
#[tokio::test]
async fn a_short_value_under_a_near_name_is_no_key() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::header("X-API-Key").unwrap())).await;
    let need = Requirement::scope(READ);
    for (length, is_guest) in [(15, true), (16, false)] {
        let value = "k".repeat(length);
        let headers: [(&str, &[u8]); 1] = [("x-api-kye", value.as_bytes())];
        let head = Head {
            headers: headers.as_slice(),
            connection: over_tls(),
            query: None,
        };
        let attempt = Attempt::of(&need);
        let admitted = fixture.edge.admit_or_guest(&head, attempt).await;
        assert_eq!(matches!(admitted, Ok(None)), is_guest, "{length}");
    }
}

#[tokio::test]
async fn a_near_miss_is_near() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| {
        let edge = edge
            .accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::header("Auth").unwrap());
        recording(edge, &observed)
    })
    .await;
    let text = fixture.text();
    let misspelt = |name: &str| {
        vec![NearMiss::MisspeltHeader {
            name: name.into(),
            meant: "X-API-Key".into(),
        }]
    };
    let other = |name: &str| vec![NearMiss::OtherHeader { name: name.into() }];
    let quoted = format!("'{text}'");
    let padded = format!("  {text}");
    for (name, value, expected) in [
        ("x-api-keyzz", "1", misspelt("x-api-keyzz")),
        ("x-pai-kye", "1", misspelt("x-pai-kye")),
        ("x-api-keyzzz", "1", vec![]),
        ("x-api-", "1", vec![]),
        ("ahtu", "1", vec![]),
        ("x-api-keyzzz", &*quoted, other("x-api-keyzzz")),
        ("x-api-keyzzz", &*padded, other("x-api-keyzzz")),
        ("x-api-keyzzz", "acme", vec![]),
        ("x-api-keyzzz", "acmetest_x", vec![]),
        ("authorization", &*quoted, vec![NearMiss::SchemeMissing]),
    ] {
        fixture
            .ask(&[(name, value.as_bytes())], None)
            .await
            .unwrap_err();
        let (_, _, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(found, expected, "{name}: {value}");
    }
    let long = "k".repeat(500);
    let sent: [(&str, &[u8]); 1] = [(&long, text.as_bytes())];
    let query = format!("{long}={text}");
    fixture.ask(&sent, Some(&query)).await.unwrap_err();
    let (_, _, found) = observed.lock().unwrap().pop().unwrap();
    let cut = "k".repeat(64);
    assert_eq!(
        found,
        [
            NearMiss::OtherHeader {
                name: cut.clone().into()
            },
            NearMiss::InQuery {
                parameter: cut.into()
            },
        ]
    );
}

#[tokio::test]
async fn a_form_that_is_not_accepted_is_named() {
    let (fixture, observed) = fixture().await;
    let (key, (id, secret)) = (fixture.text(), fixture.pair());
    let basic = |user: &str| format!("Basic {}", BASE64_STANDARD.encode(user));
    let other = |name: &str| vec![NearMiss::OtherHeader { name: name.into() }];
    let misspelt = |name: &str| {
        vec![NearMiss::MisspeltHeader {
            name: name.into(),
            meant: "Authorization".into(),
        }]
    };
    let in_header = NearMiss::SchemeInHeader {
        name: "x-api-key".into(),
    };
    let (doubled, malformed) = (NearMiss::SchemeDoubled, NearMiss::SchemeMalformed);
    let other_scheme = || vec![NearMiss::OtherScheme];
    for (name, value, expected) in [
        ("authorization", basic(&format!("{key}:")), other_scheme()),
        (
            "authorization",
            basic(&format!("api:{key}")),
            other_scheme(),
        ),
        ("authorization", basic("alice:secret"), vec![]),
        (
            "authorization",
            basic(&format!("{id}:{secret}")),
            other_scheme(),
        ),
        (
            "authorization",
            format!("Token token=\"{key}\""),
            other_scheme(),
        ),
        (
            "authorization",
            format!("Bearer Bearer {key}"),
            vec![doubled.clone()],
        ),
        (
            "authorization",
            format!("bearer Token {key}"),
            vec![doubled],
        ),
        (
            "authorization",
            format!("Bearer: {key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("Bearer : {key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("Bearer:{key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("Bearer={key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("Bearer{key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("bearer%20{key}"),
            vec![malformed.clone()],
        ),
        (
            "authorization",
            format!("\"Bearer {key}\""),
            vec![malformed.clone()],
        ),
        ("authorization", format!("'Bearer {key}'"), vec![malformed]),
        ("authorization", "Bearer x".to_owned(), vec![]),
        ("authorization", format!("Bearer {}", &key[..60]), vec![]),
        ("authorization", format!("Bearer \"{key}\""), vec![]),
        (
            "x-api-key",
            format!("Bearer {key}"),
            vec![in_header.clone()],
        ),
        ("x-api-key", format!("ApiKey {key}"), vec![in_header]),
        (
            "authorisation",
            format!("Bearer {key}"),
            misspelt("authorisation"),
        ),
        (
            "x-authorization",
            "x".to_owned(),
            misspelt("x-authorization"),
        ),
        (
            "authentication",
            format!("Bearer {key}"),
            other("authentication"),
        ),
        (
            "proxy-authorization",
            format!("Bearer {key}"),
            other("proxy-authorization"),
        ),
        (
            "sec-websocket-protocol",
            format!("acme.v1, acme.key.{key}"),
            other("sec-websocket-protocol"),
        ),
        ("sec-websocket-protocol", "acme.v1".to_owned(), vec![]),
    ] {
        let sent: [(&str, &[u8]); 1] = [(name, value.as_bytes())];
        fixture.ask(&sent, None).await.unwrap_err();
        let (_, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(found, expected, "{name}: {value}");
        let shown = format!("{found:?}");
        assert!(!shown.contains(&secret[..8]), "{shown}");
    }
}

#[tokio::test]
async fn a_read_form_is_no_near_miss() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| {
        let edge = edge
            .accept(KeyIn::authorization())
            .accept(KeyIn::basic())
            .accept(KeyIn::web_socket_protocol("acme.key.").unwrap());
        recording(edge, &observed)
    })
    .await;
    let short = &fixture.text()[..60];
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("api:{short}")));
    let protocol = format!("acme.v1, acme.key.{short}");
    for (name, value) in [
        ("authorization", short),
        ("authorization", &basic),
        ("sec-websocket-protocol", &protocol),
    ] {
        let sent: [(&str, &[u8]); 1] = [(name, value.as_bytes())];
        fixture.ask(&sent, None).await.unwrap_err();
        let (reason, _, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&*reason, found),
            ("the text is 21 characters short", vec![])
        );
    }
}

#[tokio::test]
async fn a_repeated_header_is_named() {
    let (fixture, observed) = fixture().await;
    let (key, bearer) = (fixture.text(), fixture.key.bearer());
    let joined = format!("{key}, {key}");
    let both = format!("{bearer}, {bearer}");
    let digest = "Digest username=\"a\", realm=\"b\"".to_owned();
    let repeated = |name: &str| vec![NearMiss::Repeated { name: name.into() }];
    for (sent, expected) in [
        (
            vec![("X-API-Key", &key), ("x-api-key", &key)],
            repeated("x-api-key"),
        ),
        (vec![("x-api-key", &joined)], repeated("x-api-key")),
        (
            vec![("authorization", &bearer), ("Authorization", &bearer)],
            repeated("authorization"),
        ),
        (vec![("authorization", &both)], repeated("authorization")),
        (
            vec![("authorization", &bearer), ("x-api-key", &key)],
            vec![],
        ),
        (vec![("authorization", &digest)], vec![]),
    ] {
        let sent: Vec<_> = sent
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        fixture.ask(&sent, None).await.unwrap_err();
        let (_, found) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(found, expected);
    }
}

/// Some gateways and languages write names with underscores.
#[tokio::test]
async fn underscores_are_read_as_hyphens() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| {
        let edge = edge
            .accept(KeyIn::header("X-Acme-My-API-Key").unwrap())
            .accept(KeyIn::pair("X-Acme-Own-Key-Id", "X-Acme-Own-Key-Secret").unwrap());
        recording(edge, &observed)
    })
    .await;
    for (name, meant) in [
        ("x_acme_my_api_key", Some("X-Acme-My-API-Key")),
        ("X_ACME_MY_API_KEY", Some("X-Acme-My-API-Key")),
        ("x_acme-my_api-key", Some("X-Acme-My-API-Key")),
        // With two slips more, and with three.
        ("x_acme_my_api_keyss", Some("X-Acme-My-API-Key")),
        ("x_acme_my_api_keysss", None),
        ("x_acme_own_key_secret", Some("X-Acme-Own-Key-Secret")),
        ("xacmemyapikey", None),
    ] {
        fixture.ask(&[(name, b"1")], None).await.unwrap_err();
        let (_, _, found) = observed.lock().unwrap().pop().unwrap();
        let expected = meant.map(|meant| NearMiss::MisspeltHeader {
            name: name.to_ascii_lowercase().into(),
            meant: meant.into(),
        });
        assert_eq!(found, Vec::from_iter(expected), "{name}");
    }
}

/// As Okta's SDK for Python 3.4.6 sends it.
#[tokio::test]
async fn a_scheme_without_a_space_is_named() {
    let observed = Events::default();
    let fixture =
        Fixture::new(|edge| recording(edge.accept(KeyIn::scheme("SSWS").unwrap()), &observed))
            .await;
    let sent = format!("SSWS{}", fixture.text());
    let sent: [(&str, &[u8]); 1] = [("Authorization", sent.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_err());
    let (_, _, found) = observed.lock().unwrap().pop().unwrap();
    assert_eq!(found, [NearMiss::SchemeMalformed]);
}
