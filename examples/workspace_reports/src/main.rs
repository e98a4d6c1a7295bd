//! A reporting workspace API: its customers call it with a key as a bearer token, over TLS.
//!
//! ```text
//! cargo run -p workspace_reports
//! ```
//! A key holds the scopes that its administrator chose, and reaches all projects of its workspace, or some.
//! Administrators of the workspace manage the keys; ordinary members cannot even see them. A key that comes without
//! TLS is refused and never redirected.
//!
//! `--listen` and `--listen-plain` set the addresses with and without TLS. Behind a proxy that terminates TLS,
//! `--behind` names the proxy's addresses. The product then believes `X-Forwarded-For` and `X-Forwarded-Proto` from
//! these addresses only.
//!
//! Each key may send 60 requests in any minute and 1,000 in any hour, five of them at once.

mod api;
mod certificate;
mod content;
mod data;
mod office;
mod plan;
mod scopes;
mod serve;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use example_support::{
    OPTIONS, Office, Person, argument, helped, keys_file, listen_address, occupied, print, stopped,
};
use keyward::Keyward;
use keyward::http::Proxies;
use keyward::key::KeyFormat;
use keyward::store::SqliteStore;
use keyward::time::{Duration, OffsetDateTime};

use crate::certificate::Certificate;
use crate::data::{BOREALIS, MERIDIAN, Workspaces};
use crate::office::{ADMINISTRATOR, Administrators, MEMBER};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let more = [
        ("--listen-plain", "the address to listen on without TLS"),
        ("--behind", "the addresses of the proxy that ends TLS"),
    ];
    if helped(&[&OPTIONS[..], &more].concat())? {
        return Ok(());
    }
    let file = keys_file("workspace_reports.db");
    let workspaces = Arc::new(Workspaces::made_up());
    let keyward = Keyward::builder(SqliteStore::open(&file)?)
        .format(KeyFormat::new("wsrp")?.environment("live")?)
        .scopes(scopes::declared())
        .policy(Administrators(Arc::clone(&workspaces)))
        .rate_limiting(plan::rate_limiting())
        .open()
        .await?;
    tokio::spawn(keyward.background());

    let office = Office::default();
    let administrator = office.invite(Person::new(ADMINISTRATOR, "ines", MERIDIAN)?)?;
    let member = office.invite(Person::new(MEMBER, "max", MERIDIAN)?)?;
    let other = office.invite(Person::new(ADMINISTRATOR, "olga", BOREALIS)?)?;

    let proxies = proxies()?;
    let app = Router::new()
        .merge(api::routes(&keyward, &workspaces, proxies.clone()))
        .merge(office::routes(office, &keyward, proxies));

    let (certificate, config) = Certificate::make().await?;
    let address = listen_address("127.0.0.1:8443")?;
    let secure = TcpListener::bind(address);
    let secure = secure.map_err(|error| occupied(address, &error, "--listen"))?;
    let plain = argument("--listen-plain").unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let address = plain.parse::<SocketAddr>()?;
    let plain = TcpListener::bind(address);
    let plain = plain.map_err(|error| occupied(address, &error, "--listen-plain"))?;
    let url = format!("https://{}", secure.local_addr()?);
    let plain_url = format!("http://{}", plain.local_addr()?);
    let curl = format!("curl -s -i --cacert '{}'", certificate.path().display());
    let today = OffsetDateTime::now_utc().date();
    let day = today.saturating_add(Duration::days(90)).to_string();
    let stop = stopped()?;
    print(
        &format!(
            "A reporting workspace API, with its keys in {}.",
            file.display()
        ),
        include_str!("lines.sh"),
        &[
            ("curl", &curl),
            ("url", &url),
            ("plain_url", &plain_url),
            ("day", &day),
            ("administrator", &administrator),
            ("member", &member),
            ("other", &other),
            ("admin", r#"-H "X-Session: $ADMIN""#),
            ("key", r#"-H "Authorization: Bearer $KEY""#),
            ("next", r#"-H "Authorization: Bearer $NEXT""#),
            ("outputs", r#"-H "Authorization: Bearer $OUTPUTS""#),
        ],
    );
    serve::serve(app, (secure, config), plain, stop).await?;
    // All answered changes are committed already. This writes the usage of the last minute.
    keyward.flush_usage().await?;
    certificate.remove()?;
    Ok(())
}

/// Returns the proxies that are trusted to report where requests come from.
fn proxies() -> Result<Proxies, Box<dyn Error>> {
    Ok(match argument("--behind") {
        Some(network) => Proxies::x_forwarded([network.parse()?]),
        None => Proxies::default(),
    })
}
