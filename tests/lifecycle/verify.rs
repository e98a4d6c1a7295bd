//! What a key may do, and from where.

use std::num::NonZeroU32;

use keyward::key::{Access, KeyFormat, Networks};
use keyward::manager::{AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};
use keyward::{Keyward, OpenError, scope};

use crate::common::*;

#[tokio::test]
async fn nothing_is_assumed_when_opening() {
    let format = || KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let none = Keyward::builder(MemoryStore::new())
        .policy(AllowAll)
        .open()
        .await;
    assert!(matches!(none, Err(OpenError::NoFormat)));
    let none = Keyward::builder(MemoryStore::new())
        .format(format())
        .open()
        .await;
    assert!(matches!(none, Err(OpenError::NoPolicy)));
    let twice = Keyward::builder(MemoryStore::new())
        .format(format())
        .policy(AllowAll)
        .scopes([READ.described("a"), READ.described("b")]);
    assert!(matches!(twice.open().await, Err(OpenError::Catalog(_))));
}

#[tokio::test]
async fn a_key_works_from_its_networks_only() {
    let keyward = Fixture::new().await.keyward;
    let networks = ["203.0.113.0/24", "2001:db8::/32"].map(|text| text.parse().unwrap());
    let key = new_key("key").networks(Networks::only(networks).unwrap());
    let issued = keyward.manager().issue(&system(), key).await.unwrap();
    let any = Requirement::any_key();
    for (client, is_good) in [
        ("203.0.113.7", true),
        ("::ffff:203.0.113.7", true),
        ("2001:db8:1::1", true),
        ("203.0.114.7", false),
        ("::ffff:203.0.114.7", false),
        ("::203.0.113.7", false),
        ("2001:db9::1", false),
        ("::1", false),
    ] {
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        let attempt = attempt.client(client.parse().unwrap());
        match keyward.verifier().verify(&attempt).await {
            Ok(_) => assert!(is_good, "{client}"),
            Err(denial) => {
                assert!(!is_good, "{client}");
                assert!(matches!(denial.reason(), DenialReason::OutsideNetworks));
                assert_eq!(denial.class().status(), 401);
            }
        }
    }
    let unknown = Attempt::new(issued.api_key().presented(), &any);
    let denial = keyward.verifier().verify(&unknown).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::AddressUnknown));
}

#[tokio::test]
async fn concurrency_is_limited_per_key() {
    let keyward = Fixture::new().await.keyward;
    let verifier = keyward.verifier();
    let two = new_key("two").concurrency(NonZeroU32::new(2).unwrap());
    let two = keyward.manager().issue(&system(), two).await.unwrap();
    let any = Requirement::any_key();
    let attempt = Attempt::new(two.api_key().presented(), &any);
    let first = verifier.verify(&attempt).await.unwrap();
    let (grant, permit) = verifier.verify(&attempt).await.unwrap().into_parts();
    for _ in 0..3 {
        let denial = verifier.verify(&attempt).await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::TooManyInFlight));
        assert_eq!(denial.class().status(), 429);
    }
    // A refusal for another reason takes no place, and the grant alone holds none.
    let write = Requirement::full_access();
    let forbidden = Attempt::new(two.api_key().presented(), &write);
    assert_eq!(
        verifier
            .verify(&forbidden)
            .await
            .unwrap_err()
            .class()
            .status(),
        403
    );
    drop(permit);
    assert_eq!(grant.key_id(), two.record().id());
    let third = verifier.verify(&attempt).await.unwrap();
    assert!(verifier.verify(&attempt).await.is_err());
    drop((first, third));
    assert!(verifier.verify(&attempt).await.is_ok());

    let free = keyward
        .manager()
        .issue(&system(), new_key("free"))
        .await
        .unwrap();
    let attempt = Attempt::new(free.api_key().presented(), &any);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(verifier.verify(&attempt).await.unwrap());
    }
}

#[tokio::test]
async fn full_access_exceeds_any_scope() {
    let admin = scope!("admin");
    let scopes = [
        admin.clone().described("All").implies_all(),
        scope!("write").described(""),
    ];
    let fixture = Fixture::with(|builder| builder.scopes(scopes)).await;
    let keyward = fixture.keyward;
    let write = scope!("write");
    let needs = [
        Requirement::any_key(),
        Requirement::scope(READ),
        Requirement::scope(READ.and(write.clone())),
        Requirement::scope(READ.or(write.clone())),
        Requirement::full_access(),
        Requirement::scope(scope!("undeclared")),
    ];
    for (access, expected) in [
        (Access::Full, [true, true, true, true, true, true]),
        (admin.into(), [true, true, true, true, false, false]),
        (READ.into(), [true, true, false, true, false, false]),
        (
            write.clone().into(),
            [true, false, false, true, false, false],
        ),
        ([READ, write].into(), [true, true, true, true, false, false]),
    ] {
        let key = NewKey::new(tenant(), "key", access.clone());
        let issued = keyward.manager().issue(&system(), key).await.unwrap();
        for (need, expected) in needs.iter().zip(expected) {
            let attempt = Attempt::new(issued.api_key().presented(), need);
            let verdict = keyward.verifier().verify(&attempt).await;
            assert_eq!(verdict.is_ok(), expected, "{access} for {need:?}");
        }
    }
    let verifier = keyward.verifier();
    assert!(
        verifier
            .prepare(Requirement::scope(READ).filters("project"))
            .is_ok()
    );
    assert!(
        verifier
            .prepare(Requirement::scope(scope!("read:edition")))
            .is_err()
    );
    assert!(
        verifier
            .prepare(Requirement::any_key().resource("Project"))
            .is_err()
    );
}

#[tokio::test]
async fn undeclared_scopes_are_named() {
    let keyward = Fixture::new().await.keyward;
    let issued = keyward
        .manager()
        .issue(&system(), new_key("key"))
        .await
        .unwrap();
    let (misspelt, write) = (scope!("read:edition"), WRITE);
    for (rule, names) in [
        (misspelt.clone().into(), true),
        (READ.and(misspelt.clone()), true),
        (write.clone().or(misspelt.clone()), true),
        (write.into(), false),
    ] {
        let need = Requirement::scope(rule);
        let attempt = Attempt::new(issued.api_key().presented(), &need);
        let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Forbidden);
        let named = match denial.reason() {
            DenialReason::UndeclaredScope(scope) => Some(scope),
            _ => None,
        };
        assert_eq!(named, names.then_some(&misspelt), "{need:?}");
    }
    let either = Requirement::scope(READ.or(misspelt));
    let attempt = Attempt::new(issued.api_key().presented(), &either);
    assert!(keyward.verifier().verify(&attempt).await.is_ok());
}
