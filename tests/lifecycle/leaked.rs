//! Whose key a text is that was found where it should not be.

use keyward::audit::EventAction;
use keyward::key::{KeyId, KeyStatus, PresentedKey, Principal, RevokeReason};
use keyward::manager::{
    Actor, Ceiling, Found, KeyQuery, Limits, ManageError, NewKey, Operation, Policy, PolicyError,
    Ruling,
};
use keyward::scope;
use keyward::store::Change;
use keyward::testkit::ManualMonotonicClock;

use crate::common::*;
use crate::store::Loss;

async fn find(house: &House, text: &str) -> Result<Found, ManageError> {
    house
        .manager()
        .find_owner(&system(), PresentedKey::text(text))
        .await
}

#[tokio::test]
async fn a_found_key_is_told_with_its_owner_and_whether_it_lives() {
    let house = House::new().await;
    let [revoked, cut_off, superseded] = house.ended_keys().await;
    let owner = Principal::integration("etl").unwrap();
    let active = house
        .issue_key(new_key("active").owner(owner.clone()))
        .await;
    let asleep = house
        .issue_key(new_key("asleep").not_before(house.now() + HOUR))
        .await;
    let expired = house.issue_key(new_key("expired").expires_in(SECOND)).await;
    let suspended = house.issue("suspended").await;
    let id = suspended.record().id();
    house
        .manager()
        .suspend(&system(), &tenant(), id)
        .await
        .unwrap();
    house.later(SECOND);
    let calls = house.store.commits();
    for (key, status, is_usable) in [
        (&active, KeyStatus::Active, true),
        (&asleep, KeyStatus::NotYetValid, true),
        (&suspended, KeyStatus::Suspended, true),
        (&expired, KeyStatus::Expired, false),
        (&revoked, KeyStatus::Revoked, false),
        (&cut_off, KeyStatus::Revoked, false),
        (&superseded, KeyStatus::Revoked, false),
    ] {
        let found = find(&house, key.api_key().expose()).await.unwrap();
        assert_eq!((found.status, found.is_usable()), (status, is_usable));
        let id = key.record().id();
        let record = house.manager().get(&system(), &tenant(), id).await;
        assert_eq!(found.record, record.unwrap());
        let pair = key.api_key().presented_pair();
        assert!(house.manager().find_owner(&system(), pair).await.is_ok());
    }
    let found = find(&house, active.api_key().expose()).await.unwrap();
    assert_eq!(
        (found.record.tenant(), found.record.owner()),
        (&tenant(), &owner)
    );
    // To be looked up is no use of the key, and no change.
    let list = house
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await
        .unwrap();
    assert!(list.usage.is_empty());
    assert_eq!(house.store.commits(), calls);
}

#[tokio::test]
async fn a_leaked_key_is_revoked_at_once() {
    let house = House::new().await;
    let issued = house.issue("key").await;
    house.told().await;
    house.later(SECOND);
    let manager = house.manager();
    // Ending a key gives nobody more: no ceiling binds.
    let alice = alice(Limits::new(scope!("none")));
    let presented = || issued.api_key().presented();
    let revoked = manager.revoke_leaked(&alice, presented()).await.unwrap();
    assert_eq!(
        (revoked.id, revoked.at),
        (issued.record().id(), house.now())
    );
    assert_eq!(revoked.reason, RevokeReason::Leaked);
    assert_eq!(
        house.answer(issued.api_key()).await,
        Answer::Revoked(RevokeReason::Leaked)
    );
    let told = house.told().await;
    assert_eq!(actions(&told), [EventAction::KeyRevoked]);
    is_alices(&told[0], house.now());
    assert_eq!(fields(&told[0]), [("revoked", None, Some("leaked"))]);
    let again = manager.revoke_leaked(&alice, presented()).await;
    assert!(matches!(again, Err(ManageError::AlreadyRevoked { at }) if at == revoked.at));
    assert!(house.told().await.is_empty());
}

#[tokio::test]
async fn a_leaked_key_that_sleeps_is_revoked_too_and_once() {
    let house = House::new().await;
    let manager = house.manager();
    let asleep = house
        .issue_key(new_key("asleep").not_before(house.now() + DAY))
        .await;
    house.store.lose([Loss::Answer, Loss::Commit]);
    manager
        .revoke_leaked(&system(), asleep.api_key().presented())
        .await
        .unwrap();
    let raced = house.issue("raced").await;
    let (id, at, reason) = (raced.record().id(), house.now(), RevokeReason::Requested);
    house.store.first([Change::Revoke { id, at, reason }]);
    let late = manager
        .revoke_leaked(&system(), raced.api_key().presented())
        .await;
    assert!(matches!(late, Err(ManageError::AlreadyRevoked { .. })));
    house.later(DAY);
    assert_eq!(
        house.answer(asleep.api_key()).await,
        Answer::Revoked(RevokeReason::Leaked)
    );
}

