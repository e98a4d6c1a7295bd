//! Requests that have waited since they were let through, such as for a look-up of what they name.

use std::sync::{Arc, Mutex};

use keyward::http::{Connection, Edge, Head, KeyIn, Proxies, Rejection, RejectionReason};
use keyward::key::{KeyFormat, KeyId, KeyRecord, Network, Resource, TenantId};
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::{Attempt, Denial, DenialReason, Grant, KeyCache, Requirement};

use crate::common::{Fixture, READ, over_tls};

async fn reverified(edge: &Edge, grant: &Grant, need: &Requirement) -> u16 {
    let headers: &[(&str, &str)] = &[];
    let head = Head {
        headers,
        connection: over_tls(),
        query: None,
    };
    match edge.reverify(&head, grant, Attempt::of(need)).await {
        Ok(_) => 200,
        Err(rejection) => rejection.answer.status,
    }
}

#[tokio::test]
async fn a_key_ended_meanwhile_is_refused() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let need = Requirement::scope(READ);
    let grant = fixture
        .granted(&Requirement::scope(READ), &fixture.key)
        .await;
    assert_eq!(reverified(&fixture.edge, &grant, &need).await, 200);
    assert_eq!(
        reverified(&fixture.edge, &grant, &Requirement::full_access()).await,
        403,
        "the requirement is looked at anew"
    );

    let suspended = TestKey::issue(&fixture.keyward, [READ]).await;
    let of_suspended = fixture.granted(&Requirement::scope(READ), &suspended).await;
    let manager = fixture.keyward.manager();
    let (actor, tenant) = (Actor::system("tests"), of_suspended.tenant().clone());
    manager
        .suspend(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    assert_eq!(reverified(&fixture.edge, &of_suspended, &need).await, 401);
    manager
        .resume(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    assert_eq!(reverified(&fixture.edge, &of_suspended, &need).await, 200);

    fixture.key.revoke(&fixture.keyward).await;
    assert_eq!(reverified(&fixture.edge, &grant, &need).await, 401);
    let verifier = fixture.keyward.verifier();
    let denial = verifier.reverify(&grant, &Attempt::of(&need)).await;
    let denial = denial.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::Ended), "{denial:?}");
}

#[tokio::test]
async fn an_uncached_key_is_read_again() {
    // Of the reads, the first admits, and the third fails.
    let store = FaultyStore::over(MemoryStore::new()).on(Call::Get, 2..3, Fault::Unavailable);
    let keyward = builder(store, [READ])
        .cache(KeyCache::off())
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let fixture = Fixture { keyward, key, edge };
    let need = Requirement::scope(READ);
    let grant = fixture
        .granted(&Requirement::scope(READ), &fixture.key)
        .await;
    assert_eq!(reverified(&fixture.edge, &grant, &need).await, 200);
    assert_eq!(
        reverified(&fixture.edge, &grant, &need).await,
        503,
        "what cannot be decided is no grant"
    );
    assert_eq!(reverified(&fixture.edge, &grant, &need).await, 200);
    fixture.key.revoke(&fixture.keyward).await;
    assert_eq!(reverified(&fixture.edge, &grant, &need).await, 401);
}

