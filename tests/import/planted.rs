//! An attacker who can write the store but lacks the lookup pepper gains nothing by legacy digests: a copied, altered
//! or invented digest never verifies, is undecidable, and its parameters are not used.

use keyward::hashing::{Hashing, HashingError, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest};
use keyward::key::{Environment, KeyFormat, KeyId, PresentedKey};
use keyward::manager::NewKey;
use keyward::verifier::{Attempt, DenialReason, Requirement};
use serde_json::json;

use crate::common::{
    Fixture, READ, SECRET, SHA256, actor, builder, by_digest, imported, legacy, pepper, sha256,
    tenant, text,
};
use crate::samples::LegacySample;

const TAG: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// An imported key whose digest the test replaces, and its text.
async fn victim(sample: &LegacySample) -> (Fixture, KeyId, String) {
    let mut imported = imported([legacy()]);
    if let Some(key) = &sample.hmac_key {
        imported = imported.site_secret("old", key.clone()).unwrap();
    }
    let fixture = Fixture::with(Hashing::recommended(), imported).await;
    let id = fixture.import(sample.as_key("1").entropy_bits(112)).await;
    (fixture, id.id(), sample.sent("1"))
}

/// One of each scheme that is quickly checked.
fn one_of_each() -> Vec<LegacySample> {
    let mut samples = LegacySample::all();
    samples
        .retain(|sample| sample.text.is_none() && !sample.is_slow() && sample.secret.len() != 72);
    let kind = |sample: &LegacySample| {
        let digest = sample.digest.split(['$', '1']).find(|part| part.len() > 1);
        (
            sample.scheme.clone(),
            digest.filter(|part| part.len() < 20).map(str::to_owned),
        )
    };
    samples.dedup_by_key(|sample| kind(sample));
    assert!(samples.len() >= 9, "{}", samples.len());
    samples
}

async fn assert_undecidable(fixture: &Fixture, id: KeyId, sent: &str, planted: &str) {
    fixture.plant_digest(id, planted).await;
    let before = fixture.keyward.verifier().stats();
    let denial = fixture.verify(PresentedKey::text(sent)).await;
    let denial = denial.err().unwrap_or_else(|| panic!("granted: {planted}"));
    assert_eq!(
        denial.class().status(),
        503,
        "{planted}: {}",
        denial.reason()
    );
    let after = fixture.keyward.verifier().stats();
    assert_eq!(
        after.slow_hashes, before.slow_hashes,
        "{planted} was obeyed"
    );
    assert_eq!(after.rehashed, before.rehashed);
    assert_eq!(fixture.digest(id).await, planted);
}

#[tokio::test]
async fn any_altered_byte_is_undecidable() {
    for sample in one_of_each() {
        let (fixture, id, sent) = victim(&sample).await;
        let good = fixture.digest(id).await;
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                if flipped[at].is_ascii_graphic() {
                    let flipped = String::from_utf8(flipped).unwrap();
                    assert_undecidable(&fixture, id, &sent, &flipped).await;
                }
            }
            let mut shorter = good.clone();
            shorter.remove(at);
            assert_undecidable(&fixture, id, &sent, &shorter).await;
            assert_undecidable(&fixture, id, &sent, &good[..at]).await;
        }
        for more in ["$", "0", "=", ":", "$AAAA"] {
            assert_undecidable(&fixture, id, &sent, &format!("{good}{more}")).await;
        }
        let upper = good.to_ascii_uppercase();
        assert_undecidable(&fixture, id, &sent, &upper).await;
        fixture.plant_digest(id, &good).await;
        assert_eq!(
            fixture.status(&sent).await,
            200,
            "the key works without the damage"
        );
    }
}

