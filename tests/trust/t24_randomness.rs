//! Promise 24: an id collision fails the insert; a failing random source issues nothing. So it is wherever a key is
//! made: issued, as a successor, or imported. What changes or ends a key needs no randomness.

mod source;

use std::time::Duration;

use keyward::hashing::{Argon2Params, Hashing};
use keyward::import::ImportedKey;
use keyward::key::{KeyFormat, KeyId, PresentedKey, RevokeReason, TenantId};
use keyward::manager::{AllowAll, KeyUpdate, ManageError, NewKey, Overlap, RevokeAll};
use keyward::random::{OsRandom, RandomError, RandomSource};
use keyward::store::{CutoffScope, KeyStore, ListQuery, MemoryStore};
use keyward::testkit::{FailingRandom, ManualClock, SeededRandom};
use keyward::verifier::{Attempt, Requirement};
use keyward::{Keyward, OpenError, time::OffsetDateTime};

use self::source::Source;
use crate::common::{ADMIN, WRITE, actor, builder, clock, new_key, tenant};

fn other_tenant() -> TenantId {
    TenantId::new("other-inc").unwrap()
}

const OVERLAPS: [Overlap; 3] = [
    Overlap::None,
    Overlap::For(Duration::from_secs(60)),
    Overlap::UntilRevoked,
];

/// As long as the format's own.
const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

async fn everything(store: &MemoryStore) -> (usize, usize) {
    let keys = store
        .list(&ListQuery::of(&tenant()).limit(1_000))
        .await
        .unwrap();
    let events = store.events().unwrap().read(None, 0, 1_000).await.unwrap();
    (keys.items.len(), events.len())
}

#[tokio::test]
async fn a_constant_source_issues_one_key() {
    #[derive(Debug)]
    struct Constant;
    impl RandomSource for Constant {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
            buffer.fill(7);
            Ok(())
        }
        fn is_for_tests(&self) -> bool {
            false
        }
    }
    let store = MemoryStore::new();
    let keyward = builder(store.clone(), clock())
        .random(Constant)
        .open()
        .await
        .unwrap();
    let first = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    for _ in 0..3 {
        let again = keyward.manager().issue(&actor(), new_key()).await;
        assert!(matches!(again, Err(ManageError::IdCollision)), "{again:?}");
    }
    assert_eq!(everything(&store).await, (1, 1));
    let record = keyward
        .manager()
        .get(&actor(), &tenant(), first.record().id())
        .await
        .unwrap();
    assert_eq!(record, *first.record(), "the first key is untouched");
}

#[tokio::test]
async fn a_colliding_id_is_drawn_again() {
    let source = Source::with(Hashing::recommended()).await;
    let (first, taken) = source.issue().await;
    source.random.draw_next(taken);
    let (second, drawn) = source.issue().await;
    assert_ne!(drawn, taken);
    assert_eq!(everything(&source.store).await, (2, 2));
    for (key, id) in [(&first, taken), (&second, drawn)] {
        let any = Requirement::any_key();
        let attempt = Attempt::new(key.presented(), &any);
        let admitted = source.keyward.verifier().verify(&attempt).await.unwrap();
        assert_eq!(admitted.grant().key_id(), id);
    }
}

#[tokio::test]
async fn a_failing_source_issues_nothing() {
    // Opening asks twice, an issue three times: for the id, the secret and the change's name.
    for calls in 0..=3 {
        let store = MemoryStore::new();
        let keyward = builder(store.clone(), clock())
            .random(FailingRandom::after(calls))
            .open()
            .await;
        let refused = match keyward {
            Err(OpenError::Random(_)) => calls < 2,
            Err(error) => panic!("{error}"),
            Ok(keyward) => {
                let issued = keyward.manager().issue(&actor(), new_key()).await;
                matches!(issued, Err(ManageError::Random(_)))
            }
        };
        assert!(refused, "after {calls} calls");
        assert_eq!(everything(&store).await, (0, 0));
    }
    // The change's name needs to be unique, not random: a key whose secret was drawn well is issued.
    let store = MemoryStore::new();
    let keyward = builder(store.clone(), clock()).random(FailingRandom::after(4));
    let keyward = keyward.open().await.unwrap();
    assert!(keyward.manager().issue(&actor(), new_key()).await.is_ok());
    assert_eq!(everything(&store).await, (1, 1));
}

