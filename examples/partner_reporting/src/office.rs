//! The people who manage keys, and their permissions.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use example_support::{ListQuery, NotDone, Office, Person, Session, has_role, office_routes};
use keyward::async_trait;
use keyward::key::{Access, Resource};
use keyward::manager::{
    Actor, Issued, KeyListView, NewKey, Operation, Policy, PolicyError, Ruling,
};
use serde::Deserialize;

/// The roles of people.
pub(crate) const PARTNER_ADMIN: &str = "partner-admin";
pub(crate) const CLIENT_ADMIN: &str = "client-admin";

/// A policy under which partner-level administrators may do everything with their partner's keys, integrations may
/// issue and rotate their own, and all others may do nothing, not even list keys.
#[derive(Debug)]
pub(crate) struct Administrators;

#[async_trait]
impl Policy for Administrators {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let who = actor.principal();
        let is_offered = matches!(
            operation,
            Operation::Issue { .. } | Operation::List { .. } | Operation::Rotate { .. }
        );
        let is_for_itself = is_offered && operation.owner() == Some(who);
        let is_allowed = has_role(actor, PARTNER_ADMIN) || (who.is_integration() && is_for_itself);
        Ok(if is_allowed {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
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

pub(crate) fn routes(office: Office) -> Router {
    let keys = Router::new().route("/admin/keys", get(list).post(issue));
    office_routes(office.clone(), keys.with_state(office))
}

async fn list(
    State(office): State<Office>,
    session: Session,
    Query(page): Query<ListQuery>,
) -> Result<Json<KeyListView>, NotDone> {
    // A revoked key disappears from the list.
    let keys = office.list(&session, &page, |all| all).await?;
    Ok(Json(keys))
}

async fn issue(
    State(office): State<Office>,
    session: Session,
    Json(form): Json<IssueForm>,
) -> Result<Issued, NotDone> {
    let new = |person: &Person| {
        let new = NewKey::new(person.tenant().clone(), form.title, Access::Full);
        Ok(match form.client {
            Some(client) => new.resources(Resource::new("client", &client).map_err(NotDone::form)?),
            None => new,
        })
    };
    office.issue(&session, new).await
}
