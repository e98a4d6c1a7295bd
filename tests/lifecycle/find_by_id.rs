//! An operator finds the customer by the id in the log, and others learn nothing.

use std::sync::{Arc, Mutex};

use keyward::key::KeyId;
use keyward::manager::{
    Actor, Ceiling, ManageError, NewKey, Operation, Policy, PolicyError, Ruling, Tenants,
};
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore};

use crate::common::*;

/// A policy as one may be written before: it knows none but these operations.
#[derive(Debug)]
struct OwnersAndReaders;

#[keyward::async_trait]
impl Policy for OwnersAndReaders {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        Ok(match operation {
            Operation::Get { .. } | Operation::List { .. } => Ruling::Allow,
            _ if operation.owner() == Some(actor.principal()) => Ruling::Allow,
            _ => Ruling::Refuse,
        })
    }
}

/// Allows look-ups by id, except for one key, and keeps the questions.
#[derive(Debug, Clone)]
struct AllBut(Option<KeyId>, Arc<Mutex<Vec<String>>>);

#[keyward::async_trait]
impl Policy for AllBut {
    async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let Operation::FindById { id, found } = operation else {
            return Ok(Ruling::Allow);
        };
        let (tenant, owner) = (operation.tenant(), operation.owner());
        let asked = format!("{:?} of {tenant:?}, {owner:?}", found.is_some());
        self.1.lock().unwrap().push(asked);
        let is_hidden = found.is_some() && self.0 == Some(*id);
        Ok(if is_hidden {
            Ruling::Refuse
        } else {
            Ruling::Allow
        })
    }
}

fn is_missing<T>(found: &Result<T, ManageError>) -> bool {
    matches!(found, Err(ManageError::NotFound))
}

#[tokio::test]
async fn an_operator_gets_the_key_with_its_tenant() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("customer"), "theirs", READ);
    let issued = fixture.issue_key(theirs).await;
    let id = issued.record().id();
    let support = Actor::user("support", Tenants::All, Ceiling::Unlimited).unwrap();
    let found = fixture.manager().find_by_id(&support, id).await.unwrap();
    assert_eq!(found, *issued.record());
    assert_eq!(found.tenant(), &named("customer"));
    let missing = fixture.manager().find_by_id(&support, KeyId::from_u128(7));
    assert!(is_missing(&missing.await));
    // An ended key is found as well.
    let ours = fixture.issue("ours").await.record().id();
    fixture.revoke(ours).await;
    let found = fixture.manager().find_by_id(&support, ours).await.unwrap();
    assert!(found.revocation().is_some());
}

#[tokio::test]
async fn other_tenants_keys_look_missing_by_id() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("customer"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await.record().id();
    let ours = fixture.issue("ours").await;
    let (manager, alice) = (fixture.manager(), alice(None));
    let own = manager.find_by_id(&alice, ours.record().id()).await;
    assert_eq!(own.unwrap(), *ours.record());
    assert!(is_missing(&manager.find_by_id(&alice, theirs).await));
    let missing = manager.find_by_id(&alice, KeyId::from_u128(7)).await;
    assert!(is_missing(&missing));
    assert!(fixture.told().await.len() == 2, "no look-up is a change");
}

#[tokio::test]
async fn an_older_policy_refuses_ids() {
    let open = Fixture::new().await;
    let key = open.issue_key(new_key("hers").owner(alice(None).principal().clone()));
    let id = key.await.record().id();
    let fixture = open
        .beside(|builder| builder.policy(OwnersAndReaders))
        .await;
    let calls = fixture.store.calls();
    for actor in [alice(None), system()] {
        for id in [id, KeyId::from_u128(7)] {
            let found = fixture.manager().find_by_id(&actor, id).await;
            assert!(matches!(found, Err(ManageError::Refused)), "{found:?}");
        }
    }
    assert_eq!(fixture.store.calls(), calls, "nothing is read");
}

#[tokio::test]
async fn the_policy_can_hide_one_key_from_ids() {
    let open = Fixture::new().await;
    let (hidden, shown) = (open.issue("hidden").await, open.issue("shown").await);
    let (hidden, shown) = (hidden.record().id(), shown.record().id());
    let policy = AllBut(Some(hidden), Arc::default());
    let fixture = open.beside(|builder| builder.policy(policy.clone())).await;
    for actor in [alice(None), system()] {
        let find = async |id| fixture.manager().find_by_id(&actor, id).await;
        assert!(find(shown).await.is_ok());
        assert!(is_missing(&find(hidden).await));
        assert!(is_missing(&find(KeyId::from_u128(7)).await));
    }
    let asked = policy.1.lock().unwrap();
    let first = "false of None, None";
    let (tenant, owner) = (tenant(), system().principal().clone());
    let then = format!("true of {:?}, {:?}", Some(tenant), Some(owner));
    let each = [first, &then, first, &then, first];
    assert_eq!(*asked, [each, each].concat());
}

#[tokio::test]
async fn a_damaged_key_is_missing_for_tenants() {
    let store = FaultyStore::over(MemoryStore::new());
    let keyward = keyward::testkit::builder(store.clone(), [READ]);
    let keyward = keyward.open().await.unwrap();
    let key = keyward::testkit::TestKey::issue(&keyward, [READ]).await;
    let tenant = key.record().tenant().clone();
    let admin = Actor::user("admin", tenant, Ceiling::Unlimited).unwrap();
    let find = async |actor: &Actor| keyward.manager().find_by_id(actor, key.id()).await;
    assert!(find(&admin).await.is_ok());
    let _ = store.clone().on(Call::Get, 0..u64::MAX, Fault::Corrupt);
    assert!(is_missing(&find(&admin).await));
    let by_all = find(&system()).await;
    assert!(matches!(by_all, Err(ManageError::Store(_))), "{by_all:?}");
    store.heal();
    let _ = store.clone().on(Call::Get, 0..u64::MAX, Fault::Unavailable);
    for actor in [&admin, &system()] {
        let failed = find(actor).await;
        assert!(matches!(failed, Err(ManageError::Store(_))), "{failed:?}");
    }
}
