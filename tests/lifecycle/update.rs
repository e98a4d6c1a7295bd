//! Changing named fields of a key.

use std::num::NonZeroU32;

use keyward::audit::EventAction;
use keyward::key::{Access, KeyStatus, Metadata, Networks, Quota, Resource, Resources, Scope};
use keyward::manager::{Axis, InvalidKey, KeyUpdate, Limits, ManageError, Overlap};
use keyward::scope;
use keyward::verifier::Requirement;
use serde_json::json;

use crate::common::*;

fn quota(name: &str, limit: u32) -> Quota {
    Quota::new(name, NonZeroU32::new(limit).unwrap(), HOUR).unwrap()
}

fn networks(text: &str) -> Networks {
    Networks::only([text.parse().unwrap()]).unwrap()
}

fn resources(text: &str) -> Resources {
    Resources::only([text.parse().unwrap()]).unwrap()
}

fn five() -> NonZeroU32 {
    NonZeroU32::new(5).unwrap()
}

#[tokio::test]
async fn changes_apply_at_once_with_an_event() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("old").await;
    let id = issued.record().id();
    fixture.told().await;
    fixture.later(SECOND);
    let update = KeyUpdate::new()
        .title("new")
        .metadata(Metadata::try_from(json!({"ticket": "OPS-7"})).unwrap())
        .access(WRITE)
        .resources(resources("project:p1"))
        .networks(networks("10.0.0.0/8"))
        .quotas([quota("hourly", 60), quota("burst", 5)])
        .concurrency(Some(five()));
    let alice = alice(None);
    let updated = fixture
        .manager()
        .update(&alice, &tenant(), id, update)
        .await;
    let updated = updated.unwrap();
    assert_eq!(
        updated,
        fixture.record(id).await,
        "what is answered is what is kept"
    );
    assert_eq!(updated.title().as_str(), "new");
    let restrictions = updated.restrictions();
    assert_eq!(restrictions.access, Access::from(WRITE));
    assert_eq!(restrictions.resources, resources("project:p1"));
    assert_eq!(restrictions.networks, networks("10.0.0.0/8"));
    assert_eq!(
        restrictions.quotas,
        [quota("hourly", 60), quota("burst", 5)]
    );
    assert_eq!(restrictions.concurrency, Some(five()));
    assert_eq!(updated.metadata().as_object()["ticket"], "OPS-7");
    assert_eq!(
        (updated.revision(), updated.created_at()),
        (2, issued.record().created_at())
    );
    assert_eq!(updated.created_by(), issued.record().created_by());

    let told = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::KeyUpdated]);
    is_alices(&told[0], fixture.now());
    assert_eq!(told[0].key, Some(id));
    assert_eq!(
        fields(&told[0]),
        [
            ("title", Some("old"), Some("new")),
            ("metadata", Some("{}"), Some(r#"{"ticket":"OPS-7"}"#)),
            ("access", Some("read:editions"), Some("write:editions")),
            ("resources", Some("any"), Some("project:p1")),
            ("networks", Some("any"), Some("10.0.0.0/8")),
            (
                "quotas",
                None,
                Some("hourly 60 in 3600 s, burst 5 in 3600 s")
            ),
            ("concurrency", None, Some("5")),
        ]
    );
    let answer = fixture.answer(issued.api_key()).await;
    assert!(matches!(answer, Answer::Other(why) if why.contains("networks")));

    // Lifted again, one by one; what is not named stays.
    let manager = fixture.manager();
    let lift = KeyUpdate::new()
        .networks(Networks::Any)
        .resources(Resources::Any);
    manager.update(&alice, &tenant(), id, lift).await.unwrap();
    let write = Requirement::scope(WRITE);
    assert_eq!(
        fixture.answer_for(issued.api_key(), &write).await,
        Answer::Admitted
    );
    let read = Requirement::scope(READ);
    assert_eq!(
        fixture.answer_for(issued.api_key(), &read).await,
        Answer::Forbidden
    );
    let lift = KeyUpdate::new().quotas([]).concurrency(None);
    let lifted = manager.update(&alice, &tenant(), id, lift).await.unwrap();
    let restrictions = lifted.restrictions();
    assert!(restrictions.quotas.is_empty() && restrictions.concurrency.is_none());
    assert_eq!((lifted.title().as_str(), lifted.revision()), ("new", 4));
    assert_eq!(lifted.metadata(), updated.metadata());
    let told = fixture.told().await;
    assert_eq!(fields(&told[1])[1], ("concurrency", Some("5"), None));
}

#[tokio::test]
async fn an_equal_update_does_nothing() {
    let fixture = Fixture::new().await;
    let key = new_key("key")
        .networks(networks("10.0.0.0/8"))
        .quota(quota("q", 1));
    let issued = fixture.issue_key(key).await;
    let id = issued.record().id();
    fixture.told().await;
    let commits = fixture.store.commits();
    let same = KeyUpdate::new()
        .title("  key ")
        .access([READ, READ])
        .networks(networks("::ffff:10.0.0.0/104"))
        .quotas([quota("q", 1)])
        .metadata(Metadata::default())
        .concurrency(None);
    for update in [KeyUpdate::new(), same.clone()] {
        let kept = fixture
            .manager()
            .update(&system(), &tenant(), id, update)
            .await;
        assert_eq!(kept.unwrap(), *issued.record());
    }
    assert_eq!(
        (fixture.told().await.len(), fixture.store.commits()),
        (0, commits)
    );
    let update = same.access([WRITE, READ]);
    let updated = fixture
        .manager()
        .update(&system(), &tenant(), id, update)
        .await;
    assert_eq!(updated.unwrap().revision(), 2);
    let told = fixture.told().await;
    let both = Some("read:editions write:editions");
    assert_eq!(fields(&told[0]), [("access", Some("read:editions"), both)]);
}

#[tokio::test]
async fn a_scope_named_full_is_only_a_scope() {
    let fixture =
        Fixture::with(|builder| builder.scopes([scope!("full").described("A plan's name")])).await;
    let issued = fixture
        .issue_key(keyward::manager::NewKey::new(tenant(), "key", Access::Full))
        .await;
    let id = issued.record().id();
    let update = KeyUpdate::new().access(scope!("full"));
    let updated = fixture
        .manager()
        .update(&system(), &tenant(), id, update)
        .await
        .unwrap();
    assert_eq!(updated.restrictions().access, Access::from(scope!("full")));
    let write = Requirement::scope(WRITE);
    assert_eq!(
        fixture.answer_for(issued.api_key(), &write).await,
        Answer::Forbidden
    );
}

#[tokio::test]
async fn an_invalid_update_changes_nothing() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let (id, pasted) = (
        issued.record().id(),
        format!("see {}", issued.api_key().expose()),
    );
    fixture.told().await;
    let new = KeyUpdate::new;
    let notes = Metadata::try_from(json!({"notes": [pasted.clone()]})).unwrap();
    let projects = (0..1_001).map(|n| Resource::new("project", &format!("p{n}")).unwrap());
    let ranges = (0..101).map(|n| format!("10.0.{n}.0/24").parse().unwrap());
    type Expected = fn(&InvalidKey) -> bool;
    let text = issued.api_key().expose();
    let project = Resource::new("project", text).unwrap();
    let cut: Scope = text[..64].parse().unwrap();
    let cases: [(KeyUpdate, Expected); 11] = [
        (new().resources(project), |why| {
            matches!(why, InvalidKey::HoldsKey { field: "resource" })
        }),
        (new().access([READ, cut]), |why| {
            matches!(why, InvalidKey::HoldsKey { field: "scope" })
        }),
        (new().title(" \t"), |why| {
            matches!(why, InvalidKey::Title(_))
        }),
        (new().title("a\u{202e}b"), |why| {
            matches!(why, InvalidKey::Title(_))
        }),
        (new().title(pasted), |why| {
            matches!(why, InvalidKey::HoldsKey { field: "title" })
        }),
        (new().metadata(notes), |why| {
            matches!(why, InvalidKey::HoldsKey { field: "metadata" })
        }),
        (
            new().access([READ, scope!("undeclared")]),
            |why| matches!(why, InvalidKey::UndeclaredScope(scope) if scope.as_str() == "undeclared"),
        ),
        (
            new().quotas([quota("q", 1), quota("q", 2)]),
            |why| matches!(why, InvalidKey::RepeatedQuota(name) if name == "q"),
        ),
        (
            new().quotas((0..9).map(|n| quota(&format!("q{n}"), 1))),
            |why| matches!(why, InvalidKey::TooManyQuotas),
        ),
        (new().resources(Resources::only(projects).unwrap()), |why| {
            matches!(why, InvalidKey::TooManyResources)
        }),
        (new().networks(Networks::only(ranges).unwrap()), |why| {
            matches!(why, InvalidKey::TooManyNetworks)
        }),
    ];
    for (update, expected) in cases {
        // A field that is good does not carry one that is not.
        let update = update.concurrency(Some(five()));
        let refused = fixture
            .manager()
            .update(&system(), &tenant(), id, update)
            .await;
        assert!(
            matches!(&refused, Err(ManageError::Invalid(why)) if expected(why)),
            "{refused:?}"
        );
    }
    assert_eq!(fixture.record(id).await, *issued.record());
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn updates_stay_within_the_ceiling() {
    let fixture = Fixture::new().await;
    let bound = networks("10.0.0.0/8");
    let limits = Limits::new(READ)
        .networks(bound.clone())
        .concurrency(five())
        .quota(quota("q", 9));
    let alice = alice(limits);
    let within = || {
        new_key("key")
            .networks(bound.clone())
            .concurrency(five())
            .quota(quota("q", 9))
    };
    let mine = fixture.issue_key(within()).await.record().id();
    let above = fixture.issue("above").await.record().id();
    let full = keyward::manager::NewKey::new(tenant(), "full", Access::Full);
    let full = fixture.issue_key(full).await.record().id();
    fixture.told().await;
    let manager = fixture.manager();
    let new = KeyUpdate::new;
    let tighter = new()
        .access(READ)
        .networks(bound.clone())
        .concurrency(Some(five()));
    for (id, update, axis) in [
        // As it is, whatever is asked: to change nothing, to rename, even to bring it below.
        (full, new(), Axis::Access),
        (full, new().title("mine now"), Axis::Access),
        (full, tighter.clone().quotas([quota("q", 9)]), Axis::Access),
        (above, tighter.quotas([quota("q", 9)]), Axis::Networks),
        // As it is to be.
        (mine, new().access(WRITE), Axis::Access),
        (mine, new().access([READ, WRITE]), Axis::Access),
        (mine, new().networks(Networks::Any), Axis::Networks),
        (mine, new().networks(networks("10.0.0.0/7")), Axis::Networks),
        (mine, new().quotas([]), Axis::Quotas),
        (mine, new().quotas([quota("q", 10)]), Axis::Quotas),
        (mine, new().concurrency(None), Axis::Concurrency),
        (
            mine,
            new().concurrency(NonZeroU32::new(6)),
            Axis::Concurrency,
        ),
    ] {
        let refused = manager.update(&alice, &tenant(), id, update).await;
        assert!(
            matches!(refused, Err(ManageError::AboveCeiling(found)) if found == axis),
            "{refused:?}"
        );
    }
    assert!(fixture.told().await.is_empty());
    let update = new().title("renamed").concurrency(Some(NonZeroU32::MIN));
    assert!(
        manager
            .update(&alice, &tenant(), mine, update)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn ended_keys_cannot_be_changed() {
    let fixture = Fixture::new().await;
    let [revoked, cut_off, superseded] = fixture.ended_keys().await;
    let expired = fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await;
    let asleep = fixture
        .issue_key(new_key("asleep").not_before(fixture.now() + HOUR))
        .await;
    let suspended = fixture.issue("suspended").await;
    let (manager, id) = (fixture.manager(), suspended.record().id());
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    fixture.later(SECOND);
    let update = || KeyUpdate::new().access(WRITE);
    let since = fixture
        .record(revoked.record().id())
        .await
        .revocation()
        .unwrap()
        .at;
    let refused = manager
        .update(&system(), &tenant(), revoked.record().id(), update())
        .await;
    assert!(matches!(refused, Err(ManageError::AlreadyRevoked { at }) if at == since));
    for (key, status) in [
        (cut_off, KeyStatus::Revoked),
        (superseded, KeyStatus::Revoked),
        (expired, KeyStatus::Expired),
    ] {
        let refused = manager
            .update(&system(), &tenant(), key.record().id(), update())
            .await;
        assert!(matches!(refused, Err(ManageError::Ended(ended)) if ended == status));
        assert_eq!(
            fixture
                .record(key.record().id())
                .await
                .restrictions()
                .access,
            Access::from(READ)
        );
    }
    for (key, answer) in [
        (asleep, Answer::NotYetValid),
        (suspended, Answer::Suspended),
    ] {
        let updated = manager
            .update(&system(), &tenant(), key.record().id(), update())
            .await;
        assert_eq!(updated.unwrap().restrictions().access, Access::from(WRITE));
        assert_eq!(fixture.answer(key.api_key()).await, answer, "as before");
    }
}

#[tokio::test]
async fn undeclared_scopes_block_no_rename() {
    let fixture = Fixture::new().await;
    let id = fixture.issue("key").await.record().id();
    fixture
        .tamper(
            id,
            "restrictions/access",
            json!({"type": "scopes", "scopes": ["gone:since"]}),
        )
        .await;
    let renamed = KeyUpdate::new().title("renamed");
    let record = fixture
        .manager()
        .update(&system(), &tenant(), id, renamed)
        .await;
    assert_eq!(record.unwrap().title().as_str(), "renamed");
    let rotated = fixture.rotate(id, Overlap::None).await;
    assert!(
        matches!(
            rotated,
            Err(ManageError::Invalid(InvalidKey::UndeclaredScope(_)))
        ),
        "a new key has declared scopes: {rotated:?}"
    );
}

#[tokio::test]
async fn a_kept_text_blocks_no_narrowing() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let id = issued.record().id();
    // A resource that holds a key by today's format, as after a change of prefix.
    let project = Resource::new("project", issued.api_key().expose()).unwrap();
    let kept = Resources::only([project]).unwrap();
    let kept = serde_json::to_value(kept).unwrap();
    fixture.tamper(id, "restrictions/resources", kept).await;
    let narrower = KeyUpdate::new().networks(networks("10.0.0.0/8"));
    let record = fixture
        .manager()
        .update(&system(), &tenant(), id, narrower)
        .await;
    let record = record.unwrap();
    assert_eq!(record.restrictions().networks, networks("10.0.0.0/8"));
}
