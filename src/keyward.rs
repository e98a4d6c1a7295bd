//! The assembled library and its builder.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::cache::{Cache, FencedStore, Slots};
use crate::clock::{BootClock, Clock, ClockError, MonotonicClock, PassedEnds, SystemClock};
use crate::codes::codes;
use crate::credential::Credentials;
use crate::hashing::{Hasher, Hashing};
use crate::import::ImportedKeys;
use crate::key::{CatalogError, Environment, KeyFormat, ScopeCatalog, ScopeDeclaration};
use crate::limiter::{Limiting, RateLimiting};
use crate::manager::{self, KeyManager, Lookups, Policy, RuleBook, StoreAccess, TenantRules};
use crate::random::{OsRandom, RandomError, RandomSource};
use crate::store::{Change, ChangeId, ChangeSet, KeyStore, Outcome, PendingUsage, StoreError};
use crate::verifier::{KeyCache, Verifier};

/// Interval at which the background work writes key usage to the store.
const HAND_ON: Duration = Duration::from_secs(60);

/// Interval at which the background work frees the memory of counters that are not needed any more.
const SWEEP: Duration = Duration::from_secs(1);

/// The assembled library, which provides the [`KeyManager`] and the [`Verifier`].
///
/// It is cheap to clone.
///
/// ```
/// use keyward::{Keyward, key::KeyFormat, manager::AllowAll, store::MemoryStore};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let keyward = Keyward::builder(MemoryStore::new())
///     .format(KeyFormat::new("acme")?.environment("live")?)
///     .policy(AllowAll) // decides who may manage keys; there is no default
///     .open()
///     .await?;
/// tokio::spawn(keyward.background()); // once per process
/// let (manager, verifier) = (keyward.manager(), keyward.verifier());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Keyward {
    manager: KeyManager,
    verifier: Verifier,
    usage: Arc<PendingUsage>,
    random: Arc<dyn RandomSource>,
    clock: Arc<dyn Clock>,
    passed: Arc<PassedEnds>,
}

impl Keyward {
    /// Starts a builder on this store.
    pub fn builder(store: impl KeyStore) -> Builder {
        Builder {
            store: Arc::new(store),
            format: None,
            scopes: Vec::new(),
            policy: None,
            hashing: Hashing::default(),
            imported: None,
            rules: Box::new(TenantRules::new()),
            clock: Arc::new(SystemClock),
            monotonic: Arc::new(BootClock::new()),
            cache: KeyCache::new(),
            rate_limiting: RateLimiting::new(),
            random: Arc::new(OsRandom),
        }
    }

    /// Returns the manager, which issues, changes and revokes keys.
    #[must_use]
    pub fn manager(&self) -> &KeyManager {
        &self.manager
    }

