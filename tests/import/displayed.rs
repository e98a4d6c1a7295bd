//! The part of an imported key that may be shown, by which the key is found.

use keyward::import::{ImportedKey, LegacyFormat};
use keyward::key::{KeyId, TenantId};
use keyward::manager::KeyQuery;

use crate::common::{Fixture, actor, by_text, legacy, new_key, sha256, tenant};
use crate::samples::LegacySample;

const OPAQUE: &str = "sk_live_51H8xQz0pLmNoPqRsTuVwXyZ";

fn opaque() -> LegacyFormat {
    let format = LegacyFormat::opaque("billing-v1").unwrap();
    format.prefix("sk_live_").unwrap()
}

fn drf() -> LegacyFormat {
    LegacyFormat::django_rest_framework()
}

async fn listed(fixture: &Fixture, of: &str, start: &str) -> Vec<KeyId> {
    let query = KeyQuery::of(&TenantId::new(of).unwrap()).display_prefix(start);
    let page = fixture.keyward.manager().list(&actor(), &query).await;
    page.unwrap().keys.iter().map(|key| key.id()).collect()
}

/// The format, the text that the client sends, and the part that is shown.
fn cases() -> Vec<(LegacyFormat, String, String)> {
    let mut cases = vec![
        (opaque(), OPAQUE.to_owned(), "sk_live_".to_owned()),
        (
            LegacyFormat::opaque("plain").unwrap(),
            OPAQUE.to_owned(),
            "plain".to_owned(),
        ),
    ];
    for scheme in ["sanctum", "prefixed-api-key", "drf-api-key"] {
        for sample in LegacySample::of(scheme) {
            let text = sample.text.clone().unwrap();
            let length = text.len() - sample.secret.len();
            let shown = match scheme {
                "drf-api-key" => text.split('.').next().unwrap(),
                _ => &text[..length - 1],
            };
            cases.push((sample.format(), text.clone(), shown.to_owned()));
        }
    }
    cases
}

#[tokio::test]
async fn the_secret_is_never_shown() {
    for (format, text, shown) in cases() {
        let (name, fixture) = (format.name().to_owned(), Fixture::accepting([format]).await);
        let key = ImportedKey::text(&name, text.clone()).entropy_bits(112);
        let record = fixture.import(key).await;
        assert_eq!(record.display_prefix(), shown);
        assert_eq!(record.view(record.created_at()).display_prefix, shown);
        // One character of the secret more, and it would begin as the text does.
        assert!(shown.len() < text.len());
        assert_eq!(fixture.status(&shown).await, 401);
    }
}

#[tokio::test]
async fn the_shown_part_finds_the_key() {
    for (format, text, shown) in cases() {
        if format == opaque() || format.name() == "plain" {
            continue; // Below, on their own.
        }
        let (name, fixture) = (format.name().to_owned(), Fixture::accepting([format]).await);
        let issued = fixture.keyward.manager().issue(&actor(), new_key()).await;
        issued.unwrap();
        let key = ImportedKey::text(&name, text.clone()).entropy_bits(112);
        let id = fixture.import(key).await.id();
        assert_eq!(listed(&fixture, "acme-inc", &shown).await, [id], "{shown}");
        assert_eq!(listed(&fixture, "another", &shown).await, [], "{shown}");
        // A whole key is a secret, and finds none.
        assert_eq!(listed(&fixture, "acme-inc", &text).await, [], "{shown}");
    }
}

#[tokio::test]
async fn native_keys_are_found_too() {
    let fixture = Fixture::accepting([legacy(), opaque()]).await;
    fixture.import(by_text("7")).await;
    let issued = fixture.keyward.manager().issue(&actor(), new_key()).await;
    let record = issued.unwrap().record().clone();
    let shown = record.display_prefix();
    assert_eq!(listed(&fixture, "acme-inc", &shown).await, [record.id()]);
    assert_eq!(listed(&fixture, "acme-inc", "acme_").await, [record.id()]);
}

#[tokio::test]
async fn second_format_keys_are_found_too() {
    let fixture = Fixture::accepting([LegacyFormat::sanctum(), drf()]).await;
    let sample = LegacySample::of("drf-api-key").remove(0);
    let record = fixture.import(sample.as_key("")).await;
    let shown = record.display_prefix();
    assert_eq!(listed(&fixture, "acme-inc", &shown).await, [record.id()]);
}

#[tokio::test]
async fn keys_shown_alike_are_all_found() {
    let fixture = Fixture::accepting([LegacyFormat::sanctum(), drf()]).await;
    let mut ids = vec![];
    for name in ["sanctum", "drf-api-key"] {
        ids.push(
            fixture
                .import(ImportedKey::digest(name, "12", sha256()))
                .await
                .id(),
        );
    }
    let mut found = listed(&fixture, "acme-inc", "12").await;
    ids.sort_by_key(KeyId::as_u128);
    found.sort_by_key(KeyId::as_u128);
    assert_eq!(found, ids);
}

#[tokio::test]
async fn opaque_keys_are_found_by_prefix() {
    let fixture = Fixture::accepting([opaque()]).await;
    let key = ImportedKey::text("billing-v1", OPAQUE).entropy_bits(140);
    let record = fixture.import(key).await;
    let shown = record.display_prefix();
    assert_eq!(
        listed(&fixture, tenant().as_str(), &shown).await,
        [record.id()]
    );
}
