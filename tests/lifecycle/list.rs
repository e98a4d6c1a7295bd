//! Listing a tenant's keys by what they are, and how they have been used.

use std::time::Duration;

use keyward::key::{KeyId, KeyRecord, KeyStatus, Principal};
use keyward::manager::{KeyQuery, KeyUpdate, NewKey, Overlap};
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn newest_first_and_unrevoked() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(fixture.issue(&format!("key {n}")).await.record().id());
        fixture.later(SECOND);
    }
    fixture
        .issue_key(NewKey::new(named("other"), "not mine", READ))
        .await;
    let listed = async |query: &KeyQuery| -> Vec<KeyId> {
        let list = fixture.manager().list(&system(), query).await.unwrap();
        list.keys.iter().map(KeyRecord::id).collect()
    };
    assert_eq!(
        listed(&all()).await,
        [ids[4], ids[3], ids[2], ids[1], ids[0]]
    );
    for id in [ids[3], ids[1]] {
        fixture.revoke(id).await;
    }
    assert_eq!(listed(&all()).await, [ids[4], ids[2], ids[0]]);
    // A key just revoked moves to the bottom, and expiry is never an order.
    let whole = [ids[4], ids[2], ids[0], ids[3], ids[1]];
    assert_eq!(listed(&all().live_first()).await, whole);
    assert!(listed(&KeyQuery::of(&named("nobody"))).await.is_empty());
}

#[tokio::test]
async fn by_owner() {
    let fixture = Fixture::new().await;
    let (bob, robot) = (
        Principal::user("bob").unwrap(),
        Principal::integration("bob").unwrap(),
    );
    fixture.issue_key(new_key("bob's").owner(bob.clone())).await;
    fixture
        .issue_key(new_key("robot's").owner(robot.clone()))
        .await;
    fixture
        .issue_key(NewKey::new(named("other"), "elsewhere", READ).owner(bob.clone()))
        .await;
    let revoked = fixture
        .issue_key(new_key("bob's revoked").owner(bob.clone()))
        .await;
    fixture.revoke(revoked.record().id()).await;
    assert_eq!(titles(&fixture, all().owner(&bob)).await, ["bob's"]);
    assert_eq!(titles(&fixture, all().owner(&robot)).await, ["robot's"]);
    let both = titles(&fixture, all().owner(&bob).live_first()).await;
    assert_eq!(both, ["bob's", "bob's revoked"]);
    let nobody = Principal::system("bob").unwrap();
    assert!(titles(&fixture, all().owner(&nobody)).await.is_empty());
}

#[tokio::test]
async fn by_title_prefix() {
    let fixture = Fixture::new().await;
    for title in ["ETL", "ETL nightly", "etl", "E%L", "Ä", "nightly ETL"] {
        fixture.issue(title).await;
    }
    for (start, expected) in [
        ("ETL", &["ETL", "ETL nightly"][..]),
        ("ETL ", &["ETL nightly"]),
        ("etl", &["etl"]),
        ("E%", &["E%L"]),
        ("E_L", &[]),
        ("%", &[]),
        ("Ä", &["Ä"]),
        ("ETL nightly and more", &[]),
    ] {
        assert_eq!(
            titles(&fixture, all().title_prefix(start)).await,
            expected,
            "{start}"
        );
    }
    assert_eq!(titles(&fixture, all().title_prefix("")).await.len(), 6);
    // As it is called now.
    let list = fixture
        .manager()
        .list(&system(), &all().title_prefix("etl"))
        .await
        .unwrap();
    let update = KeyUpdate::new().title("renamed");
    let id = list.keys[0].id();
    fixture
        .manager()
        .update(&system(), &tenant(), id, update)
        .await
        .unwrap();
    assert_eq!(
        titles(&fixture, all().title_prefix("ren")).await,
        ["renamed"]
    );
    assert!(titles(&fixture, all().title_prefix("etl")).await.is_empty());
}

#[tokio::test]
async fn by_display_prefix() {
    let fixture = Fixture::new().await;
    let mut keys = Vec::new();
    for n in 0..30 {
        keys.push(fixture.issue(&format!("key {n}")).await);
    }
    let key = &keys[17];
    let shown = key.api_key().display_prefix();
    let title = key.record().title().to_string();
    assert_eq!(
        titles(&fixture, all().display_prefix(shown)).await,
        [&*title]
    );
    let mut last = 30;
    for length in 0..=shown.len() {
        let start = &shown[..length];
        let found = titles(&fixture, all().display_prefix(start)).await;
        let begins =
            |key: &&keyward::manager::Issued| key.api_key().display_prefix().starts_with(start);
        assert_eq!(found.len(), keys.iter().filter(begins).count(), "{start}");
        assert!(found.contains(&title) && found.len() <= last);
        last = found.len();
    }
    let lists = fixture.store.lists();
    let whole = key.api_key().expose();
    for nothing in [
        whole,
        &whole[..shown.len() + 1],
        "acme_live_",
        "Acme",
        "acme_test_!",
        "x",
    ] {
        assert!(
            titles(&fixture, all().display_prefix(nothing))
                .await
                .is_empty(),
            "{nothing}"
        );
    }
    assert_eq!(fixture.store.lists(), lists, "there can be no such key");
    let query = format!("{:?}", all().display_prefix(whole));
    assert!(!query.contains(key.api_key().expose_secret()));
    fixture.revoke(key.record().id()).await;
    assert!(
        titles(&fixture, all().display_prefix(shown))
            .await
            .is_empty()
    );
    assert_eq!(
        titles(&fixture, all().display_prefix(shown).live_first()).await,
        [title]
    );
}

