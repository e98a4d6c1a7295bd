//! What a tenant's keys must keep to, whoever asks.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::key::{Access, RevokeReason, TenantId};
use keyward::manager::{
    InvalidKey, KeyUpdate, ManageError, NewKey, Overlap, PolicyError, Rotation, RuleBook,
    TenantRules,
};
use keyward::scope;

use crate::common::*;

/// A host's table: what was put there last holds for `acme-inc`, and nothing for anybody else.
#[derive(Debug, Clone, Default)]
struct Table(Arc<Mutex<TenantRules>>);

#[keyward::async_trait]
impl RuleBook for Table {
    async fn rules_of(&self, whose: &TenantId) -> Result<TenantRules, PolicyError> {
        if *whose == tenant() {
            return Ok(self.0.lock().unwrap().clone());
        }
        Ok(TenantRules::new())
    }
}

async fn fixture() -> (Fixture, Table) {
    let table = Table::default();
    let scopes = [scope!("admin").described("All").implies_all()];
    let fixture = Fixture::with(|builder| builder.tenant_rules(table.clone()).scopes(scopes)).await;
    (fixture, table)
}

impl Table {
    fn put(&self, rules: TenantRules) {
        *self.0.lock().unwrap() = rules;
    }
}

fn is_barred<T>(done: &Result<T, ManageError>) -> bool {
    matches!(done, Err(ManageError::Invalid(InvalidKey::AccessBarred)))
}

fn lifetime_too_long<T>(done: &Result<T, ManageError>) -> bool {
    matches!(done, Err(ManageError::Invalid(InvalidKey::LifetimeTooLong)))
}

fn with_access(access: impl Into<Access>) -> NewKey {
    NewKey::new(tenant(), "key", access)
}

#[tokio::test]
async fn access_stays_within_the_rule() {
    let (fixture, table) = fixture().await;
    let admin = || Access::from(scope!("admin"));
    let both = || Access::from([READ, WRITE]);
    for (rule, allowed, barred) in [
        (
            READ.into(),
            vec![READ.into()],
            vec![Access::Full, admin(), both(), WRITE.into()],
        ),
        (
            both(),
            vec![READ.into(), both()],
            vec![Access::Full, admin()],
        ),
        (
            admin(),
            vec![READ.into(), both(), admin()],
            vec![Access::Full],
        ),
        (Access::Full, vec![Access::Full, admin(), both()], vec![]),
    ] {
        table.put(TenantRules::new().access(rule));
        for access in allowed {
            assert!(
                fixture
                    .manager()
                    .issue(&system(), with_access(access))
                    .await
                    .is_ok()
            );
        }
        for access in barred {
            let commits = fixture.store.commits();
            let refused = fixture
                .manager()
                .issue(&system(), with_access(access))
                .await;
            assert!(is_barred(&refused));
            assert_eq!(fixture.store.commits(), commits);
        }
    }
    table.put(TenantRules::new().access(READ));
    let elsewhere = NewKey::new(named("other"), "key", Access::Full);
    assert!(fixture.manager().issue(&system(), elsewhere).await.is_ok());
}

