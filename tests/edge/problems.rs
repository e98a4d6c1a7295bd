//! The problems, statuses and challenges of refused requests.

use std::num::NonZeroU32;

use keyward::http::{Answer, Edge, GrpcStatus, Head, KeyIn};
use keyward::key::{Resource, TenantId};
use keyward::manager::NewKey;
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::{Attempt, Requirement};
use serde_json::{Value, json};

use crate::common::{Fixture, READ, admit, over_tls, values};

pub(crate) fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) fn problem(status: u16, title: &str, detail: &str, code: &str) -> Value {
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
        answers.push(rejection.answer);
    }
    let store =
        FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..u64::MAX, Fault::Unavailable);
    let keyward = builder(store, [READ]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = accept(Edge::new(&keyward));
    let rejection = admit(&edge, &key, &read).await.unwrap_err();
    answers.push(rejection.answer);
    answers
}

#[tokio::test]
async fn each_problem_has_a_title_and_code() {
    let answers = of_each_class(|edge| edge.accept(KeyIn::bearer())).await;
    let problems: Vec<_> = answers.iter().map(body).collect();
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
            json!({
                "type": "about:blank",
                "title": "Forbidden",
                "status": 403,
                "detail": "This needs an API key with full access.",
                "code": "insufficient_scope",
                "sufficient_scopes": [],
            }),
            json!({
                "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
                "title": "Quota Exceeded",
                "status": 429,
                "detail": "Too many requests with this API key.",
                "code": "too_many_requests",
                "violated-policies": ["concurrency"],
            }),
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
async fn each_problem_has_a_grpc_status() {
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
        // It has no byte that the protocol percent-encodes.
        assert!(
            message
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b'%')
        );
    }
}

#[tokio::test]
async fn a_403_says_scope_or_resource() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-1".parse().unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "restricted", READ);
    let key = TestKey::issue_as(&fixture.keyward, new.resources(project)).await;
    let refused = async |need: Requirement, resources: &[(&str, &str)]| {
        let headers = [("authorization", key.bearer())];
        let head = Head {
            headers: headers.as_slice(),
            connection: over_tls(),
            query: None,
        };
        let attempt = resources
            .iter()
            .fold(Attempt::of(&need), |attempt, (kind, value)| {
                attempt.resource(kind, value)
            });
        let rejection = fixture.edge.admit(&head, attempt).await.unwrap_err();
        let body = body(&rejection.answer);
        assert_eq!(rejection.answer.status, 403, "{body}");
        (
            json!([
                body["code"],
                body["sufficient_scopes"],
                body["resource_kind"]
            ]),
            values(&rejection, "www-authenticate").concat(),
        )
    };
    let rule = scope!("write:editions").and(READ).or(scope!("admin"));
    let challenge =
        r#"Bearer realm="api", error="insufficient_scope", scope="write:editions read:editions""#;
    assert_eq!(
        refused(Requirement::scope(rule), &[]).await,
        (
            json!([
                "insufficient_scope",
                [["write:editions", "read:editions"], ["admin"]],
                null
            ]),
            challenge.to_owned()
        )
    );
    let project = || Requirement::scope(READ).resource("project");
    let many = [("project", "p-1"); 5];
    for (need, resources, code, kind) in [
        (
            project(),
            &[("project", "p-2")][..],
            "resource_not_permitted",
            Value::Null,
        ),
        (
            Requirement::scope(READ),
            &[],
            "restricted_key",
            json!("project"),
        ),
        (project(), &[], "resource_not_named", Value::Null),
        (project(), &many, "too_many_resources", Value::Null),
        // A kind that the key is not restricted in, and that the route forgot to bind.
        (
            project().resource("region"),
            &[("project", "p-1")],
            "resource_not_named",
            Value::Null,
        ),
    ] {
        let expected = (json!([code, null, kind]), String::new());
        assert_eq!(refused(need, resources).await, expected);
    }
}

#[tokio::test]
async fn each_form_has_its_challenge() {
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
async fn a_realm_cannot_break_out() {
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
async fn a_401_always_has_a_challenge() {
    let fixture = Fixture::new(|edge| edge).await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    let headers = &rejection.answer.headers;
    assert!(
        headers.iter().any(|(name, _)| *name == "www-authenticate"),
        "RFC 9110 §15.5.2"
    );
}
