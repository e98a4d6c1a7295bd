//! Promise 8: for one algorithm and one cache state, all ways of failing do the same hashing.

use std::time::Duration;

use keyward::hashing::{Argon2Params, Hashing, Pepper};
use keyward::key::{Networks, PresentedKey, RevokeReason};
use keyward::manager::NewKey;
use keyward::verifier::{Attempt, KeyCache, Requirement, VerifierStats};
use serde_json::json;

use crate::common::{Fixture, READ, WRITE, actor, new_key, tenant};

/// Tags, fast hashes and slow hashes.
fn hashes(before: VerifierStats, after: VerifierStats) -> (u64, u64, u64) {
    (
        after.tag_hashes - before.tag_hashes,
        after.fast_hashes - before.fast_hashes,
        after.slow_hashes - before.slow_hashes,
    )
}

#[tokio::test]
async fn every_failure_hashes_alike() {
    for (hashing, expected) in algorithms() {
        let fixture =
            Fixture::built(|builder| builder.hashing(hashing).cache(KeyCache::off())).await;
        fails_alike(&fixture, expected).await;
    }
}

#[tokio::test]
async fn every_warm_failure_is_one_block() {
    for (hashing, _) in algorithms() {
        let fixture = Fixture::with(hashing).await;
        fails_alike(&fixture, (1, 0, 0)).await;
    }
}

fn algorithms() -> [(Hashing, (u64, u64, u64)); 3] {
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    [
        (Hashing::recommended(), (1, 1, 0)),
        (Hashing::recommended().pepper(pepper.clone()), (1, 1, 0)),
        (
            Hashing::argon2id(Argon2Params::OWASP).pepper(pepper),
            (1, 0, 1),
        ),
    ]
}

/// Tries every way; on warm keys, after their own secret was proven.
async fn fails_alike(fixture: &Fixture, expected: (u64, u64, u64)) {
    let is_warm = expected == (1, 0, 0);
    {
        let verifier = fixture.keyward.verifier();
        for way in ways(fixture).await {
            let (id, secret) = (way.id.as_str(), way.secret.as_str());
            let requirement = Requirement::scope(way.scope);
            if is_warm {
                let owner = PresentedKey::pair(id, &way.own_secret);
                let _ = verifier.verify(&Attempt::new(owner, &requirement)).await;
            }
            let attempt = Attempt::new(PresentedKey::pair(id, secret), &requirement);
            let before = verifier.stats();
            let verdict = verifier.verify(&attempt).await;
            assert_eq!(verdict.is_ok(), way.is_granted, "{}", way.name);
            assert_eq!(hashes(before, verifier.stats()), expected, "{}", way.name);
        }

        // Ids are public: an unknown one may be told from a wrong secret, and costs nothing.
        let before = verifier.stats();
        let nobody = uuid::Uuid::from_u128(7).to_string();
        let verdict = fixture
            .verify(PresentedKey::pair(&nobody, &"x".repeat(43)))
            .await;
        assert!(verdict.is_err());
        let (_, fast, slow) = hashes(before, verifier.stats());
        assert_eq!((fast, slow), (0, 0));
    }
}

struct Way {
    name: &'static str,
    id: String,
    secret: String,
    own_secret: String,
    scope: keyward::key::Scope,
    is_granted: bool,
}

async fn ways(fixture: &Fixture) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add =
        |name, issued: &keyward::manager::Issued, secret: Option<String>, scope, is_granted| {
            let key = issued.api_key();
            ways.push(Way {
                name,
                id: key.id().to_string(),
                secret: secret.unwrap_or_else(|| key.expose_secret().to_owned()),
                own_secret: key.expose_secret().to_owned(),
                scope,
                is_granted,
            });
        };
    let good = fixture.issue(new_key()).await;
    let secret = good.api_key().expose_secret();
    let other = |at: usize| {
        let mut wrong = secret.to_owned();
        let digit = if wrong[at..].starts_with('a') {
            "b"
        } else {
            "a"
        };
        wrong.replace_range(at..=at, digit);
        Some(wrong)
    };
    add("granted", &good, None, READ, true);
    add("first character wrong", &good, other(0), READ, false);
    add("last character wrong", &good, other(42), READ, false);
    add("all wrong", &good, Some("x".repeat(43)), READ, false);
    add("scope missing", &good, None, WRITE, false);

    let revoked = fixture.issue(new_key()).await;
    let manager = fixture.keyward.manager();
    let id = revoked.record().id();
    manager
        .revoke(&actor(), &tenant(), id, RevokeReason::Leaked)
        .await
        .unwrap();
    add("revoked", &revoked, None, READ, false);
    add(
        "revoked and wrong",
        &revoked,
        Some("x".repeat(43)),
        READ,
        false,
    );

    let suspended = fixture.issue(new_key()).await;
    let at = json!("2027-01-01T00:00:00Z");
    fixture
        .tamper_document(suspended.record().id(), "suspended_at", at)
        .await;
    add("suspended", &suspended, None, READ, false);

    let abroad = Networks::only(["203.0.113.0/24".parse().unwrap()]).unwrap();
    let abroad = fixture.issue(new_key().networks(abroad)).await;
    add("outside its networks", &abroad, None, READ, false);

    let later = new_key().not_before(manager_time(fixture) + Duration::from_secs(3_600));
    add(
        "not yet valid",
        &fixture.issue(later).await,
        None,
        READ,
        false,
    );

    let other = fixture.issue(new_key()).await;
    fixture
        .tamper_document(other.record().id(), "prefix", json!("other"))
        .await;
    add("of another format", &other, None, READ, false);

    let short = NewKey::new(tenant(), "short", READ).expires_in(Duration::from_secs(1));
    let expired = fixture.issue(short).await;
    fixture.clock.advance(Duration::from_secs(1));
    add("expired", &expired, None, READ, false);
    ways
}

fn manager_time(fixture: &Fixture) -> keyward::time::OffsetDateTime {
    keyward::clock::Clock::now(&fixture.clock).unwrap()
}
