//! A partner reporting API: its customers call it with a key in `X-API-Key`.
//!
//! ```text
//! cargo run -p partner_reporting
//! ```
//! A partner's key reaches all clients of that partner, or one of them. Partner-level administrators manage the keys,
//! client-level administrators cannot even see them, and one built-in integration owns a key that no person issued.
//!
//! Each endpoint has a limit of requests per minute, which the keys of a partner share. `partner_reporting.plans.json`
//! gives customers other limits (`src/plans.rs`).

mod api;
mod data;
mod digest;
mod office;
mod plans;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use example_support::{
    OPTIONS, Office, Person, helped, keys_file, listen_address, occupied, office_routes, print,
    stopped,
};
use keyward::Keyward;
use keyward::key::KeyFormat;
use keyward::store::SqliteStore;
use tokio::net::TcpListener;

use crate::data::{CONTOSO, NORTHWIND, Partners};
use crate::office::{Administrators, CLIENT_ADMIN, PARTNER_ADMIN};
use crate::plans::PlanFile;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if helped(&OPTIONS)? {
        return Ok(());
    }
    let file = keys_file("partner_reporting.db");
    let plans = PlanFile::beside(&file);
    let plans_path = plans.path().display().to_string();
    let partners = Arc::new(Partners::made_up());
    let keyward = Keyward::builder(SqliteStore::open(&file)?)
        .format(KeyFormat::new("prep")?.environment("live")?)
        .policy(Administrators)
        .rate_limiting(plans.rate_limiting())
        .open()
        .await?;
    tokio::spawn(keyward.background());

    let desk = Office::default();
    let northwind = desk.invite(Person::new(PARTNER_ADMIN, "ada", NORTHWIND)?)?;
    let contoso = desk.invite(Person::new(PARTNER_ADMIN, "grace", CONTOSO)?)?;
    let client = desk.invite(Person::new(CLIENT_ADMIN, "carl", NORTHWIND)?)?;

    let app = Router::new()
        .merge(api::routes(&keyward, &partners)?)
        .merge(office_routes(desk, &keyward));
    digest::run(&keyward, app.clone()).await?;

    let address = listen_address("127.0.0.1:8001")?;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| occupied(address, &error, "--listen"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = stopped()?;
    print(
        &format!(
            "A partner reporting API, with its keys in {}, and customers' limits in {plans_path}.",
            file.display()
        ),
        include_str!("lines.sh"),
        &[
            ("url", &url),
            ("admin", r#"-H "X-Session: $ADMIN""#),
            ("northwind", &northwind),
            ("client", &client),
            ("contoso", &contoso),
        ],
    );
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(stop)
    .await?;
    // All answered changes are committed already. This writes the usage of the last minute.
    keyward.flush_usage().await?;
    Ok(())
}
