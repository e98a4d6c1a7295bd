//! Which key a text is: always the same one, under one pepper, and imported once.

use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat};
use keyward::key::{Access, KeyId, PresentedKey, TenantId};
use keyward::manager::{ManageError, NewKey};
use keyward::store::KeyStore;
use keyward::verifier::{Attempt, Requirement};
use keyward::{Keyward, OpenError};

use crate::common::{
    Fixture, READ, SECRET, SHA256, WRITE, actor, builder, by_digest, by_text, imported, legacy,
    lookup, nearly, new_key, pepper, sha256, tenant, text,
};

async fn events(fixture: &Fixture) -> usize {
    let log = fixture.store.events().unwrap();
    log.read(None, 0, 100).await.unwrap().len()
}

async fn open_again(fixture: &Fixture, imported: ImportedKeys) -> Result<Keyward, OpenError> {
    let builder = builder(&fixture.store, &fixture.clock).imported_keys(imported);
    builder.open().await
}

#[tokio::test]
async fn the_same_text_is_the_same_key() {
    let (one, other) = (Fixture::new().await, Fixture::new().await);
    let id = one.import(by_text("7")).await.id();
    assert_eq!(one.status(&text("7")).await, 200);
    // In a second process, a second store, and from a digest.
    let accepting = imported([legacy()]);
    let again = one
        .reopened(|builder| builder.imported_keys(accepting))
        .await;
    let admitted = again.verify(PresentedKey::text(&text("7"))).await.unwrap();
    assert_eq!(admitted.grant().record().id(), id);
    assert_eq!(other.import(by_digest("7")).await.id(), id);
    // Formats accepted beside it, and its own length, change nothing.
    let formats = [
        LegacyFormat::sanctum(),
        legacy().secret_length(43..=43).unwrap(),
    ];
    let third = Fixture::accepting(formats).await;
    assert_eq!(third.import(by_text("7")).await.id(), id);
}

#[tokio::test]
async fn any_difference_is_another_key() {
    let renamed = LegacyFormat::with_id("legacy2", '|').unwrap();
    let fixture = Fixture::accepting([legacy(), renamed]).await;
    let mut ids = vec![
        fixture.import(by_text("7")).await.id(),
        fixture.import(by_text("8")).await.id(),
        fixture.import(by_text("77")).await.id(),
        fixture
            .import(ImportedKey::digest("legacy2", "7", sha256()))
            .await
            .id(),
    ];
    let imported = ImportedKeys::under(pepper(1, 2)).accept(legacy());
    let elsewhere = Fixture::with(keyward::hashing::Hashing::recommended(), imported).await;
    ids.push(elsewhere.import(by_text("7")).await.id());
    let count = ids.len();
    ids.sort_by_key(KeyId::as_u128);
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn the_first_import_wins() {
    for (first, second) in [
        (by_text("7"), by_text("7")),
        (by_digest("7"), by_digest("7")),
        (by_text("7"), by_digest("7")),
        (by_digest("7"), by_text("7")),
    ] {
        let fixture = Fixture::new().await;
        let record = fixture.import(first).await;
        let (stored, count) = (fixture.stored(record.id()).await, events(&fixture).await);
        let manager = fixture.keyward.manager();
        for key in [new_key(), NewKey::new(tenant(), "more", Access::Full)] {
            match manager.import(&actor(), key, second.clone()).await {
                Err(ManageError::AlreadyImported { id }) => assert_eq!(id, record.id()),
                other => panic!("{other:?}"),
            }
        }
        // Another tenant's migration must not take it for done.
        let another = TenantId::new("another").unwrap();
        let theirs = NewKey::new(another, "theirs", WRITE);
        match manager.import(&actor(), theirs, second.clone()).await {
            Err(ManageError::IdTaken { id }) => assert_eq!(id, record.id()),
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.stored(record.id()).await, stored);
        assert_eq!(events(&fixture).await, count);
        assert_eq!(fixture.status(&text("7")).await, 200);
    }
}

/// Otherwise its client would stay refused, and the migration would look complete.
#[tokio::test]
async fn a_differing_secret_is_reported() {
    let other = nearly(SECRET)[0].clone();
    let pair_id = KeyId::from_u128(7);
    let sha256 = |hex: &str| LegacyDigest::sha256(hex).unwrap();
    let wrong_digest = "0".repeat(64);
    let pair = |secret: &str| ImportedKey::pair(pair_id, secret);
    let text_of = |secret: &str| ImportedKey::text("legacy", format!("7.{secret}"));
    let digest_of = |hex: &str| ImportedKey::digest("legacy", "7", sha256(hex));
    let pair_digest = |hex: &str| ImportedKey::pair_digest(pair_id, sha256(hex));
    for (wrong, right) in [
        (pair(&other), pair(SECRET)),
        (pair_digest(&wrong_digest), pair(SECRET)),
        (pair_digest(&wrong_digest), pair_digest(SHA256)),
        (text_of(&other), text_of(SECRET)),
        (digest_of(&wrong_digest), text_of(SECRET)),
        (digest_of(&wrong_digest), digest_of(SHA256)),
    ] {
        for bits in [None, Some(238)] {
            let strong = |key: &ImportedKey| match bits {
                Some(bits) => key.clone().entropy_bits(bits),
                None => key.clone(),
            };
            let fixture = Fixture::new().await;
            let id = fixture.import(strong(&wrong)).await.id();
            let (stored, count) = (fixture.stored(id).await, events(&fixture).await);
            match fixture.try_import(strong(&right)).await {
                Err(ManageError::ImportedOtherwise { id: there }) => assert_eq!(there, id),
                other => panic!("{wrong:?}, {right:?}: {other:?}"),
            }
            assert!(matches!(
                fixture.try_import(strong(&wrong)).await,
                Err(ManageError::AlreadyImported { .. })
            ));
            assert_eq!(fixture.stored(id).await, stored);
            assert_eq!(events(&fixture).await, count);
        }
    }
}

#[tokio::test]
async fn a_replaced_digest_is_known_by_secret() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("7")).await.id();
    let imported = fixture.digest(id).await;
    assert_eq!(fixture.status(&text("7")).await, 200);
    fixture.has_own_digest(id).await;
    assert_ne!(fixture.digest(id).await, imported);
    let other = ImportedKey::text("legacy", nearly(&text("7"))[0].clone());
    assert!(matches!(
        fixture.try_import(other).await,
        Err(ManageError::ImportedOtherwise { .. })
    ));
    // A digest that was replaced cannot be compared.
    let another = LegacyDigest::sha256(&"0".repeat(64)).unwrap();
    let another = ImportedKey::digest("legacy", "7", another);
    for known in [by_text("7"), by_digest("7"), another] {
        assert!(matches!(
            fixture.try_import(known).await,
            Err(ManageError::AlreadyImported { .. })
        ));
    }
}

