//! A payments back office API: its callers send a key's id in `X-AuthenticationKeyId` and the secret in
//! `X-AuthenticationKeyValue`.
//!
//! ```text
//! cargo run -p back_office
//! ```
//! Each key has full access until it is revoked. System administrators manage the keys. A support agent can log in as
//! well, but sees no keys.

mod api;
mod listed;
mod office;
mod payment;

use std::error::Error;

use actix_web::web::get;
use actix_web::{App, HttpServer};
use example_support::{
    OPTIONS, Office, Person, ROOT, helped, keys_file, listen_address, occupied, print, stopped,
};
use keyward::Keyward;
use keyward::key::KeyFormat;
use keyward::store::SqliteStore;

use crate::office::{SUPPORT_AGENT, SYSTEM_ADMINISTRATOR, SystemAdministrators, TENANT};
use crate::payment::Payments;

/// Number of characters in a secret.
const SECRET: usize = 64;

/// The two headers of a key, as `curl` sends them.
const KEY: &str =
    r#"-H "X-AuthenticationKeyId: $KEY_ID" -H "X-AuthenticationKeyValue: $KEY_VALUE""#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if helped(&OPTIONS)? {
        return Ok(());
    }
    let file = keys_file("back_office.db");
    let format = KeyFormat::new("bofc")?.environment("live")?;
    let keyward = Keyward::builder(SqliteStore::open(&file)?)
        .format(format.secret_length(SECRET)?)
        .policy(SystemAdministrators)
        .open()
        .await?;
    tokio::spawn(keyward.background());

    let desk = Office::default();
    let administrator = desk.invite(Person::new(SYSTEM_ADMINISTRATOR, "ada", TENANT)?)?;
    let agent = desk.invite(Person::new(SUPPORT_AGENT, "sam", TENANT)?)?;

    let api = api::routes(&keyward, Payments::made_up())?;
    let office = office::routes(desk, keyward.clone());
    let app = move || {
        App::new()
            .route("/", get().to(async || ROOT))
            .app_data(api::bodies())
            .configure(api.clone())
            .configure(office.clone())
    };
    // This program handles stop signals itself, so that requests in flight finish first.
    let server = HttpServer::new(app).disable_signals();
    let address = listen_address("127.0.0.1:8002")?;
    let server = server.bind(address);
    let server = server.map_err(|error| occupied(address, &error, "--listen"))?;
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
        include_str!("lines.sh"),
        &[
            ("url", &url),
            ("administrator", &administrator),
            ("agent", &agent),
            ("admin", r#"-H "X-Session: $ADMIN""#),
            ("key", KEY),
        ],
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
