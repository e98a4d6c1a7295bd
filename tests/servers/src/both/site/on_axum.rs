//! The application, in axum.

use std::future::{Ready, ready};
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, FromRequestParts, OriginalUri, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{any, get};
use keyward::axum::{Caller, Permitted, Visitor, path};
use keyward::http::{Edge, lookup};
use keyward::tower::KeyLayer;
use keyward::verifier::{Grant, Requirement, ResourceDenied};
use tower_http::cors::CorsLayer;

use super::super::cors::EXPOSED;
use super::{
    ADMIN, Deeds, Edition, Listening, PAGE, Plan, STALL, Seen, Server, counted_rows, found, hourly,
    inner, parts, project_of, projects_of, promising, read, rows, shown,
};

pub(super) async fn serve(edge: Edge, deeds: &Deeds, plan: &Plan) -> Listening {
    let mut app = routes(&edge, deeds);
    if plan.cors {
        let cors = CorsLayer::new()
            .allow_origin(PAGE.parse::<HeaderValue>().unwrap())
            .allow_headers([header::AUTHORIZATION])
            .expose_headers(EXPOSED.map(HeaderName::from_static));
        app = app.layer(cors);
    }
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(plan.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, Server::Axum(task))
}

fn routes(edge: &Edge, deeds: &Deeds) -> Router {
    let keys = KeyLayer::new(edge.clone());
    let with = |change: fn(Edge) -> Edge| KeyLayer::new(change(edge.clone()));
    let lookups = deeds.clone();
    let looked_up = lookup(path("id"), move |_, edition| {
        found(lookups.clone(), edition)
    });
    let nameless = deeds.clone();
    let nameless = lookup(path("edition"), move |_, edition| {
        found(nameless.clone(), edition)
    });
    let short = with(|edge| edge.max_response_bytes(10));
    Router::new()
        .route("/projects", keys.get(read().filters("project"), projects))
        .route(
            "/projects/{id}",
            keys.get(read().bind("project", path("id")), named),
        )
        .route(
            "/misbound/{id}",
            keys.get(read().bind("project", path("project")), named),
        )
        .route(
            "/nameless/{id}",
            keys.post(read().bind("project", nameless.clone()), named),
        )
        .route(
            "/moves/{from}/{to}",
            keys.post(
                read()
                    .bind("project", path("from"))
                    .bind("project", path("to")),
                moved,
            ),
        )
        .route(
            "/misbound-twice/{id}",
            keys.get(
                read()
                    .bind("project", path("id"))
                    .bind("project", path("project")),
                named,
            )
            .merge(keys.post(
                read().bind("project", path("id")).bind("project", nameless),
                named,
            )),
        )
        .route(
            "/editions/{id}",
            keys.get(read().checked_by_handler("project"), edition)
                .merge(keys.post(read().bind("project", looked_up.clone()), named))
                .merge(keys.delete(
                    Requirement::scope(ADMIN).bind("project", looked_up.clone()),
                    named,
                )),
        )
        .route(
            "/looked-up/{id}",
            keys.post(read().bind("project", looked_up), named),
        )
        .route(
            "/forgetful/{id}",
            keys.get(read().checked_by_handler("project"), forgetful),
        )
        .route("/unsettled", keys.get(read(), echo))
        .route("/echo", any(echo).layer(keys.clone()))
        .route("/kept", with(Edge::keep_credential).get(read(), echo))
        .route("/open", get(projects))
        .route("/perhaps", get(echo))
        .route("/streams/endless", keys.get(read(), endless))
        .route(
            "/streams/cut",
            with(Edge::end_with_key).get(read(), endless),
        )
        .route(
            "/streams/stalled",
            with(|edge| edge.stall_timeout(STALL)).get(read(), flood),
        )
        .route("/streams/unbounded", keys.get(read(), flood))
        .route("/caching", any(caching).layer(keys.clone()))
        .route("/caching-guarded", keys.get(read(), caching))
        .route("/streams/brief", keys.get(read(), streaming(&["a", "b"])))
        .route(
            "/upload",
            with(|edge| edge.max_request_bytes(10)).post(read(), upload),
        )
        .route("/short/fits", short.get(read(), || async { "0123456789" }))
        .route(
            "/short/known",
            short.get(read(), || async { "0123456789x" }),
        )
        .route(
            "/short/streamed",
            short.get(read(), streaming(&["01234", "56789", "x"])),
        )
        .route("/loaded/{id}", keys.get(promising(), loaded))
        .route("/loaded-open/{id}", get(loaded))
        .merge(nested(edge))
        .merge(for_guests(edge))
        .merge(within(edge))
        .merge(limited(edge, deeds))
        .with_state(deeds.clone())
}

