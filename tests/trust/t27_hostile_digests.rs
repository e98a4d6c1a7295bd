//! Promise 27: hostile stored digests (huge parameters, zero or one byte long, malformed, copied from another
//! row) never verify and are never obeyed. Likewise hostile documents.

use std::time::{Duration, Instant};

use keyward::hashing::{Argon2Params, Hashing, HashingError};
use keyward::key::{DecodeError, Digest, PresentedKey};
use keyward::verifier::{Denial, DenialClass, DenialReason};
use serde_json::json;

use crate::common::{Choices, Fixture, new_key};

const SALT: &str = "EBESExQVFhcYGRobHB0eHw";
const HASH: &str = "nfS1n82GxobNKLTMEdb9dgZrEblflubEzinDkQCsmlM";

/// What comes of presenting the right secret of a key whose digest was replaced by this one.
async fn with_digest(fixture: &Fixture, digest: &str) -> Denial {
    let issued = fixture.issue(new_key()).await;
    fixture.plant_digest(issued.record().id(), digest).await;
    fixture
        .verify(issued.api_key().presented())
        .await
        .expect_err("a hostile digest was accepted")
}

#[tokio::test]
async fn excessive_digests_are_not_obeyed() {
    let fixture = Fixture::new().await;
    for params in [
        "m=4294967295,t=1,p=1",
        "m=4294967295,t=4294967295,p=4294967295",
        "m=65537,t=1,p=1",
        "m=65536,t=17,p=1",
        "m=65536,t=1,p=5",
        "m=19456,t=4294967295,p=1",
    ] {
        let digest = format!("$keyward-argon2id$v=1${params}${SALT}${HASH}");
        let begun = Instant::now();
        let denial = with_digest(&fixture, &digest).await;
        assert!(
            matches!(
                denial.reason(),
                DenialReason::Hashing(HashingError::Excessive)
            ),
            "{params}: {}",
            denial.reason()
        );
        assert_eq!(denial.class(), DenialClass::Undecidable);
        // Not a measurement: obeying any of these would take minutes or more memory than there is.
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(fixture.keyward.verifier().stats().slow_hashes, 0);

    // Within the bounds it is obeyed, as wrong; and what is configured is always within them.
    let denial = with_digest(
        &fixture,
        &format!("$keyward-argon2id$v=1$m=8,t=1,p=1${SALT}${HASH}"),
    )
    .await;
    assert!(matches!(denial.reason(), DenialReason::WrongSecret));
    let large = Hashing::argon2id(Argon2Params::new(70_000, 1, 5).unwrap());
    let fixture = Fixture::with(large).await;
    let issued = fixture.issue(new_key()).await;
    assert!(fixture.verify(issued.api_key().presented()).await.is_ok());
}

#[tokio::test]
async fn malformed_digests_are_undecidable() {
    let fixture = Fixture::new().await;
    let good = {
        let issued = fixture.issue(new_key()).await;
        fixture
            .stored(issued.record().id())
            .await
            .digest
            .expose()
            .to_owned()
    };
    let mut hostile: Vec<String> = [
        "",
        "$",
        "$$",
        "$$$$",
        "x",
        "plain-text-password",
        "$keyward-sha256",
        "$keyward-sha256$",
        "$keyward-sha256$v=1",
        "$keyward-sha256$v=1$",
        "$keyward-sha256$v=1$$",
        "$keyward-sha256$v=1$$$",
        "$keyward-sha256$v=1$AAAAAAAAAAAAAAAAAAAAAA$",
        "$keyward-sha256$v=1$AAAAAAAAAAAAAAAAAAAAAA$AA",
        "$keyward-sha256$v=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
        "$keyward-sha256$v=2$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-md5$v=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$sha256$v=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=0,t=0,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=7,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=8,t=1,p=2$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=-1,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=4294967296,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$t=1,m=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$m=8,m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-argon2id$v=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-hmac-sha256$v=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$keyward-hmac-sha256$v=1$pepper=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ]
    .map(str::to_owned)
    .to_vec();
    hostile.push("a".repeat(512));
    hostile.push("$".repeat(512));
    // A usual digest, cut short everywhere and extended.
    hostile.extend((0..good.len()).map(|end| good[..end].to_owned()));
    hostile.extend(["A", "=", "$", "$AAAA"].map(|more| format!("{good}{more}")));
    for digest in hostile {
        let denial = with_digest(&fixture, &digest).await;
        assert_eq!(
            denial.class(),
            DenialClass::Undecidable,
            "{digest}: {}",
            denial.reason()
        );
    }
    assert!(Digest::new("a".repeat(513)).is_err());
    assert!(Digest::new("a\nb").is_err());
}

#[tokio::test]
async fn a_copied_digest_never_verifies() {
    for hashing in [
        Hashing::recommended(),
        Hashing::argon2id(Argon2Params::OWASP),
    ] {
        let fixture = Fixture::with(hashing).await;
        let (mine, theirs) = (
            fixture.issue(new_key()).await,
            fixture.issue(new_key()).await,
        );
        let my_digest = fixture.stored(mine.record().id()).await.digest;
        fixture
            .plant_digest(theirs.record().id(), my_digest.expose())
            .await;
        let their_id = theirs.record().id().to_string();
        for secret in [
            mine.api_key().expose_secret(),
            theirs.api_key().expose_secret(),
        ] {
            assert!(
                fixture
                    .verify(PresentedKey::pair(&their_id, secret))
                    .await
                    .is_err()
            );
        }
        assert!(fixture.verify(mine.api_key().presented()).await.is_ok());
    }
}

#[tokio::test]
async fn a_damaged_digest_never_verifies() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let id = issued.record().id();
    let good = fixture.stored(id).await.digest.expose().to_owned();
    let mut choices = Choices::new(27);
    for _ in 0..20_000 {
        let mut damaged = good.clone().into_bytes();
        for _ in 0..=choices.below(3) {
            let at = choices.below(damaged.len());
            match choices.below(3) {
                0 => damaged[at] = b'!' + u8::try_from(choices.below(94)).unwrap(),
                1 => drop(damaged.remove(at)),
                _ => damaged.insert(at, b"$=,0Aa"[choices.below(6)]),
            }
        }
        let damaged = String::from_utf8(damaged).unwrap();
        if damaged != good {
            fixture.plant_digest(id, &damaged).await;
            assert!(
                fixture.verify(issued.api_key().presented()).await.is_err(),
                "{damaged}"
            );
        }
    }
    fixture.plant_digest(id, &good).await;
    assert!(
        fixture.verify(issued.api_key().presented()).await.is_ok(),
        "the damage was all there was"
    );
}

#[tokio::test]
async fn broken_documents_are_undecidable() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let id = issued.record().id();
    let good = fixture.stored(id).await;
    let read = async || fixture.verify(issued.api_key().presented()).await;
    let document: serde_json::Value = serde_json::from_slice(&good.document).unwrap();
    let mut hostile: Vec<Vec<u8>> = (0..good.document.len())
        .map(|end| good.document[..end].to_vec())
        .collect();
    hostile.push(b"null".to_vec());
    hostile.push(b"[]".to_vec());
    hostile.push(vec![0xff; 100]);
    hostile.push("[".repeat(200_000).into_bytes());
    hostile.push(vec![b' '; 300_000]);
    for (field, value) in [
        ("unknown", json!(true)),
        ("restrictions", json!(null)),
        ("restrictions/unknown", json!(true)),
        ("restrictions/access", json!("everything")),
        (
            "restrictions/access",
            json!({"type": "scopes", "scopes": []}),
        ),
        (
            "restrictions/access",
            json!({"type": "scopes", "scopes": ["a b"]}),
        ),
        ("restrictions/access", json!({"type": "scopes"})),
        (
            "restrictions/access",
            json!({"type": "scopes", "scopes": null}),
        ),
        ("restrictions/access", json!({"scopes": ["read"]})),
        (
            "restrictions/access",
            json!({"type": "full", "scopes": ["read"]}),
        ),
        ("restrictions/access", json!({"type": "full", "unknown": 1})),
        ("restrictions/access", json!("full")),
        ("restrictions/resources", json!("any")),
        (
            "restrictions/resources",
            json!({"type": "any", "resources": ["project:a"]}),
        ),
        (
            "restrictions/resources",
            json!({"type": "any", "unknown": 1}),
        ),
        (
            "restrictions/networks",
            json!({"type": "any", "networks": null}),
        ),
        (
            "restrictions/networks",
            json!({"type": "any", "unknown": 1}),
        ),
        (
            "restrictions/resources",
            json!({"type": "only", "resources": []}),
        ),
        (
            "restrictions/resources",
            json!({"type": "only", "resources": ["Project:a"]}),
        ),
        (
            "restrictions/networks",
            json!({"type": "only", "networks": []}),
        ),
        (
            "restrictions/networks",
            json!({"type": "only", "networks": ["10.0.0.1/8"]}),
        ),
        ("restrictions/networks", json!(null)),
        ("environment", json!("")),
        ("environment", json!("TEST")),
        ("restrictions/concurrency", json!(0)),
        ("restrictions/concurrency", json!(-1)),
        (
            "restrictions/quotas",
            json!([{"name": "q", "limit": 0, "window_seconds": 60}]),
        ),
        (
            "restrictions/quotas",
            json!([{"name": "q", "limit": 1, "window_seconds": 60, "unknown": 1}]),
        ),
        ("restrictions/not_before", json!("tomorrow")),
        // Not the instant in the column.
        ("restrictions/expires_at", json!("2100-01-01T00:00:00Z")),
        ("suspended_at", json!(7)),
        ("origin", json!("unheard-of")),
        (
            "origin",
            json!({"type": "generated", "entropy_bits": 256, "unknown": 1}),
        ),
        ("origin", json!({"type": "generated", "entropy_bits": null})),
        ("origin", json!({"type": "imported"})),
        ("metadata", json!([])),
    ] {
        let mut changed = document.clone();
        let path = field.split('/');
        *path.fold(&mut changed, |within, name| &mut within[name]) = value;
        hostile.push(serde_json::to_vec(&changed).unwrap());
    }
    for within in ["", "/restrictions"] {
        let fields = document.pointer(within).unwrap().as_object().unwrap();
        for field in fields.keys() {
            let mut without = document.clone();
            let within = without.pointer_mut(within).unwrap();
            within.as_object_mut().unwrap().remove(field);
            hostile.push(serde_json::to_vec(&without).unwrap());
        }
    }
    for document in hostile {
        let text = String::from_utf8_lossy(&document)
            .chars()
            .take(300)
            .collect::<String>();
        fixture
            .tamper(id, |stored| stored.document = document.into())
            .await;
        let denial = read().await.expect_err(&text);
        let corrupt = matches!(
            denial.reason(),
            DenialReason::Unreadable(DecodeError::Corrupt { .. })
        );
        assert!(corrupt, "{}: {text}", denial.reason());
        assert_eq!(denial.class(), DenialClass::Undecidable);
    }

    for schema in [2, u16::MAX] {
        fixture
            .tamper(id, |stored| {
                stored.document.clone_from(&good.document);
                stored.schema = schema;
            })
            .await;
        let denial = read().await.unwrap_err();
        assert!(matches!(
            denial.reason(),
            DenialReason::Unreadable(DecodeError::TooNew { .. })
        ));
        assert_eq!(denial.class(), DenialClass::Undecidable);
    }
    fixture.tamper(id, |stored| stored.schema = 1).await;
    assert!(read().await.is_ok(), "the damage was all there was");
}
