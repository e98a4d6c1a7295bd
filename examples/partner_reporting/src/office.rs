//! The people who manage keys, and their permissions.

use keyward::async_trait;
use keyward::manager::{Actor, Operation, Policy, PolicyError, Ruling};

use example_support::has_role;

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
