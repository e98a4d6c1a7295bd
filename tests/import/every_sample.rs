//! Every digest that another library made is imported, verifies, and is replaced by one of Keyward's on first use.

use keyward::hashing::{Argon2Params, Hashing};
use keyward::import::{LegacyDigest, LegacyHash};
use keyward::key::PresentedKey;

use crate::common::{Fixture, imported, nearly, pepper};
use crate::samples::LegacySample;

/// How a key is kept once it was used.
#[derive(Clone, Copy)]
enum Kept {
    Sha256,
    HmacSha256,
    Argon2id,
}

impl Kept {
    fn hashing(self) -> Hashing {
        // What Django's default asks for is more than is obeyed unasked.
        let django = Argon2Params::new(102_400, 2, 8).unwrap();
        let hashing = Hashing::recommended().accept_argon2id(django);
        match self {
            Self::HmacSha256 => hashing.pepper(pepper(3, 100)),
            _ => hashing,
        }
    }

    fn entropy_bits(self) -> Option<u16> {
        match self {
            Self::Argon2id => None,
            _ => Some(112),
        }
    }

    fn begins(self) -> &'static str {
        match self {
            Self::Sha256 => "$keyward-sha256$v=1$",
            Self::HmacSha256 => "$keyward-hmac-sha256$v=1$pepper=3$",
            Self::Argon2id => "$keyward-argon2id$v=1$m=19456,t=2,p=1$",
        }
    }
}

async fn fixture(kept: Kept, sample: &LegacySample) -> Fixture {
    // A fixture for each: two of the formats could read the same texts.
    let imported = imported([sample.format()]);
    let imported = match &sample.hmac_key {
        Some(key) => imported.site_secret("old", key.clone()).unwrap(),
        None => imported,
    };
    Fixture::with(kept.hashing(), imported).await
}

/// Imports a key, and uses it and what is nearly it.
async fn lives(fixture: &Fixture, sample: &LegacySample, id: &str, kept: Kept) {
    let name = &sample.made_by;
    let key = sample.as_key(id);
    let key = match kept.entropy_bits() {
        Some(bits) => key.entropy_bits(bits),
        None => key,
    };
    let record = fixture.import(key).await;
    let (id, sent) = (record.id(), sample.sent(id));
    let imported = fixture.digest(id).await;
    assert!(imported.starts_with("$keyward-foreign$v=1$"), "{name}");
    assert_eq!(record.legacy_format(), Some(sample.format().name()));

    let before = fixture.rehashed();
    // A slow one is asked once only.
    let tries = if sample.is_slow() { 1 } else { 3 };
    for wrong in nearly(&sent).iter().take(tries) {
        assert_eq!(fixture.status(wrong).await, 401, "{name}: {wrong}");
    }
    assert_eq!(fixture.digest(id).await, imported, "{name}");
    assert_eq!(fixture.rehashed(), before);

    let admitted = fixture.verify(PresentedKey::text(&sent)).await;
    let admitted = admitted.unwrap_or_else(|denial| panic!("{name}: {}", denial.reason()));
    assert_eq!(admitted.grant().record().id(), id);
    fixture.has_own_digest(id).await;
    let own = fixture.digest(id).await;
    // Declared entropy cannot exceed what a secret of this length can hold.
    let most = sample.secret.len() * 655 / 100;
    let is_short = kept
        .entropy_bits()
        .is_some_and(|bits| usize::from(bits) > most);
    let begins = if is_short {
        "$keyward-argon2id$"
    } else {
        kept.begins()
    };
    assert!(own.starts_with(begins), "{name}: {own}");

    for wrong in nearly(&sent) {
        assert_eq!(fixture.status(&wrong).await, 401, "{name}: {wrong}");
    }
    assert_eq!(fixture.status(&sent).await, 200, "{name}");
    assert_eq!(fixture.digest(id).await, own, "{name}");
    assert_eq!(fixture.rehashed(), before + 1);
}

async fn all_live(kept: Kept, which: impl Fn(&LegacySample) -> bool) {
    let mut samples = LegacySample::all();
    // What comes of a secret of bcrypt's full length is shown in `bounds`.
    samples.retain(|sample| which(sample) && sample.secret.len() != 72);
    assert!(samples.len() >= 10);
    for (number, sample) in samples.iter().enumerate() {
        let fixture = fixture(kept, sample).await;
        lives(&fixture, sample, &number.to_string(), kept).await;
    }
}

#[tokio::test]
async fn quick_digests_are_replaced_on_use() {
    for kept in [Kept::Sha256, Kept::HmacSha256, Kept::Argon2id] {
        let is_weak = matches!(kept, Kept::Argon2id);
        all_live(kept, |sample| {
            !(sample.is_slow() || is_weak && sample.is_sha1())
        })
        .await;
    }
}

// Half a minute in an unoptimised build: each of these libraries at its default cost.
#[tokio::test]
async fn slow_digests_are_replaced_on_use() {
    all_live(Kept::Sha256, LegacySample::is_slow).await;
}

#[test]
fn each_digest_fits_one_scheme() {
    // SHA-512/256 is as long as SHA-256.
    let mut samples = LegacySample::all();
    samples.retain(|sample| sample.scheme != "sha512-256-hex");
    for sample in samples {
        let text = &*sample.digest;
        let read = [
            LegacyDigest::sha256(text),
            LegacyDigest::base64(&LegacyHash::SHA256, text),
            LegacyDigest::hex(&LegacyHash::SHA512, text),
            LegacyDigest::base64(&LegacyHash::SHA512, text),
            LegacyDigest::hex(&LegacyHash::SHA1, text),
            LegacyDigest::hex(&LegacyHash::SHA384, text),
            LegacyDigest::argon2(text),
            LegacyDigest::bcrypt(text),
            LegacyDigest::django(text),
            LegacyDigest::passlib(text),
            LegacyDigest::werkzeug(text),
        ];
        let count = read.iter().filter(|read| read.is_ok()).count();
        // passlib writes Argon2 and bcrypt as everybody does.
        let expected = if matches!(&*sample.scheme, "argon2" | "bcrypt") {
            2
        } else {
            1
        };
        assert_eq!(count, expected, "{}", sample.made_by);
    }
}
