//! Bounds on the cost of digests, and on the bytes that bcrypt reads.

use keyward::hashing::{Argon2Params, Hashing, HashingError, Pepper};
use keyward::import::{ImportError, ImportedKey, LegacyDigest, LegacyError};
use keyward::key::PresentedKey;
use keyward::manager::ManageError;
use keyward::verifier::DenialReason;

use crate::common::{Fixture, SECRET, imported, legacy};
use crate::samples::LegacySample;

fn django_argon2() -> LegacySample {
    let mut samples = LegacySample::of("django");
    samples.retain(|sample| sample.digest.contains("m=102400"));
    samples.remove(0)
}

fn is_excessive(read: &Result<LegacyDigest, LegacyError>) -> bool {
    matches!(read, Err(LegacyError::ExcessiveDigest { .. }))
}

fn accepting_django() -> Hashing {
    let params = Argon2Params::new(102_400, 2, 8).unwrap();
    Hashing::recommended().accept_argon2id(params)
}

#[tokio::test]
async fn accepted_django_argon2_is_imported() {
    let sample = django_argon2();
    let fixture = Fixture::new().await;
    let refused = fixture.try_import(sample.as_key("1")).await.unwrap_err();
    assert!(matches!(
        refused,
        ManageError::Import(ImportError::Excessive { .. })
    ));
    assert!(refused.to_string().contains("accept_argon2id"));
    assert_eq!(fixture.status(&sample.sent("1")).await, 401);

    let fixture = Fixture::with(accepting_django(), imported([legacy()])).await;
    fixture.import(sample.as_key("1").entropy_bits(238)).await;
    // On a node that does not accept them yet, it is undecidable and its parameters are not used.
    let accepting = imported([legacy()]);
    let behind = fixture
        .reopened(|builder| builder.imported_keys(accepting))
        .await;
    let sent = sample.sent("1");
    let denial = behind.verify(PresentedKey::text(&sent)).await.unwrap_err();
    assert!(matches!(
        denial.reason(),
        DenialReason::Hashing(HashingError::Excessive)
    ));
    assert_eq!(denial.class().status(), 503);
    assert_eq!(behind.slow_hashes(), 0);

    assert_eq!(fixture.status(&sent).await, 200);
    assert_eq!(
        behind.status(&sent).await,
        200,
        "it is one of Keyward's now"
    );
}

#[test]
fn excessive_digests_are_refused() {
    let rest = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for params in [
        "m=4294967295,t=1,p=1",
        "m=2097153,t=1,p=1",
        "m=8,t=65,p=1",
        "m=1024,t=1,p=17",
        "m=4294967295,t=4294967295,p=4294967295",
    ] {
        let text = format!("$argon2id$v=19${params}{rest}");
        assert!(is_excessive(&LegacyDigest::argon2(&text)), "{params}");
        let text = format!("argon2{text}");
        assert!(is_excessive(&LegacyDigest::django(&text)));
    }
    let bcrypt =
        |cost: &str| format!("$2b${cost}$/zO2.Q5ALLwB..359U2pSuE.rAbiVsglyD2WKxk8G.fhFHTdvOwfG");
    for cost in ["16", "20", "31"] {
        assert!(is_excessive(&LegacyDigest::bcrypt(&bcrypt(cost))));
        for hasher in ["bcrypt", "bcrypt_sha256"] {
            let text = format!("{hasher}${}", bcrypt(cost));
            assert!(is_excessive(&LegacyDigest::django(&text)));
        }
    }
    for cost in ["00", "03", "32", "99", "4", "012", "+4", "-4", " 4"] {
        assert!(LegacyDigest::bcrypt(&bcrypt(cost)).is_err(), "{cost}");
    }
    let pbkdf2 = |times: &str| format!("pbkdf2_sha1${times}$salt$v0/fTmolNoF6Rr3Nfju+QmchYe0=");
    for times in ["4000001", "4294967295"] {
        assert!(is_excessive(&LegacyDigest::django(&pbkdf2(times))));
    }
    for times in ["0", "4294967296", "01", "-1", "1e3", ""] {
        assert!(LegacyDigest::django(&pbkdf2(times)).is_err(), "{times}");
    }
    for params in [
        (65_536, 9, 1),
        (131_072, 8, 1),
        (16_384, 8, 17),
        (2, 262_145, 1),
    ] {
        assert!(
            is_excessive(&LegacyDigest::django(&scrypt(params))),
            "{params:?}"
        );
    }
    for params in [
        (0, 8, 1),
        (1, 8, 1),
        (3, 8, 1),
        (16_384, 0, 1),
        (16_384, 8, 0),
    ] {
        assert!(LegacyDigest::django(&scrypt(params)).is_err());
    }
}

