//! After a backup was restored and the export replayed, no key can do more than it could when it was exported.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::audit::{Event, EventAction};
use keyward::key::{
    Access, ApiKey, KeyId, KeyRecord, KeyStatus, Network, Networks, Principal, Quota, Resource,
    Resources, RevokeReason, StoredKey,
};
use keyward::manager::{Bound, KeyBound, KeyUpdate, ManageError, NewKey, Overlap, Replayed};
use keyward::store::{Change, CutoffScope, KeyStore, StoreError};
use serde_json::{Value, json};

use crate::common::*;
use crate::replay::restored;
use crate::store::Loss;

async fn export(fixture: &Fixture) -> Vec<KeyBound> {
    let manager = fixture.manager();
    let page = manager
        .export_restrictions(&system(), &tenant(), None)
        .await;
    page.unwrap().restrictions
}

async fn replay(fixture: &Fixture, list: &[KeyBound]) -> Result<Replayed, ManageError> {
    let list = list.to_vec();
    fixture
        .manager()
        .replay_restrictions(&alice(None), list)
        .await
}

/// Revoked, narrowed, already and missing.
fn counts(replayed: &Replayed) -> (u64, u64, u64, u64) {
    let Replayed {
        revoked,
        narrowed,
        already,
        missing,
        ..
    } = replayed;
    (*revoked, *narrowed, *already, *missing)
}

async fn stored(fixture: &Fixture, id: KeyId) -> StoredKey {
    fixture.store.inner().get(id).await.unwrap().unwrap()
}

fn limited(id: KeyId, changed: &Value) -> KeyBound {
    let mut restrictions = json!({
        "access": { "type": "full" }, "resources": { "type": "any" }, "networks": { "type": "any" },
        "quotas": [], "concurrency": null, "not_before": null, "expires_at": null,
    });
    let mut suspended_at = Value::Null;
    for (field, value) in changed.as_object().unwrap() {
        match field.as_str() {
            "suspended_at" => suspended_at = value.clone(),
            _ => restrictions[field] = value.clone(),
        }
    }
    let bound =
        json!({ "type": "limited", "restrictions": restrictions, "suspended_at": suspended_at });
    let record = json!({ "id": id.to_string(), "tenant": "acme-inc", "bound": bound });
    serde_json::from_value(record).unwrap()
}

fn resources<const N: usize>(list: [&str; N]) -> Resources {
    Resources::only(list.map(|text| text.parse::<Resource>().unwrap())).unwrap()
}

