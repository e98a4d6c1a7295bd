//! A hello server, as it is and behind keys, for `benches/auth_tax.py`: prints where it listens and a key, and ends when its
//! standard input does.
#![allow(
    clippy::print_stdout,
    reason = "the script reads what it prints"
)]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use keyward::http::{Edge, KeyIn};
use keyward::key::{KeyFormat, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::tower::KeyLayer;
use keyward::verifier::{Attempt, Requirement};
use keyward::{Keyward, scope};
use tokio::net::TcpListener;

const READ: Scope = scope!("read:editions");

async fn hello() -> &'static str {
    "hello"
}

// One thread serves: the other processor is the load's.
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error>> {
    let is_keyed = std::env::args().nth(1).is_some_and(|way| way == "keyed");
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme")?.environment("live")?)
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .open()
        .await?;
    tokio::spawn(keyward.background());
    let new = NewKey::new(TenantId::new("acme-inc")?, "taxed", READ);
    let new = new.expires_in(Duration::from_hours(24));
    let issued = keyward.manager().issue(&Actor::system("tax"), new).await?;
    let key = issued.api_key().expose();
    let need = Requirement::scope(READ);
    keyward.verifier().verify(&Attempt::new(PresentedKey::text(key), &need)).await?;

    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    let route = if is_keyed { keys.get(need, hello) } else { get(hello) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {key}", listener.local_addr()?);
    let serving = tokio::spawn(async move { axum::serve(listener, Router::new().route("/", route)).await });
    // On a thread of its own, which waits until whoever started this is gone.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    serving.abort();
    Ok(())
}
