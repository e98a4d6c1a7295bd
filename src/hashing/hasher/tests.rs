//! Digests as they are published, and what they bind.

use super::*;
use crate::key::{Environment, KeyId};

const SECRET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
const STRONG: SecretOrigin = SecretOrigin::Generated { entropy_bits: 256 };
const UNKNOWN: SecretOrigin = SecretOrigin::Imported {
    declared_bits: None,
};

/// What docs/format.md publishes, computed by tests/fixtures/known_answers.py.
const ANSWERS: &str = include_str!("../../../docs/format.md");

/// Yields the salt of the known answers.
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
    Hasher::new(choice, None, Arc::new(Salt)).unwrap()
}

fn live() -> Environment {
    Environment::new("live").unwrap()
}

fn known(environment: &Environment) -> Binding<'_> {
    Binding {
        environment,
        id: KeyId::from_u128(0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f),
    }
}

fn sent(secret: &[u8]) -> Credential<'_> {
    Credential {
        id: KeyId::from_u128(0),
        environment: None,
        secret,
        text: secret,
        foreign: None,
    }
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
        let live = live();
        let digest = hasher.digest(known(&live), SECRET, origin).await.unwrap();
        assert_eq!(digest.expose(), answer(name));
        for (secret, possession) in [
            (SECRET, proven()),
            (&SECRET[1..], Possession::Refuted),
            (b"".as_slice(), Possession::Refuted),
        ] {
            let sent = sent(secret);
            let verdict = hasher.verify(&digest, known(&live), &sent, origin).await;
            assert_eq!(verdict.unwrap(), possession, "{name}");
        }
    }
    assert_eq!(
        hasher(peppered()).pepper_checks(),
        [("pepper.7".to_owned(), answer("pepper.7").to_owned())]
    );
}

#[tokio::test]
async fn a_digest_binds_environment_and_id() {
    let (live, test) = (live(), Environment::new("test").unwrap());
    let other = Binding {
        environment: &live,
        id: KeyId::from_u128(7),
    };
    for (origin, in_another_row) in [(STRONG, None), (UNKNOWN, Some(Possession::Refuted))] {
        let hasher = hasher(Hashing::recommended());
        let digest = hasher.digest(known(&live), SECRET, origin).await.unwrap();
        let moved = hasher
            .verify(&digest, known(&test), &sent(SECRET), origin)
            .await;
        assert_eq!(moved.unwrap(), Possession::Refuted);
        let copied = hasher.verify(&digest, other, &sent(SECRET), origin).await;
        match in_another_row {
            Some(verdict) => assert_eq!(copied.unwrap(), verdict),
            // A fast digest names its row, so that this is known to be damage and not a wrong secret.
            None => assert!(matches!(copied, Err(HashingError::Malformed))),
        }
    }
}

#[tokio::test]
async fn a_weak_secret_is_never_moved_to_a_fast_hash() {
    let live = live();
    for choice in [
        Hashing::recommended(),
        Hashing::recommended().pepper(pepper(1)),
    ] {
        let hasher = hasher(choice);
        for origin in [
            UNKNOWN,
            SecretOrigin::Imported {
                declared_bits: Some(111),
            },
            SecretOrigin::Generated { entropy_bits: 111 },
        ] {
            let digest = hasher.digest(known(&live), SECRET, origin).await.unwrap();
            assert!(digest.expose().starts_with("$keyward-argon2id$"));
            let better = hasher
                .improve(&digest, known(&live), SECRET, origin, ())
                .await;
            assert_eq!(better.unwrap(), None);
        }
        // One that was hashed fast by mistake is moved to the slow hash.
        let fast = hasher.digest(known(&live), SECRET, STRONG).await.unwrap();
        let better = hasher
            .improve(&fast, known(&live), SECRET, UNKNOWN, ())
            .await;
        assert!(
            better
                .unwrap()
                .unwrap()
                .expose()
                .starts_with("$keyward-argon2id$")
        );
    }
}

#[tokio::test]
async fn a_pepper_that_is_not_configured_is_undecidable() {
    let live = live();
    for origin in [STRONG, UNKNOWN] {
        let with = hasher(Hashing::recommended().pepper(pepper(3)));
        let digest = with.digest(known(&live), SECRET, origin).await.unwrap();
        let without = hasher(Hashing::recommended().pepper(pepper(4)));
        assert!(matches!(
            without
                .verify(&digest, known(&live), &sent(SECRET), origin)
                .await,
            Err(HashingError::UnknownPepper { version: 3 })
        ));
        let accepting = hasher(Hashing::recommended().accept_pepper(pepper(3)));
        assert_eq!(
            accepting
                .verify(&digest, known(&live), &sent(SECRET), origin)
                .await
                .unwrap(),
            Possession::Proven { outdated: false }
        );
    }
}

#[tokio::test]
async fn imported_argon2_reuses_the_hashers_memory() {
    let foreign = ForeignKeys::under(pepper(1));
    let hasher = Hasher::new(Hashing::recommended(), Some(foreign), Arc::new(Salt)).unwrap();
    let environment = live();
    let binding = known(&environment);
    for variant in ["argon2id", "argon2i", "argon2d"] {
        let output = "A".repeat(43);
        let text = format!("${variant}$v=19$m=64,t=1,p=1$c29tZXNhbHQ${output}");
        let imported = ForeignDigest::argon2(&text).unwrap();
        let kept = hasher
            .keep_foreign(binding, Coverage::Secret, &imported)
            .unwrap();
        let compared = hasher.verify(&kept, binding, &sent(SECRET), UNKNOWN).await;
        assert_eq!(compared.unwrap(), Possession::Refuted);
        assert_eq!(hasher.memory.kept().len(), 1, "{variant}");
    }
}
