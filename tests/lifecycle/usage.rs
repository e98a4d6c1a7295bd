//! How keys have been used, in lists and as a condition.

use std::time::Duration;

use keyward::manager::{ManageError, Overlap};
use keyward::store::{KeyStore, MemoryStore, StoreError};
use keyward::testkit::{self, Call, Fault, FaultyStore, ManualMonotonicClock, TestKey};
use keyward::verifier::{Attempt, Requirement};

use crate::common::*;
use crate::store::UsageMode;

#[tokio::test]
async fn by_time_since_last_use() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("used").await;
    fixture.issue("never used").await;
    let revoked = fixture.issue("revoked").await;
    fixture.revoke(revoked.record().id()).await;
    fixture.later(HOUR);
    let unused = async || titles(&fixture, all().unused_for(HOUR)).await;
    assert_eq!(unused().await, ["never used", "used"]);
    fixture.issue("too young").await;
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    for _ in 0..2 {
        assert_eq!(unused().await, ["never used"]);
        fixture.keyward.flush_usage().await.unwrap();
    }
    fixture.later(HOUR - Duration::from_micros(1));
    assert_eq!(unused().await, ["never used"]);
    fixture.later(Duration::from_micros(1));
    assert_eq!(
        unused().await,
        ["never used", "too young", "used"],
        "to the instant"
    );
    // A refusal is a use, by whoever has the secret; a guess is none.
    let write = Requirement::scope(WRITE);
    assert_eq!(
        fixture.answer_for(key.api_key(), &write).await,
        Answer::Forbidden
    );
    assert_eq!(unused().await, ["never used", "too young"]);
    let idle_and_aged = all().unused_for(HOUR).due_for_rotation(HOUR * 2);
    assert_eq!(titles(&fixture, idle_and_aged).await, ["never used"]);
    let idle_and_aged = all().unused_for(HOUR * 2).due_for_rotation(HOUR);
    assert_eq!(titles(&fixture, idle_and_aged).await, ["never used"]);
}

#[tokio::test]
async fn a_list_shows_flushed_and_fresh_usage() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("used").await;
    let (id, idle) = (key.record().id(), fixture.issue("idle").await.record().id());
    let usage = async |fixture: &Fixture| {
        let list = fixture.manager().list(&system(), &all()).await.unwrap();
        assert!(!list.usage.contains_key(&idle));
        list.usage.get(&id).copied()
    };
    assert_eq!(usage(&fixture).await, None);
    let beside = fixture.beside(|builder| builder).await;
    for round in 1..=3 {
        fixture.later(SECOND);
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
        fixture
            .answer_for(key.api_key(), &Requirement::full_access())
            .await;
        let before = usage(&fixture).await.unwrap();
        assert_eq!((before.granted, before.refused), (round, round));
        assert_eq!(before.last_used_at, fixture.now());
        assert_ne!(
            usage(&beside).await,
            Some(before),
            "another node does not know yet"
        );
        assert_eq!(fixture.keyward.flush_usage().await.unwrap(), 1);
        assert_eq!(fixture.keyward.flush_usage().await.unwrap(), 0);
        assert_eq!(usage(&fixture).await, Some(before));
        assert_eq!(usage(&beside).await, Some(before));
    }
    // The old key's last use is shown beside its successor's, so that one knows when the overlap may end.
    let new = fixture.rotate(id, Overlap::UntilRevoked).await.unwrap();
    fixture.later(SECOND);
    fixture.answer(new.api_key()).await;
    let list = fixture.manager().list(&system(), &all()).await.unwrap();
    assert_eq!(list.usage[&new.record().id()].last_used_at, fixture.now());
    assert_eq!(list.usage[&id].last_used_at, fixture.now() - SECOND);
    let bounded = all().title_prefix("idle");
    assert!(
        fixture
            .manager()
            .list(&system(), &bounded)
            .await
            .unwrap()
            .usage
            .is_empty()
    );
}

#[tokio::test]
async fn usage_faults_break_only_its_filter() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    fixture.answer(key.api_key()).await;
    fixture.later(DAY);
    for mode in [UsageMode::NotKept, UsageMode::Failing] {
        fixture.store.keep_usage(mode);
        let list = fixture.manager().list(&system(), &all()).await.unwrap();
        assert_eq!((list.keys.len(), list.usage.len()), (1, 0));
        let error = fixture
            .manager()
            .list(&system(), &all().unused_for(HOUR))
            .await
            .unwrap_err();
        match mode {
            UsageMode::NotKept => {
                assert!(matches!(error, ManageError::Store(StoreError::Unsupported)));
            }
            _ => assert!(matches!(
                error,
                ManageError::Store(StoreError::Unavailable(_))
            )),
        }
    }
    fixture.store.keep_usage(UsageMode::Kept);
    fixture.clock.fail();
    let refused = fixture.manager().list(&system(), &all()).await;
    assert!(matches!(refused, Err(ManageError::Clock)));
}

