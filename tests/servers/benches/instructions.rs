//! A hello of axum and of actix, with keys in front of it and without, for `benches/instructions.py` to count the
//! instructions of: so many times, and nothing else that depends on how many. No sockets and no HTTP: what the kernel
//! and parsers do is the same for both.

use std::error::Error;
use std::time::Duration;

use actix_web::dev::HttpServiceFactory;
use actix_web::{App, test, web};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::routing::{self, MethodRouter};
use keyward::actix::KeyMiddleware;
use keyward::http::{Edge, KeyIn};
use keyward::key::{KeyFormat, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::SeededRandom;
use keyward::tower::KeyLayer;
use keyward::verifier::{KeyCache, Requirement};
use keyward::{Keyward, scope};
use tower_service::Service as _;

const READ: Scope = scope!("read:editions");

async fn hello() -> &'static str {
    "hello"
}

/// Sends it so many requests that are granted.
async fn ask_axum(route: MethodRouter, key: &str, times: u32) -> Result<(), Box<dyn Error>> {
    let mut router = Router::new().route("/", route);
    for _ in 0..times {
        let request = Request::get("/").header(header::HOST, "localhost");
        let request = request.header(header::AUTHORIZATION, key);
        let response = router.call(request.body(Body::empty())?).await?;
        if !response.status().is_success() {
            return Err(response.status().as_str().into());
        }
    }
    Ok(())
}

/// Likewise.
async fn ask_actix(
    route: impl HttpServiceFactory + 'static,
    key: &str,
    times: u32,
) -> Result<(), Box<dyn Error>> {
    let app = test::init_service(App::new().service(route)).await;
    for _ in 0..times {
        let request = test::TestRequest::get().uri("/");
        let request = request.insert_header((header::HOST.as_str(), "localhost"));
        let request = request.insert_header((header::AUTHORIZATION.as_str(), key));
        let response = test::call_service(&app, request.to_request()).await;
        if !response.status().is_success() {
            return Err(response.status().as_str().into());
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` runs it too, with an argument of its own.
    let mut asked = std::env::args().skip(1);
    let way = asked.next().unwrap_or_default();
    let times: u32 = asked.next().unwrap_or_default().parse().unwrap_or(1);

    // The same ids and secrets each time.
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme")?.environment("test")?)
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .random(SeededRandom::new(4))
        .cache(KeyCache::new().lease(KeyCache::MAX_LEASE))
        .open()
        .await?;
    let new = NewKey::new(TenantId::new("acme-inc")?, "counted", READ);
    let new = new.expires_in(Duration::from_hours(24 * 365));
    let issued = keyward
        .manager()
        .issue(&Actor::system("bench"), new)
        .await?;
    let key = format!("Bearer {}", issued.api_key().expose());
    let edge = Edge::new(&keyward).accept(KeyIn::bearer());
    let (layer, middleware) = (KeyLayer::new(edge.clone()), KeyMiddleware::new(edge));
    let need = || Requirement::scope(READ);

    match way.as_str() {
        "axum" => ask_axum(routing::get(hello), &key, times).await,
        "axum behind keys" => ask_axum(layer.get(need(), hello), &key, times).await,
        "actix" => ask_actix(web::resource("/").get(hello), &key, times).await,
        "actix behind keys" => {
            let route = middleware.resource("/").get(need(), hello);
            ask_actix(route, &key, times).await
        }
        _ => Ok(()),
    }
}