#[tokio::test]
async fn failed_draws_leave_rotation_undone() {
    // Under the fast hash an id and a secret are drawn, under the slow one a salt too; and a name for the change,
    // which needs to be unique and not random.
    for (hashing, needed) in [
        (Hashing::recommended(), 2),
        (Hashing::argon2id(Argon2Params::OWASP), 3),
    ] {
        for overlap in OVERLAPS {
            let source = Source::with(hashing.clone()).await;
            let (key, id) = source.issue().await;
            let before = source.all().await;
            for call in 0..needed {
                for end in [call + 1, u64::MAX] {
                    source.random.fail(call, end);
                    let refused = source.rotate(id, overlap).await;
                    assert!(refused.is_err(), "call {call} to {end}, {overlap:?}");
                    assert_eq!(
                        source.all().await,
                        before,
                        "call {call} to {end}, {overlap:?}"
                    );
                }
            }
            source.random.fail(0, 0);
            assert!(source.is_good(key.presented()).await);

            source.random.fail(needed, u64::MAX);
            source.rotate(id, overlap).await.unwrap();
            assert_eq!(source.random.calls(), needed + 1, "all calls were tried");
            assert_eq!(source.all().await.0.len(), 2);
        }
    }
}

#[tokio::test]
async fn repeated_draws_leave_rotation_undone() {
    for overlap in OVERLAPS {
        let source = Source::with(Hashing::recommended()).await;
        source.random.repeat();
        let (key, id) = source.issue().await;
        let before = source.all().await;
        for _ in 0..3 {
            let refused = source.rotate(id, overlap).await;
            assert!(
                matches!(refused, Err(ManageError::IdCollision)),
                "{refused:?}"
            );
            assert_eq!(source.all().await, before, "{overlap:?}");
        }
        assert!(source.is_good(key.presented()).await);
    }
}

#[tokio::test]
async fn a_successor_replaces_no_other_key() {
    for overlap in OVERLAPS {
        let source = Source::with(Hashing::recommended()).await;
        let (_, id) = source.issue().await;
        let theirs = NewKey::new(other_tenant(), "theirs", WRITE);
        let theirs = source
            .keyward
            .manager()
            .issue(&actor(), theirs)
            .await
            .unwrap();
        let taken = theirs.record().id();
        let stored = source.store.get(taken).await.unwrap();

        source.random.draw_next(taken);
        let successor = source.rotate(id, overlap).await.unwrap();
        assert!(successor != taken && successor != id, "drawn anew");
        assert_eq!(source.store.get(taken).await.unwrap(), stored);
        assert!(source.is_good(theirs.api_key().presented()).await);
        let (keys, events) = source.all().await;
        let ended = usize::from(overlap == Overlap::None);
        assert_eq!(
            (keys.len(), events),
            (3, 4 + ended),
            "one successor, told of once"
        );
    }
}

#[tokio::test]
async fn an_import_replaces_no_other_key() {
    let source = Source::with(Hashing::recommended()).await;
    let manager = source.keyward.manager();
    let (native, native_id) = source.issue().await;
    let text = format!("7.{SECRET}");
    let brought = || ImportedKey::text("legacy", text.clone()).entropy_bits(238);
    let imported = manager.import(&actor(), new_key(), brought()).await;
    let imported_id = imported.unwrap().id();
    let before = source.all().await;

    let greedy = |tenant| NewKey::new(tenant, "greedy", ADMIN);
    let same_id_other_secret = ImportedKey::text("legacy", format!("7.{SECRET}x"));
    let tries = [
        (imported_id, brought()),
        (imported_id, same_id_other_secret.entropy_bits(238)),
        (
            imported_id,
            ImportedKey::pair(imported_id, SECRET).entropy_bits(238),
        ),
        (
            native_id,
            ImportedKey::pair(native_id, SECRET).entropy_bits(238),
        ),
    ];
    for (taken, key) in tries {
        for tenant in [tenant(), other_tenant()] {
            let refused = manager.import(&actor(), greedy(tenant), key.clone()).await;
            let is_told = matches!(
                refused,
                Err(
                    ManageError::AlreadyImported { id }
                    | ManageError::ImportedOtherwise { id }
                    | ManageError::IdTaken { id }
                ) if id == taken
            );
            assert!(is_told, "{key:?}: {refused:?}");
            assert_eq!(source.all().await, before, "{key:?}");
        }
    }
    assert!(source.is_good(native.presented()).await);
    assert!(source.is_good(PresentedKey::text(&text)).await);
    let pair = native_id.to_string();
    let other_secret = PresentedKey::pair(&pair, SECRET);
    assert!(
        !source.is_good(other_secret).await,
        "nobody has planted a secret"
    );
}

