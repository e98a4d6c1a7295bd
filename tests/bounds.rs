//! Bounds of what is configured or issued: what is at a bound is taken, and what is past it is refused. Those of
//! titles, tenants, scopes, secrets and metadata are tested where they are, in `src/key`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::hashing::{Argon2Params, Pepper};
use keyward::import::LegacyFormat;
use keyward::key::{
    Digest, KeyFormat, Metadata, Network, Networks, Principal, Quota, Resource, Resources,
    RevokeReason, Scope, TenantId, Title,
};
use keyward::manager::{Actor, Ceiling, InvalidKey, KeyUpdate, ManageError, NewKey};
use keyward::random::OsRandom;
use keyward::scope;
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore as _, MemoryStore};
use keyward::testkit::builder;
use serde_json::{Value, json};

const READ: Scope = scope!("read:editions");

/// That a number is taken from the least to the most, and no other beside them.
#[track_caller]
fn takes(least: usize, most: usize, is_taken: impl Fn(usize) -> bool) {
    for (number, is_within) in [
        (least.saturating_sub(1), least == 0),
        (least, true),
        (most, true),
        (most + 1, false),
    ] {
        assert_eq!(is_taken(number), is_within, "{number}");
    }
}

fn a(length: usize) -> String {
    "a".repeat(length)
}

#[test]
fn names_and_texts_are_bounded() {
    takes(1, 255, |length| {
        let tenant = TenantId::new("acme-inc").unwrap();
        Actor::user(&a(length), tenant, Ceiling::Unlimited).is_ok()
    });
    takes(1, 32, |length| Resource::new(&a(length), "v").is_ok());
    takes(1, 128, |length| Resource::new("kind", &a(length)).is_ok());
    takes(2, 16, |length| KeyFormat::new(&a(length)).is_ok());
    takes(1, 16, |length| {
        let format = KeyFormat::new("acme").unwrap();
        format.environment(&a(length)).is_ok()
    });
    takes(0, 512, |length| Digest::new(a(length)).is_ok());
    takes(1, 32, |length| LegacyFormat::opaque(&a(length)).is_ok());
    takes(0, 64, |length| {
        let format = LegacyFormat::opaque("old").unwrap();
        format.prefix(&a(length)).is_ok()
    });
}

#[test]
fn peppers_are_bounded() {
    let pepper = |length| Pepper::new(1, (0..=u8::MAX).take(length).collect::<Vec<_>>());
    assert!(pepper(32).is_ok() && pepper(31).is_err());
}

#[test]
fn key_texts_are_bounded() {
    let format = KeyFormat::new("acme").unwrap().environment("test").unwrap();
    let why = |length| {
        let text = a(length);
        format.parse(text.as_bytes()).unwrap_err()
    };
    let oversize = why(257).to_string();
    assert!(oversize.contains("256 bytes"), "{oversize}");
    assert_ne!(why(256).to_string(), oversize);
}

#[test]
fn slow_hash_parameters_are_bounded() {
    const GIB: usize = 1024 * 1024;
    let is_taken = |memory: usize, passes: usize, lanes: usize| {
        let number = |number| u32::try_from(number).unwrap();
        Argon2Params::new(number(memory), number(passes), number(lanes)).is_ok()
    };
    takes(7 * 1024, 2 * GIB, |memory| is_taken(memory, 64, 1));
    takes(1, 64, |passes| is_taken(64 * 1024, passes, 1));
    takes(1, 16, |lanes| is_taken(64 * 1024, 1, lanes));
    // Less memory takes more passes.
    takes(35 * 1024, 2 * GIB, |memory| is_taken(memory, 1, 1));
    takes(5, 64, |passes| is_taken(7 * 1024, passes, 1));
}

#[test]
fn quotas_are_bounded() {
    let quota = |name: &str, window| Quota::new(name, NonZeroU32::MIN, window).is_ok();
    takes(1, 32, |length| quota(&a(length), Duration::from_secs(60)));
    takes(1, 366 * 24 * 3_600, |seconds| {
        quota("q", Duration::from_secs(u64::try_from(seconds).unwrap()))
    });
    assert!(!quota("q", Duration::new(1, 1)), "whole seconds");
}