/// Guards inside of guards.
fn nested(edge: &Edge) -> Router<Deeds> {
    let keys = KeyLayer::new(edge.clone());
    let with = |change: fn(Edge) -> Edge| KeyLayer::new(change(edge.clone()));
    let within = Router::new()
        .route("/nested/read", get(echo).layer(keys.require(read())))
        .route(
            "/nested/full",
            get(echo).layer(keys.require(Requirement::full_access())),
        )
        .route(
            "/nested/forgotten/{id}",
            get(forgetful).layer(keys.require(promising())),
        )
        .route("/nested/forgetful/{id}", keys.get(promising(), forgetful))
        .route("/nested/cut", with(Edge::end_with_key).get(read(), endless))
        .route(
            "/nested/short",
            with(|edge| edge.max_response_bytes(10)).get(read(), || async { "0123456789x" }),
        )
        .route_layer(keys.clone());
    let promised = Router::new()
        .route(
            "/promised/{id}",
            get(edition).layer(keys.require(promising())),
        )
        .route(
            "/promised/{id}/forgotten",
            get(forgetful).layer(keys.require(promising())),
        )
        .route(
            "/promised/{id}/unasked",
            get(forgetful).layer(keys.require(read())),
        )
        .route_layer(keys.require(promising()));
    within.merge(promised)
}

/// Routes that guests may use.
fn for_guests(edge: &Edge) -> Router<Deeds> {
    let keys = KeyLayer::new(edge.clone());
    let bounded = KeyLayer::new(edge.clone().max_response_bytes(10).max_request_bytes(10));
    let within = Router::new()
        .route("/guests/guarded", keys.get(read(), echo))
        .route("/guests/open", get(echo))
        .route_layer(keys.require(Requirement::any_key().or_guest()));
    Router::new()
        .route(
            "/guests/{id}",
            keys.get(read().bind("project", path("id")).or_guest(), echo)
                .merge(keys.post(read().bind("project", path("id")), echo)),
        )
        .route(
            "/guests/{id}/looked-up",
            keys.get(
                read()
                    .bind(
                        "project",
                        lookup(path("id"), |_, _| async { Err("never asked") }),
                    )
                    .or_guest(),
                echo,
            ),
        )
        .route(
            "/guests/{id}/perhaps",
            keys.get(Requirement::any_key().or_guest(), perhaps),
        )
        .route("/guests/{id}/caller", keys.get(read().or_guest(), projects))
        .route(
            "/guests/{id}/long",
            bounded.post(read().or_guest(), |body: String| async {
                body + "0123456789x"
            }),
        )
        .merge(within)
}

/// Guards inside of one that leaves the decision to them, with middleware between.
fn within(edge: &Edge) -> Router<Deeds> {
    let keys = KeyLayer::new(edge.clone());
    let paired = KeyLayer::new(super::paired(edge));
    let outer = Requirement::any_key().checked_by_inner_guard();
    let within = Router::new()
        .route(
            "/within/{id}",
            keys.get(read().bind("project", path("id")), echo),
        )
        .route("/within/{id}/unsettled", keys.get(read(), echo))
        .route("/within/{id}/plain", get(|| async { "plain" }))
        .route("/within/{id}/caller", get(projects))
        .route_layer(from_fn(named_tenant))
        .route_layer(keys.require(outer.clone()));
    let with_guests = Router::new()
        .route("/within-guests/guarded", keys.get(read(), echo))
        .route("/within-guests/guests", keys.get(read().or_guest(), echo))
        .route("/within-guests/paired", paired.get(read(), echo))
        .route("/within-guests/plain", get(|| async { "plain" }))
        .route("/within-guests/visitor", get(echo))
        .route_layer(keys.require(outer.or_guest()));
    within.merge(with_guests)
}

/// Middleware of the application: it does something for each key.
async fn named_tenant(
    Extension(grant): Extension<Grant>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let tenant = HeaderValue::try_from(grant.tenant().as_str()).unwrap();
    response.headers_mut().insert("x-tenant", tenant);
    response
}

async fn perhaps(caller: Option<Caller>) -> String {
    caller.map_or_else(|| "nobody".to_owned(), |caller| caller.title().to_string())
}