#[tokio::test]
async fn a_revoked_key_is_not_reimported() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_text("7")).await.id();
    let manager = fixture.keyward.manager();
    let reason = keyward::key::RevokeReason::Leaked;
    manager
        .revoke(&actor(), &tenant(), id, reason)
        .await
        .unwrap();
    for key in [by_text("7"), by_digest("7")] {
        assert!(matches!(
            fixture.try_import(key).await,
            Err(ManageError::AlreadyImported { .. })
        ));
    }
    assert_eq!(fixture.status(&text("7")).await, 401);
}

#[tokio::test]
async fn concurrent_imports_succeed_once() {
    let fixture = Fixture::new().await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let manager = fixture.keyward.manager().clone();
            tokio::spawn(async move { manager.import(&actor(), new_key(), by_text("7")).await })
        })
        .collect();
    let (mut done, mut refused) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(ManageError::AlreadyImported { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((done, refused), (1, 15));
}

#[tokio::test]
async fn issued_keys_are_not_replaced() {
    let fixture = Fixture::new().await;
    let manager = fixture.keyward.manager();
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    let id = issued.record().id();
    let stored = fixture.stored(id).await;
    for key in [
        ImportedKey::pair(id, SECRET),
        ImportedKey::pair_digest(id, sha256()),
    ] {
        assert!(matches!(
            fixture.try_import(key.entropy_bits(238)).await,
            Err(ManageError::IdTaken { id: there }) if there == id
        ));
    }
    assert_eq!(fixture.stored(id).await, stored);
    assert_eq!(fixture.status(issued.api_key().expose()).await, 200);
    let id = id.to_string();
    let planted = PresentedKey::pair(&id, SECRET);
    assert_eq!(fixture.status_of(planted).await, 401);
}

#[tokio::test]
async fn another_lookup_pepper_is_refused() {
    let fixture = Fixture::new().await;
    for wrong in [pepper(1, 2), pepper(2, 2)] {
        let imported = ImportedKeys::under(wrong).accept(legacy());
        match open_again(&fixture, imported).await {
            Err(OpenError::WrongPepper { name }) => assert_eq!(name, "pepper.lookup"),
            other => panic!("{other:?}"),
        }
    }
    assert!(open_again(&fixture, imported([])).await.is_ok());
    let imported = ImportedKeys::under(lookup()).accept(legacy());
    assert!(open_again(&fixture, imported).await.is_ok());
}

#[tokio::test]
async fn unconfigured_imports_are_refused() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("7")).await.id();
    let without = fixture.reopened(|builder| builder).await;
    assert_eq!(without.status(&text("7")).await, 401);
    let id = id.to_string();
    let pair = PresentedKey::pair(&id, SECRET);
    assert_ne!(without.status_of(pair).await, 200);
    assert!(matches!(
        without.try_import(by_text("8")).await,
        Err(ManageError::Import(_))
    ));
    let key = NewKey::new(tenant(), "native", READ);
    let issued = without.keyward.manager().issue(&actor(), key).await;
    assert_eq!(
        without.status(issued.unwrap().api_key().expose()).await,
        200
    );
}

#[tokio::test]
async fn a_purged_key_is_not_reimported() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_text("7")).await.id();
    let manager = fixture.keyward.manager();
    let reason = keyward::key::RevokeReason::Leaked;
    manager
        .revoke(&actor(), &tenant(), id, reason)
        .await
        .unwrap();
    fixture.clock.advance(std::time::Duration::from_secs(1));
    let now = keyward::clock::Clock::now(&fixture.clock).unwrap();
    let purged = manager.purge(&actor(), &tenant(), now, None).await.unwrap();
    assert_eq!(purged.keys, [id]);
    for key in [by_text("7"), by_digest("7")] {
        let again = fixture.try_import(key).await;
        let is_taken = matches!(again, Err(ManageError::IdTaken { id: taken }) if taken == id);
        assert!(is_taken, "{again:?}");
    }
    assert_eq!(fixture.status(&text("7")).await, 401);
}

#[tokio::test]
async fn a_legacy_key_is_explained_by_its_id() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("7")).await.id();
    let need = Requirement::scope(READ);
    let explained = fixture
        .keyward
        .verifier()
        .explain_key(id, &Attempt::of(&need))
        .await;
    assert!(explained.denial().is_none(), "{explained}");
}
