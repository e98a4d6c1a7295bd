//! The application, in actix.

use std::future::{Ready, ready};

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::ErrorNotFound;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Condition, Next, from_fn};
use actix_web::{
    App, Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, web,
};
use keyward::actix::{Caller, KeyMiddleware, Permitted, Visitor, path};
use keyward::http::{Edge, lookup};
use keyward::verifier::{Grant, Requirement, ResourceDenied};

use super::super::cors::EXPOSED;
use super::{
    ADMIN, Deeds, Edition, Listening, PAGE, Plan, STALL, Seen, Server, counted_rows, found, hourly,
    inner, parts, project_of, projects_of, promising, read, rows, shown,
};

type State = web::Data<Deeds>;

pub(super) fn serve(edge: Edge, deeds: &Deeds, plan: &Plan) -> Listening {
    let (deeds, has_cors) = (web::Data::new(deeds.clone()), plan.cors);
    let server = HttpServer::new(move || {
        let cors = Cors::default()
            .allowed_origin(PAGE)
            .allowed_methods(["GET"])
            .allowed_header("authorization")
            .expose_headers(EXPOSED);
        App::new()
            .app_data(State::clone(&deeds))
            .configure(routes(&edge, &deeds))
            .wrap(Condition::new(has_cors, cors))
    });
    let server = server
        .workers(1)
        .disable_signals()
        .bind_auto_h2c(plan.listen)
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(server);
    (address, Server::Actix(handle))
}

fn routes(edge: &Edge, deeds: &Deeds) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let lookups = deeds.clone();
    let looked_up = lookup(path("id"), move |_, edition| {
        found(lookups.clone(), edition)
    });
    let nameless = deeds.clone();
    let nameless = lookup(path("edition"), move |_, edition| {
        found(nameless.clone(), edition)
    });
    let (edge, limited_deeds) = (edge.clone(), deeds.clone());
    move |app| {
        let keys = KeyMiddleware::new(edge.clone());
        let with = |change: fn(Edge) -> Edge| KeyMiddleware::new(change(edge.clone()));
        let short = with(|edge| edge.max_response_bytes(10));
        app.service(
            keys.resource("/projects")
                .get(read().filters("project"), projects),
        )
        .service(
            keys.resource("/projects/{id}")
                .get(read().bind("project", path("id")), named),
        )
        .service(
            keys.resource("/misbound/{id}")
                .get(read().bind("project", path("project")), named),
        )
        .service(
            keys.resource("/nameless/{id}")
                .post(read().bind("project", nameless.clone()), named),
        )
        .service(
            keys.resource("/moves/{from}/{to}").post(
                read()
                    .bind("project", path("from"))
                    .bind("project", path("to")),
                moved,
            ),
        )
        .service(
            keys.resource("/misbound-twice/{id}")
                .get(
                    read()
                        .bind("project", path("id"))
                        .bind("project", path("project")),
                    named,
                )
                .post(
                    read().bind("project", path("id")).bind("project", nameless),
                    named,
                ),
        )
        .service(
            keys.resource("/editions/{id}")
                .get(read().checked_by_handler("project"), edition)
                .post(read().bind("project", looked_up.clone()), named)
                .delete(
                    Requirement::scope(ADMIN).bind("project", looked_up.clone()),
                    named,
                ),
        )
        .service(
            keys.resource("/looked-up/{id}")
                .post(read().bind("project", looked_up), named),
        )
        .service(
            keys.resource("/forgetful/{id}")
                .get(read().checked_by_handler("project"), forgetful),
        )
        .service(keys.resource("/unsettled").get(read(), echo))
        .service(
            web::resource("/echo")
                .route(web::route().to(echo))
                .wrap(keys.clone()),
        )
        .service(
            with(Edge::keep_credential)
                .resource("/kept")
                .get(read(), echo),
        )
        .route("/open", web::get().to(projects))
        .route("/perhaps", web::get().to(echo))
        .service(keys.resource("/streams/endless").get(read(), endless))
        .service(
            with(Edge::end_with_key)
                .resource("/streams/cut")
                .get(read(), endless),
        )
        .service(
            with(|edge| edge.stall_timeout(STALL))
                .resource("/streams/stalled")
                .get(read(), flood),
        )
        .service(keys.resource("/streams/unbounded").get(read(), flood))
        .service(
            web::resource("/caching")
                .route(web::route().to(caching))
                .wrap(keys.clone()),
        )
        .service(keys.resource("/caching-guarded").get(read(), caching))
        .service(
            keys.resource("/streams/brief")
                .get(read(), streaming(&["a", "b"])),
        )
        .service(
            with(|edge| edge.max_request_bytes(10))
                .resource("/upload")
                .post(read(), upload),
        )
        .service(
            short
                .resource("/short/fits")
                .get(read(), || async { "0123456789" }),
        )
        .service(
            short
                .resource("/short/known")
                .get(read(), || async { "0123456789x" }),
        )
        .service(
            short
                .resource("/short/streamed")
                .get(read(), streaming(&["01234", "56789", "x"])),
        )
        .service(keys.resource("/loaded/{id}").get(promising(), loaded))
        .route("/loaded-open/{id}", web::get().to(loaded))
        .configure(nested(&edge))
        .configure(for_guests(&edge))
        .configure(within(&edge))
        .configure(limited(&edge, &limited_deeds));
    }
}

