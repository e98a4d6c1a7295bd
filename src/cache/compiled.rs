//! A record in the form that the verifier decides on: scopes as bits, instants as integers, and the rest behind one
//! pointer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;

use super::weight;
use crate::clock::{ClockError, PassedEnds, WallClockReading, unix_micros};
use crate::key::{
    Access, Bits, KeyFormat, KeyId, KeyRecord, Networks, PrefixIndex, Resources, ScopeCatalog,
};

/// How far this node's clock may lag behind the clock that dated a key, before a key with an expiry is undecidable: a
/// clock earlier than the key's issue cannot show that the key has expired.
const MAX_CLOCK_LAG_MICROS: i64 = 5 * 60 * 1_000_000;

/// A key's record as this node caches it, shared by its slot and all its grants.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    pub(crate) record: KeyRecord,
    /// The cache that read it.
    pub(crate) home: Weak<dyn Home>,
    /// Approximate size in memory, in bytes.
    pub(crate) bytes: u32,
}

/// The cache that a record belongs to, as the grants of its key use it.
#[async_trait]
pub(crate) trait Home: Send + Sync {
    /// Returns the time of the monotonic clock, in nanoseconds.
    fn now(&self) -> Option<u64>;

    /// Returns whether the key is good; `None` if its slot cannot decide.
    fn is_good(&self, id: KeyId) -> Option<bool>;

    /// Resolves when the key is no longer good, or when the lease of the last successful check has ended.
    async fn wait_until_ended(&self, id: KeyId);
}

/// A record compiled for deciding: scopes as bits, instants as integers.
#[derive(Debug, Clone)]
pub(crate) struct CompiledRecord {
    pub(crate) cached: Arc<CachedRecord>,
    pub(crate) reach: Reach,
    /// The first instant at which the key is valid, and the first at which it is not any more, in microseconds of Unix
    /// time.
    pub(crate) starts: i64,
    pub(crate) ends: i64,
    /// For a key with an expiry, the earliest instant at which a clock can be right.
    pub(crate) sane_from: i64,
    pub(crate) revision: u64,
    /// Whether the key has limits of its own on the number of requests.
    pub(crate) is_limited: bool,
    pub(crate) standing: Standing,
    /// Index of the key's environment among those of the format.
    pub(crate) environment: u8,
    /// Whether the key is of the application's own format.
    pub(crate) is_ours: bool,
    /// The prefix of the key among those of the format.
    pub(crate) prefix: PrefixIndex,
    pub(crate) is_restricted: bool,
    pub(crate) has_networks: bool,
    /// Whether guesses at the secret could succeed, and so are throttled.
    pub(super) is_weak: bool,
}

/// Scopes that the key reaches.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    Full,
    /// The first 64 scopes, which are the only ones of most applications.
    Few(u64),
    Many(Box<Bits>),
}

/// The part of the status that time alone cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Ended,
    Suspended,
    OtherEnvironment,
}

/// The format and the scopes that records are compiled for.
pub(crate) struct Compiler {
    pub(crate) format: KeyFormat,
    pub(crate) catalog: Arc<ScopeCatalog>,
    pub(crate) catalog_id: CatalogId,
    home: Weak<dyn Home>,
}

/// Distinguishes catalogs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatalogId(u64);

impl Compiler {
    pub(super) fn new(format: KeyFormat, catalog: Arc<ScopeCatalog>, home: Weak<dyn Home>) -> Self {
        static CATALOGS: AtomicU64 = AtomicU64::new(0);
        Self {
            format,
            catalog,
            catalog_id: CatalogId(CATALOGS.fetch_add(1, Ordering::Relaxed)),
            home,
        }
    }

    /// Returns whether the record was compiled here.
    pub(crate) fn has_compiled(&self, cached: &CachedRecord) -> bool {
        Weak::ptr_eq(&cached.home, &self.home)
    }

    /// Compiles a record from the store.
    pub(crate) fn compile(&self, record: KeyRecord) -> CompiledRecord {
        let bytes = size_of::<CachedRecord>() + weight::of(&record);
        let home = Weak::clone(&self.home);
        self.compile_again(Arc::new(CachedRecord {
            record,
            home,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        }))
    }

    /// Compiles a record that is shared already.
    pub(crate) fn compile_again(&self, cached: Arc<CachedRecord>) -> CompiledRecord {
        let record = &cached.record;
        let reach = match &record.restrictions().access {
            Access::Full => Reach::Full,
            Access::Scopes(held) => {
                let bits = self.catalog.reach(held);
                let few = bits.as_first_word().map(Reach::Few);
                few.unwrap_or_else(|| Reach::Many(Box::new(bits)))
            }
        };
        let mut environments = self.format.environments();
        let environment = environments.position(|accepted| accepted == record.environment());
        let environment = environment.and_then(|index| u8::try_from(index).ok());
        let prefix = self.format.index_of(record.prefix());
        let standing = if environment.is_none() {
            Standing::OtherEnvironment
        } else if record.revocation().is_some() || record.is_cut_off() {
            Standing::Ended
        } else if record.suspended_at().is_some() {
            Standing::Suspended
        } else {
            Standing::Good
        };
        CompiledRecord {
            reach,
            starts: record
                .restrictions()
                .not_before
                .map_or(i64::MIN, unix_micros),
            ends: record.end().map_or(i64::MAX, unix_micros),
            sane_from: match record.restrictions().expires_at {
                Some(_) => unix_micros(record.created_at()).saturating_sub(MAX_CLOCK_LAG_MICROS),
                None => i64::MIN,
            },
            revision: record.revision(),
            is_limited: record.restrictions().concurrency.is_some()
                || !record.restrictions().quotas.is_empty(),
            standing,
            environment: environment.unwrap_or(u8::MAX),
            has_networks: record.restrictions().networks != Networks::Any,
            is_ours: prefix != PrefixIndex::NONE && record.legacy_format().is_none(),
            prefix,
            is_restricted: record.restrictions().resources != Resources::Any,
            is_weak: !record.origin().is_strong(),
            cached,
        }
    }
}

impl CompiledRecord {
    pub(crate) fn record(&self) -> &KeyRecord {
        &self.cached.record
    }

    /// Returns whether the key is good now: neither ended nor suspended.
    pub(crate) fn is_good(
        &self,
        wall: &WallClockReading<'_>,
        passed: &PassedEnds,
    ) -> Result<bool, ClockError> {
        let is_good = self.standing == Standing::Good && !passed.has_passed(self.ends, wall)?;
        Ok(is_good && (self.sane_from == i64::MIN || wall.has_reached(self.sane_from)?))
    }
}
