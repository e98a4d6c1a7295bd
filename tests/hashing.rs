//! Keys kept in different ways, verified alike; and how a digest moves from one way to another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use keyward::hashing::{Argon2Params, Hashing, HashingError, Pepper};
use keyward::key::{KeyFormat, KeyId, PresentedKey, RevokeReason, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, Issued, NewKey};
use keyward::store::{KeyStore, MemoryStore};
use keyward::verifier::{Attempt, Denial, DenialReason, Requirement};
use keyward::{Builder, Keyward, OpenError, scope};

const READ: Scope = scope!("read:editions");

fn pepper(version: u32) -> Pepper {
    let seed = u8::try_from(version).unwrap();
    Pepper::new(
        version,
        (0..32).map(|byte: u8| byte ^ seed).collect::<Vec<_>>(),
    )
    .unwrap()
}

async fn node(store: &MemoryStore, hashing: Hashing) -> Keyward {
    builder(store).hashing(hashing).open().await.unwrap()
}

fn builder(store: &MemoryStore) -> Builder {
    Keyward::builder(store.clone())
        .format(KeyFormat::new("acme").unwrap().environment("live").unwrap())
        .scopes([READ.described("Read")])
        .policy(AllowAll)
}

async fn issue(keyward: &Keyward) -> Issued {
    let key = NewKey::new(TenantId::new("t").unwrap(), "key", READ);
    keyward
        .manager()
        .issue(&Actor::system("test"), key)
        .await
        .unwrap()
}

async fn verify(keyward: &Keyward, presented: PresentedKey<'_>) -> Result<KeyId, Denial> {
    let read = Requirement::scope(READ);
    let admitted = keyward
        .verifier()
        .verify(&Attempt::new(presented, &read))
        .await?;
    Ok(admitted.grant().key_id())
}

async fn scheme(store: &MemoryStore, id: KeyId) -> String {
    let stored = store.get(id).await.unwrap().unwrap();
    scheme_in(stored.digest.expose())
}

/// Waits for a digest that takes a slow hash, for which no verdict waits.
async fn until_it_is(store: &MemoryStore, id: KeyId, expected: &str) {
    let begun = Instant::now();
    while scheme(store, id).await != expected {
        assert!(begun.elapsed() < Duration::from_secs(120), "{expected}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn scheme_of(issued: &Issued) -> String {
    scheme_in(issued.record().digest().expose())
}

/// All of a digest but its salt and its hash.
fn scheme_in(digest: &str) -> String {
    digest
        .rsplitn(3, '$')
        .last()
        .unwrap()
        .trim_start_matches("$keyward-")
        .to_owned()
}

fn argon2id() -> Hashing {
    Hashing::argon2id(Argon2Params::OWASP)
}

#[tokio::test]
async fn every_algorithm_verifies_alike() {
    let store = MemoryStore::new();
    // One node that accepts all that any of the others makes, and would make none of it anew.
    let verifying = node(&store, Hashing::recommended().accept_pepper(pepper(1))).await;
    for (hashing, expected) in [
        (Hashing::recommended(), "sha256$v=1"),
        (
            Hashing::recommended().pepper(pepper(1)),
            "hmac-sha256$v=1$pepper=1",
        ),
        (argon2id(), "argon2id$v=1$m=19456,t=2,p=1"),
        (
            argon2id().pepper(pepper(1)),
            "argon2id$v=1$m=19456,t=2,p=1,pepper=1",
        ),
    ] {
        let issuing = node(&store, hashing).await;
        let issued = issue(&issuing).await;
        let id = issued.record().id();
        assert_eq!(scheme(&store, id).await, expected);
        let text_id = id.to_string();
        let pair = PresentedKey::pair(&text_id, issued.api_key().expose_secret());
        for keyward in [&issuing, &verifying] {
            for presented in [issued.api_key().presented(), pair] {
                assert_eq!(verify(keyward, presented).await.unwrap(), id);
            }
            let wrong = "x".repeat(43);
            let denial = verify(keyward, PresentedKey::pair(&text_id, &wrong))
                .await
                .unwrap_err();
            assert!(matches!(denial.reason(), DenialReason::WrongSecret));
        }
        assert_eq!(
            scheme(&store, id).await,
            expected,
            "what ranks no lower is left alone"
        );

        let tenant = TenantId::new("t").unwrap();
        let system = Actor::system("test");
        issuing
            .manager()
            .revoke(&system, &tenant, id, RevokeReason::Leaked)
            .await
            .unwrap();
        verifying.verifier().forget_all();
        let denial = verify(&verifying, issued.api_key().presented())
            .await
            .unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::Revoked { .. }));
    }
}

