//! A hello server of axum or actix, as it is or behind keys, for `benches/auth_tax.py`: prints where it listens and a key, and ends when its
//! standard input does.
#![allow(
    clippy::print_stdout,
    reason = "the script reads what it prints"
)]

use std::error::Error;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use axum::Router;
use axum::routing::get;
use keyward::actix::KeyMiddleware;
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

async fn serve_axum(keys: Option<KeyLayer>) -> Result<String, Box<dyn Error>> {
    let route = match keys {
        Some(keys) => keys.get(Requirement::scope(READ), hello),
        None => get(hello),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", route)).await });
    Ok(address)
}

fn serve_actix(keys: Option<KeyMiddleware>) -> Result<String, Box<dyn Error>> {
    let server = HttpServer::new(move || match &keys {
        Some(keys) => App::new().service(keys.resource("/").get(Requirement::scope(READ), hello)),
        None => App::new().service(web::resource("/").get(hello)),
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0")?;
    let address = server.addrs().first().ok_or("bound to nothing")?.to_string();
    tokio::spawn(server.run());
    Ok(address)
}

// One thread serves: the other processor is the load's.
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (framework, way) = (arguments.next(), arguments.next());
    let is_keyed = way.as_deref() == Some("keyed");
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

    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let address = if framework.as_deref() == Some("actix") {
        serve_actix(is_keyed.then(|| KeyMiddleware::new(edge)))?
    } else {
        serve_axum(is_keyed.then(|| KeyLayer::new(edge))).await?
    };
    println!("{address} {key}");
    // On a thread of its own, which waits until whoever started this is gone.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}
