//! How a secret is kept, and how a presented one is compared with what is kept.
//!
//! # Which hash
//! The strength of the hash follows the strength of the secret (NIST SP 800-63B-4, by analogy with its look-up
//! secrets: from 112 bits of entropy an approved hash is enough, below it a slow salted one is needed):
//!
//! | secret | kept as |
//! |---|---|
//! | drawn by Keyward, no [`Pepper`] configured | SHA-256 |
//! | drawn by Keyward, a pepper configured | HMAC-SHA-256 under the pepper |
//! | brought from elsewhere with unknown or low strength | Argon2id, OWASP's parameters, under the pepper if there is one |
//! | any, where [`Hashing::argon2id`] is chosen | Argon2id, the parameters chosen, under the pepper if there is one |
//!
//! Keys that come [from elsewhere](ImportedKeys) with a digest of another scheme keep it until their first use.
//!
//! # What a digest covers
//! A domain tag, the environment, the key's id and the secret, each of fixed or prefixed length. A digest that
//! is copied to another row, or a row whose environment is rewritten, therefore proves nothing.
//! `docs/format.md` gives the bytes.
//!
//! # Slow hashing
//! Slow hashes run on threads of their own, one per [permit](Hashing::max_concurrent_slow_hashes), behind a bounded
//! [queue](Hashing::slow_hash_queue); a request past the queue is undecidable, not slow. Requests that present the same
//! secret for the same key at once share one computation. A key that needs no slow hash never waits behind one.
//!
//! A digest is made anew under a slow hash only if a permit is free at that moment, else at some later use. No request
//! waits for it: a task on tokio's runtime goes on with it. Where there is no runtime, the request that began it waits.

mod argon2id;
mod binding;
mod hasher;
mod imported;
mod output;
mod pepper;
mod rank;
mod scheme;
mod slow_lane;

pub use argon2id::{Argon2Params, Argon2ParamsError};
pub(crate) use binding::Binding;
pub(crate) use hasher::{Hasher, Possession, Purpose};
pub(crate) use imported::Credential;
pub use imported::{ImportedKeys, LegacyDigest, LegacyDigestError};
pub use pepper::{Pepper, PepperError};

use std::num::NonZeroUsize;

use pepper::Peppers;

/// How an application keeps its secrets. The default is the [recommended](Self::recommended) way.
///
/// ```
/// use keyward::hashing::{Hashing, Pepper};
///
/// # let (old, new) = ([7_u8; 31].into_iter().chain([1]).collect::<Vec<_>>(), (0..32).collect::<Vec<u8>>());
/// // Rolling a new pepper out: first every node accepts it, then every node uses it.
/// let first = Hashing::recommended().pepper(Pepper::new(1, old.clone())?).accept_pepper(Pepper::new(2, new.clone())?);
/// let then = Hashing::recommended().pepper(Pepper::new(2, new)?).accept_pepper(Pepper::new(1, old)?);
/// # Ok::<(), keyward::hashing::PepperError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hashing {
    slow_for_all: bool,
    argon2: Argon2Params,
    obeyed: Argon2Params,
    peppers: Peppers,
    needs_pepper: bool,
    permits: NonZeroUsize,
    queue: usize,
}

