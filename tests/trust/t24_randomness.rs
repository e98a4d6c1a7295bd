//! Promise 24: an id collision fails the insert; a failing random source issues nothing.

use std::sync::Mutex;

use keyward::OpenError;
use keyward::key::{KeyFormat, PresentedKey};
use keyward::manager::{AllowAll, ManageError};
use keyward::random::{OsRandom, RandomError, RandomSource};
use keyward::store::{KeyStore, ListQuery, MemoryStore};
use keyward::testkit::{FailingRandom, ManualClock, SeededRandom};
use keyward::{Keyward, time::OffsetDateTime};

use crate::common::{actor, builder, clock, new_key, tenant};

async fn everything(store: &MemoryStore) -> (usize, usize) {
    let keys = store
        .list(&ListQuery::of(&tenant()).limit(1_000))
        .await
        .unwrap();
    let events = store.events().unwrap().read(None, 0, 1_000).await.unwrap();
    (keys.items.len(), events.len())
}

#[tokio::test]
async fn a_source_that_always_repeats_itself_issues_one_key() {
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
async fn an_id_that_collides_once_is_drawn_anew() {
    let store = MemoryStore::new();
    let keyward = builder(store.clone(), clock()).open().await.unwrap();
    let first = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    let taken = first.record().id();

    #[derive(Debug)]
    struct TakenFirst(keyward::key::KeyId, Mutex<bool>);
    impl RandomSource for TakenFirst {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
            OsRandom.fill(buffer)?;
            let mut is_spent = self.1.lock().unwrap();
            if buffer.len() == 16 && !*is_spent {
                buffer.copy_from_slice(self.0.as_bytes());
                *is_spent = true;
            }
            Ok(())
        }
        fn is_for_tests(&self) -> bool {
            false
        }
    }
    let unlucky = TakenFirst(taken, Mutex::new(false));
    let keyward = builder(store.clone(), clock())
        .random(unlucky)
        .open()
        .await
        .unwrap();
    let second = keyward.manager().issue(&actor(), new_key()).await.unwrap();
    assert_ne!(second.record().id(), taken);
    assert_eq!(everything(&store).await, (2, 2));
    for issued in [&first, &second] {
        let any = keyward::verifier::Requirement::any_key();
        let presented = PresentedKey::text(issued.api_key().expose());
        let attempt = keyward::verifier::Attempt::new(presented, &any);
        let admitted = keyward.verifier().verify(&attempt).await.unwrap();
        assert_eq!(admitted.grant().key_id(), issued.record().id());
    }
}

#[tokio::test]
async fn a_failing_source_issues_nothing() {
    // Opening asks once, an issue three times: for the id, the secret and the change's name.
    for calls in 0..=2 {
        let store = MemoryStore::new();
        let keyward = builder(store.clone(), clock())
            .random(FailingRandom::after(calls))
            .open()
            .await;
        let refused = match keyward {
            Err(OpenError::Random(_)) => calls == 0,
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
    let keyward = builder(store.clone(), clock()).random(FailingRandom::after(3));
    let keyward = keyward.open().await.unwrap();
    assert!(keyward.manager().issue(&actor(), new_key()).await.is_ok());
    assert_eq!(everything(&store).await, (1, 1));
}

#[tokio::test]
async fn a_revocation_needs_no_randomness() {
    let store = MemoryStore::new();
    let keyward = builder(store.clone(), clock())
        .random(FailingRandom::after(4))
        .open()
        .await
        .unwrap();
    let (manager, reason) = (keyward.manager(), keyward::key::RevokeReason::Leaked);
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    let revoked = manager
        .revoke(&actor(), &tenant(), issued.record().id(), reason)
        .await;
    assert_eq!(revoked.unwrap().id, issued.record().id());
}

#[tokio::test]
async fn parts_for_tests_open_in_the_test_environment_only() {
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
async fn seeds_repeat_and_the_operating_system_does_not() {
    let draw = |source: &dyn RandomSource| {
        let mut bytes = [0; 32];
        source.fill(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(&SeededRandom::new(5)), draw(&SeededRandom::new(5)));
    assert_ne!(draw(&SeededRandom::new(5)), draw(&SeededRandom::new(6)));
    assert_ne!(draw(&OsRandom), draw(&OsRandom));
}
