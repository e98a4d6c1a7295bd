//! Moving a key's expiry: put off, brought forward, lifted.

use std::time::Duration;

use keyward::audit::EventAction;
use keyward::key::{KeyStatus, RevokeReason};
use keyward::manager::{
    Axis, InvalidKey, Issued, KeyQuery, KeyUpdate, Limits, ManageError, Overlap, Rotation,
    TenantRules,
};
use keyward::time::{Date, OffsetDateTime};

use crate::common::*;
use crate::store::Loss;

const MICRO: Duration = Duration::from_micros(1);

fn update() -> KeyUpdate {
    KeyUpdate::new()
}

impl Fixture {
    async fn mortal(&self) -> Issued {
        self.issue_key(new_key("key").expires_in(HOUR)).await
    }

    /// Updates a key, and returns its new expiry.
    async fn moved(
        &self,
        key: &Issued,
        update: KeyUpdate,
    ) -> Result<Option<OffsetDateTime>, ManageError> {
        let id = key.record().id();
        let updated = self
            .manager()
            .update(&system(), &tenant(), id, update)
            .await?;
        assert_eq!(updated, self.record(id).await);
        Ok(updated.restrictions().expires_at)
    }
}

fn end(key: &Issued) -> OffsetDateTime {
    key.record().restrictions().expires_at.unwrap()
}

#[tokio::test]
async fn a_key_put_off_in_time_lives_on() {
    let fixture = Fixture::new().await;
    let key = fixture.mortal().await;
    let (id, start) = (key.record().id(), fixture.now());
    fixture.told().await;
    fixture.later(HOUR - MICRO);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    let put_off = update().expires_in(DAY);
    let alice = alice(None);
    let updated = fixture
        .manager()
        .update(&alice, &tenant(), id, put_off)
        .await
        .unwrap();
    let new_end = fixture.now() + DAY;
    assert_eq!(updated.restrictions().expires_at, Some(new_end));
    let told = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::KeyUpdated]);
    is_alices(&told[0], fixture.now());
    let (from, to) = (text(start + HOUR), text(new_end));
    let expected = ("expires_at", Some(from.as_str()), Some(to.as_str()));
    assert_eq!(fields(&told[0]), [expected]);

    fixture.later(DAY - MICRO);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    let soon = KeyQuery::of(&tenant()).expiring_within(SECOND);
    assert_eq!(titles(&fixture, soon).await, ["key"]);
    fixture.later(MICRO);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Expired);
}

#[tokio::test]
async fn an_expiry_moves_both_ways() {
    let fixture = Fixture::new().await;
    let key = fixture.mortal().await;
    let now = fixture.now();
    let day = Date::from_calendar_date(2099, keyward::time::Month::March, 31).unwrap();
    let midnight = day.next_day().unwrap().midnight().assume_utc();
    for (update, end) in [
        (update().expires_at(now + SECOND), Some(now + SECOND)),
        (update().never_expires(), None),
        (update().expires_on(day), Some(midnight)),
        (update().expires_in(DAY), Some(now + DAY)),
    ] {
        assert_eq!(fixture.moved(&key, update).await.unwrap(), end);
    }
    let same = update().expires_at(now + DAY);
    let commits = fixture.store.commits();
    assert_eq!(fixture.moved(&key, same).await.unwrap(), Some(now + DAY));
    assert_eq!(fixture.store.commits(), commits, "nothing differs");
    // Brought forward: it ends then, and not when it was issued to end.
    fixture
        .moved(&key, update().expires_in(SECOND))
        .await
        .unwrap();
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    fixture.later(SECOND);
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Expired);
}

