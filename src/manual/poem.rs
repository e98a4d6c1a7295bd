//! Keyward in front of [poem](https://docs.rs/poem), a framework that Keyward has no adapter for. Run it with
//! `cargo run -p poem_middleware`; it prints what to try.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example is run for what it prints"
)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use keyward::http::{Caller, Connection, Edge, Guard, Head, KeyIn, ResponseBody};
use keyward::key::{KeyFormat, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Grant, Requirement};
use keyward::{Keyward, scope};
use poem::http::uri::Scheme;
use poem::http::{HeaderMap, Response as Http, StatusCode};
use poem::listener::TcpListener;
use poem::web::Path;
use poem::{
    Endpoint, EndpointExt, Middleware, Request, Response, ResponseParts, Route, Server, get,
    handler,
};

/// Lets requests through to an endpoint that bear a key which meets the guard's requirement.
#[derive(Clone)]
pub(crate) struct KeyMiddleware {
    edge: Arc<Edge>,
    guard: Arc<Guard<Request>>,
}

impl KeyMiddleware {
    pub(crate) fn new(edge: &Arc<Edge>, guard: impl Into<Guard<Request>>) -> Self {
        Self {
            edge: Arc::clone(edge),
            guard: Arc::new(guard.into()),
        }
    }
}

/// The value of a parameter of the path, as the handler gets it.
pub(crate) fn path(parameter: &'static str) -> impl Fn(&Request) -> Option<String> {
    move |request| request.raw_path_param(parameter).map(str::to_owned)
}

/// What Keyward has to know about a request: its headers, its connection, its query.
fn head(request: &Request) -> Head<'_, HeaderMap> {
    Head {
        headers: request.headers(),
        connection: Connection {
            peer: request.remote_addr().as_socket_addr().map(|peer| peer.ip()),
            is_tls: *request.scheme() == Scheme::HTTPS,
        },
        query: request.original_uri().query(),
    }
}

impl<E: Endpoint> Middleware<E> for KeyMiddleware {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Guarded<E> {
        let middleware = self.clone();
        Guarded { middleware, inner }
    }
}

/// An endpoint behind a [`KeyMiddleware`].
pub(crate) struct Guarded<E> {
    middleware: KeyMiddleware,
    inner: E,
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let KeyMiddleware { edge, guard } = &self.middleware;

        // 1. and 2. What the request says, and the decision. An outer guard of this kind has left its grant.
        let outer = request.data::<Grant>().cloned();
        let deciding = edge.admit_guarded(guard, &mut request, outer.as_ref(), head);
        let response: Http<ResponseBody<BoxBody<_, io::Error>>> = match deciding.await {
            Ok(admission) => {
                // 3. The handler gets the grant and no credential.
                let serving = admission.enter(
                    &mut request,
                    Request::headers_mut,
                    Request::uri_mut,
                    Request::extensions_mut,
                );
                // 4. Its response is finished, and holds the request's place until it has been sent.
                serving.finish(self.inner.get_response(request).await.into())
            }
            Err(refused) => Http::from(*refused),
        };

        // poem has a conversion of its own, which hides how long the body is.
        let (head, body) = response.into_parts();
        let parts = ResponseParts {
            status: head.status,
            version: head.version,
            headers: head.headers,
            extensions: head.extensions,
        };
        let body = body.map_err(io::Error::other).boxed();
        Ok(Response::from_parts(parts, body.into()))
    }
}

pub(crate) const READ: Scope = scope!("read:blueprints");

#[handler]
fn blueprints(Path(project): Path<String>, request: &Request) -> poem::Result<String> {
    // `None` if the route has lost its guard.
    let caller = Caller::find(request.extensions());
    let caller =
        caller.ok_or_else(|| poem::Error::from_status(StatusCode::INTERNAL_SERVER_ERROR))?;
    Ok(format!(
        "the blueprints of {project}, for {}\n",
        caller.title()
    ))
}

/// The application: one route, for keys that may read blueprints, of their own projects if they are restricted.
pub(crate) fn app(edge: &Arc<Edge>) -> impl Endpoint + use<> {
    let need = Requirement::scope(READ).bind("project", path("id"));
    let keys = KeyMiddleware::new(edge, need);
    Route::new().at("/v1/projects/:id/blueprints", get(blueprints).with(keys))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keyward = Keyward::builder(MemoryStore::new())
        .format(KeyFormat::new("acme")?.environment("live")?)
        .scopes([READ.described("Read blueprints")])
        .policy(AllowAll) // who may manage keys: said, never assumed
        .open()
        .await?;
    tokio::spawn(keyward.background());
    let new = NewKey::new(TenantId::new("acme-inc")?, "Power BI dashboard", READ)
        .resources("project:p-17".parse::<keyward::key::Resource>()?)
        .expires_in(Duration::from_secs(86_400));
    let issued = keyward
        .manager()
        .issue(&Actor::system("example"), new)
        .await?;

    let edge = Edge::new(&keyward)
        .accept(KeyIn::bearer())
        .observe(|event| eprintln!("refused: {} {:?}", event.reason, event.near_misses));
    let server = Server::new(TcpListener::bind("127.0.0.1:3000"));
    let key = issued.api_key().expose();
    let route = "http://127.0.0.1:3000/v1/projects";
    println!("curl -i -H 'Authorization: Bearer {key}' {route}/p-17/blueprints   # 200");
    println!("curl -i -H 'Authorization: Bearer {key}' {route}/p-18/blueprints   # 403");
    println!(
        "curl -i -H 'Authorization: {key}' {route}/p-17/blueprints          # 401, and the reason appears here"
    );
    println!("curl -i {route}/p-17/blueprints                                    # 401");
    server.run(app(&Arc::new(edge))).await?;
    Ok(())
}
