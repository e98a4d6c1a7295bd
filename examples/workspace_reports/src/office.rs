//! The people who manage keys, and their permissions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use example_support::{ListQuery, NotDone, Office, Person, Session, has_role, office_routes};
use keyward::async_trait;
use keyward::http::{Connection, Proxies};
use keyward::manager::{
    Actor, Issued, KeyListView, ManageError, Operation, PageCursor, Policy, PolicyError, Ruling,
};
use serde::Deserialize;

use crate::data::Workspaces;
use crate::form::IssueForm;
use crate::scopes::{Choice, choices};

/// The roles of people.
pub(crate) const ADMINISTRATOR: &str = "workspace-admin";
pub(crate) const MEMBER: &str = "workspace-member";

/// A policy under which workspace administrators may do everything with their workspace's keys, and all others may do
/// nothing, not even list keys.
#[derive(Debug)]
pub(crate) struct Administrators;

#[async_trait]
impl Policy for Administrators {
    async fn rule(&self, actor: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
        Ok(if has_role(actor, ADMINISTRATOR) {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

/// The page of keys that are at least this many days old.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DueQuery {
    #[serde(default = "DueQuery::year")]
    days: u32,
    #[serde(default)]
    after: Option<PageCursor>,
}

impl DueQuery {
    const fn year() -> u32 {
        365
    }
}

#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) office: Office,
    pub(crate) workspaces: Arc<Workspaces>,
}

/// Returns the endpoints that manage keys. They trust the same proxies as the routes for keys.
pub(crate) fn routes(desk: Desk, proxies: Proxies) -> Router {
    let keys = Router::new()
        .route("/admin/scopes", get(scopes))
        .route("/admin/keys", get(list).post(issue))
        .route("/admin/keys/due", get(due))
        .with_state(desk.clone());
    office_routes(desk.office, keys).route_layer(from_fn_with_state(proxies, require_tls))
}

/// Refuses requests without TLS, including those with codes and sessions, and adds the client's address to all
/// others.
async fn require_tls(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().copied();
    let origin = proxies.origin(connection.unwrap_or_default(), request.headers());
    if !origin.is_tls {
        return (StatusCode::FORBIDDEN, "Use HTTPS.").into_response();
    }
    request.extensions_mut().insert(Connection {
        peer: origin.client,
        is_tls: true,
    });
    next.run(request).await
}

async fn scopes(State(desk): State<Desk>, session: Session) -> Result<Json<Vec<Choice>>, NotDone> {
    let person = desk.office.person(&session)?;
    // No manager operation is called here that would ask the policy.
    if !has_role(person.actor(), ADMINISTRATOR) {
        return Err(ManageError::Refused.into());
    }
    Ok(Json(choices()))
}

async fn list(
    State(desk): State<Desk>,
    session: Session,
    Query(page): Query<ListQuery>,
) -> Result<Json<KeyListView>, NotDone> {
    let keys = desk.office.list(&session, &page, |all| all.live_first());
    Ok(Json(keys.await?))
}

async fn due(
    State(desk): State<Desk>,
    session: Session,
    Query(query): Query<DueQuery>,
) -> Result<Json<KeyListView>, NotDone> {
    let age = Duration::from_hours(24) * query.days;
    let page = ListQuery { after: query.after };
    let due = desk
        .office
        .list(&session, &page, |all| all.due_for_rotation(age));
    Ok(Json(due.await?))
}

async fn issue(
    State(desk): State<Desk>,
    session: Session,
    Json(form): Json<IssueForm>,
) -> Result<Issued, NotDone> {
    let new = |person: &Person| form.key(person.tenant(), &desk.workspaces);
    desk.office.issue(&session, new).await
}
