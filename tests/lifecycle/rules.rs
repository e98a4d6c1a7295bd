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

async fn house() -> (House, Table) {
    let table = Table::default();
    let scopes = [scope!("admin").described("All").implies_all()];
    let house = House::with(|builder| builder.tenant_rules(table.clone()).scopes(scopes)).await;
    (house, table)
}

impl Table {
    fn put(&self, rules: TenantRules) {
        *self.0.lock().unwrap() = rules;
    }
}

fn is_barred<T>(done: &Result<T, ManageError>) -> bool {
    matches!(done, Err(ManageError::Invalid(InvalidKey::AccessBarred)))
}

fn lives_too_long<T>(done: &Result<T, ManageError>) -> bool {
    matches!(done, Err(ManageError::Invalid(InvalidKey::LivesTooLong)))
}

fn with_access(access: impl Into<Access>) -> NewKey {
    NewKey::new(tenant(), "key", access)
}

#[tokio::test]
async fn what_is_issued_has_no_more_access_than_the_tenant_may_give() {
    let (house, table) = house().await;
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
                house
                    .manager()
                    .issue(&system(), with_access(access))
                    .await
                    .is_ok()
            );
        }
        for access in barred {
            let commits = house.store.commits();
            let refused = house.manager().issue(&system(), with_access(access)).await;
            assert!(is_barred(&refused));
            assert_eq!(house.store.commits(), commits);
        }
    }
    table.put(TenantRules::new().access(READ));
    let elsewhere = NewKey::new(named("other"), "key", Access::Full);
    assert!(house.manager().issue(&system(), elsewhere).await.is_ok());
}

#[tokio::test]
async fn keys_expire_no_later_than_the_rule_says() {
    let (house, table) = house().await;
    table.put(TenantRules::new().max_lifetime(DAY));
    let issue = async |key: NewKey| house.manager().issue(&system(), key).await;
    assert!(lives_too_long(&issue(new_key("for ever")).await));
    assert!(lives_too_long(
        &issue(new_key("key").expires_in(DAY + Duration::from_micros(1))).await
    ));
    assert!(issue(new_key("key").expires_in(DAY)).await.is_ok());
    // It is its life that is bound, not the part of it in which it may be used.
    let late = new_key("key")
        .not_before(house.now() + HOUR)
        .expires_at(house.now() + DAY + HOUR);
    assert!(lives_too_long(&issue(late).await));
    // However long: it must end.
    table.put(TenantRules::new().max_lifetime(Duration::MAX));
    assert!(lives_too_long(&issue(new_key("for ever")).await));
    assert!(
        issue(new_key("key").expires_in(DAY * 365_000))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_rule_that_was_made_since_breaks_no_key_until_something_is_done_to_it() {
    let (house, table) = house().await;
    let manager = house.manager();
    let full = house.issue_key(with_access(Access::Full)).await;
    let id = full.record().id();
    let asleep = house.issue_key(with_access(Access::Full)).await;
    manager
        .suspend(&system(), &tenant(), asleep.record().id())
        .await
        .unwrap();
    table.put(TenantRules::new().access(READ));
    assert_eq!(house.answer(full.api_key()).await, Answer::Admitted);
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
        assert!(is_barred(&house.rotate(id, overlap).await));
    }
    assert!(is_barred(
        &manager
            .resume(&system(), &tenant(), asleep.record().id())
            .await
    ));
    assert_eq!(house.answer(asleep.api_key()).await, Answer::Suspended);
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
    assert!(house.rotate(id, Overlap::None).await.is_ok());
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
async fn a_key_that_lives_too_long_is_not_given_a_successor_that_does() {
    let (house, table) = house().await;
    let manager = house.manager();
    let lasting = house.issue("lasting").await.record().id();
    let short = house
        .issue_key(new_key("short").expires_in(DAY))
        .await
        .record()
        .id();
    for id in [lasting, short] {
        manager.suspend(&system(), &tenant(), id).await.unwrap();
    }
    table.put(TenantRules::new().max_lifetime(DAY));
    assert!(lives_too_long(
        &manager.resume(&system(), &tenant(), lasting).await
    ));
    assert!(manager.resume(&system(), &tenant(), short).await.is_ok());
    table.put(TenantRules::new());
    manager.resume(&system(), &tenant(), lasting).await.unwrap();
    table.put(TenantRules::new().max_lifetime(DAY));

    let none = || Rotation::new(Overlap::None);
    assert!(lives_too_long(&house.rotate(lasting, none()).await));
    assert!(lives_too_long(
        &house.rotate(short, none().never_expires()).await
    ));
    assert!(lives_too_long(
        &house.rotate(short, none().expires_in(DAY + SECOND)).await
    ));
    assert!(house.rotate(lasting, none().expires_in(DAY)).await.is_ok());
    house.later(HOUR);
    // A successor's life begins when it is issued.
    let renewed = house.rotate(short, none().expires_in(DAY)).await.unwrap();
    assert_eq!(renewed.record().expires_at(), Some(house.now() + DAY));
}

#[tokio::test]
async fn the_cap_counts_what_is_not_revoked_expired_keys_too() {
    let (house, table) = house().await;
    let most = |count| TenantRules::new().max_keys(NonZeroU32::new(count).unwrap());
    table.put(most(3));
    let expired = house
        .issue_key(new_key("expired").expires_in(SECOND))
        .await
        .record()
        .id();
    let suspended = house.issue("suspended").await.record().id();
    house
        .manager()
        .suspend(&system(), &tenant(), suspended)
        .await
        .unwrap();
    let third = house.issue("third").await.record().id();
    house.later(SECOND);
    let issue = async || house.manager().issue(&system(), new_key("one more")).await;
    assert!(matches!(issue().await, Err(ManageError::TenantFull)));
    house.revoke(expired).await;
    assert!(issue().await.is_ok());
    // Lowered under what there is: nothing ends, and nothing comes.
    table.put(most(1));
    house.revoke(third).await;
    assert!(matches!(issue().await, Err(ManageError::TenantFull)));
    assert!(
        house
            .manager()
            .resume(&system(), &tenant(), suspended)
            .await
            .is_ok()
    );
    table.put(TenantRules::new());
    assert!(issue().await.is_ok());
}