#[tokio::test]
async fn flushing_ends_under_constant_use() {
    // While each batch is on its way the key is used again: who hands on all that there is would never end.
    let slowly = FaultyStore::over(MemoryStore::new());
    let slowly = slowly.on(Call::MergeUsage, 0..u64::MAX, Fault::Yield(4));
    let keyward = testkit::builder(slowly, [READ]).open().await.unwrap();
    let key = TestKey::issue(&keyward, READ).await;
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    assert!(keyward.verifier().verify(&attempt).await.is_ok());
    let using = async {
        loop {
            assert!(keyward.verifier().verify(&attempt).await.is_ok());
            tokio::task::yield_now().await;
        }
    };
    let handed_on = tokio::select! {
        handed_on = keyward.flush_usage() => handed_on.unwrap(),
        () = using => 0,
        () = tokio::time::sleep(SECOND * 20) => panic!("it goes on for ever"),
    };
    assert_eq!(handed_on, 1);
    let rest = keyward.flush_usage().await.unwrap();
    assert_eq!(rest, 1, "what was used meanwhile");
}

#[tokio::test]
async fn a_refused_batch_blocks_no_other() {
    let store = FaultyStore::over(MemoryStore::new())
        .on(Call::MergeUsage, 0..2, Fault::Unavailable)
        .on(Call::MergeUsage, 3..4, Fault::Corrupt);
    let keyward = testkit::builder(store.clone(), [READ])
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, READ).await;
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any);
    let mut granted = Vec::new();
    for _ in 0..5 {
        assert!(keyward.verifier().verify(&attempt).await.is_ok());
        let _ = keyward.flush_usage().await;
        let usage = store.usage().unwrap().read(&[key.id()]).await.unwrap();
        granted.push(usage[0].map_or(0, |usage| usage.granted));
    }
    // Twice nothing gets through. Then the first batch does, and the second is refused for good: the third follows.
    assert_eq!(granted, [0, 0, 1, 3, 4]);
}

#[tokio::test]
async fn an_old_lost_batch_is_not_retried() {
    for (later, tries) in [(SECOND * 60 * 8, 2), (SECOND * 60 * 9, 1)] {
        let store = FaultyStore::over(MemoryStore::new());
        let store = store.on(Call::MergeUsage, 0..1, Fault::LostAnswer);
        let clock = ManualMonotonicClock::new();
        let keyward = testkit::builder(store.clone(), [READ]).monotonic_clock(clock.clone());
        let keyward = keyward.open().await.unwrap();
        let key = TestKey::issue(&keyward, READ).await;
        let any = Requirement::any_key();
        let attempt = Attempt::new(key.presented(), &any);
        assert!(keyward.verifier().verify(&attempt).await.is_ok());
        assert!(keyward.flush_usage().await.is_err());
        clock.advance(later);
        assert!(keyward.flush_usage().await.is_ok());
        assert_eq!(store.calls(Call::MergeUsage), tries, "after {later:?}");
        let usage = store.usage().unwrap().read(&[key.id()]).await.unwrap();
        assert_eq!(usage[0].unwrap().granted, 1, "counted once");
    }
}

#[tokio::test]
async fn one_key_looks_as_it_does_in_a_list() {
    let fixture = Fixture::new().await;
    let used = fixture.issue("used").await;
    let (by, own) = (system(), tenant());
    let unused = fixture.issue("unused").await.record().id();
    assert_eq!(fixture.answer(used.api_key()).await, Answer::Admitted);
    let manager = fixture.manager();
    for is_flushed in [false, true] {
        if is_flushed {
            fixture.keyward.flush_usage().await.unwrap();
        }
        let list = manager.list(&by, &all()).await.unwrap();
        for listed in list.view(fixture.now()).keys {
            let one = manager.view(&by, &own, listed.view.id).await.unwrap();
            assert_eq!(one, listed);
            assert_eq!(one.usage.is_some(), one.view.id != unused);
        }
    }
    // Without usage, the key is shown all the same.
    for mode in [UsageMode::NotKept, UsageMode::Failing] {
        fixture.store.keep_usage(mode);
        let one = manager.view(&by, &own, unused).await.unwrap();
        assert_eq!((one.view.id, one.usage), (unused, None));
    }
}
