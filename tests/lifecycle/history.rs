//! The events of one key, for those who may read the key.

use std::net::IpAddr;

use keyward::audit::EventAction::{KeyIssued, KeyRevoked, KeyRotated, KeyUpdated};
use keyward::audit::{Event, EventAction, SealedEvent};
use keyward::key::{KeyId, TenantId};
use keyward::manager::{
    Actor, KeyEvents, KeyUpdate, ManageError, NewKey, Operation, Overlap, Policy, PolicyError,
    Ruling,
};
use keyward::store::{Change, ChangeId, ChangeSet, CutoffScope, KeyStore, StoreError};
use keyward::testkit::{Call, Fault, FaultyStore, SeededRandom};

use crate::common::*;

async fn read(fixture: &Fixture, id: KeyId, after: u64, limit: usize) -> KeyEvents {
    let (manager, by, tenant) = (fixture.manager(), system(), tenant());
    let events = manager.events_of(&by, &tenant, id, after, limit);
    events.await.unwrap()
}

fn actions_of(events: &[SealedEvent]) -> Vec<EventAction> {
    events.iter().map(|sealed| sealed.event.action).collect()
}

/// Commits events of a tenant that name another key.
async fn fill(fixture: &Fixture, count: usize, tenant: &TenantId) {
    let inner = fixture.store.inner();
    let log = inner.events().unwrap();
    let first = log.read(None, 0, 1).await.unwrap().remove(0);
    let event = Event {
        tenant: Some(tenant.clone()),
        key: Some(KeyId::from_u128(7)),
        ..first.event
    };
    let scope = CutoffScope::from(&named(&format!("cut-{tenant}")));
    let before = fixture.now();
    let id = ChangeId::generate(&SeededRandom::new(1));
    let set = ChangeSet::one(id, Change::Cutoff { scope, before });
    let events = std::iter::repeat_n(event, count);
    let set = events.fold(set, ChangeSet::with_event);
    inner.commit(&set).await.unwrap();
}

#[tokio::test]
async fn a_key_has_its_own_events_only() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("followed").await.record().id();
    let other = fixture.issue("other").await.record().id();
    let (manager, admin) = (fixture.manager(), alice(None));
    let update = KeyUpdate::new().title("renamed");
    let from = admin.clone().from_address(IpAddr::from([203, 0, 113, 7]));
    let tenant = tenant();
    manager.update(&from, &tenant, id, update).await.unwrap();
    fixture.revoke(other).await;
    let rotated = manager.rotate(&admin, &tenant, id, Overlap::For(HOUR));
    let successor = rotated.await.unwrap().record().id();
    fixture.revoke(id).await;

    let history = read(&fixture, id, 0, 100).await;
    let expected = [KeyIssued, KeyUpdated, KeyRotated, KeyRevoked];
    assert_eq!(actions_of(&history.events), expected);
    assert_eq!(history.next, None);
    let updated = &history.events[1].event;
    assert_eq!(updated.client, Some(IpAddr::from([203, 0, 113, 7])));
    let whole = manager.events(&admin, &tenant, 0, 100).await.unwrap();
    let own = whole.into_iter().filter(|one| one.event.key == Some(id));
    assert_eq!(history.events, own.collect::<Vec<_>>());
    let of_successor = read(&fixture, successor, 0, 100).await;
    assert_eq!(actions_of(&of_successor.events), [KeyIssued]);
}

#[tokio::test]
async fn a_history_is_read_in_pages() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("followed").await.record().id();
    let (by, tenant) = (system(), tenant());
    for title in ["a", "b", "c", "d"] {
        fixture.issue("another").await;
        let update = KeyUpdate::new().title(title);
        let updated = fixture.manager().update(&by, &tenant, id, update);
        updated.await.unwrap();
    }
    let whole = read(&fixture, id, 0, 100).await.events;
    assert_eq!(whole.len(), 5);
    for limit in [0, 1, 2, 3, 5, usize::MAX] {
        let (mut events, mut after) = (Vec::new(), Some(0));
        while let Some(number) = after {
            let page = read(&fixture, id, number, limit).await;
            assert!(page.events.len() <= limit.max(1));
            events.extend(page.events);
            after = page.next;
        }
        assert_eq!(events, whole, "{limit}");
    }
    let end = read(&fixture, id, u64::MAX, 100).await;
    assert_eq!((end.events.len(), end.next), (0, None));
}

