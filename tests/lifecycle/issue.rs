//! Issuing keys.

use std::num::NonZeroU32;

use keyward::Keyward;
use keyward::key::{
    Access, KeyFormat, KeyStatus, Metadata, Networks, Principal, Quota, Resource, Resources, Scope,
    ValueError,
};
use keyward::manager::{Actor, AllowAll, InvalidKey, Limits, ManageError, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, Requirement};
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn a_new_key_is_kept_as_asked() {
    let fixture = Fixture::new().await;
    let now = fixture.now();
    let quota = Quota::new("minute", NonZeroU32::new(60).unwrap(), SECOND * 60).unwrap();
    let resources = Resources::only([Resource::new("project", "p1").unwrap()]).unwrap();
    let networks = Networks::only(["::ffff:10.0.0.0/104".parse().unwrap()]).unwrap();
    let owner = Principal::integration("power-bi").unwrap();
    let metadata = Metadata::try_from(json!({"ticket": "OPS-7"})).unwrap();
    let asked = new_key("  Nightly ETL ")
        .owner(owner.clone())
        .resources(resources.clone())
        .networks(networks.clone())
        .quota(quota.clone())
        .concurrency(NonZeroU32::new(5).unwrap())
        .metadata(metadata.clone())
        .not_before(now + SECOND * 10)
        .expires_in(HOUR);
    let issued = fixture.issue_key(asked).await;
    let id = issued.record().id();
    let record = fixture
        .manager()
        .get(&system(), &tenant(), id)
        .await
        .unwrap();
    assert_eq!(record, *issued.record());
    assert_eq!(record.title().as_str(), "Nightly ETL");
    assert_eq!(record.owner(), &owner);
    assert_eq!(record.created_by(), &Principal::system("test").unwrap());
    let restrictions = record.restrictions();
    assert_eq!(restrictions.access, Access::from(READ));
    assert_eq!(restrictions.resources, resources);
    assert_eq!(restrictions.networks, networks);
    assert_eq!(restrictions.networks.to_string(), "10.0.0.0/8");
    assert_eq!(restrictions.quotas, [quota]);
    assert_eq!(restrictions.concurrency.map(NonZeroU32::get), Some(5));
    assert_eq!(record.metadata(), &metadata);
    assert_eq!((record.revision(), record.lineage()), (1, id));
    assert_eq!(record.environment().as_str(), "test");
    assert_eq!(record.status(now), KeyStatus::NotYetValid);
    assert_eq!(record.status(now + SECOND * 10), KeyStatus::Active);
    assert_eq!(record.status(now + HOUR), KeyStatus::Expired);
    assert_eq!(record.display_prefix(), issued.api_key().display_prefix());

    let view = serde_json::to_value(record.view(now)).unwrap();
    assert_eq!(view["status"], "not_yet_valid");
    assert_eq!(view["created_at"], "2027-01-15T08:00:00Z");
    assert_eq!(view["owner"], "integration:power-bi");
    assert!(view.get("digest").is_none());
}

#[tokio::test]
async fn defaults_grant_nothing_more() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("plain").await;
    let record = issued.record();
    let restrictions = record.restrictions();
    assert_eq!(restrictions.access, Access::from(READ));
    assert_eq!(
        (restrictions.not_before, restrictions.expires_at),
        (None, None)
    );
    assert_eq!(restrictions.resources, Resources::Any);
    assert_eq!(restrictions.networks, Networks::Any);
    assert_eq!(record.owner(), system().principal());
    let none = Access::scopes([]);
    assert!(none.is_err(), "a key without access cannot be asked for");
}

