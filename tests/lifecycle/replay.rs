//! Carrying revocations over a restored backup.

use std::sync::{Arc, Mutex};

use keyward::audit::EventAction;
use keyward::key::{KeyId, RevokeReason, StoredKey, TenantId};
use keyward::manager::{
    Actor, Bound, Ceiling, KeyBound, ManageError, NewKey, Operation, Policy, PolicyError, Replayed,
    RestrictionPage, Ruling, Tenants,
};
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, StoreError};
use keyward::testkit::SeededRandom;
use keyward::time::{Date, OffsetDateTime};

use crate::common::*;
use crate::store::Loss;

async fn export(fixture: &Fixture) -> RestrictionPage {
    fixture
        .manager()
        .export_restrictions(&system(), &tenant(), None)
        .await
        .unwrap()
}

async fn replay(fixture: &Fixture, list: Vec<KeyBound>) -> Result<Replayed, ManageError> {
    fixture
        .manager()
        .replay_restrictions(&alice(None), list)
        .await
}

fn counts(replayed: &Replayed) -> (u64, u64, u64) {
    (replayed.revoked, replayed.already, replayed.missing)
}

fn revocation(id: KeyId, at: OffsetDateTime) -> KeyBound {
    KeyBound::revoked(id, tenant(), at, RevokeReason::Leaked)
}

/// A fixture whose store holds these keys as they were when the backup was made.
pub(crate) async fn restored(
    backup: impl IntoIterator<Item = StoredKey>,
    now: OffsetDateTime,
) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.clock.set(now);
    for key in backup {
        let id = ChangeId::generate(&SeededRandom::new(0));
        let set = ChangeSet::one(id, Change::Insert(Box::new(key)));
        fixture.store.inner().commit(&set).await.unwrap();
    }
    fixture
}

#[tokio::test]
async fn a_backup_is_brought_up_to_date() {
    let fixture = Fixture::new().await;
    let (mut keys, mut backup) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let key = fixture.issue(&format!("key {n}")).await;
        let stored = fixture.store.get(key.record().id()).await.unwrap().unwrap();
        backup.push(stored);
        keys.push(key);
    }
    let newer = fixture.issue("issued after the backup").await;
    for key in keys[..35].iter().rev().chain([&newer]) {
        fixture.later(SECOND);
        fixture.revoke(key.record().id()).await;
    }
    let page = export(&fixture).await;
    assert!(!page.has_more && page.next.is_some());
    // Those of one instant by their ids, then the others in the order in which they were revoked.
    let mut expected: Vec<_> = keys[35..].iter().map(|key| key.record().id()).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    expected.extend(keys[..35].iter().rev().map(|key| key.record().id()));
    expected.push(newer.record().id());
    let exported: Vec<_> = page.restrictions.iter().map(|record| record.id).collect();
    assert_eq!(exported, expected);

    fixture.later(DAY);
    let fresh = restored(backup, fixture.now()).await;
    for key in &keys {
        assert_eq!(
            fresh.answer(key.api_key()).await,
            Answer::Admitted,
            "revived by the backup"
        );
    }
    let done = replay(&fresh, page.restrictions.clone()).await.unwrap();
    assert_eq!(counts(&done), (35, 5, 1));
    for key in &keys[..35] {
        assert_eq!(
            fresh.answer(key.api_key()).await,
            Answer::Revoked(RevokeReason::Requested)
        );
        let was = fixture
            .record(key.record().id())
            .await
            .revocation()
            .unwrap()
            .at;
        assert_eq!(
            fresh
                .record(key.record().id())
                .await
                .revocation()
                .unwrap()
                .at,
            was
        );
    }
    for key in &keys[35..] {
        assert_eq!(fresh.answer(key.api_key()).await, Answer::Admitted);
    }
    let mut again = export(&fresh).await.restrictions;
    again.sort_by_key(|one| one.id);
    let is_there = |one: &&KeyBound| one.id != newer.record().id();
    let mut wanted: Vec<_> = page.restrictions.iter().filter(is_there).cloned().collect();
    wanted.sort_by_key(|one| one.id);
    assert_eq!(again, wanted);
    let told = fresh.told().await;
    assert_eq!(actions(&told), vec![EventAction::KeyRevoked; 35]);
    let [reason, at] = &fields(&told[0])[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*reason, ("revoked", None, Some("requested")));
    assert_eq!(at.0, "revoked_at", "the instant of the first revocation");
    assert_eq!(told[0].actor.to_string(), "user:alice");

    assert_eq!(
        counts(&replay(&fresh, page.restrictions).await.unwrap()),
        (0, 40, 1)
    );
    assert!(fresh.told().await.is_empty());
}

#[tokio::test]
async fn events_bear_the_time_of_replay() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    let then = fixture.now();
    fixture.later(DAY);
    fixture.told().await;
    replay(&fixture, vec![revocation(id, then)]).await.unwrap();
    assert_eq!(fixture.record(id).await.revocation().unwrap().at, then);
    is_alices(&fixture.told().await[0], fixture.now());
}

