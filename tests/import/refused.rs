//! What could never be verified is refused at import, by a message that names the scheme, the version or the limit.

use std::ops::RangeInclusive;

use keyward::import::{
    ImportError, ImportedKey, LegacyDigest, LegacyError, LegacyFormat, LegacyHash,
};
use keyward::key::{KeyId, PresentedKey};
use keyward::manager::ManageError;
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, Requirement};
use proptest::prelude::*;
use tokio::runtime::Builder;

use crate::common::{Fixture, SHA256, actor, builder, clock, imported, legacy, new_key};
use crate::samples::LegacySample;

const BCRYPT: &str = "$04$xaxEOJmNXv3enTUPtmZDeOjCooyANDcVNQnHhbIYLklnj8QPPpvnS";

#[test]
fn errors_name_scheme_and_limit() {
    let hex32 = "a".repeat(64);
    let salt = "AAAAAAAAAAAAAAAAAAAAAA";
    let output = "A".repeat(43);
    for (read, expected) in [
        (LegacyDigest::bcrypt(&format!("$2x{BCRYPT}")), "`$2x$`"),
        (LegacyDigest::bcrypt(&format!("$2{BCRYPT}")), "`$2$`"),
        (
            LegacyDigest::bcrypt(&format!("$2b{}", &BCRYPT[..40])),
            "60 characters",
        ),
        (
            LegacyDigest::bcrypt(&format!("$2b{}", BCRYPT.replacen("04", "16", 1))),
            "cost of 15",
        ),
        (
            LegacyDigest::argon2(&format!("$argon2id$v=16$m=8192,t=3,p=1${salt}${output}")),
            "version 19",
        ),
        (
            LegacyDigest::argon2(&format!("$argon2id$v=19$m=8192,t=3,p=1$AAAA${output}")),
            "salt of 8",
        ),
        (
            LegacyDigest::argon2(&format!("$argon2id$v=19$m=8192,t=65,p=1${salt}${output}")),
            "64 passes",
        ),
        (LegacyDigest::sha256(&hex32[1..]), "SHA-256 in 64"),
        (
            LegacyDigest::hex(&LegacyHash::SHA384, &hex32),
            "SHA-384 in 96",
        ),
        (LegacyDigest::hex(&LegacyHash::SHA1, &hex32), "SHA-1 in 40"),
        (LegacyDigest::django("md5$salt$hash"), "MD5"),
        (LegacyDigest::django("sha1$salt$hash"), "SHA-1"),
        (LegacyDigest::django("hunter2$x$y"), "an unknown scheme"),
        (
            LegacyDigest::django("pbkdf2_sha256$4000001$salt$AA"),
            "4,000,000",
        ),
        (LegacyDigest::django("pbkdf2_sha256$1000$$AA"), "salt"),
        (
            LegacyDigest::passlib("$pbkdf2-sha256$5000000$AAAA$AAAA"),
            "4,000,000",
        ),
        (LegacyDigest::passlib("$pbkdf2-sha256$1000$$AAAA"), "salt"),
        (
            LegacyDigest::passlib("$6$rounds=5000$salt$hash"),
            "sha512-crypt",
        ),
        (
            LegacyDigest::passlib("$scrypt$ln=16,r=8,p=1$x$y"),
            "`$scrypt$`",
        ),
        (LegacyDigest::passlib(&format!("$2x{BCRYPT}")), "`$2x$`"),
        (LegacyDigest::werkzeug("md5$salt$hash"), "MD5"),
        (LegacyDigest::werkzeug("plain$$password"), "plain text"),
        (
            LegacyDigest::werkzeug(&format!("sha256$${hex32}")),
            "salted with 1",
        ),
        (
            LegacyDigest::werkzeug(&format!("scrypt:1048576:8:1$salt${hex32}")),
            "64 MiB",
        ),
        (
            LegacyDigest::werkzeug(&format!("scrypt:1024:8:1$salt${hex32}")),
            "64 bytes",
        ),
        (
            LegacyDigest::werkzeug(&format!("pbkdf2:sha256:0$salt${hex32}")),
            "iterations",
        ),
    ] {
        let error = read.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
        // A token that is mistaken for a digest must not come back in an error.
        assert!(
            !error.contains("hunter2") && !error.contains("password"),
            "{error}"
        );
    }
}