fn networks<const N: usize>(list: [&str; N]) -> Networks {
    Networks::only(list.map(|text| text.parse::<Network>().unwrap())).unwrap()
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn quota(name: &str, limit: u32, seconds: u64) -> Quota {
    Quota::new(name, number(limit), Duration::from_secs(seconds)).unwrap()
}

/// A key as it is in the backup, and as it is once the backup was restored and the export replayed.
async fn carried_over(new: NewKey, update: KeyUpdate) -> (KeyRecord, KeyRecord, Replayed) {
    let fixture = Fixture::new().await;
    let key = fixture.issue_key(new).await;
    let id = key.record().id();
    let backup = stored(&fixture, id).await;
    let manager = fixture.manager();
    let updated = manager.update(&system(), &tenant(), id, update).await;
    updated.unwrap();
    let exported = export(&fixture).await;
    fixture.later(DAY);
    let fresh = restored([backup], fixture.now()).await;
    let replayed = replay(&fresh, &exported).await.unwrap();
    let record = fresh.record(id).await;
    // A second time changes nothing.
    let again = replay(&fresh, &exported).await.unwrap();
    assert_eq!(counts(&again), (0, 0, 1, 0));
    assert_eq!(fresh.record(id).await, record);
    (key.record().clone(), record, replayed)
}

#[tokio::test]
async fn each_axis_keeps_the_intersection() {
    let new = |access: Access| NewKey::new(tenant(), "key", access);
    let (both, read) = (Access::from([READ, WRITE]), Access::from(READ));
    let update = KeyUpdate::new;
    let cases: [(NewKey, KeyUpdate, &str, Value); 14] = [
        (
            new(both.clone()),
            update().access(READ),
            "access",
            json!({ "type": "scopes", "scopes": ["read:editions"] }),
        ),
        (
            new(Access::Full),
            update().access(READ),
            "access",
            json!({ "type": "scopes", "scopes": ["read:editions"] }),
        ),
        (
            new(read.clone()),
            update().access(both.clone()),
            "access",
            json!({ "type": "scopes", "scopes": ["read:editions"] }),
        ),
        (
            new(read.clone()),
            update().access(Access::Full),
            "access",
            json!({ "type": "scopes", "scopes": ["read:editions"] }),
        ),
        (
            new(read.clone()),
            update().resources(resources(["project:a"])),
            "resources",
            json!({ "type": "only", "resources": ["project:a"] }),
        ),
        (
            new(read.clone()).resources(resources(["client:x", "project:a", "project:b"])),
            update().resources(resources(["project:b", "project:c", "region:eu"])),
            "resources",
            json!({ "type": "only", "resources": ["client:x", "project:b", "region:eu"] }),
        ),
        (
            new(read.clone()).resources(resources(["project:a"])),
            update().resources(Resources::Any),
            "resources",
            json!({ "type": "only", "resources": ["project:a"] }),
        ),
        (
            new(read.clone()),
            update().networks(networks(["10.0.0.0/8"])),
            "networks",
            json!({ "type": "only", "networks": ["10.0.0.0/8"] }),
        ),
        (
            new(read.clone()).networks(networks(["10.0.0.0/8", "192.168.1.0/24", "::/0"])),
            update().networks(networks(["10.1.0.0/16", "172.16.0.0/12", "192.168.0.0/16"])),
            "networks",
            json!({ "type": "only", "networks": ["10.1.0.0/16", "192.168.1.0/24"] }),
        ),
        (
            new(read.clone()),
            update().quotas([quota("minute", 10, 60)]),
            "quotas",
            json!([{ "name": "minute", "limit": 10, "window_seconds": 60, "subject": "key" }]),
        ),
        (
            new(read.clone()).quota(quota("minute", 10, 60)),
            update().quotas([quota("minute", 5, 60)]),
            "quotas",
            json!([{ "name": "minute", "limit": 5, "window_seconds": 60, "subject": "key" }]),
        ),
        (
            new(read.clone()).quota(quota("minute", 5, 60)),
            update().quotas([]),
            "quotas",
            json!([{ "name": "minute", "limit": 5, "window_seconds": 60, "subject": "key" }]),
        ),
        (
            new(read.clone()).concurrency(number(5)),
            update().concurrency(Some(number(3))),
            "concurrency",
            json!(3),
        ),
        (
            new(read).concurrency(number(3)),
            update().concurrency(None),
            "concurrency",
            json!(3),
        ),
    ];
    for (new, update, field, expected) in cases {
        let what = format!("{field} {update:?}");
        let (before, after, replayed) = carried_over(new, update).await;
        let restrictions = serde_json::to_value(after.restrictions()).unwrap();
        assert_eq!(restrictions[field], expected, "{what}");
        assert_eq!(after.suspended_at(), None, "{what}");
        assert!(replayed.suspended.is_empty(), "{what}");
        let is_narrowed = after.revision() > before.revision();
        assert_eq!(replayed.narrowed, u64::from(is_narrowed), "{what}");
        assert_eq!(is_narrowed, after != before, "{what}");
    }
}

#[tokio::test]
async fn disjoint_limits_suspend_the_key() {
    let new = || NewKey::new(tenant(), "key", READ);
    let update = KeyUpdate::new;
    let eight = (0..8).map(|n| quota(&format!("q{n}"), 100, 3_600));
    for (new, update) in [
        (new(), update().access(WRITE)),
        (
            new().resources(resources(["client:x", "project:a"])),
            update().resources(resources(["client:x", "project:b"])),
        ),
        (
            new().networks(networks(["10.0.0.0/8"])),
            update().networks(networks(["192.168.0.0/16"])),
        ),
        (
            new().quota(quota("rate", 10, 60)),
            update().quotas([quota("rate", 5, 1)]),
        ),
        (
            eight.fold(new(), NewKey::quota),
            update().quotas([quota("one_more", 1, 60)]),
        ),
    ] {
        let what = format!("{update:?}");
        let (before, after, replayed) = carried_over(new, update).await;
        assert!(after.suspended_at().is_some(), "{what}");
        assert_eq!(replayed.suspended, [before.id()], "{what}");
        assert_eq!(counts(&replayed), (0, 1, 0, 0), "{what}");
    }
}

#[tokio::test]
async fn a_suspended_key_stays_reported() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    let id = key.record().id();
    let list = [limited(
        id,
        &json!({ "access": { "type": "scopes", "scopes": ["write:editions"] } }),
    )];
    for narrowed in [1, 0] {
        let replayed = replay(&fixture, &list).await.unwrap();
        assert_eq!(counts(&replayed), (0, narrowed, 1 - narrowed, 0));
        assert_eq!(replayed.suspended, [id], "a crash must not lose its name");
    }
    let manager = fixture.manager();
    manager.resume(&system(), &tenant(), id).await.unwrap();
    let replayed = replay(&fixture, &list).await.unwrap();
    assert_eq!(replayed.suspended, [id]);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Suspended);
    let update = KeyUpdate::new().access(WRITE);
    manager
        .update(&system(), &tenant(), id, update)
        .await
        .unwrap();
    manager.resume(&system(), &tenant(), id).await.unwrap();
    let replayed = replay(&fixture, &list).await.unwrap();
    assert_eq!(
        (counts(&replayed), replayed.suspended),
        ((0, 0, 1, 0), vec![])
    );
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
}

