//! Limits failed authentications by the client's address.
//!
//! # Which requests are limited?
//! Requests that take a read of the store or a hash: a key that this node knows to be proven is decided before. An IPv4
//! address and an IPv6 /64 have the limit itself, a /56 four times and a /48 sixteen times as much: a client can
//! choose among all addresses of the network that its provider has given to it.
//!
//! # How is it strict?
//! A request takes a place before the work, and gives it back unless its authentication fails. Failures of the
//! last minute and requests in progress are together never more than the limit. A request that finds no place although
//! fewer have failed waits until one of those in progress is decided: many good keys at once, as after a start, are
//! none of them refused. Failures are counted in a [`Ring`], which lets each go at most a second late.
//!
//! # How is memory bounded, and freed?
//! Each shard has room for a number of addresses and networks. If it is full, the one with the fewest failures makes
//! room, and of several the one that failed longest ago: the worst offenders stay. Requests remove drained entries, a
//! shard at a time, and so does the background work.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::ring::Ring;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The window, in seconds.
const WINDOW: u32 = 60;

/// Number of shards.
const SHARDS: usize = 256;

/// Addresses and networks that a shard has room for. Those with a request in progress are kept in any case: the
/// requests take more memory.
const MOST_IN_SHARD: usize = 256;

/// How long a shard is left alone after it was swept, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;

/// Limits failed authentications by the client's address.
pub(crate) struct Failures {
    limit: u64,
    shards: Box<[Mutex<Shard>]>,
    hasher: foldhash::fast::RandomState,
    /// The shard that the next request sweeps.
    next_shard: AtomicU64,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Prefix, Entry, foldhash::fast::RandomState>,
    /// In nanoseconds.
    next_sweep: u64,
}

/// Failures of one address or network.
struct Entry {
    failed: Ring,
    in_progress: u32,
    /// When the last one failed, in nanoseconds.
    latest: u64,
    /// Wakes requests that wait for a place. There are such requests only while others are in progress.
    waiting: Option<Arc<Notify>>,
}

/// An IPv4 address, or the first bits of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Prefix {
    length: u8,
    is_v4: bool,
    bits: u64,
}

/// The address or the networks that a client's failures count in, narrowest first, with how many times the limit each
/// may have.
#[derive(Clone, Copy)]
enum Counted {
    V4([(Prefix, u64); 1]),
    V6([(Prefix, u64); 3]),
}

/// Whether an authentication may begin.
pub(crate) enum Begun<'a> {
    Yes(Place<'a>),
    /// Too many are in progress. One that is woken and does not begin wakes the next.
    Later(Arc<Notify>),
    /// Too many have failed; until then.
    No(Duration),
}

/// The place of an authentication in progress. Dropping it gives it back.
pub(crate) struct Place<'a> {
    failures: &'a Failures,
    counted: Counted,
    failed_at: Option<u64>,
}

impl Failures {
    pub(crate) fn new(limit: NonZeroU32) -> Self {
        Self {
            limit: limit.get().into(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            next_shard: AtomicU64::new(0),
        }
    }

    /// Begins an authentication from this address.
    pub(crate) fn begin(&self, client: IpAddr, now: u64) -> Begun<'_> {
        self.sweep_next(now);
        let counted = Counted::of(client);
        let mut refused_until = None;
        let mut busy = None;
        let mut shard = lock(self.shard_of(&counted));
        for (prefix, times) in counted.all() {
            let Some(entry) = shard.entries.get_mut(prefix) else {
                continue;
            };
            let most = self.limit * times;
            entry.failed.advance(now);
            let failed = entry.failed.used();
            if failed >= most {
                refused_until = refused_until.max(Some(entry.failed.drops_to(most - 1)));
            } else if failed + u64::from(entry.in_progress) >= most && busy.is_none() {
                busy = Some(Arc::clone(entry.waiting.get_or_insert_default()));
            }
        }
        if let Some(until) = refused_until {
            return Begun::No(Duration::from_nanos(until.saturating_sub(now)));
        }
        if let Some(busy) = busy {
            return Begun::Later(busy);
        }
        for (prefix, _) in counted.all() {
            let entry = shard.entries.entry(*prefix).or_insert_with(Entry::new);
            entry.in_progress += 1;
        }
        Begun::Yes(Place {
            failures: self,
            counted,
            failed_at: None,
        })
    }