#[tokio::test]
async fn no_end_is_taken_back() {
    let fixture = Fixture::new().await;
    let [revoked, cut_off, superseded] = fixture.ended_keys().await;
    let expired = fixture.mortal().await;
    fixture.later(HOUR);
    let updates = || {
        [
            update().expires_in(DAY),
            update().never_expires(),
            update().expires_in(MICRO),
        ]
    };
    for update in updates() {
        let refused = fixture.moved(&revoked, update).await;
        assert!(matches!(refused, Err(ManageError::AlreadyRevoked { .. })));
    }
    for (key, status) in [
        (&cut_off, KeyStatus::Revoked),
        (&superseded, KeyStatus::Revoked),
        (&expired, KeyStatus::Expired),
    ] {
        for update in updates() {
            let refused = fixture.moved(key, update).await;
            assert!(
                matches!(refused, Err(ManageError::Ended(ended)) if ended == status),
                "{refused:?}"
            );
        }
    }
    // It was seen to end, and the clock has run back since.
    fixture.clock.set(end(&expired) - SECOND);
    let refused = fixture.moved(&expired, update().expires_in(DAY)).await;
    assert!(matches!(
        refused,
        Err(ManageError::Ended(KeyStatus::Expired))
    ));
    assert_eq!(fixture.answer(expired.api_key()).await, Answer::Expired);
}

#[tokio::test]
async fn a_new_end_lies_in_the_future() {
    let fixture = Fixture::new().await;
    let start = fixture.now() + HOUR * 2;
    let asleep = fixture
        .issue_key(new_key("asleep").not_before(start).expires_in(DAY))
        .await;
    let key = fixture.mortal().await;
    type Expected = fn(&InvalidKey) -> bool;
    let now = fixture.now();
    let cases: [(&Issued, KeyUpdate, Expected); 6] = [
        (&key, update().expires_at(now), |why| {
            matches!(why, InvalidKey::Expired)
        }),
        (&key, update().expires_at(now - DAY), |why| {
            matches!(why, InvalidKey::Expired)
        }),
        (&key, update().expires_in(Duration::ZERO), |why| {
            matches!(why, InvalidKey::Expired)
        }),
        (&key, update().expires_in(Duration::MAX), |why| {
            matches!(why, InvalidKey::Instant)
        }),
        (&key, update().expires_on(Date::MAX), |why| {
            matches!(why, InvalidKey::Instant)
        }),
        (&asleep, update().expires_at(start), |why| {
            matches!(why, InvalidKey::NeverValid)
        }),
    ];
    for (key, update, expected) in cases {
        // A field that is good does not carry one that is not.
        let refused = fixture.moved(key, update.title("renamed")).await;
        assert!(
            matches!(&refused, Err(ManageError::Invalid(why)) if expected(why)),
            "{refused:?}"
        );
        assert_eq!(fixture.record(key.record().id()).await, *key.record());
    }
}

#[tokio::test]
async fn a_new_end_is_within_ceiling_and_rules() {
    let rules = TenantRules::new().max_lifetime(DAY);
    let fixture = Fixture::with(|builder| builder.tenant_rules(rules)).await;
    let key = fixture.mortal().await;
    let (id, start) = (key.record().id(), fixture.now());
    fixture.later(HOUR / 2);
    for update in [
        update().never_expires(),
        update().expires_in(DAY),
        update().expires_at(start + DAY + MICRO),
    ] {
        let refused = fixture.moved(&key, update).await;
        let is_too_long = matches!(
            refused,
            Err(ManageError::Invalid(InvalidKey::LifetimeTooLong))
        );
        assert!(is_too_long, "counted from the issue: {refused:?}");
    }
    let put_off = update().expires_at(start + DAY);
    assert_eq!(
        fixture.moved(&key, put_off).await.unwrap(),
        Some(start + DAY)
    );

    let free = fixture.beside(|builder| builder).await;
    let alice = alice(Limits::new(READ).expires_by(start + DAY));
    for (update, is_within) in [
        (update().never_expires(), false),
        (update().expires_at(start + DAY + MICRO), false),
        (update().expires_at(start + DAY - MICRO), true),
    ] {
        let updated = free.manager().update(&alice, &tenant(), id, update).await;
        match updated {
            Ok(_) => assert!(is_within),
            Err(ManageError::AboveCeiling(Axis::Expiry)) => assert!(!is_within),
            Err(other) => panic!("{other:?}"),
        }
    }
    // An actor that may not issue a key that lives so long may not change one either.
    free.moved(&key, update().never_expires()).await.unwrap();
    let shorter = update().expires_in(HOUR);
    let refused = free.manager().update(&alice, &tenant(), id, shorter).await;
    assert!(matches!(
        refused,
        Err(ManageError::AboveCeiling(Axis::Expiry))
    ));
}

