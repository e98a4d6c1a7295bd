//! Responses to callers are constant within a class, and other parsers can read them.

use std::num::NonZeroU32;

use http_auth::ChallengeRef;
use keyward::http::{Answer, Edge, GrpcStatus, Head, KeyIn, Problem, Renderer};
use keyward::key::{Resource, TenantId};
use keyward::manager::{Actor, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder, keyward_with_key};
use keyward::verifier::{Attempt, KeyCache, Requirement};
use problem_details::ProblemDetails;

use crate::common::{Fixture, READ, admit, over_tls, values};

fn challenges<'a>(values: &[&'a str]) -> Vec<ChallengeRef<'a>> {
    let parsed = values
        .iter()
        .map(|value| http_auth::ChallengeParser::new(value));
    parsed
        .flat_map(|challenges| challenges.map(Result::unwrap))
        .collect()
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let mut parameters = challenge.params.iter();
    let (_, value) = parameters.find(|(other, _)| *other == name)?;
    Some(value.to_unescaped())
}

fn problem(answer: &Answer) -> ProblemDetails {
    let content_type = ("content-type", "application/problem+json".to_owned());
    assert!(answer.headers.contains(&content_type), "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// All that can be wrong with a credential, each of another kind.
async fn refused_in_every_way(fixture: &Fixture) -> Vec<(&'static str, String)> {
    let (keyward, text) = (&fixture.keyward, fixture.text());
    let (manager, actor) = (keyward.manager(), keyward::manager::Actor::system("tests"));
    let tenant = TenantId::new("acme-inc").unwrap();
    let new = || NewKey::new(tenant.clone(), "refused", READ);
    let revoked = TestKey::issue_as(keyward, new()).await;
    revoked.revoke(keyward).await;
    let suspended = TestKey::issue_as(keyward, new()).await;
    manager
        .suspend(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    let network: keyward::key::Network = "198.51.100.0/24".parse().unwrap();
    let elsewhere = TestKey::issue_as(keyward, new().networks(network)).await;
    let unknown = {
        let (other, _) =
            keyward::testkit::keyward_with_key([READ.described("For tests")], READ).await;
        TestKey::issue_as(&other, new()).await
    };
    let wrong = {
        let secret = "x".repeat(43);
        let secret = keyward::key::Secret::new(secret).unwrap();
        let environment = keyward.format().environments().next().unwrap();
        keyward
            .format()
            .compose(environment, fixture.key.id(), &secret)
            .unwrap()
    };
    vec![
        ("empty", String::new()),
        ("rubbish", "Zm9vOmJhcg==".to_owned()),
        ("cut short", text[..text.len() - 1].to_owned()),
        ("oversize", "a".repeat(1_000)),
        ("another environment", text.replace("_test_", "_live_")),
        ("unknown", unknown.text().to_owned()),
        ("wrong secret", wrong.expose().to_owned()),
        ("revoked", revoked.text().to_owned()),
        ("suspended", suspended.text().to_owned()),
        ("outside its networks", elsewhere.text().to_owned()),
    ]
}

#[tokio::test]
async fn there_are_two_constant_401s() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let without = fixture.ask(&[], None).await.unwrap_err().answer;
    let other = [
        ("authorization", b"Digest x".as_slice()),
        ("x-api-key", b"x"),
    ];
    let other = fixture.ask(&other, Some("a=b")).await.unwrap_err().answer;
    assert_eq!(without, other);

    let mut refused = Vec::new();
    for (why, text) in refused_in_every_way(&fixture).await {
        let value = format!("Bearer {text}");
        for _ in 0..2 {
            let rejection = fixture
                .ask(&[("authorization", value.as_bytes())], None)
                .await;
            let answer = rejection.unwrap_err().answer;
            assert_eq!(answer.status, 401, "{why}");
            refused.push((why, answer));
        }
    }
    for (why, answer) in &refused {
        assert_eq!(*answer, refused[0].1, "{why}");
    }
    assert_ne!(without, refused[0].1);
    assert_eq!(
        problem(&without).detail.as_deref(),
        Some("An API key is required.")
    );
    assert_eq!(
        problem(&refused[0].1).detail.as_deref(),
        Some("The API key is not valid.")
    );
}

#[tokio::test]
async fn challenges_keep_the_accepted_order() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::bearer())
            .accept(KeyIn::basic())
            .accept(KeyIn::pair("X-Id", "X-Secret").unwrap())
            .realm("Acme \"reports\"")
    })
    .await;
    let without = fixture.ask(&[], None).await.unwrap_err();
    let asked = challenges(&values(&without, "www-authenticate"));
    let named: Vec<_> = asked
        .iter()
        .map(|challenge| (challenge.scheme, parameter(challenge, "name")))
        .collect();
    assert_eq!(
        named,
        [
            ("ApiKey", Some("X-API-Key".to_owned())),
            ("Bearer", None),
            ("Basic", None),
            ("ApiKey", Some("X-Id X-Secret".to_owned())),
        ]
    );
    for challenge in &asked {
        assert_eq!(
            parameter(challenge, "realm").as_deref(),
            Some("Acme reports")
        );
        assert_eq!(
            parameter(challenge, "error"),
            None,
            "RFC 6750 §3.1: no error without a credential"
        );
    }

    let wrong = fixture
        .ask(&[("authorization", b"Bearer x")], None)
        .await
        .unwrap_err();
    let errors: Vec<_> = challenges(&values(&wrong, "www-authenticate"))
        .iter()
        .map(|challenge| parameter(challenge, "error"))
        .collect();
    assert_eq!(errors, [None, Some("invalid_token".to_owned()), None, None]);
}

