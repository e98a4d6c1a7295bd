//! What a host may send to a browser: a new key once, lists, and what was done.

use keyward::http::Answer;
use keyward::manager::{KeyQuery, ManageError, PageCursor};
use keyward::store::KeyStore;
use keyward::verifier::{Attempt, Requirement};
use serde_json::{Value, json};

use crate::common::*;

#[tokio::test]
async fn revealing_shows_key_and_view() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("Power BI").await;
    let shown = serde_json::to_value(issued.reveal()).unwrap();
    let view = serde_json::to_value(issued.record().view(fixture.now())).unwrap();
    for (member, value) in view.as_object().unwrap() {
        assert_eq!(shown[member], *value, "{member}");
    }
    assert_eq!(shown["api_key"], issued.api_key().expose());
    assert_eq!(shown["secret"], issued.api_key().expose_secret());
    let more = shown.as_object().unwrap().len() - view.as_object().unwrap().len();
    assert_eq!(more, 2, "{shown}");

    let answer = Answer::from(&issued);
    assert_eq!(answer.status, 201);
    let no_store = ("cache-control", "no-store".to_owned());
    assert!(answer.headers.contains(&no_store));
    assert_eq!(
        serde_json::from_slice::<Value>(&answer.body).unwrap(),
        shown
    );

    let debug = format!("{:?}", issued.reveal());
    assert!(debug.contains(issued.api_key().display_prefix()));
    assert!(!debug.contains(issued.api_key().expose_secret()));
}

#[tokio::test]
async fn lists_show_usage_and_the_next_cursor() {
    let fixture = Fixture::new().await;
    let used = fixture.issue("used").await;
    fixture.later(SECOND);
    for title in ["second", "third"] {
        fixture.issue(title).await;
        fixture.later(SECOND);
    }
    let need = Requirement::any_key();
    let attempt = Attempt::new(used.api_key().presented(), &need);
    drop(fixture.keyward.verifier().verify(&attempt).await.unwrap());
    fixture.keyward.flush_usage().await.unwrap();

    let query = || all().limit(2);
    let page = fixture.manager().list(&system(), &query()).await.unwrap();
    let first = serde_json::to_value(page.view(fixture.now())).unwrap();
    assert_eq!(first["keys"][0]["title"], "third");
    assert_eq!(first["keys"][0]["usage"], Value::Null);
    assert_eq!(first["keys"][0]["status"], "active");
    assert_eq!(first["unreadable"], json!([]));

    // A cursor comes back from a browser as it was sent there.
    let cursor: PageCursor = serde_json::from_value(first["next"].clone()).unwrap();
    let rest = query().after(cursor).unwrap();
    let page = fixture.manager().list(&system(), &rest).await.unwrap();
    let last = serde_json::to_value(page.view(fixture.now())).unwrap();
    assert_eq!(last["keys"][0]["title"], "used");
    assert_eq!(last["keys"][0]["usage"]["granted"], 1);
    let usage = fixture.store.inner().usage().unwrap();
    let stored = usage.read(&[used.record().id()]).await.unwrap()[0].unwrap();
    assert_eq!(
        last["keys"][0]["usage"]["last_used_at"],
        text(stored.last_used_at)
    );
    assert_eq!(last["next"], Value::Null);
    assert!(serde_json::from_value::<PageCursor>(json!("a0")).is_err());
}

#[tokio::test]
async fn events_are_read_within_the_tenant() {
    let fixture = Fixture::new().await;
    let first = fixture.issue("first").await;
    let elsewhere = keyward::manager::NewKey::new(named("other"), "elsewhere", READ);
    fixture.issue_key(elsewhere).await;
    fixture.revoke(first.record().id()).await;
    let alice = alice(None);
    let events = fixture
        .manager()
        .events(&alice, &tenant(), 0, 100)
        .await
        .unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|one| (one.number, one.event.action))
        .collect();
    use keyward::audit::EventAction::{KeyIssued, KeyRevoked};
    assert_eq!(told, [(1, KeyIssued), (3, KeyRevoked)]);
    let after = fixture
        .manager()
        .events(&alice, &tenant(), 1, 100)
        .await
        .unwrap();
    assert_eq!(after, events[1..]);
    let one = fixture
        .manager()
        .events(&alice, &tenant(), 0, 1)
        .await
        .unwrap();
    assert_eq!(one, events[..1]);
    let refused = fixture
        .manager()
        .events(&alice, &named("other"), 0, 100)
        .await;
    assert!(matches!(refused, Err(ManageError::Refused)));
    let whole = KeyQuery::of(&named("other"));
    assert!(fixture.manager().list(&alice, &whole).await.is_err());
}