    /// Returns the format of key texts, which also provides the [redactor](KeyFormat::redactor) for your logs.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        self.verifier.format()
    }

    /// Returns the verifier, which decides whether requests are admitted.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Returns the background work of a process: it polls the store's change feed, and writes key usage to the store
    /// each minute.
    ///
    /// The future never ends; spawn it once per process.
    ///
    /// ```no_run
    /// # async fn f(keyward: keyward::Keyward) {
    /// let background = tokio::spawn(keyward.background());
    /// // … serve, until it is time to stop …
    /// background.abort();
    /// let _ = keyward.flush_usage().await;
    /// # }
    /// ```
    /// | | with it | without it |
    /// |---|---|---|
    /// | a revocation on another node is noticed | as soon as the change feed reports it | within a [lease] |
    /// | a key in use is read from the store | once, then when it changes | once per [lease] |
    /// | key usage is written | each minute | by [`flush_usage`](Self::flush_usage) alone |
    ///
    /// If the change feed stops while the work runs, this node behaves as one without it. Monitor
    /// [`VerifierStats::feed_is_current`](crate::verifier::VerifierStats::feed_is_current) and `feed_poll_failures`.
    /// The work needs a tokio runtime with its timer enabled.
    ///
    /// [lease]: KeyCache::lease
    pub fn background(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let keyward = self.clone();
        async move {
            let handing_on = async {
                loop {
                    tokio::time::sleep(HAND_ON).await;
                    // After an error, the next round writes this usage as well.
                    let _ = keyward.flush_usage().await;
                }
            };
            let sweeping = async {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    while keyward.verifier.sweep_limits() {
                        tokio::task::yield_now().await;
                    }
                }
            };
            tokio::join!(keyward.verifier.follow(), handing_on, sweeping);
        }
    }

    /// Writes to the store how keys were used on this node since the last write, and returns the number of keys.
    ///
    /// The [background work](Self::background) does this each minute. Call it before the process ends: unwritten usage
    /// is lost. After an error call it again: usage that the store has taken is not counted twice. Usage that could
    /// not be written for nine minutes is dropped.
    ///
    /// # Errors
    /// [`StoreError`]. [`StoreError::Unsupported`] means that the store keeps no usage, so there was nothing to write:
    /// ignore it at shutdown.
    pub async fn flush_usage(&self) -> Result<usize, StoreError> {
        self.usage.flush(&*self.random).await
    }

    /// Makes expiry follow the clock again after the clock of this process had leapt ahead.
    ///
    /// Returns the latest end that was forgotten; `None` if all ends seen so far have passed by the clock.
    ///
    /// A Keyward remembers the latest end of a key that it has seen pass. From then on it refuses, and lists as ended,
    /// every key that ends no later, so a clock that runs back revives no key. If the clock was ahead at that moment,
    /// keys stay refused although their ends lie in the future. This call forgets those ends; a restart has the same
    /// effect. Each process remembers for itself, so call it on each process with a clock that was ahead.
    ///
    /// # Errors
    /// [`ClockError`] if the clock cannot tell the time: nothing is forgotten.
    ///
    /// # Security
    /// Call it only when the clock is right, for example when NTP reports it synchronized. If the clock is behind,
    /// keys that have ended since are granted until it has caught up. Ends that have passed by the clock are kept in
    /// any case.
    pub fn forget_future_ends(&self) -> Result<Option<OffsetDateTime>, ClockError> {
        self.passed.forget_future(&*self.clock)
    }
}

/// The parts that a [`Keyward`] is assembled from.
///
/// A format and a policy are required.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder {
    store: Arc<dyn KeyStore>,
    format: Option<KeyFormat>,
    scopes: Vec<ScopeDeclaration>,
    policy: Option<Box<dyn Policy>>,
    hashing: Hashing,
    imported: Option<ImportedKeys>,
    rules: Box<dyn RuleBook>,
    clock: Arc<dyn Clock>,
    monotonic: Arc<dyn MonotonicClock>,
    cache: KeyCache,
    rate_limiting: RateLimiting,
    random: Arc<dyn RandomSource>,
}

impl Builder {
    /// Sets the format of key texts; required.
    pub fn format(mut self, format: KeyFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// Declares scopes that keys can be given and routes can require.
    ///
    /// Further calls add to them. Without any scopes, keys can be issued with full access only.
    ///
    /// A scope that is declared twice, or one that implies a scope which is not declared, makes [`open`](Self::open)
    /// fail.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = ScopeDeclaration>) -> Self {
        self.scopes.extend(scopes);
        self
    }

    /// Sets the policy that decides who may manage keys; required, without a default.
    ///
    /// The [`KeyManager`] asks it in each call, before doing anything. [`AllowAll`](crate::manager::AllowAll) is for
    /// applications that decide before they call.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// Sets how secrets are hashed; by default as [`Hashing::recommended`].
    pub fn hashing(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }

    /// Accepts keys that another system issued, once they are [imported](KeyManager::import); by default no such keys
    /// are accepted.
    pub fn imported_keys(mut self, imported: ImportedKeys) -> Self {
        self.imported = Some(imported);
        self
    }

