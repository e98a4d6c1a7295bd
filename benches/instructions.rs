//! The path of a request, run so that `benches/instructions.py` can count its instructions: a given number of times,
//! while all other work is independent of that number.
//!
//! Valgrind does not support the SHA extensions, so the hash is counted in its software implementation.
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

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{KeyFormat, PresentedKey, Quota, Scope, Secret, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::SeededRandom;
use keyward::verifier::{Attempt, KeyCache, Requirement};
use keyward::{Keyward, scope};

const READ: Scope = scope!("read:editions");
const WRITE: Scope = scope!("write:editions");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` runs it too, with an argument of its own.
    let mut asked = std::env::args().skip(1);
    let way = asked.next().unwrap_or_default();
    let times: u32 = asked.next().unwrap_or_default().parse().unwrap_or(1);

    // The same ids and secrets each time.
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme")?.environment("test")?)
        .scopes([READ.described("Read"), WRITE.described("Write")])
        .policy(AllowAll)
        .random(SeededRandom::new(4))
        .cache(KeyCache::new().lease(KeyCache::MAX_LEASE))
        .open()
        .await?;
    let tenant = TenantId::new("acme-inc")?;
    let new = || {
        let new = NewKey::new(tenant.clone(), "counted", READ);
        new.expires_in(Duration::from_secs(365 * 86_400))
    };
    let (manager, actor) = (keyward.manager(), Actor::system("bench"));
    let issued = manager.issue(&actor, new()).await?;
    let text = issued.api_key().expose();
    let (format, verifier) = (keyward.format(), keyward.verifier());
    let (read, write) = (Requirement::scope(READ), Requirement::scope(WRITE));
    let hour = |most| Quota::new("hour", most, Duration::from_secs(3_600));
    let day = Quota::new("day", NonZeroU32::MAX, Duration::from_secs(86_400))?;
    let two_quotas =
        || Ok::<_, Box<dyn Error>>(new().quota(hour(NonZeroU32::MAX)?).quota(day.clone()));
    let limited = manager.issue(&actor, two_quotas()?).await?;
    let bounded = manager
        .issue(&actor, two_quotas()?.concurrency(NonZeroU32::MAX))
        .await?;
    let used_up = manager
        .issue(&actor, new().quota(hour(NonZeroU32::MIN)?).quota(day))
        .await?;
    for key in [&issued, &limited, &bounded, &used_up] {
        let attempt = Attempt::new(key.api_key().presented(), &read);
        verifier.verify(&attempt).await?;
    }

    let environment = format.environments().next().ok_or("no environment")?;
    let other = Secret::new("x".repeat(43))?;
    let wrong = format.compose(environment, issued.record().id(), &other)?;
    let unknown = format.compose(environment, keyward::key::KeyId::from_u128(7), &other)?;
    let ask = |text: &str, need: &Requirement| {
        let attempt = Attempt::new(PresentedKey::text(black_box(text)), need);
        drop(black_box(verifier.try_verify(&attempt)));
    };
    for _ in 0..times {
        match way.as_str() {
            "parse" => drop(black_box(format.parse(black_box(text.as_bytes())))),
            "parse and look up" => ask(unknown.expose(), &read),
            "accept" => ask(text, &read),
            "accept: two quotas" => ask(limited.api_key().expose(), &read),
            "accept: two quotas and a permit" => ask(bounded.api_key().expose(), &read),
            "refuse: cut short" => ask(&text[..text.len() - 1], &read),
            "refuse: wrong secret" => ask(wrong.expose(), &read),
            "refuse: scope missing" => ask(text, &write),
            "refuse: quota used up" => ask(used_up.api_key().expose(), &read),
            _ => {}
        }
    }
    Ok(())
}
