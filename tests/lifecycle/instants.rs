//! Instants in each form that a host application may have, and those out of range, which no call takes.

use std::time::{SystemTime, UNIX_EPOCH};

use keyward::clock::Clock;
use keyward::key::{KeyStatus, RevokeReason, Timestamp};
use keyward::manager::{
    Axis, CutoffChange, InvalidKey, KeyBound, KeyUpdate, Limits, ManageError, Overlap, RevokeAll,
    Rotation,
};
use keyward::testkit::ManualClock;
use keyward::time::OffsetDateTime;

use crate::common::*;

/// The same instant in each form.
fn forms(at: OffsetDateTime) -> [Timestamp; 3] {
    let abroad = text(at.to_offset(keyward::time::UtcOffset::from_hms(5, 30, 0).unwrap()));
    [
        at.into(),
        SystemTime::from(at).into(),
        abroad.parse().unwrap(),
    ]
}

/// The first second of the year 10000, and later instants to the last that the platform has.
fn after_9999() -> impl Iterator<Item = SystemTime> {
    let seconds = [253_402_300_800, 10_000_000_000_000, u64::MAX / 2];
    let after = seconds.map(std::time::Duration::from_secs);
    after
        .into_iter()
        .filter_map(|after| UNIX_EPOCH.checked_add(after))
}

/// The last second before the year 0000, and earlier instants to the first that the platform has.
fn before_0000() -> impl Iterator<Item = SystemTime> {
    let seconds = [62_167_219_201, 10_000_000_000_000, u64::MAX / 2];
    let before = seconds.map(std::time::Duration::from_secs);
    before
        .into_iter()
        .filter_map(|before| UNIX_EPOCH.checked_sub(before))
}

fn is_out_of_range<T>(result: &Result<T, ManageError>) -> bool {
    matches!(result, Err(ManageError::Invalid(InvalidKey::Instant)))
}

#[tokio::test]
async fn keys_take_each_form_of_an_instant() {
    let fixture = Fixture::new().await;
    let start = fixture.now();
    let (hour, day) = (forms(start + HOUR), forms(start + DAY));
    for (start_at, end_at) in hour.into_iter().zip(day) {
        let key = new_key("key").not_before(start_at).expires_at(end_at);
        let key = fixture.issue_key(key).await;
        let restrictions = key.record().restrictions();
        assert_eq!(restrictions.not_before, Some(start + HOUR));
        assert_eq!(restrictions.expires_at, Some(start + DAY));

        let id = key.record().id();
        let update = KeyUpdate::new().expires_at(end_at);
        let manager = fixture.manager();
        let updated = manager.update(&system(), &tenant(), id, update).await;
        assert_eq!(updated.unwrap(), *key.record());

        let rotation = Rotation::new(Overlap::until(start_at)).expires_at(end_at);
        let successor = fixture.rotate(id, rotation).await.unwrap();
        assert_eq!(
            successor.record().restrictions().expires_at,
            Some(start + DAY)
        );
        let old = fixture.record(id).await;
        assert_eq!(old.rotation().unwrap().overlap_ends, Some(start + HOUR));
    }
}