    /// Sets the rules for each tenant's keys; by default there are no rules.
    pub fn tenant_rules(mut self, rules: impl RuleBook) -> Self {
        self.rules = Box::new(rules);
        self
    }

    /// Sets the clock for creation, expiry and events; by default the operating system's.
    ///
    /// The age of a cached key is measured by the [monotonic clock](Self::monotonic_clock) instead.
    ///
    /// A clock for tests is refused unless all environments of the format are test environments.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the clock that measures the age of cached keys; by default the time since the machine was started.
    pub fn monotonic_clock(mut self, clock: impl MonotonicClock) -> Self {
        self.monotonic = Arc::new(clock);
        self
    }

    /// Sets which keys a node caches and for how long; by default as [`KeyCache::new`].
    pub fn cache(mut self, cache: KeyCache) -> Self {
        self.cache = cache;
        self
    }

    /// Sets how requests are counted against limits; by default as [`RateLimiting::new`].
    pub fn rate_limiting(mut self, rate_limiting: RateLimiting) -> Self {
        self.rate_limiting = rate_limiting;
        self
    }

    /// Sets the source of random bytes; by default the operating system.
    pub fn random(mut self, random: impl RandomSource) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks the parts against the store, and assembles them.
    ///
    /// It spawns nothing.
    ///
    /// # Errors
    /// [`OpenError`] says which part is missing or does not fit.
    pub async fn open(self) -> Result<Keyward, OpenError> {
        let format = self.format.ok_or(OpenError::NoFormat)?;
        let policy = self.policy.ok_or(OpenError::NoPolicy)?;
        let is_for_tests = self.clock.is_for_tests()
            || self.monotonic.is_for_tests()
            || self.random.is_for_tests();
        if is_for_tests {
            if let Some(real) = format.environments().find(|one| !one.is_test()) {
                return Err(OpenError::TestPartsOutsideTest(real.clone()));
            }
        }
        if self.hashing.lacks_pepper() {
            return Err(OpenError::NoPepper);
        }
        if let Some(lease) = self.cache.excessive_lease() {
            return Err(OpenError::LeaseTooLong { lease });
        }
        let catalog = Arc::new(ScopeCatalog::new(self.scopes)?);
        let imported = self.imported.as_ref();
        if let Some(fault) = imported.and_then(|imported| imported.fault(&format)) {
            return Err(OpenError::ImportedKeys(fault));
        }
        let credentials = Arc::new(Credentials {
            hasher: Hasher::new(self.hashing, Arc::clone(&self.random))?,
            imported: self.imported,
        });
        check_peppers(&*self.store, &credentials, &*self.random).await?;

        let keeps_usage = self.store.usage().is_some();
        let passed = Arc::new(PassedEnds::default());
        let lookups = Lookups::new(Arc::clone(&self.monotonic));
        let slots = Arc::new(Slots::new(self.cache, keeps_usage, self.monotonic));
        // INVARIANT: from here on every commit goes through the fence.
        let store = Arc::new(FencedStore::new(self.store, Arc::clone(&slots)));
        let usage = Arc::new(PendingUsage::new(
            Arc::clone(&store) as _,
            Arc::clone(&slots) as _,
        ));
        let manager = KeyManager::new(manager::ManagerParts {
            access: StoreAccess::new(Arc::clone(&store) as _, policy),
            format: format.clone(),
            catalog: Arc::clone(&catalog),
            credentials: Arc::clone(&credentials),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            rules: self.rules,
            usage: Arc::clone(&usage),
            lookups,
            passed: Arc::clone(&passed),
        });
        let cache = Cache::new(
            self.cache,
            slots,
            store,
            (format, catalog),
            Arc::clone(&self.clock),
            Arc::clone(&passed),
        );
        let limiting = Arc::new(Limiting::new(self.rate_limiting));
        let verifier = Verifier::new(cache, credentials, limiting, Arc::clone(&self.random))?;
        Ok(Keyward {
            manager,
            verifier,
            usage,
            random: self.random,
            clock: self.clock,
            passed,
        })
    }
}