#[tokio::test]
async fn a_long_log_is_searched_in_steps() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("followed").await.record().id();
    fill(&fixture, 5, &named("other")).await;
    fill(&fixture, 10_500, &tenant()).await;
    fixture.revoke(id).await;
    let first = read(&fixture, id, 0, 100).await;
    assert_eq!(actions_of(&first.events), [KeyIssued]);
    // The issue and 9,999 events of another key; those of another tenant are not counted.
    assert_eq!(first.next, Some(10_005));
    let rest = read(&fixture, id, 10_005, 100).await;
    assert_eq!(actions_of(&rest.events), [KeyRevoked]);
    assert_eq!(rest.next, None);
    // A page without events may have a next one.
    let within = read(&fixture, id, 1, 100).await;
    assert_eq!((within.events.len(), within.next), (0, Some(10_006)));
}

/// Allows operations on the actor's own keys only.
#[derive(Debug)]
struct OwnKeysOnly;

#[keyward::async_trait]
impl Policy for OwnKeysOnly {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let is_own = operation.owner() == Some(actor.principal());
        Ok(if is_own {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

#[tokio::test]
async fn an_owner_reads_the_history_of_own_keys() {
    let open = Fixture::new().await;
    let hers = new_key("hers").owner(alice(None).principal().clone());
    let hers = open.issue_key(hers).await.record().id();
    let not_hers = open.issue("not hers").await.record().id();
    let fixture = open.beside(|builder| builder.policy(OwnKeysOnly)).await;
    let (manager, alice) = (fixture.manager(), alice(None));
    let of = async |id| manager.events_of(&alice, &tenant(), id, 0, 100).await;
    assert_eq!(actions_of(&of(hers).await.unwrap().events), [KeyIssued]);
    for id in [not_hers, KeyId::from_u128(7)] {
        let refused = of(id).await;
        assert!(matches!(refused, Err(ManageError::Refused)), "{refused:?}");
    }
    let whole = manager.events(&alice, &tenant(), 0, 100).await;
    assert!(matches!(whole, Err(ManageError::Refused)));
}

#[tokio::test]
async fn foreign_and_purged_keys_have_no_history() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await.record().id();
    let purged = fixture.issue("purged").await.record().id();
    fixture.revoke(purged).await;
    assert!(!read(&fixture, purged, 0, 9).await.events.is_empty());
    fixture.later(HOUR);
    let manager = fixture.manager();
    let (by, own) = (system(), tenant());
    let done = manager.purge(&by, &own, fixture.now(), None);
    assert_eq!(done.await.unwrap().keys, [purged]);
    for (actor, tenant, id) in [
        (alice(None), own.clone(), theirs),
        (alice(None), named("other"), theirs),
        (alice(None), own.clone(), KeyId::from_u128(7)),
        (alice(None), own.clone(), purged),
        (by.clone(), own.clone(), purged),
    ] {
        let missing = manager.events_of(&actor, &tenant, id, 0, 100).await;
        assert!(matches!(missing, Err(ManageError::NotFound)), "{missing:?}");
    }
    let whole = manager.events(&by, &own, 0, 100).await.unwrap();
    let of_purged = whole.iter().filter(|one| one.event.key == Some(purged));
    assert_eq!(of_purged.count(), 3, "the tenant's events still name it");
}

#[tokio::test]
async fn a_history_that_cannot_be_read_is_an_error() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("followed").await;
    let store = FaultyStore::over(fixture.store.inner().clone());
    let keyward = keyward::testkit::builder(store.clone(), [READ]);
    let keyward = keyward.open().await.unwrap();
    let (by, tenant, id) = (system(), tenant(), issued.record().id());
    for (fault, code) in [
        (
            Fault::Unavailable,
            StoreError::Unavailable("".into()).code(),
        ),
        (Fault::Unsupported, StoreError::Unsupported.code()),
    ] {
        let _ = store.clone().on(Call::ReadEvents, 0..u64::MAX, fault);
        match keyward.manager().events_of(&by, &tenant, id, 0, 9).await {
            Err(ManageError::Store(error)) => assert_eq!(error.code(), code),
            other => panic!("{other:?}"),
        }
        store.heal();
    }
}

#[tokio::test]
async fn a_log_that_does_not_go_on_is_an_error() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("followed").await.record().id();
    fixture.store.repeat_events();
    let (by, tenant) = (system(), tenant());
    match fixture.manager().events_of(&by, &tenant, id, 0, 9).await {
        Err(ManageError::Store(StoreError::Corrupt(_))) => {}
        other => panic!("{other:?}"),
    }
}