#[tokio::test]
async fn cutoffs_take_each_form_of_an_instant() {
    let fixture = Fixture::new().await;
    let (manager, actor) = (fixture.manager(), system());
    for form in 0..3 {
        let old = fixture.issue("old").await;
        fixture.later(SECOND);
        let instant = forms(fixture.now())[form];
        let denied = manager.deny_issued_before(&actor, instant, &tenant()).await;
        assert_eq!(denied.unwrap(), CutoffChange::Set);
        assert_eq!(fixture.answer(old.api_key()).await, Answer::CutOff);

        let all = RevokeAll::new(RevokeReason::Leaked).issued_before(instant);
        let done = manager.revoke_all(&actor, &tenant(), all).await.unwrap();
        assert_eq!(
            (OffsetDateTime::from(instant), done.revoked),
            (done.before, 1)
        );

        fixture.later(SECOND);
        let instant = forms(fixture.now())[form];
        let purged = manager.purge(&actor, &tenant(), instant, None).await;
        assert_eq!(purged.unwrap().keys, [old.record().id()]);
        assert!(manager.cut_events(&actor, instant).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn records_are_judged_at_each_form_of_an_instant() {
    let fixture = Fixture::new().await;
    let (start, end) = (fixture.now() + HOUR, fixture.now() + DAY);
    let key = fixture
        .issue_key(new_key("key").not_before(start).expires_at(end))
        .await;
    let record = key.record();
    let list = fixture.manager().list(&system(), &all()).await.unwrap();
    for (at, status) in [
        (start - SECOND, KeyStatus::NotYetValid),
        (start, KeyStatus::Active),
        (end, KeyStatus::Expired),
    ] {
        for form in forms(at) {
            assert_eq!(record.status(form), status);
            assert_eq!(record.view(form).status, status);
            assert_eq!(list.view(form).keys[0].view.status, status);
            let clock = ManualClock::new(form);
            assert_eq!(clock.now(), Ok(at));
            clock.set(SystemTime::from(at + SECOND));
            assert_eq!(clock.now(), Ok(at + SECOND));
        }
    }
    assert!(after_9999().all(|at| record.status(at) == KeyStatus::Expired));
    assert!(before_0000().all(|at| record.status(at) == KeyStatus::NotYetValid));
}

#[tokio::test]
async fn instants_out_of_range_are_refused() {
    let fixture = Fixture::new().await;
    let (manager, actor, tenant) = (fixture.manager(), system(), tenant());
    let key = fixture.issue("key").await;
    let (id, commits) = (key.record().id(), fixture.store.commits());
    for at in after_9999().chain(before_0000()) {
        let starts = manager.issue(&actor, new_key("new").not_before(at)).await;
        assert!(is_out_of_range(&starts), "not before {at:?}");
        let ends = manager.issue(&actor, new_key("new").expires_at(at)).await;
        assert!(is_out_of_range(&ends), "expires at {at:?}");
        let update = KeyUpdate::new().expires_at(at);
        let updated = manager.update(&actor, &tenant, id, update).await;
        assert!(is_out_of_range(&updated), "updated to {at:?}");
        let rotated = fixture.rotate(id, Overlap::until(at)).await;
        assert!(is_out_of_range(&rotated), "both until {at:?}");
        let rotation = Rotation::new(Overlap::None).expires_at(at);
        let rotated = fixture.rotate(id, rotation).await;
        assert!(is_out_of_range(&rotated), "successor expires at {at:?}");
        let all = RevokeAll::new(RevokeReason::Leaked).issued_before(at);
        let revoked = manager.revoke_all(&actor, &tenant, all).await;
        assert!(is_out_of_range(&revoked), "revoked before {at:?}");
        let denied = manager.deny_issued_before(&actor, at, &tenant).await;
        assert!(is_out_of_range(&denied), "denied before {at:?}");
        let purged = manager.purge(&actor, &tenant, at, None).await;
        assert!(is_out_of_range(&purged), "purged before {at:?}");
        let cut = manager.cut_events(&actor, at).await;
        assert!(is_out_of_range(&cut), "events cut before {at:?}");
    }
    assert_eq!(fixture.store.commits(), commits);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn ceilings_out_of_range_grant_no_more() {
    let fixture = Fixture::new().await;
    let last = "9999-12-31T23:59:59.999999Z".parse::<Timestamp>().unwrap();
    let keys = || [new_key("endless"), new_key("long").expires_at(last)];
    for at in before_0000() {
        let alice = alice(Limits::new(READ).expires_by(at));
        for key in keys() {
            let refused = fixture.manager().issue(&alice, key).await;
            let expiry = matches!(refused, Err(ManageError::AboveCeiling(Axis::Expiry)));
            assert!(expiry, "{at:?}");
        }
    }
    for at in after_9999() {
        let alice = alice(Limits::new(READ).expires_by(at));
        let [endless, long] = keys();
        let refused = fixture.manager().issue(&alice, endless).await;
        let expiry = matches!(refused, Err(ManageError::AboveCeiling(Axis::Expiry)));
        assert!(expiry, "{at:?}");
        fixture.manager().issue(&alice, long).await.unwrap();
    }
}

#[tokio::test]
async fn bounds_of_any_instant_revoke() {
    let fixture = Fixture::new().await;
    let now = fixture.now();
    let far = after_9999().chain(before_0000()).map(Timestamp::from);
    for at in forms(now).into_iter().chain(far) {
        let key = fixture.issue("key").await;
        let bound = KeyBound::revoked(key.record().id(), tenant(), at, RevokeReason::Leaked);
        let manager = fixture.manager();
        let replayed = manager.replay_restrictions(&system(), [bound]).await;
        assert_eq!(replayed.unwrap().revoked, 1);
        let answer = fixture.answer(key.api_key()).await;
        assert_eq!(answer, Answer::Revoked(RevokeReason::Leaked));
    }
}

#[tokio::test]
async fn a_clock_out_of_range_issues_no_keys() {
    let fixture = Fixture::new().await;
    for at in after_9999().chain(before_0000()) {
        fixture.clock.set(at);
        let issued = fixture.manager().issue(&system(), new_key("key")).await;
        assert!(matches!(issued, Err(ManageError::Clock)), "{at:?}");
    }
}