/// A fixture in which keys were taken away in every way since the backup, with the backup and the export.
struct Taken {
    fixture: Fixture,
    backup: Vec<StoredKey>,
    exported: Vec<KeyBound>,
    keys: Vec<(ApiKey, Answer)>,
}

impl Taken {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let fired = Principal::user("fired").unwrap();
        let mut all = Vec::new();
        for title in [
            "kept",
            "suspended",
            "revoked",
            "rotated away",
            "superseded",
            "in its overlap",
            "rotated until it is revoked",
            "narrowed",
        ] {
            all.push(fixture.issue(title).await);
        }
        let new = new_key("cut off").owner(fired.clone());
        all.push(fixture.issue_key(new).await);
        let mut backup = Vec::new();
        for key in &all {
            backup.push(stored(&fixture, key.record().id()).await);
        }
        fixture.later(HOUR);

        let id = |index: usize| all[index].record().id();
        let (manager, actor, tenant) = (fixture.manager(), system(), tenant());
        manager.suspend(&actor, &tenant, id(1)).await.unwrap();
        fixture.revoke(id(2)).await;
        let rotate = async |index, overlap| fixture.rotate(id(index), overlap).await.unwrap();
        rotate(3, Overlap::None).await;
        rotate(4, Overlap::For(HOUR)).await;
        rotate(5, Overlap::For(DAY * 30)).await;
        rotate(6, Overlap::UntilRevoked).await;
        let update = KeyUpdate::new().networks(networks(["10.0.0.0/8"]));
        manager
            .update(&actor, &tenant, id(7), update)
            .await
            .unwrap();
        let owner = fired;
        let scope = CutoffScope::Owner { tenant, owner };
        let now = fixture.now();
        manager
            .deny_issued_before(&actor, now, scope)
            .await
            .unwrap();
        fixture.later(DAY);
        let exported = export(&fixture).await;
        let answers = [
            Answer::Admitted,
            Answer::Suspended,
            Answer::Revoked(RevokeReason::Requested),
            Answer::Revoked(RevokeReason::Rotated),
            Answer::Expired,
            Answer::Admitted,
            Answer::Admitted,
            Answer::Other("the client's address is not known".into()),
            Answer::Revoked(RevokeReason::other("cut off").unwrap()),
        ];
        let keys = all.into_iter().map(|key| key.into_parts().0);
        Self {
            backup,
            exported,
            keys: keys.zip(answers).collect(),
            fixture,
        }
    }

    async fn restored(&self) -> Fixture {
        let fresh = restored(self.backup.clone(), self.fixture.now()).await;
        for (key, _) in &self.keys {
            let answer = fresh.answer(key).await;
            assert_eq!(answer, Answer::Admitted, "revived by the backup");
        }
        fresh
    }

    async fn is_carried_over(&self, fresh: &Fixture) {
        for (key, expected) in &self.keys {
            let answer = fresh.answer(key).await;
            match expected {
                Answer::Other(_) => assert!(matches!(answer, Answer::Other(_)), "{answer:?}"),
                expected => assert_eq!(answer, *expected),
            }
        }
    }

    /// The records but for what is told of when something was done.
    async fn records(&self, fixture: &Fixture) -> Vec<(KeyStatus, KeyRecord)> {
        let mut records = Vec::new();
        for (key, _) in &self.keys {
            let record = fixture.record(key.id()).await;
            records.push((record.status(fixture.now()), record));
        }
        records
    }
}