/// Guards inside of guards.
fn nested(edge: &Edge) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let edge = edge.clone();
    move |app| {
        let keys = KeyMiddleware::new(edge.clone());
        let with = |change: fn(Edge) -> Edge| KeyMiddleware::new(change(edge.clone()));
        app.service(
            web::scope("/nested")
                .service(
                    web::resource("/read")
                        .route(web::get().to(echo))
                        .wrap(keys.require(read())),
                )
                .service(
                    web::resource("/full")
                        .route(web::get().to(echo))
                        .wrap(keys.require(Requirement::full_access())),
                )
                .service(
                    web::resource("/forgotten/{id}")
                        .route(web::get().to(forgetful))
                        .wrap(keys.require(promising())),
                )
                .service(keys.resource("/forgetful/{id}").get(promising(), forgetful))
                .service(
                    with(Edge::end_with_key)
                        .resource("/cut")
                        .get(read(), endless),
                )
                .service(
                    with(|edge| edge.max_response_bytes(10))
                        .resource("/short")
                        .get(read(), || async { "0123456789x" }),
                )
                .wrap(keys.clone()),
        )
        .service(
            web::scope("/promised")
                .service(
                    web::resource("/{id}")
                        .route(web::get().to(edition))
                        .wrap(keys.require(promising())),
                )
                .service(
                    web::resource("/{id}/forgotten")
                        .route(web::get().to(forgetful))
                        .wrap(keys.require(promising())),
                )
                .service(
                    web::resource("/{id}/unasked")
                        .route(web::get().to(forgetful))
                        .wrap(keys.require(read())),
                )
                .wrap(keys.require(promising())),
        );
    }
}

/// Routes that guests may use.
fn for_guests(edge: &Edge) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let keys = KeyMiddleware::new(edge.clone());
    let bounded = KeyMiddleware::new(edge.clone().max_response_bytes(10).max_request_bytes(10));
    move |app| {
        let within =
            |path: &str| web::resource(path).wrap(keys.require(Requirement::any_key().or_guest()));
        app.service(
            web::scope("/guests/guarded")
                .service(keys.resource("").get(read(), echo))
                .wrap(keys.require(Requirement::any_key().or_guest())),
        )
        .service(within("/guests/open").route(web::get().to(echo)))
        .service(
            keys.resource("/guests/{id}")
                .get(read().bind("project", path("id")).or_guest(), echo)
                .post(read().bind("project", path("id")), echo),
        )
        .service(
            keys.resource("/guests/{id}/looked-up").get(
                read()
                    .bind(
                        "project",
                        lookup(path("id"), |_, _| async { Err("never asked") }),
                    )
                    .or_guest(),
                echo,
            ),
        )
        .service(
            keys.resource("/guests/{id}/perhaps")
                .get(Requirement::any_key().or_guest(), perhaps),
        )
        .service(
            keys.resource("/guests/{id}/caller")
                .get(read().or_guest(), projects),
        )
        .service(
            bounded
                .resource("/guests/{id}/long")
                .post(read().or_guest(), |body: String| async move {
                    body + "0123456789x"
                }),
        );
    }
}

/// Guards inside of one that leaves the decision to them, with middleware between.
fn within(edge: &Edge) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let keys = KeyMiddleware::new(edge.clone());
    let paired = KeyMiddleware::new(super::paired(edge));
    move |app| {
        let outer = Requirement::any_key().checked_by_inner_guard();
        let within = web::scope("/within")
            .service(
                keys.resource("/{id}")
                    .get(read().bind("project", path("id")), echo),
            )
            .service(keys.resource("/{id}/unsettled").get(read(), echo))
            .route("/{id}/plain", web::get().to(|| async { "plain" }))
            .route("/{id}/caller", web::get().to(projects))
            .wrap(from_fn(named_tenant))
            .wrap(keys.require(outer.clone()));
        let with_guests = web::scope("/within-guests")
            .service(keys.resource("/guarded").get(read(), echo))
            .service(keys.resource("/guests").get(read().or_guest(), echo))
            .service(paired.resource("/paired").get(read(), echo))
            .route("/plain", web::get().to(|| async { "plain" }))
            .route("/visitor", web::get().to(echo))
            .wrap(keys.require(outer.or_guest()));
        app.service(within).service(with_guests);
    }
}

/// Middleware of the application: it does something for each key.
async fn named_tenant(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let grant = request.extensions().get::<Grant>().cloned().unwrap();
    let mut response = next.call(request).await?;
    let tenant = HeaderValue::try_from(grant.tenant().as_str()).unwrap();
    let name = HeaderName::from_static("x-tenant");
    response.headers_mut().insert(name, tenant);
    Ok(response)
}

async fn perhaps(visitor: Visitor) -> String {
    let title = |caller: Caller| caller.title().to_string();
    visitor.0.map_or_else(|| "nobody".to_owned(), title)
}

