//! The list of the tenants, and through it the list of all keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::key::{NonEmpty, TenantId};
use keyward::manager::{
    Actor, Ceiling, KeyQuery, ManageError, NewKey, Operation, Policy, PolicyError, Ruling, Tenants,
};
use keyward::store::StoreError;

use crate::common::*;

const NAMES: [&str; 5] = ["A", "a", "a-b", "b", "c"];

async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    for name in NAMES.iter().rev() {
        for title in ["one", "two"] {
            let key = NewKey::new(named(name), title, READ);
            fixture.issue_key(key).await;
        }
    }
    fixture
}

fn bound_to<const N: usize>(names: [&str; N]) -> Actor {
    let tenants = Tenants::Only(NonEmpty::new(names.map(named)).unwrap());
    Actor::user("alice", tenants, Ceiling::Unlimited).unwrap()
}

async fn listed(fixture: &Fixture, actor: &Actor, limit: usize) -> Vec<String> {
    let mut tenants: Vec<TenantId> = Vec::new();
    loop {
        let page = fixture.manager().tenants(actor, tenants.last(), limit);
        let page = page.await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return tenants.iter().map(ToString::to_string).collect();
        }
        tenants.extend(page);
    }
}

#[tokio::test]
async fn tenants_are_listed_page_by_page() {
    let fixture = filled().await;
    for limit in [1, 2, 5, 1_000, usize::MAX] {
        assert_eq!(listed(&fixture, &system(), limit).await, NAMES);
    }
    let none = fixture.manager().tenants(&system(), None, 0).await.unwrap();
    assert!(none.is_empty());
    // With the keys of each, the list over all.
    let mut keys = 0;
    for name in listed(&fixture, &system(), 2).await {
        let query = KeyQuery::of(&named(&name));
        let list = fixture.manager().list(&system(), &query).await.unwrap();
        keys += list.keys.len();
    }
    assert_eq!(keys, 2 * NAMES.len());
}

#[tokio::test]
async fn an_actor_sees_its_own_tenants_only() {
    let fixture = filled().await;
    let alice = bound_to(["c", "none", "a", "a-b"]);
    for limit in [1, 2, 100] {
        assert_eq!(listed(&fixture, &alice, limit).await, ["a", "a-b", "c"]);
    }
    let after = named("a");
    let page = fixture.manager().tenants(&alice, Some(&after), 1).await;
    assert_eq!(page.unwrap(), [named("a-b")]);
    // Another's place in the list is a place like any other.
    let after = named("b");
    let page = fixture.manager().tenants(&alice, Some(&after), 9).await;
    assert_eq!(page.unwrap(), [named("c")]);
    assert!(listed(&fixture, &bound_to(["none"]), 9).await.is_empty());
}

#[tokio::test]
async fn a_store_may_not_list_tenants() {
    let fixture = filled().await;
    fixture.store.list_tenants(false);
    let refused = fixture.manager().tenants(&system(), None, 9).await;
    assert!(matches!(
        refused,
        Err(ManageError::Store(StoreError::Unsupported))
    ));
    // An actor's own tenants are found by their keys.
    assert_eq!(listed(&fixture, &bound_to(["b", "none"]), 9).await, ["b"]);
}

#[derive(Debug, Clone, Default)]
struct Unless(Arc<AtomicBool>);

#[keyward::async_trait]
impl Policy for Unless {
    async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let is_tenants = matches!(operation, Operation::ListTenants);
        assert_eq!(is_tenants, operation.tenant().is_none());
        assert!(!is_tenants || operation.owner().is_none());
        Ok(if is_tenants && self.0.load(Ordering::SeqCst) {
            Ruling::Refuse
        } else {
            Ruling::Allow
        })
    }
}

#[tokio::test]
async fn the_policy_decides_who_lists_tenants() {
    let policy = Unless::default();
    let fixture = Fixture::with(|builder| builder.policy(policy.clone())).await;
    fixture.issue("key").await;
    assert_eq!(listed(&fixture, &system(), 9).await, ["acme-inc"]);
    policy.0.store(true, Ordering::SeqCst);
    let calls = fixture.store.calls();
    for actor in [system(), alice(None)] {
        let refused = fixture.manager().tenants(&actor, None, 9).await;
        assert!(matches!(refused, Err(ManageError::Refused)));
    }
    assert_eq!(fixture.store.calls(), calls, "nothing was read");
}

#[tokio::test]
async fn a_store_that_goes_in_circles_is_caught() {
    let fixture = filled().await;
    fixture.store.repeat_tenants();
    let manager = fixture.manager();
    let refused = manager.tenants(&system(), Some(&named("c")), 9).await;
    assert!(matches!(
        refused,
        Err(ManageError::Store(StoreError::Corrupt(_)))
    ));
}
