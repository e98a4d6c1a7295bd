//! The routes for keys: a partner's rollups, and reports on its clients and their users.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Json, Router};
use example_support::{Paged, Paging, tell_operator};
use keyward::Keyward;
use keyward::axum::{Caller, path};
use keyward::http::{Edge, KeyIn, lookup};
use keyward::tower::KeyLayer;
use keyward::verifier::{Grant, Requirement};

use crate::data::{Client, Completion, Counts, Entry, Month, Partners, User, trends};
use crate::plans::{REPORTS, ROLLUPS, USERS, per_minute};

/// The kind of resource that keys can be restricted in.
const CLIENT: &str = "client";

type Data = State<Arc<Partners>>;

/// Returns the routes, each of which requires a key with full access, and has the limit of its endpoint. If a route
/// names a client, the key must also be permitted that client.
pub(crate) fn routes(
    keyward: &Keyward,
    partners: &Arc<Partners>,
) -> Result<Router, Box<dyn Error>> {
    let edge = Edge::new(keyward)
        .accept(KeyIn::header("X-API-Key")?)
        .observe(tell_operator);
    let keys = KeyLayer::new(edge);
    let need = |quota| Requirement::full_access().quota(quota);
    let rollups = need(per_minute(ROLLUPS)?).filters(CLIENT);
    let reports = need(per_minute(REPORTS)?);
    let users_of_all = need(per_minute(USERS)?).filters(CLIENT);
    let one = || reports.clone().bind(CLIENT, path("client"));
    let its_client = {
        let partners = Arc::clone(partners);
        lookup(path("user"), move |grant: &Grant, user: String| {
            let client = partners.client_of_user(grant.tenant(), &user);
            let client = client.map(str::to_owned);
            async move { Ok::<_, Infallible>(client) }
        })
    };
    let user = need(per_minute(USERS)?).bind(CLIENT, its_client);
    Ok(Router::new()
        .route("/v1/rollups/counts", keys.get(rollups.clone(), counts))
        .route("/v1/rollups/trends", keys.get(rollups, trend))
        .route(
            "/v1/clients",
            keys.get(reports.clone().filters(CLIENT), clients),
        )
        .route(
            "/v1/clients/{client}/training/completion",
            keys.get(one(), completion),
        )
        .route(
            "/v1/clients/{client}/training/{report}",
            keys.get(one(), training),
        )
        .route(
            "/v1/clients/{client}/phishing/repeat-offenders",
            keys.get(one(), repeat_offenders),
        )
        .route(
            "/v1/clients/{client}/phishing/{report}",
            keys.get(one(), phishing),
        )
        .route("/v1/users", keys.get(users_of_all, users))
        .route("/v1/users/{user}", keys.get(user, one_user))
        .with_state(Arc::clone(partners)))
}

/// Returns the clients of the key's partner that the key is permitted.
fn reached<'a>(partners: &'a Partners, caller: &'a Caller) -> Vec<&'a Client> {
    let only = caller.only(CLIENT);
    let clients = partners.clients_of(caller.tenant());
    clients.filter(|client| only.permits(&client.id)).collect()
}

fn client<'a>(
    partners: &'a Partners,
    caller: &'a Caller,
    id: &str,
) -> Result<&'a Client, StatusCode> {
    let client = partners.client(caller.tenant(), id);
    client.ok_or(StatusCode::NOT_FOUND)
}

async fn counts(State(partners): Data, caller: Caller) -> Json<Counts> {
    let counts = reached(&partners, &caller).into_iter().map(Client::counts);
    Json(counts.fold(Counts::default(), Counts::and))
}

async fn trend(State(partners): Data, caller: Caller) -> Json<Vec<Month>> {
    Json(trends(&reached(&partners, &caller)))
}

async fn clients(
    State(partners): Data,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Json<Paged<Client>> {
    let clients = reached(&partners, &caller).into_iter().cloned();
    Json(paging.page(clients, |client| &client.id))
}

async fn completion(
    State(partners): Data,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Completion>>, StatusCode> {
    Ok(Json(client(&partners, &caller, &id)?.completion()))
}

async fn training(
    State(partners): Data,
    caller: Caller,
    Path((id, report)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Entry>>, StatusCode> {
    let entries = client(&partners, &caller, &id)?.training(&report);
    let entries = entries.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(paging.page(entries, |entry| &entry.id)))
}

async fn phishing(
    State(partners): Data,
    caller: Caller,
    Path((id, report)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Entry>>, StatusCode> {
    let entries = client(&partners, &caller, &id)?.phishing(&report);
    let entries = entries.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(paging.page(entries, |entry| &entry.id)))
}

async fn repeat_offenders(
    State(partners): Data,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<User>>, StatusCode> {
    let offenders = client(&partners, &caller, &id)?.repeat_offenders().cloned();
    Ok(Json(paging.page(offenders, |user| &user.id)))
}

async fn users(
    State(partners): Data,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Json<Paged<User>> {
    let clients = reached(&partners, &caller).into_iter();
    let users = clients.flat_map(|client| client.users.iter().cloned());
    Json(paging.page(users, |user| &user.id))
}

async fn one_user(
    State(partners): Data,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<User>, StatusCode> {
    // Another partner's user does not exist here.
    let clients = reached(&partners, &caller).into_iter();
    let mut users = clients.flat_map(|client| &client.users);
    let user = users.find(|user| user.id == id);
    user.cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}