/// Limits of routes, in guards inside of guards too.
fn limited(edge: &Edge, deeds: &Deeds) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let (edge, lookups) = (edge.clone(), deeds.clone());
    let looked_up = lookup(path("id"), move |_, edition| {
        found(lookups.clone(), edition)
    });
    move |app| {
        let keys = KeyMiddleware::new(edge.clone());
        let bounded = KeyMiddleware::new(edge.clone().max_request_bytes(10));
        let outer = keys.require(read().quota(hourly("outer", 50)));
        let twice = web::scope("/twice")
            .service(
                keys.resource("/granted")
                    .get(inner(), || async { "granted" }),
            )
            .service(
                keys.resource("/full")
                    .get(Requirement::full_access(), || async { "never" }),
            )
            .service(
                keys.resource("/found/{id}")
                    .post(inner().bind("project", looked_up), named),
            )
            .service(bounded.resource("/upload").post(inner(), upload))
            .service(
                keys.resource("/rows/{count}")
                    .get(inner().estimate(super::ESTIMATE), settling),
            )
            .wrap(outer);
        app.service(twice)
            .service(
                keys.resource("/limited")
                    .get(read().quota(hourly("route", 30)), || async { "ok" }),
            )
            .service(keys.resource("/own-error").get(read(), own_error))
            .service(keys.resource("/rows/{count}").get(rows(), settling))
            .service(
                keys.resource("/rows/{count}/streamed")
                    .get(rows(), settling_at_end),
            )
            .service(
                keys.resource("/rows/{count}/endless")
                    .get(rows(), settling_first),
            )
            .service(keys.resource("/unknown-rows").get(rows(), endless));
    }
}

/// An error of the handler, with headers that are not its own to set.
async fn own_error() -> HttpResponse {
    HttpResponse::ImATeapot()
        .insert_header(("x-ratelimit-limit", "7"))
        .insert_header(("ratelimit", "\"handler\";r=0;t=9"))
        .insert_header(("x-own", "kept"))
        .body("own")
}

async fn settling(caller: Caller, count: web::Path<u32>) -> String {
    caller.settle(*count);
    count.to_string()
}

async fn settling_at_end(caller: Caller, count: web::Path<u32>) -> HttpResponse {
    HttpResponse::Ok().streaming(counted_rows(caller, *count))
}

async fn settling_first(caller: Caller, count: web::Path<u32>) -> HttpResponse {
    caller.settle(*count);
    HttpResponse::Ok().streaming(super::endless())
}

async fn projects(deeds: State, caller: Caller) -> String {
    deeds.act();
    projects_of(&caller)
}

async fn named(deeds: State, id: web::Path<String>) -> String {
    deeds.act();
    id.into_inner()
}

async fn moved(deeds: State, path: web::Path<(String, String)>) -> String {
    deeds.act();
    let (from, to) = path.into_inner();
    format!("{from} {to}")
}

async fn edition(
    deeds: State,
    caller: Caller,
    id: web::Path<String>,
) -> Result<String, ResourceDenied> {
    caller.permits("project", &project_of(&id).ok_or(ResourceDenied)?)?;
    deeds.act();
    Ok(id.into_inner())
}

impl FromRequest for Edition {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").unwrap();
        ready(Self::load(id).ok_or_else(|| ErrorNotFound("no such edition")))
    }
}

async fn loaded(deeds: State, edition: Permitted<Edition>) -> String {
    deeds.act();
    edition.0.0
}

async fn forgetful(_: Caller, id: web::Path<String>) -> String {
    id.into_inner()
}

async fn caching(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    for line in super::caching(request.query_string()) {
        response.append_header(line);
    }
    response.finish()
}

async fn echo(deeds: State, visitor: Visitor, request: HttpRequest) -> String {
    deeds.act();
    let Visitor(caller) = visitor;
    assert_eq!(
        caller.is_some(),
        request.extensions().get::<Grant>().is_some()
    );
    let headers = request.headers().iter();
    let seen = Seen {
        method: request.method().as_str(),
        // Wherever actix keeps the target.
        targets: vec![
            request.uri().to_string(),
            request.match_info().get_ref().uri().to_string(),
            request.query_string().to_owned(),
        ],
        headers: headers
            .map(|(name, value)| (shown(name.as_str(), value.as_bytes()), value.is_sensitive()))
            .collect(),
        grant: caller.as_deref(),
    };
    seen.lines()
}

async fn endless(deeds: State) -> HttpResponse {
    deeds.act();
    HttpResponse::Ok().streaming(super::endless())
}

async fn flood(deeds: State) -> HttpResponse {
    deeds.act();
    HttpResponse::Ok().streaming(super::flood())
}

fn streaming(of: &'static [&'static str]) -> impl Fn() -> Ready<HttpResponse> + Clone + 'static {
    move || ready(HttpResponse::Ok().streaming(parts(of)))
}

async fn upload(deeds: State, body: web::Bytes) -> String {
    deeds.act();
    body.len().to_string()
}