#[tokio::test]
async fn a_403_names_the_missing_scope() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).accept(KeyIn::basic())).await;
    let bearer = fixture.key.bearer();
    let sent: [(&str, &[u8]); 1] = [("authorization", bearer.as_bytes())];
    let need = Requirement::scope(scope!("write:editions").or(scope!("admin")));
    let rejection = fixture.ask_for(&need, &sent, None).await.unwrap_err();
    assert_eq!(rejection.answer.status, 403);
    let asked = challenges(&values(&rejection, "www-authenticate"));
    assert_eq!(asked.len(), 1, "no other scheme has a word for it");
    assert_eq!(
        parameter(&asked[0], "error").as_deref(),
        Some("insufficient_scope")
    );
    // The scopes of a challenge are needed together (RFC 6750 §3), so it names one alternative.
    assert_eq!(
        parameter(&asked[0], "scope").as_deref(),
        Some("write:editions")
    );

    let rejection = fixture
        .ask_for(&Requirement::full_access(), &sent, None)
        .await
        .unwrap_err();
    let asked = challenges(&values(&rejection, "www-authenticate"));
    assert_eq!(parameter(&asked[0], "scope"), None);
    assert_eq!(
        problem(&rejection.answer).detail.as_deref(),
        Some("This needs an API key with full access.")
    );
}

#[tokio::test]
async fn a_resource_not_permitted_is_a_403() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-1".parse().unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "restricted", READ);
    let key = TestKey::issue_as(&fixture.keyward, new.resources(project)).await;
    let need = Requirement::scope(READ).resource("project");
    let headers = [("authorization", key.bearer())];
    for (project, status) in [("p-1", None), ("p-2", Some(403))] {
        let head = Head {
            headers: headers.as_slice(),
            connection: over_tls(),
            query: None,
        };
        let attempt = Attempt::of(&need).resource("project", project);
        let rejection = fixture.edge.admit(&head, attempt).await.err();
        assert_eq!(
            rejection.as_ref().map(|rejection| rejection.answer.status),
            status,
            "{project}"
        );
        // Another key would do, but no other scope.
        let challenges = rejection
            .iter()
            .flat_map(|rejection| values(rejection, "www-authenticate"));
        assert_eq!(challenges.count(), 0);
    }
}

#[tokio::test]
async fn excess_concurrency_is_a_429() {
    // Where nothing is kept of a key, its places are counted all the same.
    for cache in [KeyCache::new(), KeyCache::off()] {
        let keyward = builder(MemoryStore::new(), [READ]).cache(cache);
        let keyward = keyward.open().await.unwrap();
        let edge = Edge::new(&keyward).accept(KeyIn::bearer());
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "narrow", READ);
        let key = TestKey::issue_as(&keyward, new.concurrency(NonZeroU32::MIN)).await;
        let need = Requirement::scope(READ);
        let ask = async || admit(&edge, &key, &need).await;
        let (_, permit) = ask().await.unwrap().into_parts();
        let rejection = ask().await.unwrap_err();
        assert_eq!(rejection.answer.status, 429);
        assert_eq!(values(&rejection, "retry-after"), ["1"]);
        assert_eq!(values(&rejection, "www-authenticate"), [""; 0]);
        drop(permit);
        assert!(ask().await.is_ok());
    }
}

