//! What no other test would have noticed the loss of.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use keyward::http::{Answer, Connection, Edge, GrpcStatus, Head, KeyIn, NearMiss, RejectionReason};
use keyward::key::{KeyId, TenantId};
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder, keyward_with_key};
use keyward::verifier::{Attempt, Requirement};
use serde_json::{Value, json};

use crate::common::{Fixture, READ, over_tls, values};

type Told = Arc<Mutex<Vec<(String, Option<String>, Vec<NearMiss>)>>>;

/// Writes down what an observer is told.
fn written(edge: Edge, told: &Told) -> Edge {
    let into = Arc::clone(told);
    edge.observe(move |refused| {
        into.lock().unwrap().push((
            refused.reason.to_string(),
            refused.client.map(|client| client.to_string()),
            refused.near_misses.to_vec(),
        ));
    })
}

#[tokio::test]
async fn authorization_is_anyones_as_long_as_no_scheme_of_it_is_accepted() {
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
    assert_eq!(rejection.answer().status, 401);
    let sent = [digest, digest, ("x-api-key", text.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_ok());
    let padded = format!(" \tBearer {text}");
    let sent: [(&str, &[u8]); 1] = [("authorization", padded.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_ok());
}

#[tokio::test]
async fn a_query_without_a_credential_is_left_alone() {
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
async fn a_realm_can_end_neither_its_quotation_nor_its_line() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .realm("a\"\\b\r\nSet-Cookie: x\0é\u{7f}")
    })
    .await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(
        values(&rejection, "www-authenticate"),
        [r#"Bearer realm="abSet-Cookie: x""#]
    );
}

#[tokio::test]
async fn a_handlers_mistake_is_never_only_reported() {
    let told = Told::default();
    let fixture =
        Fixture::new(|edge| written(edge.accept(KeyIn::bearer()).report_only(), &told)).await;
    let bearer = fixture.key.bearer();
    let need = Requirement::any_key().checked_by_handler("project");
    let sent: [(&str, &[u8]); 1] = [("authorization", bearer.as_bytes())];
    let (grant, _permit) = fixture
        .ask_for(&need, &sent, None)
        .await
        .unwrap()
        .into_parts();
    let rejection = fixture.edge.review(&grant, 200).unwrap_err();
    assert!(!rejection.is_report_only());
    assert_eq!(rejection.answer().status, 500);
    assert_eq!(values(&rejection, "cache-control"), ["no-store"]);
    assert_eq!(
        told.lock().unwrap().pop().unwrap().0,
        "the handler never asked whether the key is permitted the `project`"
    );
    assert!(grant.permits("project", "p-1").is_ok());
    assert!(fixture.edge.review(&grant, 200).is_ok());
}

#[tokio::test]
async fn only_what_a_caller_sent_is_only_reported() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).report_only()).await;
    let unchecked = RejectionReason::Unchecked {
        kind: "project".into(),
    };
    for (reason, is_callers) in [
        (RejectionReason::RequestTooLarge, true),
        (RejectionReason::NotFound, false),
        (
            RejectionReason::LookupFailed("the database is away".into()),
            false,
        ),
        (RejectionReason::ResponseTooLarge, false),
        (unchecked, false),
    ] {
        let why = reason.to_string();
        let rejection = fixture.edge.reject(reason, None);
        assert_eq!(rejection.is_report_only(), is_callers, "{why}");
    }
}

