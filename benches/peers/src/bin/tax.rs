//! A hello server of axum or actix for `benches/auth_tax.py`: unguarded (`plain`), behind keys (`keyed`), or with a
//! minimal handwritten check (`by_hand`).
//!
//! It prints its address and a key, and ends when its standard input does.
#![allow(clippy::print_stdout, reason = "the script reads what it prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use keyward::actix::KeyMiddleware;
use keyward::http::{Edge, KeyIn};
use keyward::key::{KeyFormat, PresentedKey, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::tower::KeyLayer;
use keyward::verifier::{Attempt, Requirement, Verifier};
use keyward::{Keyward, scope};
use tokio::net::TcpListener;

const READ: Scope = scope!("read:editions");

/// The guard in front of the handler.
#[derive(Clone)]
enum Guard {
    Nothing,
    Keys(Edge),
    /// A minimal handwritten check: one verification, and the two headers that keep responses to authenticated
    /// requests out of shared caches. The credential stays in the request, and the handler gets no information about
    /// the key.
    ByHand(Arc<(Verifier, Requirement)>),
}

/// Whether the request with this header is admitted.
async fn is_admitted(guard: &(Verifier, Requirement), authorization: Option<&[u8]>) -> bool {
    let (verifier, need) = guard;
    let Some(key) = authorization.and_then(|value| value.strip_prefix(b"Bearer ")) else {
        return false;
    };
    verifier
        .verify(&Attempt::new(PresentedKey::text(key), need))
        .await
        .is_ok()
}

mod on_axum {
    use axum::Router;
    use axum::extract::{Request, State};
    use axum::http::{HeaderValue, StatusCode, header};
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::{MethodRouter, get};

    use super::*;

    async fn hello() -> &'static str {
        "hello"
    }

    async fn by_hand(
        State(guard): State<Arc<(Verifier, Requirement)>>,
        request: Request,
    ) -> Response {
        let value = request.headers().get(header::AUTHORIZATION);
        let value = value.map(HeaderValue::as_bytes);
        if !is_admitted(&guard, value).await {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let mut response = "hello".into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        headers.append(header::VARY, HeaderValue::from_static("authorization"));
        response
    }

    pub(super) async fn serve(guard: Guard) -> Result<String, Box<dyn Error>> {
        let route: MethodRouter = match guard {
            Guard::Nothing => get(hello),
            Guard::Keys(edge) => KeyLayer::new(edge).get(Requirement::scope(READ), hello),
            Guard::ByHand(guard) => get(by_hand).with_state(guard),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", route)).await });
        Ok(address)
    }
}

mod on_actix {
    use actix_web::body::BoxBody;
    use actix_web::http::header::{self, HeaderValue};
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder as _, web};

    use super::*;

    async fn hello() -> &'static str {
        "hello"
    }

    async fn by_hand(
        guard: web::Data<(Verifier, Requirement)>,
        request: HttpRequest,
    ) -> HttpResponse<BoxBody> {
        let value = request.headers().get(header::AUTHORIZATION);
        let value = value.map(HeaderValue::as_bytes);
        if !is_admitted(&guard, value).await {
            return HttpResponse::Unauthorized().finish();
        }
        let mut response = "hello".respond_to(&request).map_into_boxed_body();
        let headers = response.headers_mut();
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        headers.append(header::VARY, HeaderValue::from_static("authorization"));
        response
    }

    pub(super) fn serve(guard: Guard) -> Result<String, Box<dyn Error>> {
        let server = HttpServer::new(move || match guard.clone() {
            Guard::Nothing => App::new().service(web::resource("/").get(hello)),
            Guard::Keys(edge) => {
                let keys = KeyMiddleware::new(edge);
                App::new().service(keys.resource("/").get(Requirement::scope(READ), hello))
            }
            Guard::ByHand(guard) => {
                let app = App::new().app_data(web::Data::from(guard));
                app.service(web::resource("/").get(by_hand))
            }
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0")?;
        let address = server
            .addrs()
            .first()
            .ok_or("bound to nothing")?
            .to_string();
        tokio::spawn(server.run());
        Ok(address)
    }
}

// The server uses one thread, since the load generator uses the other processor.
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (framework, way) = (arguments.next(), arguments.next());
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
    keyward
        .verifier()
        .verify(&Attempt::new(PresentedKey::text(key), &need))
        .await?;

    let guard = match way.as_deref() {
        Some("plain") => Guard::Nothing,
        Some("keyed") => Guard::Keys(Edge::new(&keyward).accept(KeyIn::bearer())),
        Some("by_hand") => Guard::ByHand(Arc::new((keyward.verifier().clone(), need))),
        _ => return Err("say plain, keyed or by_hand".into()),
    };
    let address = match framework.as_deref() {
        Some("axum") => on_axum::serve(guard).await?,
        Some("actix") => on_actix::serve(guard)?,
        _ => return Err("say axum or actix".into()),
    };
    println!("{address} {key}");
    // On a thread of its own, which waits until the parent process is gone.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}
