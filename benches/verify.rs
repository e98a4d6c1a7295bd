//! Measures verifications against SHA-256 of 64 bytes in the same run: `cargo bench -p keyward_tests --bench verify`.
//! With `-- --check-targets` a target that is missed is an error.
//!
//! Keys have an expiry and one scope, and the route requires that scope. Each request builds its attempt anew, as a
//! host does. The table of a million keys takes some 3 GB, most of it for their store.
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

#[path = "measure.rs"]
mod measure;

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use keyward::hashing::{Argon2Params, Hashing};
use keyward::key::{KeyFormat, PresentedKey, RevokeReason, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, scope};
use measure::{Bench, Target};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

const READ: Scope = scope!("read:editions");
const WRITE: Scope = scope!("write:editions");
const MILLION: usize = 1_000_000;

/// A Keyward that follows the feed, with the tenant and actor of its keys.
struct Fixture {
    keyward: Keyward,
    tenant: TenantId,
    actor: Actor,
}

impl Fixture {
    async fn open(hashing: Hashing, cache: KeyCache) -> Result<Self, Box<dyn Error>> {
        Self::over(MemoryStore::new(), hashing, cache).await
    }

    /// Creates a node that has used this many keys, which another node issued.
    async fn full(
        count: usize,
        cache: KeyCache,
        need: &Requirement,
    ) -> Result<(Self, Vec<String>), Box<dyn Error>> {
        let store = MemoryStore::new();
        let issuing = Self::over(store.clone(), Hashing::recommended(), KeyCache::off()).await?;
        let mut keys = Vec::with_capacity(count);
        for _ in 0..count {
            keys.push(issuing.issue(issuing.key()).await?);
        }
        let fixture = Self::over(store, Hashing::recommended(), cache).await?;
        for key in &keys {
            let attempt = Attempt::new(PresentedKey::text(key), need);
            fixture.keyward.verifier().verify(&attempt).await?;
        }
        Ok((fixture, keys))
    }

