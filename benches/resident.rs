//! Measures the memory of a resident key, at a million keys: `cargo bench -p keyward_tests --bench resident`.
//!
//! One node issues the keys. Another node over the same store verifies each key once and keeps it. The memory that
//! this second node allocated and did not free, divided by a million, is the size of a key: its slot, its places in
//! the map and in its segment, and its record.
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
use std::sync::Arc;
use std::time::Duration;

use keyward::key::{KeyFormat, KeyRecord, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, KeyQuery, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const READ: Scope = scope!("read:editions");
const KEYS: usize = 1_000_000;

/// Maximum bytes of the data that decisions read: everything but the record and the counters.
const MOST_DECIDED_ON: usize = 300;

/// Bytes of the counters: requests in flight, granted and refused requests, and the last use.
const COUNTERS: usize = 20;

/// Bytes of the fields beside the record: the verifier that read it, and its size.
const WITH_RECORD: usize = 16;

/// Returns the bytes allocated in the region and not freed.
fn grown(region: &Region<'_, System>) -> usize {
    let stats = region.change();
    let grown = stats.bytes_allocated as isize - stats.bytes_deallocated as isize;
    usize::try_from(grown).unwrap_or(0)
}

async fn open(store: &MemoryStore) -> Result<Keyward, Box<dyn Error>> {
    let cache = KeyCache::new()
        .max_bytes(64 << 30)
        .lease(KeyCache::MAX_LEASE);
    let keyward = Keyward::builder(store.clone())
        .format(KeyFormat::new("acme")?.environment("live")?)
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .cache(cache);
    Ok(keyward.open().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let issuing = open(&store).await?;
    let (actor, tenant) = (Actor::system("bench"), TenantId::new("acme-inc")?);
    let mut texts = Vec::with_capacity(KEYS);
    for _ in 0..KEYS {
        let new = NewKey::new(tenant.clone(), "measured", READ)
            .expires_in(Duration::from_secs(365 * 86_400));
        let issued = issuing.manager().issue(&actor, new).await?;
        texts.push(issued.api_key().expose().to_owned());
    }

    let keyward = open(&store).await?;
    let need = Requirement::scope(READ);
    let region = Region::new(ALLOCATOR);
    for text in &texts {
        keyward
            .verifier()
            .verify(&Attempt::new(PresentedKey::text(text), &need))
            .await?;
    }
    let whole = grown(&region) / KEYS;
    let stats = keyward.verifier().stats();

    // The record alone, often enough for a mean.
    let listed = issuing
        .manager()
        .list(&actor, &KeyQuery::of(&tenant).limit(100))
        .await?;
    let region = Region::new(ALLOCATOR);
    let records: Vec<Arc<KeyRecord>> = listed
        .keys
        .iter()
        .map(|key| key.encode().map(KeyRecord::decode))
        .map(|key| Arc::new(key.expect("encodes").expect("decodes")))
        .collect();
    let record = grown(&region) / records.len();

    println!("a resident key at {KEYS} keys: {whole} bytes, of which {record} are its record");
    println!(
        "counted against the bound: {} bytes a key",
        stats.resident_bytes / stats.resident_keys
    );
    assert_eq!(stats.resident_keys, KEYS as u64, "none was pushed out");
    let decided_on = whole - record - WITH_RECORD - COUNTERS;
    println!("{decided_on} bytes are decided on, and {COUNTERS} count");
    assert!(decided_on <= MOST_DECIDED_ON);
    assert!(
        whole as u64 * stats.resident_keys <= stats.resident_bytes,
        "the bound counts all of it"
    );
    Ok(())
}
