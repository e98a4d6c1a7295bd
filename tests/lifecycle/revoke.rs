//! Revoking a key: once, for good, and with its event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyward::audit::EventAction;
use keyward::key::{KeyStatus, RevokeReason};
use keyward::manager::ManageError;
use keyward::store::KeyStore;
use keyward::verifier::{Attempt, DenialReason, Requirement};
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let issued = fixture.issue("key").await;
    let id = issued.record().id();
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let admitted = fixture.keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().key_id(), id);

    let (at, leaked) = (fixture.now(), RevokeReason::Leaked);
    let revoked = manager
        .revoke(&system(), &tenant(), id, leaked.clone())
        .await
        .unwrap();
    assert_eq!((revoked.at, revoked.reason), (at, leaked.clone()));
    let denial = fixture
        .keyward
        .verifier()
        .verify(&attempt)
        .await
        .unwrap_err();
    let DenialReason::Revoked { at: since, reason } = denial.reason() else {
        panic!("{denial:?}");
    };
    assert_eq!((*since, reason), (at, &leaked));

    fixture.later(Duration::from_secs(60));
    let again = manager
        .revoke(&system(), &tenant(), id, RevokeReason::Requested)
        .await;
    assert!(matches!(again, Err(ManageError::AlreadyRevoked { at: since }) if since == at));
    let record = manager.get(&system(), &tenant(), id).await.unwrap();
    assert_eq!(record.status(fixture.now()), KeyStatus::Revoked);
    assert_eq!(record.revocation().unwrap().reason, leaked);
    assert_eq!(record.revision(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_revocations_succeed_once() {
    let fixture = Fixture::new().await;
    for _ in 0..500 {
        let issued = Arc::new(fixture.issue("key").await);
        let is_revoked = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (fixture, issued) = (fixture.clone(), Arc::clone(&issued));
            let is_revoked = Arc::clone(&is_revoked);
            tasks.push(tokio::spawn(async move {
                let (id, reason) = (issued.record().id(), RevokeReason::Leaked);
                let revoked = fixture
                    .manager()
                    .revoke(&system(), &tenant(), id, reason)
                    .await;
                is_revoked.store(true, Ordering::SeqCst);
                assert_ne!(fixture.answer(issued.api_key()).await, Answer::Admitted);
                revoked.is_ok()
            }));
        }
        for _ in 0..20 {
            let was_revoked = is_revoked.load(Ordering::SeqCst);
            let answer = fixture.answer(issued.api_key()).await;
            let is_wrong = was_revoked && answer == Answer::Admitted;
            assert!(!is_wrong, "granted after a revocation returned");
        }
        let mut succeeded = 0;
        for task in tasks {
            succeeded += u32::from(task.await.unwrap());
        }
        assert_eq!(succeeded, 1);
    }
    let told = fixture.told().await;
    assert_eq!(told.len(), 1_000, "one event for each thing that was done");
}

#[tokio::test]
async fn each_change_commits_with_its_event() {
    let fixture = Fixture::new().await;
    let actor = alice(None)
        .in_request("req-1\nforged")
        .from_address("::ffff:203.0.113.7".parse().unwrap());
    let key = new_key("Power BI").expires_in(Duration::from_secs(60));
    let issued = fixture.manager().issue(&actor, key).await.unwrap();
    let id = issued.record().id();
    let (owner, reason) = (tenant(), RevokeReason::Leaked);
    let revoked = fixture.manager().revoke(&actor, &owner, id, reason);
    revoked.await.unwrap();
    let log = fixture.store.events().unwrap();
    let events = log.read(Some(&tenant()), 0, 10).await.unwrap();
    let others = log.read(Some(&named("other")), 0, 10).await.unwrap();
    assert!(others.is_empty());
    assert_eq!(log.read(None, 1, 10).await.unwrap(), events[1..]);
    let numbers: Vec<_> = events.iter().map(|sealed| sealed.number).collect();
    assert_eq!(numbers, [1, 2]);
    let told = fixture.told().await;
    assert_eq!(
        actions(&told),
        [EventAction::KeyIssued, EventAction::KeyRevoked]
    );
    for event in &told {
        assert_eq!(event.actor.to_string(), "user:alice");
        assert_eq!(event.request.as_deref(), Some("req-1?forged"));
        assert_eq!(event.client, Some("203.0.113.7".parse().unwrap()));
        let title = event.title.as_ref().unwrap().as_str();
        assert_eq!(
            (event.key, event.at, title),
            (Some(id), fixture.now(), "Power BI")
        );
    }
    let issued = fields(&told[0]);
    assert!(issued.contains(&("access", None, Some("read:editions"))));
    assert!(issued.contains(&("expires_at", None, Some("2027-01-15T08:01:00Z"))));
    assert_eq!(fields(&told[1]), [("revoked", None, Some("leaked"))]);
}

#[tokio::test]
async fn a_reason_is_one_line_without_a_key() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    for (words, kept) in [
        (
            "found in a public repository",
            "found in a public repository",
        ),
        ("two\nlines", "unreadable"),
        ("", "unreadable"),
        ("leaked", "leaked"),
    ] {
        let asked = RevokeReason::other(words).map(|reason| reason.as_str().to_owned());
        assert_eq!(
            asked.ok().as_deref(),
            (kept != "unreadable").then_some(kept)
        );
        let words = RevokeReason::from_stored(words); // as a store may hold it
        let id = fixture.issue("key").await.record().id();
        let revoked = manager
            .revoke(&system(), &tenant(), id, words)
            .await
            .unwrap();
        assert_eq!(revoked.reason.as_str(), kept);
    }
    let issued = fixture.issue("key").await;
    let (text, id) = (issued.api_key().expose(), issued.record().id());
    let reason = RevokeReason::other(&format!("found {text}")).unwrap();
    let curious = system().in_request(&format!("GET/?key={text}"));
    let revoked = manager
        .revoke(&curious, &tenant(), id, reason)
        .await
        .unwrap();
    let masked = format!("found {}[redacted]", issued.api_key().display_prefix());
    assert_eq!(revoked.reason.as_str(), masked);
    let record = manager.get(&system(), &tenant(), id).await.unwrap();
    assert_eq!(record.revocation().unwrap().reason.as_str(), masked);
    for event in fixture.told().await {
        assert!(!event.to_line().contains(issued.api_key().expose_secret()));
    }
}

#[tokio::test]
async fn an_unreadable_key_can_be_revoked() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("bad").await.record().id();
    fixture.tamper(id, "restrictions/access", json!(7)).await;
    let manager = fixture.manager();
    let read = manager.get(&system(), &tenant(), id).await;
    assert!(matches!(read, Err(ManageError::Unreadable(_))));
    fixture.revoke(id).await;
    let stored = fixture.store.inner().get(id).await.unwrap().unwrap();
    assert!(stored.revocation.is_some());
}
