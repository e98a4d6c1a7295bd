//! Keyward in front of [poem](https://docs.rs/poem), a framework that Keyward has no adapter for: a minimal
//! middleware. Not included are guards inside of guards, bounds of bodies, look-ups before the handler, and cutting a
//! response when its key ends. Run it with `cargo run -p poem_middleware`; it prints what to try.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example is run for what it prints"
)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use keyward::http::{Answer, Connection, Edge, Head, KeyIn};
use keyward::key::{KeyFormat, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, Grant, Requirement};
use keyward::{Keyward, scope};
use poem::http::Response as Http;
use poem::listener::TcpListener;
use poem::web::{Data, Path};
use poem::{
    Body, Endpoint, EndpointExt, Middleware, Request, Response, Route, Server, get, handler,
};

/// Lets requests through to an endpoint that bear a key which meets a requirement.
#[derive(Clone)]
pub(crate) struct KeyMiddleware {
    edge: Arc<Edge>,
    need: Arc<Requirement>,
    /// The parameters of the path that name resources: their names, and the kinds of what they name.
    paths: Vec<(&'static str, &'static str)>,
}

impl KeyMiddleware {
    pub(crate) fn new(edge: &Arc<Edge>, need: Requirement) -> Self {
        Self {
            edge: Arc::clone(edge),
            need: Arc::new(need),
            paths: Vec::new(),
        }
    }

    /// The resource of this kind is the one that a parameter of the path names.
    pub(crate) fn path(mut self, kind: &'static str, parameter: &'static str) -> Self {
        self.paths.push((kind, parameter));
        self
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
        let KeyMiddleware { edge, need, paths } = &self.middleware;

        // 1. What the request says: its credential, where it comes from, and which resources it names. Where the path
        //    lacks one of its parameters nothing is named, and the request is refused: else a route that names a kind
        //    twice, once by a typo, would be decided on by half of what its handler acts on.
        let values: Option<Vec<_>> = paths
            .iter()
            .map(|(kind, parameter)| Some((*kind, request.raw_path_param(parameter)?)))
            .collect();
        let attempt = values
            .unwrap_or_default()
            .into_iter()
            .fold(Attempt::of(need), |attempt, (kind, value)| {
                attempt.resource(kind, value)
            });
        let head = Head {
            headers: request.headers(),
            connection: Connection {
                peer: request.remote_addr().as_socket_addr().map(|peer| peer.ip()),
                is_tls: *request.scheme() == poem::http::uri::Scheme::HTTPS,
            },
            query: request.original_uri().query(),
        };

        // 2. The decision.
        let admission = match edge.admit(&head, attempt).await {
            Ok(admission) => admission,
            // What is only reported goes on as it came.
            Err(rejection) if rejection.is_report_only => {
                return Ok(self.inner.get_response(request).await);
            }
            Err(rejection) => return Ok(answered(rejection.answer)),
        };

        // 3. The handler gets the grant and no credential.
        //    poem keeps the address as it came, too: with keys in queries, do not log its `original_uri`.
        let mut uri = request.uri().clone();
        edge.remove_credential(request.headers_mut(), &mut uri);
        *request.uri_mut() = uri;
        let (grant, permit) = admission.into_parts();
        request.set_data(grant.clone());
        let mut response = self.inner.get_response(request).await;

        // 4. A handler that forgot what it promised answers nothing.
        if let Err(rejection) = edge.review(&grant, response.status().as_u16()) {
            response = answered(rejection.answer);
        }

        // 5. No cache hands the answer to somebody else, and the client learns how much of its limits is left.
        let private = edge.response_headers(response.headers());
        for header in private.chain(edge.limit_headers_of(&permit)) {
            header.add_to(response.headers_mut());
        }

        // 6. The request is in flight until its response has been sent, or given up.
        let body = response.take_body().into_bytes_stream();
        response.set_body(Body::from_bytes_stream(body.inspect(move |_| {
            let _until_the_end = &permit;
        })));
        Ok(response)
    }
}

fn answered(answer: Answer) -> Response {
    let (head, body) = Http::<Vec<u8>>::from(answer).into_parts();
    let mut response = Response::builder().status(head.status).body(body);
    *response.headers_mut() = head.headers;
    response
}

pub(crate) const READ: Scope = scope!("read:blueprints");

#[handler]
fn blueprints(Path(project): Path<String>, Data(grant): Data<&Grant>) -> String {
    format!("the blueprints of {project}, for {}\n", grant.title())
}

/// The application: one route, for keys that may read blueprints, of their own projects if they are restricted.
pub(crate) fn app(edge: &Arc<Edge>) -> impl Endpoint + use<> {
    let need = Requirement::scope(READ).resource("project");
    let keys = KeyMiddleware::new(edge, need).path("project", "id");
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
        "curl -i -H 'Authorization: {key}' {route}/p-17/blueprints          # 401, and why is told here"
    );
    println!("curl -i {route}/p-17/blueprints                                    # 401");
    server.run(app(&Arc::new(edge))).await?;
    Ok(())
}
