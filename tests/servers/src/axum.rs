//! Guarded routes of an axum application, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{MethodFilter, get, post};
use keyward::axum::{Caller, path};
use keyward::http::{Edge, KeyIn, lookup};
use keyward::key::{Network, Resource, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::{TestKey, assert_guarded, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::{Refused, Requirement};
use keyward::{Keyward, scope};

use crate::READ;
use crate::wire;

/// What the application did: how often it looked up, and how often it acted.
#[derive(Clone, Default)]
struct Deeds {
    lookups: Arc<AtomicUsize>,
    acts: Arc<AtomicUsize>,
}

struct Site {
    address: String,
    keyward: Keyward,
    key: TestKey,
    deeds: Deeds,
}

async fn projects(caller: Caller) -> String {
    let only = caller.only("project");
    let seen = ["p-1", "p-2"]
        .into_iter()
        .filter(|project| only.permits(project));
    seen.collect::<Vec<_>>().join(" ")
}

async fn project(Path(id): Path<String>, State(deeds): State<Deeds>) -> String {
    deeds.acts.fetch_add(1, Ordering::Relaxed);
    id
}

async fn edition(caller: Caller, Path(id): Path<String>) -> Result<String, Refused> {
    caller.permits("project", &project_of(&id).ok_or(Refused)?)?;
    Ok(id)
}

async fn forgetful(_: Caller, Path(id): Path<String>) -> String {
    id
}

async fn perhaps(caller: Option<Caller>) -> String {
    caller.map_or_else(|| "nobody".to_owned(), |caller| caller.title().to_string())
}

/// Edition `e-1-7` is of project `p-1`.
fn project_of(edition: &str) -> Option<String> {
    let (project, _) = edition.strip_prefix("e-")?.split_once('-')?;
    Some(format!("p-{project}"))
}

fn routes(keys: &KeyLayer, deeds: &Deeds) -> Router {
    let read = || Requirement::scope(READ);
    let lookups = Arc::clone(&deeds.lookups);
    let looked_up = lookup(path("id"), move |edition: String| {
        lookups.fetch_add(1, Ordering::Relaxed);
        async move {
            if edition == "e-broken" {
                return Err("the database is away");
            }
            Ok(project_of(&edition))
        }
    });
    let nameless = lookup(path("edition"), |_| async {
        Ok::<_, std::io::Error>(Some("p-1".to_owned()))
    });
    Router::new()
        .route(
            "/nameless/{id}",
            keys.post(read().bind("project", nameless), project),
        )
        .route("/projects", keys.get(read().filters("project"), projects))
        .route(
            "/projects/{id}",
            keys.get(read().bind("project", path("id")), project),
        )
        .route(
            "/misbound/{id}",
            keys.get(read().bind("project", path("project")), project),
        )
        .route(
            "/editions/{id}",
            keys.get(read().checked_by_handler("project"), edition)
                .merge(keys.post(read().bind("project", looked_up.clone()), project))
                .merge(keys.delete(
                    Requirement::scope(scope!("admin")).bind("project", looked_up),
                    project,
                )),
        )
        .route(
            "/forgetful/{id}",
            keys.get(read().checked_by_handler("project"), forgetful),
        )
        .with_state(deeds.clone())
}

impl Site {
    async fn open() -> Self {
        let (keyward, key) = keyward_with_key([READ]).await;
        let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
        let deeds = Deeds::default();
        let routes = routes(&keys, &deeds).into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            address,
            keyward,
            key,
            deeds,
        }
    }

    async fn ask(&self, line: &str, key: Option<&TestKey>) -> (u16, String) {
        let headers = key.map(|key| format!("Authorization: {}", key.bearer()));
        let headers: Vec<_> = headers.into_iter().collect();
        let reply = wire::ask(&self.address, line, &headers, "").await;
        (reply.status, reply.body)
    }

    async fn restricted(&self) -> TestKey {
        let project: Resource = "project:p-1".parse().unwrap();
        self.issue(|new| new.resources(project)).await
    }

    async fn issue(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "another", READ);
        TestKey::issue_as(&self.keyward, with(new)).await
    }
}

const PATHS: [&str; 5] = [
    "/projects",
    "/projects/p-1",
    "/misbound/p-1",
    "/editions/e-1-7",
    "/forgetful/e-1-7",
];

#[tokio::test]
async fn every_route_and_method_is_closed_without_a_key() {
    let (keyward, _) = keyward_with_key([READ]).await;
    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    assert_guarded(routes(&keys, &Deeds::default()), PATHS).await;
}

#[tokio::test]
#[should_panic(expected = "POST /open: 200")]
async fn a_method_that_was_added_after_a_layer_is_found() {
    let (keyward, _) = keyward_with_key([READ]).await;
    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    let app = Router::new().route("/open", get(perhaps).layer(keys).post(perhaps));
    assert_guarded(app, ["/open"]).await;
}

#[tokio::test]
#[should_panic(expected = "404")]
async fn a_path_that_leads_nowhere_is_found() {
    assert_guarded(Router::new().route("/a", post(perhaps)), ["/b"]).await;
}