fn scrypt((n, r, p): (u32, u32, u32)) -> String {
    let output = format!("{}==", "A".repeat(86));
    format!("scrypt${n}$salt${r}${p}${output}")
}

#[test]
fn scrypt_memory_is_bounded() {
    for params in [(2, 262_144, 16), (2, 262_144, 2), (4, 131_072, 8)] {
        assert!(
            is_excessive(&LegacyDigest::django(&scrypt(params))),
            "{params:?}"
        );
    }
}

#[tokio::test]
async fn accepted_bcrypt_is_decidable() {
    let good = "$2b$04$xaxEOJmNXv3enTUPtmZDeOjCooyANDcVNQnHhbIYLklnj8QPPpvnS";
    let fixture = Fixture::new().await;
    for (number, at) in [28, 59].into_iter().enumerate() {
        let mut text = good.to_owned().into_bytes();
        text[at] = b'/';
        let text = String::from_utf8(text).unwrap();
        let Ok(digest) = LegacyDigest::bcrypt(&text) else {
            continue;
        };
        let id = number.to_string();
        fixture
            .import(ImportedKey::digest("legacy", &id, digest))
            .await;
        let sent = format!("{id}.{SECRET}");
        assert_ne!(fixture.status(&sent).await, 503, "{text}");
    }
}

fn longest() -> Vec<LegacySample> {
    let mut samples = LegacySample::all();
    samples.retain(|sample| sample.secret.len() == 72 && sample.digest.contains("$2b$"));
    assert_eq!(samples.len(), 2);
    samples
}

#[tokio::test]
async fn all_72_bcrypt_bytes_count() {
    for sample in longest() {
        let fixture = Fixture::new().await;
        fixture.import(sample.as_key("1").entropy_bits(400)).await;
        for _ in 0..2 {
            assert_eq!(fixture.status(&sample.sent("1")).await, 200);
        }
    }
}

#[tokio::test]
async fn longer_secrets_fail_under_bcrypt() {
    for sample in longest() {
        let fixture = Fixture::new().await;
        let id = fixture.import(sample.as_key("1")).await.id();
        let imported = fixture.digest(id).await;
        let sent = sample.sent("1");
        for longer in ["x", "0", "xx", &"x".repeat(100)] {
            assert_eq!(fixture.status(&format!("{sent}{longer}")).await, 401);
        }
        assert_eq!(fixture.status(&sent[..sent.len() - 1]).await, 401);
        assert_eq!(fixture.digest(id).await, imported);
    }
}

#[tokio::test]
async fn django_bcrypt_sha256_reads_it_all() {
    let mut samples = LegacySample::of("django");
    samples.retain(|sample| sample.digest.starts_with("bcrypt_sha256$$2b$04"));
    let fixture = Fixture::new().await;
    let sample = samples.remove(0);
    fixture.import(sample.as_key("1").entropy_bits(238)).await;
    let sent = sample.sent("1");
    assert_eq!(
        fixture.status(&format!("{sent}{}", "x".repeat(80))).await,
        401
    );
    assert_eq!(fixture.status(&sent).await, 200);
}

#[test]
fn weak_lookup_peppers_are_refused() {
    assert!(Pepper::new(1, vec![0; 32]).is_err());
    assert!(Pepper::new(1, (0..31).collect::<Vec<u8>>()).is_err());
}