/// A key in each state: in `test`, at the instant of the clock.
async fn zoo(fixture: &Fixture) -> [KeyId; 3] {
    let ended = fixture.ended_keys().await.map(|key| key.record().id());
    fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await;
    fixture.issue_key(new_key("expires").expires_in(DAY)).await;
    fixture
        .issue_key(new_key("asleep").not_before(fixture.now() + DAY))
        .await;
    let id = fixture.issue("suspended").await.record().id();
    fixture
        .manager()
        .suspend(&system(), &tenant(), id)
        .await
        .unwrap();
    fixture.later(SECOND);
    ended
}

#[tokio::test]
async fn by_status() {
    let fixture = Fixture::new().await;
    zoo(&fixture).await;
    // The successor of the one that was superseded bears its title.
    for (status, expected) in [
        (KeyStatus::Active, &["expires", "superseded"][..]),
        (KeyStatus::Suspended, &["suspended"]),
        (KeyStatus::NotYetValid, &["asleep"]),
        (KeyStatus::Expired, &["expired"]),
        (KeyStatus::Revoked, &["cut off", "revoked", "superseded"]),
    ] {
        assert_eq!(
            titles(&fixture, all().status(status)).await,
            expected,
            "{status}"
        );
        assert_eq!(
            titles(&fixture, all().live_first().status(status)).await,
            expected
        );
    }
    let live = ["asleep", "expired", "expires", "superseded", "suspended"];
    assert_eq!(titles(&fixture, all()).await, live);
    assert_eq!(titles(&fixture, all().live_first()).await.len(), 8);
    fixture.later(DAY);
    assert_eq!(
        titles(&fixture, all().status(KeyStatus::Active)).await,
        ["asleep", "superseded"]
    );
    assert_eq!(
        titles(&fixture, all().status(KeyStatus::Expired)).await,
        ["expired", "expires"]
    );
}

#[tokio::test]
async fn by_age_due_for_rotation() {
    let fixture = Fixture::new().await;
    zoo(&fixture).await;
    let due = async |age| titles(&fixture, all().due_for_rotation(age)).await;
    assert!(due(DAY).await.is_empty());
    let everything = ["asleep", "expires", "superseded", "suspended"];
    assert_eq!(due(Duration::ZERO).await, everything, "but what has ended");
    fixture.later(HOUR);
    let old = fixture.issue("old enough").await;
    fixture.later(HOUR);
    fixture.issue("too young").await;
    let with_old = ["asleep", "expires", "old enough", "superseded", "suspended"];
    assert_eq!(due(HOUR).await, with_old);
    assert_eq!(due(HOUR + Duration::from_micros(1)).await, everything);
    // With a successor it is due to be revoked, unless the rotation has set its end.
    let successor = fixture.rotate(old.record().id(), Overlap::UntilRevoked);
    let successor = successor.await.unwrap();
    assert_eq!(due(HOUR).await, with_old);
    fixture.revoke(successor.record().id()).await;
    assert_eq!(due(HOUR).await, with_old, "its successor was lost");
    let week = Overlap::For(DAY * 7);
    fixture.rotate(old.record().id(), week).await.unwrap();
    assert_eq!(due(HOUR).await, everything);
    assert!(due(Duration::MAX).await.is_empty());
    assert!(
        titles(
            &fixture,
            all().due_for_rotation(HOUR).status(KeyStatus::Revoked)
        )
        .await
        .is_empty()
    );
}

#[tokio::test]
async fn by_time_to_expiry() {
    let fixture = Fixture::new().await;
    zoo(&fixture).await;
    let expiring = async |time| titles(&fixture, all().expiring_within(time)).await;
    assert!(expiring(DAY - SECOND * 2).await.is_empty());
    assert_eq!(expiring(DAY - SECOND).await, ["expires"], "to the instant");
    assert_eq!(
        expiring(Duration::MAX).await,
        ["expires"],
        "not what never does, nor what has"
    );
    let rotated = fixture.issue("rotated").await.record().id();
    fixture.rotate(rotated, Overlap::For(HOUR)).await.unwrap();
    assert_eq!(expiring(HOUR).await, ["rotated"], "the overlap ends");
    fixture.later(HOUR);
    assert_eq!(expiring(DAY).await, ["expires"]);
    let both = all().expiring_within(DAY).due_for_rotation(DAY);
    assert!(
        titles(&fixture, both).await.is_empty(),
        "all conditions must hold"
    );
    let both = all()
        .expiring_within(DAY)
        .title_prefix("exp")
        .status(KeyStatus::Active);
    assert_eq!(titles(&fixture, both).await, ["expires"]);
}

#[tokio::test]
async fn an_unreadable_key_is_named() {
    let fixture = Fixture::new().await;
    let damaged = fixture.issue("damaged").await.record().id();
    let good = fixture.issue("good").await.record().id();
    fixture
        .tamper(damaged, "restrictions/access", json!(7))
        .await;
    let list = fixture
        .manager()
        .list(&system(), &all().status(KeyStatus::Active))
        .await
        .unwrap();
    assert_eq!(
        list.keys.iter().map(KeyRecord::id).collect::<Vec<_>>(),
        [good]
    );
    assert_eq!((list.unreadable, list.next), (vec![damaged], None));
    let elsewhere = all().title_prefix("good");
    let list = fixture.manager().list(&system(), &elsewhere).await.unwrap();
    assert!(list.unreadable.is_empty());
}
