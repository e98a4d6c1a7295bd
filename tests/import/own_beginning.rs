//! A legacy format with texts that begin as the application's own keys works where the texts can be told apart.

use keyward::import::{ImportError, ImportedKey, LegacyFormat};
use keyward::key::{KeyId, Secret};
use keyward::manager::ManageError;
use keyward::{Keyward, OpenError};

use crate::common::{Fixture, SECRET, actor, builder, clock, format, imported, new_key, sha256};

/// An own key of the fixture's format has 10 + 22 + 43 + 6 characters.
const OWN: usize = 81;

fn opaque(prefix: &str) -> LegacyFormat {
    let format = LegacyFormat::opaque("old").unwrap();
    format.prefix(prefix).unwrap()
}

async fn open(legacy: LegacyFormat) -> Result<Keyward, OpenError> {
    let store = keyward::store::MemoryStore::new();
    let builder = builder(&store, &clock());
    builder.imported_keys(imported([legacy])).open().await
}

#[tokio::test]
async fn texts_of_other_lengths_are_read() {
    let fixture = Fixture::accepting([opaque("acme_test_").secret_length(24..=40).unwrap()]).await;
    let text = format!("acme_test_{}", &SECRET[..24]);
    let key = ImportedKey::text("old", text.clone()).entropy_bits(140);
    let id = fixture.import(key).await.id();
    let manager = fixture.keyward.manager();
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.status(&text).await, 200);
        assert_eq!(fixture.status(issued.api_key().expose()).await, 200);
    }
    // A damaged key of the application's own is no legacy key, and the other way round.
    let own = issued.api_key().expose();
    for wrong in [&own[..40], &own[..80], &text[..33], &format!("{text}x")] {
        assert_eq!(fixture.status(wrong).await, 401, "{wrong}");
    }
    assert_eq!(fixture.stored(id).await.id, id);
}

#[tokio::test]
async fn a_separator_tells_texts_apart() {
    let legacy = LegacyFormat::with_id("old", '.').unwrap();
    let fixture = Fixture::accepting([legacy.prefix("acme_test_").unwrap()]).await;
    fixture
        .import(ImportedKey::digest("old", "7", sha256()).entropy_bits(238))
        .await;
    assert_eq!(fixture.status(&format!("acme_test_7.{SECRET}")).await, 200);
    // As long as a key of the application's own.
    let long = format!("acme_test_{}.{SECRET}", "7".repeat(OWN - 54));
    assert_eq!(long.len(), OWN);
    let id = &long[10..OWN - 44];
    fixture
        .import(ImportedKey::digest("old", id, sha256()).entropy_bits(238))
        .await;
    assert_eq!(fixture.status(&long).await, 200);
}

#[tokio::test]
async fn texts_as_long_are_refused_at_open() {
    for legacy in [
        opaque("acme_test_"),
        opaque("ACME_test_"),
        opaque("acme_test_v1"),
        opaque("acme_test_").secret_length(71..=71).unwrap(),
        LegacyFormat::with_id("old", 'x')
            .unwrap()
            .prefix("acme_test_")
            .unwrap(),
    ] {
        match open(legacy.clone()).await {
            Err(OpenError::ImportedKeys(text)) => {
                assert!(text.contains("81 characters"), "{text}");
                assert!(text.contains("secret_length"), "{text}");
                assert!(text.contains(legacy.name()), "{text}");
            }
            other => panic!("{legacy:?}: {other:?}"),
        }
    }
    for legacy in [
        opaque("acme_test_").secret_length(72..=200).unwrap(),
        opaque("acme_test_").secret_length(8..=70).unwrap(),
        opaque("acme_"),
        opaque("acme"),
        LegacyFormat::prefixed_api_key("acme").unwrap(),
        LegacyFormat::prefixed_api_key("acme_test").unwrap(),
    ] {
        assert!(open(legacy.clone()).await.is_ok(), "{legacy:?}");
    }
}

#[tokio::test]
async fn an_accepted_prefix_counts_as_own() {
    let store = keyward::store::MemoryStore::new();
    let build = |legacy| {
        let builder = builder(&store, &clock()).format(format().accept_prefix("beta").unwrap());
        builder.imported_keys(imported([legacy])).open()
    };
    assert!(build(opaque("beta_test_")).await.is_err());
    let apart = opaque("beta_test_").secret_length(24..=40).unwrap();
    assert!(build(apart).await.is_ok());
}

#[tokio::test]
async fn own_texts_are_refused_by_name() {
    let fixture = Fixture::accepting([opaque("acme_")]).await;
    let secret = Secret::new(SECRET).unwrap();
    let environment = format().environments().next().unwrap().clone();
    let own = format()
        .compose(&environment, KeyId::from_u128(7), &secret)
        .unwrap();
    let cut = own.expose()[..60].to_owned();
    for text in [own.expose().to_owned(), cut] {
        let refused = fixture.try_import(ImportedKey::text("old", text)).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, ManageError::Import(ImportError::OwnFormat)));
        assert!(error.to_string().contains("own format"), "{error}");
    }
}
