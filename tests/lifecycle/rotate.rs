//! Giving a key a successor: what it inherits, and how long both are good.

use std::num::NonZeroU32;

use keyward::audit::EventAction;
use keyward::key::{
    Access, KeyFormat, KeyStatus, Metadata, Networks, Principal, Quota, Resources, RevokeReason,
};
use keyward::manager::{Axis, InvalidKey, Issued, Limits, ManageError, NewKey, Overlap, Rotation};
use keyward::verifier::{Attempt, Requirement};
use serde_json::json;

use crate::common::*;

async fn rotate(fixture: &Fixture, key: &Issued, how: impl Into<Rotation>) -> Issued {
    fixture.rotate(key.record().id(), how).await.unwrap()
}

#[tokio::test]
async fn a_successor_inherits_the_settings() {
    let fixture = Fixture::new().await;
    let key = new_key("Nightly ETL")
        .owner(Principal::integration("etl").unwrap())
        .resources(Resources::only(["project:p1".parse().unwrap()]).unwrap())
        .networks(Networks::only(["10.0.0.0/8".parse().unwrap()]).unwrap())
        .quota(Quota::new("q", NonZeroU32::MIN, HOUR).unwrap())
        .concurrency(NonZeroU32::MIN)
        .metadata(Metadata::try_from(json!({"ticket": "OPS-7"})).unwrap())
        .not_before(fixture.now())
        .expires_in(DAY);
    let old = fixture.issue_key(key).await;
    let id = old.record().id();
    fixture.told().await;
    fixture.later(HOUR);
    let (alice, commits) = (alice(None), fixture.store.commits());
    let new = fixture
        .manager()
        .rotate(&alice, &tenant(), id, Overlap::For(HOUR))
        .await
        .unwrap();
    assert_eq!(fixture.store.commits(), commits + 1, "both in one commit");

    let (was, is) = (old.record(), new.record());
    assert_eq!(is, &fixture.record(is.id()).await);
    assert_ne!(is.id(), was.id());
    assert_ne!(new.api_key().expose_secret(), old.api_key().expose_secret());
    assert_ne!(is.digest(), was.digest());
    assert_eq!(
        (is.tenant(), is.owner(), is.title()),
        (was.tenant(), was.owner(), was.title())
    );
    assert_eq!(is.restrictions(), was.restrictions());
    assert_eq!(is.metadata(), was.metadata());
    assert_eq!(
        (is.environment(), is.origin()),
        (was.environment(), was.origin())
    );
    assert_eq!(
        (is.created_at(), is.created_by()),
        (fixture.now(), alice.principal())
    );
    assert_eq!(
        (is.predecessor(), is.lineage(), is.revision()),
        (Some(id), id, 1)
    );
    assert!(is.rotation().is_none());
    let kept = fixture.record(id).await;
    let rotated = kept.rotation().unwrap();
    let ends = fixture.now() + HOUR;
    assert_eq!((rotated.successor, rotated.at), (is.id(), fixture.now()));
    assert_eq!(
        (rotated.overlap_ends, kept.restrictions().expires_at),
        (Some(ends), Some(ends))
    );
    assert_eq!(
        (kept.revision(), kept.predecessor(), kept.lineage()),
        (2, None, id)
    );

    let told = fixture.told().await;
    assert_eq!(
        actions(&told),
        [EventAction::KeyIssued, EventAction::KeyRotated]
    );
    told.iter()
        .for_each(|event| is_alices(event, fixture.now()));
    assert_eq!((told[0].key, told[1].key), (Some(is.id()), Some(id)));
    let (new_id, old_id) = (is.id().to_string(), id.to_string());
    assert!(fields(&told[0]).contains(&("predecessor", None, Some(&*old_id))));
    let (before, ends) = (text(was.restrictions().expires_at.unwrap()), text(ends));
    assert_eq!(
        fields(&told[1]),
        [
            ("successor", None, Some(&*new_id)),
            ("overlap_ends", None, Some(&*ends)),
            ("expires_at", Some(&*before), Some(&*ends)),
        ]
    );
    // And it is restricted as the old key was.
    let need = Requirement::scope(READ).resource("project");
    for (project, is_admitted) in [("p1", true), ("p2", false)] {
        let attempt = Attempt::new(new.api_key().presented(), &need);
        let attempt = attempt
            .client("10.1.2.3".parse().unwrap())
            .resource("project", project);
        assert_eq!(
            fixture.keyward.verifier().verify(&attempt).await.is_ok(),
            is_admitted
        );
    }
}

#[tokio::test]
async fn without_overlap_one_commit_revokes() {
    let fixture = Fixture::new().await;
    let old = fixture.issue("key").await;
    fixture.told().await;
    let commits = fixture.store.commits();
    let new = rotate(&fixture, &old, Overlap::None).await;
    assert_eq!(fixture.store.commits(), commits + 1);
    assert_eq!(
        fixture.answer(old.api_key()).await,
        Answer::Revoked(RevokeReason::Rotated)
    );
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    let record = fixture.record(old.record().id()).await;
    assert_eq!(record.revocation().unwrap().at, fixture.now());
    assert_eq!(record.rotation().unwrap().successor, new.record().id());
    let told = fixture.told().await;
    let expected = [
        EventAction::KeyIssued,
        EventAction::KeyRotated,
        EventAction::KeyRevoked,
    ];
    assert_eq!(actions(&told), expected);
    assert_eq!(fields(&told[2]), [("revoked", None, Some("rotated"))]);
}