#[tokio::test]
async fn digests_do_not_move_between_rows() {
    let fixture = Fixture::new().await;
    let other = LegacyDigest::sha256(&"ab".repeat(32)).unwrap();
    let mine = fixture.import(by_digest("1")).await.id();
    let theirs = ImportedKey::digest("legacy", "2", other);
    let theirs = fixture.import(theirs.entropy_bits(238)).await.id();
    let (my_digest, their_digest) = (fixture.digest(mine).await, fixture.digest(theirs).await);
    // With the secret of the first, which the thief has, and the id of the second.
    assert_undecidable(&fixture, theirs, &text("2"), &my_digest).await;
    assert_undecidable(&fixture, mine, &text("1"), &their_digest).await;
    // Their tag with my digest, and mine with theirs.
    let cut = |digest: &str| {
        digest
            .rsplit_once('$')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let ((my_head, my_rest), (their_head, their_rest)) =
        (cut(&my_digest).unwrap(), cut(&their_digest).unwrap());
    let crossed = format!("{their_head}${my_rest}");
    assert_undecidable(&fixture, theirs, &text("2"), &crossed).await;
    assert_undecidable(
        &fixture,
        theirs,
        &text("2"),
        &format!("{my_head}${their_rest}"),
    )
    .await;
    // A native key, presented as itself, is not moved either.
    let issued = fixture.keyward.manager();
    let key = NewKey::new(tenant(), "native", READ);
    let issued = issued.issue(&actor(), key).await.unwrap();
    let native = issued.record().id();
    assert_undecidable(&fixture, native, issued.api_key().expose(), &my_digest).await;
    let native = native.to_string();
    let pair = PresentedKey::pair(&native, SECRET);
    assert_eq!(fixture.status_of(pair).await, 503);

    fixture.plant_digest(mine, &my_digest).await;
    assert_eq!(fixture.status(&text("1")).await, 200);
    // The digest that replaced it names its row too.
    let own = fixture.digest(mine).await;
    assert_undecidable(&fixture, theirs, &text("2"), &own).await;
}

#[tokio::test]
async fn environments_cannot_be_relabelled() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("1")).await.id();
    // The format of this one has both environments, and tests' clocks are refused there.
    let format = KeyFormat::new("acme").unwrap();
    let format = format
        .environment("test")
        .unwrap()
        .environment("live")
        .unwrap();
    let both = builder(&fixture.store, &fixture.clock)
        .format(format)
        .clock(keyward::clock::SystemClock)
        .imported_keys(imported([legacy()]));
    let both = both.open().await.unwrap();
    let (test, live) = (
        Environment::new("test").unwrap(),
        Environment::new("live").unwrap(),
    );
    let (any, sent) = (Requirement::any_key(), text("1"));
    let ask = async |environment: Option<&Environment>| {
        let attempt = Attempt::new(PresentedKey::text(&sent), &any);
        let attempt = match environment {
            Some(environment) => attempt.environment(environment),
            None => attempt,
        };
        both.verifier().forget_all();
        match both.verifier().verify(&attempt).await {
            Ok(_) => 200,
            Err(denial) => denial.class().status(),
        }
    };
    let imported = fixture.digest(id).await;
    assert_eq!(ask(Some(&live)).await, 401);
    assert_eq!(fixture.digest(id).await, imported);
    fixture
        .tamper_document(id, "environment", json!("live"))
        .await;
    for environment in [None, Some(&test), Some(&live)] {
        assert_eq!(ask(environment).await, 503);
    }
    fixture
        .tamper_document(id, "environment", json!("test"))
        .await;
    assert_eq!(ask(Some(&test)).await, 200);
    // Once it is one of Keyward's, the same secret is wrong there.
    fixture
        .tamper_document(id, "environment", json!("live"))
        .await;
    for environment in [None, Some(&test), Some(&live)] {
        assert_eq!(ask(environment).await, 401);
    }
}

#[tokio::test]
async fn a_foreign_pepper_is_undecidable() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("1")).await.id();
    for wrong in [
        pepper(1, 2),
        pepper(2, 2),
        Pepper::new(1, [1, 2].repeat(16)).unwrap(),
    ] {
        let imported = ImportedKeys::under(wrong).accept(legacy());
        let thiefs = Fixture::with(Hashing::recommended(), imported).await;
        // A pair's id is the importer's to choose: the tag is of this row but for the pepper.
        thiefs.import(ImportedKey::pair_digest(id, sha256())).await;
        let planted = thiefs.digest(id).await;
        assert!(planted.starts_with("$keyward-foreign$v=1$secret$"));
        assert_undecidable(&fixture, id, &text("1"), &planted).await;
    }
}

