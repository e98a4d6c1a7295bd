//! A payments back office API: its callers send a key's id in `X-AuthenticationKeyId` and the secret in
//! `X-AuthenticationKeyValue`.
//!
//! ```text
//! cargo run -p back_office
//! ```
//! Each key has full access until it is revoked. System administrators manage the keys. A support agent can log in as
//! well, but sees no keys.

mod account;
mod api;
mod data;
mod fault;
mod field;
mod ledger;
mod lines;
mod listed;
mod office;
mod payment;

use std::error::Error;

use actix_web::{App, HttpServer};
use example_support::{Office, keys_file, listen_address, print, stopped};
use keyward::Keyward;
use keyward::key::KeyFormat;
use keyward::store::SqliteStore;

use crate::office::{Colleague, SystemAdministrators};

/// Number of characters in a secret.
const SECRET: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = keys_file("back_office.db");
    let format = KeyFormat::new("bofc")?.environment("live")?;
    let keyward = Keyward::builder(SqliteStore::open(&file)?)
        .format(format.secret_length(SECRET)?)
        .policy(SystemAdministrators)
        .open()
        .await?;
    tokio::spawn(keyward.background());

    let desk = Office::new(&keyward);
    let administrator = desk.invite(Colleague::system_administrator("ada")?)?;
    let agent = desk.invite(Colleague::support_agent("sam")?)?;

    let api = api::routes(&keyward, data::made_up()?)?;
    let office = office::routes(desk);
    let app = move || {
        App::new()
            .app_data(fault::bodies())
            .app_data(fault::queries())
            .app_data(fault::paths())
            .configure(api.clone())
            .configure(office.clone())
    };
    // This program handles stop signals itself, so that requests in flight finish first.
    let server = HttpServer::new(app).disable_signals();
    let server = server.bind(listen_address("127.0.0.1:8002")?)?;
    let address = server.addrs().into_iter().next();
    let url = format!("http://{}", address.ok_or("it listens nowhere")?);
    let server = server.run();
    let handle = server.handle();
    let mut serving = tokio::spawn(server);
    let stop = stopped()?;
    print(
        &format!(
            "A payments back office API, with its keys in {}.",
            file.display()
        ),
        &lines::all(&url, &administrator, &agent),
    );
    tokio::select! {
        ended = &mut serving => ended??,
        () = stop => {
            handle.stop(true).await;
            serving.await??;
        }
    }
    // All answered changes are committed already. This writes the usage of the last minute.
    keyward.flush_usage().await?;
    Ok(())
}
