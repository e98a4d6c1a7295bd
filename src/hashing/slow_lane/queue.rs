//! The queue before the permits: fair between keys, with a share for management.

use std::collections::{HashMap, VecDeque};

use super::State;
use super::job::Job;
use crate::key::KeyId;

/// On whose account a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hashing) enum Account {
    /// Operations of the manager: issue, import, rotate, find an owner.
    Management,
    /// Verifications of one key.
    Key(KeyId),
}

/// Jobs that wait for a permit.
///
/// Keys take turns, and every second turn is management's. While there is room, an account may take all of it. If
/// the queue is full, a newcomer takes the latest place of the key with the most places, unless the newcomer's account would then
/// have as many. Management has a quarter of the places in any case.
#[derive(Default)]
pub(super) struct Queue {
    management: VecDeque<Box<dyn Job>>,
    /// No list is empty.
    keys: HashMap<KeyId, VecDeque<Box<dyn Job>>>,
    /// Each key of `keys` once, the next first.
    turns: VecDeque<KeyId>,
    was_management: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.management.len() + self.keys.values().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn push(&mut self, account: Account, job: Box<dyn Job>) {
        match account {
            Account::Management => self.management.push_back(job),
            Account::Key(id) => {
                let jobs = self.keys.entry(id).or_default();
                if jobs.is_empty() {
                    self.turns.push_back(id);
                }
                jobs.push_back(job);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Box<dyn Job>> {
        let is_management = self.turns.is_empty() || !self.was_management;
        if is_management && let Some(job) = self.management.pop_front() {
            self.was_management = true;
            return Some(job);
        }
        self.was_management = false;
        let id = self.turns.pop_front()?;
        let jobs = self.keys.get_mut(&id)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.keys.remove(&id);
        } else {
            self.turns.push_back(id);
        }
        job
    }

    /// Takes out the job that must give its place to a newcomer on this account. `None` if the newcomer has to go.
    pub(super) fn displace(&mut self, newcomer: Account) -> Option<Box<dyn Job>> {
        let share = self.len().div_ceil(4);
        let largest = self.keys.iter().max_by_key(|(_, jobs)| jobs.len());
        let (id, most) = largest.map(|(id, jobs)| (*id, jobs.len())).unzip();
        let most = most.unwrap_or(0);
        let (is_fair, own) = match newcomer {
            Account::Management => (self.management.len() < share, 0),
            Account::Key(id) => {
                let own = self.keys.get(&id).map_or(0, VecDeque::len);
                (most > own + 1, own)
            }
        };
        if is_fair {
            return self.pop_latest(id?);
        }
        // Management that took more than its share while there was room gives it back.
        let is_above_share = self.management.len() > share.max(own + 1);
        if newcomer != Account::Management && is_above_share {
            return self.management.pop_back();
        }
        None
    }

    fn pop_latest(&mut self, id: KeyId) -> Option<Box<dyn Job>> {
        let jobs = self.keys.get_mut(&id)?;
        let job = jobs.pop_back();
        if jobs.is_empty() {
            self.keys.remove(&id);
            self.turns.retain(|turn| *turn != id);
        }
        job
    }

    /// Takes out all jobs.
    pub(super) fn drain(&mut self) -> Vec<(Account, Box<dyn Job>)> {
        let management = self.management.drain(..);
        let mut all: Vec<_> = management.map(|job| (Account::Management, job)).collect();
        for id in self.turns.drain(..) {
            let jobs = self.keys.remove(&id).into_iter().flatten();
            all.extend(jobs.map(|job| (Account::Key(id), job)));
        }
        all
    }
}

impl State {
    /// Takes those jobs out of the queue that nobody waits for. They must be dropped without the lock.
    pub(super) fn take_abandoned(&mut self) -> Vec<Box<dyn Job>> {
        let mut abandoned = Vec::new();
        for (account, mut job) in self.waiting.drain() {
            if job.is_awaited(self) {
                self.waiting.push(account, job);
            } else {
                abandoned.push(job);
            }
        }
        abandoned
    }
}

/// Jobs that were taken out of the queue to make room. They must be dropped without the lock.
#[derive(Default)]
pub(super) struct Removed {
    /// Nobody waits for them any more.
    pub(super) abandoned: Vec<Box<dyn Job>>,
    /// It gave its place to another account's job.
    pub(super) displaced: Option<Box<dyn Job>>,
}

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(job) = self.displaced.take() {
            job.refuse();
        }
    }
}
