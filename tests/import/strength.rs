//! The hash that an imported secret is stored under depends only on its declared entropy.

use keyward::hashing::Hashing;
use keyward::import::{ImportError, ImportedKey, LegacyDigest, LegacyFormat};
use keyward::key::SecretOrigin;
use keyward::manager::ManageError;

use crate::common::{
    Fixture, SECRET, builder, by_digest, by_text, imported, legacy, lookup, pepper, sha256, text,
};

const SLOW: &str = "$keyward-argon2id$";

fn declared(key: ImportedKey, bits: Option<u16>) -> ImportedKey {
    match bits {
        Some(bits) => key.entropy_bits(bits),
        None => key,
    }
}

#[tokio::test]
async fn entropy_decides_the_hash() {
    let peppered = || Hashing::recommended().pepper(pepper(3, 100));
    for (hashing, fast) in [
        (Hashing::recommended(), "$keyward-sha256$"),
        (peppered(), "$keyward-hmac-sha256$"),
        (peppered().refuse_unpeppered(), "$keyward-hmac-sha256$"),
    ] {
        let fixture = Fixture::with(hashing, imported([legacy()])).await;
        for (id, bits, begins) in [
            ("1", None, SLOW),
            ("2", Some(0), SLOW),
            ("3", Some(111), SLOW),
            ("4", Some(112), fast),
            ("5", Some(256), fast),
        ] {
            let key = declared(ImportedKey::text("legacy", text(id)), bits);
            let record = fixture.import(key).await;
            assert_eq!(
                record.origin(),
                SecretOrigin::Imported { entropy_bits: bits }
            );
            let kept = fixture.digest(record.id()).await;
            assert!(kept.starts_with(begins), "{bits:?}: {kept}");
            assert_eq!(fixture.status(&text(id)).await, 200);
            assert_eq!(fixture.status(&format!("{}x", text(id))).await, 401);
            assert_eq!(
                fixture.digest(record.id()).await,
                kept,
                "it ranks as today's"
            );
        }
    }
}

#[tokio::test]
async fn argon2id_for_all_includes_imports() {
    let hashing = Hashing::argon2id(keyward::hashing::Argon2Params::OWASP);
    let fixture = Fixture::with(hashing, imported([legacy()])).await;
    let by_text = fixture.import(by_text("1")).await.id();
    assert!(fixture.digest(by_text).await.starts_with(SLOW));
    let by_digest = fixture.import(by_digest("2")).await.id();
    assert_eq!(fixture.status(&text("2")).await, 200);
    fixture.has_own_digest(by_digest).await;
    assert!(fixture.digest(by_digest).await.starts_with(SLOW));
}

#[tokio::test]
async fn weak_secrets_never_get_a_fast_hash() {
    for bits in [None, Some(111)] {
        let fixture = Fixture::new().await;
        let whole = declared(ImportedKey::text("legacy", text("1")), bits);
        let digest = declared(ImportedKey::digest("legacy", "2", sha256()), bits);
        let ids = [
            fixture.import(whole).await.id(),
            fixture.import(digest).await.id(),
        ];
        // The digest that came ranks as fast; its first use must not take it for one of Keyward's fast ones.
        for _ in 0..2 {
            for sent in [text("1"), text("2")] {
                assert_eq!(fixture.status(&sent).await, 200);
            }
        }
        fixture.has_own_digest(ids[1]).await;
        let hashing = Hashing::recommended().pepper(pepper(3, 100));
        let accepting = imported([legacy()]);
        let build = |builder: keyward::Builder| builder.hashing(hashing).imported_keys(accepting);
        let later = fixture.reopened(build).await;
        for (id, sent) in ids.into_iter().zip([text("1"), text("2")]) {
            let before = later.digest(id).await;
            assert!(before.starts_with(SLOW), "{before}");
            assert_eq!(later.status(&sent).await, 200);
            later.has_digest(id, |digest| digest == before).await;
            let peppered = later.digest(id).await;
            assert!(peppered.starts_with(SLOW) && peppered.contains("pepper=3"));
            assert_eq!(later.status(&sent).await, 200);
        }
    }
}

#[tokio::test]
async fn overstated_entropy_is_refused() {
    let fixture = Fixture::accepting([legacy(), LegacyFormat::opaque("opaque").unwrap()]).await;
    // 6.55 bits a character: 17 characters hold 111 bits, 18 hold 117.
    for (characters, bits, is_overstated) in [
        (8, 52, false),
        (8, 53, true),
        (17, 111, false),
        (17, 112, true),
        (18, 112, false),
        (18, 117, false),
        (18, 118, true),
        (18, u16::MAX, true),
    ] {
        let text = format!("{characters}-{bits}.{}", &SECRET[..characters]);
        let key = ImportedKey::text("legacy", text).entropy_bits(bits);
        let refused = matches!(
            fixture.try_import(key).await,
            Err(ManageError::Import(ImportError::Overstated))
        );
        assert_eq!(refused, is_overstated, "{characters} {bits}");
    }
    let pair = ImportedKey::pair(keyward::key::KeyId::from_u128(7), SECRET);
    for key in [
        ImportedKey::text("opaque", "sixteen-letters!").entropy_bits(112),
        pair.entropy_bits(300),
    ] {
        let refused = fixture.try_import(key).await;
        let is_overstated = matches!(refused, Err(ManageError::Import(ImportError::Overstated)));
        assert!(is_overstated, "{refused:?}");
    }
}

#[tokio::test]
async fn imports_are_peppered_on_first_use() {
    let hashing = Hashing::recommended()
        .pepper(pepper(3, 100))
        .refuse_unpeppered();
    let fixture = Fixture::with(hashing, imported([legacy()])).await;
    let id = fixture.import(by_digest("1")).await.id();
    assert_eq!(fixture.status(&text("1")).await, 200);
    assert!(
        fixture
            .digest(id)
            .await
            .starts_with("$keyward-hmac-sha256$v=1$pepper=3$")
    );
    assert_eq!(fixture.status(&text("1")).await, 200);
    // The lookup pepper is no pepper of digests.
    let hashing = Hashing::recommended().refuse_unpeppered();
    let unpeppered = builder(&fixture.store, &fixture.clock)
        .hashing(hashing)
        .imported_keys(keyward::import::ImportedKeys::under(lookup()));
    assert!(unpeppered.open().await.is_err());
}

#[tokio::test]
async fn short_secrets_move_to_the_slow_hash() {
    use sha2::Digest;
    let fixture = Fixture::accepting([legacy()]).await;
    for (characters, begins) in [(16, SLOW), (17, SLOW), (18, "$keyward-sha256$")] {
        let secret = &SECRET[..characters];
        let hex: String = sha2::Sha256::digest(secret)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let id = characters.to_string();
        let digest = LegacyDigest::sha256(&hex).unwrap();
        // Its length is not known when it is imported, and is when it is used.
        let key = ImportedKey::digest("legacy", &id, digest).entropy_bits(112);
        let record = fixture.import(key).await;
        assert_eq!(fixture.status(&format!("{id}.{secret}")).await, 200);
        fixture.has_own_digest(record.id()).await;
        let own = fixture.digest(record.id()).await;
        assert!(own.starts_with(begins), "{characters}: {own}");
        assert_eq!(fixture.status(&format!("{id}.{secret}")).await, 200);
        assert_eq!(fixture.digest(record.id()).await, own, "and stays there");
    }
}