/// The counts of resources, networks and quotas are in `tests/bounds.rs`.
#[tokio::test]
async fn an_invalid_key_is_not_issued() {
    let fixture = Fixture::new().await;
    let elsewhere = NewKey::new(named("other"), "other", READ);
    let key = fixture.issue_key(elsewhere).await;
    fixture.told().await;
    let refuse = async |key: NewKey| match fixture.manager().issue(&system(), key).await {
        Err(ManageError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    for title in ["", "   ", "\t\n"] {
        let why = refuse(new_key(title)).await;
        assert!(matches!(why, InvalidKey::Title(ValueError::Empty { .. })));
    }
    let why = refuse(new_key(&"x".repeat(101))).await;
    assert!(matches!(
        why,
        InvalidKey::Title(ValueError::TooLarge { .. })
    ));
    for title in ["a\nb", "a\0b", "a\u{202e}b", "\u{7}"] {
        let why = refuse(new_key(title)).await;
        assert!(matches!(
            why,
            InvalidKey::Title(ValueError::Character { .. })
        ));
    }
    let text = key.api_key().expose();
    let pasted = format!("my key {text}");
    let broken = format!("{}-{}", &text[..20], &text[20..]);
    let notes = Metadata::try_from(json!({"notes": [pasted.clone()]})).unwrap();
    let scope: Scope = text[..64].parse().unwrap();
    let project = Resource::new("project", text).unwrap();
    for (holds, expected) in [
        (NewKey::new(named(text), "k", READ), "tenant"),
        (NewKey::new(tenant(), "k", [READ, scope]), "scope"),
        (new_key("k").resources(project), "resource"),
        (new_key(&pasted), "title"),
        (new_key(&broken), "title"),
        (new_key("k").owner(Principal::user(text).unwrap()), "owner"),
        (new_key("k").metadata(notes), "metadata"),
    ] {
        let why = refuse(holds).await;
        assert!(
            matches!(why, InvalidKey::HoldsKey { field } if field == expected),
            "{why:?}"
        );
    }

    let undeclared = NewKey::new(tenant(), "k", [READ, scope!("delete:all")]);
    let why = refuse(undeclared).await;
    assert!(matches!(why, InvalidKey::UndeclaredScope(scope) if scope.as_str() == "delete:all"));
    let why = refuse(NewKey::new(tenant(), "k", scope!("READ:editions"))).await;
    assert!(matches!(why, InvalidKey::UndeclaredScope(_)));
    for environment in ["live", ""] {
        let why = refuse(new_key("k").environment(environment)).await;
        assert!(matches!(why, InvalidKey::Format(_)));
    }
    let past = new_key("k").expires_at(fixture.now() - SECOND);
    assert!(matches!(refuse(past).await, InvalidKey::Expired));
    let quota = || Quota::new("a", NonZeroU32::MIN, SECOND).unwrap();
    let twice = new_key("k").quota(quota()).quota(quota());
    assert!(matches!(refuse(twice).await, InvalidKey::RepeatedQuota(_)));

    let list = fixture.manager().list(&system(), &all().live_first()).await;
    assert!(list.unwrap().keys.is_empty() && fixture.told().await.is_empty());
}

#[tokio::test]
async fn a_name_like_a_prefix_is_allowed() {
    let fixture = Fixture::new().await;
    let name = "acme_corp_nightly-snowflake-export-job";
    let key = new_key(name).owner(Principal::integration(name).unwrap());
    let issued = fixture.issue_key(key).await;
    assert_eq!(issued.record().title().as_str(), name);

    let pasted = Actor::system(issued.api_key().expose());
    let key = new_key("key").owner(Principal::user("alice").unwrap());
    let refused = fixture.manager().issue(&pasted, key).await;
    let is_named = |why: &InvalidKey| matches!(why, InvalidKey::HoldsKey { field: "actor" });
    assert!(matches!(refused, Err(ManageError::Invalid(why)) if is_named(&why)));
}

#[tokio::test]
async fn the_largest_key_is_kept_whole() {
    let fixture = Fixture::new().await;
    let value = "\"".repeat(124); // each takes two bytes in JSON
    let resources =
        (0..1_000).map(|n| Resource::new(&"k".repeat(32), &format!("{value}{n:04}")).unwrap());
    let networks = (0..100).map(|n| format!("2001:db8:{n:x}::/48").parse().unwrap());
    let key = NewKey::new(named(&"t".repeat(128)), "é".repeat(100), READ)
        .resources(Resources::only(resources).unwrap())
        .networks(Networks::only(networks).unwrap())
        .metadata(Metadata::try_from(json!({"a": "x".repeat(4_088)})).unwrap());
    let issued = fixture.issue_key(key).await;
    let need = Requirement::scope(READ).filters(&"k".repeat(32));
    let attempt = Attempt::new(issued.api_key().presented(), &need);
    let attempt = attempt.client("2001:db8:1::1".parse().unwrap());
    let admitted = fixture.keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().record(), issued.record());
}

#[tokio::test]
async fn metadata_numbers_keep_every_digit() {
    let fixture = Fixture::new().await;
    let any = Requirement::any_key();
    let numbers: Vec<f64> = (0..150_i32)
        .map(|n| (1.0 + f64::from(n) / 7.0).powi(n) * 1.715_373_926_432e-100)
        .collect();
    let mut padding = 0;
    let fits = |padding: usize| {
        Metadata::try_from(json!({"numbers": numbers, "padding": "x".repeat(padding)}))
    };
    while fits(padding + 1).is_ok() {
        padding += 1;
    }
    let key = new_key("key").metadata(fits(padding).unwrap());
    let issued = fixture.issue_key(key).await;
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let admitted = fixture.keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().record(), issued.record());
}

#[tokio::test]
async fn the_environment_can_be_chosen() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let format = format.environment("test").unwrap();
    let keyward = Keyward::builder(MemoryStore::new())
        .format(format.secret_length(64).unwrap())
        .policy(AllowAll);
    let keyward = keyward.open().await.unwrap();
    for (asked, environment) in [(None, "live"), (Some("test"), "test")] {
        let mut key = NewKey::new(tenant(), "key", Access::Full);
        if let Some(name) = asked {
            key = key.environment(name);
        }
        let issued = keyward.manager().issue(&system(), key).await.unwrap();
        let text = issued.api_key().expose();
        assert!(text.starts_with(&format!("acme_{environment}_")));
        assert_eq!(issued.api_key().expose_secret().len(), 64);
        let any = Requirement::any_key();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        assert!(keyward.verifier().verify(&attempt).await.is_ok());
    }
}

#[tokio::test]
async fn the_exceeded_axis_is_named() {
    let fixture = Fixture::new().await;
    let limits = Limits::new(READ).concurrency(NonZeroU32::new(5).unwrap());
    let full = NewKey::new(tenant(), "k", Access::Full).concurrency(NonZeroU32::MIN);
    for (key, axis) in [(full, "access"), (new_key("k"), "concurrency")] {
        let refused = fixture.manager().issue(&alice(limits.clone()), key).await;
        let message = format!("the key exceeds what the actor may grant: {axis}");
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
}
