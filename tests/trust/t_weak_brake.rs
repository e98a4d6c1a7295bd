//! A secret that could be guessed is guessed at a slow hash's pace: of consecutive wrong guesses at a key that is warm
//! at most a hundred are answered without one (NIST SP 800-63B-4 §3.2.2), and its owner is let in all the while, at no
//! cost. A strong secret needs no brake.

use std::num::NonZeroU32;

use keyward::hashing::{Argon2Params, Hashing};
use keyward::import::ImportedKey;
use keyward::key::{KeyId, PresentedKey};
use keyward::verifier::{Attempt, DenialReason, KeyCache, Requirement};

use crate::common::{Choices, Fixture, actor, new_key};

const MOST_FREE: u64 = 100;
const SECRET: &str = "correct0horse0battery0staple0correct0horse0";

/// A node that keeps one key, with the least slow hash that it accepts.
struct Guessed {
    fixture: Fixture,
    id: String,
    choices: Choices,
}

impl Guessed {
    async fn at(entropy_bits: Option<u16>) -> Self {
        // Seven mebibytes in five passes: the cheapest of OWASP's.
        let cheap = Argon2Params::new(7 * 1024, 5, 1).unwrap();
        let cache = KeyCache::new().lease(KeyCache::MAX_LEASE);
        let fixture = Fixture::built(|builder| {
            let hashing = Hashing::argon2id(cheap);
            builder.hashing(hashing).cache(cache)
        });
        let fixture = fixture.await;
        let id = KeyId::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        let key = ImportedKey::pair(id, SECRET);
        let key = entropy_bits
            .into_iter()
            .fold(key, ImportedKey::entropy_bits);
        let limit = NonZeroU32::new(1_000).unwrap();
        let (manager, new) = (fixture.keyward.manager(), new_key().concurrency(limit));
        manager.import(&actor(), new, key).await.unwrap();
        Self {
            fixture,
            id: id.to_string(),
            choices: Choices::new(7),
        }
    }

    fn slow_hashes(&self) -> u64 {
        self.fixture.keyward.verifier().stats().slow_hashes
    }

    /// How many slow hashes the owner's request costs.
    async fn owner(&self) -> u64 {
        let before = self.slow_hashes();
        let pair = PresentedKey::pair(&self.id, SECRET);
        let verdict = self.fixture.verify(pair).await;
        assert!(verdict.is_ok(), "{verdict:?}");
        self.slow_hashes() - before
    }

    /// How many slow hashes a wrong guess costs.
    async fn guess(&mut self) -> u64 {
        let before = self.slow_hashes();
        let mut wrong = SECRET.to_owned();
        wrong.truncate(23);
        wrong += &format!("{:020}", self.choices.next());
        let denial = self
            .fixture
            .verify(PresentedKey::pair(&self.id, &wrong))
            .await;
        let denial = denial.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::WrongSecret));
        self.slow_hashes() - before
    }
}

#[tokio::test]
async fn guesses_become_slow_after_a_hundred() {
    for bits in [None, Some(0), Some(111)] {
        let mut key = Guessed::at(bits).await;
        assert_eq!(key.owner().await, 1);
        assert_eq!(key.owner().await, 0, "warm");
        for guess in 0..MOST_FREE {
            assert_eq!(key.guess().await, 0, "guess {guess}");
        }
        for guess in MOST_FREE..MOST_FREE + 10 {
            assert_eq!(key.guess().await, 1, "guess {guess}");
            assert_eq!(key.owner().await, 0, "and the owner goes on as before");
        }
    }
}

#[tokio::test]
async fn the_owner_gives_no_more_guesses() {
    let mut key = Guessed::at(None).await;
    assert_eq!(key.owner().await, 1);
    let mut choices = Choices::new(3);
    let mut free = 0;
    for _ in 0..200 {
        if choices.chance(10) {
            assert_eq!(key.owner().await, 0);
        }
        if choices.chance(50) {
            // What is read anew has the same digest, and so the same proof and the same guesses behind it.
            key.fixture.keyward.verifier().forget_all();
        }
        free += u64::from(key.guess().await == 0);
    }
    assert_eq!(free, MOST_FREE);
}

#[tokio::test]
async fn a_strong_secret_has_no_brake() {
    for bits in [112, 256] {
        let mut key = Guessed::at(Some(bits)).await;
        assert_eq!(key.owner().await, 1);
        for guess in 0..5_000 {
            assert_eq!(key.guess().await, 0, "guess {guess}");
        }
        let any = Requirement::any_key();
        let attempt = Attempt::new(PresentedKey::pair(&key.id, SECRET), &any);
        let verdict = key.fixture.keyward.verifier().try_verify(&attempt);
        assert!(verdict.is_some_and(|verdict| verdict.is_ok()), "still warm");
    }
}
