//! Nothing that is written of an imported key bears its secret, its digest or the old system's keys.

use std::error::Error;
use std::fmt::Debug;

use keyward::audit::EventAction;
use keyward::hashing::Hashing;
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat, LegacyHash};
use keyward::key::{KeyId, Metadata, PresentedKey, Principal, Resource};
use keyward::manager::{InvalidKey, ManageError, NewKey};
use keyward::store::KeyStore;

use crate::common::{
    Fixture, READ, SECRET, SHA256, actor, by_digest, by_text, imported, legacy, lookup, sha256,
    tenant, text,
};
use crate::samples::LegacySample;

const HMAC_KEY: &[u8; 32] = b"canary-of-the-old-systems-pepper";

#[derive(Default)]
struct Written(String);

impl Written {
    fn debug(&mut self, value: &dyn Debug) {
        self.0 += &format!("{value:?}\n{value:#?}\n");
    }

    fn error(&mut self, error: &dyn Error) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.0 += &format!("{error}\n{error:?}\n");
            next = error.source();
        }
    }

    /// Every run of eight characters counts as the whole, in either case, also as a list of bytes.
    fn assert_without(&self, canary: &str) {
        let written = self.0.to_lowercase();
        for window in canary.as_bytes().windows(8) {
            let text = String::from_utf8_lossy(window).to_lowercase();
            assert!(!written.contains(&text), "`{text}` was written");
            let bytes: Vec<String> = window.iter().map(u8::to_string).collect();
            assert!(!written.contains(&bytes.join(", ")), "{bytes:?}");
        }
    }
}

/// What each sample's digest is made of, as far as it is worth guarding: salts and outputs.
fn parts_of(digest: &str) -> Vec<&str> {
    digest
        .split(['$', '|'])
        .filter(|part| part.len() >= 16)
        .collect()
}

fn accepting() -> ImportedKeys {
    let opaque = LegacyFormat::opaque("opaque").unwrap();
    let imported = imported([legacy(), opaque.found_by(LegacyHash::SHA256.hmac("old"))]);
    imported.site_secret("old", HMAC_KEY).unwrap()
}

#[test]
fn the_scan_finds_a_canary() {
    let written = Written("the secret is abcdefgh01".to_owned());
    assert!(std::panic::catch_unwind(|| written.assert_without("AbCdEfGh")).is_err());
}

#[test]
fn imports_show_no_secret_or_digest() {
    for sample in LegacySample::all() {
        let mut written = Written::default();
        let digest = sample.read_digest();
        written.debug(&digest);
        let id = KeyId::from_u128(7);
        for key in [
            sample.as_key("1"),
            ImportedKey::opaque_digest("opaque", digest.clone()),
            ImportedKey::pair_digest(id, digest),
            ImportedKey::text("legacy", sample.sent("1")),
            ImportedKey::pair(id, sample.secret.clone()),
        ] {
            written.debug(&key.entropy_bits(238));
        }
        written.assert_without(&sample.secret);
        for part in parts_of(&sample.digest) {
            written.assert_without(part);
        }
    }
}

#[test]
fn accepted_formats_show_no_key() {
    let mut written = Written::default();
    written.debug(&accepting());
    assert!(written.0.contains("legacy") && written.0.contains("old"));
    written.assert_without(str::from_utf8(HMAC_KEY).unwrap());
    let pepper: String = (1..33).map(char::from).collect();
    written.assert_without(&pepper);
    written.debug(&lookup());
    written.assert_without(&pepper);
}

#[tokio::test]
async fn errors_show_no_secret_or_digest() {
    let mut written = Written::default();
    let fixture = Fixture::with(Hashing::recommended(), accepting()).await;
    written.debug(&fixture.keyward);
    fixture.import(by_text("7")).await;
    for key in [
        by_text("7"),
        by_digest("7"),
        by_text("8").entropy_bits(u16::MAX),
        ImportedKey::text("unknown", text("8")),
        ImportedKey::text("legacy", SECRET),
        ImportedKey::text("opaque", text("8")),
        ImportedKey::text("legacy", format!("8 .{SECRET}")),
        ImportedKey::digest("legacy", SECRET, sha256()).entropy_bits(1),
        ImportedKey::digest("legacy", &text("8"), sha256()),
        ImportedKey::opaque_digest("opaque", sha256()),
        ImportedKey::pair(KeyId::from_u128(7), format!("{SECRET}x")),
    ] {
        if let Err(error) = fixture.try_import(key).await {
            written.error(&error);
        }
    }
    for text in [text("7"), format!("{}x", text("7")), SECRET.to_owned()] {
        let presented = PresentedKey::text(&text);
        written.debug(&presented);
        match fixture.verify(presented).await {
            Ok(admitted) => written.debug(&admitted),
            Err(denial) => {
                written.error(&denial);
                written.error(denial.reason());
            }
        }
    }
    for bad in [&format!("{SHA256}0"), SECRET, &format!("$2b$10${SECRET}")] {
        for error in [
            LegacyDigest::sha256(bad),
            LegacyDigest::hex(&LegacyHash::SHA512, bad),
            LegacyDigest::hex(&LegacyHash::SHA256.hmac("old"), bad),
            LegacyDigest::hex(&LegacyHash::SHA256.hmac(SECRET), SHA256),
            LegacyDigest::passlib(bad),
            LegacyDigest::werkzeug(bad),
            LegacyDigest::argon2(bad),
            LegacyDigest::bcrypt(bad),
            LegacyDigest::django(bad),
        ] {
            // A secret of 43 characters can be the base64 of 32 bytes.
            if let Err(error) = error {
                written.error(&error);
            }
        }
    }
    written.error(&LegacyFormat::opaque(SECRET).unwrap_err());
    written.error(&accepting().site_secret(SECRET, HMAC_KEY).unwrap_err());
    assert!(written.0.len() > 1_000, "something was written");
    // An id that somebody mistook for the secret is an id, and shown: the record is not among these.
    written.assert_without(SECRET);
    written.assert_without(SHA256);
    written.assert_without(str::from_utf8(HMAC_KEY).unwrap());
}

