//! Who may not is told so before anything is done, and learns nothing of what is there.

use std::sync::{Arc, Mutex};

use keyward::key::{KeyId, Principal, RevokeReason, TenantId};
use keyward::manager::{
    Actor, KeyBound, KeyQuery, KeyUpdate, ManageError, NewKey, Operation, Overlap, Policy,
    PolicyError, RevokeAll, RuleBook, Ruling, TenantRules,
};
use keyward::scope;
use keyward::store::{Change, KeyStore};

use crate::common::*;

/// What each call on one key says.
async fn on_a_key(
    fixture: &Fixture,
    actor: &Actor,
    tenant: &TenantId,
    id: KeyId,
) -> Vec<ManageError> {
    let manager = fixture.manager();
    let update = KeyUpdate::new().title("mine");
    let leaked = RevokeReason::Leaked;
    vec![
        manager.get(actor, tenant, id).await.unwrap_err(),
        manager.view(actor, tenant, id).await.unwrap_err(),
        manager
            .events_of(actor, tenant, id, 0, 100)
            .await
            .unwrap_err(),
        manager.revoke(actor, tenant, id, leaked).await.unwrap_err(),
        manager.update(actor, tenant, id, update).await.unwrap_err(),
        manager.suspend(actor, tenant, id).await.unwrap_err(),
        manager.resume(actor, tenant, id).await.unwrap_err(),
        manager
            .rotate(actor, tenant, id, Overlap::None)
            .await
            .unwrap_err(),
        manager
            .rotate(actor, tenant, id, Overlap::UntilRevoked)
            .await
            .unwrap_err(),
    ]
}