#[tokio::test]
async fn lower_digests_improve_on_use() {
    let store = MemoryStore::new();
    let issued = issue(&node(&store, Hashing::recommended()).await).await;
    let id = issued.record().id();
    let stronger = Argon2Params::new(65_536, 3, 1).unwrap();
    for (hashing, expected) in [
        (Hashing::recommended(), "sha256$v=1"),
        (
            Hashing::recommended().pepper(pepper(1)),
            "hmac-sha256$v=1$pepper=1",
        ),
        (
            Hashing::recommended().accept_pepper(pepper(1)),
            "hmac-sha256$v=1$pepper=1",
        ),
        (
            Hashing::recommended()
                .pepper(pepper(2))
                .accept_pepper(pepper(1)),
            "hmac-sha256$v=1$pepper=2",
        ),
        // A node that lags behind in the rollout does not turn it back.
        (
            Hashing::recommended()
                .pepper(pepper(1))
                .accept_pepper(pepper(2)),
            "hmac-sha256$v=1$pepper=2",
        ),
        // A stronger algorithm keeps the pepper, though it is no longer the one in use.
        (
            argon2id().accept_pepper(pepper(2)),
            "argon2id$v=1$m=19456,t=2,p=1,pepper=2",
        ),
        (
            argon2id().pepper(pepper(2)),
            "argon2id$v=1$m=19456,t=2,p=1,pepper=2",
        ),
        (
            Hashing::argon2id(stronger).accept_pepper(pepper(2)),
            "argon2id$v=1$m=65536,t=3,p=1,pepper=2",
        ),
        (
            Hashing::recommended().accept_pepper(pepper(2)),
            "argon2id$v=1$m=65536,t=3,p=1,pepper=2",
        ),
    ] {
        let keyward = node(&store, hashing).await;
        let before = store.get(id).await.unwrap().unwrap();
        let moves = !before
            .digest
            .expose()
            .contains(&format!("$keyward-{expected}$"));
        for _ in 0..2 {
            assert_eq!(
                verify(&keyward, issued.api_key().presented())
                    .await
                    .unwrap(),
                id
            );
            until_it_is(&store, id, expected).await;
        }
        let after = store.get(id).await.unwrap().unwrap();
        assert_eq!(after.revision, 1, "no change of the key");
        let stats = keyward.verifier().stats();
        assert_eq!(
            (stats.rehashed, stats.rehashes_failed),
            (u64::from(moves), 0)
        );
    }
    assert_eq!(
        store
            .events()
            .unwrap()
            .read(None, 0, 10)
            .await
            .unwrap()
            .len(),
        1,
        "no event"
    );
}

#[tokio::test]
async fn a_wrong_secret_rehashes_nothing() {
    let store = MemoryStore::new();
    let issued = issue(&node(&store, Hashing::recommended()).await).await;
    let id = issued.record().id();
    let keyward = node(&store, Hashing::recommended().pepper(pepper(1))).await;
    let wrong = "x".repeat(43);
    assert!(
        verify(&keyward, PresentedKey::pair(&id.to_string(), &wrong))
            .await
            .is_err()
    );
    assert_eq!(scheme(&store, id).await, "sha256$v=1");
}

#[tokio::test]
async fn a_lost_pepper_is_undecidable() {
    let store = MemoryStore::new();
    let issued = issue(&node(&store, Hashing::recommended().pepper(pepper(1))).await).await;
    for hashing in [
        Hashing::recommended(),
        Hashing::recommended().pepper(pepper(2)),
        argon2id(),
    ] {
        let denial = verify(&node(&store, hashing).await, issued.api_key().presented())
            .await
            .unwrap_err();
        let lost = HashingError::UnknownPepper { version: 1 };
        assert_eq!(denial.reason().to_string(), lost.to_string());
        assert_eq!(denial.class().status(), 503);
    }
}

#[tokio::test]
async fn keys_cannot_be_planted_unpeppered() {
    let store = MemoryStore::new();
    // Whoever can write the store can run this library on it.
    for planter in [Hashing::recommended(), argon2id()] {
        let planted = issue(&node(&store, planter).await).await;
        let lenient = node(&store, Hashing::recommended().pepper(pepper(1))).await;
        let strict = Hashing::recommended().pepper(pepper(1)).refuse_unpeppered();
        let strict = node(&store, strict).await;
        let denial = verify(&strict, planted.api_key().presented())
            .await
            .unwrap_err();
        assert_eq!(
            denial.reason().to_string(),
            HashingError::Unpeppered.to_string()
        );
        assert_eq!(denial.class().status(), 503);
        let own = issue(&strict).await;
        assert!(verify(&strict, own.api_key().presented()).await.is_ok());

        // Once it has moved under the pepper, it is a key like any other.
        assert!(
            verify(&lenient, planted.api_key().presented())
                .await
                .is_ok()
        );
        let peppered = match scheme_of(&planted).as_str() {
            "sha256$v=1" => "hmac-sha256$v=1$pepper=1".to_owned(),
            argon2id => format!("{argon2id},pepper=1"),
        };
        until_it_is(&store, planted.record().id(), &peppered).await;
        assert!(verify(&strict, planted.api_key().presented()).await.is_ok());
    }
    // A node that was started without its pepper does not open, and so issues nothing.
    let without = builder(&store).hashing(Hashing::recommended().refuse_unpeppered());
    assert!(matches!(without.open().await, Err(OpenError::NoPepper)));
}

#[tokio::test]
async fn concurrent_wrong_secrets_all_fail() {
    let store = MemoryStore::new();
    let keyward = node(&store, argon2id()).await;
    let issued = issue(&keyward).await;
    let (id, wrong) = (issued.record().id().to_string(), "x".repeat(43));
    let right = PresentedKey::pair(&id, issued.api_key().expose_secret());
    let wrong = PresentedKey::pair(&id, &wrong);
    let mut all: Vec<_> = (0..50)
        .map(|n| Box::pin(verify(&keyward, if n % 10 == 9 { right } else { wrong })))
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    let asked = all.iter_mut().map(|one| one.as_mut().poll(&mut context));
    let asked: Vec<_> = asked.collect();
    for ((one, asked), n) in all.into_iter().zip(asked).zip(0..) {
        let verified = match asked {
            Poll::Ready(verified) => verified,
            Poll::Pending => one.await,
        };
        match verified {
            Ok(_) => assert_eq!(n % 10, 9, "a wrong secret was accepted"),
            Err(denial) => {
                assert!(matches!(denial.reason(), DenialReason::WrongSecret));
                assert_ne!(n % 10, 9);
            }
        }
    }
}
