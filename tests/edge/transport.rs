//! Where TLS is required, and where requests come from.

use std::sync::{Arc, Mutex};

use keyward::http::{Connection, Edge, Head, KeyIn, Proxies, RejectionReason};
use keyward::key::{KeyId, Network, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::TestKey;
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Events, Fixture, READ, over_tls};
use crate::problems::{body, problem};

async fn status(edge: &Edge, connection: Connection, headers: &[(&str, String)]) -> u16 {
    let head = Head {
        headers,
        connection,
        query: None,
    };
    let need = Requirement::scope(READ);
    match edge.admit(&head, Attempt::of(&need)).await {
        Ok(_) => 200,
        Err(rejection) => rejection.answer.status,
    }
}

fn from(peer: &str, is_tls: bool) -> Connection {
    Connection {
        peer: Some(peer.parse().unwrap()),
        is_tls,
    }
}

fn proxy() -> [Network; 1] {
    ["10.0.0.0/8".parse().unwrap()]
}

#[tokio::test]
async fn keys_sent_in_clear_are_reported() {
    let told: Arc<Mutex<Vec<Option<KeyId>>>> = Arc::default();
    let into = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .require_tls()
            .observe(move |event| {
                into.lock()
                    .unwrap()
                    .push(event.claimed_key().map(|claimed| claimed.id));
            })
    })
    .await;
    let good = [("authorization", fixture.key.bearer())];
    let before = fixture.keyward.verifier().stats();
    for forged in [
        None,
        Some(("x-forwarded-proto", "https")),
        Some(("forwarded", "proto=https")),
    ] {
        let mut headers = good.to_vec();
        headers.extend(forged.map(|(name, value)| (name, value.to_owned())));
        let head = Head {
            headers: headers.as_slice(),
            connection: from("203.0.113.7", false),
            query: None,
        };
        let need = Requirement::scope(READ);
        let rejection = fixture
            .edge
            .admit(&head, Attempt::of(&need))
            .await
            .unwrap_err();
        let answer = rejection.answer;
        assert_eq!(answer.status, 403);
        assert!(
            answer.headers.iter().all(|(name, _)| *name != "location"),
            "{answer:?}"
        );
        assert_eq!(told.lock().unwrap().pop(), Some(Some(fixture.key.id())));
    }
    assert_eq!(
        status(&fixture.edge, from("203.0.113.7", false), &[]).await,
        403
    );
    assert_eq!(told.lock().unwrap().pop(), Some(None), "it bore no key");
    let after = fixture.keyward.verifier().stats();
    assert_eq!(
        (after.tag_hashes, after.store_reads),
        (before.tag_hashes, before.store_reads)
    );
    assert_eq!(
        status(&fixture.edge, from("203.0.113.7", true), &good).await,
        200
    );
}

#[tokio::test]
async fn reports_say_which_key_was_in_clear() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .require_tls()
            .observe(move |event| into.lock().unwrap().push(event.reason.to_string()))
    })
    .await;
    let key = fixture.key.id();
    for (sent, reason) in [
        (None, "the request came without TLS".to_owned()),
        // Of another system, or of none.
        (
            Some("Bearer key-17.k9".to_owned()),
            "a credential came without TLS: if it is a key, rotate it".to_owned(),
        ),
        (
            Some(fixture.key.bearer()),
            format!("the key {key} came without TLS: rotate it"),
        ),
    ] {
        let headers: Vec<_> = sent
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        assert_eq!(
            status(&fixture.edge, from("203.0.113.7", false), &headers).await,
            403
        );
        assert_eq!(told.lock().unwrap().pop(), Some(reason));
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .require_tls()
            .trust_proxies(Proxies::x_forwarded(proxy()))
    })
    .await;
    let network: Network = "198.51.100.0/24".parse().unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "at home", READ);
    let key = TestKey::issue_as(&fixture.keyward, new.networks(network)).await;
    let forwarded = |client: &str, proto: &str| {
        [
            ("authorization", key.bearer()),
            ("x-forwarded-for", client.to_owned()),
            ("x-forwarded-proto", proto.to_owned()),
        ]
    };
    for (peer, headers, expected) in [
        ("10.0.0.1", forwarded("198.51.100.9", "https"), 200),
        ("::ffff:10.0.0.1", forwarded("198.51.100.9", "https"), 200),
        // Headers of a peer that is not a named proxy do not count.
        ("203.0.113.7", forwarded("198.51.100.9", "https"), 403),
        (
            "10.0.0.1",
            forwarded("198.51.100.9, 203.0.113.7", "https"),
            401,
        ),
        ("10.0.0.1", forwarded("203.0.113.7", "https"), 401),
        ("10.0.0.1", forwarded("unknown", "https"), 401),
        ("10.0.0.1", forwarded("198.51.100.9", "http"), 403),
        ("10.0.0.1", forwarded("198.51.100.9", ""), 403),
    ] {
        let got = status(&fixture.edge, from(peer, false), &headers).await;
        assert_eq!(got, expected, "{peer} {:?}", &headers[1..]);
    }
    let unnamed = [
        ("authorization", key.bearer()),
        ("x-forwarded-proto", "https".to_owned()),
    ];
    assert_eq!(
        status(&fixture.edge, from("10.0.0.1", false), &unnamed).await,
        403
    );
    let aliases = [
        ("authorization", key.bearer()),
        ("x_forwarded_for", "198.51.100.9".to_owned()),
        ("x_forwarded_proto", "https".to_owned()),
    ];
    assert_eq!(
        status(&fixture.edge, from("10.0.0.1", false), &aliases).await,
        403
    );
}

#[tokio::test]
async fn reports_name_the_client_address() {
    let told = Events::default();
    let ids: Arc<Mutex<Vec<Option<KeyId>>>> = Arc::default();
    let (of, into) = (Arc::clone(&told), Arc::clone(&ids));
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .require_tls()
            .observe(move |event| {
                into.lock()
                    .unwrap()
                    .push(event.claimed_key().map(|claimed| claimed.id));
                let client = event.client.map(|client| client.to_string());
                let reason = event.reason.to_string();
                of.lock().unwrap().push((reason, client, vec![]));
            })
    })
    .await;
    let client = || told.lock().unwrap().pop().unwrap().1;
    // At once, after the store was asked, and in clear.
    fixture.ask(&[], None).await.unwrap_err();
    assert_eq!(client().as_deref(), Some("203.0.113.7"));
    let (other, _) = keyward::testkit::keyward_with_key([READ.described("For tests")], READ).await;
    let unknown = TestKey::issue(&other, [READ]).await.bearer();
    let sent: [(&str, &[u8]); 1] = [("authorization", unknown.as_bytes())];
    let rejection = fixture.ask(&sent, None).await.unwrap_err();
    assert_eq!(client().as_deref(), Some("203.0.113.7"));
    let RejectionReason::Denied(denial) = &rejection.reason else {
        panic!("{rejection:?}");
    };
    assert_eq!(
        ids.lock().unwrap().pop().unwrap(),
        denial.claimed_key().map(|claimed| claimed.id)
    );
    assert!(denial.claimed_key().is_some());

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
        let answer = rejection.unwrap_err().answer;
        assert_eq!(
            body(&answer),
            problem(403, "Forbidden", "Use HTTPS.", "https_required")
        );
        let (told, client, _) = told.lock().unwrap().pop().unwrap();
        assert_eq!((told, client.as_deref()), (reason, Some("203.0.113.7")));
    }
}
