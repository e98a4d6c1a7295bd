//! Keys that ended long ago are removed, and nothing else is.

use keyward::audit::EventAction;
use keyward::key::RevokeReason;
use keyward::manager::{ManageError, NewKey, Overlap, RevokeAll};
use keyward::store::{KeyStore, StoreError, UsageStore};

use crate::common::*;

/// Purges page by page to the end of the list, and returns how many keys went.
async fn purge(fixture: &Fixture, ended_before: keyward::time::OffsetDateTime) -> usize {
    let (mut count, mut cursor) = (0, None);
    loop {
        let purged = fixture
            .manager()
            .purge(&system(), &tenant(), ended_before, cursor)
            .await
            .unwrap();
        count += purged.keys.len();
        cursor = purged.next;
        if cursor.is_none() {
            return count;
        }
    }
}

#[tokio::test]
async fn keys_ended_earlier_are_removed() {
    let fixture = Fixture::new().await;
    let living = fixture.issue("living").await;
    let expiring = new_key("expiring").expires_at(fixture.now() + SECOND);
    let expired = fixture.issue_key(expiring).await;
    let revoked = fixture.issue("revoked").await;
    let other = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(other).await;
    let reason = RevokeReason::Requested;
    let theirs = theirs.record().id();
    fixture
        .manager()
        .revoke(&system(), &named("other"), theirs, reason)
        .await
        .unwrap();
    fixture.revoke(revoked.record().id()).await;
    assert_eq!(fixture.answer(living.api_key()).await, Answer::Admitted);
    fixture.keyward.flush_usage().await.unwrap();
    fixture.later(HOUR);
    let boundary = fixture.now();
    let late = fixture.issue("late").await;
    fixture.revoke(late.record().id()).await;
    fixture.later(HOUR);
    fixture.told().await;

    let manager = fixture.manager();
    let purged = manager
        .purge(&alice(None), &tenant(), boundary, None)
        .await
        .unwrap();
    let mut keys = purged.keys;
    let mut expected = vec![expired.record().id(), revoked.record().id()];
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!((keys, purged.next), (expected.clone(), None));
    for event in fixture.told().await {
        assert_eq!(event.action, EventAction::KeyPurged);
        is_alices(&event, fixture.now());
        assert!(expected.contains(&event.key.unwrap()));
        assert_eq!(event.title, None, "a purge writes no title anew");
        let since = text(boundary);
        assert_eq!(fields(&event), [("ended_before", None, Some(&*since))]);
    }
    for id in &expected {
        let error = manager.get(&system(), &tenant(), *id).await.unwrap_err();
        assert!(matches!(error, ManageError::NotFound), "{error:?}");
    }
    assert_eq!(titles(&fixture, all()).await, ["living"]);
    fixture.record(late.record().id()).await;
    assert!(fixture.store.inner().get(theirs).await.unwrap().is_some());
    assert_eq!(fixture.answer(living.api_key()).await, Answer::Admitted);
    for gone in [&expired, &revoked] {
        let answer = fixture.answer(gone.api_key()).await;
        assert!(matches!(answer, Answer::Other(_)), "{answer:?}");
    }
    assert_eq!(purge(&fixture, boundary).await, 0);
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn usage_is_removed_too() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("used").await;
    let id = key.record().id();
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    fixture.keyward.flush_usage().await.unwrap();
    // Seen by the node, and not yet handed to the store.
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    fixture.revoke(id).await;
    fixture.later(SECOND);
    assert_eq!(purge(&fixture, fixture.now()).await, 1);
    fixture.keyward.flush_usage().await.unwrap();
    let store = fixture.store.inner();
    assert_eq!(UsageStore::read(store, &[id]).await.unwrap(), [None]);
}