#[test]
fn change_sets_are_bounded() {
    takes(1, ChangeSet::MAX_CHANGES, |count| {
        let change = |n: usize| Change::Setting {
            name: n.to_string(),
            value: String::new(),
        };
        ChangeSet::new(ChangeId::generate(&OsRandom), (0..count).map(change)).is_some()
    });
}

/// The contract of a store says so: some databases cannot keep a zero in a text.
#[tokio::test]
async fn only_documents_can_hold_a_zero() {
    const ZERO: &str = "a\0b";
    assert!(TenantId::new(ZERO).is_err() && Principal::user(ZERO).is_err());
    assert!(Title::new(ZERO).is_err() && RevokeReason::other(ZERO).is_err());
    assert!(Digest::new(ZERO).is_err());

    let store = MemoryStore::new();
    let keyward = builder(store.clone(), [READ]).open().await.unwrap();
    let by = Actor::system(ZERO).in_request(ZERO);
    let tenant = TenantId::new("acme-inc").unwrap();
    let metadata = Metadata::try_from(json!({ ZERO: ZERO })).unwrap();
    let issued = keyward
        .manager()
        .issue(&by, NewKey::new(tenant.clone(), "a key", READ));
    let id = issued.await.unwrap().record().id();
    let update = KeyUpdate::new().metadata(metadata);
    let updated = keyward.manager().update(&by, &tenant, id, update).await;
    let stored = updated.unwrap().encode().unwrap();
    let document = String::from_utf8(stored.document.into()).unwrap();
    assert!(
        document.contains(r"\u0000") && !document.contains('\0'),
        "{document}"
    );

    let log = store.events().unwrap();
    let events = log.read(None, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    for sealed in events {
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(zeros(&serde_json::from_str(&text).unwrap()), 0, "{text}");
    }
}

/// The number of texts in which there is a zero.
fn zeros(json: &Value) -> usize {
    match json {
        Value::String(text) => usize::from(text.contains('\0')),
        Value::Array(items) => items.iter().map(zeros).sum(),
        Value::Object(members) => members.values().map(zeros).sum(),
        _ => 0,
    }
}

#[tokio::test]
async fn restrictions_of_a_key_are_bounded() {
    let keyward = builder(MemoryStore::new(), [READ]).open().await.unwrap();
    let new = || NewKey::new(TenantId::new("acme-inc").unwrap(), "a key", READ);
    let resources = |count: usize| {
        let each = (0..count).map(|n| Resource::new("project", &n.to_string()).unwrap());
        new().resources(Resources::only(each).unwrap())
    };
    let networks = |count: usize| {
        let each = (0..count).map(|n| -> Network { format!("10.0.{n}.0/24").parse().unwrap() });
        new().networks(Networks::only(each).unwrap())
    };
    let quotas = |count: usize| {
        (0..count).fold(new(), |new, n| {
            let quota = Quota::new(&n.to_string(), NonZeroU32::MIN, Duration::from_secs(1));
            new.quota(quota.unwrap())
        })
    };
    for (most, at, past) in [
        (1_000, resources(1_000), resources(1_001)),
        (100, networks(100), networks(101)),
        (8, quotas(8), quotas(9)),
    ] {
        let issue = async |new| keyward.manager().issue(&Actor::system("tests"), new).await;
        assert!(issue(at).await.is_ok(), "{most}");
        let refused = issue(past).await.unwrap_err();
        let is_invalid = matches!(
            refused,
            ManageError::Invalid(
                InvalidKey::TooManyResources
                    | InvalidKey::TooManyNetworks
                    | InvalidKey::TooManyQuotas
            )
        );
        assert!(
            is_invalid && refused.to_string().contains(&most.to_string()),
            "{refused}"
        );
    }
}
