//! Reading a tenant's events.

use super::{Actor, KeyManager, ManageError, Operation};
use crate::audit::SealedEvent;
use crate::key::TenantId;
use crate::store::StoreError;

/// Most events in one answer.
const MOST: usize = 1_000;

impl KeyManager {
    /// Reads the tenant's events with a number above `after`, in commit order: at most `limit` of them, and at most
    /// 1,000.
    ///
    /// To read all of them, begin with 0. Pass the [number](SealedEvent::number) of the last event of a page as
    /// `after` of the next, until a page is empty. Numbers count the events of all tenants, so the numbers of one
    /// tenant have gaps.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Store`], with
    /// [`StoreError::Unsupported`] from a store that keeps no events.
    pub async fn events(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<SealedEvent>, ManageError> {
        if !actor.acts_for(tenant) {
            return Err(ManageError::Refused);
        }
        self.ask(actor, &Operation::ReadEvents { tenant }).await?;
        let log = self.parts.store.events();
        let log = log.ok_or(StoreError::Unsupported)?;
        let events = log.read(Some(tenant), after, limit.min(MOST)).await?;
        let is_of_tenant = |sealed: &SealedEvent| sealed.event.tenant.as_ref() == Some(tenant);
        if !events.iter().all(is_of_tenant) {
            return Err(ManageError::Store(StoreError::Corrupt(
                "the store read another tenant's events".into(),
            )));
        }
        Ok(events)
    }
}
