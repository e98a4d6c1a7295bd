//! Requests that have waited since they were let through, such as for a look-up of what they name.

use keyward::http::{Connection, Edge, Head, KeyIn, Reason};
use keyward::key::{Resource, TenantId};
use keyward::manager::{Actor, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::{Attempt, DenialReason, Grant, KeyCache, Requirement};

use crate::common::{House, READ, over_tls};

async fn readmitted(edge: &Edge, grant: &Grant, need: &Requirement) -> u16 {
    let headers: &[(&str, &str)] = &[];
    let head = Head {
        headers,
        connection: over_tls(),
        query: None,
    };
    match edge.readmit(&head, grant, Attempt::of(need)).await {
        Ok(_) => 200,
        Err(refusal) => refusal.answer().status,
    }
}

async fn granted(house: &House, key: &TestKey) -> Grant {
    let bearer = key.bearer();
    let sent: [(&str, &[u8]); 1] = [("authorization", bearer.as_bytes())];
    let passage = house.ask(&sent, None).await.unwrap();
    passage.into_parts().0
}

#[tokio::test]
async fn a_key_that_has_ended_meanwhile_is_refused() {
    let house = House::new(|edge| edge.accept(KeyIn::bearer())).await;
    let need = Requirement::scope(READ);
    let grant = granted(&house, &house.key).await;
    assert_eq!(readmitted(&house.edge, &grant, &need).await, 200);
    assert_eq!(
        readmitted(&house.edge, &grant, &Requirement::full_access()).await,
        403,
        "the requirement is looked at anew"
    );

    let suspended = TestKey::issue(&house.keyward, [READ]).await;
    let of_suspended = granted(&house, &suspended).await;
    let manager = house.keyward.manager();
    let (actor, tenant) = (Actor::system("tests"), of_suspended.tenant().clone());
    manager
        .suspend(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    assert_eq!(readmitted(&house.edge, &of_suspended, &need).await, 401);
    manager
        .resume(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    assert_eq!(readmitted(&house.edge, &of_suspended, &need).await, 200);

    house.key.revoke(&house.keyward).await;
    assert_eq!(readmitted(&house.edge, &grant, &need).await, 401);
    let verifier = house.keyward.verifier();
    let denial = verifier.reverify(&grant, &Attempt::of(&need)).await;
    let denial = denial.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::Ended), "{denial:?}");
}

#[tokio::test]
async fn what_this_node_does_not_know_is_read() {
    // Of the reads, the first admits, and the third fails.
    let store = FaultyStore::over(MemoryStore::new()).on(Call::Get, 2..3, Fault::Unavailable);
    let keyward = builder(store, [READ])
        .cache(KeyCache::off())
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let house = House { keyward, key, edge };
    let need = Requirement::scope(READ);
    let grant = granted(&house, &house.key).await;
    assert_eq!(readmitted(&house.edge, &grant, &need).await, 200);
    assert_eq!(
        readmitted(&house.edge, &grant, &need).await,
        503,
        "what cannot be decided is no grant"
    );
    assert_eq!(readmitted(&house.edge, &grant, &need).await, 200);
    house.key.revoke(&house.keyward).await;
    assert_eq!(readmitted(&house.edge, &grant, &need).await, 401);
}

#[tokio::test]
async fn what_an_edge_requires_it_requires_again() {
    let house = House::new(|edge| edge.accept(KeyIn::bearer()).require_tls()).await;
    let grant = granted(&house, &house.key).await;
    let headers: &[(&str, &str)] = &[];
    let head = Head {
        headers,
        connection: Connection::default(),
        query: None,
    };
    let need = Requirement::any_key();
    let readmitted = house.edge.readmit(&head, &grant, Attempt::of(&need)).await;
    let refusal = readmitted.unwrap_err();
    assert!(matches!(refusal.reason(), Reason::InClear { .. }));
    let other = House::new(|edge| edge.accept(KeyIn::bearer())).await;
    assert_eq!(
        self::readmitted(&other.edge, &grant, &need).await,
        401,
        "another Keyward's grant"
    );
}

#[tokio::test]
async fn a_restricted_key_is_held_to_what_was_found() {
    let house = House::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project: Resource = "project:p-1".parse().unwrap();
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "restricted", READ);
    let key = TestKey::issue_as(&house.keyward, new.resources(project)).await;
    let bearer = key.bearer();
    let sent: [(&str, &[u8]); 1] = [("authorization", bearer.as_bytes())];
    let filters = Requirement::any_key().filters("project");
    let passage = house.ask_for(&filters, &sent, None).await.unwrap();
    let (grant, _permit) = passage.into_parts();
    let need = Requirement::any_key().resource("project");
    let verifier = house.keyward.verifier();
    for (found, is_good) in [("p-1", true), ("p-2", false)] {
        let attempt = Attempt::of(&need).resource("project", found);
        let decided = verifier.reverify(&grant, &attempt).await;
        assert_eq!(decided.is_ok(), is_good, "{found}");
    }
}
