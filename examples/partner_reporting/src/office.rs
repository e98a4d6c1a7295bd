//! The people who manage keys, and their permissions.

use axum::extract::{Path, Query, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use example_support::{
    CodeForm, EventQuery, ListQuery, LoggedIn, NotDone, Office, Person, RotateForm, Session,
    kept_by_no_cache,
};
use keyward::async_trait;
use keyward::audit::SealedEvent;
use keyward::key::{Access, KeyId, Resource, TenantId, ValueError};
use keyward::manager::{
    Actor, Ceiling, KeyListView, NewKey, Operation, Policy, PolicyError, Revoked, Ruling,
};
use serde::Deserialize;

/// A partner: the tenant of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partner {
    Northwind,
    Contoso,
}

impl Partner {
    const fn name(self) -> &'static str {
        match self {
            Self::Northwind => "northwind",
            Self::Contoso => "contoso",
        }
    }

    /// Returns the prefix of the ids of its clients.
    pub(crate) const fn short(self) -> &'static str {
        match self {
            Self::Northwind => "nw",
            Self::Contoso => "co",
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
pub(crate) struct PartnerPerson {
    actor: Actor,
    tenant: TenantId,
}

/// Name prefixes that say whether a person may manage keys. A real product would consult its own list of people.
const PARTNER_LEVEL: &str = "partner-admin/";
const CLIENT_LEVEL: &str = "client-admin/";

impl PartnerPerson {
    pub(crate) fn partner_level(
        name: &str,
        partner: Partner,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Self::new(PARTNER_LEVEL, name, partner.tenant()?).map_err(Into::into)
    }

    pub(crate) fn client_level(
        name: &str,
        partner: Partner,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Self::new(CLIENT_LEVEL, name, partner.tenant()?).map_err(Into::into)
    }

    fn new(level: &str, name: &str, tenant: TenantId) -> Result<Self, ValueError> {
        let actor = Actor::user(
            &format!("{level}{name}"),
            tenant.clone(),
            Ceiling::Unlimited,
        )?;
        Ok(Self { actor, tenant })
    }
}

impl Person for PartnerPerson {
    fn actor(&self) -> Actor {
        self.actor.clone()
    }

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// A policy under which partner-level administrators may do everything with their partner's keys, integrations may
/// issue and rotate their own, and all others may do nothing, not even list keys.
#[derive(Debug)]
pub(crate) struct Administrators;

#[async_trait]
impl Policy for Administrators {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let who = actor.principal();
        let is_administrator = who.is_user() && who.name().starts_with(PARTNER_LEVEL);
        let is_offered = matches!(
            operation,
            Operation::Issue { .. } | Operation::List { .. } | Operation::Rotate { .. }
        );
        let is_for_itself = is_offered && operation.owner() == Some(who);
        Ok(
            if is_administrator || (who.is_integration() && is_for_itself) {
                Ruling::Allow
            } else {
                Ruling::Refuse
            },
        )
    }
}

/// The fields of the form: a title, and an optional client. The product sets all other properties; a key of one
/// client is for customers who want it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueForm {
    title: String,
    client: Option<String>,
}

type Desk = State<Office<PartnerPerson>>;

pub(crate) fn routes(office: Office<PartnerPerson>) -> Router {
    Router::new()
        .route("/admin/login", post(log_in))
        .route("/admin/keys", get(list).post(issue))
        .route("/admin/keys/{id}/rotate", post(rotate))
        .route("/admin/keys/{id}/revoke", post(revoke))
        .route("/admin/events", get(events))
        .layer(map_response(kept_by_no_cache))
        .with_state(office)
}

async fn log_in(State(office): Desk, Json(form): Json<CodeForm>) -> Result<LoggedIn, NotDone> {
    office.log_in(&form)
}

async fn list(
    State(office): Desk,
    session: Session,
    Query(page): Query<ListQuery>,
) -> Result<Json<KeyListView>, NotDone> {
    // A revoked key disappears from the list.
    let keys = office.list(&session, &page, |all| all).await?;
    Ok(Json(keys))
}

async fn issue(
    State(office): Desk,
    session: Session,
    Json(form): Json<IssueForm>,
) -> Result<Response, NotDone> {
    let new = |person: &PartnerPerson| {
        let new = NewKey::new(person.tenant.clone(), form.title, Access::Full);
        Ok(match form.client {
            Some(client) => new.resources(Resource::new("client", &client).map_err(NotDone::form)?),
            None => new,
        })
    };
    let issued = office.issue(&session, new).await?;
    Ok(issued.reveal().into_response())
}

async fn rotate(
    State(office): Desk,
    session: Session,
    Path(id): Path<KeyId>,
    Json(form): Json<RotateForm>,
) -> Result<Response, NotDone> {
    let issued = office.rotate(&session, id, &form).await?;
    Ok(issued.reveal().into_response())
}

async fn revoke(
    State(office): Desk,
    session: Session,
    Path(id): Path<KeyId>,
) -> Result<Json<Revoked>, NotDone> {
    Ok(Json(office.revoke(&session, id).await?))
}

async fn events(
    State(office): Desk,
    session: Session,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<SealedEvent>>, NotDone> {
    Ok(Json(office.events(&session, &query).await?))
}
