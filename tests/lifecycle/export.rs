//! Exporting what keys may do at most, page by page.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{Network, Quota, Resource, RevokeReason};
use keyward::manager::{
    KeyBound, KeyQuery, ManageError, NewKey, PageCursorError, RestrictionPage, RevokeAll,
};

use serde_json::Value;

use crate::common::*;

async fn export(fixture: &Fixture) -> RestrictionPage {
    fixture
        .manager()
        .export_restrictions(&system(), &tenant(), None)
        .await
        .unwrap()
}

#[tokio::test]
async fn revocations_round_trip_as_json() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let words = RevokeReason::other("in a public repository").unwrap();
    let id = issued.record().id();
    fixture
        .manager()
        .revoke(&system(), &tenant(), id, words)
        .await
        .unwrap();
    let record = export(&fixture).await.restrictions.remove(0);
    let line = serde_json::to_string(&record).unwrap();
    let at = text(fixture.now());
    let bound = format!(r#"{{"type":"revoked","at":"{at}","reason":"in a public repository"}}"#);
    let expected = format!(r#"{{"id":"{id}","tenant":"acme-inc","bound":{bound}}}"#);
    assert_eq!(line, expected);
    assert_eq!(serde_json::from_str::<KeyBound>(&line).unwrap(), record);
    // A later version may tell more of the key: an older node still replays what it knows.
    let more = line.replacen('{', r#"{"unknown":1,"#, 1);
    assert_eq!(serde_json::from_str::<KeyBound>(&more).unwrap(), record);
}

#[tokio::test]
async fn limits_round_trip_whole_or_not() {
    let fixture = Fixture::new().await;
    let minute = Duration::from_secs(60);
    let ten = NonZeroU32::new(10).unwrap();
    let expiry = fixture.now() + DAY;
    let new = new_key("key")
        .resources("project:a".parse::<Resource>().unwrap())
        .networks("10.0.0.0/8".parse::<Network>().unwrap())
        .quota(Quota::new("minute", ten, minute).unwrap())
        .concurrency(ten)
        .expires_at(expiry);
    let issued = fixture.issue_key(new).await;
    let id = issued.record().id();
    let suspended = fixture.manager().suspend(&system(), &tenant(), id).await;
    let at = text(suspended.unwrap().suspended_at().unwrap());
    let record = export(&fixture).await.restrictions.remove(0);
    let line = serde_json::to_string(&record).unwrap();
    let expiry = text(expiry);
    let bound = [
        r#"{"type":"limited","restrictions":{"#,
        r#""access":{"type":"scopes","scopes":["read:editions"]},"#,
        r#""resources":{"type":"only","resources":["project:a"]},"#,
        r#""networks":{"type":"only","networks":["10.0.0.0/8"]},"#,
        r#""quotas":[{"name":"minute","limit":10,"window_seconds":60,"subject":"key"}],"concurrency":10,"#,
        &format!(r#""not_before":null,"expires_at":"{expiry}"}},"suspended_at":"{at}"}}"#),
    ]
    .concat();
    let expected = format!(r#"{{"id":"{id}","tenant":"acme-inc","bound":{bound}}}"#);
    assert_eq!(line, expected);
    assert_eq!(serde_json::from_str::<KeyBound>(&line).unwrap(), record);
    assert!(!line.contains(issued.api_key().expose_secret()));

    let whole: Value = serde_json::from_str(&line).unwrap();
    for within in ["/bound", "/bound/restrictions"] {
        let fields = whole.pointer(within).unwrap().as_object().unwrap();
        let mut damaged = Vec::new();
        for field in fields.keys() {
            let mut fewer = fields.clone();
            fewer.remove(field);
            damaged.push(fewer);
        }
        let mut more = fields.clone();
        more.insert("hours".into(), "9-17".into());
        damaged.push(more);
        for fields in damaged {
            let mut record = whole.clone();
            *record.pointer_mut(within).unwrap() = Value::Object(fields);
            let read = serde_json::from_value::<KeyBound>(record.clone());
            assert!(read.is_err(), "half-read: {record}");
        }
    }
}

#[tokio::test]
async fn an_export_resumes_from_its_cursor() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let none = export(&fixture).await;
    assert!(none.restrictions.is_empty() && none.next.is_none() && !none.has_more);
    for n in 0..1_003 {
        fixture.issue(&format!("key {n}")).await;
    }
    fixture
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    let all = RevokeAll::new(RevokeReason::Leaked);
    manager
        .revoke_all(&system(), &named("other"), all.clone())
        .await
        .unwrap();
    manager.revoke_all(&system(), &tenant(), all).await.unwrap();
    let newest = fixture.issue("newest").await.record().id();
    let first = export(&fixture).await;
    assert_eq!((first.restrictions.len(), first.has_more), (1_000, true));
    assert_eq!(first.restrictions[0].id, newest);
    let after = async |cursor| {
        manager
            .export_restrictions(&system(), &tenant(), cursor)
            .await
            .unwrap()
    };
    let second = after(first.next).await;
    assert_eq!((second.restrictions.len(), second.has_more), (4, false));
    let mut ids: Vec<_> = first
        .restrictions
        .iter()
        .chain(&second.restrictions)
        .map(|one| one.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_004, "each once, and none of another tenant's");

    let none = after(second.next).await;
    assert!(none.restrictions.is_empty() && !none.has_more);
    assert_eq!(none.next, second.next, "the cursor is kept for later");
    fixture.revoke(newest).await;
    let since = after(none.next.unwrap().to_string().parse().ok()).await;
    assert_eq!(
        since
            .restrictions
            .iter()
            .map(|one| one.id)
            .collect::<Vec<_>>(),
        [newest]
    );

    // A cursor belongs to its tenant's export, and to nothing else.
    let cursor = since.next.unwrap();
    let imported = manager
        .export_restrictions(&system(), &named("other"), Some(cursor))
        .await;
    assert!(matches!(
        imported,
        Err(ManageError::Cursor(PageCursorError::OtherQuery))
    ));
    for query in [
        KeyQuery::of(&tenant()),
        KeyQuery::of(&tenant()).live_first(),
    ] {
        assert_eq!(
            query.clone().after(cursor),
            Err(PageCursorError::OtherQuery)
        );
        let listed = manager
            .list(&system(), &query.live_first().limit(1))
            .await
            .unwrap();
        let imported = manager
            .export_restrictions(&system(), &tenant(), listed.next)
            .await;
        assert!(matches!(
            imported,
            Err(ManageError::Cursor(PageCursorError::OtherQuery))
        ));
    }
}