#[tokio::test]
async fn cut_off_keys_go_once_revoked() {
    let fixture = Fixture::new().await;
    fixture.issue("cut off").await;
    fixture.later(SECOND);
    fixture.cut_off().await;
    fixture.later(HOUR);
    assert_eq!(purge(&fixture, fixture.now()).await, 0);
    let all = RevokeAll::new(RevokeReason::Leaked);
    let manager = fixture.manager();
    manager.revoke_all(&system(), &tenant(), all).await.unwrap();
    assert_eq!(
        purge(&fixture, fixture.now()).await,
        0,
        "not before that instant"
    );
    fixture.later(SECOND);
    assert_eq!(purge(&fixture, fixture.now()).await, 1);
}

#[tokio::test]
async fn rotations_go_oldest_first() {
    let fixture = Fixture::new().await;
    let mut line = vec![fixture.issue("first").await];
    for _ in 0..3 {
        fixture.later(SECOND);
        let id = line.last().unwrap().record().id();
        line.push(fixture.rotate(id, Overlap::UntilRevoked).await.unwrap());
    }
    let ids: Vec<_> = line.iter().map(|key| key.record().id()).collect();
    fixture.revoke(ids[1]).await;
    fixture.revoke(ids[2]).await;
    fixture.later(HOUR);
    assert_eq!(
        purge(&fixture, fixture.now()).await,
        0,
        "the first is stored"
    );
    let again = fixture.rotate(ids[0], Overlap::UntilRevoked).await;
    assert!(
        matches!(again, Err(ManageError::AlreadyRotated { successor }) if successor == ids[3]),
        "a line with a gap could be rotated twice: {again:?}"
    );
    fixture.revoke(ids[0]).await;
    fixture.later(HOUR);
    // It is listed last, and goes first all the same.
    assert_eq!(purge(&fixture, fixture.now()).await, 3);
    assert_eq!(fixture.answer(line[3].api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn calls_are_bounded_and_continue() {
    let fixture = Fixture::new().await;
    for n in 0..150 {
        let key = fixture.issue(&format!("key {n}")).await;
        if n % 3 != 0 {
            fixture.revoke(key.record().id()).await;
        }
    }
    fixture.later(SECOND);
    let first = fixture
        .manager()
        .purge(&system(), &tenant(), fixture.now(), None)
        .await
        .unwrap();
    assert!(first.next.is_some(), "150 keys are more than a page");
    assert!(first.keys.len() < 100);
    let rest = fixture
        .manager()
        .purge(&system(), &tenant(), fixture.now(), first.next)
        .await
        .unwrap();
    assert_eq!(rest.next, None);
    assert_eq!(first.keys.len() + rest.keys.len(), 100);
}

#[tokio::test]
async fn a_future_instant_is_refused() {
    let fixture = Fixture::new().await;
    let expiring = new_key("expiring").expires_at(fixture.now() + HOUR);
    fixture.issue_key(expiring).await;
    let instant = fixture.now() + DAY;
    let manager = fixture.manager();
    let purged = manager.purge(&system(), &tenant(), instant, None).await;
    assert!(
        matches!(purged, Err(ManageError::InTheFuture)),
        "{purged:?}"
    );
    assert_eq!(titles(&fixture, all()).await, ["expiring"]);
}

#[tokio::test]
async fn a_stray_key_in_the_list_is_not_purged() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await.record().id();
    let (actor, reason) = (system(), RevokeReason::Requested);
    let (manager, other) = (fixture.manager(), named("other"));
    let revoked = manager.revoke(&actor, &other, theirs, reason);
    revoked.await.unwrap();
    let stray = fixture.store.inner().get(theirs).await.unwrap().unwrap();
    fixture.store.let_stray(stray);
    fixture.later(HOUR);
    let purged = manager.purge(&actor, &tenant(), fixture.now(), None).await;
    let Err(ManageError::Store(StoreError::Corrupt(_))) = purged else {
        panic!("{purged:?}");
    };
    assert!(fixture.store.inner().get(theirs).await.unwrap().is_some());
}
