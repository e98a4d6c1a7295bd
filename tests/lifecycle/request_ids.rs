//! Requests that are made again: one key for each.

use std::num::NonZeroU32;

use keyward::audit::EventAction;
use keyward::http::Answer as HttpAnswer;
use keyward::key::{KeyId, Metadata, RevokeReason, TenantId};
use keyward::manager::{
    Actor, Ceiling, InvalidKey, Issued, KeyUpdate, ManageError, NewKey, Overlap, Rotation,
    TenantRules,
};
use keyward::store::{Change, CutoffScope, StoreError};
use serde_json::json;

use crate::common::*;
use crate::store::Loss;

const LOST: [Loss; 3] = [Loss::Answer, Loss::Commit, Loss::Commit];

fn request(id: &str) -> NewKey {
    new_key("key").request_id(id)
}

impl Fixture {
    async fn ask(&self, key: NewKey) -> Result<Issued, ManageError> {
        self.manager().issue(&system(), key).await
    }

    async fn listed(&self) -> Vec<String> {
        titles(self, all()).await
    }
}

#[track_caller]
fn issued_before(answer: Result<Issued, ManageError>) -> KeyId {
    match answer {
        Err(ManageError::AlreadyIssued { id }) => id,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_reused(answer: Result<Issued, ManageError>, by: KeyId) {
    match answer {
        Err(ManageError::RequestIdReused { id }) => assert_eq!(id, by),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_one_key() {
    let fixture = Fixture::new().await;
    fixture.store.lose(LOST);
    let lost = fixture.ask(request("r-1")).await;
    assert!(matches!(
        lost,
        Err(ManageError::Store(StoreError::Indeterminate(_)))
    ));
    let id = issued_before(fixture.ask(request("r-1")).await);
    // From another node too, and however often.
    let beside = fixture.beside(|builder| builder).await;
    assert_eq!(issued_before(beside.ask(request("r-1")).await), id);
    assert_eq!(fixture.listed().await, ["key"]);
    assert_eq!(actions(&fixture.told().await), [EventAction::KeyIssued]);

    // The way on: the key is replaced, and its lost text is worth nothing.
    let rotation = Rotation::new(Overlap::None).request_id("r-2");
    let replaced = fixture.rotate(id, rotation).await.unwrap();
    assert_eq!(fixture.answer(replaced.api_key()).await, Answer::Admitted);
    assert_eq!(fixture.listed().await, ["key"]);
    assert_eq!(issued_before(fixture.ask(request("r-1")).await), id);
}

#[tokio::test]
async fn a_request_that_was_not_done_is_done() {
    let fixture = Fixture::new().await;
    for losses in [[Loss::Commit; 3], [Loss::Away, Loss::None, Loss::None]] {
        fixture.store.lose(losses);
        let id = format!("{losses:?}").replace(' ', "");
        assert!(fixture.ask(request(&id)).await.is_err());
        let issued = fixture.ask(request(&id)).await.unwrap();
        assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
        assert_eq!(
            issued_before(fixture.ask(request(&id)).await),
            issued.record().id()
        );
    }
    assert_eq!(fixture.listed().await.len(), 2);
}

#[tokio::test]
async fn a_request_meets_only_its_own() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let tenants: Vec<_> = ["a", "auser:b", "acme"]
        .map(|name| TenantId::new(name).unwrap())
        .into();
    let user = |name: &str| {
        let tenants = keyward::key::NonEmpty::new(tenants.clone()).unwrap();
        let tenants = keyward::manager::Tenants::Only(tenants);
        Actor::user(name, tenants, Ceiling::Unlimited).unwrap()
    };
    let integration = Actor::integration("c", tenants[0].clone(), Ceiling::Unlimited).unwrap();
    let mut ids = std::collections::HashSet::new();
    let owner = keyward::key::Principal::user("owner").unwrap();
    // The parts have lengths, so that none can run into the next.
    for request in ["x", "issuex"] {
        for tenant in &tenants {
            for actor in [user("c"), user("cissue"), user("buser:c")] {
                let key = NewKey::new(tenant.clone(), "key", READ).owner(owner.clone());
                let issued = manager.issue(&actor, key.request_id(request)).await;
                assert!(ids.insert(issued.unwrap().record().id()));
            }
        }
        let key = NewKey::new(tenants[0].clone(), "key", READ).owner(owner.clone());
        let issued = manager.issue(&integration, key.request_id(request)).await;
        assert!(ids.insert(issued.unwrap().record().id()));
    }
    // A rotation under the request id of the issue, and of two keys under one.
    let (one, two) = (fixture.issue("one").await, fixture.issue("two").await);
    for key in [one, two] {
        let rotation = Rotation::new(Overlap::None).request_id("x");
        let issued = fixture.rotate(key.record().id(), rotation).await;
        assert!(ids.insert(issued.unwrap().record().id()));
    }
    assert!(
        ids.iter().all(|id| id.to_string().as_bytes()[14] == b'4'),
        "version 4"
    );
}

#[tokio::test]
async fn another_key_needs_another_request_id() {
    let fixture = Fixture::new().await;
    let networks = keyward::key::Networks::only(["10.0.0.0/8".parse().unwrap()]).unwrap();
    let metadata = Metadata::try_from(json!({"a": 1})).unwrap();
    let first = fixture.ask(request("r").expires_in(HOUR)).await.unwrap();
    let id = first.record().id();
    fixture.later(SECOND);
    let same = || request("r").expires_in(HOUR);
    assert_eq!(issued_before(fixture.ask(same()).await), id);
    let end = first.record().restrictions().expires_at.unwrap();
    let dated = request("r")
        .expires_at(end)
        .owner(system().principal().clone());
    assert_eq!(issued_before(fixture.ask(dated).await), id, "the same key");
    let spaced = new_key(" key ").request_id("r").expires_in(HOUR);
    assert_eq!(issued_before(fixture.ask(spaced).await), id);
    for other in [
        new_key("other").request_id("r").expires_in(HOUR),
        NewKey::new(tenant(), "key", WRITE)
            .request_id("r")
            .expires_in(HOUR),
        request("r"),
        request("r").expires_in(HOUR * 2),
        same().networks(networks),
        same().metadata(metadata),
        same().owner(keyward::key::Principal::user("bob").unwrap()),
        same().not_before(fixture.now()),
    ] {
        is_reused(fixture.ask(other).await, id);
    }
    // Once the key was changed, it no longer shows the request.
    let renamed = KeyUpdate::new().title("renamed").never_expires();
    let manager = fixture.manager();
    manager
        .update(&system(), &tenant(), id, renamed)
        .await
        .unwrap();
    assert_eq!(issued_before(fixture.ask(same()).await), id);
    let bob = keyward::key::Principal::user("bob").unwrap();
    is_reused(fixture.ask(same().owner(bob)).await, id);
}

#[tokio::test]
async fn an_ended_key_was_issued_all_the_same() {
    let fixture = Fixture::new().await;
    let request = || request("r").expires_in(HOUR);
    let id = fixture.ask(request()).await.unwrap().record().id();
    fixture.later(HOUR);
    assert_eq!(issued_before(fixture.ask(request()).await), id, "expired");
    fixture.revoke(id).await;
    assert_eq!(issued_before(fixture.ask(request()).await), id, "revoked");
    fixture.later(SECOND);
    fixture.cut_off().await;
    assert_eq!(issued_before(fixture.ask(request()).await), id, "cut off");
    let purged = fixture
        .manager()
        .purge(&system(), &tenant(), fixture.now(), None)
        .await;
    assert_eq!(purged.unwrap().keys, [id]);
    assert_eq!(issued_before(fixture.ask(request()).await), id, "purged");
    assert!(fixture.listed().await.is_empty());
}

#[tokio::test]
async fn the_last_place_is_the_requests_own() {
    let rules = TenantRules::new().max_keys(NonZeroU32::MIN);
    let fixture = Fixture::with(|builder| builder.tenant_rules(rules)).await;
    let id = fixture.ask(request("r")).await.unwrap().record().id();
    assert_eq!(issued_before(fixture.ask(request("r")).await), id);
    let full = fixture.ask(request("other")).await;
    assert!(
        matches!(full, Err(ManageError::TenantFull { .. })),
        "{full:?}"
    );

    // Another node does the same request, between this one's read and its commit.
    let elsewhere = Fixture::new().await;
    let key = elsewhere.ask(request("late")).await.unwrap();
    fixture.revoke(id).await;
    let insert = Change::Insert(Box::new(key.record().encode().unwrap()));
    fixture.store.first([insert]);
    let answer = fixture.ask(request("late")).await;
    assert_eq!(issued_before(answer), key.record().id());
}

#[tokio::test]
async fn a_cutoff_hides_no_earlier_answer() {
    let (fixture, elsewhere) = (Fixture::new().await, Fixture::new().await);
    let key = elsewhere.ask(request("late")).await.unwrap();
    // Another node does the same request, and a cutoff ends its key, between this one's read and its commit.
    let insert = Change::Insert(Box::new(key.record().encode().unwrap()));
    let cutoff = Change::Cutoff {
        scope: CutoffScope::All,
        before: fixture.now() + SECOND,
    };
    fixture.store.first_all([insert, cutoff]);
    let answer = fixture.ask(request("late")).await;
    assert_eq!(issued_before(answer), key.record().id());
}

#[tokio::test]
async fn a_repeated_rotation_leaves_one_successor() {
    for overlap in [Overlap::None, Overlap::For(HOUR), Overlap::UntilRevoked] {
        let fixture = Fixture::new().await;
        let old = fixture.issue("key").await.record().id();
        let rotation = || Rotation::new(overlap).request_id("r");
        fixture.store.lose(LOST);
        assert!(fixture.rotate(old, rotation()).await.is_err());
        let id = issued_before(fixture.rotate(old, rotation()).await);
        assert_eq!(fixture.record(old).await.rotation().unwrap().successor, id);
        fixture.later(SECOND);
        assert_eq!(issued_before(fixture.rotate(old, rotation()).await), id);
        let lives = 1 + usize::from(overlap != Overlap::None);
        assert_eq!(fixture.listed().await.len(), lives);
        for other in [
            Rotation::new(overlap).never_expires().expires_in(HOUR),
            Rotation::new(Overlap::For(HOUR * 2)),
            Rotation::new(Overlap::Until(fixture.now() + HOUR * 3)),
        ] {
            is_reused(fixture.rotate(old, other.request_id("r")).await, id);
        }
        // Without one, or under another, the answer is as ever.
        let again = fixture
            .rotate(old, Rotation::new(overlap).request_id("s"))
            .await;
        match overlap {
            Overlap::None => assert!(matches!(again, Err(ManageError::AlreadyRevoked { .. }))),
            _ => assert!(
                matches!(again, Err(ManageError::AlreadyRotated { successor }) if successor == id)
            ),
        }
        let replaced = fixture.rotate(id, Overlap::None).await.unwrap();
        assert_eq!(fixture.answer(replaced.api_key()).await, Answer::Admitted);
        assert_eq!(issued_before(fixture.rotate(old, rotation()).await), id);
    }
}

#[tokio::test]
async fn an_overlap_cut_short_is_the_same_rotation() {
    let fixture = Fixture::new().await;
    let old = fixture.issue_key(new_key("key").expires_in(HOUR)).await;
    let id = old.record().id();
    let rotation = || Rotation::new(Overlap::For(DAY)).request_id("r");
    let successor = fixture.rotate(id, rotation()).await.unwrap();
    let again = issued_before(fixture.rotate(id, rotation()).await);
    assert_eq!(again, successor.record().id());
}

#[tokio::test]
async fn request_ids_are_bounded() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    for bad in ["", " ", "a b", "a\n", "é", &"x".repeat(256)] {
        let issued = fixture.ask(request(bad)).await;
        let rotated = fixture
            .rotate(id, Rotation::new(Overlap::None).request_id(bad))
            .await;
        for refused in [issued, rotated] {
            let is_refused = matches!(refused, Err(ManageError::Invalid(InvalidKey::RequestId(_))));
            assert!(is_refused, "{bad:?}: {refused:?}");
        }
    }
    let longest = "x".repeat(255);
    assert!(fixture.ask(request(&longest)).await.is_ok());
    // The request id is shown nowhere: a caller may have sent any text.
    let shown = format!(
        "{:?} {:?}",
        request("secret-id"),
        Rotation::new(Overlap::None).request_id("secret-id")
    );
    assert!(!shown.contains("secret-id"), "{shown}");
}

#[tokio::test]
async fn another_tenants_id_is_not_told_of() {
    let fixture = Fixture::new().await;
    // An importer may take any id, also the one that a request will have.
    let elsewhere = Fixture::new().await;
    let key = elsewhere.ask(request("r")).await.unwrap();
    let mut stored = key.record().encode().unwrap();
    stored.tenant = named("intruder");
    fixture.store.change(Change::Insert(Box::new(stored))).await;
    let answer = fixture.ask(request("r")).await;
    assert!(
        matches!(answer, Err(ManageError::IdTaken { id }) if id == key.record().id()),
        "{answer:?}"
    );
    assert!(fixture.ask(request("another")).await.is_ok());
}

#[tokio::test]
async fn a_repetition_is_authorised_as_the_first() {
    let fixture = Fixture::new().await;
    let alice = alice(None);
    let first = fixture.manager().issue(&alice, request("r")).await;
    let id = first.unwrap().record().id();
    let other = Actor::user("alice", named("other"), Ceiling::Unlimited).unwrap();
    let refused = fixture.manager().issue(&other, request("r")).await;
    assert!(matches!(refused, Err(ManageError::Refused)));
    let (at, reason) = (fixture.now(), RevokeReason::Leaked);
    fixture
        .store
        .change(Change::Revoke { id, at, reason })
        .await;
    let again = fixture.manager().issue(&alice, request("r")).await;
    let error = again.unwrap_err();
    let answer = HttpAnswer::from(&error);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (409, &json!("already_issued"))
    );
    assert_eq!(body["id"], id.to_string());
    let renamed = new_key("renamed")
        .request_id("r")
        .owner(system().principal().clone());
    let error = fixture.manager().issue(&alice, renamed).await.unwrap_err();
    let answer = HttpAnswer::from(&error);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (422, &json!("request_id_reused"))
    );
}
