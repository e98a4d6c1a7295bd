//! Counters of a node's verifications and their cost.

use crate::cache::CacheStats;
use crate::hashing::Hasher;
use crate::sync::{Count, Striped};

/// Counters of a [`Verifier`](super::Verifier) since it started.
///
/// Hashes include those of issuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerifierStats {
    /// Requests without one readable credential: none, several, or one that no accepted format can read.
    pub malformed: u64,
    /// Presented secrets hashed for the comparison with one that an earlier request has proven, by one block of
    /// SHA-256: once for a request that memory decides, and at most twice for one that reads the store.
    pub tag_hashes: u64,
    /// Requests refused because a quota was used up.
    pub quota_exceeded: u64,
    /// Requests refused because as many of the key as allowed were in flight.
    pub too_many_in_flight: u64,
    /// Requests refused because they cost more than a whole quota.
    pub cost_above_limit: u64,
    /// Requests refused because too many authentications from their address
    /// [had failed](crate::limiter::RateLimiting::failed_authentications). Watch it.
    pub too_many_failures: u64,
    /// Authentications that failed and did not count, because a forwarding header came from a peer that is not a
    /// configured [proxy](crate::http::Proxies). Watch it: a proxy is missing there, or a client sends such headers.
    pub failures_not_limited: u64,
    /// Requests that were undecidable because the limiter, or the source of plans, did not answer or failed. Watch it.
    pub limits_unknown: u64,
    /// Keys read from the store.
    pub store_reads: u64,
    /// SHA-256 and HMAC-SHA-256 digests computed.
    pub fast_hashes: u64,
    /// Argon2id digests computed.
    pub slow_hashes: u64,
    /// Digests replaced by better ones.
    pub rehashed: u64,
    /// Digests that were not replaced because a hash or a commit failed, or another node did it first; a later use
    /// tries again. Digests put off for lack of a permit are not counted.
    pub rehashes_failed: u64,
    /// Polls of the store's change feed that were applied.
    pub feed_polls: u64,
    /// Polls of the store's change feed that failed. Watch it: while it grows, other nodes' changes are noticed late.
    pub feed_poll_failures: u64,
    /// Whether the change feed is current, so that cached keys need not be read again: a poll that began less than a
    /// [lease](super::KeyCache::lease) ago was applied. Watch it; it is always `false` if the cache is off.
    pub feed_is_current: bool,
    /// Keys in memory.
    pub resident_keys: u64,
    /// Approximate memory of these keys, in bytes.
    pub resident_bytes: u64,
}

/// Counters that every request writes.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) malformed: Count,
    pub(super) tag_hashes: Count,
    pub(super) quota_exceeded: Count,
    pub(super) too_many_in_flight: Count,
    pub(super) cost_above_limit: Count,
    pub(super) too_many_failures: Count,
    pub(super) failures_not_limited: Count,
    pub(super) limits_unknown: Count,
}

impl VerifierStats {
    pub(super) fn read(
        counters: &Striped<Counters>,
        hasher: &Hasher,
        cache: &CacheStats,
        (rehashed, rehashes_failed): (u64, u64),
    ) -> Self {
        let (fast_hashes, slow_hashes) = hasher.hashes();
        Self {
            malformed: counters.sum(|counters| &counters.malformed),
            tag_hashes: counters.sum(|counters| &counters.tag_hashes),
            quota_exceeded: counters.sum(|counters| &counters.quota_exceeded),
            too_many_in_flight: counters.sum(|counters| &counters.too_many_in_flight),
            cost_above_limit: counters.sum(|counters| &counters.cost_above_limit),
            too_many_failures: counters.sum(|counters| &counters.too_many_failures),
            failures_not_limited: counters.sum(|counters| &counters.failures_not_limited),
            limits_unknown: counters.sum(|counters| &counters.limits_unknown),
            store_reads: cache.store_reads,
            fast_hashes,
            slow_hashes,
            rehashed,
            rehashes_failed,
            feed_polls: cache.feed_polls,
            feed_poll_failures: cache.feed_poll_failures,
            feed_is_current: cache.feed_is_current,
            resident_keys: u64::try_from(cache.resident_keys).unwrap_or(u64::MAX),
            resident_bytes: cache.resident_bytes,
        }
    }
}