#[tokio::test]
async fn expiry_stays_within_the_rule() {
    let (fixture, table) = fixture().await;
    table.put(TenantRules::new().max_lifetime(DAY));
    let issue = async |key: NewKey| fixture.manager().issue(&system(), key).await;
    assert!(lifetime_too_long(&issue(new_key("for ever")).await));
    assert!(lifetime_too_long(
        &issue(new_key("key").expires_in(DAY + Duration::from_micros(1))).await
    ));
    assert!(issue(new_key("key").expires_in(DAY)).await.is_ok());
    // It is its life that is bound, not the part of it in which it may be used.
    let late = new_key("key")
        .not_before(fixture.now() + HOUR)
        .expires_at(fixture.now() + DAY + HOUR);
    assert!(lifetime_too_long(&issue(late).await));
    // However long: it must end.
    table.put(TenantRules::new().max_lifetime(Duration::MAX));
    assert!(lifetime_too_long(&issue(new_key("for ever")).await));
    assert!(
        issue(new_key("key").expires_in(DAY * 365_000))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_new_rule_breaks_no_existing_key() {
    let (fixture, table) = fixture().await;
    let manager = fixture.manager();
    let full = fixture.issue_key(with_access(Access::Full)).await;
    let id = full.record().id();
    let asleep = fixture.issue_key(with_access(Access::Full)).await;
    manager
        .suspend(&system(), &tenant(), asleep.record().id())
        .await
        .unwrap();
    table.put(TenantRules::new().access(READ));
    assert_eq!(fixture.answer(full.api_key()).await, Answer::Admitted);
    let rename = KeyUpdate::new()
        .title("renamed")
        .concurrency(NonZeroU32::new(5));
    assert!(
        manager
            .update(&system(), &tenant(), id, rename)
            .await
            .is_ok()
    );
    let same = KeyUpdate::new().access(Access::Full).title("again");
    assert!(
        manager.update(&system(), &tenant(), id, same).await.is_ok(),
        "no other access"
    );

    for overlap in [Overlap::None, Overlap::UntilRevoked] {
        assert!(is_barred(&fixture.rotate(id, overlap).await));
    }
    assert!(is_barred(
        &manager
            .resume(&system(), &tenant(), asleep.record().id())
            .await
    ));
    assert_eq!(fixture.answer(asleep.api_key()).await, Answer::Suspended);
    for access in [Access::from([READ, WRITE]), WRITE.into()] {
        let update = KeyUpdate::new().access(access);
        assert!(is_barred(
            &manager.update(&system(), &tenant(), id, update).await
        ));
    }
    // What takes power away goes on.
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    let update = KeyUpdate::new().access(READ);
    manager
        .update(&system(), &tenant(), id, update)
        .await
        .unwrap();
    manager.resume(&system(), &tenant(), id).await.unwrap();
    assert!(fixture.rotate(id, Overlap::None).await.is_ok());
    let id = asleep.record().id();
    let reason = RevokeReason::Requested;
    assert!(
        manager
            .revoke(&system(), &tenant(), id, reason)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn successors_obey_the_lifetime_rule() {
    let (fixture, table) = fixture().await;
    let manager = fixture.manager();
    let lasting = fixture.issue("lasting").await.record().id();
    let short = fixture
        .issue_key(new_key("short").expires_in(DAY))
        .await
        .record()
        .id();
    for id in [lasting, short] {
        manager.suspend(&system(), &tenant(), id).await.unwrap();
    }
    table.put(TenantRules::new().max_lifetime(DAY));
    assert!(lifetime_too_long(
        &manager.resume(&system(), &tenant(), lasting).await
    ));
    assert!(manager.resume(&system(), &tenant(), short).await.is_ok());
    table.put(TenantRules::new());
    manager.resume(&system(), &tenant(), lasting).await.unwrap();
    table.put(TenantRules::new().max_lifetime(DAY));

    let none = || Rotation::new(Overlap::None);
    assert!(lifetime_too_long(&fixture.rotate(lasting, none()).await));
    assert!(lifetime_too_long(
        &fixture.rotate(short, none().never_expires()).await
    ));
    assert!(lifetime_too_long(
        &fixture.rotate(short, none().expires_in(DAY + SECOND)).await
    ));
    assert!(
        fixture
            .rotate(lasting, none().expires_in(DAY))
            .await
            .is_ok()
    );
    fixture.later(HOUR);
    // A successor's life begins when it is issued.
    let renewed = fixture.rotate(short, none().expires_in(DAY)).await.unwrap();
    assert_eq!(
        renewed.record().restrictions().expires_at,
        Some(fixture.now() + DAY)
    );
}

#[tokio::test]
async fn the_cap_counts_all_unrevoked_keys() {
    let (fixture, table) = fixture().await;
    let most = |count| TenantRules::new().max_keys(NonZeroU32::new(count).unwrap());
    table.put(most(3));
    let expired = fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await
        .record()
        .id();
    let suspended = fixture.issue("suspended").await.record().id();
    fixture
        .manager()
        .suspend(&system(), &tenant(), suspended)
        .await
        .unwrap();
    let third = fixture.issue("third").await.record().id();
    fixture.later(SECOND);
    let issue = async || {
        fixture
            .manager()
            .issue(&system(), new_key("one more"))
            .await
    };
    assert!(matches!(issue().await, Err(ManageError::TenantFull { .. })));
    fixture.revoke(expired).await;
    assert!(issue().await.is_ok());
    // Lowered under what there is: nothing ends, and nothing comes.
    table.put(most(1));
    fixture.revoke(third).await;
    assert!(matches!(issue().await, Err(ManageError::TenantFull { .. })));
    assert!(
        fixture
            .manager()
            .resume(&system(), &tenant(), suspended)
            .await
            .is_ok()
    );
    table.put(TenantRules::new());
    assert!(issue().await.is_ok());
}

#[tokio::test]
async fn the_cap_holds_under_concurrency() {
    let (fixture, table) = fixture().await;
    table.put(TenantRules::new().max_keys(NonZeroU32::new(3).unwrap()));
    let tasks = (0..20).map(|n| {
        let fixture = fixture.clone();
        let key = new_key(&format!("key {n}"));
        tokio::spawn(async move { fixture.manager().issue(&system(), key).await })
    });
    let mut issued = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(_) => issued += 1,
            Err(error) => assert!(matches!(error, ManageError::TenantFull { .. })),
        }
    }
    assert_eq!(issued, 3);
    let elsewhere = NewKey::new(named("other"), "another tenant's", READ);
    fixture.issue_key(elsewhere).await;
}
