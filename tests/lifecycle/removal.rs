//! A tenant that is removed is gone, and nobody else.

use keyward::audit::EventAction;
use keyward::key::{KeyId, Principal, RevokeReason};
use keyward::manager::{ManageError, NewKey, Overlap, RevokeAll};
use keyward::store::{
    Change, ChangeId, ChangeSet, CutoffScope, KeyStore, ListQuery, Segments, StoreError, UsageStore,
};
use keyward::testkit::SeededRandom;

use crate::common::*;
use crate::store::Loss;

/// Every key of the tenant as it is stored.
async fn stored(fixture: &Fixture) -> Vec<KeyId> {
    let query = ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked);
    let page = fixture
        .store
        .inner()
        .list(&query.limit(1_000))
        .await
        .unwrap();
    page.items.into_iter().map(|key| key.id).collect()
}

fn owned(owner: &str) -> NewKey {
    new_key("owned").owner(Principal::user(owner).unwrap())
}

async fn cut_off_owner(fixture: &Fixture, owner: &str) {
    let owner = Principal::user(owner).unwrap();
    let scope = CutoffScope::Owner {
        tenant: tenant(),
        owner,
    };
    let done = fixture
        .manager()
        .deny_issued_before(&system(), fixture.now(), scope)
        .await;
    done.unwrap();
}

#[tokio::test]
async fn every_key_is_removed() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await;
    let mut keys = Vec::from(fixture.ended_keys().await);
    let expiring = new_key("expiring").expires_at(fixture.now() + SECOND);
    keys.push(fixture.issue_key(expiring).await);
    let suspended = fixture.issue("suspended").await;
    let id = suspended.record().id();
    let manager = fixture.manager();
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    keys.push(suspended);
    fixture.later(SECOND);
    let rotated = fixture.issue("rotated").await;
    let id = rotated.record().id();
    keys.push(fixture.rotate(id, Overlap::UntilRevoked).await.unwrap());
    keys.push(rotated);
    for n in 0..40 {
        keys.push(fixture.issue(&format!("key {n}")).await);
    }
    let live = keys.last().unwrap();
    assert_eq!(fixture.answer(live.api_key()).await, Answer::Admitted);
    assert_eq!(fixture.answer(theirs.api_key()).await, Answer::Admitted);
    fixture.keyward.flush_usage().await.unwrap();
    let all = stored(&fixture).await;
    assert!(
        all.len() > keys.len(),
        "and the successor of one that ended"
    );
    fixture.told().await;

    let removed = manager.remove_tenant(&alice(None), &tenant()).await;
    assert_eq!(removed.unwrap(), all.len() as u64);
    assert!(stored(&fixture).await.is_empty());
    for key in &keys {
        let answer = fixture.answer(key.api_key()).await;
        assert!(matches!(answer, Answer::Other(_)), "{answer:?}");
    }
    let store = fixture.store.inner();
    let usage = UsageStore::read(store, &all).await.unwrap();
    assert!(usage.iter().all(Option::is_none));
    assert_eq!(fixture.answer(theirs.api_key()).await, Answer::Admitted);
    fixture.keyward.flush_usage().await.unwrap();
    let usage = UsageStore::read(store, &[theirs.record().id()]).await;
    assert_eq!(usage.unwrap()[0].unwrap().granted, 2);

    let told = fixture.told().await;
    for event in &told {
        is_alices(event, fixture.now());
        assert_eq!(event.title, None, "a removal writes no title anew");
    }
    let count = |action| told.iter().filter(|event| event.action == action).count();
    assert_eq!(count(EventAction::KeyPurged), all.len());
    let first = told.first().unwrap();
    assert_eq!(
        first.action,
        EventAction::KeysCutOff,
        "the revocation is first"
    );
    let last = told.last().unwrap();
    assert_eq!((last.action, last.key), (EventAction::TenantRemoved, None));
    let count = all.len().to_string();
    assert_eq!(fields(last), [("keys", None, Some(&*count))]);
    let text = format!("{told:?}");
    assert!(
        !text.contains("key 7") && !text.contains("suspended"),
        "{text}"
    );
}

