//! Compares Keyward's verification with other ways to check credentials in Rust, in one process and round by round.
//!
//! ```sh
//! cargo run --release --locked --manifest-path benches/peers/Cargo.toml
//! ```
//!
//! No two of these do the same, so read the figures with this table. All state is in memory. Each check gets a valid
//! credential as text, begins by parsing that text, and ends with the data that a handler would get.
//!
//! | | reads | proves by | looks up | expiry | scope | revocation | limits |
//! |---|---|---|---|---|---|---|---|
//! | keyward | five parts | a keyed tag, in constant time | by id | yes | yes | yes | no, or two, strict |
//! | armature-auth | nothing | HMAC-SHA-256 of the whole text | by hash | yes | yes | yes | one fixed window |
//! | jsonwebtoken | header and claims | HMAC-SHA-256 or Ed25519 | no: in the claims | yes | by hand | no | no |
//! | prefixed-api-key | three parts | SHA-256 of the last | no | no | no | no | no |
//! | by hand, by digest | nothing | SHA-256 of the whole text | by digest | yes | yes | yes | two |
//! | by hand, by id | prefix, id, secret | SHA-256 of the secret | by id | yes | yes | yes | no, or two |
//! | api-keys-simplified | parts and checksum | Argon2id, each time | no | in the text, if any | no | no | no |
//!
//! Moreover:
//! - Keyward's quotas are strict, and taken together or not at all. `governor` admits up to twice the limit in a
//!   window, and each quota by itself. `benches/limits.rs` compares limiters alone.
//! - Keyward and `armature-auth` record the use of a key; the others do not.
//! - `armature-auth` gets a store that costs as little as its trait permits: one lock, one clone of the record, one
//!   atomic store for the time of use. A database would cost a thousand times as much.
//! - `jsonwebtoken` verifies each algorithm with the faster of its two cryptographic backends.
//! - Handwritten checks tend to grow a lock, a map, a digest and a limiter. These two do the minimum that is correct.
//! - Many asynchronous checks share one `block_on`, so that no check pays for an executor.
//! - Argon2id is slow on purpose. The comparison is not about the hash but about who pays for it: each request, or
//!   only the first one with a secret that has been proven since.
#![expect(clippy::print_stdout, reason = "the comparison is what it is for")]

mod armature;
mod by_hand;
mod jwt;
#[path = "../../measure.rs"]
mod measure;
mod ours;
mod prefixed;
mod simplified;

use std::error::Error;
use std::hint::black_box;

use keyward::hashing::{Argon2Params, Hashing};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use self::armature::Armature;
use self::by_hand::{ByDigest, ById};
use self::jwt::Jwt;
use self::measure::{Bench, Row};
use self::ours::{Limits, Ours};
use self::prefixed::Prefixed;
use self::simplified::Simplified;

/// The scope that every route here needs.
const SCOPE: &str = "read:editions";

/// A limit per second that is counted and never reached.
const PER_SECOND: u32 = 100_000_000;
/// A limit per minute that is counted and never reached.
const PER_MINUTE: u32 = 4_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    compare_fast(&runtime)?;
    compare_slow(&runtime)
}

fn compare_fast(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let ours = runtime.block_on(Ours::open(Hashing::recommended(), Limits::None))?;
    let limited = runtime.block_on(Ours::open(Hashing::recommended(), Limits::Quotas))?;
    let armature = runtime.block_on(Armature::open())?;
    jwt::choose_fastest_backends()?;
    let (hs256, eddsa) = (Jwt::hs256()?, Jwt::eddsa()?);
    let prefixed = Prefixed::open()?;
    let (by_digest, by_id) = (ByDigest::open()?, ById::limited()?);
    let unlimited = ById::unlimited();

    let mut bench = bench();
    let keyward = row(&mut bench, "keyward", ours.text(), |text| ours.admits(text))?;
    let awaited = row_async(
        &mut bench,
        "keyward, verify().await",
        runtime,
        ours.text(),
        async |text| ours.admits_awaited(text).await,
    )?;
    let keyward_limited = row(&mut bench, "keyward, two quotas", limited.text(), |text| {
        limited.admits(text)
    })?;
    let armature = row_async(
        &mut bench,
        "armature-auth",
        runtime,
        armature.text(),
        async |text| armature.admits(text).await,
    )?;
    let hs256 = row(&mut bench, "jsonwebtoken HS256", hs256.text(), |text| {
        hs256.admits(text)
    })?;
    let eddsa = row(&mut bench, "jsonwebtoken EdDSA", eddsa.text(), |text| {
        eddsa.admits(text)
    })?;
    let prefixed = row(&mut bench, "prefixed-api-key", prefixed.text(), |text| {
        prefixed.admits(text)
    })?;
    let unlimited = row(
        &mut bench,
        "by hand, by id, no limits",
        unlimited.text(),
        |text| unlimited.admits(text),
    )?;
    let by_digest = row(
        &mut bench,
        "by hand, by digest, governor keyed ×2",
        by_digest.text(),
        |text| by_digest.admits(text),
    )?;
    let by_id = row(
        &mut bench,
        "by hand, by id, governor direct ×2",
        by_id.text(),
        |text| by_id.admits(text),
    )?;

    let results = bench.run();
    results.print_faster(keyward, armature, Some(4.0));
    results.print_faster(keyward, hs256, Some(8.0));
    results.print_faster(keyward, eddsa, None);
    results.print_faster(keyward, prefixed, Some(1.3));
    results.print_faster(awaited, armature, None);
    results.print_faster(keyward_limited, armature, None);
    results.print_faster(keyward, unlimited, None);
    results.print_faster(keyward_limited, by_digest, None);
    results.print_faster(keyward_limited, by_id, None);
    println!();
    Ok(())
}

