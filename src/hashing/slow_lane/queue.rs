//! The queue before the permits: fair between tenants, then between keys, with a share for management.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::State;
use super::job::Job;
use crate::key::{KeyId, TenantId};

/// The account for which a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hashing) struct Account {
    pub(in crate::hashing) class: Class,
    pub(in crate::hashing) tenant: TenantId,
    pub(in crate::hashing) key: KeyId,
}

/// The purpose of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hashing) enum Class {
    /// A decision on a request.
    Verification,
    /// An operation of the manager: issue, import, rotate, find an owner.
    Management,
}

/// A job with its account.
pub(super) struct Waiting {
    pub(super) account: Account,
    pub(super) job: Box<dyn Job>,
}

/// The jobs that wait for a permit.
///
/// Tenants take turns, within a tenant its keys do, and every second turn is management's. While there is room, any
/// key may take all of it. If the queue is full, a newcomer takes the latest place of the tenant with the most places,
/// if that tenant has at least two more than the newcomer's own. Otherwise it takes the latest place of its own
/// tenant's key with the most places, by the same rule. Management has a quarter of the places in any case.
#[derive(Default)]
pub(super) struct Queue {
    management: Tenants,
    verifications: Tenants,
    was_management: bool,
}

type Tenants = RoundRobin<TenantId, RoundRobin<KeyId, VecDeque<Waiting>>>;

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.management.len() + self.verifications.len()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        match waiting.account.class {
            Class::Management => self.management.push(waiting),
            Class::Verification => self.verifications.push(waiting),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Box<dyn Job>> {
        let is_management = self.verifications.len() == 0 || !self.was_management;
        let management = is_management.then(|| self.management.pop()).flatten();
        self.was_management = management.is_some();
        let next = management.or_else(|| self.verifications.pop())?;
        Some(next.job)
    }

    /// Removes the job that must give its place to a newcomer on this account; `None` if the newcomer gets no place.
    pub(super) fn displace(&mut self, newcomer: &Account) -> Option<Waiting> {
        let share = self.len().div_ceil(4);
        match newcomer.class {
            Class::Management if self.management.len() < share => self.verifications.pop_latest(),
            Class::Management => self.management.displace(newcomer),
            Class::Verification => self.verifications.displace(newcomer).or_else(|| {
                // Management returns places beyond its share, which it took while there was room.
                let own = self.verifications.len_of(&newcomer.tenant);
                let is_above_share = self.management.len() > share.max(own + 1);
                is_above_share.then(|| self.management.pop_latest())?
            }),
        }
    }

    /// Removes all jobs.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let mut all = Vec::with_capacity(self.len());
        self.management.drain_into(&mut all);
        self.verifications.drain_into(&mut all);
        all
    }
}

/// Jobs in the order in which they run.
trait List: Default {
    fn len(&self) -> usize;
    fn push(&mut self, waiting: Waiting);
    fn pop(&mut self) -> Option<Waiting>;
    /// Removes the latest job of the tenant and the key with the most jobs.
    fn pop_latest(&mut self) -> Option<Waiting>;
    /// Removes the job that must give its place to a newcomer on this account.
    fn displace(&mut self, newcomer: &Account) -> Option<Waiting>;
    fn drain_into(&mut self, all: &mut Vec<Waiting>);
}

/// First come, first served.
impl List for VecDeque<Waiting> {
    fn len(&self) -> usize {
        self.len()
    }

    fn push(&mut self, waiting: Waiting) {
        self.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.pop_front()
    }

    fn pop_latest(&mut self) -> Option<Waiting> {
        self.pop_back()
    }

    fn displace(&mut self, _: &Account) -> Option<Waiting> {
        None
    }

    fn drain_into(&mut self, all: &mut Vec<Waiting>) {
        all.extend(self.drain(..));
    }
}

/// Lists that take turns.
struct RoundRobin<K, L> {
    /// INVARIANT: no list is empty.
    lists: HashMap<K, L>,
    /// INVARIANT: each key of `lists` once, the next first.
    turns: VecDeque<K>,
    /// Number of jobs in all lists.
    len: usize,
}

/// The key of the list that contains an account's jobs.
trait QueueKey: Clone + Eq + Hash {
    fn of(account: &Account) -> Self;
}

impl QueueKey for TenantId {
    fn of(account: &Account) -> Self {
        account.tenant.clone()
    }
}

impl QueueKey for KeyId {
    fn of(account: &Account) -> Self {
        account.key
    }
}

impl<K, L> Default for RoundRobin<K, L> {
    fn default() -> Self {
        Self {
            lists: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<K: QueueKey, L: List> RoundRobin<K, L> {
    fn len_of(&self, name: &K) -> usize {
        self.lists.get(name).map_or(0, List::len)
    }

    /// Removes a job from a list, and an emptied list from the turns.
    fn take(&mut self, name: &K, take: impl FnOnce(&mut L) -> Option<Waiting>) -> Option<Waiting> {
        let list = self.lists.get_mut(name)?;
        let taken = take(list)?;
        self.len -= 1;
        if list.len() == 0 {
            self.lists.remove(name);
            self.turns.retain(|turn| turn != name);
        }
        Some(taken)
    }
}

impl<K: QueueKey, L: List> List for RoundRobin<K, L> {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, waiting: Waiting) {
        let name = K::of(&waiting.account);
        self.len += 1;
        if !self.lists.contains_key(&name) {
            self.turns.push_back(name.clone());
        }
        self.lists.entry(name).or_default().push(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let name = self.turns.front()?.clone();
        self.turns.rotate_left(1);
        self.take(&name, L::pop)
    }

    fn pop_latest(&mut self) -> Option<Waiting> {
        let largest = self.lists.iter().max_by_key(|(_, list)| list.len())?;
        let name = largest.0.clone();
        self.take(&name, L::pop_latest)
    }

    fn displace(&mut self, newcomer: &Account) -> Option<Waiting> {
        let name = K::of(newcomer);
        let most = self.lists.values().map(List::len).max();
        if most > Some(self.len_of(&name) + 1) {
            return self.pop_latest();
        }
        self.take(&name, |own| own.displace(newcomer))
    }

    fn drain_into(&mut self, all: &mut Vec<Waiting>) {
        for name in std::mem::take(&mut self.turns) {
            if let Some(mut list) = self.lists.remove(&name) {
                list.drain_into(all);
            }
        }
        self.len = 0;
    }
}

impl State {
    /// Removes the jobs without waiters from the queue. The caller must drop them without holding the lock.
    pub(super) fn take_abandoned(&mut self) -> Vec<Waiting> {
        let mut abandoned = Vec::new();
        for mut waiting in self.waiting.drain() {
            if waiting.job.is_awaited(self) {
                self.waiting.push(waiting);
            } else {
                abandoned.push(waiting);
            }
        }
        abandoned
    }
}

/// Jobs that were removed from the queue to make room. They must be dropped without holding the lock.
#[derive(Default)]
pub(super) struct Removed {
    /// Jobs without waiters.
    pub(super) abandoned: Vec<Waiting>,
    /// A job that gave its place to another account's job.
    pub(super) displaced: Option<Waiting>,
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(Waiting { job, .. }) = self.displaced.take() {
            job.refuse();
        }
    }
}