/// Compares the check value of each pepper with the one in the store, and stores it if the store has no value yet.
///
/// Without this check, a pepper that was mistyped or mixed up would refuse every key, and hash new keys that no other
/// node accepts.
async fn check_peppers(
    store: &dyn KeyStore,
    credentials: &Credentials,
    random: &dyn RandomSource,
) -> Result<(), OpenError> {
    for (name, value) in credentials.pepper_checks() {
        let change = Change::Setting {
            name: name.clone(),
            value: value.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(random), change);
        match store.commit(&set).await?.outcomes.as_slice() {
            [Outcome::Setting { stands }] if *stands == value => {}
            _ => return Err(OpenError::WrongPepper { name }),
        }
    }
    Ok(())
}

/// The reason why a Keyward cannot be opened.
///
/// Correct the cause, and open it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No format was given: call [`Builder::format`].
    #[error("no key format was given")]
    NoFormat,
    /// No policy was given: call [`Builder::policy`].
    #[error("no policy was given; a policy decides who may manage keys")]
    NoPolicy,
    /// A clock or random source for tests was given, and the format accepts keys of this real environment.
    ///
    /// Use the environment `test` alone, or the real clocks and random source.
    #[error("a clock or random source for tests is not accepted for `{0}`, only for `test`")]
    TestPartsOutsideTest(Environment),
    /// The declared scopes contradict each other, or are too many: correct the declaration that the error names.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A pepper is not the one that the store's keys were hashed under.
    ///
    /// It was mistyped, or belongs to another store. Configure the original bytes. New bytes need a new version (see
    /// [`Hashing::accept_pepper`](crate::hashing::Hashing::accept_pepper)), and a lookup pepper never changes.
    #[error("`{name}` is not the pepper that the store was first opened with")]
    WrongPepper {
        /// The name of the pepper's check value.
        name: String,
    },
    /// The [imported keys](Builder::imported_keys) contradict each other or lack something, as the text says.
    ///
    /// Correct their configuration.
    #[error("{0}")]
    ImportedKeys(String),
    /// Digests without a pepper are refused, and no pepper was given to make others with.
    ///
    /// This node was probably started without its pepper. Call [`Hashing::pepper`](crate::hashing::Hashing::pepper).
    #[error("digests without a pepper are refused, and no pepper was given")]
    NoPepper,
    /// The [lease](KeyCache::lease) is longer than a node may decide without hearing from the store.
    ///
    /// Use [`KeyCache::MAX_LEASE`] or less.
    #[error(
        "a lease of {lease:?} is longer than the limit of {:?}",
        KeyCache::MAX_LEASE
    )]
    LeaseTooLong {
        /// The lease.
        lease: Duration,
    },
    /// The random source has no random bytes.
    ///
    /// Nothing could be issued either: fix that first.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store failed while the check values of peppers were written or compared.
    ///
    /// If it was [unavailable](StoreError::Unavailable), open again later.
    #[error(transparent)]
    Store(#[from] StoreError),
}

codes! {
    OpenError;
    Self::NoFormat => "no_format",
    Self::NoPolicy => "no_policy",
    Self::TestPartsOutsideTest(_) => "test_parts_outside_test",
    Self::Catalog(_) => "invalid_scopes",
    Self::WrongPepper { .. } => "wrong_pepper",
    Self::ImportedKeys(_) => "invalid_imported_keys",
    Self::NoPepper => "no_pepper",
    Self::LeaseTooLong { .. } => "lease_too_long",
    Self::Random(_) => "random_failed",
    @ Self::Store(error) => error.code_inside(), of StoreError::codes_inside(),
}