/// What each call on a tenant says.
async fn on_a_tenant(fixture: &Fixture, actor: &Actor, tenant: &TenantId) -> Vec<ManageError> {
    let manager = fixture.manager();
    let all = RevokeAll::new(RevokeReason::Leaked);
    let (id, reason) = (KeyId::from_u128(7), RevokeReason::Leaked);
    let record = KeyBound::revoked(id, tenant.clone(), fixture.now(), reason);
    let key = NewKey::new(tenant.clone(), "", scope!("undeclared"))
        .environment("test")
        .owner(Principal::system("root").unwrap());
    vec![
        manager.issue(actor, key).await.unwrap_err(),
        manager.revoke_all(actor, tenant, all).await.unwrap_err(),
        manager
            .deny_issued_before(actor, fixture.now(), tenant)
            .await
            .unwrap_err(),
        manager
            .export_restrictions(actor, tenant, None)
            .await
            .unwrap_err(),
        manager
            .replay_restrictions(actor, [record])
            .await
            .unwrap_err(),
        manager
            .list(actor, &KeyQuery::of(tenant))
            .await
            .unwrap_err(),
        manager.events(actor, tenant, 0, 100).await.unwrap_err(),
        manager
            .purge(actor, tenant, fixture.now(), None)
            .await
            .unwrap_err(),
        manager.remove_tenant(actor, tenant).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn foreign_and_unknown_keys_look_alike() {
    let fixture = Fixture::new().await;
    let other = named("other");
    let theirs = fixture
        .issue_key(NewKey::new(other.clone(), "theirs", READ))
        .await;
    let (id, nobody) = (theirs.record().id(), KeyId::from_u128(7));
    fixture.told().await;
    let alice = alice(None);
    for (actor, tenant, id) in [
        (&alice, &other, id),
        (&alice, &other, nobody),
        (&alice, &tenant(), id),
        (&alice, &tenant(), nobody),
        (&system(), &tenant(), id),
        (&system(), &tenant(), nobody),
        (&system(), &other, nobody),
    ] {
        for error in on_a_key(&fixture, actor, tenant, id).await {
            assert!(matches!(error, ManageError::NotFound), "{error:?}");
            assert_eq!(error.to_string(), "there is no such key");
        }
    }
    let calls = fixture.store.calls();
    for error in on_a_tenant(&fixture, &alice, &other).await {
        assert!(matches!(error, ManageError::Refused), "{error:?}");
    }
    assert_eq!(fixture.store.calls(), calls);
    assert!(fixture.told().await.is_empty());
    assert_eq!(fixture.record(id).await, *theirs.record());
}

#[tokio::test]
async fn the_policy_is_asked_first() {
    #[derive(Debug, Clone, Default)]
    struct Asked(Arc<Mutex<Vec<String>>>, bool);
    #[keyward::async_trait]
    impl Policy for Asked {
        async fn rule(
            &self,
            actor: &Actor,
            operation: &Operation<'_>,
        ) -> Result<Ruling, PolicyError> {
            assert_eq!(operation.tenant(), Some(&tenant()));
            let what = match operation {
                Operation::Issue { key } => {
                    assert_eq!(key.environment.as_deref(), Some("test"));
                    assert_eq!(key.owner, Some(Principal::system("root").unwrap()));
                    "issue"
                }
                Operation::Get { .. } => "get",
                Operation::Revoke { .. } => "revoke",
                Operation::Update { update, .. } => {
                    assert_eq!(
                        update.title.as_deref(),
                        Some("mine"),
                        "a policy sees it all"
                    );
                    assert!(
                        !format!("{update:?}").contains("mine"),
                        "and its log does not"
                    );
                    "update"
                }
                Operation::Suspend { .. } => "suspend",
                Operation::Resume { .. } => "resume",
                Operation::Rotate { rotation, .. } => match rotation.overlap() {
                    Overlap::None => "rotate",
                    _ => "rotate with overlap",
                },
                Operation::RevokeAll {
                    owner: None,
                    reason: RevokeReason::Leaked,
                    ..
                } => "revoke all",
                Operation::DenyIssuedBefore { .. } => "deny",
                Operation::ExportRestrictions { .. } => "export",
                Operation::ReplayRestrictions { .. } => "replay",
                Operation::List { .. } => "list",
                Operation::ReadEvents { .. } => "read events",
                Operation::ReadEventsOf { .. } => "read its events",
                Operation::Purge { .. } => "purge",
                Operation::RemoveTenant { .. } => "remove",
                other => panic!("{other:?}"),
            };
            self.0
                .lock()
                .unwrap()
                .push(format!("{} {what}", actor.principal()));
            if self.1 {
                return Err(PolicyError::new("planted"));
            }
            Ok(Ruling::Refuse)
        }
    }
    let open = Fixture::new().await;
    let issued = open.issue("key").await;
    open.told().await;
    for is_broken in [false, true] {
        let policy = Asked(Arc::default(), is_broken);
        let fixture = open.beside(|builder| builder.policy(policy.clone())).await;
        let calls = fixture.store.calls();
        let mut errors = Vec::new();
        for id in [issued.record().id(), KeyId::from_u128(7)] {
            errors.extend(on_a_key(&fixture, &alice(None), &tenant(), id).await);
        }
        let reads = u64::try_from(errors.len()).unwrap();
        assert_eq!(fixture.store.calls(), calls + reads, "each key's owner");
        errors.extend(on_a_tenant(&fixture, &alice(None), &tenant()).await);
        for error in errors {
            let is_as_told = match error {
                ManageError::Refused => !is_broken,
                ManageError::Policy(_) => is_broken,
                _ => false,
            };
            assert!(is_as_told, "{error:?}");
        }
        assert_eq!(fixture.store.calls(), calls + reads, "nothing else is read");
        assert!(open.told().await.is_empty(), "nothing is done");
        let on_a_key = [
            "get",
            "get",
            "read its events",
            "revoke",
            "update",
            "suspend",
            "resume",
            "rotate",
            "rotate with overlap",
        ];
        let on_a_tenant = [
            "issue",
            "revoke all",
            "deny",
            "export",
            "replay",
            "list",
            "read events",
            "purge",
            "remove",
        ];
        let expected = [&on_a_key[..], &on_a_key, &on_a_tenant].concat();
        let expected: Vec<_> = expected
            .iter()
            .map(|what| format!("user:alice {what}"))
            .collect();
        assert_eq!(*policy.0.lock().unwrap(), expected);
    }
    assert_eq!(open.answer(issued.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn failing_rules_block_only_new_power() {
    #[derive(Debug)]
    struct Broken;
    #[keyward::async_trait]
    impl RuleBook for Broken {
        async fn rules_of(&self, _: &TenantId) -> Result<TenantRules, PolicyError> {
            Err(PolicyError::new("planted"))
        }
    }
    let open = Fixture::new().await;
    let id = open.issue("key").await.record().id();
    let fixture = open.beside(|builder| builder.tenant_rules(Broken)).await;
    let (manager, commits) = (fixture.manager(), fixture.store.commits());
    for error in [
        manager.issue(&system(), new_key("key")).await.unwrap_err(),
        manager
            .update(&system(), &tenant(), id, KeyUpdate::new())
            .await
            .unwrap_err(),
        manager
            .rotate(&system(), &tenant(), id, Overlap::None)
            .await
            .unwrap_err(),
        manager.resume(&system(), &tenant(), id).await.unwrap_err(),
    ] {
        assert!(matches!(error, ManageError::Policy(_)), "{error:?}");
    }
    assert_eq!(fixture.store.commits(), commits);
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    fixture.revoke(id).await;
    let all = RevokeAll::new(RevokeReason::Leaked);
    manager.revoke_all(&system(), &tenant(), all).await.unwrap();
    manager
        .deny_issued_before(&system(), fixture.now(), &tenant())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_changed_key_is_ruled_on_again() {
    /// Allows so many operations, and no more.
    #[derive(Debug, Clone, Default)]
    struct Times(Arc<Mutex<u32>>);
    #[keyward::async_trait]
    impl Policy for Times {
        async fn rule(&self, _: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
            let mut left = self.0.lock().unwrap();
            let is_left = *left > 0;
            *left = left.saturating_sub(1);
            Ok(if is_left {
                Ruling::Allow
            } else {
                Ruling::Refuse
            })
        }
    }
    for allowed in [1, 2] {
        for rotates in [false, true] {
            let open = Fixture::new().await;
            let id = open.issue("key").await.record().id();
            let policy = Times(Arc::new(Mutex::new(allowed)));
            let fixture = open.beside(|builder| builder.policy(policy)).await;
            let mut other = open.store.inner().get(id).await.unwrap().unwrap();
            other.title = "changed by another".parse().unwrap();
            fixture.store.first([Change::Replace {
                expected: other.revision,
                with: Box::new(other),
            }]);
            let done = if rotates {
                let rotated = fixture.rotate(id, Overlap::UntilRevoked).await;
                rotated.map(drop)
            } else {
                let suspended = fixture.manager().suspend(&system(), &tenant(), id).await;
                suspended.map(drop)
            };
            match done {
                Ok(()) => assert_eq!(allowed, 2),
                Err(ManageError::Refused) => assert_eq!(allowed, 1),
                Err(error) => panic!("{error:?}"),
            }
            let is_changed = open.record(id).await.revision() == 3;
            assert_eq!(is_changed, allowed == 2);
        }
    }
}
