//! Whose key a text is that was found where it should not be.

use keyward::audit::EventAction;
use keyward::key::{KeyId, KeyStatus, PresentedKey, Principal, RevokeReason};
use keyward::manager::{
    Actor, Ceiling, FoundKey, KeyQuery, Limits, ManageError, NewKey, Operation, Policy,
    PolicyError, Ruling,
};
use keyward::scope;
use keyward::store::Change;
use keyward::testkit::ManualMonotonicClock;

use crate::common::*;
use crate::store::Loss;

async fn find(fixture: &Fixture, text: &str) -> Result<FoundKey, ManageError> {
    fixture
        .manager()
        .find_owner(&system(), PresentedKey::text(text))
        .await
}

#[tokio::test]
async fn a_found_key_shows_owner_and_status() {
    let fixture = Fixture::new().await;
    let [revoked, cut_off, superseded] = fixture.ended_keys().await;
    let owner = Principal::integration("etl").unwrap();
    let active = fixture
        .issue_key(new_key("active").owner(owner.clone()))
        .await;
    let asleep = fixture
        .issue_key(new_key("asleep").not_before(fixture.now() + HOUR))
        .await;
    let expired = fixture
        .issue_key(new_key("expired").expires_in(SECOND))
        .await;
    let suspended = fixture.issue("suspended").await;
    let id = suspended.record().id();
    fixture
        .manager()
        .suspend(&system(), &tenant(), id)
        .await
        .unwrap();
    fixture.later(SECOND);
    let calls = fixture.store.commits();
    for (key, status, is_usable) in [
        (&active, KeyStatus::Active, true),
        (&asleep, KeyStatus::NotYetValid, true),
        (&suspended, KeyStatus::Suspended, true),
        (&expired, KeyStatus::Expired, false),
        (&revoked, KeyStatus::Revoked, false),
        (&cut_off, KeyStatus::Revoked, false),
        (&superseded, KeyStatus::Revoked, false),
    ] {
        let found = find(&fixture, key.api_key().expose()).await.unwrap();
        assert_eq!((found.status, found.is_usable()), (status, is_usable));
        let id = key.record().id();
        let record = fixture.manager().get(&system(), &tenant(), id).await;
        assert_eq!(found.record, record.unwrap());
        let text = id.to_string();
        let pair = PresentedKey::pair(&text, key.api_key().expose_secret());
        assert!(fixture.manager().find_owner(&system(), pair).await.is_ok());
    }
    let found = find(&fixture, active.api_key().expose()).await.unwrap();
    assert_eq!(
        (found.record.tenant(), found.record.owner()),
        (&tenant(), &owner)
    );
    // To be looked up is no use of the key, and no change.
    let list = fixture
        .manager()
        .list(&system(), &KeyQuery::of(&tenant()))
        .await
        .unwrap();
    assert!(list.usage.is_empty());
    assert_eq!(fixture.store.commits(), calls);
}

#[tokio::test]
async fn a_leaked_key_is_revoked_at_once() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    fixture.told().await;
    fixture.later(SECOND);
    let manager = fixture.manager();
    // Ending a key gives nobody more: no ceiling binds.
    let alice = alice(Limits::new(scope!("none")));
    let presented = || issued.api_key().presented();
    let revoked = manager.revoke_leaked(&alice, presented()).await.unwrap();
    assert_eq!(
        (revoked.id, revoked.at),
        (issued.record().id(), fixture.now())
    );
    assert_eq!(revoked.reason, RevokeReason::Leaked);
    assert_eq!(
        fixture.answer(issued.api_key()).await,
        Answer::Revoked(RevokeReason::Leaked)
    );
    let told = fixture.told().await;
    assert_eq!(actions(&told), [EventAction::KeyRevoked]);
    is_alices(&told[0], fixture.now());
    assert_eq!(fields(&told[0]), [("revoked", None, Some("leaked"))]);
    let again = manager.revoke_leaked(&alice, presented()).await;
    assert!(matches!(again, Err(ManageError::AlreadyRevoked { at }) if at == revoked.at));
    assert!(fixture.told().await.is_empty());
}