#[tokio::test]
async fn nobodys_key_a_wrong_secret_and_another_tenants_key_look_alike() {
    let house = House::new().await;
    let (mine, other) = (house.issue("mine").await, house.issue("other").await);
    let theirs = house
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    let (text, secret) = (mine.api_key().expose(), mine.api_key().expose_secret());
    let (wrong, nobody) = (
        other.record().id().to_string(),
        KeyId::from_u128(7).to_string(),
    );
    let mine_id = mine.record().id().to_string();
    let cut = format!("{mine_id}{secret}");
    let manager = house.manager();
    for presented in [
        theirs.api_key().presented(),
        PresentedKey::pair(&wrong, secret),
        PresentedKey::pair(&nobody, secret),
        PresentedKey::pair(&mine_id, &secret[..42]),
        PresentedKey::pair(&mine_id, ""),
        PresentedKey::text(&text[..text.len() - 1]),
        PresentedKey::text(&text[1..]),
        PresentedKey::text(secret),
        PresentedKey::text(&cut),
        PresentedKey::text(mine.api_key().display_prefix()),
        PresentedKey::text(""),
        PresentedKey::none(),
        PresentedKey::half_pair(),
    ] {
        for error in [
            manager
                .find_owner(&alice(None), presented)
                .await
                .unwrap_err(),
            manager
                .revoke_leaked(&alice(None), presented)
                .await
                .unwrap_err(),
        ] {
            assert!(
                matches!(error, ManageError::NotFound),
                "{presented:?}: {error:?}"
            );
            assert_eq!(error.to_string(), "there is no such key");
        }
    }
    for key in [&mine, &other, &theirs] {
        assert_eq!(house.answer(key.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn a_hundred_texts_a_minute_may_find_nothing() {
    let monotonic = ManualMonotonicClock::new();
    let house = House::with(|builder| builder.monotonic_clock(monotonic.clone())).await;
    let issued = house.issue("key").await;
    let good = issued.api_key().expose();
    for _ in 0..3 {
        // What is found does not count.
        for n in 0..99 {
            assert!(
                matches!(find(&house, "nothing").await, Err(ManageError::NotFound)),
                "{n}"
            );
            assert!(find(&house, good).await.is_ok());
        }
        assert!(find(&house, good).await.is_ok());
        assert!(matches!(
            find(&house, "nothing").await,
            Err(ManageError::NotFound)
        ));
        let calls = house.store.calls();
        assert!(matches!(
            find(&house, "nothing").await,
            Err(ManageError::TooManyLookups)
        ));
        assert_eq!(house.store.calls(), calls, "nothing is read");
        // A proven secret is answered at the limit.
        assert!(find(&house, good).await.is_ok());
        // The wall clock does not bring the allowance back.
        house.later(DAY);
        monotonic.advance(SECOND * 59);
        assert!(matches!(
            find(&house, "nothing").await,
            Err(ManageError::TooManyLookups)
        ));
        monotonic.advance(SECOND);
    }
}

#[tokio::test]
async fn at_the_limit_a_failing_clock_is_told_as_such() {
    let monotonic = ManualMonotonicClock::new();
    let house = House::with(|builder| builder.monotonic_clock(monotonic.clone())).await;
    let issued = house.issue("key").await;
    let good = issued.api_key().expose();
    for _ in 0..100 {
        assert!(find(&house, "nothing").await.is_err());
    }
    house.clock.fail();
    let failed = find(&house, good).await;
    assert!(matches!(failed, Err(ManageError::Clock)), "{failed:?}");
    house.clock.set(issued.record().created_at());
    monotonic.fail();
    let failed = find(&house, good).await;
    assert!(matches!(failed, Err(ManageError::Clock)), "{failed:?}");
}

#[tokio::test]
async fn one_tenants_guesses_bar_no_other_tenant() {
    let house = House::new().await;
    let guess = PresentedKey::text("nothing");
    let admin = |name| Actor::user("admin", named(name), Ceiling::Unlimited).unwrap();
    for _ in 0..100 {
        let missed = house.manager().find_owner(&admin("acme"), guess).await;
        assert!(matches!(missed, Err(ManageError::NotFound)));
    }
    let missed = house.manager().find_owner(&admin("other"), guess).await;
    assert!(matches!(missed, Err(ManageError::NotFound)));
    let barred = house.manager().find_owner(&admin("acme"), guess).await;
    assert!(matches!(barred, Err(ManageError::TooManyLookups)));
}

#[tokio::test]
async fn who_guesses_bars_nobody_else() {
    let house = House::new().await;
    let issued = house.issue("key").await;
    let guesser = Actor::system("guesser");
    let presented = PresentedKey::text("nothing");
    for _ in 0..100 {
        let missed = house.manager().find_owner(&guesser, presented).await;
        assert!(matches!(missed, Err(ManageError::NotFound)));
    }
    let barred = house.manager().find_owner(&guesser, presented).await;
    assert!(matches!(barred, Err(ManageError::TooManyLookups)));
    assert!(find(&house, issued.api_key().expose()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_lookups_at_once_are_no_way_round() {
    let house = House::new().await;
    let (one, other) = (house.issue("one").await, house.issue("other").await);
    let (id, secret) = (
        one.record().id().to_string(),
        other.api_key().expose_secret().to_owned(),
    );
    let mut tasks = Vec::new();
    for _ in 0..300 {
        let (house, id, secret) = (house.clone(), id.clone(), secret.clone());
        tasks.push(tokio::spawn(async move {
            let guess = PresentedKey::pair(&id, &secret);
            let found = house.manager().find_owner(&system(), guess).await;
            matches!(found, Err(ManageError::NotFound))
        }));
    }
    let mut tried = 0;
    for task in tasks {
        tried += u32::from(task.await.unwrap());
    }
    assert_eq!(tried, 100);
}

#[tokio::test]
async fn whose_key_a_text_is_the_policy_is_asked_twice() {
    #[derive(Debug)]
    struct NotAlices;
    #[keyward::async_trait]
    impl Policy for NotAlices {
        async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
            let is_alices = operation.owner() == Some(alice(None).principal());
            let is_asked = matches!(operation, Operation::FindOwner { .. });
            Ok(if is_asked && is_alices {
                Ruling::Refuse
            } else {
                Ruling::Allow
            })
        }
    }
    let house = House::with(|builder| builder.policy(NotAlices)).await;
    let owned = new_key("alice's").owner(alice(None).principal().clone());
    let theirs = house.issue_key(owned).await;
    let other = house.issue("another's").await;
    let find = async |key: &keyward::manager::Issued| {
        let presented = key.api_key().presented();
        house.manager().find_owner(&system(), presented).await
    };
    // A refusal is no miss: it uses up nobody's look-ups.
    for _ in 0..200 {
        let refused = find(&theirs).await;
        assert!(matches!(refused, Err(ManageError::Refused)), "{refused:?}");
    }
    assert!(find(&other).await.is_ok());
}

#[tokio::test]
async fn to_revoke_a_leaked_key_takes_two_yeses() {
    #[derive(Debug, Clone, Copy)]
    struct Only(bool);
    #[keyward::async_trait]
    impl Policy for Only {
        async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
            let is_allowed = match operation {
                Operation::FindOwner { found: None } => self.0,
                Operation::Revoke {
                    tenant: whose,
                    owner,
                    reason,
                    ..
                } => {
                    assert_eq!(owner.unwrap(), system().principal());
                    assert_eq!((*whose, *reason), (&tenant(), &RevokeReason::Leaked));
                    !self.0
                }
                _ => true,
            };
            Ok(if is_allowed {
                Ruling::Allow
            } else {
                Ruling::Refuse
            })
        }
    }
    for may_find in [true, false] {
        let house = House::with(|builder| builder.policy(Only(may_find))).await;
        let issued = house.issue("key").await;
        let calls = house.store.calls();
        let presented = issued.api_key().presented();
        let found = house.manager().find_owner(&system(), presented).await;
        assert_eq!(found.is_ok(), may_find);
        let revoked = house.manager().revoke_leaked(&system(), presented).await;
        assert!(matches!(revoked, Err(ManageError::Refused)));
        assert_eq!(
            house.store.calls() == calls,
            !may_find,
            "nothing is read before a yes"
        );
        assert_eq!(house.answer(issued.api_key()).await, Answer::Admitted);
        // A refusal is no lookup: it does not use up anybody's.
        for _ in 0..200 {
            assert!(
                house
                    .manager()
                    .revoke_leaked(&system(), presented)
                    .await
                    .is_err()
            );
        }
        assert_eq!(
            house
                .manager()
                .find_owner(&system(), presented)
                .await
                .is_ok(),
            may_find
        );
    }
}