#[tokio::test]
async fn other_nodes_refuse_the_keys_first() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    fixture.later(SECOND);
    // The first commit is done, and the store is away from then on.
    let away = [Loss::None].into_iter().chain([Loss::Away; 9]);
    fixture.store.lose(away);
    let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
    let now = fixture.now();
    assert!(
        matches!(removed, Err(ManageError::Unfinished { before, .. }) if before == now),
        "{removed:?}"
    );
    assert_eq!(stored(&fixture).await, [key.record().id()]);
    let other = fixture.beside(|builder| builder).await;
    for node in [&fixture, &other] {
        assert_eq!(node.answer(key.api_key()).await, Answer::CutOff);
    }
}

#[tokio::test]
async fn an_interrupted_removal_continues() {
    for losses in 0..8 {
        for loss in [Loss::Away, Loss::Answer, Loss::Commit] {
            let fixture = Fixture::new().await;
            let mut keys = Vec::new();
            for n in 0..20 {
                keys.push(fixture.issue(&format!("key {n}")).await);
            }
            fixture.later(SECOND);
            let done = std::iter::repeat_n(Loss::None, losses);
            fixture.store.lose(done.chain([loss; 3]));
            let interrupted = fixture.manager().remove_tenant(&system(), &tenant()).await;
            fixture.store.lose([]);
            let before = stored(&fixture).await.len();
            if interrupted.is_ok() {
                assert_eq!(before, 0);
            }
            let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
            assert_eq!(removed.unwrap(), before as u64);
            assert!(stored(&fixture).await.is_empty());
            let told = actions(&fixture.told().await);
            let of = |action| told.iter().filter(|told| **told == action).count();
            assert_eq!(of(EventAction::KeyPurged), 20, "each is told once");
            assert_eq!(of(EventAction::KeyRevoked), 20);
            assert_eq!(told.last(), Some(&EventAction::TenantRemoved));
        }
    }
}

