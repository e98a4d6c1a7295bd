//! The people who manage keys, and their permissions.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use example_support::{Office, has_role, office_routes};
use keyward::http::{Connection, Proxies};
use keyward::key::{Resources, TenantId};
use keyward::manager::{Actor, Operation, Policy, PolicyError, Ruling};
use keyward::{Keyward, async_trait};

use crate::api::PROJECT;
use crate::data::Workspaces;

/// The roles of people.
pub(crate) const ADMINISTRATOR: &str = "workspace-admin";
pub(crate) const MEMBER: &str = "workspace-member";

/// A policy under which workspace administrators manage their workspace's keys, and all others may do nothing, not even
/// list keys.
///
/// An administrator chooses everything about a key but its limits, which the product sets, and restricts it to projects
/// that exist.
#[derive(Debug)]
pub(crate) struct Administrators(pub(crate) Arc<Workspaces>);

#[async_trait]
impl Policy for Administrators {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let is_offered = match operation {
            Operation::Issue { key } => {
                let wanted = &key.restrictions;
                let has_limits = !wanted.quotas.is_empty() || wanted.concurrency.is_some();
                !has_limits && self.exist(&wanted.resources, &key.tenant)
            }
            Operation::Update { key, update } => {
                let has_limits = update.quotas.is_some() || update.concurrency.is_some();
                let resources = update.resources.as_ref();
                let exist = resources.is_none_or(|wanted| self.exist(wanted, key.tenant));
                !has_limits && exist
            }
            _ => true,
        };
        Ok(if is_offered && has_role(actor, ADMINISTRATOR) {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

impl Administrators {
    /// Returns whether these are projects of the workspace.
    fn exist(&self, resources: &Resources, workspace: &TenantId) -> bool {
        let Resources::Only(resources) = resources else {
            return true;
        };
        resources.iter().all(|resource| {
            let project = self.0.project(workspace, resource.value());
            resource.kind() == PROJECT && project.is_some()
        })
    }
}

/// Returns the endpoints that manage keys. They trust the same proxies as the routes for keys.
pub(crate) fn routes(office: Office, keyward: &Keyward, proxies: Proxies) -> Router {
    office_routes(office, keyward).layer(from_fn_with_state(proxies, require_tls))
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