#[tokio::test]
async fn an_undecidable_request_is_a_503() {
    let store =
        FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..u64::MAX, Fault::Unavailable);
    let keyward = builder(store, [READ]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let need = Requirement::scope(READ);
    let rejection = admit(&edge, &key, &need).await.unwrap_err();
    assert_eq!(rejection.answer.status, 503);
    assert_eq!(values(&rejection, "retry-after"), ["5"]);
    let detail = problem(&rejection.answer).detail;
    assert_eq!(
        detail.as_deref(),
        Some("The API key cannot be checked now. Try again.")
    );
    assert!(
        rejection.reason.to_string().contains("store"),
        "{}",
        rejection.reason
    );
}

#[tokio::test]
async fn refusals_are_uncached_and_secret_free() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let mut all = refused_in_every_way(&fixture).await;
    all.push(("none", "Digest".to_owned()));
    all.push(("several", format!("{0}, {0}", fixture.text())));
    for (why, text) in all {
        let value = format!("Bearer {text}");
        let rejection = fixture
            .ask(&[("authorization", value.as_bytes())], None)
            .await
            .unwrap_err();
        assert_eq!(values(&rejection, "cache-control"), ["no-store"], "{why}");
        assert!(
            text.is_empty() || !format!("{rejection:?}").contains(&*text),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_granted_response_is_private() {
    let accept = |edge: Edge| {
        edge.accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::bearer())
    };
    let fixture = Fixture::new(accept).await;
    let text = fixture.text();
    let sent: [(&str, &[u8]); 1] = [("x-api-key", text.as_bytes())];
    assert!(fixture.ask(&sent, None).await.is_ok());
    let added = |response: &[(&str, &str)]| {
        let added = fixture.edge.response_headers(response);
        added
            .map(|header| format!("{}: {}", header.name, header.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        added(&[]),
        ["cache-control: private", "vary: authorization, x-api-key"]
    );
    assert_eq!(
        added(&[("Cache-Control", "public, max-age=60")]),
        [
            "cache-control: max-age=60, private",
            "vary: authorization, x-api-key"
        ]
    );
    let fixture = Fixture::new(|edge| accept(edge).without_cache_headers()).await;
    assert_eq!(fixture.edge.response_headers(&[("a", "b")]).count(), 0);
}

#[tokio::test]
async fn grpc_clients_get_grpc_statuses() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).renderer(GrpcStatus)).await;
    let bearer = fixture.key.bearer();
    let twice = format!("{bearer}, {bearer}");
    for (sent, need, code) in [
        (None, Requirement::scope(READ), "16"),
        (Some("Bearer x"), Requirement::scope(READ), "16"),
        (Some(&*bearer), Requirement::full_access(), "7"),
        (Some(&*twice), Requirement::scope(READ), "3"),
    ] {
        let sent: Vec<_> = sent
            .map(|value| ("authorization", value.as_bytes()))
            .into_iter()
            .collect();
        let rejection = fixture.ask_for(&need, &sent, None).await.unwrap_err();
        assert_eq!(rejection.answer.status, 200);
        assert_eq!(values(&rejection, "grpc-status"), [code]);
        assert_eq!(values(&rejection, "content-type"), ["application/grpc"]);
        assert!(rejection.answer.body.is_empty());
    }
}

#[derive(Debug)]
struct Plain;

impl Renderer for Plain {
    fn render(&self, problem: &Problem, answer: &mut Answer) {
        answer.body = format!("{} {}\n", problem.status, problem.title()).into_bytes();
    }
}

#[tokio::test]
async fn a_host_may_answer_in_its_own_form() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).renderer(Plain)).await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(rejection.answer.body, b"401 Unauthorized\n");
    assert_eq!(
        values(&rejection, "www-authenticate"),
        [r#"Bearer realm="api""#]
    );
}

#[tokio::test]
async fn a_protocol_switch_is_a_success() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let need = Requirement::any_key().checked_by_handler("project");
    let grant = fixture.granted(&need, &fixture.key).await;
    for status in [101, 200, 206, 302, 304, 399] {
        assert!(fixture.edge.review(&grant, status).is_err(), "{status}");
    }
    for status in [400, 404, 500] {
        assert!(fixture.edge.review(&grant, status).is_ok(), "{status}");
    }
}

#[tokio::test]
async fn quoted_cache_control_is_one_value() {
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
async fn debug_of_a_revealed_key_hides_it() {
    let (keyward, _) = keyward_with_key([READ.described("For tests")], READ).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "new", READ);
    let issued = keyward.manager().issue(&Actor::system("tests"), new).await;
    let issued = issued.unwrap();
    let revealed = issued.reveal();
    let answer = Answer::from(&issued);
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
