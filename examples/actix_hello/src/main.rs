//! The minimum of a service with API keys: one guarded route, keys in a SQLite file, a clean stop.
//!
//! ```text
//! cargo run -p actix_hello issue "Power BI"     # prints a new key's id, and its text once
//! cargo run -p actix_hello serve 127.0.0.1:3000
//! curl -i 127.0.0.1:3000/hello -H "Authorization: Bearer $KEY"
//! cargo run -p actix_hello revoke $ID           # the server refuses the key from now on
//! ```

use std::error::Error;
use std::io::{Write, stdout};

use actix_web::web::get;
use actix_web::{App, HttpServer};
use keyward::actix::{Caller, KeyMiddleware};
use keyward::http::{Edge, KeyIn};
use keyward::key::{KeyFormat, RevokeReason, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::SqliteStore;
use keyward::verifier::Requirement;
use keyward::{Keyward, scope};

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
    let keys = KeyMiddleware::new(edge);
    let app = move || {
        let hello = keys.resource("/hello").get(read.clone(), hello);
        App::new().route("/", get().to(root)).service(hello)
    };

    tokio::spawn(keyward.background()); // learns of revocations by other processes
    let server = HttpServer::new(app).bind(address);
    let server = server.map_err(|error| format!("{address}: {error}; name another address"))?;
    for address in server.addrs() {
        writeln!(stdout(), "http://{address}")?;
    }
    server.run().await?; // until Ctrl-C
    keyward.flush_usage().await?;
    Ok(())
}

async fn root() -> &'static str {
    "GET /hello with a key"
}

async fn hello(caller: Caller) -> String {
    format!("Hello, {}!", caller.title())
}