#[tokio::test]
async fn duplicates_are_revoked_once() {
    let fixture = Fixture::new().await;
    let (now, mut list) = (fixture.now(), Vec::new());
    for n in 0..20 {
        list.push(revocation(
            fixture.issue(&format!("key {n}")).await.record().id(),
            now,
        ));
    }
    fixture.told().await;
    let twice: Vec<_> = list
        .iter()
        .chain([&list[0]])
        .chain(&list)
        .cloned()
        .collect();
    assert_eq!(counts(&replay(&fixture, twice).await.unwrap()), (20, 21, 0));
    assert_eq!(fixture.told().await.len(), 20);
    let doubled = vec![list[0].clone(); 2];
    assert_eq!(counts(&replay(&fixture, doubled).await.unwrap()), (0, 2, 0));
    let id = fixture.issue("twice in one batch").await.record().id();
    let doubled = vec![revocation(id, now); 3];
    assert_eq!(counts(&replay(&fixture, doubled).await.unwrap()), (1, 2, 0));
    assert_eq!(
        counts(&replay(&fixture, Vec::new()).await.unwrap()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn an_impossible_instant_becomes_now() {
    let fixture = Fixture::new().await;
    let now = fixture.now();
    let before_year_0 = Date::MIN.midnight().assume_utc();
    for (at, kept) in [
        (now + DAY, now),
        (before_year_0, now),
        (now - DAY, now - DAY),
    ] {
        let id = fixture.issue("key").await.record().id();
        let mut record = revocation(id, now);
        record.bound = Bound::Revoked {
            at,
            reason: RevokeReason::Leaked,
        };
        replay(&fixture, vec![record]).await.unwrap();
        assert_eq!(fixture.record(id).await.revocation().unwrap().at, kept);
    }
}

#[tokio::test]
async fn keys_in_a_reason_are_masked() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let mut record = revocation(issued.record().id(), fixture.now());
    record.bound = Bound::Revoked {
        at: fixture.now(),
        reason: RevokeReason::other(&format!("was {}", issued.api_key().expose())).unwrap(),
    };
    replay(&fixture, vec![record]).await.unwrap();
    let secret = issued.api_key().expose_secret();
    let kept = fixture.record(issued.record().id()).await;
    assert!(!kept.revocation().unwrap().reason.as_str().contains(secret));
    assert!(
        fixture
            .told()
            .await
            .iter()
            .all(|event| !event.to_line().contains(secret))
    );
}

#[tokio::test]
async fn the_tenant_must_match() {
    let fixture = Fixture::new().await;
    let theirs = fixture
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    let named_wrongly = revocation(theirs.record().id(), fixture.now());
    assert_eq!(
        counts(&replay(&fixture, vec![named_wrongly]).await.unwrap()),
        (0, 0, 1)
    );
    assert_eq!(fixture.answer(theirs.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn one_foreign_tenant_stops_all() {
    #[derive(Debug, Clone, Default)]
    struct NotThis(Arc<Mutex<Option<TenantId>>>);
    #[keyward::async_trait]
    impl Policy for NotThis {
        async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
            let refused = self.0.lock().unwrap().clone();
            let is_refused = refused.is_some() && operation.tenant() == refused.as_ref();
            Ok(if is_refused {
                Ruling::Refuse
            } else {
                Ruling::Allow
            })
        }
    }
    let policy = NotThis::default();
    let fixture = Fixture::with(|builder| builder.policy(policy.clone())).await;
    let mine = revocation(fixture.issue("key").await.record().id(), fixture.now());
    let mut theirs = mine.clone();
    theirs.tenant = named("zebra");
    fixture.told().await;
    let calls = fixture.store.calls();
    let both = vec![mine, theirs];
    let refused = replay(&fixture, both.clone()).await;
    assert!(matches!(refused, Err(ManageError::Refused)));
    *policy.0.lock().unwrap() = Some(named("zebra"));
    let root = Actor::user("root", Tenants::All, Ceiling::Unlimited).unwrap();
    let refused = fixture.manager().replay_restrictions(&root, both).await;
    assert!(matches!(refused, Err(ManageError::Refused)));
    assert_eq!(fixture.store.calls(), calls, "before anything is read");
}

#[tokio::test]
async fn an_error_keeps_earlier_work() {
    let fixture = Fixture::new().await;
    let (now, mut list) = (fixture.now(), Vec::new());
    for n in 0..40 {
        list.push(revocation(
            fixture.issue(&format!("key {n}")).await.record().id(),
            now,
        ));
    }
    fixture.told().await;
    fixture.store.lose([Loss::Answer, Loss::None, Loss::Away]);
    let stopped = replay(&fixture, list.clone()).await;
    assert!(matches!(
        stopped,
        Err(ManageError::Store(StoreError::Unavailable(_)))
    ));
    assert_eq!(fixture.told().await.len(), 16);
    assert_eq!(counts(&replay(&fixture, list).await.unwrap()), (24, 16, 0));
    assert_eq!(fixture.told().await.len(), 24);

    let id = fixture.issue("key").await.record().id();
    fixture.store.first([Change::Revoke {
        id,
        at: now,
        reason: RevokeReason::Requested,
    }]);
    let raced = replay(&fixture, vec![revocation(id, now)]).await.unwrap();
    assert_eq!(counts(&raced), (0, 1, 0), "somebody was faster");
    fixture.clock.fail();
    assert!(matches!(
        replay(&fixture, Vec::new()).await,
        Err(ManageError::Clock)
    ));
}