#[tokio::test]
async fn no_overlap_is_lengthened() {
    let fixture = Fixture::new().await;
    let old = fixture.issue_key(new_key("key").expires_in(DAY * 9)).await;
    let id = old.record().id();
    fixture.rotate(id, Overlap::For(HOUR)).await.unwrap();
    let ends = fixture.now() + HOUR;
    for update in [
        update().expires_at(ends + MICRO),
        update().expires_in(DAY * 9),
        update().never_expires(),
    ] {
        let refused = fixture.moved(&old, update).await;
        assert!(
            matches!(refused, Err(ManageError::Invalid(InvalidKey::BeyondOverlap { ends_at })) if ends_at == ends),
            "{refused:?}"
        );
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(&text(ends)), "{said}");
    }
    // It may end earlier, and then as late again as the overlap does.
    let earlier = fixture.now() + SECOND;
    for end in [earlier, ends, earlier] {
        let moved = fixture.moved(&old, update().expires_at(end)).await;
        assert_eq!(moved.unwrap(), Some(end));
    }
    fixture.later(SECOND);
    assert_ne!(fixture.answer(old.api_key()).await, Answer::Admitted);
    let refused = fixture.moved(&old, update().expires_at(ends)).await;
    assert!(matches!(refused, Err(ManageError::Ended(_))));
}

#[tokio::test]
async fn an_open_overlap_follows_the_expiry() {
    let fixture = Fixture::new().await;
    let old = fixture.issue_key(new_key("key").expires_in(DAY)).await;
    let id = old.record().id();
    let rotation = Rotation::new(Overlap::UntilRevoked).expires_in(HOUR);
    let first = fixture.rotate(id, rotation).await.unwrap();
    let soon = fixture.now() + HOUR * 2;
    fixture
        .moved(&old, update().expires_at(soon))
        .await
        .unwrap();
    // The first successor ends: another takes over the expiry as it is now, not as it was issued.
    fixture.later(HOUR);
    assert_eq!(fixture.answer(first.api_key()).await, Answer::Expired);
    let second = fixture.rotate(id, Overlap::UntilRevoked).await.unwrap();
    assert_eq!(end(&second), soon);
    let later = fixture.now() + DAY * 3;
    let moved = fixture.moved(&old, update().expires_at(later)).await;
    assert_eq!(moved.unwrap(), Some(later));
    assert_eq!(end(&second), soon, "each key has an expiry of its own");
    assert_eq!(fixture.record(second.record().id()).await, *second.record());
}

#[tokio::test]
async fn an_update_that_comes_late_ends_the_key() {
    for loss in [Loss::None, Loss::Answer, Loss::Commit] {
        let fixture = Fixture::new().await;
        let key = fixture.mortal().await;
        let id = key.record().id();
        fixture.later(HOUR - SECOND);
        // The commit takes longer than the rest of the key's life.
        let clock = fixture.clock.clone();
        fixture.store.meanwhile(move || clock.advance(SECOND));
        fixture.store.lose([loss]);
        fixture.told().await;
        let refused = fixture.moved(&key, update().expires_in(DAY)).await;
        assert!(
            matches!(refused, Err(ManageError::Ended(KeyStatus::Expired))),
            "{refused:?}"
        );
        let record = fixture.record(id).await;
        assert_eq!(record.status(fixture.now()), KeyStatus::Revoked);
        assert_eq!(record.revocation().unwrap().at, end(&key));
        let reason = RevokeReason::from_stored("expired");
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Revoked(reason));
        let told = actions(&fixture.told().await);
        assert_eq!(told, [EventAction::KeyUpdated, EventAction::KeyRevoked]);
        // What is not put off may end meanwhile as ever.
        let other = fixture.mortal().await;
        fixture.later(HOUR - SECOND);
        let clock = fixture.clock.clone();
        fixture.store.meanwhile(move || clock.advance(SECOND));
        fixture.moved(&other, update().title("new")).await.unwrap();
        assert_eq!(fixture.answer(other.api_key()).await, Answer::Expired);
    }
}