#[tokio::test]
async fn a_restricted_key_gets_its_own_resources_and_no_others() {
    let site = Site::open().await;
    let restricted = site.restricted().await;
    for (line, of_restricted, of_any) in [
        ("GET /projects", (200, "p-1"), (200, "p-1 p-2")),
        ("GET /projects/p-1", (200, "p-1"), (200, "p-1")),
        ("HEAD /projects/p-1", (200, ""), (200, "")),
        ("GET /projects/%70-1", (200, "p-1"), (200, "p-1")),
        ("GET /editions/e-1-7", (200, "e-1-7"), (200, "e-1-7")),
        ("POST /editions/e-1-7", (200, "e-1-7"), (200, "e-1-7")),
    ] {
        assert_eq!(
            site.ask(line, Some(&restricted)).await,
            (of_restricted.0, of_restricted.1.to_owned()),
            "{line}"
        );
        assert_eq!(
            site.ask(line, Some(&site.key)).await,
            (of_any.0, of_any.1.to_owned()),
            "{line}"
        );
    }
    let acts = site.deeds.acts.load(Ordering::Relaxed);
    for (line, of_restricted) in [
        ("GET /projects/p-2", 403),
        ("HEAD /projects/p-2", 403),
        ("GET /projects/p-1%2f..%2fp-2", 403),
        ("GET /projects/p-1%00", 403),
        ("GET /projects/%ff", 403),
        ("GET /projects/p-1/", 404),
        ("GET //projects/p-2", 404),
        ("GET /misbound/p-1", 403),
        ("GET /editions/e-2-7", 403),
        ("POST /editions/e-2-7", 403),
        ("POST /editions/none", 404),
        ("DELETE /editions/e-1-7", 403),
        ("POST /nameless/e-1-7", 403),
        // There is no such method: one of the route's guards answers, whichever.
        ("PUT /editions/e-1-7", 403),
        ("OPTIONS /editions/e-1-7", 403),
        ("GET /forgetful/e-1-7", 500),
        ("HEAD /forgetful/e-1-7", 500),
    ] {
        let (status, body) = site.ask(line, Some(&restricted)).await;
        assert_eq!(status, of_restricted, "{line}: {body}");
    }
    assert_eq!(
        site.deeds.acts.load(Ordering::Relaxed),
        acts,
        "a refusal comes before the handler"
    );
    assert_eq!(
        site.ask("GET /misbound/p-1", Some(&site.key)).await.0,
        403,
        "a slip shows with any key"
    );
    assert_eq!(
        site.ask("POST /nameless/e-1-7", Some(&site.key)).await.0,
        403
    );
    assert_eq!(
        site.ask("GET /forgetful/e-1-7", Some(&site.key)).await.0,
        500,
        "and so does this one"
    );
    let (_, refused) = site.ask("GET /editions/e-2-7", Some(&restricted)).await;
    let (_, denied) = site.ask("GET /projects/p-2", Some(&restricted)).await;
    assert_eq!(refused, denied, "a handler refuses in the same words");
}

#[tokio::test]
async fn nothing_is_looked_up_for_those_who_may_not() {
    let site = Site::open().await;
    let line = "POST /editions/e-1-7";
    let looked_up = || site.deeds.lookups.load(Ordering::Relaxed);
    assert_eq!(site.ask(line, None).await.0, 401);
    assert_eq!(
        site.ask("DELETE /editions/e-1-7", Some(&site.key)).await.0,
        403,
        "the scope is missing"
    );
    assert_eq!(looked_up(), 0);
    assert_eq!(site.ask(line, Some(&site.key)).await.0, 200);
    assert_eq!(looked_up(), 1);
    let (status, body) = site.ask("POST /editions/e-broken", Some(&site.key)).await;
    assert_eq!(status, 503);
    assert!(!body.contains("away"), "{body}");
}

#[tokio::test]
async fn the_address_is_the_one_that_the_server_accepted() {
    let site = Site::open().await;
    let here: Network = "127.0.0.0/8".parse().unwrap();
    let there: Network = "203.0.113.0/24".parse().unwrap();
    let here = site.issue(|new| new.networks(here)).await;
    let there = site.issue(|new| new.networks(there)).await;
    assert_eq!(site.ask("GET /projects", Some(&here)).await.0, 200);
    assert_eq!(site.ask("GET /projects", Some(&there)).await.0, 401);
}

#[tokio::test]
#[should_panic(expected = "for GET and HEAD only")]
async fn a_route_that_acts_cannot_leave_the_check_to_its_handler() {
    let (keyward, _) = keyward_with_key([READ]).await;
    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    let need = Requirement::scope(READ).checked_by_handler("project");
    let _: Router = Router::new().route(
        "/",
        keys.on(MethodFilter::GET.or(MethodFilter::POST), need, perhaps),
    );
}

#[tokio::test]
async fn a_handler_that_is_not_guarded_gets_no_caller() {
    let (keyward, key) = keyward_with_key([READ]).await;
    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()).report_only());
    let app = Router::new()
        .route("/open", get(projects))
        .route("/perhaps", keys.get(Requirement::any_key(), perhaps));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let bearer = [format!("Authorization: {}", key.bearer())];
    assert_eq!(
        wire::ask(&address, "GET /open", &bearer, "").await.status,
        500
    );
    assert_eq!(
        wire::ask(&address, "GET /perhaps", &[], "").await.body,
        "nobody"
    );
    assert_eq!(
        wire::ask(&address, "GET /perhaps", &bearer, "").await.body,
        "a key for tests"
    );
}
