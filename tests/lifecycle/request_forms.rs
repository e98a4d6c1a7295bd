//! The smaller requests of a management API: rotations, revocations and list queries.

use keyward::key::{Principal, RevokeReason};
use keyward::manager::{Expiry, KeyQuery, KeyQueryForm, KeyUpdate, Overlap, RevokeForm, Rotation};
use keyward::time::{Duration, OffsetDateTime};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, MapDeserializer};
use serde_json::{Value, json};

use crate::common::*;

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Reads a query as the deserializer of a URL hands it over: all values are texts.
fn query(members: &[(&str, &str)]) -> Result<KeyQueryForm, String> {
    let members = MapDeserializer::<_, Error>::new(members.iter().copied());
    KeyQueryForm::deserialize(members).map_err(|error| error.to_string())
}

#[test]
fn rotations_name_their_overlap() {
    let overlap = |value| read::<Rotation>(value).map(|rotation| rotation.overlap());
    let until = OffsetDateTime::UNIX_EPOCH;
    for (value, wanted) in [
        (json!({ "overlap_seconds": 0 }), Overlap::None),
        (json!({ "overlap_seconds": 3_600 }), Overlap::For(HOUR)),
        (
            json!({ "overlap_until": "1970-01-01T00:00:00Z" }),
            Overlap::Until(until),
        ),
        (json!({ "overlap_until": null }), Overlap::UntilRevoked),
    ] {
        assert_eq!(overlap(value), Ok(wanted));
    }
    let one = Err("it must have one of `overlap_seconds`, `overlap_until`".to_owned());
    assert_eq!(overlap(json!({})), one);
    assert_eq!(
        overlap(json!({ "overlap_seconds": 1, "overlap_until": null })),
        one
    );
    for wrong in [json!(-1), json!(1.5), json!("1"), json!(null)] {
        let says = overlap(json!({ "overlap_seconds": wrong })).unwrap_err();
        assert_eq!(says, "`overlap_seconds` must be a whole number of seconds");
    }
    let says = overlap(json!({ "overlap_seconds": 1, "request_id": "a" })).unwrap_err();
    assert!(says.starts_with("it has an unknown member"), "{says}");
}

#[test]
fn rotations_may_name_an_expiry() {
    let rotation = |mut value: Value| {
        value["overlap_seconds"] = json!(0);
        read::<Rotation>(value).unwrap()
    };
    let as_before = rotation(json!({}));
    assert!(as_before.expiry().is_none() && !as_before.is_unlimited());
    assert!(rotation(json!({ "expires_at": null })).is_unlimited());
    let day = OffsetDateTime::UNIX_EPOCH.date();
    let on = rotation(json!({ "expires_on": "1970-01-01" }));
    assert_eq!(on.expiry(), Some(Expiry::On(day)));
    let two = json!({ "overlap_seconds": 0, "expires_on": "1970-01-01", "expires_at": null });
    assert!(read::<Rotation>(two).is_err());
}

#[test]
fn revocations_name_their_reason() {
    let reason = |value| read::<RevokeForm>(value).map(|form| form.reason);
    assert_eq!(
        reason(json!({ "reason": "leaked" })),
        Ok(RevokeReason::Leaked)
    );
    let words = RevokeReason::other("laptop stolen").unwrap();
    assert_eq!(reason(json!({ "reason": "laptop stolen" })), Ok(words));
    assert_eq!(reason(json!({})), Err("`reason` is missing".to_owned()));
    for wrong in [
        json!(""),
        json!("a\nb"),
        json!("x".repeat(101)),
        json!(null),
    ] {
        let says = reason(json!({ "reason": wrong })).unwrap_err();
        assert!(says.starts_with("`reason` "), "{says}");
    }
    assert!(reason(json!({ "reason": "leaked", "id": "1" })).is_err());
}

#[test]
fn list_queries_come_from_a_url() {
    let form = query(&[
        ("limit", "20"),
        ("owner", "user:alice"),
        ("title_prefix", "ETL"),
        ("display_prefix", "acme_"),
        ("status", "not_yet_valid"),
        ("with_revoked", "true"),
        ("due_for_rotation_seconds", "3600"),
        ("expiring_within_seconds", "7200"),
        ("unused_for_seconds", "60"),
        ("after", ""),
    ]);
    let wanted = KeyQuery::of(&tenant())
        .live_first()
        .limit(20)
        .owner(&Principal::user("alice").unwrap())
        .title_prefix("ETL")
        .display_prefix("acme_")
        .status(keyward::key::KeyStatus::NotYetValid)
        .due_for_rotation(HOUR)
        .expiring_within(HOUR * 2)
        .unused_for(Duration::MINUTE.unsigned_abs());
    assert!(form.unwrap().for_tenant(&tenant()) == Ok(wanted));
    assert!(query(&[]).unwrap().for_tenant(&tenant()) == Ok(KeyQuery::of(&tenant())));
}

#[test]
fn wrong_list_queries_are_explained() {
    let text = "acme_test_secret".repeat(10);
    for (name, value, says) in [
        (
            "limit",
            "0",
            "`limit` must be a whole number from 1 to 1000",
        ),
        (
            "limit",
            "1001",
            "`limit` must be a whole number from 1 to 1000",
        ),
        (
            "limit",
            "+5",
            "`limit` must be a whole number from 1 to 1000",
        ),
        ("after", "x", "`after` is refused: the cursor is malformed"),
        (
            "with_revoked",
            "yes",
            "`with_revoked` must be `true` or `false`",
        ),
        (
            "unused_for_seconds",
            "1d",
            "`unused_for_seconds` must be a whole number of seconds",
        ),
        (
            "title_prefix",
            &text,
            "`title_prefix` has more than 100 characters",
        ),
    ] {
        assert_eq!(query(&[(name, value)]).unwrap_err(), says);
    }
    for (name, value) in [("owner", &*text), ("status", &text), ("tenant", "acme-inc")] {
        let says = query(&[(name, value)]).unwrap_err();
        assert!(!says.contains(value), "{says}");
    }
    assert_eq!(
        query(&[("limit", "1"), ("limit", "2")]).unwrap_err(),
        "a member is given twice"
    );
}

#[tokio::test]
async fn a_cursor_keeps_the_forms_conditions() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        fixture.issue("key").await;
    }
    let first = query(&[("limit", "1"), ("title_prefix", "key")]).unwrap();
    let first = first.for_tenant(&tenant()).unwrap();
    let page = fixture.manager().list(&system(), &first).await.unwrap();
    let cursor = page.next.unwrap().to_string();
    let next = query(&[("after", &cursor), ("title_prefix", "key")]).unwrap();
    assert!(next.for_tenant(&tenant()).is_ok());
    assert!(
        query(&[("after", &cursor)])
            .unwrap()
            .for_tenant(&tenant())
            .is_err()
    );
}

#[test]
fn requested_quotas_count_per_key() {
    let quota = json!({ "name": "minute", "limit": 60, "window_seconds": 60 });
    let update: KeyUpdate = read(json!({ "quotas": [quota.clone()] })).unwrap();
    let quotas = update.quotas.unwrap();
    assert_eq!(quotas[0].subject(), keyward::key::QuotaSubject::Key);
    // A stored document without it says nothing about what was meant.
    assert!(read::<keyward::key::Quota>(quota).is_err());
}

#[tokio::test]
async fn views_use_the_managers_clock() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.manager().now().unwrap(), fixture.now());
}