#[tokio::test]
async fn tenant_and_environment_are_rechecked() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let grant = fixture
        .granted(&Requirement::scope(READ), &fixture.key)
        .await;
    let (edge, verifier) = (&fixture.edge, fixture.keyward.verifier());
    let need = Requirement::scope(READ);
    let own_tenant = grant.tenant().clone();
    let other_tenant = TenantId::new("another").unwrap();
    let formats = ["test", "live"].map(|name| KeyFormat::new("acme")?.environment(name));
    let [own, other] = formats.each_ref().map(|format| {
        let format = format.as_ref().unwrap();
        format.environments().next().unwrap()
    });
    let attempt = || Attempt::of(&need);
    for (attempt, refused) in [
        (attempt().tenant(&own_tenant).environment(own), None),
        (
            attempt().tenant(&other_tenant),
            Some("the key belongs to another tenant"),
        ),
        (
            attempt().environment(other),
            Some("the key belongs to another environment"),
        ),
    ] {
        let head = Head {
            headers: &[] as &[(&str, &str)],
            connection: over_tls(),
            query: None,
        };
        let of_edge = |rejection: Box<Rejection>| match &rejection.reason {
            RejectionReason::Denied(denial) => {
                (rejection.answer.status, denial.reason().to_string())
            }
            other => panic!("{other:?}"),
        };
        let of_verifier = |denial: Denial| (denial.class().status(), denial.reason().to_string());
        let refused = refused.map(|reason| (401, reason.to_owned()));
        let again = verifier
            .check_requirement(&grant, &attempt)
            .map_err(of_verifier);
        assert_eq!(again.err(), refused);
        let again = verifier.reverify(&grant, &attempt).await;
        assert_eq!(again.map_err(of_verifier).err(), refused);
        let again = edge
            .check_requirement(&head, &grant, attempt)
            .map_err(of_edge);
        assert_eq!(again.err(), refused);
        let again = edge.reverify(&head, &grant, attempt).await;
        assert_eq!(again.map_err(of_edge).err(), refused);
    }
}

#[tokio::test]
async fn edge_requirements_are_rechecked() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).require_tls()).await;
    let grant = fixture
        .granted(&Requirement::scope(READ), &fixture.key)
        .await;
    let headers: &[(&str, &str)] = &[];
    let head = Head {
        headers,
        connection: Connection::default(),
        query: None,
    };
    let need = Requirement::any_key();
    let reverified = fixture
        .edge
        .reverify(&head, &grant, Attempt::of(&need))
        .await;
    let rejection = reverified.unwrap_err();
    assert!(matches!(
        rejection.reason,
        RejectionReason::InsecureTransport { .. }
    ));
    let other = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    assert_eq!(
        self::reverified(&other.edge, &grant, &need).await,
        401,
        "another Keyward's grant"
    );
    let attempt = Attempt::of(&need);
    let denial = other.keyward.verifier().check_requirement(&grant, &attempt);
    let denial = denial.unwrap_err();
    assert!(
        matches!(denial.reason(), DenialReason::OtherKeyward),
        "{denial:?}"
    );
}

#[tokio::test]
async fn restrictions_are_rechecked() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-1".parse().unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "restricted", READ);
    let key = TestKey::issue_as(&fixture.keyward, new.resources(project)).await;
    let filters = Requirement::any_key().filters("project");
    let grant = fixture.granted(&filters, &key).await;
    let need = Requirement::any_key().resource("project");
    let verifier = fixture.keyward.verifier();
    for (found, is_good) in [("p-1", true), ("p-2", false)] {
        let attempt = Attempt::of(&need).resource("project", found);
        let decided = verifier.reverify(&grant, &attempt).await;
        assert_eq!(decided.is_ok(), is_good, "{found}");
    }
}

#[tokio::test]
async fn a_second_requirement_adds_checks() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let verifier = fixture.keyward.verifier();
    let any = || Requirement::any_key();
    let (project, region) = (
        any().checked_by_handler("project"),
        any().checked_by_handler("region"),
    );
    let (none, both) = (
        any(),
        any()
            .checked_by_handler("project")
            .checked_by_handler("region"),
    );
    let checks = ["project", "region"];
    for (outer, inner, owed, missed) in [
        (&none, &project, &checks[..1], None),
        (&none, &both, &checks[..], None),
        (&region, &project, &checks[..1], Some("region")),
        (&project, &project, &checks[..1], None),
    ] {
        let outer_grant = fixture.granted(outer, &fixture.key).await;
        let attempt = Attempt::of(inner);
        let at_once = verifier.check_requirement(&outer_grant, &attempt).unwrap();
        let waited = verifier.reverify(&outer_grant, &attempt).await.unwrap();
        for grant in [at_once, waited] {
            for owed in owed {
                assert_eq!(grant.unchecked(), Some(*owed), "{outer:?} {inner:?}");
                assert!(fixture.edge.review(&grant, 200).is_err());
                assert!(grant.permits(owed, "p-1").is_ok());
            }
            assert_eq!(grant.unchecked(), None, "{outer:?} {inner:?}");
            assert!(fixture.edge.review(&grant, 200).is_ok());
        }
        // The checks count for the guard outside, too.
        assert_eq!(outer_grant.unchecked(), missed, "{outer:?} {inner:?}");
    }
}

