//! The minimum of a service with API keys: one guarded route, keys in a SQLite file, a clean stop.
//!
//! ```text
//! cargo run -p axum_hello issue "Power BI"     # prints a new key's id, and its text once
//! cargo run -p axum_hello serve 127.0.0.1:3000
//! curl -i 127.0.0.1:3000/hello -H "Authorization: Bearer $KEY"
//! cargo run -p axum_hello revoke $ID           # the server refuses the key from now on
//! ```

use std::error::Error;
use std::io::{Write, stdout};
use std::net::SocketAddr;

use axum::Router;
use keyward::axum::Caller;
use keyward::http::{Edge, KeyIn};
use keyward::key::{KeyFormat, RevokeReason, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::SqliteStore;
use keyward::tower::KeyLayer;
use keyward::verifier::Requirement;
use keyward::{Keyward, scope};
use tokio::net::TcpListener;

const READ_HELLO: Scope = scope!("read:hello");
const HELP: &str = "issue TITLE, revoke ID, or serve ADDRESS, such as 127.0.0.1:3000";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let ["--help" | "-h"] = *arguments {
        return Ok(writeln!(stdout(), "{HELP}")?);
    }
    let keyward = Keyward::builder(SqliteStore::open("hello.db")?)
        .format(KeyFormat::new("hello")?.environment("live")?)
        .scopes([READ_HELLO.described("Be greeted")])
        .policy(AllowAll) // a person who may run this program may manage its keys
        .open()
        .await?;
    let (operator, tenant) = (Actor::system("operator"), TenantId::new("everybody")?);
    match *arguments {
        ["issue", title] => {
            let new = NewKey::new(tenant, title, READ_HELLO);
            let issued = keyward.manager().issue(&operator, new).await?;
            let (id, text) = (issued.record().id(), issued.api_key().expose());
            writeln!(stdout(), "{id}\n{text}")?;
        }
        ["revoke", id] => {
            let (id, reason) = (id.parse()?, RevokeReason::Requested);
            let manager = keyward.manager();
            manager.revoke(&operator, &tenant, id, reason).await?;
        }
        ["serve", address] => serve(&keyward, address).await?,
        _ => return Err(HELP.into()),
    }
    Ok(())
}

async fn serve(keyward: &Keyward, address: &str) -> Result<(), Box<dyn Error>> {
    let edge = Edge::new(keyward).accept(KeyIn::bearer());
    // The caller does not learn the reason of a refusal or the probable mistake, but the operator does.
    let edge = edge.observe(|event| {
        let _ = writeln!(
            stdout(),
            "refused: {} {:?}",
            event.reason,
            event.near_misses
        );
    });
    let read = keyward.verifier().prepare(Requirement::scope(READ_HELLO))?;
    let keys = KeyLayer::new(edge);
    let app = Router::new().route("/hello", keys.get(read, hello));
    let app = app.route("/", axum::routing::get(root));

    tokio::spawn(keyward.background()); // learns of revocations by other processes
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("{address}: {error}; name another address"))?;
    writeln!(stdout(), "http://{}", listener.local_addr()?)?;
    // The connect info gives the address of the client, which keys with network restrictions need.
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
    .await?;
    keyward.flush_usage().await?;
    Ok(())
}

async fn root() -> &'static str {
    "GET /hello with a key"
}

async fn hello(caller: Caller) -> String {
    format!("Hello, {}!", caller.title())
}