#[tokio::test]
async fn every_later_limit_is_reapplied() {
    let taken = Taken::new().await;
    let fresh = taken.restored().await;
    let replayed = replay(&fresh, &taken.exported).await.unwrap();
    // Of four keys the successors are not in the backup.
    assert_eq!(counts(&replayed), (3, 4, 2, 4));
    assert!(replayed.suspended.is_empty() && replayed.unreadable.is_empty());
    taken.is_carried_over(&fresh).await;
    let suspended = fresh.record(taken.keys[1].0.id()).await.suspended_at();
    let was = taken
        .fixture
        .record(taken.keys[1].0.id())
        .await
        .suspended_at();
    assert_eq!(suspended, was);
    let told = fresh.told().await;
    let count = |action| told.iter().filter(|event| event.action == action).count();
    assert_eq!(count(EventAction::KeyRevoked), 3);
    assert_eq!(count(EventAction::KeySuspended), 1);
    assert_eq!(count(EventAction::KeyUpdated), 3);
    assert_eq!(told.len(), 7);

    let again = replay(&fresh, &taken.exported).await.unwrap();
    assert_eq!(counts(&again), (0, 0, 9, 4));
    assert!(fresh.told().await.is_empty());
    fresh.later(DAY * 30);
    let in_its_overlap = &taken.keys[5].0;
    assert_eq!(fresh.answer(in_its_overlap).await, Answer::Expired);
}

#[tokio::test]
async fn a_stopped_replay_can_be_repeated() {
    let taken = Taken::new().await;
    let whole = taken.restored().await;
    replay(&whole, &taken.exported).await.unwrap();
    let expected = taken.records(&whole).await;
    for commits in 0..5 {
        let fresh = taken.restored().await;
        let before = std::iter::repeat_n(Loss::None, commits);
        fresh.store.lose(before.chain([Loss::Away]));
        let stopped = replay(&fresh, &taken.exported).await;
        assert!(
            matches!(stopped, Err(ManageError::Store(StoreError::Unavailable(_)))),
            "{stopped:?}"
        );
        replay(&fresh, &taken.exported).await.unwrap();
        assert_eq!(taken.records(&fresh).await.len(), expected.len());
        for ((status, is), (expected_status, wanted)) in
            taken.records(&fresh).await.iter().zip(&expected)
        {
            assert_eq!(status, expected_status, "after {commits} commits");
            assert_eq!(is.revision(), wanted.revision(), "nothing is done twice");
        }
        assert_eq!(fresh.told().await.len(), 7);
        taken.is_carried_over(&fresh).await;
    }
}

#[tokio::test]
async fn a_lost_answer_repeats_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    fixture.told().await;
    fixture.store.lose([Loss::Answer]);
    let list = [limited(id, &json!({ "concurrency": 3 }))];
    let replayed = replay(&fixture, &list).await.unwrap();
    assert_eq!(counts(&replayed), (0, 1, 0, 0));
    assert_eq!(fixture.told().await.len(), 1);
}

