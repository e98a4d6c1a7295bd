//! Requests that are read from JSON: their members, their bounds, and errors that quote no text.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{Access, Principal, Resources};
use keyward::manager::{Expiry, KeyQueryForm, KeyUpdate, ManageError, NewKeyForm};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use test_support::{JSON_SCHEMA, has};

use crate::common::*;
use crate::json::Samples;

fn form(value: &Value) -> Result<NewKeyForm, String> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn update(value: &Value) -> Result<KeyUpdate, String> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

/// A form with these members beside a title and an access.
fn with(members: &Value) -> Value {
    let mut value = json!({ "title": "Power BI", "access": { "type": "full" } });
    let members = members.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(members);
    value
}

#[tokio::test]
async fn a_form_issues_the_key_it_describes() {
    let fixture = Fixture::new().await;
    let members = json!({
        "access": { "type": "scopes", "scopes": ["write:editions", "read:editions"] },
        "environment": "test",
        "resources": { "type": "only", "resources": ["project:b", "project:a"] },
        "networks": { "type": "only", "networks": ["10.0.0.0/8", "2001:db8::/32"] },
        "quotas": [{ "name": "minute", "limit": 60, "window_seconds": 60, "subject": "owner" }],
        "concurrency": 5,
        "metadata": { "ticket": ["OPS-7", 7] },
        "not_before": "2026-11-21T11:39:09.655084+02:00",
        "expires_in_seconds": 31_536_000,
    });
    let alice = Principal::user("alice").unwrap();
    let form = form(&with(&members)).unwrap();
    let issued = fixture
        .issue_key(form.for_tenant(tenant()).owner(alice.clone()))
        .await;
    let record = issued.record();
    assert_eq!((record.tenant(), record.owner()), (&tenant(), &alice));
    let view = serde_json::to_value(record.view(fixture.now())).unwrap();
    assert_eq!(view["title"], "Power BI");
    assert_eq!(
        view["access"],
        json!({ "type": "scopes", "scopes": ["read:editions", "write:editions"] })
    );
    assert_eq!(
        view["resources"],
        json!({ "type": "only", "resources": ["project:a", "project:b"] })
    );
    for unchanged in [
        "environment",
        "networks",
        "quotas",
        "concurrency",
        "metadata",
    ] {
        assert_eq!(view[unchanged], members[unchanged], "{unchanged}");
    }
    assert_eq!(view["not_before"], "2026-11-21T09:39:09.655084Z");
    assert_eq!(view["expires_at"], text(record.created_at() + DAY * 365));

    // The view's own members make the same key again.
    let shown = [
        "title",
        "access",
        "environment",
        "resources",
        "networks",
        "quotas",
        "concurrency",
        "metadata",
    ];
    let shown = shown.into_iter().chain(["not_before", "expires_at"]);
    let shown: Map<_, _> = shown
        .map(|name| (name.to_owned(), view[name].clone()))
        .collect();
    let again = serde_json::from_value::<NewKeyForm>(shown.into()).unwrap();
    let again = fixture.issue_key(again.for_tenant(tenant())).await;
    assert_eq!(again.record().restrictions(), record.restrictions());
}

#[test]
fn the_expiry_has_three_forms() {
    let at = |members| form(&with(&members)).unwrap().expiry;
    let instant = keyward::time::OffsetDateTime::from_unix_timestamp(1_806_451_200).unwrap();
    assert_eq!(
        at(json!({ "expires_at": "2027-03-31T00:00:00Z" })),
        Some(Expiry::At(instant))
    );
    assert_eq!(
        at(json!({ "expires_on": "2027-03-31" })),
        Some(Expiry::On(instant.date()))
    );
    let week = Duration::from_secs(604_800);
    assert_eq!(
        at(json!({ "expires_in_seconds": 604_800 })),
        Some(Expiry::In(week))
    );
    assert_eq!(at(json!({ "expires_at": null })), None);
    assert_eq!(at(json!({})), None);
    let never = update(&json!({ "expires_at": null })).unwrap();
    assert_eq!(never.expiry, Some(None));
}

