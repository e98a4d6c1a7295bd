//! The people who manage keys, and their permissions.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use example_support::{
    CodeForm, EventQuery, ListQuery, LoggedIn, NotDone, Office, Person, RotateForm, Session,
    kept_by_no_cache,
};
use keyward::async_trait;
use keyward::audit::SealedEvent;
use keyward::http::{Connection, Proxies};
use keyward::key::{KeyId, Principal, TenantId, ValueError};
use keyward::manager::{
    Actor, Ceiling, KeyListView, ManageError, Operation, PageCursor, Policy, PolicyError, Revoked,
    Ruling,
};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

use crate::data::Workspaces;
use crate::form::IssueForm;
use crate::scopes::{Choice, choices};

/// A workspace: the tenant of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workspace {
    Meridian,
    Borealis,
}

impl Workspace {
    const fn name(self) -> &'static str {
        match self {
            Self::Meridian => "meridian",
            Self::Borealis => "borealis",
        }
    }

    pub(crate) fn tenant(self) -> Result<TenantId, ValueError> {
        TenantId::new(self.name())
    }

    pub(crate) fn is(self, tenant: &TenantId) -> bool {
        tenant.as_str() == self.name()
    }
}

/// A person who can log in.
#[derive(Debug, Clone)]
pub(crate) struct WorkspacePerson {
    actor: Actor,
    tenant: TenantId,
}

/// Name prefixes that say a person's role. A real product would consult its own list of people.
const ADMINISTRATOR: &str = "workspace-admin/";
const MEMBER: &str = "workspace-member/";

impl WorkspacePerson {
    pub(crate) fn administrator(
        name: &str,
        workspace: Workspace,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Self::new(ADMINISTRATOR, name, workspace.tenant()?).map_err(Into::into)
    }

    pub(crate) fn member(
        name: &str,
        workspace: Workspace,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Self::new(MEMBER, name, workspace.tenant()?).map_err(Into::into)
    }

    fn new(role: &str, name: &str, tenant: TenantId) -> Result<Self, ValueError> {
        let name = format!("{role}{name}");
        let actor = Actor::user(&name, tenant.clone(), Ceiling::Unlimited)?;
        Ok(Self { actor, tenant })
    }
}

impl Person for WorkspacePerson {
    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// A policy under which workspace administrators may do everything with their workspace's keys, and all others may do
/// nothing, not even list keys.
#[derive(Debug)]
pub(crate) struct Administrators;

#[async_trait]
impl Policy for Administrators {
    async fn rule(&self, actor: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
        Ok(if is_administrator(actor.principal()) {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

fn is_administrator(who: &Principal) -> bool {
    who.is_user() && who.name().starts_with(ADMINISTRATOR)
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
    pub(crate) office: Office<WorkspacePerson>,
    pub(crate) workspaces: Arc<Workspaces>,
}

/// Returns the endpoints that manage keys. They trust the same proxies as the routes for keys.
pub(crate) fn routes(desk: Desk, proxies: Proxies) -> Router {
    Router::new()
        .route("/admin/login", post(log_in))
        .route("/admin/scopes", get(scopes))
        .route("/admin/keys", get(list).post(issue))
        .route("/admin/keys/due", get(due))
        .route("/admin/keys/{id}/rotate", post(rotate))
        .route("/admin/keys/{id}/revoke", post(revoke))
        .route("/admin/events", get(events))
        .route_layer(from_fn_with_state(proxies, require_tls))
        .layer(map_response(kept_by_no_cache))
        .with_state(desk)
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

async fn log_in(State(desk): State<Desk>, Json(form): Json<CodeForm>) -> Result<LoggedIn, NotDone> {
    desk.office.log_in(&form)
}

async fn scopes(State(desk): State<Desk>, session: Session) -> Result<Json<Vec<Choice>>, NotDone> {
    let person = desk.office.person(&session)?;
    // No manager operation is called here that would ask the policy.
    if !is_administrator(person.actor().principal()) {
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
) -> Result<Response, NotDone> {
    let new = |person: &WorkspacePerson| form.key(&person.tenant, &desk.workspaces);
    let issued = desk.office.issue(&session, new).await?;
    Ok(issued.reveal().into_response())
}

async fn rotate(
    State(desk): State<Desk>,
    session: Session,
    Path(id): Path<KeyId>,
    Json(form): Json<RotateForm>,
) -> Result<Response, NotDone> {
    // The successor ends when the old key would have, and the form has no field to change that.
    let issued = desk.office.rotate(&session, id, &form).await?;
    Ok(issued.reveal().into_response())
}

async fn revoke(
    State(desk): State<Desk>,
    session: Session,
    Path(id): Path<KeyId>,
) -> Result<Json<Revoked>, NotDone> {
    Ok(Json(desk.office.revoke(&session, id).await?))
}

async fn events(
    State(desk): State<Desk>,
    session: Session,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<SealedEvent>>, NotDone> {
    Ok(Json(desk.office.events(&session, &query).await?))
}