#[tokio::test]
async fn made_up_digests_are_not_obeyed() {
    let fixture = Fixture::new().await;
    let id = fixture.import(by_digest("1")).await.id();
    let output = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let zeros = format!("{}==", "A".repeat(86));
    let bcrypt = "/".repeat(53);
    let digests = [
        String::new(),
        ":".into(),
        format!("sha256:{SHA256}"),
        format!("sha512:{SHA256}"),
        format!("hmac-sha256:old:{SHA256}"),
        format!("argon2:$argon2id$v=19$m=4294967295,t=4294967295,p=4294967295${output}"),
        format!("argon2:$argon2id$v=19$m=65536,t=16,p=4${output}"),
        format!("bcrypt:$2b$31${bcrypt}"),
        format!("bcrypt:$2b$15${bcrypt}"),
        format!("bcrypt-sha256:$2b$15${bcrypt}"),
        format!("pbkdf2:pbkdf2_sha256$4294967295$salt${zeros}"),
        format!("scrypt:scrypt$1073741824$salt$1024$1024${zeros}"),
        format!("scrypt:scrypt$16384$salt$8$16${zeros}"),
        "plain:secret".into(),
    ];
    let real_tag = fixture
        .digest(id)
        .await
        .split('$')
        .nth(4)
        .unwrap()
        .to_owned();
    let zero_tag = "0".repeat(64);
    for digest in &digests {
        for covers in ["secret", "text", "", "nothing"] {
            for tag in ["", TAG, &zero_tag, "$", &real_tag] {
                let planted = format!("$keyward-foreign$v=1${covers}${tag}${digest}");
                if planted != fixture.digest(id).await && covers != "secret" || tag != real_tag {
                    assert_undecidable(&fixture, id, &text("1"), &planted).await;
                }
            }
        }
    }
    for planted in [
        "$keyward-foreign$",
        "$keyward-foreign$v=1",
        "$keyward-foreign$v=1$",
        "$keyward-foreign$v=1$$$",
        "$keyward-foreign$v=1$secret",
        "$keyward-foreign$v=1$secret$",
        "$keyward-foreign$v=2$secret$",
        "$keyward-foreigner$v=1$secret$",
        "$Keyward-imported$v=1$secret$",
    ] {
        for rest in ["", TAG, &format!("{TAG}$sha256:{SHA256}")] {
            let planted = format!("{planted}{rest}");
            assert_undecidable(&fixture, id, &text("1"), &planted).await;
        }
    }
    assert_eq!(fixture.slow_hashes(), 0);
}

#[tokio::test]
async fn a_raw_legacy_digest_is_undecidable() {
    for sample in LegacySample::all() {
        let fixture = Fixture::new().await;
        let id = fixture.import(by_digest("1")).await.id();
        assert_undecidable(&fixture, id, &text("1"), &sample.digest).await;
    }
}

#[tokio::test]
async fn a_missing_site_secret_is_undecidable() {
    let sample = LegacySample::of("hmac-sha256-hex").remove(0);
    let (fixture, id, sent) = victim(&sample).await;
    let accepting = imported([legacy()]);
    let without = fixture
        .reopened(|builder| builder.imported_keys(accepting))
        .await;
    let presented = PresentedKey::text(&sent);
    let denial = without.verify(presented).await.unwrap_err();
    assert!(matches!(
        denial.reason(),
        DenialReason::Hashing(HashingError::UnknownSiteSecret { name }) if **name == *"old"
    ));
    assert_eq!(denial.class().status(), 503);
    // Another key under the same name refutes, and replaces nothing.
    let other = imported([legacy()]).site_secret("old", "another key");
    let mistaken = fixture
        .reopened(|builder| builder.imported_keys(other.unwrap()))
        .await;
    assert_eq!(mistaken.status(&sent).await, 401);
    assert!(fixture.digest(id).await.starts_with("$keyward-foreign$"));
    assert_eq!(fixture.status(&sent).await, 200);
}

#[tokio::test]
async fn a_relabelled_origin_gains_nothing() {
    let fixture = Fixture::accepting([legacy(), keyward::import::LegacyFormat::sanctum()]).await;
    let id = fixture.import(by_digest("1")).await.id();
    let document = fixture.stored(id).await.document;
    for format in [json!(null), json!({"format": "sanctum", "shown": "1"})] {
        fixture.tamper_document(id, "foreign", format).await;
        for sent in [text("1"), format!("1|{SECRET}")] {
            assert_eq!(fixture.status(&sent).await, 401);
        }
        fixture
            .tamper(id, |stored| stored.document = document.clone())
            .await;
    }
    assert_eq!(fixture.status(&text("1")).await, 200);
}