#[tokio::test]
async fn a_successors_expiry_can_be_chosen() {
    let fixture = Fixture::new().await;
    let own = fixture.now() + DAY;
    let with = || Rotation::new(Overlap::None);
    for (rotation, expected) in [
        (with(), Some(own)),
        (with().never_expires(), None),
        (with().expires_in(HOUR), Some(fixture.now() + HOUR)),
        (
            with().expires_at(fixture.now() + DAY * 9),
            Some(fixture.now() + DAY * 9),
        ),
    ] {
        let old = fixture.issue_key(new_key("key").expires_at(own)).await;
        let new = rotate(&fixture, &old, rotation).await;
        assert_eq!(new.record().restrictions().expires_at, expected);
    }
    let old = fixture.issue("lives for ever").await;
    assert_eq!(
        rotate(&fixture, &old, Overlap::None)
            .await
            .record()
            .restrictions()
            .expires_at,
        None
    );
    assert_eq!(with().overlap(), Overlap::None);
}

#[tokio::test]
async fn only_active_keys_are_rotated() {
    let fixture = Fixture::new().await;
    let [revoked, cut_off, superseded] = fixture.ended_keys().await;
    let expired = fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await;
    let suspended = fixture.issue("suspended").await;
    let manager = fixture.manager();
    manager
        .suspend(&system(), &tenant(), suspended.record().id())
        .await
        .unwrap();
    fixture.later(SECOND);
    let commits = fixture.store.commits();
    for overlap in [Overlap::None, Overlap::For(HOUR), Overlap::UntilRevoked] {
        let refused = async |key: &Issued| {
            let id = key.record().id();
            manager
                .rotate(&system(), &tenant(), id, overlap)
                .await
                .unwrap_err()
        };
        assert!(matches!(
            refused(&revoked).await,
            ManageError::AlreadyRevoked { .. }
        ));
        assert!(matches!(
            refused(&cut_off).await,
            ManageError::Ended(KeyStatus::Revoked)
        ));
        assert!(matches!(
            refused(&superseded).await,
            ManageError::Ended(KeyStatus::Revoked)
        ));
        assert!(matches!(
            refused(&expired).await,
            ManageError::Ended(KeyStatus::Expired)
        ));
        assert!(matches!(refused(&suspended).await, ManageError::Suspended));
    }
    assert_eq!(fixture.store.commits(), commits);
    manager
        .resume(&system(), &tenant(), suspended.record().id())
        .await
        .unwrap();
    let new = rotate(&fixture, &suspended, Overlap::UntilRevoked).await;
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    // The old key can still be switched off and on while both are good.
    let id = suspended.record().id();
    manager.suspend(&system(), &tenant(), id).await.unwrap();
    assert_eq!(fixture.answer(suspended.api_key()).await, Answer::Suspended);
    assert_eq!(
        manager
            .resume(&system(), &tenant(), id)
            .await
            .unwrap()
            .rotation()
            .unwrap()
            .successor,
        new.record().id()
    );
}

#[tokio::test]
async fn rotation_obeys_the_ceiling() {
    let fixture = Fixture::new().await;
    let alice = alice(Limits::new(READ).expires_by(fixture.now() + DAY));
    let full = fixture
        .issue_key(NewKey::new(tenant(), "full", Access::Full).expires_in(HOUR))
        .await;
    let lasting = fixture.issue("lasting").await;
    let mine = fixture.issue_key(new_key("mine").expires_in(HOUR)).await;
    let manager = fixture.manager();
    let commits = fixture.store.commits();
    let none = || Rotation::new(Overlap::None);
    for (key, rotation, exceeded) in [
        (&full, none(), Axis::Access),
        // A successor within it does not excuse the key as it is.
        (&lasting, none().expires_in(HOUR), Axis::Expiry),
        (&mine, none().never_expires(), Axis::Expiry),
        (&mine, none().expires_in(DAY * 2), Axis::Expiry),
    ] {
        let refused = manager
            .rotate(&alice, &tenant(), key.record().id(), rotation)
            .await;
        assert!(matches!(refused, Err(ManageError::AboveCeiling(axis)) if axis == exceeded));
    }
    assert_eq!(fixture.store.commits(), commits);
    let rotation = none().expires_in(DAY);
    assert!(
        manager
            .rotate(&alice, &tenant(), mine.record().id(), rotation)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_successor_has_the_current_format() {
    let old_fixture = Fixture::new().await;
    let old = old_fixture.issue("key").await;
    let format = KeyFormat::new("newco")
        .unwrap()
        .environment("test")
        .unwrap();
    let fixture = old_fixture.beside(|builder| builder.format(format)).await;
    let new = rotate(&fixture, &old, Overlap::UntilRevoked).await;
    assert!(new.api_key().expose().starts_with("newco_test_"));
    assert!(new.record().display_prefix().starts_with("newco_"));
    assert_eq!(
        new.record().display_prefix(),
        new.api_key().display_prefix()
    );
    assert_eq!(fixture.answer(new.api_key()).await, Answer::Admitted);
    assert_eq!(old_fixture.answer(old.api_key()).await, Answer::Admitted);

    let stray = fixture
        .issue("of an environment that is no more")
        .await
        .record()
        .id();
    fixture.tamper(stray, "environment", json!("staging")).await;
    let refused = fixture
        .manager()
        .rotate(&system(), &tenant(), stray, Overlap::None)
        .await;
    assert!(matches!(
        refused,
        Err(ManageError::Invalid(InvalidKey::Format(_)))
    ));
}