/// Limits of routes, in guards inside of guards too.
fn limited(edge: &Edge, deeds: &Deeds) -> Router<Deeds> {
    let keys = KeyLayer::new(edge.clone());
    let bounded = KeyLayer::new(edge.clone().max_request_bytes(10));
    let lookups = deeds.clone();
    let looked_up = lookup(path("id"), move |_, edition| {
        found(lookups.clone(), edition)
    });
    let twice = Router::new()
        .route("/twice/granted", keys.get(inner(), || async { "granted" }))
        .route(
            "/twice/full",
            keys.get(Requirement::full_access(), || async { "never" }),
        )
        .route(
            "/twice/found/{id}",
            keys.post(inner().bind("project", looked_up), named),
        )
        .route("/twice/upload", bounded.post(inner(), upload))
        .route(
            "/twice/rows/{count}",
            keys.get(inner().estimate(super::ESTIMATE), settling),
        )
        .route_layer(keys.require(read().quota(hourly("outer", 50))));
    Router::new()
        .route(
            "/limited",
            keys.get(read().quota(hourly("route", 30)), || async { "ok" }),
        )
        .route("/own-error", keys.get(read(), own_error))
        .route("/rows/{count}", keys.get(rows(), settling))
        .route("/rows/{count}/streamed", keys.get(rows(), settling_at_end))
        .route("/rows/{count}/endless", keys.get(rows(), settling_first))
        .route("/unknown-rows", keys.get(rows(), endless))
        .merge(twice)
}

/// An error of the handler, with headers that are not its own to set.
async fn own_error() -> (StatusCode, [(&'static str, &'static str); 3], &'static str) {
    let headers = [
        ("x-ratelimit-limit", "7"),
        ("ratelimit", "\"handler\";r=0;t=9"),
        ("x-own", "kept"),
    ];
    (StatusCode::IM_A_TEAPOT, headers, "own")
}

async fn settling(caller: Caller, Path(count): Path<u32>) -> String {
    caller.settle(count);
    count.to_string()
}

async fn settling_at_end(caller: Caller, Path(count): Path<u32>) -> Body {
    Body::from_stream(counted_rows(caller, count))
}

async fn settling_first(caller: Caller, Path(count): Path<u32>) -> Body {
    caller.settle(count);
    Body::from_stream(super::endless())
}

async fn projects(State(deeds): State<Deeds>, caller: Caller) -> String {
    deeds.act();
    projects_of(&caller)
}

async fn named(State(deeds): State<Deeds>, Path(id): Path<String>) -> String {
    deeds.act();
    id
}

async fn moved(State(deeds): State<Deeds>, Path((from, to)): Path<(String, String)>) -> String {
    deeds.act();
    format!("{from} {to}")
}

async fn edition(
    State(deeds): State<Deeds>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<String, ResourceDenied> {
    caller.permits("project", &project_of(&id).ok_or(ResourceDenied)?)?;
    deeds.act();
    Ok(id)
}

impl<S: Send + Sync> FromRequestParts<S> for Edition {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Self::load(&path.unwrap()).ok_or(StatusCode::NOT_FOUND)
    }
}

async fn loaded(State(deeds): State<Deeds>, Permitted(edition): Permitted<Edition>) -> String {
    deeds.act();
    edition.0
}

async fn forgetful(_: Caller, Path(id): Path<String>) -> String {
    id
}

async fn caching(uri: OriginalUri) -> HeaderMap {
    let lines = super::caching(uri.0.query().unwrap_or_default());
    let lines = lines.map(|(name, value)| {
        let name = HeaderName::try_from(name).unwrap();
        (name, HeaderValue::try_from(value).unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

async fn echo(
    State(deeds): State<Deeds>,
    OriginalUri(original): OriginalUri,
    Visitor(caller): Visitor,
    grant: Option<Extension<Grant>>,
    request: Request,
) -> String {
    deeds.act();
    assert_eq!(caller.is_some(), grant.is_some());
    let headers = request.headers().iter();
    let seen = Seen {
        method: request.method().as_str(),
        targets: vec![request.uri().to_string(), original.to_string()],
        headers: headers
            .map(|(name, value)| (shown(name.as_str(), value.as_bytes()), value.is_sensitive()))
            .collect(),
        grant: caller.as_deref(),
    };
    seen.lines()
}

async fn endless(State(deeds): State<Deeds>) -> Body {
    deeds.act();
    Body::from_stream(super::endless())
}

async fn flood(State(deeds): State<Deeds>) -> Body {
    deeds.act();
    Body::from_stream(super::flood())
}

fn streaming(
    of: &'static [&'static str],
) -> impl Fn() -> Ready<Body> + Clone + Send + Sync + 'static {
    move || ready(Body::from_stream(parts(of)))
}

async fn upload(State(deeds): State<Deeds>, body: Bytes) -> String {
    deeds.act();
    body.len().to_string()
}
