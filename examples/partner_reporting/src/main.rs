//! A partner reporting API: its customers call it with a key in `X-API-Key`.
//!
//! ```text
//! cargo run -p partner_reporting
//! ```
//! A partner's key reaches all clients of that partner, or one of them. Partner-level administrators manage the keys,
//! client-level administrators cannot even see them, and one built-in integration owns a key that no person issued.

mod api;
mod data;
mod digest;
mod office;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use example_support::{Line, Office, keys_file, listen_address, print, stopped};
use keyward::Keyward;
use keyward::key::KeyFormat;
use keyward::store::SqliteStore;
use tokio::net::TcpListener;

use crate::data::Partners;
use crate::office::{Administrators, Partner, PartnerPerson};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = keys_file("partner_reporting.db");
    let partners = Arc::new(Partners::made_up());
    let keyward = Keyward::builder(SqliteStore::open(&file)?)
        .format(KeyFormat::new("prep")?.environment("live")?)
        .policy(Administrators)
        .open()
        .await?;
    tokio::spawn(keyward.background());

    let desk = Office::new(&keyward);
    let northwind = desk.invite(PartnerPerson::partner_level("ada", Partner::Northwind)?)?;
    let contoso = desk.invite(PartnerPerson::partner_level("grace", Partner::Contoso)?)?;
    let client = desk.invite(PartnerPerson::client_level("carl", Partner::Northwind)?)?;

    let app = Router::new()
        .merge(api::routes(&keyward, &partners)?)
        .merge(office::routes(desk));
    digest::run(&keyward, app.clone()).await?;

    let listener = TcpListener::bind(listen_address("127.0.0.1:8001")?).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let stop = stopped()?;
    print(
        &format!(
            "A partner reporting API, with its keys in {}.",
            file.display()
        ),
        &lines(&url, &northwind, &client, &contoso),
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

/// The lines that a person can try, in this order.
fn lines(url: &str, northwind: &str, client: &str, contoso: &str) -> Vec<Line> {
    let log_in = |code: &str| {
        format!(
            r#"curl -s -i {url}/admin/login -H 'Content-Type: application/json' -d '{{"code":"{code}"}}'"#
        )
    };
    let manage = |session: &str, rest: &str| {
        format!(r#"curl -s -i {url}/admin/{rest} -H "X-Session: ${session}""#)
    };
    let post = |rest: &str, body: &str| {
        let line = format!(r#"curl -s -i {url}/admin/{rest} -H "X-Session: $ADMIN""#);
        format!("{line} -H 'Content-Type: application/json' -d '{body}'")
    };
    let ask =
        |key: &str, path: &str| format!(r#"curl -s -i {url}/v1/{path} -H "X-API-Key: ${key}""#);
    let key = &[("api_key", "KEY"), ("id", "KEY_ID")];
    vec![
        Line::new(
            200,
            "log in as Northwind's administrator, once",
            log_in(northwind),
        )
        .keeping(&[("session", "ADMIN")]),
        Line::new(
            201,
            "issue a key for all clients; it is shown this once",
            post("keys", r#"{"title":"Power BI dashboard"}"#),
        )
        .keeping(key),
        Line::new(
            201,
            "issue a key for one client",
            post(
                "keys",
                r#"{"title":"Nightly Snowflake ETL","client":"nw-003"}"#,
            ),
        )
        .keeping(&[("api_key", "ONE")]),
        Line::new(
            200,
            "counts of the whole partner",
            ask("KEY", "rollups/counts"),
        ),
        Line::new(
            200,
            "who completed which training, at one client",
            ask("ONE", "clients/nw-003/training/completion"),
        ),
        Line::new(
            403,
            "another client, with the key of that one",
            ask("ONE", "clients/nw-004/training/completion"),
        ),
        Line::new(401, "no key", format!("curl -s -i {url}/v1/rollups/counts")),
        Line::new(401, "a key cut short", ask("{KEY%???}", "rollups/counts")),
        Line::new(
            200,
            "the list, with the key that an integration owns",
            manage("ADMIN", "keys"),
        ),
        Line::new(
            201,
            "give the key a successor; both work until the old one is revoked",
            post("keys/$KEY_ID/rotate", "{}"),
        )
        .keeping(&[("api_key", "NEXT")]),
        Line::new(200, "revoke the old one", post("keys/$KEY_ID/revoke", "")),
        Line::new(
            401,
            "it is refused from now on",
            ask("KEY", "rollups/counts"),
        ),
        Line::new(
            200,
            "and its successor is not",
            ask("NEXT", "rollups/counts"),
        ),
        Line::new(
            409,
            "nothing is revoked twice",
            post("keys/$KEY_ID/revoke", ""),
        ),
        Line::new(200, "what was done, and by whom", manage("ADMIN", "events")),
        Line::new(
            200,
            "log in as the administrator of a client",
            log_in(client),
        )
        .keeping(&[("session", "CLIENT")]),
        Line::new(
            403,
            "who may not even see the list",
            manage("CLIENT", "keys"),
        ),
        Line::new(200, "log in as Contoso's administrator", log_in(contoso))
            .keeping(&[("session", "CONTOSO")]),
        Line::new(
            200,
            "who sees no key of Northwind's",
            manage("CONTOSO", "keys"),
        ),
    ]
}