#[tokio::test]
async fn a_sleeping_key_is_revoked_once() {
    let fixture = Fixture::new().await;
    let manager = fixture.manager();
    let asleep = fixture
        .issue_key(new_key("asleep").not_before(fixture.now() + DAY))
        .await;
    fixture.store.lose([Loss::Answer, Loss::Commit]);
    manager
        .revoke_leaked(&system(), asleep.api_key().presented())
        .await
        .unwrap();
    let raced = fixture.issue("raced").await;
    let (id, at, reason) = (raced.record().id(), fixture.now(), RevokeReason::Requested);
    fixture.store.first([Change::Revoke { id, at, reason }]);
    let late = manager
        .revoke_leaked(&system(), raced.api_key().presented())
        .await;
    assert!(matches!(late, Err(ManageError::AlreadyRevoked { .. })));
    fixture.later(DAY);
    assert_eq!(
        fixture.answer(asleep.api_key()).await,
        Answer::Revoked(RevokeReason::Leaked)
    );
}

#[tokio::test]
async fn all_misses_look_alike() {
    let fixture = Fixture::new().await;
    let (mine, other) = (fixture.issue("mine").await, fixture.issue("other").await);
    let theirs = fixture
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    let (text, secret) = (mine.api_key().expose(), mine.api_key().expose_secret());
    let (wrong, nobody) = (
        other.record().id().to_string(),
        KeyId::from_u128(7).to_string(),
    );
    let mine_id = mine.record().id().to_string();
    let cut = format!("{mine_id}{secret}");
    let manager = fixture.manager();
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
        assert_eq!(fixture.answer(key.api_key()).await, Answer::Admitted);
    }
}

#[tokio::test]
async fn misses_are_limited_to_a_hundred() {
    let monotonic = ManualMonotonicClock::new();
    let fixture = Fixture::with(|builder| builder.monotonic_clock(monotonic.clone())).await;
    let issued = fixture.issue("key").await;
    let good = issued.api_key().expose();
    for _ in 0..3 {
        // What is found does not count.
        for n in 0..99 {
            assert!(
                matches!(find(&fixture, "nothing").await, Err(ManageError::NotFound)),
                "{n}"
            );
            assert!(find(&fixture, good).await.is_ok());
        }
        assert!(find(&fixture, good).await.is_ok());
        assert!(matches!(
            find(&fixture, "nothing").await,
            Err(ManageError::NotFound)
        ));
        let calls = fixture.store.calls();
        assert!(matches!(
            find(&fixture, "nothing").await,
            Err(ManageError::TooManyLookups)
        ));
        assert_eq!(fixture.store.calls(), calls, "nothing is read");
        // A proven secret is answered at the limit.
        assert!(find(&fixture, good).await.is_ok());
        // The wall clock does not bring the allowance back.
        fixture.later(DAY);
        monotonic.advance(SECOND * 59);
        assert!(matches!(
            find(&fixture, "nothing").await,
            Err(ManageError::TooManyLookups)
        ));
        monotonic.advance(SECOND);
    }
}

#[tokio::test]
async fn a_failing_clock_is_reported() {
    let monotonic = ManualMonotonicClock::new();
    let fixture = Fixture::with(|builder| builder.monotonic_clock(monotonic.clone())).await;
    let issued = fixture.issue("key").await;
    let good = issued.api_key().expose();
    for _ in 0..100 {
        assert!(find(&fixture, "nothing").await.is_err());
    }
    fixture.clock.fail();
    let failed = find(&fixture, good).await;
    assert!(matches!(failed, Err(ManageError::Clock)), "{failed:?}");
    fixture.clock.set(issued.record().created_at());
    monotonic.fail();
    let failed = find(&fixture, good).await;
    assert!(matches!(failed, Err(ManageError::Clock)), "{failed:?}");
}

