//! Connections that read, side by side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::File;
use super::fault::Fault;
use crate::key::TenantId;

/// A bounded number of connections, opened when they are first needed.
pub(super) struct Readers {
    file: File,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// Whose turn it is to list: one at a time of each tenant, so that a tenant's many searches take one place among
/// those who wait.
#[derive(Debug, Default)]
pub(super) struct TenantTurns {
    turns: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl TenantTurns {
    pub(super) async fn turn(&self, tenant: &TenantId) -> Option<OwnedSemaphorePermit> {
        let turns = self.of(tenant);
        // It is never closed.
        turns.acquire_owned().await.ok()
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut turns = self.lock();
        if let Some(turns) = turns.get(tenant) {
            return Arc::clone(turns);
        }
        // Those that are waited for or held are in somebody's hands besides.
        turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let new = Arc::new(Semaphore::new(1));
        turns.insert(tenant.clone(), Arc::clone(&new));
        new
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Semaphore>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    pub(super) fn new(file: File, most: usize) -> Self {
        Self {
            file,
            turns: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
        }
    }

    /// Waits for a turn to read: those who wait hold no thread.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Reads by one of the connections. One that fails is not used again, nor one that was opened when the file was not the
    /// one that it ought to be.
    pub(super) fn read<T>(
        &self,
        check_file: impl Fn() -> Result<(), Fault>,
        read: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        check_file()?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let next = idle().pop();
        let mut connection = match next {
            Some(connection) => connection,
            None => {
                let opened = self.file.reader()?;
                check_file()?;
                opened
            }
        };
        let answer = read(&mut connection)?;
        idle().push(connection);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_tenant_has_one_turn_and_others_have_theirs() {
        let turns = TenantTurns::default();
        let [flood, other] = ["flood", "other"].map(|name| TenantId::new(name).unwrap());
        let mut nobody = Context::from_waker(Waker::noop());
        let mut first = pin!(turns.turn(&flood));
        let Poll::Ready(Some(held)) = first.as_mut().poll(&mut nobody) else {
            panic!("the first has its turn at once");
        };
        let mut second = pin!(turns.turn(&flood));
        assert!(second.as_mut().poll(&mut nobody).is_pending());
        assert!(pin!(turns.turn(&other)).poll(&mut nobody).is_ready());
        drop(held);
        assert!(second.as_mut().poll(&mut nobody).is_ready());
    }

    #[test]
    fn turns_of_idle_tenants_are_forgotten() {
        let turns = TenantTurns::default();
        for number in 0..100 {
            drop(turns.of(&TenantId::new(format!("tenant-{number}")).unwrap()));
        }
        assert_eq!(turns.lock().len(), 1);
    }
}