#[tokio::test]
async fn events_tell_the_origin_and_no_secret() {
    let sanctum = LegacyFormat::sanctum();
    for sample in LegacySample::all() {
        let mut imported = imported([sample.format(), sanctum.clone()]);
        if sample.format() == sanctum {
            imported = crate::common::imported([sanctum.clone()]);
        }
        if let Some(key) = &sample.hmac_key {
            imported = imported.site_secret("old", key.clone()).unwrap();
        }
        let params = keyward::hashing::Argon2Params::new(102_400, 2, 8).unwrap();
        let fixture = Fixture::with(Hashing::recommended().accept_argon2id(params), imported).await;
        let now = keyward::clock::Clock::now(&fixture.clock).unwrap();
        let issued_at = now - std::time::Duration::from_secs(3_600);
        let digest = sample.read_digest();
        let record = fixture
            .import(sample.as_key("1").issued_at(issued_at))
            .await;
        let log = fixture.store.events().unwrap();
        let events = log.read(Some(&tenant()), 0, 10).await.unwrap();
        let [sealed] = &events[..] else {
            panic!("{} events", events.len());
        };
        let event = &sealed.event;
        assert_eq!(event.action, EventAction::KeyImported);
        assert_eq!((event.key, event.at), (Some(record.id()), now));
        let told = |field: &str| {
            let change = event.changes.iter().find(|change| change.field == field);
            change.and_then(|change| change.to.clone())
        };
        assert_eq!(told("digest_scheme").as_deref(), Some(digest.scheme()));
        let format = sample.format();
        assert_eq!(told("foreign_format").as_deref(), Some(format.name()));

        let mut written = Written(event.to_line());
        written.debug(event);
        written.debug(&record);
        let view = record.view(record.created_at());
        written.0 += &serde_json::to_string(&view).unwrap();
        written.debug(&view);
        written.assert_without(&sample.secret);
        for part in parts_of(&sample.digest) {
            written.assert_without(part);
        }
        let document = fixture.stored(record.id()).await.document;
        assert!(!String::from_utf8_lossy(&document).contains(&sample.secret));
    }
}

#[tokio::test]
async fn text_imports_have_our_digest_scheme() {
    let fixture = Fixture::new().await;
    fixture.import(by_text("7")).await;
    let log = fixture.store.events().unwrap();
    let events = log.read(None, 0, 10).await.unwrap();
    let line = events[0].event.to_line();
    assert!(
        line.contains(r#""field":"digest_scheme","from":null,"to":"own""#),
        "{line}"
    );
    Written(line).assert_without(SECRET);
}

#[tokio::test]
async fn fields_with_the_text_are_refused() {
    let key = |title: &str| NewKey::new(tenant(), title, READ);
    let metadata = serde_json::json!({"old_key": text("7")});
    for key in [
        key(&format!("was {}", text("7"))),
        key("a").owner(Principal::user(&text("7")).unwrap()),
        key("a").metadata(Metadata::try_from(metadata).unwrap()),
        key("a").resources(Resource::new("project", &text("7")).unwrap()),
    ] {
        let fixture = Fixture::new().await;
        let manager = fixture.keyward.manager();
        let imported = manager.import(&actor(), key, by_text("7")).await;
        assert!(
            matches!(
                imported,
                Err(ManageError::Invalid(InvalidKey::HoldsKey { .. }))
            ),
            "it was imported"
        );
    }
}

/// The part before the separator is shown in every list.
#[tokio::test]
async fn ids_holding_a_key_are_refused() {
    let fixture = Fixture::new().await;
    let manager = fixture.keyward.manager();
    let key = || NewKey::new(tenant(), "a", READ);
    let issued = manager.issue(&actor(), key()).await.unwrap();
    // What begins as a key is read as one, and refused as such.
    let id = format!("7-{}", &issued.api_key().expose()[..60]);
    let imported = ImportedKey::digest("legacy", &id, sha256());
    let imported = manager.import(&actor(), key(), imported).await;
    let error = imported.unwrap_err();
    let refused = ManageError::Invalid(InvalidKey::HoldsKey { field: "id" });
    assert_eq!(error.to_string(), refused.to_string());
}
