//! Keys that come from web browsers, where they are refused.

use std::sync::{Arc, Mutex};

use keyward::http::{Edge, Head, KeyIn};
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Events, Fixture, READ, over_tls, recording};
use crate::problems::{body, problem};

fn refusing(edge: Edge) -> Edge {
    edge.accept(KeyIn::bearer()).refuse_browsers()
}

/// Headers by which a browser shows.
const SHOWING: [(&str, &[u8]); 5] = [
    ("origin", b"https://app.example"),
    ("origin", b"null"),
    ("sec-fetch-site", b"same-origin"),
    ("sec-fetch-site", b"cross-site"),
    ("Sec-Fetch-Site", b"none"),
];

#[tokio::test]
async fn keys_from_browsers_are_refused() {
    let fixture = Fixture::new(refusing).await;
    let (good, half) = (fixture.key.bearer(), "Bearer acme_test_1".to_owned());
    let before = fixture.keyward.verifier().stats();
    for shows in SHOWING {
        // Good or not, the answer is the same.
        for sent in [&*good, &*half, "Bearer", "Bearer a, b"] {
            let headers = [("authorization", sent.as_bytes()), shows];
            let rejection = fixture.ask(&headers, None).await.unwrap_err();
            assert_eq!(rejection.answer.status, 403, "{shows:?}");
            let detail = "API keys are not accepted from web browsers. Send them from a server.";
            let expected = problem(403, "Forbidden", detail, "from_browser");
            assert_eq!(body(&rejection.answer), expected);
            let headers: Vec<_> = rejection
                .answer
                .headers
                .iter()
                .map(|(name, _)| *name)
                .collect();
            assert_eq!(headers, ["cache-control", "content-type"]);
        }
        let without = fixture.ask(&[shows], None).await.unwrap_err();
        assert_eq!(without.answer.status, 401, "{shows:?}");
    }
    let after = fixture.keyward.verifier().stats();
    assert_eq!(
        (after.store_reads, after.fast_hashes, after.tag_hashes),
        (before.store_reads, before.fast_hashes, before.tag_hashes)
    );
}

#[tokio::test]
async fn other_clients_are_no_browsers() {
    let fixture = Fixture::new(refusing).await;
    let good = fixture.key.bearer();
    for (name, value) in [
        ("accept", "*/*"),
        // As the fetch of Node.js sends it.
        ("sec-fetch-mode", "cors"),
        ("user-agent", "Mozilla/5.0"),
        ("referer", "https://app.example/"),
    ] {
        let headers = [("authorization", good.as_bytes()), (name, value.as_bytes())];
        assert!(fixture.ask(&headers, None).await.is_ok(), "{name}");
    }
    let open = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let good = open.key.bearer();
    for shows in SHOWING {
        let headers = [("authorization", good.as_bytes()), shows];
        assert!(open.ask(&headers, None).await.is_ok(), "{shows:?}");
    }
}

#[tokio::test]
async fn the_operator_sees_which_key_to_rotate() {
    let told = Events::default();
    let fixture = Fixture::new(|edge| recording(refusing(edge), &told)).await;
    let (good, id) = (fixture.key.bearer(), fixture.key.id());
    for (sent, reason) in [
        (
            &*good,
            format!("the key {id} came from a web browser: rotate it"),
        ),
        (
            "Bearer x",
            "a credential came from a web browser: if it is a key, rotate it".to_owned(),
        ),
    ] {
        let headers = [("authorization", sent.as_bytes()), SHOWING[0]];
        assert!(fixture.ask(&headers, None).await.is_err());
        assert_eq!(told.lock().unwrap().pop().unwrap().0, reason);
    }
}

#[tokio::test]
async fn an_inner_edge_refuses_browsers_too() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let need = Requirement::scope(READ);
    let grant = fixture.granted(&need, &fixture.key).await;
    let proven: Arc<Mutex<Vec<bool>>> = Arc::default();
    let into = Arc::clone(&proven);
    let strict = refusing(Edge::new(&fixture.keyward)).observe(move |event| {
        let is_proven = event.key().is_some() && event.claimed_key().is_none();
        into.lock().unwrap().push(is_proven);
    });
    // The outer edge has removed the credential.
    let asked = |headers: &[(&str, &[u8])]| {
        let head = Head {
            headers,
            connection: over_tls(),
            query: None,
        };
        strict
            .check_requirement(&head, &grant, Attempt::of(&need))
            .err()
    };
    assert!(asked(&[]).is_none());
    let refused = asked(&[SHOWING[0]]).unwrap();
    assert_eq!(
        (
            refused.answer.status,
            refused.reason.to_string().contains("browser")
        ),
        (403, true)
    );
    assert_eq!(*proven.lock().unwrap(), [true]);
}
