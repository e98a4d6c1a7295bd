//! What becomes of an imported key: it is rotated into a native one, and found and revoked by its text.

use std::time::Duration;

use keyward::key::{KeyStatus, PresentedKey, RevokeReason, SecretOrigin, TenantId};
use keyward::manager::{Actor, Ceiling, ManageError, Overlap, Revoked};
use keyward::testkit::ManualMonotonicClock;

use crate::common::{
    Fixture, actor, builder, by_digest, by_text, imported, legacy, nearly, tenant, text,
};

#[tokio::test]
async fn a_rotated_import_becomes_native() {
    for key in [by_text("1"), by_digest("1")] {
        let fixture = Fixture::new().await;
        let now = keyward::clock::Clock::now(&fixture.clock).unwrap();
        let old = fixture
            .import(key.issued_at(now - Duration::from_secs(9 * 3_600)))
            .await;
        let manager = fixture.keyward.manager();
        let overlap = Overlap::For(Duration::from_secs(3_600));
        let issued = manager
            .rotate(&actor(), &tenant(), old.id(), overlap)
            .await
            .unwrap();
        let new = issued.record();
        assert_eq!(new.legacy_format(), None);
        assert_eq!(new.predecessor(), Some(old.id()));
        assert_eq!(new.lineage(), old.id());
        assert_eq!((new.created_at(), new.title()), (now, old.title()));
        assert_eq!(new.restrictions().access, old.restrictions().access);
        assert_eq!(new.origin(), SecretOrigin::Generated { entropy_bits: 256 });
        assert!(new.display_prefix().starts_with("acme_test_"));
        let own = issued.api_key().expose();
        assert!(own.starts_with("acme_test_"));
        let stored = fixture.digest(new.id()).await;
        assert!(stored.starts_with("$keyward-sha256$"));
        for status in [200, 401] {
            assert_eq!(fixture.status(own).await, 200);
            assert_eq!(fixture.status(&text("1")).await, status);
            fixture.clock.advance(Duration::from_secs(3_600));
        }
        // What was rotated away is not brought back.
        assert!(matches!(
            fixture.try_import(by_text("1")).await,
            Err(ManageError::AlreadyImported { .. })
        ));
    }
}

#[tokio::test]
async fn a_found_text_names_its_owner() {
    for key in [by_text("1"), by_digest("1")] {
        let fixture = Fixture::new().await;
        let id = fixture.import(key).await.id();
        let manager = fixture.keyward.manager();
        // Before and after its first use.
        for _ in 0..2 {
            let sent = text("1");
            let found = manager
                .find_owner(&actor(), PresentedKey::text(&sent))
                .await;
            let found = found.unwrap();
            assert_eq!((found.record.id(), found.status), (id, KeyStatus::Active));
            assert_eq!(found.record.tenant(), &tenant());
            assert!(found.is_usable());
            let digest = fixture.digest(id).await;
            for wrong in nearly(&sent) {
                let wrong = PresentedKey::text(&wrong);
                let found = manager.find_owner(&actor(), wrong).await;
                assert!(matches!(found, Err(ManageError::NotFound)));
                let revoked = manager.revoke_leaked(&actor(), wrong).await;
                assert!(matches!(revoked, Err(ManageError::NotFound)));
            }
            let another = TenantId::new("another").unwrap();
            let stranger = Actor::user("mallory", another, Ceiling::Unlimited).unwrap();
            let found = manager
                .find_owner(&stranger, PresentedKey::text(&sent))
                .await;
            assert!(matches!(found, Err(ManageError::NotFound)));
            assert_eq!(fixture.digest(id).await, digest);
            assert_eq!(fixture.status(&sent).await, 200);
            fixture.has_own_digest(id).await;
        }
    }
}

#[tokio::test]
async fn a_leaked_text_revokes_its_key() {
    for key in [by_text("1"), by_digest("1")] {
        let fixture = Fixture::new().await;
        let id = fixture.import(key).await.id();
        let manager = fixture.keyward.manager();
        let sent = text("1");
        let presented = PresentedKey::text(&sent);
        let revoked = manager.revoke_leaked(&actor(), presented).await.unwrap();
        assert!(matches!(revoked, Revoked { .. }));
        assert_eq!(fixture.status(&sent).await, 401);
        let record = manager.get(&actor(), &tenant(), id).await.unwrap();
        assert_eq!(record.revocation().unwrap().reason, RevokeReason::Leaked);
        let found = manager.find_owner(&actor(), presented).await.unwrap();
        assert_eq!(found.status, KeyStatus::Revoked);
        // A revoked key's digest is left as it is.
        assert_eq!(fixture.rehashed(), 0);
    }
}

#[tokio::test]
async fn at_the_limit_no_imported_key_is_found() {
    let fixture = Fixture::new().await;
    fixture.import(by_text("1")).await;
    let keyward = builder(&fixture.store, &fixture.clock).imported_keys(imported([legacy()]));
    let keyward = keyward.monotonic_clock(ManualMonotonicClock::new());
    let keyward = keyward.open().await.unwrap();
    let (manager, actor, sent) = (keyward.manager(), actor(), text("1"));
    let find = async |text: &str| manager.find_owner(&actor, PresentedKey::text(text)).await;
    assert!(find(&sent).await.is_ok());
    for _ in 0..100 {
        let missed = find("nothing").await;
        assert!(matches!(missed, Err(ManageError::NotFound)));
    }
    // Its secret may be weak, so the answer must not tell whether a guess is right: with the digest that was imported,
    // and with the one that has replaced it.
    for _ in 0..2 {
        let barred = find(&sent).await;
        assert!(matches!(barred, Err(ManageError::TooManyLookups)));
        assert_eq!(fixture.status(&sent).await, 200);
    }
}