async fn refusal(fixture: &Fixture, key: ImportedKey) -> ImportError {
    match fixture.try_import(key).await {
        Err(ManageError::Import(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn bcrypt() -> LegacyDigest {
    LegacyDigest::bcrypt(&format!("$2b{BCRYPT}")).unwrap()
}

#[tokio::test]
async fn secrets_beyond_bcrypt_are_refused() {
    let long = legacy().secret_length(73..=100).unwrap();
    let whole = LegacyFormat::with_id("whole", '.').unwrap();
    let whole = whole.secret_length(72..=72).unwrap().digest_of_whole_text();
    for (format, id) in [(long, "7"), (whole.prefix("x").unwrap(), "7")] {
        let name = format.name().to_owned();
        let fixture = Fixture::accepting([format]).await;
        let error = refusal(&fixture, ImportedKey::digest(&name, id, bcrypt())).await;
        assert!(error.to_string().contains("72 bytes"), "{error}");
    }
    let fits = Fixture::accepting([legacy().secret_length(72..=100).unwrap()]).await;
    fits.import(ImportedKey::digest("legacy", "7", bcrypt()))
        .await;
    // The secrets of pairs are as long as the application's format says: 43 characters here.
    fits.import(ImportedKey::pair_digest(KeyId::from_u128(7), bcrypt()))
        .await;
}

#[tokio::test]
async fn texts_too_long_to_send_are_refused() {
    let format = legacy().prefix(&"p".repeat(64)).unwrap();
    let format = format.secret_length(200..=256).unwrap();
    let fixture = Fixture::accepting([format]).await;
    let digest = || LegacyDigest::sha256(SHA256).unwrap();
    let error = refusal(&fixture, ImportedKey::digest("legacy", "7", digest())).await;
    assert!(error.to_string().contains("256 characters"), "{error}");
}

#[tokio::test]
async fn sha1_needs_declared_entropy() {
    let fixture = Fixture::new().await;
    let digest = || LegacyDigest::hex(&LegacyHash::SHA1, &"a".repeat(40)).unwrap();
    let key = || ImportedKey::digest("legacy", "7", digest());
    for weak in [key(), key().entropy_bits(111)] {
        assert_eq!(refusal(&fixture, weak).await, ImportError::Weak);
    }
    fixture.import(key().entropy_bits(112)).await;
}

#[tokio::test]
async fn a_missing_site_secret_is_named() {
    let fixture = Fixture::new().await;
    let hash = LegacyHash::SHA256.secret_last("site");
    let digest = LegacyDigest::hex(&hash, SHA256).unwrap();
    let error = refusal(&fixture, ImportedKey::digest("legacy", "7", digest)).await;
    assert!(matches!(&error, ImportError::UnknownSiteSecret { name } if **name == *"site"));
}

#[tokio::test]
async fn texts_read_as_others_are_refused() {
    // The earlier format reads only the lengths in the middle of the later one's.
    let narrow = LegacyFormat::with_id("narrow", '.').unwrap();
    let wide = LegacyFormat::with_id("wide", '.').unwrap();
    let formats = [
        narrow.secret_length(30..=31).unwrap(),
        wide.secret_length(20..=40).unwrap(),
    ];
    let fixture = Fixture::accepting(formats).await;
    let digest = LegacyDigest::sha256(SHA256).unwrap();
    let error = refusal(&fixture, ImportedKey::digest("wide", "7", digest)).await;
    assert_eq!(error, ImportError::OtherFormat);
}

/// A legacy format of any shape, and an id for it.
#[derive(Debug, Clone)]
struct Shape {
    prefix: &'static str,
    separator: Option<char>,
    id: &'static str,
    lengths: RangeInclusive<usize>,
    is_whole: bool,
}

impl Shape {
    fn format(&self, name: &str) -> LegacyFormat {
        let format = match self.separator {
            Some(separator) => LegacyFormat::with_id(name, separator).unwrap(),
            None => LegacyFormat::opaque(name).unwrap(),
        };
        let format = format.prefix(self.prefix).unwrap();
        let format = format.secret_length(self.lengths.clone()).unwrap();
        if self.is_whole {
            format.digest_of_whole_text()
        } else {
            format
        }
    }

    /// The key with this secret, of which the SHA-256 is known, and its text.
    fn key(&self, name: &str, secret: &str) -> (ImportedKey, String) {
        let Some(separator) = self.separator else {
            let text = format!("{}{secret}", self.prefix);
            return (ImportedKey::opaque_digest(name, sha256_of(&text)), text);
        };
        let text = format!("{}{}{separator}{secret}", self.prefix, self.id);
        let covered = if self.is_whole { &*text } else { secret };
        let digest = sha256_of(covered);
        (ImportedKey::digest(name, self.id, digest), text)
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let prefixes = vec!["", "k-", "acme_", "acme_test_", "acme_live_", "Acme_Test_"];
    let separators = vec![None, Some('.'), Some('_'), Some('x'), Some('|')];
    let ids = vec!["7", "live", "test", "acme_test_7", "prod"];
    (
        prop::sample::select(prefixes),
        prop::sample::select(separators),
        prop::sample::select(ids),
        8_usize..100,
        0_usize..80,
        any::<bool>(),
    )
        .prop_map(|(prefix, separator, id, least, more, is_whole)| Shape {
            prefix,
            separator,
            id,
            lengths: least..=least + more,
            is_whole,
        })
}

fn sha256_of(covered: &str) -> LegacyDigest {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(covered);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    LegacyDigest::sha256(&hex).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Planted bugs that this catches: only the shortest and the longest text are tried; a format that begins as the
    /// application's own keys is read by its prefix, whatever its length.
    #[test]
    fn whatever_is_imported_verifies(
        shape in shapes(),
        others in prop::collection::vec(shapes(), 0..3),
        secret in "[0-9A-Za-wyz]{180}",
        length in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
    ) {
        let lengths: Vec<_> = shape.lengths.clone().collect();
        let secret = &secret[..lengths[length.index(lengths.len())]];
        let mut formats: Vec<_> = others
            .iter()
            .enumerate()
            .map(|(number, other)| other.format(&format!("other{number}")))
            .collect();
        formats.insert(place.index(formats.len() + 1), shape.format("any"));
        let (key, text) = shape.key("any", secret);
        let runtime = Builder::new_current_thread().build().unwrap();
        let verified = runtime.block_on(async {
            let builder = builder(&MemoryStore::new(), &clock());
            let keyward = builder.imported_keys(imported(formats)).open().await.ok()?;
            let manager = keyward.manager();
            manager.import(&actor(), new_key(), key.entropy_bits(112)).await.ok()?;
            let any = Requirement::any_key();
            let attempt = Attempt::new(PresentedKey::text(&text), &any);
            Some(keyward.verifier().verify(&attempt).await.map(drop))
        });
        if let Some(Err(denial)) = verified {
            panic!("{text}: {}", denial.reason());
        }
    }
}

#[tokio::test]
async fn every_sample_is_decided() {
    for sample in LegacySample::all() {
        if sample.is_slow() || sample.secret.len() == 72 {
            continue;
        }
        let accepting = imported([sample.format()]);
        let accepting = match &sample.hmac_key {
            Some(key) => accepting.site_secret("old", key.clone()).unwrap(),
            None => accepting,
        };
        let fixture = Fixture::with(keyward::hashing::Hashing::recommended(), accepting).await;
        fixture.import(sample.as_key("1")).await;
        assert_eq!(
            fixture.status(&sample.sent("1")).await,
            200,
            "{}",
            sample.made_by
        );
    }
}

#[test]
fn errors_have_no_text_of_the_digest() {
    let token = "hunter2hunter2hunter2hunter2hunter2hunter2";
    for read in [
        LegacyDigest::sha256(token),
        LegacyDigest::bcrypt(token),
        LegacyDigest::django(&format!("{token}$a$b")),
        LegacyDigest::passlib(&format!("${token}$a$b")),
        LegacyDigest::werkzeug(&format!("{token}$a$b")),
        LegacyDigest::hex(&LegacyHash::SHA256.hmac(&token.to_uppercase()), SHA256),
    ] {
        let error = read.unwrap_err();
        let shown = format!("{error} {error:?}").to_lowercase();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!matches!(error, LegacyError::NeedsFeature { .. }));
    }
}
