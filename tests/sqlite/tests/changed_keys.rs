//! Promise 31 for SQLite: a key that is updated while it is used is never refused because of it, whether this node or
//! another one updates it.
//!
//! `KEYWARD_VERIFICATIONS=100000` sets how many verifications each test makes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::manager::KeyUpdate;
use keyward::store::SqliteOptions;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use sqlite_store::{actor, builder, fast_folder, new_key, tenant};
use test_support::size;

const WRITERS: u64 = 3;
const VERIFIERS: u64 = 2;

fn verifications() -> u64 {
    size("KEYWARD_VERIFICATIONS", 2_000).into()
}

/// A node that waits for as long as a machine may stand still.
async fn node(file: &Path, cache: KeyCache) -> Keyward {
    let options = SqliteOptions::new().patience(Duration::from_mins(1));
    let builder = builder(options.open(file).unwrap()).cache(cache);
    builder.open().await.unwrap()
}

/// Verifies a key over and over on one node, while three writers update it on another one, back to back.
async fn update_without_end(verifying: Keyward, updating: Keyward) {
    let begun = Instant::now();
    let actor = actor();
    let tenant = tenant("acme-inc").unwrap();
    let issued = updating.manager().issue(&actor, new_key(&tenant, "a key"));
    let issued = Arc::new(issued.await.unwrap());
    let id = issued.record().id();
    let (updates, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (keyward, actor, tenant) = (updating.clone(), actor.clone(), tenant.clone());
        let (updates, is_over) = (Arc::clone(&updates), Arc::clone(&is_over));
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while !is_over.load(Ordering::SeqCst) {
                n += 1;
                let update = KeyUpdate::new().title(format!("{writer} {n}"));
                // The others may win so often that it is a conflict.
                let updated = keyward.manager().update(&actor, &tenant, id, update);
                updates.fetch_add(u64::from(updated.await.is_ok()), Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }));
    }
    while updates.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut verifiers = Vec::new();
    for _ in 0..VERIFIERS {
        let (keyward, issued) = (verifying.clone(), Arc::clone(&issued));
        verifiers.push(tokio::spawn(async move {
            let any = Requirement::any_key();
            for n in 0..verifications() / VERIFIERS {
                let attempt = Attempt::new(issued.api_key().presented(), &any);
                let verdict = keyward.verifier().verify(&attempt).await;
                assert!(verdict.is_ok(), "verification {n}: {verdict:?}");
                // So that writers get their turn where there is one processor.
                tokio::task::yield_now().await;
            }
        }));
    }
    for verifier in verifiers {
        verifier.await.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    println!(
        "{} verifications during {} updates in {:?}, none refused",
        verifications(),
        updates.load(Ordering::SeqCst),
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_updated_here_is_granted() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let dir = fast_folder().unwrap();
        let node = node(&dir.path().join("keys.db"), cache).await;
        update_without_end(node.clone(), node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_updated_elsewhere_is_granted() {
    for cache in [KeyCache::new(), KeyCache::off()] {
        let dir = fast_folder().unwrap();
        let file = dir.path().join("keys.db");
        let (verifying, updating) = (node(&file, cache).await, node(&file, cache).await);
        let following = tokio::spawn(verifying.background());
        update_without_end(verifying, updating).await;
        following.abort();
    }
}