fn compare_slow(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let slowly = Hashing::argon2id(Argon2Params::OWASP);
    let fast = runtime.block_on(Ours::open(Hashing::recommended(), Limits::None))?;
    let slow = runtime.block_on(Ours::open(slowly, Limits::None))?;
    let (by_default, like_ours) = (Simplified::by_default()?, Simplified::like(19_456, 2, 1)?);

    let mut bench = bench();
    row(&mut bench, "keyward, SHA-256 key", fast.text(), |text| {
        fast.admits(text)
    })?;
    let warm = row(
        &mut bench,
        "keyward, Argon2id key, warm",
        slow.text(),
        |text| slow.admits(text),
    )?;
    let by_default = row(
        &mut bench,
        "api-keys-simplified, its default (46 MiB, 1 pass)",
        by_default.text(),
        |text| by_default.admits(text),
    )?;
    let like_ours = row(
        &mut bench,
        "api-keys-simplified, as that key (19 MiB, 2 passes)",
        like_ours.text(),
        |text| like_ours.admits(text),
    )?;

    let results = bench.run();
    results.print_faster(warm, by_default, None);
    results.print_faster(warm, like_ours, None);
    Ok(())
}

fn bench<'a>() -> Bench<'a> {
    let block = [0x5a_u8; 64];
    Bench::new("SHA-256 of 64 B", move |iterations| {
        for _ in 0..iterations {
            black_box(Sha256::digest(black_box(&block)));
        }
    })
}

/// Adds the row of a check, after testing that it distinguishes a valid credential from an altered one.
fn row<'a>(
    bench: &mut Bench<'a>,
    name: &str,
    text: &'a str,
    admits: impl Fn(&str) -> bool + 'a,
) -> Result<Row, Box<dyn Error>> {
    tells_apart(name, admits(text), admits(&altered(text)))?;
    Ok(bench.row(name, None, move |iterations| {
        for _ in 0..iterations {
            assert!(admits(black_box(text)), "refused while it was measured");
        }
    }))
}

/// Adds the row of an asynchronous check, after testing that it distinguishes a valid credential from an altered one.
fn row_async<'a>(
    bench: &mut Bench<'a>,
    name: &str,
    runtime: &'a Runtime,
    text: &'a str,
    admits: impl AsyncFn(&str) -> bool + 'a,
) -> Result<Row, Box<dyn Error>> {
    let wrong = altered(text);
    let (good, bad) = runtime.block_on(async { (admits(text).await, admits(&wrong).await) });
    tells_apart(name, good, bad)?;
    Ok(bench.row(name, None, move |iterations| {
        runtime.block_on(async {
            for _ in 0..iterations {
                assert!(
                    admits(black_box(text)).await,
                    "refused while it was measured"
                );
            }
        });
    }))
}

fn tells_apart(name: &str, admits_good: bool, admits_altered: bool) -> Result<(), Box<dyn Error>> {
    if admits_good && !admits_altered {
        return Ok(());
    }
    Err(format!("{name}: good admitted: {admits_good}, altered admitted: {admits_altered}").into())
}

/// Replaces the character in the middle of the text, which every check here must notice.
fn altered(text: &str) -> String {
    let middle = text.len() / 2;
    let alter = |(at, character)| match character {
        'A' if at == middle => 'B',
        _ if at == middle => 'A',
        other => other,
    };
    text.char_indices().map(alter).collect()
}