#[tokio::test]
async fn keys_dated_ahead_are_removed_too() {
    let fixture = Fixture::new().await;
    fixture.later(HOUR);
    let ahead = fixture.issue("ahead").await;
    let revoked = fixture.issue("revoked ahead").await;
    fixture.revoke(revoked.record().id()).await;
    fixture.clock.set(fixture.now() - HOUR);
    let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
    assert_eq!(removed.unwrap(), 2);
    for key in [&ahead, &revoked] {
        let answer = fixture.answer(key.api_key()).await;
        assert!(matches!(answer, Answer::Other(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn keys_issued_meanwhile_are_not_missed() {
    let fixture = Fixture::new().await;
    let template = fixture.issue("key").await.record().id();
    let template = fixture.store.inner().get(template).await.unwrap().unwrap();
    let another = |n: u128| {
        let id = KeyId::from_u128(n);
        let key = keyward::key::StoredKey {
            id,
            lineage: id,
            ..template.clone()
        };
        Change::Insert(Box::new(key))
    };
    // Before each of the first commits somebody adds a key, behind the list that was read.
    fixture.store.first((1..5).map(another));
    let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
    assert_eq!(removed.unwrap(), 5);
    assert!(stored(&fixture).await.is_empty());
    // It does not go on for ever.
    fixture.store.first((10..100).map(another));
    let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
    assert!(
        matches!(removed, Err(ManageError::Unfinished { .. })),
        "{removed:?}"
    );
}

#[tokio::test]
async fn a_reused_name_inherits_nothing() {
    let fixture = Fixture::new().await;
    let leaked = fixture.issue_key(owned("zdenka.blau")).await;
    fixture.later(SECOND);
    cut_off_owner(&fixture, "zdenka.blau").await;
    let before = fixture
        .store
        .inner()
        .get(leaked.record().id())
        .await
        .unwrap();
    fixture.later(SECOND);
    fixture
        .manager()
        .remove_tenant(&system(), &tenant())
        .await
        .unwrap();
    let removed_at = fixture.now();
    // Its owner's name stands under no cutoff: nothing of it moves any.
    let scope = CutoffScope::Owner {
        tenant: tenant(),
        owner: Principal::user("zdenka.blau").unwrap(),
    };
    let store = fixture.store.inner();
    let cutoff = Change::Cutoff {
        scope,
        before: fixture.now() - HOUR,
    };
    let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(1)), cutoff);
    let outcomes = store.commit(&set).await.unwrap().outcomes;
    assert_eq!(outcomes, [keyward::store::Outcome::CutOff]);

    fixture.later(SECOND);
    let anew = fixture.issue_key(owned("zdenka.blau")).await;
    assert_eq!(fixture.answer(anew.api_key()).await, Answer::Admitted);
    let record = fixture.record(anew.record().id()).await;
    assert!(!record.is_cut_off());
    // What was issued before the removal does not come back, by whichever way.
    assert!(matches!(
        fixture.answer(leaked.api_key()).await,
        Answer::Other(_)
    ));
    let again = Change::Insert(Box::new(before.unwrap()));
    let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(2)), again);
    let error = store.commit(&set).await.unwrap_err();
    assert!(matches!(error, StoreError::AlreadyExists), "{error:?}");
    fixture.clock.set(removed_at - SECOND);
    let late = fixture
        .manager()
        .issue(&system(), owned("zdenka.blau"))
        .await;
    assert!(
        matches!(late, Err(ManageError::ClockBehindCutoff { .. })),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_later_cutoff_is_kept() {
    let fixture = Fixture::new().await;
    fixture.issue_key(owned("alice")).await;
    fixture.later(HOUR);
    cut_off_owner(&fixture, "alice").await;
    let cut_off_at = fixture.now();
    fixture.clock.set(fixture.now() - SECOND);
    fixture
        .manager()
        .remove_tenant(&system(), &tenant())
        .await
        .unwrap();
    let issued = fixture.manager().issue(&system(), owned("alice")).await;
    assert!(
        matches!(issued, Err(ManageError::ClockBehindCutoff { .. })),
        "{issued:?}"
    );
    fixture.clock.set(cut_off_at);
    let issued = fixture.issue_key(owned("alice")).await;
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn a_stray_key_is_not_removed() {
    let fixture = Fixture::new().await;
    let theirs = NewKey::new(named("other"), "theirs", READ);
    let theirs = fixture.issue_key(theirs).await;
    let stray = fixture
        .store
        .inner()
        .get(theirs.record().id())
        .await
        .unwrap();
    fixture.store.let_stray(stray.unwrap());
    let removed = fixture.manager().remove_tenant(&system(), &tenant()).await;
    let Err(ManageError::Unfinished { source, .. }) = removed else {
        panic!("{removed:?}");
    };
    assert!(matches!(source, StoreError::Corrupt(_)), "{source:?}");
    assert_eq!(fixture.answer(theirs.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn an_empty_tenant_is_removed_too() {
    let fixture = Fixture::new().await;
    let key = fixture.issue_key(owned("alice")).await;
    fixture.later(SECOND);
    let of_alice = RevokeAll::new(RevokeReason::Leaked);
    let of_alice = of_alice.owner(&Principal::user("alice").unwrap());
    let manager = fixture.manager();
    manager
        .revoke_all(&system(), &tenant(), of_alice)
        .await
        .unwrap();
    fixture.later(SECOND);
    let purged = manager
        .purge(&system(), &tenant(), fixture.now(), None)
        .await;
    assert_eq!(purged.unwrap().keys, [key.record().id()]);
    fixture.told().await;
    for _ in 0..2 {
        let removed = manager.remove_tenant(&system(), &tenant()).await.unwrap();
        assert_eq!(removed, 0);
        let told = fixture.told().await;
        assert_eq!(told.last().unwrap().action, EventAction::TenantRemoved);
        assert!(!format!("{told:?}").contains("alice"), "{told:?}");
    }
}
