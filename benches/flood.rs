//! Ten million invalid keys: `cargo bench -p keyward_tests --bench flood`.
//!
//! It sends well-formed keys with random ids, and wrong secrets for known ids, between requests with ten thousand
//! keys that are in use. Each request with such a key must be decided without the store, and memory must stay within
//! its bound.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a benchmark fails by panicking, and is run for what it prints"
)]

use std::alloc::System;
use std::error::Error;
use std::time::Duration;

use keyward::key::{KeyFormat, KeyId, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const READ: Scope = scope!("read:editions");
const STRANGERS: u64 = 10_000_000;
const LIVE: usize = 10_000;
const MOST_BYTES: u64 = 32 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme")?.environment("live")?)
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .cache(
            KeyCache::new()
                .max_bytes(MOST_BYTES)
                .lease(KeyCache::MAX_LEASE),
        )
        .open()
        .await?;
    let (actor, tenant) = (Actor::system("bench"), TenantId::new("acme-inc")?);
    let (need, verifier) = (Requirement::scope(READ), keyward.verifier());
    let mut live = Vec::new();
    let mut idle = Vec::new();
    for index in 0..2 * LIVE {
        let new = NewKey::new(tenant.clone(), "in use", READ)
            .expires_in(Duration::from_secs(365 * 86_400));
        let issued = keyward.manager().issue(&actor, new).await?;
        if index % 2 == 0 {
            let text = issued.api_key().expose().to_owned();
            verifier
                .verify(&Attempt::new(PresentedKey::text(&text), &need))
                .await?;
            live.push(text);
        } else {
            idle.push(issued.record().id());
        }
    }
    let secret = "x".repeat(43);
    let region = Region::new(ALLOCATOR);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u128;
    let (mut hits, mut asked) = (0_u64, 0_u64);
    for stranger in 0..STRANGERS {
        chance = chance
            .wrapping_mul(0x2d99_787a_9e3f_0f53_8de1_9ac3_71b2_4c5d)
            .wrapping_add(7);
        // One in eight knows an id.
        let id = match stranger % 8 {
            0 => idle[(chance >> 64) as usize % idle.len()],
            _ => KeyId::from_u128(chance ^ (chance >> 64)),
        };
        let id = id.to_string();
        assert!(
            verifier
                .verify(&Attempt::new(PresentedKey::pair(&id, &secret), &need))
                .await
                .is_err()
        );
        if stranger % 100 == 0 {
            let key = &live[(chance >> 32) as usize % LIVE];
            asked += 1;
            let verdict = verifier.try_verify(&Attempt::new(PresentedKey::text(key), &need));
            hits += u64::from(verdict.is_some_and(|verdict| verdict.is_ok()));
        }
    }
    for key in &live {
        asked += 1;
        let verdict = verifier.try_verify(&Attempt::new(PresentedKey::text(key), &need));
        hits += u64::from(verdict.is_some_and(|verdict| verdict.is_ok()));
    }
    let stats = region.change();
    let grown = stats.bytes_allocated as isize - stats.bytes_deallocated as isize;
    let stats = verifier.stats();
    println!(
        "{STRANGERS} strangers: {hits} of {asked} requests with {LIVE} live keys decided at once"
    );
    println!(
        "{} bytes counted of at most {MOST_BYTES}; the heap grew by {grown}",
        stats.resident_bytes
    );
    assert_eq!(hits, asked, "strangers pushed nobody out");
    assert!(stats.resident_bytes <= MOST_BYTES);
    assert!(
        grown < MOST_BYTES as isize,
        "what strangers leave is bounded"
    );
    Ok(())
}