#[tokio::test]
async fn an_absent_member_changes_nothing() {
    let fixture = Fixture::new().await;
    let all = json!({
        "resources": { "type": "only", "resources": ["project:a"] },
        "quotas": [{ "name": "minute", "limit": 60, "window_seconds": 60, "subject": "key" }],
        "concurrency": 5, "expires_in_seconds": 60,
    });
    let issued = fixture
        .issue_key(form(&with(&all)).unwrap().for_tenant(tenant()))
        .await;
    let id = issued.record().id();
    let change = async |members: Value| {
        let update = update(&members).unwrap();
        let updated = fixture
            .manager()
            .update(&system(), &tenant(), id, update)
            .await;
        updated.map(|record| record.restrictions().clone())
    };
    let before = issued.record().restrictions().clone();
    assert_eq!(change(json!({})).await.unwrap(), before);
    let renamed = change(json!({ "title": "renamed" })).await.unwrap();
    assert_eq!(
        (renamed, fixture.record(id).await.title().as_str()),
        (before.clone(), "renamed")
    );

    let lifted = json!({
        "resources": { "type": "any" }, "quotas": [], "concurrency": null, "expires_at": null,
    });
    let lifted = change(lifted).await.unwrap();
    assert_eq!(lifted.resources, Resources::Any);
    assert!(lifted.quotas.is_empty() && lifted.concurrency.is_none());
    assert_eq!((lifted.expires_at, &lifted.access), (None, &Access::Full));
    let limited = change(json!({ "concurrency": 1 })).await.unwrap();
    assert_eq!(limited.concurrency, NonZeroU32::new(1));
    let undeclared = json!({ "access": { "type": "scopes", "scopes": ["gone"] } });
    assert!(matches!(
        change(undeclared).await,
        Err(ManageError::Invalid(_))
    ));
}

/// Members, each with the error. A `?` marks those that the schema cannot refuse.
const REFUSED: &str = r#"
{"title":7}
    `title` must be a text
{"title":""}
    `title` is refused: title is empty
{"environment":"Live"}
    `environment` is refused: the environment is 1 to 16 lower-case letters and digits, a letter first
{"access":"full"}
    `access` must be an object
{"access":{}}
    `access.type` is missing
{"access":{"type":"all"}}
    `access.type` must be `full` or `scopes`
{"access":{"type":"full","scopes":["a"]}}
    `access` of type `full` has no `scopes`
{"access":{"type":"scopes"}}
    `access.scopes` is missing
{"access":{"type":"scopes","scopes":[]}}
    `access.scopes` is empty
{"access":{"type":"scopes","scopes":["a",7]}}
    `access.scopes[1]` must be a text
{"resources":null}
    `resources` must be an object
?{"resources":{"type":"only","resources":["a"]}}
    `resources.resources[0]` is refused: resource kind must be 1 to 32 lower-case letters, digits and `_`
?{"networks":{"type":"only","networks":["10.0.0.1/8"]}}
    `networks.networks[0]` is refused: bits are set past the prefix length; the range would be 10.0.0.0/8
{"networks":{"type":"only","resources":["a:b"]}}
    `networks` has an unknown member; it may have `type`, `networks`
{"quotas":null}
    `quotas` must be a list
{"quotas":[{"name":"q"}]}
    `quotas[0].limit` is missing
{"quotas":[{"name":"q","limit":0}]}
    `quotas[0].limit` must be a whole number from 1 to 4294967295
{"quotas":[{"name":"q","limit":"1"}]}
    `quotas[0].limit` must be a whole number from 1 to 4294967295
{"quotas":[{"name":"q","limit":1,"window_seconds":31622401,"subject":"key"}]}
    `quotas[0]` is refused: quota window must be whole seconds, from 1 second to 366 days
{"quotas":[{"name":"q","limit":1,"window_seconds":60,"subject":"all"}]}
    `quotas[0].subject` must be `key`, `lineage`, `owner` or `tenant`
{"quotas":[{"name":"q","limit":1,"window_seconds":60,"subject":"key","burst":1}]}
    `quotas[0]` has an unknown member; it may have `name`, `limit`, `window_seconds`, `subject`
{"concurrency":0}
    `concurrency` must be a whole number from 1 to 4294967295
{"concurrency":4294967296}
    `concurrency` must be a whole number from 1 to 4294967295
{"concurrency":1.5}
    `concurrency` must be a whole number from 1 to 4294967295
{"metadata":[]}
    `metadata` is refused: metadata must be a JSON object
{"expires_at":"tomorrow"}
    `expires_at` must be an instant of RFC 3339, such as `2027-03-31T00:00:00Z`
{"expires_at":1806451200}
    `expires_at` must be a text