#[tokio::test]
async fn concurrent_changes_are_narrowed_too() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    let mut other = stored(&fixture, id).await;
    other.title = "changed by another".parse().unwrap();
    let list = [limited(id, &json!({ "concurrency": 3 }))];
    fixture.store.first([Change::Replace {
        expected: other.revision,
        with: Box::new(other),
    }]);
    let replayed = replay(&fixture, &list).await.unwrap();
    assert_eq!(counts(&replayed), (0, 1, 0, 0));
    let record = fixture.record(id).await;
    assert_eq!(record.title().as_str(), "changed by another");
    assert_eq!(record.restrictions().concurrency, Some(number(3)));

    let id = fixture.issue("key").await.record().id();
    fixture.store.first([Change::Revoke {
        id,
        at: fixture.now(),
        reason: RevokeReason::Requested,
    }]);
    let list = [limited(id, &json!({ "concurrency": 3 }))];
    let replayed = replay(&fixture, &list).await.unwrap();
    assert_eq!(counts(&replayed), (0, 0, 1, 0));
    assert_eq!(fixture.status(id).await, KeyStatus::Revoked);
}

#[tokio::test]
async fn an_unreadable_key_stays_unusable() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    let id = key.record().id();
    let backup = stored(&fixture, id).await;
    fixture.tamper(id, "restrictions/access", json!(7)).await;
    let exported = export(&fixture).await;
    assert_eq!(exported[0].bound, Bound::Unreadable);
    let fresh = restored([backup.clone()], fixture.now()).await;
    let replayed = replay(&fresh, &exported).await.unwrap();
    assert_eq!(replayed.suspended, [id]);
    assert_eq!(fresh.answer(key.api_key()).await, Answer::Suspended);

    let fresh = restored([backup], fixture.now()).await;
    fresh.tamper(id, "restrictions/access", json!(7)).await;
    let list = [limited(id, &json!({ "concurrency": 3 }))];
    let replayed = replay(&fresh, &list).await.unwrap();
    assert_eq!(replayed.unreadable, [id]);
    assert_eq!(counts(&replayed), (0, 0, 0, 0));
    let revoked = [KeyBound::revoked(
        id,
        tenant(),
        fresh.now(),
        RevokeReason::Leaked,
    )];
    let replayed = replay(&fresh, &revoked).await.unwrap();
    assert_eq!(replayed.revoked, 1, "a revocation needs no document");
}

#[tokio::test]
async fn impossible_limits_are_refused_first() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    let id = key.record().id();
    let good = limited(id, &json!({ "concurrency": 3 }));
    fixture.told().await;
    let calls = fixture.store.calls();
    let many: Vec<_> = (0..1_001).map(|n| format!("project:{n}")).collect();
    let pasted = format!("project:{}", key.api_key().expose());
    let cases = [
        (
            json!({ "resources": { "type": "only", "resources": many } }),
            "restricted to at most 1000 resources",
        ),
        (
            json!({ "resources": { "type": "only", "resources": [pasted] } }),
            "the resource holds the text of a key",
        ),
        (
            json!({ "expires_at": "0000-01-01T00:00:00+01:00" }),
            "years 0000 to 9999",
        ),
    ];
    for (bad, why) in cases {
        let list = [good.clone(), limited(id, &bad)];
        let refused = replay(&fixture, &list).await.unwrap_err();
        assert!(matches!(refused, ManageError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(fixture.store.calls(), calls);
    }
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn the_event_names_limits_and_actor() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    fixture.told().await;
    let then = fixture.now();
    fixture.later(HOUR);
    let changed = json!({ "concurrency": 3, "expires_at": text(then), "suspended_at": text(then) });
    replay(&fixture, &[limited(id, &changed)]).await.unwrap();
    let told: Vec<Event> = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::KeySuspended]);
    is_alices(&told[0], fixture.now());
    let then = text(then);
    assert_eq!(
        fields(&told[0]),
        [
            ("concurrency", None, Some("3")),
            ("expires_at", None, Some(&*then)),
            ("suspended_at", None, Some(&*then)),
        ]
    );
}

#[tokio::test]
async fn a_future_instant_suspends_now() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    let later = text(fixture.now() + DAY);
    let list = [limited(id, &json!({ "suspended_at": later }))];
    replay(&fixture, &list).await.unwrap();
    let suspended_at = fixture.record(id).await.suspended_at();
    assert_eq!(suspended_at, Some(fixture.now()));
}