/// A report to an observer: the reason, the client, the key, and whether the key had been granted.
type Told = (String, Option<String>, Option<KeyId>, bool);

#[tokio::test]
async fn late_refusals_name_client_and_key() {
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let into = Arc::clone(&told);
    let proxy: Network = "203.0.113.0/24".parse().unwrap();
    let fixture = Fixture::new(|edge| {
        edge.accept(KeyIn::bearer())
            .trust_proxies(Proxies::forwarded([proxy]))
            .require_tls()
            .observe(move |event| {
                let client = event.client.map(|client| client.to_string());
                let is_granted = event
                    .grant
                    .is_some_and(|grant| grant.title().as_str() == "a key for tests");
                let reason = event.reason.to_string();
                let told = (reason, client, event.key().map(KeyRecord::id), is_granted);
                into.lock().unwrap().push(told);
            })
    })
    .await;
    let open = Edge::new(&fixture.keyward).accept(KeyIn::bearer());
    let open = Fixture {
        edge: open,
        keyward: fixture.keyward.clone(),
        key: TestKey::issue(&fixture.keyward, [READ]).await,
    };
    let grant = open.granted(&Requirement::scope(READ), &open.key).await;
    let id = open.key.id();
    let last = || {
        let mut told = told.lock().unwrap();
        let only = told.pop().unwrap();
        assert!(told.is_empty());
        only
    };
    let head = |headers: &'static [(&str, &str)]| Head {
        headers,
        connection: over_tls(),
        query: None,
    };
    let tls = head(&[("forwarded", "for=198.51.100.9;proto=https")]);
    let clear = head(&[("forwarded", "for=198.51.100.9;proto=http")]);
    let client = || Some("198.51.100.9".to_owned());
    let of = |reason: &str| (reason.to_owned(), client(), Some(id), true);

    let all = Requirement::full_access();
    let missing = "the key's access does not meet the requirement";
    let edge = &fixture.edge;
    let again = edge.check_requirement(&tls, &grant, Attempt::of(&all));
    assert_eq!(again.unwrap_err().answer.status, 403);
    assert_eq!(last(), of(missing));
    let waited = edge.reverify(&tls, &grant, Attempt::of(&all)).await;
    assert_eq!(waited.unwrap_err().answer.status, 403);
    assert_eq!(last(), of(missing));

    // The request no longer has its key, which came without TLS all the same.
    let need = Requirement::scope(READ);
    let rotate = format!("the key {id} came without TLS: rotate it");
    let again = edge.check_requirement(&clear, &grant, Attempt::of(&need));
    assert_eq!(again.unwrap_err().answer.status, 403);
    assert_eq!(last(), of(&rotate));

    let refused = edge.reject_request(&tls, RejectionReason::NotFound, Some(&grant));
    assert_eq!(refused.answer.status, 404);
    assert_eq!(last(), of("the requested resource does not exist"));
    let _ = edge.reject_request(&tls, RejectionReason::RequestTooLarge, None);
    let reason = "the request body exceeds its limit".to_owned();
    assert_eq!(last(), (reason, client(), None, false));
    let _ = edge.reject(RejectionReason::ResponseTooLarge, Some(&grant));
    let reason = "the response body exceeds its limit".to_owned();
    assert_eq!(last(), (reason, None, Some(id), true));
}