?{"expires_on":"2027-02-29"}
    `expires_on` must be a day, such as `2027-03-31`
{"expires_on":"2027-W13-3"}
    `expires_on` must be a day, such as `2027-03-31`
{"expires_on":null}
    `expires_on` must be a text
{"expires_in_seconds":-1}
    `expires_in_seconds` must be a whole number of seconds
{"expires_at":null,"expires_on":"2027-03-31"}
    it has more than one of `expires_at`, `expires_on`, `expires_in_seconds`
"#;

#[test]
fn errors_name_the_member_and_its_rule() {
    let mut samples = Samples::default();
    let lines: Vec<_> = REFUSED.trim().lines().collect();
    for case in lines.chunks(2) {
        let (members, says) = (case[0], case[1].trim());
        let is_in_schema = !members.starts_with('?');
        let members: Value = serde_json::from_str(members.trim_start_matches('?')).unwrap();
        assert_eq!(form(&with(&members)).unwrap_err(), says, "{members}");
        if is_in_schema {
            samples.bad("NewKeyForm", with(&members));
        }
        if members.get("environment").is_none() {
            assert_eq!(update(&members).unwrap_err(), says, "{members}");
            if is_in_schema {
                samples.bad("KeyUpdate", members);
            }
        }
    }
    assert_eq!(form(&json!({})).unwrap_err(), "`title` is missing");
    assert_eq!(
        form(&json!({ "title": "x" })).unwrap_err(),
        "`access` is missing"
    );
    assert_eq!(form(&json!([])).unwrap_err(), "it must be a JSON object");
    if has(&[JSON_SCHEMA]) {
        samples.judge();
    }
}

#[test]
fn texts_and_lists_are_bounded() {
    let mut samples = Samples::default();
    let (scopes, resources) = (|count| vec!["a"; count], |count| vec!["project:a"; count]);
    let networks = |count| vec!["10.0.0.0/8"; count];
    let quotas = |count: usize| {
        let quota = |index: usize| {
            let name = index.to_string();
            json!({ "name": name, "limit": 1, "window_seconds": 1, "subject": "key" })
        };
        (0..count).map(quota).collect::<Vec<_>>()
    };
    for (most, more) in [
        (
            json!({ "title": "x".repeat(100) }),
            json!({ "title": "x".repeat(101) }),
        ),
        (
            json!({ "access": { "type": "scopes", "scopes": scopes(256) } }),
            json!({ "access": { "type": "scopes", "scopes": scopes(257) } }),
        ),
        (
            json!({ "resources": { "type": "only", "resources": resources(1_000) } }),
            json!({ "resources": { "type": "only", "resources": resources(1_001) } }),
        ),
        (
            json!({ "networks": { "type": "only", "networks": networks(100) } }),
            json!({ "networks": { "type": "only", "networks": networks(101) } }),
        ),
        (
            json!({ "quotas": quotas(8) }),
            json!({ "quotas": quotas(9) }),
        ),
    ] {
        assert!(
            form(&with(&most)).is_ok() && update(&most).is_ok(),
            "{most}"
        );
        samples.good("NewKeyForm", with(&most));
        samples.good("KeyUpdate", &most);
        let says = form(&with(&more)).unwrap_err();
        assert!(says.contains(" has more than "), "{says}");
        assert_eq!(update(&more).unwrap_err(), says);
        samples.bad("NewKeyForm", with(&more));
        samples.bad("KeyUpdate", more);
    }
    let twins = [quotas(1), quotas(1)].concat();
    let twins = json!({ "quotas": twins });
    let says = form(&with(&twins)).unwrap_err();
    assert_eq!(says, "`quotas` has two quotas of the same name");
    let metadata = json!({ "metadata": { "a": "x".repeat(4_096) } });
    assert!(
        form(&with(&metadata))
            .unwrap_err()
            .starts_with("`metadata` is refused: ")
    );
    if has(&[JSON_SCHEMA]) {
        samples.judge();
    }
}