#[tokio::test]
async fn an_import_draws_at_most_a_salt() {
    let import = async |source: &Source, id, bits| {
        let key = ImportedKey::pair(KeyId::from_u128(id), SECRET).entropy_bits(bits);
        let manager = source.keyward.manager();
        manager.import(&actor(), new_key(), key).await
    };
    let source = Source::with(Hashing::recommended()).await;
    source.random.fail(0, u64::MAX);
    import(&source, 1, 238).await.unwrap();
    assert_eq!(source.random.calls(), 1, "the change's name");
    let before = source.all().await;
    // A secret that counts as weak is hashed slowly, under a salt.
    source.random.fail(0, u64::MAX);
    assert!(import(&source, 2, 60).await.is_err());
    assert_eq!(source.all().await, before);
    source.random.fail(1, u64::MAX);
    import(&source, 2, 60).await.unwrap();
}

#[tokio::test]
async fn changes_need_no_randomness() {
    for repeats in [false, true] {
        let source = Source::with(Hashing::recommended()).await;
        let manager = source.keyward.manager();
        let ((_, one), (_, two)) = (source.issue().await, source.issue().await);
        let (actor, tenant) = (actor(), tenant());
        if repeats {
            source.random.repeat();
        } else {
            source.random.fail(0, u64::MAX);
        }
        // Twice each: none may be taken for the retry of one before it.
        for title in ["once", "twice"] {
            let suspended = manager.suspend(&actor, &tenant, one).await.unwrap();
            assert!(suspended.suspended_at().is_some());
            let resumed = manager.resume(&actor, &tenant, one).await.unwrap();
            assert_eq!(resumed.suspended_at(), None);
            let update = KeyUpdate::new().title(title).access(WRITE);
            let updated = manager.update(&actor, &tenant, one, update).await.unwrap();
            assert_eq!(updated.title().as_str(), title);
            assert_eq!(manager.get(&actor, &tenant, one).await.unwrap(), updated);
        }
        let leaked = RevokeReason::Leaked;
        manager
            .revoke(&actor, &tenant, one, leaked.clone())
            .await
            .unwrap();
        let ended = async |id| {
            let record = manager.get(&actor, &tenant, id).await.unwrap();
            record.revocation().is_some() || record.is_cut_off()
        };
        assert!(ended(one).await);
        assert!(!ended(two).await);
        let all = RevokeAll::new(leaked);
        assert_eq!(
            manager
                .revoke_all(&actor, &tenant, all)
                .await
                .unwrap()
                .revoked,
            1
        );
        assert!(ended(two).await);

        let key = ImportedKey::pair(KeyId::from_u128(3), SECRET).entropy_bits(238);
        source.clock.advance(Duration::from_secs(1));
        let three = manager.import(&actor, new_key(), key).await.unwrap().id();
        source.clock.advance(Duration::from_secs(1));
        let instant = keyward::clock::Clock::now(&source.clock).unwrap();
        let scope = CutoffScope::from(&tenant);
        manager
            .deny_issued_before(&actor, instant, scope)
            .await
            .unwrap();
        assert!(ended(three).await);
    }
}

#[tokio::test]
async fn test_parts_open_in_test_only() {
    let format = |names: &[&str]| {
        let (first, rest) = names.split_first().unwrap();
        let format = KeyFormat::new("acme").unwrap().environment(first).unwrap();
        rest.iter()
            .fold(format, |format, name| format.environment(name).unwrap())
    };
    let builder = |names| {
        Keyward::builder(MemoryStore::new())
            .format(format(names))
            .policy(AllowAll)
    };
    let clock = || ManualClock::new(OffsetDateTime::UNIX_EPOCH);
    for names in [
        &["live"][..],
        &["test", "live"],
        &["live", "test"],
        &["dev"],
    ] {
        for builder in [
            builder(names).clock(clock()),
            builder(names).random(SeededRandom::new(1)),
            builder(names).random(FailingRandom::after(100)),
        ] {
            let refused = builder.open().await;
            assert!(
                matches!(refused, Err(OpenError::TestPartsOutsideTest(_))),
                "{names:?}"
            );
        }
        assert!(
            builder(names).open().await.is_ok(),
            "with the real ones it opens"
        );
    }
    assert!(
        builder(&["test"])
            .clock(clock())
            .random(SeededRandom::new(1))
            .open()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn seeds_repeat_and_the_os_does_not() {
    let draw = |source: &dyn RandomSource| {
        let mut bytes = [0; 32];
        source.fill(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(&SeededRandom::new(5)), draw(&SeededRandom::new(5)));
    assert_ne!(draw(&SeededRandom::new(5)), draw(&SeededRandom::new(6)));
    assert_ne!(draw(&OsRandom), draw(&OsRandom));
}