#[tokio::test]
async fn a_late_end_outlives_a_store_that_is_away() {
    let fixture = Fixture::new().await;
    let key = fixture.mortal().await;
    fixture.later(HOUR - SECOND);
    let clock = fixture.clock.clone();
    fixture.store.meanwhile(move || clock.advance(SECOND));
    // The update is committed. Its revocation is not, at first.
    fixture.store.lose([Loss::None, Loss::Away, Loss::Away]);
    let refused = fixture.moved(&key, update().never_expires()).await;
    assert!(
        matches!(refused, Err(ManageError::Ended(KeyStatus::Expired))),
        "{refused:?}"
    );
    let reason = RevokeReason::from_stored("expired");
    assert_eq!(fixture.answer(key.api_key()).await, Answer::Revoked(reason));
}

#[tokio::test]
async fn a_late_end_comes_though_the_caller_goes() {
    let fixture = Fixture::new().await;
    let key = fixture.mortal().await;
    let id = key.record().id();
    fixture.later(HOUR - SECOND);
    let clock = fixture.clock.clone();
    fixture.store.meanwhile(move || clock.advance(SECOND));
    fixture.store.lose([Loss::None, Loss::Away]);
    let before = fixture.store.commits();
    {
        let (by, of) = (system(), tenant());
        let updating = fixture
            .manager()
            .update(&by, &of, id, update().never_expires());
        let mut updating = std::pin::pin!(updating);
        // Polled until the update is committed, and then dropped.
        while fixture.store.commits() == before {
            let waited = tokio::time::timeout(Duration::from_millis(1), &mut updating);
            assert!(waited.await.is_err(), "the revocation takes longer");
        }
    }
    let begun = std::time::Instant::now();
    while fixture.record(id).await.revocation().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never revoked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fixture.record(id).await.revocation().unwrap().at, end(&key));
}

#[tokio::test]
async fn a_purge_keeps_a_key_that_was_put_off() {
    let fixture = Fixture::new().await;
    let (kept, gone) = (fixture.mortal().await, fixture.mortal().await);
    fixture
        .moved(&kept, update().expires_in(DAY))
        .await
        .unwrap();
    fixture.later(HOUR + SECOND);
    let purged = fixture
        .manager()
        .purge(&system(), &tenant(), fixture.now(), None)
        .await
        .unwrap();
    assert_eq!(purged.keys, [gone.record().id()]);
    assert_eq!(fixture.answer(kept.api_key()).await, Answer::Admitted);
    let refused = fixture.moved(&gone, update().expires_in(DAY)).await;
    assert!(matches!(refused, Err(ManageError::NotFound)));
}

#[tokio::test]
async fn a_replay_keeps_the_earlier_end() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let (short, long, open) = (
        fixture.mortal().await,
        fixture.mortal().await,
        fixture.mortal().await,
    );
    let rotated = fixture.rotate(open.record().id(), Overlap::UntilRevoked);
    let successor = rotated.await.unwrap();
    let keys = [&short, &long, &open];
    let mut backup = Vec::new();
    for key in keys {
        backup.push(fixture.record(key.record().id()).await);
    }
    let now = fixture.now();
    fixture
        .moved(&short, update().expires_in(SECOND))
        .await
        .unwrap();
    fixture
        .moved(&long, update().expires_in(DAY))
        .await
        .unwrap();
    fixture
        .moved(&open, update().expires_in(SECOND))
        .await
        .unwrap();
    let export = manager
        .export_restrictions(&system(), &tenant(), None)
        .await;
    let export = export.unwrap().restrictions;
    // As a restored backup: the keys with the ends that they had.
    for (key, was) in keys.into_iter().zip(backup) {
        let text = text(was.restrictions().expires_at.unwrap());
        fixture
            .tamper_end(key.record().id(), was.restrictions().expires_at, &text)
            .await;
    }
    let replayed = manager.replay_restrictions(&system(), export).await;
    assert_eq!(replayed.unwrap().narrowed, 2);
    let now_ends = async |key: &Issued| {
        let record = fixture.record(key.record().id()).await;
        record.restrictions().expires_at
    };
    assert_eq!(now_ends(&short).await, Some(now + SECOND));
    assert_eq!(now_ends(&long).await, Some(now + HOUR), "as in the backup");
    assert_eq!(now_ends(&open).await, Some(now + SECOND));
    // A further successor takes over no later end than the key has.
    fixture.revoke(successor.record().id()).await;
    let second = fixture.rotate(open.record().id(), Overlap::None).await;
    assert_eq!(end(&second.unwrap()), now + SECOND);
}
