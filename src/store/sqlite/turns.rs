//! Queues per tenant, so that no tenant slows another.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::key::TenantId;
use crate::store::{Change, ChangeSet};

/// Queues with one turn at a time for each key, such as a tenant: however many calls of one tenant wait, they take one
/// place among all calls that wait for a connection.
#[derive(Debug)]
pub(super) struct Turns<K>(Mutex<HashMap<K, Arc<Semaphore>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Turns<K> {
    pub(super) async fn turn(&self, key: K) -> Option<OwnedSemaphorePermit> {
        let turns = self.of(key);
        // The semaphore is never closed.
        turns.acquire_owned().await.ok()
    }

    fn of(&self, key: K) -> Arc<Semaphore> {
        let mut turns = self.lock();
        if let Some(turns) = turns.get(&key) {
            return Arc::clone(turns);
        }
        // A queue with a holder or a waiting call has a second reference.
        turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let new = Arc::new(Semaphore::new(1));
        turns.insert(key, Arc::clone(&new));
        new
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue in which a set of changes waits for its turn at the connection that writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum WriteQueue {
    Tenant(TenantId),
    /// Rehashes, for which no caller waits.
    Rehashes,
}

impl WriteQueue {
    /// Returns the queue of a set; `None` if the set must not wait among others: it only ends keys, or is no tenant's.
    pub(super) fn of(set: &ChangeSet) -> Option<Self> {
        let mut changes = set.changes().iter();
        if changes.all(|change| matches!(change, Change::Revoke { .. } | Change::Cutoff { .. })) {
            return None;
        }
        let mut changes = set.changes().iter();
        if changes.all(|change| matches!(change, Change::Rehash { .. })) {
            return Some(Self::Rehashes);
        }
        let of_change = |change: &Change| match change {
            Change::Insert(key) | Change::Replace { with: key, .. } => Some(key.tenant.clone()),
            _ => None,
        };
        let of_events = set.events().find_map(|(_, event)| event.tenant.clone());
        let tenant = of_events.or_else(|| set.changes().iter().find_map(of_change));
        tenant.map(Self::Tenant)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::key::TenantId;

    #[test]
    fn each_tenant_has_one_turn() {
        let turns = Turns::default();
        let [flood, other] = ["flood", "other"].map(|name| TenantId::new(name).unwrap());
        let mut nobody = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.turn(flood.clone()));
        let Poll::Ready(Some(held)) = first.as_mut().poll(&mut nobody) else {
            panic!("the first has its turn at once");
        };
        let mut second = pin!(turns.turn(flood.clone()));
        assert!(second.as_mut().poll(&mut nobody).is_pending());
        assert!(pin!(turns.turn(other)).poll(&mut nobody).is_ready());
        drop(held);
        assert!(second.as_mut().poll(&mut nobody).is_ready());
    }

    #[test]
    fn idle_tenants_are_forgotten() {
        let turns = Turns::default();
        for number in 0..100 {
            drop(turns.of(TenantId::new(format!("tenant-{number}")).unwrap()));
        }
        assert_eq!(turns.lock().len(), 1);
    }
}
