//! Texts without an id inside, which are found by the digest that the old table holds.

use keyward::Keyward;
use keyward::hashing::Hashing;
use keyward::import::{ImportError, ImportedKey, LegacyDigest, LegacyFormat, LegacyHash};
use keyward::key::{KeyRecord, PresentedKey, TenantId};
use keyward::manager::{Actor, Ceiling, ManageError, NewKey};

use crate::common::{Fixture, READ, imported, nearly};
use crate::samples::LegacySample;

fn format_for(sample: &LegacySample) -> LegacyFormat {
    let format = LegacyFormat::opaque("opaque").unwrap();
    match sample.hash() {
        Some(hash) => format.found_by(hash),
        None => format,
    }
}

async fn fixture(sample: &LegacySample) -> Fixture {
    let mut imported = imported([format_for(sample)]);
    if let Some(key) = &sample.hmac_key {
        imported = imported.site_secret("old", key.clone()).unwrap();
    }
    Fixture::with(Hashing::recommended(), imported).await
}

fn unsalted() -> Vec<LegacySample> {
    let mut all = LegacySample::all();
    all.retain(|sample| sample.hash().is_some());
    assert_eq!(all.len(), 15);
    all
}

#[tokio::test]
async fn unsalted_digests_find_their_text() {
    for sample in unsalted() {
        let (fixture, name) = (fixture(&sample).await, &sample.made_by);
        let key = ImportedKey::opaque_digest("opaque", sample.read_digest()).entropy_bits(112);
        let id = fixture.import(key).await.id();
        let imported = fixture.digest(id).await;
        for wrong in nearly(&sample.secret) {
            assert_eq!(fixture.status(&wrong).await, 401, "{name}");
        }
        assert_eq!(fixture.digest(id).await, imported);
        let sent = PresentedKey::text(&sample.secret);
        let admitted = fixture.verify(sent).await.unwrap();
        assert_eq!(admitted.grant().record().id(), id, "{name}");
        assert!(fixture.digest(id).await.starts_with("$keyward-sha256$"));
        assert_eq!(fixture.status(&sample.secret).await, 200);
        for wrong in nearly(&sample.secret) {
            assert_eq!(fixture.status(&wrong).await, 401, "{name}");
        }
    }
}