impl Hashing {
    /// A fast hash for strong secrets and Argon2id for the others: see the [module's docs](self).
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            slow_for_all: false,
            argon2: Argon2Params::OWASP,
            obeyed: Argon2Params::MOST_OBEYED,
            peppers: Peppers::default(),
            needs_pepper: false,
            permits: default_permits(),
            queue: 64,
        }
    }

    /// Argon2id for every key, where a policy demands it.
    ///
    /// The Argon2id hash, of milliseconds and mebibytes, is computed at the first check of a key on each node, and
    /// again after the key has left that node's memory. Later checks cost one block of SHA-256, as with any other
    /// hash.
    #[must_use]
    pub fn argon2id(params: Argon2Params) -> Self {
        Self {
            slow_for_all: true,
            argon2: params,
            obeyed: Argon2Params::MOST_OBEYED.or_more(params),
            ..Self::recommended()
        }
    }

    /// Uses this pepper for every new digest, and accepts it.
    ///
    /// Digests under peppers of lower versions, or none, are moved to it as their keys are used. Losing a
    /// pepper loses every key that was hashed under it: nothing can bring them back.
    #[must_use]
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.peppers.set_current(pepper);
        self
    }

    /// Accepts digests under this pepper without making new ones: the one to come, or the one to retire.
    #[must_use]
    pub fn accept_pepper(mut self, pepper: Pepper) -> Self {
        self.peppers.accept(pepper);
        self
    }

    /// Neither makes nor accepts digests without a pepper. Without a pepper in use it cannot be opened, so that a
    /// node which was started without its pepper does not issue keys.
    ///
    /// Whoever can write the store can otherwise plant a key of their own: a digest without a pepper is one that
    /// anybody can make. Say it from the first key on, or once the last digest has moved under a pepper.
    #[must_use]
    pub fn refuse_unpeppered(mut self) -> Self {
        self.needs_pepper = true;
        self
    }

    pub(crate) fn lacks_pepper(&self) -> bool {
        self.needs_pepper && self.peppers.current().is_none()
    }

    /// Obeys stored Argon2id parameters up to these, beyond the default of 64 MiB, 16 passes and 4 lanes.
    ///
    /// To choose parameters above that, roll them out as peppers are: first every node accepts them, then every
    /// node chooses them. After choosing lower ones, go on accepting those that digests still have.
    #[must_use]
    pub fn accept_argon2id(mut self, params: Argon2Params) -> Self {
        self.obeyed = self.obeyed.or_more(params);
        self
    }

    /// Most slow hashes that run at once; by default half the processors.
    ///
    /// Each has a permit, and each permit a thread, which is started when it is first needed and lives as long as the
    /// Keyward. It keeps the memory that its hashes took for the next ones. So slow hashes hold at most this many times
    /// the highest memory cost of a digest that is compared, own or imported.
    #[must_use]
    pub fn max_concurrent_slow_hashes(mut self, limit: NonZeroUsize) -> Self {
        self.permits = limit;
        self
    }

    /// How many slow hashes may wait for a permit; by default 64.
    ///
    /// Permits go to tenants in turn, within a tenant to its keys in turn, and every second one to the manager: issue,
    /// import, rotate, `find_owner`, `revoke_leaked`. While there is room, one key may take every place. In a full
    /// queue a newcomer takes the latest place of the tenant that has the most, or else of its own tenant's key that
    /// has the most, unless it would then have as many. The manager can always have a quarter of the places, shared by
    /// tenants in the same way. Whoever gets no place, or loses it, is undecidable at once
    /// ([`HashingError::Saturated`]).
    ///
    /// So wrong secrets for one key, or for all keys of one tenant, keep no other tenant waiting for more than a turn.
    /// Guesses at keys of as many tenants as there are places still fill the queue.
    #[must_use]
    pub fn slow_hash_queue(mut self, places: usize) -> Self {
        self.queue = places;
        self
    }
}

impl Default for Hashing {
    fn default() -> Self {
        Self::recommended()
    }
}

fn default_permits() -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(processors / 2).unwrap_or(NonZeroUsize::MIN)
}

/// A secret can be neither confirmed nor refuted, or not hashed. Never the same as a wrong secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashingError {
    /// The stored digest is of no algorithm that this version knows.
    #[error("the stored digest is of an unknown algorithm")]
    UnknownAlgorithm,
    /// The stored digest was made under a pepper that is not configured here.
    #[error("the stored digest was made under pepper {version}, which is not configured here")]
    UnknownPepper {
        /// The pepper's version.
        version: u32,
    },
    /// The stored digest was made under a key of another system that is not configured here.
    #[error("the stored digest was made under the HMAC key `{name}`, which is not configured here")]
    UnknownHmacKey {
        /// The key's name.
        name: Box<str>,
    },
    /// A digest without a pepper is not accepted here.
    #[error("a digest without a pepper is not accepted here")]
    Unpeppered,
    /// The stored digest is malformed, or belongs to another key.
    #[error("the stored digest is malformed")]
    Malformed,
    /// The stored digest asks for more than is obeyed.
    #[error("the stored digest asks for more memory, passes or lanes than is obeyed")]
    Excessive,
    /// Too many slow hashes are waiting already, or the place was given to a key or tenant with fewer.
    #[error("too many slow hashes are waiting")]
    Saturated,
    /// The slow hash was not finished: it ran out of memory, or no thread could be had for it.
    #[error("the slow hash was not finished")]
    Unfinished,
    /// No salt could be drawn.
    #[error(transparent)]
    Random(#[from] crate::random::RandomError),
}
