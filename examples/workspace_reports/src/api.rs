//! The routes for keys: a workspace's projects and blueprints, its editions, and their output files.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use example_support::{Paged, Paging, tell_operator};
use keyward::Keyward;
use keyward::axum::{Belongs, Caller, Permitted, path};
use keyward::http::{Edge, KeyIn, Proxies, Source, lookup};
use keyward::tower::KeyLayer;
use keyward::verifier::{Grant, Requirement};
use serde::Deserialize;

use crate::content::{self, Row, Section};
use crate::data::{Blueprint, Edition, NewEdition, Output, Project, Summary, Unfit, Workspaces};
use crate::scopes::{
    READ_BLUEPRINTS, READ_EDITIONS, READ_OUTPUTS, READ_WORKSPACE, WRITE_EDITIONS, WRITE_OUTPUTS,
};

/// The kind of resource that keys can be restricted in.
pub(crate) const PROJECT: &str = "project";

const MAX_REQUEST_BYTES: u64 = 5_000_000;
const MAX_RESPONSE_BYTES: u64 = 10_000_000;

type Data = State<Arc<Workspaces>>;

/// Returns the routes, each of which requires a key with its scope. If a route names a project, or an object of one,
/// the key must also be permitted that project.
pub(crate) fn routes(keyward: &Keyward, workspaces: &Arc<Workspaces>, proxies: Proxies) -> Router {
    let edge = Edge::new(keyward)
        .accept(KeyIn::bearer())
        .trust_proxies(proxies)
        .require_tls()
        .max_request_bytes(MAX_REQUEST_BYTES)
        .max_response_bytes(MAX_RESPONSE_BYTES)
        .observe(tell_operator);
    let keys = KeyLayer::new(edge);
    let need = Requirement::scope;
    let of_blueprint = belonging(workspaces, Workspaces::project_of_blueprint);
    let of_edition = belonging(workspaces, Workspaces::project_of_edition);
    let of_output = belonging(workspaces, Workspaces::project_of_output);
    let create = need(WRITE_EDITIONS).bind(PROJECT, project_in_query);
    Router::new()
        .route(
            "/v1/projects",
            keys.get(need(READ_WORKSPACE).filters(PROJECT), projects),
        )
        .route(
            "/v1/projects/{id}/blueprints",
            keys.get(need(READ_BLUEPRINTS).bind(PROJECT, path("id")), blueprints),
        )
        .route(
            "/v1/blueprints/{id}/editions",
            keys.get(
                need(READ_EDITIONS).bind(PROJECT, of_blueprint),
                blueprint_editions,
            ),
        )
        .route(
            "/v1/editions",
            keys.get(need(READ_EDITIONS).filters(PROJECT), editions)
                .merge(keys.post(create, create_edition)),
        )
        .route(
            "/v1/editions/{id}",
            keys.get(need(READ_EDITIONS).checked_by_handler(PROJECT), edition),
        )
        .route(
            "/v1/editions/{id}/sections/{name}",
            keys.get(
                need(READ_EDITIONS).bind(PROJECT, of_edition.clone()),
                section,
            ),
        )
        .route(
            "/v1/editions/{id}/sections/{name}/rows",
            keys.get(need(READ_EDITIONS).bind(PROJECT, of_edition.clone()), rows),
        )
        .route(
            "/v1/editions/{id}/submit",
            keys.post(need(WRITE_EDITIONS).bind(PROJECT, of_edition), submit),
        )
        .route(
            "/v1/outputs/{id}/generate",
            keys.post(
                need(WRITE_OUTPUTS).bind(PROJECT, of_output.clone()),
                generate,
            ),
        )
        .route(
            "/v1/outputs/{id}/download",
            keys.get(need(READ_OUTPUTS).bind(PROJECT, of_output), download),
        )
        // A request without TLS for a route that does not exist must get the same refusal.
        .fallback_service(keys.get(Requirement::any_key(), nothing))
        // The key layer's bound counts. axum's own bound is lower.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(workspaces))
}

/// Returns the project of the object that `{id}` names, before the handler acts.
fn belonging(
    workspaces: &Arc<Workspaces>,
    project_of: fn(&Workspaces, &str) -> Option<String>,
) -> Source<Parts> {
    let workspaces = Arc::clone(workspaces);
    lookup(path("id"), move |grant: &Grant, id| {
        let project = project_of(&workspaces, &id);
        // Another workspace's object does not exist here, or a restricted key could find out which objects exist.
        let project = project.filter(|id| workspaces.project(grant.tenant(), id).is_some());
        async move { Ok::<_, Infallible>(project) }
    })
}

/// The project of a new edition.
///
/// It is in the query, not in the body: a guard decides before any of the body has come, and a handler that read the
/// project from the body would have to decide by itself. A project in the body may only agree.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    project: String,
}