#[tokio::test]
async fn a_digest_and_its_text_are_one_key() {
    for sample in unsalted() {
        let (by_digest, by_text) = (fixture(&sample).await, fixture(&sample).await);
        let digest =
            || ImportedKey::opaque_digest("opaque", sample.read_digest()).entropy_bits(112);
        let text = || ImportedKey::text("opaque", sample.secret.clone()).entropy_bits(112);
        let id = by_digest.import(digest()).await.id();
        assert_eq!(by_text.import(text()).await.id(), id);
        for (fixture, other) in [(&by_digest, text()), (&by_text, digest())] {
            assert!(matches!(
                fixture.try_import(other).await,
                Err(ManageError::AlreadyImported { id: there }) if there == id
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn taken_imports_are_rate_limited() {
    let sample = unsalted().remove(0);
    let keyward = fixture(&sample).await.0.keyward;
    let secret = sample.secret;
    let theirs = import(&keyward, "theirs", secret.clone()).await.unwrap();
    // A migration is not limited, in parallel or run again.
    for _ in 0..2 {
        let texts = (0..300).map(|n| format!("{secret}{n:03}"));
        for imported in import_all(&keyward, texts).await {
            let is_there = matches!(imported, Err(ManageError::AlreadyImported { .. }));
            assert!(is_there || imported.is_ok(), "{imported:?}");
        }
    }
    let mut taken = 0;
    for guess in import_all(&keyward, std::iter::repeat_n(secret.clone(), 300)).await {
        match guess.unwrap_err() {
            ManageError::IdTaken { id } if id == theirs.id() => taken += 1,
            ManageError::TooManyLookups => (),
            error => panic!("{error}"),
        }
    }
    assert_eq!(taken, 100);
    // At the limit, the text of no key is refused likewise.
    let new = format!("{secret}-new");
    for text in [&secret, &new] {
        let refused = import(&keyward, "mine", text.clone()).await;
        assert!(matches!(refused, Err(ManageError::TooManyLookups)));
    }
    assert!(import(&keyward, "another", new).await.is_ok());
}

async fn import_all(
    keyward: &Keyward,
    texts: impl Iterator<Item = String>,
) -> Vec<Result<KeyRecord, ManageError>> {
    let mut imports = tokio::task::JoinSet::new();
    for text in texts {
        let keyward = keyward.clone();
        imports.spawn(async move { import(&keyward, "mine", text).await });
    }
    imports.join_all().await
}

async fn import(keyward: &Keyward, tenant: &str, text: String) -> Result<KeyRecord, ManageError> {
    let tenant = TenantId::new(tenant).unwrap();
    let actor = Actor::user("admin", tenant.clone(), Ceiling::Unlimited).unwrap();
    let key = ImportedKey::text("opaque", text).entropy_bits(112);
    let new = NewKey::new(tenant, "key", READ);
    keyward.manager().import(&actor, new, key).await
}

#[tokio::test]
async fn unfindable_digests_are_refused() {
    let salted = LegacySample::of("bcrypt").remove(0);
    let all = unsalted();
    for sample in &all {
        let fixture = fixture(sample).await;
        let same = |other: &&LegacySample| format_for(other) != format_for(sample);
        let others = all.iter().filter(same).chain([&salted]);
        for other in others {
            let key = ImportedKey::opaque_digest("opaque", other.read_digest());
            assert!(matches!(
                fixture.try_import(key).await,
                Err(ManageError::Import(ImportError::Unfindable))
            ));
        }
    }
}

#[tokio::test]
async fn a_missing_site_secret_is_reported() {
    let (store, clock) = (keyward::store::MemoryStore::new(), crate::common::clock());
    let format = LegacyFormat::opaque("opaque").unwrap();
    let imported = imported([format.found_by(LegacyHash::SHA256.hmac("old"))]);
    let builder = crate::common::builder(&store, &clock).imported_keys(imported);
    let error = builder.open().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the legacy format `opaque` needs a site secret named `old`"
    );

    let fixture = Fixture::new().await;
    let sample = LegacySample::of("hmac-sha256-hex").remove(0);
    let error = fixture.try_import(sample.as_key("1")).await.unwrap_err();
    assert!(error.to_string().contains("`old`"), "{error}");
}

#[tokio::test]
async fn a_fixed_prefix_is_part_of_the_text() {
    let format = LegacyFormat::opaque("billing").unwrap();
    let format = format.prefix("sk_live_").unwrap();
    let fixture = Fixture::accepting([format.secret_length(24..=24).unwrap()]).await;
    let text = format!("sk_live_{}", &crate::common::SECRET[..24]);
    let key = ImportedKey::text("billing", text.clone()).entropy_bits(140);
    fixture.import(key).await;
    assert_eq!(fixture.status(&text).await, 200);
    for other in [
        text["sk_live_".len()..].to_owned(),
        text.replace("sk_live_", "sk_test_"),
        text.replace("sk_live_", "SK_LIVE_"),
        format!(" {text}"),
        format!("{text}\n"),
    ] {
        assert_eq!(fixture.status(&other).await, 401, "{other:?}");
    }
}

#[test]
fn site_secrets_are_checked() {
    let digest = "a".repeat(64);
    let long = "a".repeat(33);
    for name in ["", "A", "a_b", "a:b", "a$b", "é", &long] {
        assert!(imported([]).site_secret(name, "key").is_err(), "{name}");
        assert!(
            LegacyDigest::hex(&LegacyHash::SHA256.hmac(name), &digest).is_err(),
            "{name}"
        );
    }
    assert!(imported([]).site_secret("old", "").is_err());
}
