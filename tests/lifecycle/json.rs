//! What is written as JSON, held to the published schema; and hashes, in hex.

use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::process::{Command, Stdio};

use keyward::audit::{ChainHead, SealedEvent, verify_log};
use keyward::key::{Access, Metadata, Network, Quota, Resource, RevokeReason};
use keyward::manager::{
    KeyBound, KeyQueryForm, KeyUpdate, NewKey, NewKeyForm, RevokeAll, RevokeForm, Rotation,
};
use keyward::store::KeyStore;
use serde::Serialize;
use serde_json::{Value, json};
use test_support::{JSON_SCHEMA, has};

use crate::common::*;

const SCHEMA: &str = include_str!("../../docs/json-schema.json");

/// Values, each with the name of its definition in the schema, and whether it satisfies it.
#[derive(Default)]
pub(crate) struct Samples(Vec<(String, Value, bool)>);

impl Samples {
    pub(crate) fn good(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap();
        self.0.push((name.to_owned(), value, true));
    }

    pub(crate) fn bad(&mut self, name: &str, value: Value) {
        self.0.push((name.to_owned(), value, false));
    }

    /// Lets a validator of JSON Schema judge the values.
    pub(crate) fn judge(&self) {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let mut python = Command::new("python3")
            .arg(format!("{here}lifecycle/by_schema.py"))
            .arg(format!("{here}../docs/json-schema.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|sample| json!(sample).to_string())
            .collect();
        let mut input = python.stdin.take().unwrap();
        input.write_all(lines.join("\n").as_bytes()).unwrap();
        drop(input);
        let output = python.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("{} checked\n", self.0.len()));
    }
}

/// A key that has every restriction.
fn restricted() -> NewKey {
    let ten = NonZeroU32::new(10).unwrap();
    let metadata = Metadata::try_from(json!({ "ticket": "OPS-7", "nested": [1, 2.5] })).unwrap();
    new_key("restricted")
        .resources("project:a".parse::<Resource>().unwrap())
        .networks("10.0.0.0/8".parse::<Network>().unwrap())
        .quota(Quota::new("minute", ten, HOUR).unwrap())
        .concurrency(ten)
        .metadata(metadata)
        .expires_in(DAY)
}

#[tokio::test]
async fn all_that_is_written_is_in_the_schema() {
    if !has(&[JSON_SCHEMA]) {
        return;
    }
    let fixture = Fixture::new().await;
    let (manager, now) = (fixture.manager(), fixture.now());
    let mut written = Samples::default();

    let full = NewKey::new(tenant(), "full", Access::Full).not_before(now + HOUR);
    for new in [restricted(), full] {
        let issued = fixture.issue_key(new).await;
        written.good("Revealed", issued.reveal());
        written.good("KeyView", issued.record().view(now));
    }
    let used = fixture.issue("used").await;
    assert_eq!(fixture.answer(used.api_key()).await, Answer::Admitted);
    fixture.keyward.flush_usage().await.unwrap();
    let rotated = fixture.issue("rotated").await.record().id();
    let alice = alice(None)
        .from_address(IpAddr::from([203, 0, 113, 7]))
        .in_request("9f2c");
    let overlap = keyward::manager::Overlap::For(HOUR);
    manager
        .rotate(&alice, &tenant(), rotated, overlap)
        .await
        .unwrap();
    manager.suspend(&alice, &tenant(), rotated).await.unwrap();
    let update = KeyUpdate::new().title("renamed").access([READ, WRITE]);
    let updated = fixture.issue("named").await.record().id();
    manager
        .update(&alice, &tenant(), updated, update)
        .await
        .unwrap();
    let words = RevokeReason::other("in a public repository").unwrap();
    written.good(
        "Revoked",
        manager
            .revoke(&alice, &tenant(), updated, words)
            .await
            .unwrap(),
    );

    let page = manager.list(&system(), &all().live_first()).await.unwrap();
    assert_eq!(page.keys.len(), 6);
    written.good("KeyList", page.view(now));
    written.good(
        "KeyList",
        manager
            .list(&system(), &all().limit(1))
            .await
            .unwrap()
            .view(now),
    );
    for view in page.view(now).keys {
        let one = manager.view(&alice, &tenant(), view.view.id).await;
        written.good("ListedKey", one.unwrap());
    }
    let exported = manager
        .export_restrictions(&system(), &tenant(), None)
        .await
        .unwrap();
    let damaged = fixture.issue("damaged").await.record().id();
    fixture
        .tamper(damaged, "restrictions/access", json!(7))
        .await;
    let unreadable = manager
        .export_restrictions(&system(), &tenant(), None)
        .await
        .unwrap();
    for bound in exported.restrictions.iter().chain(&unreadable.restrictions) {
        written.good("KeyBound", bound);
    }
    fixture.later(HOUR);
    let everything = RevokeAll::new(RevokeReason::Leaked);
    written.good(
        "RevokedAll",
        manager
            .revoke_all(&system(), &tenant(), everything)
            .await
            .unwrap(),
    );
    for after in [0, 999] {
        let tenant = tenant();
        let events = manager.events_of(&alice, &tenant, rotated, after, 2);
        written.good("KeyEvents", events.await.unwrap());
    }
    for event in manager
        .events(&system(), &tenant(), 0, 1_000)
        .await
        .unwrap()
    {
        written.good("ChainHead", event.head());
        written.good("SealedEvent", event);
    }
    written.judge();
}

#[test]
fn a_choice_is_an_object_in_one_form_only() {
    let mut samples = Samples::default();
    let choices = [
        json!("full"),
        json!("any"),
        json!({}),
        json!(null),
        json!({ "only": ["project:a"] }),
        json!({ "scopes": ["read"] }),
        json!({ "type": "full", "scopes": ["read"] }),
        json!({ "type": "any", "resources": null }),
        json!({ "type": "any", "networks": [] }),
        json!({ "type": "scopes", "scopes": [] }),
        json!({ "type": "only", "resources": [] }),
        json!({ "type": "only", "networks": [] }),
        json!({ "type": "only" }),
        json!({ "type": "FULL" }),
        json!({ "type": ["full"] }),
    ];
    for value in choices {
        assert!(
            serde_json::from_value::<Access>(value.clone()).is_err(),
            "{value}"
        );
        assert!(
            serde_json::from_value::<keyward::key::Resources>(value.clone()).is_err(),
            "{value}"
        );
        assert!(
            serde_json::from_value::<keyward::key::Networks>(value.clone()).is_err(),
            "{value}"
        );
        for name in ["Access", "Resources", "Networks"] {
            samples.bad(name, value.clone());
        }
    }
    let twice = r#"{"type":"scopes","type":"full"}"#;
    assert!(serde_json::from_str::<Access>(twice).is_err());
    if has(&[JSON_SCHEMA]) {
        samples.judge();
    }
}

#[test]
fn a_query_is_read_as_in_the_schema() {
    let cursor = format!("a{}", "0".repeat(64));
    let members = [
        ("after", json!([cursor, "", "a", null, 1])),
        (
            "limit",
            json!([
                1, 1000, 0, 1001, -1, "7", "007", "1000", "0", "1001", "", "+1", null
            ]),
        ),
        (
            "owner",
            json!(["user:alice", "system:x", "", "alice", "group:a", null]),
        ),
        (
            "title_prefix",
            json!(["ETL", "", "x".repeat(100), "x".repeat(101), null, 1]),
        ),
        (
            "display_prefix",
            json!(["acme_", "", "x".repeat(101), true]),
        ),
        (
            "status",
            json!([
                "active",
                "not_yet_valid",
                "suspended",
                "expired",
                "revoked",
                "",
                "Active",
                null
            ]),
        ),
        (
            "with_revoked",
            json!([true, false, "true", "false", "", "yes", 1, null]),
        ),
        (
            "due_for_rotation_seconds",
            json!([0, 3600, "3600", "", -1, 0.5, "1h", null]),
        ),
        ("expiring_within_seconds", json!([60, "60", "-60", [60]])),
        ("unused_for_seconds", json!([60, "60", "٣", {}])),
        ("tenant", json!(["acme-inc", ""])),
    ];
    let mut samples = Samples::default();
    for (name, values) in members {
        let (mut accepted, mut refused) = (0, 0);
        for value in values.as_array().unwrap() {
            let query = json!({ name: value });
            if serde_json::from_value::<KeyQueryForm>(query.clone()).is_ok() {
                accepted += 1;
                samples.good("KeyQueryForm", query);
            } else {
                refused += 1;
                samples.bad("KeyQueryForm", query);
            }
        }
        assert!(refused > 0 && (accepted > 0 || name == "tenant"), "{name}");
    }
    if has(&[JSON_SCHEMA]) {
        samples.judge();
    }
}

#[test]
fn documented_examples_are_readable() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut samples = Samples::default();
    let mut read = Vec::new();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for example in definition["examples"].as_array().into_iter().flatten() {
            samples.good(name, example);
            let example = example.clone();
            let is_read = match &**name {
                "NewKeyForm" => serde_json::from_value::<NewKeyForm>(example).map(drop),
                "KeyUpdate" => serde_json::from_value::<KeyUpdate>(example).map(drop),
                "KeyQueryForm" => serde_json::from_value::<KeyQueryForm>(example).map(drop),
                "Rotation" => serde_json::from_value::<Rotation>(example).map(drop),
                "RevokeForm" => serde_json::from_value::<RevokeForm>(example).map(drop),
                "KeyBound" => serde_json::from_value::<KeyBound>(example).map(drop),
                "SealedEvent" => serde_json::from_value::<SealedEvent>(example).map(drop),
                "ChainHead" => serde_json::from_value::<ChainHead>(example).map(drop),
                other => panic!("no type for the examples of {other}"),
            };
            is_read.unwrap();
            read.push(&**name);
        }
    }
    read.dedup();
    let guide = include_str!("../../src/manual/management.md");
    let (_, after) = guide.split_once("```json\n").unwrap();
    let body: Value = serde_json::from_str(after.split_once("```").unwrap().0).unwrap();
    assert!(serde_json::from_value::<NewKeyForm>(body.clone()).is_ok());
    samples.good("NewKeyForm", body);
    assert_eq!(
        read,
        [
            "ChainHead",
            "KeyBound",
            "KeyQueryForm",
            "KeyUpdate",
            "NewKeyForm",
            "RevokeForm",
            "Rotation",
            "SealedEvent"
        ]
    );
    if has(&[JSON_SCHEMA]) {
        samples.judge();
    }
}

#[tokio::test]
async fn hashes_are_hex_and_verify_again() {
    let fixture = Fixture::new().await;
    fixture.issue("one").await;
    fixture.issue("two").await;
    let events = fixture
        .store
        .inner()
        .events()
        .unwrap()
        .read(None, 0, 10)
        .await
        .unwrap();
    let text = serde_json::to_string(&events).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let hash = value[0]["hash"].as_str().unwrap();
    let bytes: Vec<String> = events[0]
        .hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hash, bytes.concat());

    let read: Vec<SealedEvent> = serde_json::from_str(&text).unwrap();
    let head = verify_log(&read).unwrap();
    let kept = serde_json::to_string(&head).unwrap();
    assert_eq!(
        serde_json::from_str::<ChainHead>(&kept).unwrap(),
        events[1].head()
    );
    for bad in [
        json!(hash.to_uppercase()),
        json!(hash[1..]),
        json!(format!("{hash}00")),
        json!(events[0].hash),
        json!(null),
    ] {
        let head = json!({ "events": 1, "hash": bad });
        assert!(serde_json::from_value::<ChainHead>(head).is_err(), "{bad}");
    }
}