    async fn over(
        store: MemoryStore,
        hashing: Hashing,
        cache: KeyCache,
    ) -> Result<Self, Box<dyn Error>> {
        let keyward = Keyward::builder(store)
            .format(KeyFormat::new("acme")?.environment("live")?)
            .scopes([READ.described("Read"), WRITE.described("Write")])
            .policy(AllowAll)
            .hashing(hashing)
            .cache(cache)
            .open()
            .await?;
        tokio::spawn(keyward.background());
        // A record read before the first feed poll would be read again.
        while keyward.verifier().stats().feed_polls == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self {
            keyward,
            tenant: TenantId::new("acme-inc")?,
            actor: Actor::system("bench"),
        })
    }

    fn key(&self) -> NewKey {
        let year = Duration::from_secs(365 * 86_400);
        NewKey::new(self.tenant.clone(), "measured", READ).expires_in(year)
    }

    async fn issue(&self, key: NewKey) -> Result<String, Box<dyn Error>> {
        let issued = self.keyward.manager().issue(&self.actor, key).await?;
        Ok(issued.api_key().expose().to_owned())
    }

    /// Issues a key and uses it once.
    async fn warm(&self, key: NewKey, need: &Requirement) -> Result<String, Box<dyn Error>> {
        let text = self.issue(key).await?;
        let _ = self
            .keyward
            .verifier()
            .verify(&Attempt::new(PresentedKey::text(&text), need))
            .await;
        Ok(text)
    }

    /// Verifies at once. A key that needs the store or a slow hash is outside of this measurement, so it panics.
    fn ask<T: AsRef<[u8]> + ?Sized>(&self, text: &T, need: &Requirement, is_granted: bool) {
        let attempt = Attempt::new(PresentedKey::text(black_box(text)), need);
        match black_box(self.keyward.verifier().try_verify(&attempt)) {
            Some(verdict) => assert_eq!(verdict.is_ok(), is_granted),
            None => panic!("it was not decided at once"),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let roomy = KeyCache::new().max_bytes(8 << 30);
    let fixture = runtime.block_on(Fixture::open(Hashing::recommended(), roomy))?;
    let slow = runtime.block_on(Fixture::open(Hashing::argon2id(Argon2Params::OWASP), roomy))?;
    let unkept = runtime.block_on(Fixture::open(Hashing::recommended(), KeyCache::off()))?;
    let cold = runtime.block_on(unkept.issue(unkept.key()))?;
    let need = Requirement::scope(READ);
    let (hot, other, slow_key) = runtime.block_on(async {
        let hot = fixture.warm(fixture.key(), &need).await?;
        let other = fixture.warm(fixture.key(), &need).await?;
        Ok::<_, Box<dyn Error>>((hot, other, slow.warm(slow.key(), &need).await?))
    })?;
    let (town, town_keys) = runtime.block_on(Fixture::full(10_000, roomy, &need))?;
    eprintln!("issuing and using {MILLION} keys …");
    let (city, city_keys) = runtime.block_on(Fixture::full(MILLION, roomy, &need))?;
    let refused = runtime.block_on(refused(&fixture, &hot))?;
    let limited =
        runtime.block_on(fixture.warm(fixture.key().concurrency(NonZeroU32::MAX), &need))?;

    let lines = chain(256 << 20);
    let format = fixture.keyward.format();
    let parse = |iterations| {
        for _ in 0..iterations {
            let parsed = format.parse(black_box(hot.as_bytes()));
            assert!(black_box(parsed).is_ok());
        }
    };

    let block = [7_u8; 64];
    let mut bench = Bench::new("SHA-256 of 64 B", |iterations| {
        for _ in 0..iterations {
            black_box(Sha256::digest(black_box(&block)));
        }
    });
    let accept = bench.row("one hot key", Some(Target::Ratio(1.7)), |iterations| {
        for _ in 0..iterations {
            fixture.ask(&hot, &need, true);
        }
    });
    bench.row_timed(
        "10,000 keys, uniform",
        Some(Target::Ratio(2.3)),
        |iterations| {
            // The row of a million keys evicted these keys' cache lines.
            for key in &town_keys {
                town.ask(key, &need, true);
            }
            each(iterations, &town_keys, |key| town.ask(key, &need, true))
        },
    );
    bench.row_timed(
        "1,000,000 keys, uniform",
        Some(Target::Ratio(7.0)),
        |iterations| each(iterations, &city_keys, |key| city.ask(key, &need, true)),
    );
    bench.row_timed(
        "two threads, a key each",
        Some(Target::TimesRow(accept, 1.15)),
        |iterations| {
            two(|thread| {
                let key = if thread == 0 { &hot } else { &other };
                for _ in 0..iterations {
                    fixture.ask(key, &need, true);
                }
            })
        },
    );
    // The machine's own costs: the loss of two threads that share nothing, and the duration of one memory read.
    bench.row("(parsing alone)", None, parse);
    bench.row_timed("(two threads, parsing alone)", None, |iterations| {
        two(|_| parse(iterations))
    });
    let mut line = 0;
    bench.row("(one read in 256 MiB, by chance)", None, |iterations| {
        for _ in 0..iterations {
            line = lines[line][0];
        }
        black_box(line);
    });
    bench.row_timed("two threads, one key", None, |iterations| {
        two(|_| {
            for _ in 0..iterations {
                fixture.ask(&hot, &need, true);
            }
        })
    });
    bench.row(
        "bounded requests in flight",
        Some(Target::AddedTo(accept, 0.4)),
        |iterations| {
            for _ in 0..iterations {
                fixture.ask(&limited, &need, true);
            }
        },
    );
    bench.row(
        "kept under Argon2id, warm",
        Some(Target::TimesRow(accept, 1.1)),
        |iterations| {
            for _ in 0..iterations {
                slow.ask(&slow_key, &need, true);
            }
        },
    );
    for (name, key, need, target) in &refused {
        let target = match target {
            Some(ratio) => Target::Ratio(*ratio),
            None => Target::TimesRow(accept, 1.0),
        };
        bench.row(name, Some(target), |iterations| {
            for _ in 0..iterations {
                fixture.ask(key, need, false);
            }
        });
    }
    bench.row("awaited, one hot key", None, |iterations| {
        let verifier = fixture.keyward.verifier();
        runtime.block_on(async {
            for _ in 0..iterations {
                let attempt = Attempt::new(PresentedKey::text(black_box(&hot)), &need);
                assert!(black_box(verifier.verify(&attempt).await).is_ok());
            }
        });
    });
    bench.row("cold: read and proven anew", None, |iterations| {
        let verifier = unkept.keyward.verifier();
        runtime.block_on(async {
            for _ in 0..iterations {
                let attempt = Attempt::new(PresentedKey::text(black_box(&cold)), &need);
                assert!(black_box(verifier.verify(&attempt).await).is_ok());
            }
        });
    });
    bench.row_timed("cold, kept under Argon2id", None, |iterations| {
        let fresh: Vec<_> = runtime.block_on(async {
            let mut fresh = Vec::new();
            for _ in 0..iterations {
                fresh.push(slow.issue(slow.key()).await);
            }
            fresh
        });
        let start = Instant::now();
        runtime.block_on(async {
            for key in fresh.iter().flatten() {
                let attempt = Attempt::new(PresentedKey::text(key), &need);
                assert!(slow.keyward.verifier().verify(&attempt).await.is_ok());
            }
        });
        start.elapsed()
    });
    bench.row(
        "issuing a key",
        Some(Target::Nanos(4_000.0)),
        |iterations| {
            runtime.block_on(async {
                for _ in 0..iterations {
                    black_box(unkept.issue(unkept.key()).await).expect("it is issued");
                }
            });
        },
    );
    let results = bench.run();
    runtime.shutdown_background();
    results.check_targets()
}

/// Returns each kind of refusal that is decided at once: its name, the key, the route's requirement, and the target.
async fn refused(
    fixture: &Fixture,
    hot: &str,
) -> Result<Vec<(&'static str, String, Requirement, Option<f64>)>, Box<dyn Error>> {
    let (manager, actor, tenant) = (fixture.keyward.manager(), &fixture.actor, &fixture.tenant);
    let need = || Requirement::scope(READ);
    let ids = |text: &str| {
        fixture
            .keyward
            .format()
            .parse(text.as_bytes())
            .map(|parsed| parsed.id())
    };

    let revoked = fixture.issue(fixture.key()).await?;
    manager
        .revoke(actor, tenant, ids(&revoked)?, RevokeReason::Leaked)
        .await?;
    let suspended = fixture.issue(fixture.key()).await?;
    manager.suspend(actor, tenant, ids(&suspended)?).await?;
    let ended = fixture
        .issue(fixture.key().expires_in(Duration::from_secs(1)))
        .await?;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let abroad = fixture
        .issue(
            fixture
                .key()
                .networks("203.0.113.0/24".parse::<keyward::key::Network>()?),
        )
        .await?;
    let project: keyward::key::Resource = "project:p-17".parse()?;
    let restricted = fixture.issue(fixture.key().resources(project)).await?;
    for key in [&revoked, &suspended, &ended, &abroad, &restricted] {
        let need = need();
        let attempt = Attempt::new(PresentedKey::text(key), &need);
        assert!(fixture.keyward.verifier().verify(&attempt).await.is_err());
    }
    let cut = hot[..hot.len() - 1].to_owned();
    let mistyped = swap(hot, hot.len() - 10);
    Ok(vec![
        (
            "refused: no key of ours",
            "Zm9vOmJhcg==".to_owned(),
            need(),
            Some(0.35),
        ),
        ("refused: cut short", cut, need(), Some(0.35)),
        ("refused: mistyped (checksum)", mistyped, need(), Some(0.35)),
        (
            "refused: wrong secret",
            with_secret(fixture, hot, "x")?,
            need(),
            None,
        ),
        ("refused: revoked", revoked, need(), None),
        ("refused: suspended", suspended, need(), None),
        ("refused: expired", ended, need(), None),
        ("refused: outside its networks", abroad, need(), None),
        (
            "refused: scope missing",
            hot.to_owned(),
            Requirement::scope(WRITE),
            None,
        ),
        (
            "refused: route forgot the resource",
            restricted,
            need(),
            None,
        ),
    ])
}

/// Returns the key with another secret and a matching checksum.
fn with_secret(fixture: &Fixture, key: &str, digit: &str) -> Result<String, Box<dyn Error>> {
    let format = fixture.keyward.format();
    let id = format.parse(key.as_bytes())?.id();
    let secret = keyward::key::Secret::new(digit.repeat(43))?;
    let environment = format.environments().next().ok_or("no environment")?;
    Ok(format
        .compose(environment, id, &secret)?
        .expose()
        .to_owned())
}

fn swap(text: &str, at: usize) -> String {
    let digit = if text[at..].starts_with('a') {
        "b"
    } else {
        "a"
    };
    format!("{}{digit}{}", &text[..at], &text[at + 1..])
}

/// Measures requests with randomly chosen keys.
///
/// The keys are copied together before the measurement, since a request's own key was just received and is in the
/// cache.
fn each(iterations: u64, keys: &[String], mut ask: impl FnMut(&[u8])) -> Duration {
    const TOGETHER: u64 = 128;
    let mut at = Instant::now().elapsed().as_nanos() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut took = Duration::ZERO;
    let mut left = iterations;
    let mut texts = Vec::new();
    while left > 0 {
        let now = left.min(TOGETHER);
        texts.clear();
        for _ in 0..now {
            at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let key = &keys[(at >> 33) as usize % keys.len()];
            texts.extend_from_slice(key.as_bytes());
        }
        let length = keys[0].len();
        let start = Instant::now();
        for text in texts.chunks_exact(length) {
            ask(text);
        }
        took += start.elapsed();
        left -= now;
    }
    took
}

/// Allocates this many bytes of cache lines. Each line names the next, in one random cycle through all.
fn chain(bytes: usize) -> Vec<[usize; 8]> {
    let mut lines = vec![[0; 8]; bytes / 64];
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut at = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..order.len()).rev() {
        at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        order.swap(last, (at >> 33) as usize % (last + 1));
    }
    for (place, line) in order.iter().enumerate() {
        lines[*line][0] = order[(place + 1) % order.len()];
    }
    lines
}

/// Measures the time until both threads are done.
fn two(run: impl Fn(usize) + Sync) -> Duration {
    let ready = Barrier::new(3);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (ready, run) = (&ready, &run);
            scope.spawn(move || {
                ready.wait();
                run(thread);
                ready.wait();
            });
        }
        ready.wait();
        let start = Instant::now();
        ready.wait();
        start.elapsed()
    })
}