/// Reads the project as the handler does, so that both use the same one. `None` if the query names it twice.
fn project_in_query(parts: &Parts) -> Option<String> {
    let query = Query::<Place>::try_from_uri(&parts.uri);
    query.ok().map(|Query(place)| place.project)
}

impl FromRequestParts<Arc<Workspaces>> for Edition {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        workspaces: &Arc<Workspaces>,
    ) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, workspaces).await;
        let caller = caller.map_err(IntoResponse::into_response)?;
        let id = Path::<String>::from_request_parts(parts, workspaces).await;
        let Path(id) = id.map_err(IntoResponse::into_response)?;
        let edition = workspaces.edition(caller.tenant(), &id);
        edition.ok_or_else(|| Unfit::Unknown.into_response())
    }
}

impl Belongs for Edition {
    const KIND: &'static str = PROJECT;

    fn resource(&self) -> &str {
        &self.summary.project
    }
}

impl IntoResponse for Unfit {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "There is no such thing."),
            Self::OtherProject => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The body names another project than the query.",
            ),
            Self::OtherBlueprint => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The project has no such blueprint.",
            ),
            Self::AlreadySubmitted => (StatusCode::CONFLICT, "It was submitted already."),
            Self::NeverGenerated => (StatusCode::CONFLICT, "Generate it first."),
        };
        (status, text).into_response()
    }
}

async fn nothing() -> Unfit {
    Unfit::Unknown
}

async fn projects(
    State(workspaces): Data,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Json<Paged<Project>> {
    let only = caller.only(PROJECT);
    let projects = workspaces.projects(caller.tenant());
    let reached = projects.filter(|project| only.permits(&project.id));
    Json(paging.page(reached.cloned(), |project| &project.id))
}

async fn blueprints(
    State(workspaces): Data,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Blueprint>>, Unfit> {
    let project = workspaces.project(caller.tenant(), &id);
    let blueprints = workspaces.blueprints(project.ok_or(Unfit::Unknown)?);
    Ok(Json(
        paging.page(blueprints.cloned(), |blueprint| &blueprint.id),
    ))
}

async fn blueprint_editions(
    State(workspaces): Data,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Summary>>, Unfit> {
    let blueprint = workspaces.blueprint(caller.tenant(), &id);
    let blueprint = blueprint.ok_or(Unfit::Unknown)?;
    let editions = workspaces.editions(|edition| edition.blueprint == blueprint.id);
    Ok(Json(paging.page(editions, |edition| &edition.id)))
}

async fn editions(
    State(workspaces): Data,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Json<Paged<Summary>> {
    let only = caller.only(PROJECT);
    let editions = workspaces.editions(|edition| {
        let project = workspaces.project(caller.tenant(), &edition.project);
        project.is_some_and(|project| only.permits(&project.id))
    });
    Json(paging.page(editions, |edition| &edition.id))
}

async fn edition(Permitted(edition): Permitted<Edition>) -> Json<Edition> {
    Json(edition)
}

async fn section(
    State(workspaces): Data,
    caller: Caller,
    Path((id, name)): Path<(String, String)>,
) -> Result<Json<Section>, Unfit> {
    let edition = workspaces.edition(caller.tenant(), &id);
    let section = content::section(&edition.ok_or(Unfit::Unknown)?, &name);
    section.map(Json).ok_or(Unfit::Unknown)
}

async fn rows(
    State(workspaces): Data,
    caller: Caller,
    Path((id, name)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Row>>, Unfit> {
    let edition = workspaces.edition(caller.tenant(), &id);
    let section = content::section(&edition.ok_or(Unfit::Unknown)?, &name);
    let rows = content::rows(section.as_ref().ok_or(Unfit::Unknown)?);
    Ok(Json(paging.page(rows, |row| &row.id)))
}

async fn create_edition(
    State(workspaces): Data,
    caller: Caller,
    Query(place): Query<Place>,
    Json(new): Json<NewEdition>,
) -> Result<(StatusCode, Json<Edition>), Unfit> {
    let edition = workspaces.create(caller.tenant(), &place.project, new)?;
    Ok((StatusCode::CREATED, Json(edition)))
}

async fn submit(
    State(workspaces): Data,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Edition>, Unfit> {
    Ok(Json(workspaces.submit(caller.tenant(), &id)?))
}

async fn generate(
    State(workspaces): Data,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Output>, Unfit> {
    Ok(Json(workspaces.generate(caller.tenant(), &id)?))
}

async fn download(
    State(workspaces): Data,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Unfit> {
    let output = workspaces.generated(caller.tenant(), &id)?;
    let headers = [(header::CONTENT_TYPE, "text/csv")];
    Ok((headers, content::file(&output)).into_response())
}