#[test]
fn unknown_and_repeated_members_are_refused() {
    for member in ["tenant", "owner", "id", "created_by", "Title", "acess", ""] {
        let value = with(&json!({ member: "acme-inc" }));
        let says = form(&value).unwrap_err();
        assert!(
            says.starts_with("it has an unknown member; it may have `title`, `access`"),
            "{says}"
        );
        let says = update(&json!({ member: "acme-inc" })).unwrap_err();
        assert!(says.starts_with("it has an unknown member"), "{says}");
    }
    for member in ["not_before", "environment"] {
        assert!(update(&json!({ member: null })).is_err(), "{member}");
    }
    for twice in [
        r#"{"title":"a","title":"b","access":{"type":"full"}}"#,
        r#"{"title":"a","access":{"type":"full"},"access":{"type":"full"}}"#,
        r#"{"title":"a","access":{"type":"scopes","scopes":["a"],"type":"full"}}"#,
        r#"{"title":"a","access":{"type":"full"},"metadata":{"a":1,"a":2}}"#,
    ] {
        let says = serde_json::from_str::<NewKeyForm>(twice)
            .unwrap_err()
            .to_string();
        assert!(
            says.starts_with("a member is given twice at line 1"),
            "{says}"
        );
    }
}

#[test]
fn no_error_quotes_a_text_of_the_request() {
    const KEY: &str =
        "acme_test_0LuGM1dAzlqNeTR9gIheIB0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg3uYOKJ";
    let in_place_of = |value: &Value, pointer: &str| {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).unwrap() = json!(KEY);
        changed
    };
    let whole = with(&json!({
        "access": { "type": "scopes", "scopes": ["a"] }, "environment": "test",
        "resources": { "type": "only", "resources": ["project:a"] },
        "networks": { "type": "only", "networks": ["10.0.0.0/8"] },
        "quotas": [{ "name": "q", "limit": 1, "window_seconds": 60, "subject": "key" }],
        "concurrency": 5, "metadata": {}, "not_before": null, "expires_at": null,
    }));
    assert!(form(&whole).is_ok());
    let mut pointers = vec![String::new()];
    let mut refused = 0;
    while let Some(pointer) = pointers.pop() {
        let within = whole.pointer(&pointer).unwrap();
        match within {
            Value::Object(members) => {
                pointers.extend(members.keys().map(|name| format!("{pointer}/{name}")));
                let mut more = whole.clone();
                let members = more.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
                members.insert(KEY.to_owned(), json!(1));
                // Metadata may have any member.
                if let Err(says) = form(&more) {
                    assert!(!says.contains("acme_test"), "{says}");
                    refused += 1;
                }
            }
            Value::Array(list) => {
                pointers.extend((0..list.len()).map(|index| format!("{pointer}/{index}")));
            }
            _ => {}
        }
        // The title is checked for keys when the key is issued.
        if let Err(says) = form(&in_place_of(&whole, &pointer)) {
            assert!(!says.contains("acme_test"), "{says}");
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
    let kept = form(&with(&json!({ "metadata": { "a": KEY } }))).unwrap();
    assert!(!format!("{kept:?}").contains("acme_test"));
}

#[test]
fn numbers_of_any_precision_are_read() {
    // As `serde_json` hands numbers over if any crate of the program enables `arbitrary_precision`.
    let number = json!({ "$serde_json::private::Number": "5" });
    let form = form(&with(&json!({ "concurrency": number }))).unwrap();
    assert_eq!(form.concurrency, NonZeroU32::new(5));
    // Metadata keeps no more than a process without the feature can read.
    let metadata = |value: Value| form_with_metadata(&json!({ "value": value }));
    let digits = |digits: &str| json!({ "$serde_json::private::Number": digits });
    for (text, kept) in [
        ("5", json!(5)),
        ("-5", json!(-5)),
        ("1.50", json!(1.5)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
        ("-0", json!(-0.0)),
    ] {
        let read = metadata(digits(text)).unwrap();
        assert_eq!(read["value"].to_string(), kept.to_string());
    }
    let large = serde::de::value::MapDeserializer::<_, serde_json::Error>::new(
        [("limit", u128::from(u64::MAX) + 1)].into_iter(),
    );
    let says = KeyQueryForm::deserialize(large).unwrap_err();
    assert!(says.to_string().starts_with("`limit` must be"), "{says}");
    for unreadable in [
        digits("1e400"),
        digits("NaN"),
        digits("007"),
        digits(""),
        json!({ "$serde_json::private::Number": 5 }),
        json!({ "$serde_json::private::Number": "5", "more": 1 }),
        json!({ "$serde_json::private::RawValue": "5" }),
    ] {
        let says = metadata(unreadable).unwrap_err();
        assert_eq!(
            says,
            "a number is out of range, or a member has a reserved name"
        );
    }
}

fn form_with_metadata(metadata: &Value) -> Result<serde_json::Map<String, Value>, String> {
    let form = form(&with(&json!({ "metadata": metadata })))?;
    Ok(form.metadata.as_object().clone())
}