#[tokio::test]
async fn tenants_do_not_share_the_limit() {
    let fixture = Fixture::new().await;
    let guess = PresentedKey::text("nothing");
    let admin = |name| Actor::user("admin", named(name), Ceiling::Unlimited).unwrap();
    for _ in 0..100 {
        let missed = fixture.manager().find_owner(&admin("acme"), guess).await;
        assert!(matches!(missed, Err(ManageError::NotFound)));
    }
    let missed = fixture.manager().find_owner(&admin("other"), guess).await;
    assert!(matches!(missed, Err(ManageError::NotFound)));
    let barred = fixture.manager().find_owner(&admin("acme"), guess).await;
    assert!(matches!(barred, Err(ManageError::TooManyLookups)));
}

#[tokio::test]
async fn principals_do_not_share_the_limit() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let guesser = Actor::system("guesser");
    let presented = PresentedKey::text("nothing");
    for _ in 0..100 {
        let missed = fixture.manager().find_owner(&guesser, presented).await;
        assert!(matches!(missed, Err(ManageError::NotFound)));
    }
    let barred = fixture.manager().find_owner(&guesser, presented).await;
    assert!(matches!(barred, Err(ManageError::TooManyLookups)));
    assert!(find(&fixture, issued.api_key().expose()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_lookups_are_limited_too() {
    let fixture = Fixture::new().await;
    let (one, other) = (fixture.issue("one").await, fixture.issue("other").await);
    let (id, secret) = (
        one.record().id().to_string(),
        other.api_key().expose_secret().to_owned(),
    );
    let mut tasks = Vec::new();
    for _ in 0..300 {
        let (fixture, id, secret) = (fixture.clone(), id.clone(), secret.clone());
        tasks.push(tokio::spawn(async move {
            let guess = PresentedKey::pair(&id, &secret);
            let found = fixture.manager().find_owner(&system(), guess).await;
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
async fn finding_an_owner_asks_twice() {
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
    let fixture = Fixture::with(|builder| builder.policy(NotAlices)).await;
    let owned = new_key("alice's").owner(alice(None).principal().clone());
    let theirs = fixture.issue_key(owned).await;
    let other = fixture.issue("another's").await;
    let find = async |key: &keyward::manager::Issued| {
        let presented = key.api_key().presented();
        fixture.manager().find_owner(&system(), presented).await
    };
    // A refusal is no miss: it uses up nobody's look-ups.
    for _ in 0..200 {
        let refused = find(&theirs).await;
        assert!(matches!(refused, Err(ManageError::Refused)), "{refused:?}");
    }
    assert!(find(&other).await.is_ok());
}

#[tokio::test]
async fn revoking_leaked_needs_both_rulings() {
    #[derive(Debug, Clone, Copy)]
    struct Only(bool);
    #[keyward::async_trait]
    impl Policy for Only {
        async fn rule(&self, _: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
            let is_allowed = match operation {
                Operation::FindOwner { found: None } => self.0,
                Operation::Revoke { key, reason, .. } => {
                    assert_eq!(key.owner.unwrap(), system().principal());
                    assert_eq!((key.tenant, *reason), (&tenant(), &RevokeReason::Leaked));
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
        let fixture = Fixture::with(|builder| builder.policy(Only(may_find))).await;
        let issued = fixture.issue("key").await;
        let calls = fixture.store.calls();
        let presented = issued.api_key().presented();
        let found = fixture.manager().find_owner(&system(), presented).await;
        assert_eq!(found.is_ok(), may_find);
        let revoked = fixture.manager().revoke_leaked(&system(), presented).await;
        assert!(matches!(revoked, Err(ManageError::Refused)));
        assert_eq!(
            fixture.store.calls() == calls,
            !may_find,
            "nothing is read before a yes"
        );
        assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
        // A refusal is no lookup: it does not use up anybody's.
        for _ in 0..200 {
            assert!(
                fixture
                    .manager()
                    .revoke_leaked(&system(), presented)
                    .await
                    .is_err()
            );
        }
        assert_eq!(
            fixture
                .manager()
                .find_owner(&system(), presented)
                .await
                .is_ok(),
            may_find
        );
    }
}
