//! Who waits for a slow hash, and who does not. Memory and a flood are in `tests/slow_flood.rs`.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use keyward::hashing::Hashing;
use keyward::key::{KeyId, RevokeReason};
use keyward::verifier::DenialReason;

use crate::common::{Fixture, actor, new_key, now, tenant};
use crate::held_up::{HeldUp, guess, slow, verify, waiting};

/// Longer than anything here takes on any machine.
const HANG: Duration = Duration::from_secs(120);

async fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < HANG, "it does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn revoke(held: &HeldUp, id: KeyId) {
    let (manager, reason) = (held.node.manager(), RevokeReason::Leaked);
    let revoked = manager.revoke(&actor(), &tenant(), id, reason).await;
    revoked.unwrap();
}

#[tokio::test]
async fn fast_keys_wait_for_no_slow_hash() {
    let fixture = Fixture::new().await;
    let fast = fixture.issue(new_key()).await;
    let hashing = Hashing::recommended().max_concurrent_slow_hashes(NonZeroUsize::MIN);
    let held = HeldUp::over(&fixture, |builder| builder.hashing(hashing)).await;
    let guesses = (0..20).map(|number| waiting(guess(&held.node, held.holder, number)));
    let guesses: Vec<_> = guesses.collect();
    for _ in 0..200 {
        assert!(now(verify(&held.node, fast.api_key().presented())).is_ok());
    }
    held.release();
    for guess in guesses {
        let denial = guess.await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::WrongSecret));
    }
}

#[tokio::test]
async fn a_verdict_waits_for_no_slow_rehash() {
    let fixture = Fixture::new().await;
    let first = fixture.issue(new_key()).await;
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(fixture.issue(new_key()).await);
    }
    let held = HeldUp::over(&fixture, |builder| builder).await;
    let slow = held.node.manager();
    for key in std::iter::repeat_n(&first, 100).chain(&others) {
        assert!(now(verify(&held.node, key.api_key().presented())).is_ok());
    }
    // One permit, one rehash. None takes a place in the queue.
    let actor = actor();
    let issues = (0..64).map(|_| waiting(slow.issue(&actor, new_key())));
    let issues: Vec<_> = issues.collect();
    held.release();
    for issued in issues {
        issued.await.unwrap();
    }
    until(|| held.node.verifier().stats().rehashed == 1).await;
    assert_eq!(held.slow_hashes(), 64 + 1);
    let digest = async |id| fixture.stored(id).await.digest.expose().to_owned();
    let improved = digest(first.record().id()).await;
    assert!(improved.starts_with("$keyward-argon2id$"));
    for other in &others {
        assert!(
            digest(other.record().id())
                .await
                .starts_with("$keyward-sha256$")
        );
    }
    // The key was proven against its new digest.
    assert!(
        verify(&held.node, first.api_key().presented())
            .await
            .is_ok()
    );
    assert_eq!(held.slow_hashes(), 64 + 1);
}

#[tokio::test]
async fn a_rehash_skips_a_revoked_key() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let id = issued.record().id();
    let held = HeldUp::over(&fixture, |builder| builder).await;
    assert!(now(verify(&held.node, issued.api_key().presented())).is_ok());
    revoke(&held, id).await;
    held.release();
    until(|| held.node.verifier().stats().rehashes_failed == 1).await;
    assert_eq!(held.node.verifier().stats().rehashed, 0);
    assert_eq!(fixture.stored(id).await.digest, *issued.record().digest());
}

#[tokio::test]
async fn equal_requests_share_a_slow_hash() {
    let fixture = Fixture::with(slow()).await;
    let issued = fixture.issue(new_key()).await;
    let held = HeldUp::over(&fixture, |builder| builder).await;
    let presented = issued.api_key().presented();
    let all = (0..200).map(|_| waiting(verify(&held.node, presented)));
    let all: Vec<_> = all.collect();
    held.release();
    for one in all {
        assert_eq!(one.await.unwrap().grant().key_id(), issued.record().id());
    }
    assert_eq!(held.slow_hashes(), 1);
}

#[tokio::test]
async fn revocation_beats_a_waiting_hash() {
    let fixture = Fixture::with(slow()).await;
    let issued = fixture.issue(new_key()).await;
    let held = HeldUp::over(&fixture, |builder| builder).await;
    let verified = waiting(verify(&held.node, issued.api_key().presented()));
    revoke(&held, issued.record().id()).await;
    held.release();
    let denial = verified.await.expect_err("granted after it was revoked");
    assert!(matches!(denial.reason(), DenialReason::Revoked { .. }));
}

#[tokio::test]
async fn expiry_beats_a_waiting_hash() {
    let fixture = Fixture::with(slow()).await;
    let key = new_key().expires_in(Duration::from_secs(60));
    let issued = fixture.issue(key).await;
    let held = HeldUp::over(&fixture, |builder| builder).await;
    let verified = waiting(verify(&held.node, issued.api_key().presented()));
    fixture
        .clock
        .set(issued.record().restrictions().expires_at.unwrap());
    held.release();
    let denial = verified.await.expect_err("granted after it expired");
    assert!(matches!(denial.reason(), DenialReason::Expired));
}
