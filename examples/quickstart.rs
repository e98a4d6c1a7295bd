//! All of Keyward in one run: issues a key, shows it once, lists it, uses it, provokes every kind of denial and
//! revokes it.
//!
//! ```text
//! cargo run --example quickstart
//! ```
#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::error::Error;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::key::{
    KeyFormat, Network, PresentedKey, Quota, Resource, RevokeReason, Scope, TenantId,
};
use keyward::manager::{Actor, AllowAll, KeyQuery, ManageError, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::time::OffsetDateTime;
use keyward::verifier::{Admitted, Attempt, Denial, Requirement};

const READ_EDITIONS: Scope = scope!("read:editions");
const WRITE_EDITIONS: Scope = scope!("write:editions");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let keyward = open(store.clone(), Hashing::recommended().pepper(pepper()?)).await?;
    let (manager, verifier) = (keyward.manager(), keyward.verifier());
    let tenant = TenantId::new("acme-inc")?;
    let setup = Actor::system("quickstart");
    let three = NonZeroU32::new(3).ok_or("zero")?;
    let quota = Quota::new("minute", three, Duration::from_secs(60))?;

    heading("1  Issue a key, and show it once");
    let issued = manager
        .issue(
            &setup,
            NewKey::new(tenant.clone(), "Power BI dashboard", READ_EDITIONS)
                .resources("project:p-17".parse::<Resource>()?)
                .networks("203.0.113.0/24".parse::<Network>()?)
                .quota(quota)
                .expires_in(Duration::from_secs(90 * 86_400)),
        )
        .await?;
    let (api_key, record) = issued.into_parts();
    println!("     the key, as one text    {}", api_key.expose());
    println!("     the same, as two values {}", api_key.id());
    println!("                             {}", api_key.expose_secret());
    println!("     It will not be shown again: nothing that is stored can bring it back.");

    heading("2  What the list shows from now on");
    let list = manager.list(&setup, &KeyQuery::of(&tenant)).await?;
    for key in &list.keys {
        println!("     title    {}", key.title());
        println!("     key      {}…", key.display_prefix());
        let restrictions = key.restrictions();
        println!(
            "     access   {} on {}",
            restrictions.access, restrictions.resources
        );
        println!("     from     {}", restrictions.networks);
        for quota in &restrictions.quotas {
            let (name, window) = (quota.name(), quota.window());
            println!("     limit    {} in {window:?} ({name})", quota.limit());
        }
        println!("     status   {:?}", key.status(OffsetDateTime::now_utc()));
        println!(
            "     issued   {}, by {}",
            key.created_at().date(),
            key.created_by()
        );
        println!(
            "     expires  {}",
            key.restrictions().expires_at.ok_or("never")?.date()
        );
    }

    heading("3  Use it");
    let need = Requirement::scope(READ_EDITIONS).resource("project");
    let office = "203.0.113.7".parse()?;
    let good = Attempt::new(PresentedKey::text(api_key.expose()), &need)
        .client(office)
        .resource("project", "p-17");
    show("as one text", verifier.verify(&good).await);
    let id = api_key.id().to_string();
    let pair = PresentedKey::pair(&id, api_key.expose_secret());
    let pair = Attempt::new(pair, &need)
        .client(office)
        .resource("project", "p-17");
    show("as two headers", verifier.verify(&pair).await);

    heading("4  Every class of refusal: what the caller sees, and what you see");
    let present = |key| {
        Attempt::new(key, &need)
            .client(office)
            .resource("project", "p-17")
    };
    let text = PresentedKey::text(api_key.expose());

    let two = PresentedKey::only_one_of([text, text]);
    show(
        "sent in two headers at once",
        verifier.verify(&present(two)).await,
    );

    show(
        "nothing sent",
        verifier.verify(&present(PresentedKey::none())).await,
    );
    let cut = api_key.expose().get(..60).unwrap_or_default();
    show(
        "cut short when copied",
        verifier.verify(&present(PresentedKey::text(cut))).await,
    );
    let guess = "guess".repeat(9).get(..43).unwrap_or_default().to_owned();
    let id = api_key.id().to_string();
    let guessed = PresentedKey::pair(&id, &guess);
    show(
        "right id, guessed secret",
        verifier.verify(&present(guessed)).await,
    );
    let abroad = present(text).client("198.51.100.4".parse()?);
    show("from a foreign address", verifier.verify(&abroad).await);

    let write = Requirement::scope(WRITE_EDITIONS).resource("project");
    let writing = Attempt::new(text, &write)
        .client(office)
        .resource("project", "p-17");
    show(
        "a route that needs another scope",
        verifier.verify(&writing).await,
    );
    let elsewhere = Attempt::new(text, &need)
        .client(office)
        .resource("project", "p-99");
    show(
        "another customer's project",
        verifier.verify(&elsewhere).await,
    );
    let forgetful = Requirement::scope(READ_EDITIONS);
    let unsettled = Attempt::new(text, &forgetful).client(office);
    show(
        "a route that forgot about projects",
        verifier.verify(&unsettled).await,
    );

    show("the third request", verifier.verify(&good).await);
    show(
        "a fourth one in the same minute",
        verifier.verify(&good).await,
    );

    let misconfigured = open(store, Hashing::recommended()).await?;
    show(
        "on a node that was started without the pepper",
        misconfigured.verifier().verify(&good).await,
    );

    heading("5  Revoke it: at once, and for good");
    let revoked = manager
        .revoke(&setup, &tenant, record.id(), RevokeReason::Leaked)
        .await?;
    println!(
        "     revoked {:?}, because it was {}",
        revoked.title.as_str(),
        revoked.reason
    );
    show("the same request as in 3", verifier.verify(&good).await);
    match manager
        .revoke(&setup, &tenant, record.id(), RevokeReason::Requested)
        .await
    {
        Err(error @ ManageError::AlreadyRevoked { .. }) => {
            println!("     once more: {error}");
        }
        other => println!("     once more: unexpectedly {other:?}"),
    }
    Ok(())
}

async fn open(store: MemoryStore, hashing: Hashing) -> Result<Keyward, Box<dyn Error>> {
    let keyward = Keyward::builder(store)
        .format(KeyFormat::new("acme")?.environment("live")?)
        .scopes([
            READ_EDITIONS.described("Read editions, sections and field values"),
            WRITE_EDITIONS.described("Create and submit editions"),
        ])
        .policy(AllowAll) // who may manage keys: here, anyone who runs the example
        .hashing(hashing)
        .open()
        .await?;
    Ok(keyward)
}

/// Returns a pepper. In your application, use 32 random bytes that were drawn once and are kept apart from the store.
fn pepper() -> Result<Pepper, Box<dyn Error>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Pepper::new(1, bytes)?)
}

fn show(what: &str, verdict: Result<Admitted, Denial>) {
    println!("   {what}");
    match verdict {
        Ok(admitted) => println!(
            "     200  granted to {:?}",
            admitted.grant().title().as_str()
        ),
        Err(denial) => {
            println!("     {}  {denial}", denial.class().status());
            println!("          you: {}", denial.reason());
        }
    }
}

fn heading(text: &str) {
    println!("\n{text}");
}
