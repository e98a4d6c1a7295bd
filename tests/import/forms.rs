//! A key has one form: the text that its client was given, read by the first format that can.

use keyward::import::{ImportError, ImportedKey, LegacyFormat};
use keyward::key::{KeyId, PresentedKey, Secret};
use keyward::manager::ManageError;

use crate::common::{
    Fixture, SECRET, actor, by_digest, by_text, format, legacy, new_key, sha256, text,
};

fn opaque(name: &str) -> LegacyFormat {
    LegacyFormat::opaque(name).unwrap()
}

/// Formats that could read nearly anything, also the application's own texts.
fn greedy() -> [LegacyFormat; 3] {
    let cut = |name, separator| LegacyFormat::with_id(name, separator).unwrap();
    [cut("underscore", '_'), cut("letter", 'e'), opaque("opaque")]
}

fn import_error(error: &ManageError) -> Option<ImportError> {
    match error {
        ManageError::Import(error) => Some(error.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn own_texts_are_never_legacy() {
    let fixture = Fixture::accepting(greedy()).await;
    let manager = fixture.keyward.manager();
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    let own = issued.api_key().expose().to_owned();
    assert_eq!(fixture.status(&own).await, 200);
    let never = Secret::new(SECRET).unwrap();
    let environment = format().environments().next().unwrap().clone();
    let id = KeyId::from_u128(7);
    let unissued = format().compose(&environment, id, &never).unwrap();

    let mut damaged: Vec<String> = (0..own.len() - 10)
        .map(|at| without(&own, 10 + at))
        .collect();
    damaged.extend((10..own.len()).map(|end| own[..end].to_owned()));
    damaged.extend([format!("{own}x"), format!("{own}!"), format!("{own}{own}")]);
    for text in &damaged {
        let before = fixture.keyward.verifier().stats();
        assert_eq!(fixture.status(text).await, 401);
        let after = fixture.keyward.verifier().stats();
        assert_eq!(after.store_reads, before.store_reads, "{text}");
        assert_eq!(after.fast_hashes, before.fast_hashes, "{text}");
    }
    damaged.extend([own, unissued.expose().to_owned()]);
    for text in damaged {
        for name in ["underscore", "letter", "opaque"] {
            let imported = fixture
                .try_import(ImportedKey::text(name, text.clone()))
                .await;
            let error = imported.map(|record| record.id()).unwrap_err();
            let refused = import_error(&error);
            assert!(matches!(refused, Some(ImportError::OwnFormat)), "{error}");
        }
    }
}

fn without(text: &str, at: usize) -> String {
    let mut text = text.to_owned();
    text.remove(at);
    text
}

#[tokio::test]
async fn the_first_matching_format_wins() {
    let second = LegacyFormat::with_id("second", '.').unwrap();
    for others in [second, opaque("second")] {
        let fixture = Fixture::accepting([legacy(), others]).await;
        let refused = fixture.try_import(ImportedKey::text("second", text("7")));
        let refused = refused.await.unwrap_err();
        assert_eq!(import_error(&refused), Some(ImportError::OtherFormat));
        let record = fixture.import(by_text("7")).await;
        assert_eq!(record.legacy_format(), Some("legacy"));
        let admitted = fixture
            .verify(PresentedKey::text(&text("7")))
            .await
            .unwrap();
        assert_eq!(admitted.grant().record().legacy_format(), Some("legacy"));
    }
}

#[tokio::test]
async fn imported_keys_have_one_form() {
    for key in [by_digest("7"), by_text("7")] {
        let fixture = Fixture::accepting([legacy(), opaque("opaque")]).await;
        let id = fixture.import(key).await.id();
        let secret = Secret::new(SECRET).unwrap();
        let environment = format().environments().next().unwrap().clone();
        let own = format().compose(&environment, id, &secret).unwrap();
        let as_pair = id.to_string();
        // Before and after its digest was replaced.
        for _ in 0..2 {
            let digest = fixture.digest(id).await;
            for presented in [
                own.presented(),
                PresentedKey::text(own.expose()),
                PresentedKey::pair(&as_pair, SECRET),
                PresentedKey::text(SECRET),
                PresentedKey::text(&format!("{as_pair}.{SECRET}")),
                PresentedKey::text(&format!("7|{SECRET}")),
                PresentedKey::text(&format!("07.{SECRET}")),
                PresentedKey::text(&format!("7.{SECRET}.")),
                PresentedKey::text(&format!("7..{SECRET}")),
                PresentedKey::pair("7", SECRET),
            ] {
                assert_eq!(fixture.status_of(presented).await, 401);
            }
            assert_eq!(fixture.digest(id).await, digest, "no other form rehashes");
            assert_eq!(fixture.status(&text("7")).await, 200);
            fixture.has_own_digest(id).await;
        }
    }
}

#[tokio::test]
async fn an_opaque_key_is_refused_as_a_pair() {
    let fixture = Fixture::accepting([opaque("opaque")]).await;
    // All of the text is the secret, and it could be that of a pair.
    let key = ImportedKey::opaque_digest("opaque", sha256()).entropy_bits(238);
    let id = fixture.import(key).await.id().to_string();
    for _ in 0..2 {
        let pair = PresentedKey::pair(&id, SECRET);
        assert_eq!(fixture.status_of(pair).await, 401);
        assert_eq!(fixture.status(SECRET).await, 200);
    }
}

#[tokio::test]
async fn legacy_texts_reach_no_native_key() {
    let fixture = Fixture::accepting([legacy(), LegacyFormat::sanctum(), opaque("opaque")]).await;
    let manager = fixture.keyward.manager();
    let issued = manager.issue(&actor(), new_key()).await.unwrap();
    let (id, secret) = (issued.record().id(), issued.api_key().expose_secret());
    let digits: String = issued.api_key().expose()["acme_test_".len()..][..22].to_owned();
    for id in [
        id.to_string(),
        digits,
        id.as_u128().to_string(),
        format!("{:032x}", id.as_u128()),
    ] {
        for text in [format!("{id}.{secret}"), format!("{id}|{secret}")] {
            assert_eq!(fixture.status(&text).await, 401);
        }
    }
    assert_eq!(fixture.status(secret).await, 401);
}

#[tokio::test]
async fn a_dropped_format_reads_nothing() {
    let fixture = Fixture::new().await;
    fixture.import(by_text("7")).await;
    let renamed = LegacyFormat::with_id("renamed", '.').unwrap();
    for formats in [vec![], vec![renamed.clone()], vec![renamed, legacy()]] {
        let imported = crate::common::imported(formats);
        let later = fixture
            .reopened(|builder| builder.imported_keys(imported))
            .await;
        assert_eq!(later.status(&text("7")).await, 401);
    }
    assert_eq!(fixture.status(&text("7")).await, 200);
}

#[tokio::test]
async fn unreachable_digests_are_refused() {
    let second = LegacyFormat::with_id("second", '.').unwrap();
    let fixture = Fixture::accepting([legacy(), second, opaque("third"), opaque("fourth")]).await;
    for key in [
        ImportedKey::digest("second", "7", sha256()),
        ImportedKey::digest("legacy", "acme_test_7", sha256()),
        ImportedKey::opaque_digest("fourth", sha256()),
    ] {
        let imported = fixture.try_import(key).await.map(|record| record.id());
        let refused = imported.as_ref().err().and_then(import_error);
        assert!(
            matches!(
                refused,
                Some(ImportError::OtherFormat | ImportError::OwnFormat)
            ),
            "{imported:?}"
        );
    }
}

#[tokio::test]
async fn pairs_are_imported_as_pairs() {
    let fixture = Fixture::new().await;
    for (number, key) in [
        (1, ImportedKey::pair(KeyId::from_u128(1), SECRET)),
        (2, ImportedKey::pair_digest(KeyId::from_u128(2), sha256())),
    ] {
        let id = fixture.import(key.entropy_bits(238)).await.id();
        assert_eq!(id, KeyId::from_u128(number));
        let id = id.to_string();
        for _ in 0..2 {
            let wrong = PresentedKey::pair(&id, &SECRET[1..]);
            assert_eq!(fixture.status_of(wrong).await, 401);
            assert_eq!(
                fixture.status_of(PresentedKey::pair(&id, SECRET)).await,
                200
            );
            assert_eq!(fixture.status(&format!("{id}.{SECRET}")).await, 401);
        }
    }
    for secret in [
        &SECRET[1..],
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcde-.",
        "",
    ] {
        let pair = ImportedKey::pair(KeyId::from_u128(3), secret);
        let refused = fixture.try_import(pair).await.unwrap_err();
        assert_eq!(import_error(&refused), Some(ImportError::Text));
    }
}

#[tokio::test]
async fn misformatted_keys_are_refused() {
    let fixture = Fixture::accepting([legacy(), opaque("opaque")]).await;
    let long = "1".repeat(65);
    let with_id = |id: &str| ImportedKey::digest("legacy", id, sha256());
    let of_text = |text: &[u8]| ImportedKey::text("legacy", text);
    for (error, keys) in [
        (
            ImportError::UnknownFormat,
            vec![
                ImportedKey::text("unknown", text("7")),
                ImportedKey::digest("unknown", "7", sha256()),
                ImportedKey::opaque_digest("unknown", sha256()),
            ],
        ),
        (
            ImportError::Id,
            vec![
                ImportedKey::opaque_digest("legacy", sha256()),
                ImportedKey::digest("opaque", "7", sha256()),
                with_id(""),
                with_id("7.8"),
                with_id("7 8"),
                with_id("é"),
                with_id(&long),
            ],
        ),
        (
            ImportError::Text,
            vec![
                of_text(b""),
                of_text(format!(" {}", text("7")).as_bytes()),
                of_text(&[0xff; 40]),
                of_text(&[b'x'; 257]),
            ],
        ),
        (ImportError::OtherFormat, vec![of_text(SECRET.as_bytes())]),
    ] {
        for key in keys {
            let refused = fixture.try_import(key).await.unwrap_err();
            assert_eq!(import_error(&refused), Some(error.clone()), "{refused}");
        }
    }
}