#[tokio::test]
async fn the_answer_with_a_new_key_shows_it_in_no_log() {
    let (keyward, _) = keyward_with_key([READ]).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "new", READ);
    let issued = keyward.manager().issue(&Actor::system("tests"), new).await;
    let issued = issued.unwrap();
    let revealed = issued.reveal();
    let answer = Answer::from(&revealed);
    let (text, secret) = (issued.api_key().expose(), issued.api_key().expose_secret());
    assert!(String::from_utf8_lossy(&answer.body).contains(text));
    for shown in [
        format!("{answer:?}"),
        format!("{revealed:?}"),
        format!("{issued:?}"),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn an_operator_is_told_where_a_request_came_from() {
    let told = Told::default();
    let ids: Arc<Mutex<Vec<Option<KeyId>>>> = Arc::default();
    let (of, into) = (Arc::clone(&told), Arc::clone(&ids));
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .require_tls()
            .observe(move |refused| {
                into.lock().unwrap().push(refused.key_id());
                let client = refused.client.map(|client| client.to_string());
                let reason = refused.reason.to_string();
                of.lock().unwrap().push((reason, client, vec![]));
            })
    })
    .await;
    let client = || told.lock().unwrap().pop().unwrap().1;
    // At once, after the store was asked, and in clear.
    fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(client().as_deref(), Some("203.0.113.7"));
    let (other, _) = keyward::testkit::keyward_with_key([READ]).await;
    let unknown = TestKey::issue(&other, [READ]).await.bearer();
    let sent: [(&str, &[u8]); 1] = [("authorization", unknown.as_bytes())];
    let rejection = fixture.ask(&sent, None).await.unwrap_err();
    assert_eq!(client().as_deref(), Some("203.0.113.7"));
    let RejectionReason::Denied(denial) = rejection.reason() else {
        panic!("{rejection:?}");
    };
    assert_eq!(ids.lock().unwrap().pop().unwrap(), denial.key_id());
    assert!(denial.key_id().is_some());

    let need = Requirement::scope(READ);
    let in_clear = Connection {
        is_tls: false,
        ..over_tls()
    };
    let bearer = fixture.key.bearer();
    for (sent, reason) in [
        (vec![], "the request came without TLS".to_owned()),
        (
            vec![("authorization", bearer)],
            format!("the key {} came without TLS: rotate it", fixture.key.id()),
        ),
    ] {
        let head = Head {
            headers: sent.as_slice(),
            connection: in_clear,
            query: None,
        };
        let rejection = fixture.edge.admit(&head, Attempt::of(&need)).await;
        let answer = rejection.unwrap_err().into_answer();
        assert_eq!(
            body(&answer),
            problem(403, "Forbidden", "Use HTTPS.", "https_required")
        );
        let (told, client, _) = told.lock().unwrap().pop().unwrap();
        assert_eq!((told, client.as_deref()), (reason, Some("203.0.113.7")));
    }
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn problem(status: u16, title: &str, detail: &str, code: &str) -> Value {
    json!({"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code})
}

/// An answer of each status: 400, twice 401, 403, 429 and 503.
async fn of_each_class(accept: impl Fn(Edge) -> Edge) -> Vec<Answer> {
    let fixture = Fixture::new(&accept).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "narrow", READ);
    let narrow = TestKey::issue_as(&fixture.keyward, new.concurrency(NonZeroU32::MIN)).await;
    let bearer = narrow.bearer();
    let twice = format!("{bearer}, {bearer}");
    let (read, full) = (Requirement::scope(READ), Requirement::full_access());
    let mut answers = Vec::new();
    let held = [("authorization", bearer.as_bytes())];
    let _held = fixture.ask_for(&read, &held, None).await.unwrap();
    for (sent, need) in [
        (Some(&*twice), &read),
        (None, &read),
        (Some("Bearer x"), &read),
        (Some(&*fixture.key.bearer()), &full),
        (Some(&*bearer), &read),
    ] {
        let sent = sent.map(|value| ("authorization", value.as_bytes()));
        let sent: Vec<_> = sent.into_iter().collect();
        let rejection = fixture.ask_for(need, &sent, None).await.unwrap_err();
        answers.push(rejection.into_answer());
    }
    let store =
        FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..u64::MAX, Fault::Unavailable);
    let keyward = builder(store, [READ]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = accept(Edge::new(&keyward));
    let headers = [("authorization", key.bearer())];
    let head = Head {
        headers: headers.as_slice(),
        connection: over_tls(),
        query: None,
    };
    let rejection = edge.admit(&head, Attempt::of(&read)).await.unwrap_err();
    answers.push(rejection.into_answer());
    answers
}

#[tokio::test]
async fn each_problem_has_its_title_and_its_code() {
    let answers = of_each_class(|edge| edge.accept(KeyIn::bearer())).await;
    let problems: Vec<_> = answers.iter().map(body).collect();
    let denied = "The API key does not permit this.";
    assert_eq!(
        problems,
        [
            problem(
                400,
                "Bad Request",
                "Send one API key, once.",
                "several_credentials"
            ),
            problem(
                401,
                "Unauthorized",
                "An API key is required.",
                "missing_credential"
            ),
            problem(
                401,
                "Unauthorized",
                "The API key is not valid.",
                "invalid_credential"
            ),
            problem(403, "Forbidden", denied, "insufficient_access"),
            problem(
                429,
                "Too Many Requests",
                "Too many requests with this API key.",
                "too_many_requests"
            ),
            problem(
                503,
                "Service Unavailable",
                "The API key cannot be checked now. Try again.",
                "undecidable"
            ),
        ]
    );
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [400, 401, 401, 403, 429, 503]);
}

#[tokio::test]
async fn each_problem_has_its_status_of_grpc() {
    let answers = of_each_class(|edge| edge.accept(KeyIn::bearer()).renderer(GrpcStatus)).await;
    let header = |answer: &Answer, name| {
        let mut headers = answer.headers.iter();
        headers
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.clone())
            .unwrap()
    };
    let codes: Vec<_> = answers
        .iter()
        .map(|one| header(one, "grpc-status"))
        .collect();
    assert_eq!(codes, ["3", "16", "16", "7", "8", "14"]);
    for answer in &answers {
        let message = header(answer, "grpc-message");
        assert!(message.ends_with('.') && message.contains(' '), "{message}");
        // What the protocol would have percent-encoded is not in it.
        assert!(
            message
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b'%')
        );
    }
}

#[tokio::test]
async fn each_form_is_challenged_for_in_its_own_words() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::api_key())
            .accept(KeyIn::basic())
            .accept(KeyIn::query_parameter("api_key").unwrap())
    })
    .await;
    let none = fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(
        values(&none, "www-authenticate"),
        [
            r#"Bearer realm="api""#,
            r#"ApiKey realm="api""#,
            r#"Basic realm="api", charset="UTF-8""#,
            r#"ApiKey realm="api", in="query", name="api_key""#,
        ]
    );
    let twice = fixture
        .ask(&[], Some("api_key=a&api_key=b"))
        .await
        .unwrap_err();
    assert_eq!(
        values(&twice, "www-authenticate"),
        [r#"Bearer realm="api", error="invalid_request""#]
    );
}

#[tokio::test]
async fn a_near_miss_is_near() {
    let told = Told::default();
    let fixture = Fixture::new(|edge| {
        let edge = edge
            .accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::header("Auth").unwrap());
        written(edge, &told)
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
        let (_, _, found) = told.lock().unwrap().pop().unwrap();
        assert_eq!(found, expected, "{name}: {value}");
    }
    let long = "k".repeat(500);
    let sent: [(&str, &[u8]); 1] = [(&long, text.as_bytes())];
    let query = format!("{long}={text}");
    fixture.ask(&sent, Some(&query)).await.unwrap_err();
    let (_, _, found) = told.lock().unwrap().pop().unwrap();
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
