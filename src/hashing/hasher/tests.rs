//! Published digests, and their bindings.

use super::*;
use crate::key::{Access, Environment, KeyId};
use crate::testkit;

const SECRET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
const STRONG: SecretOrigin = SecretOrigin::Generated { entropy_bits: 256 };
const UNKNOWN: SecretOrigin = SecretOrigin::Imported { entropy_bits: None };

/// Answers from docs/format.md, computed by tests/fixtures/known_answers.py.
const ANSWERS: &str = include_str!("../../../docs/format.md");

/// A random source that yields the salt of the known answers.
#[derive(Debug)]
struct Salt;

impl RandomSource for Salt {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer
            .iter_mut()
            .zip(16..)
            .for_each(|(byte, value)| *byte = value);
        Ok(())
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}

fn answer(name: &str) -> &'static str {
    let line = ANSWERS.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap()
}

fn pepper(version: u32) -> Pepper {
    Pepper::new(version, (0..32).collect::<Vec<u8>>()).unwrap()
}

fn hasher(choice: Hashing) -> Hasher {
    Hasher::new(choice, Arc::new(Salt)).unwrap()
}

/// Returns the key of the known answers, before it has a digest.
async fn key(origin: SecretOrigin) -> KeyRecord {
    let (_, key) = testkit::keyward_with_key([], Access::Full).await;
    KeyRecord {
        id: KeyId::from_u128(0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f),
        environment: Environment::new("live").unwrap(),
        origin,
        digest: Digest::none(),
        ..key.record().clone()
    }
}

/// Returns the same key with its digest.
async fn kept(hasher: &Hasher, origin: SecretOrigin) -> KeyRecord {
    let key = key(origin).await;
    let digest = hasher.digest(&key, SECRET).await.unwrap();
    KeyRecord { digest, ..key }
}

async fn verify(
    hasher: &Hasher,
    record: &KeyRecord,
    secret: &[u8],
) -> Result<Possession, HashingError> {
    hasher.verify(record, secret, Purpose::Request).await
}

fn proven() -> Possession {
    Possession::Proven { outdated: false }
}

#[tokio::test]
async fn digests_are_the_published_ones() {
    let peppered = || Hashing::recommended().pepper(pepper(7));
    for (name, choice, origin) in [
        ("SHA-256 ", Hashing::recommended(), STRONG),
        ("HMAC-SHA-256 ", peppered(), STRONG),
        ("Argon2id ", Hashing::recommended(), UNKNOWN),
        ("with pepper 7 ", peppered(), UNKNOWN),
    ] {
        let hasher = hasher(choice);
        let record = kept(&hasher, origin).await;
        assert_eq!(record.digest.expose(), answer(name));
        for (secret, possession) in [
            (SECRET, proven()),
            (&SECRET[1..], Possession::Refuted),
            (b"".as_slice(), Possession::Refuted),
        ] {
            let verdict = verify(&hasher, &record, secret).await;
            assert_eq!(verdict.unwrap(), possession, "{name}");
        }
    }
    assert!(
        hasher(peppered())
            .pepper_checks()
            .eq([("pepper.7".to_owned(), answer("pepper.7").to_owned())])
    );
}

#[tokio::test]
async fn a_digest_binds_environment_and_id() {
    for (origin, in_another_row) in [(STRONG, None), (UNKNOWN, Some(Possession::Refuted))] {
        let hasher = hasher(Hashing::recommended());
        let record = kept(&hasher, origin).await;
        let moved = KeyRecord {
            environment: Environment::new("test").unwrap(),
            ..record.clone()
        };
        let verdict = verify(&hasher, &moved, SECRET).await;
        assert_eq!(verdict.unwrap(), Possession::Refuted);
        let copied = KeyRecord {
            id: KeyId::from_u128(7),
            ..record
        };
        let verdict = verify(&hasher, &copied, SECRET).await;
        match in_another_row {
            Some(possession) => assert_eq!(verdict.unwrap(), possession),
            // A fast digest names its row, so this is recognized as damage and not as a wrong secret.
            None => assert!(matches!(verdict, Err(HashingError::Malformed))),
        }
    }
}

#[tokio::test]
async fn weak_secrets_never_get_a_fast_hash() {
    for choice in [
        Hashing::recommended(),
        Hashing::recommended().pepper(pepper(1)),
    ] {
        let hasher = hasher(choice);
        for origin in [
            UNKNOWN,
            SecretOrigin::Imported {
                entropy_bits: Some(111),
            },
            SecretOrigin::Generated { entropy_bits: 111 },
        ] {
            let record = kept(&hasher, origin).await;
            assert!(record.digest.expose().starts_with("$keyward-argon2id$"));
            let better = hasher.improve(&record, SECRET, ()).await;
            assert_eq!(better.unwrap(), None);
        }
        // A weak secret that was hashed fast by mistake is moved to the slow hash.
        let record = KeyRecord {
            origin: UNKNOWN,
            ..kept(&hasher, STRONG).await
        };
        let better = hasher.improve(&record, SECRET, ()).await;
        let better = better.unwrap().unwrap();
        assert!(better.expose().starts_with("$keyward-argon2id$"));
    }
}

#[tokio::test]
async fn a_missing_pepper_is_undecidable() {
    for origin in [STRONG, UNKNOWN] {
        let with = hasher(Hashing::recommended().pepper(pepper(3)));
        let record = kept(&with, origin).await;
        let without = hasher(Hashing::recommended().pepper(pepper(4)));
        let verdict = verify(&without, &record, SECRET).await;
        assert!(matches!(
            verdict,
            Err(HashingError::UnknownPepper { version: 3 })
        ));
        let accepting = hasher(Hashing::recommended().accept_pepper(pepper(3)));
        let verdict = verify(&accepting, &record, SECRET).await;
        assert_eq!(verdict.unwrap(), proven());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hashing_wipes_the_secret() {
    use crate::wiping::leaves_no_trace;

    let hasher = hasher(Hashing::recommended());
    let record = key(UNKNOWN).await;
    let binding = Binding::of(&record);
    leaves_no_trace(|secret| {
        let (params, secret) = (Argon2Params::OWASP, secret.as_bytes());
        let work = hasher.argon2id(params, None, [0; 16], binding, secret, &hasher.hashes);
        work.unwrap()
    });
    leaves_no_trace(|secret| slow_work(secret.as_bytes(), &hasher.hashes, |_, _| Ok(())));
}