    /// Removes drained entries.
    pub(crate) fn sweep(&self, now: u64) {
        for shard in &self.shards {
            lock(shard).sweep_if_due(now);
        }
    }

    fn sweep_next(&self, now: u64) {
        let next = self.next_shard.fetch_add(1, Ordering::Relaxed);
        lock(self.shard_at(next)).sweep_if_due(now);
    }

    /// Ends an authentication.
    fn end(&self, counted: &Counted, failed_at: Option<u64>) {
        let mut shard = lock(self.shard_of(counted));
        for (prefix, times) in counted.all() {
            let Some(entry) = shard.entries.get_mut(prefix) else {
                continue;
            };
            entry.in_progress = entry.in_progress.saturating_sub(1);
            if let Some(now) = failed_at {
                entry.failed.advance(now);
                entry.failed.add(1);
                entry.latest = now;
            }
            let has_room_for_all = entry.in_progress == 0;
            if has_room_for_all || entry.failed.used() >= self.limit * times {
                // Each begins, or is refused.
                if let Some(waiting) = entry.waiting.take() {
                    waiting.notify_waiters();
                }
            } else if failed_at.is_none() {
                if let Some(waiting) = &entry.waiting {
                    waiting.notify_one();
                }
            }
            if entry.is_idle() && entry.failed.used() == 0 {
                shard.entries.remove(prefix);
            }
        }
        if let Some(now) = failed_at {
            shard.make_room(now);
        }
    }

    fn shard_of(&self, counted: &Counted) -> &Mutex<Shard> {
        let widest = counted.all().last().map(|(prefix, _)| prefix);
        // All networks of an address are in one shard: one lock covers them.
        self.shard_at(self.hasher.hash_one(widest) >> 32)
    }

    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    fn shard_at(&self, index: u64) -> &Mutex<Shard> {
        &self.shards[usize::try_from(index).unwrap_or(0) % SHARDS]
    }

    #[cfg(test)]
    fn entries(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).entries.len())
            .sum()
    }
}

impl Place<'_> {
    /// Records that the authentication has failed.
    pub(crate) fn fail(mut self, now: u64) {
        self.failed_at = Some(now);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.failures.end(&self.counted, self.failed_at);
    }
}

impl Shard {
    /// Forgets the least, if these are too many.
    fn make_room(&mut self, now: u64) {
        if self.entries.len() > MOST_IN_SHARD {
            self.sweep_if_due(now);
        }
        while self.entries.len() > MOST_IN_SHARD {
            let idle = self.entries.iter().filter(|(_, entry)| entry.is_idle());
            let least = idle.min_by_key(|(_, entry)| (entry.failed.used(), entry.latest));
            let Some(least) = least.map(|(prefix, _)| *prefix) else {
                return;
            };
            self.entries.remove(&least);
        }
    }

    fn sweep_if_due(&mut self, now: u64) {
        if now >= self.next_sweep {
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: u64) {
        self.next_sweep = now.saturating_add(PAUSE);
        self.entries.retain(|_, entry| {
            entry.failed.advance(now);
            !entry.is_idle() || entry.failed.used() > 0
        });
        if self.entries.capacity() > 8 * self.entries.len() {
            self.entries.shrink_to_fit();
        }
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            failed: Ring::new(WINDOW),
            in_progress: 0,
            latest: 0,
            waiting: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.in_progress == 0
    }
}

impl Counted {
    fn of(client: IpAddr) -> Self {
        match canonical(client) {
            IpAddr::V4(address) => {
                let bits = address.to_bits().into();
                Self::V4([(
                    Prefix {
                        length: 32,
                        is_v4: true,
                        bits,
                    },
                    1,
                )])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let bits = [a, b, c, d]
                    .iter()
                    .fold(0, |bits, segment| bits << 16 | u64::from(*segment));
                let first = |length: u8| Prefix {
                    length,
                    is_v4: false,
                    bits: bits & u64::MAX << (64 - length),
                };
                Self::V6([(first(64), 1), (first(56), 4), (first(48), 16)])
            }
        }
    }

    fn all(&self) -> &[(Prefix, u64)] {
        match self {
            Self::V4(all) => all,
            Self::V6(all) => all,
        }
    }
}

/// Returns the IPv4 address in an IPv6 address that maps one (RFC 4291 §2.5.5.2) or translates one (RFC 6052 §2.1).
fn canonical(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                let [.., a, b, c, d] = address.octets();
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => address.to_canonical(),
        },
        v4 => v4,
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
