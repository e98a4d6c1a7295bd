//! Hashing of secrets, and comparing presented secrets with stored digests.
//!
//! # Which hash
//! The strength of the hash follows the strength of the secret (NIST SP 800-63B-4, by analogy with its look-up
//! secrets: from 112 bits of entropy an approved hash is enough, below it a slow salted one is needed):
//!
//! | secret | digest |
//! |---|---|
//! | drawn by Keyward, no [`Pepper`] configured | SHA-256 |
//! | drawn by Keyward, a pepper configured | HMAC-SHA-256 under the pepper |
//! | imported with unknown or low strength | Argon2id, OWASP's parameters, under the pepper if there is one |
//! | any, if [`Hashing::argon2id`] is chosen | Argon2id, the parameters chosen, under the pepper if there is one |
//!
//! [Imported keys](crate::import) that have a digest of another scheme keep it until their first use.
//!
//! # What a digest covers
//! A digest covers a domain tag, the environment, the key's id and the secret, each of fixed or prefixed length. A
//! digest that is copied to another row therefore proves nothing, and neither does a row with a rewritten environment.
//! `docs/format.md` gives the bytes.
//!
//! # Slow hashing
//! Slow hashes run on threads of their own, one per [permit](Hashing::max_concurrent_slow_hashes), behind a bounded
//! [queue](Hashing::slow_hash_queue). A request past the queue is undecidable, not slow. Requests that present the
//! same secret for the same key at once share one computation. A key that needs no slow hash never waits behind one.
//!
//! Keyward rehashes a digest under a slow hash only if a permit is free at that moment, otherwise at a later use. No
//! request waits for a rehash: a task on tokio's runtime completes it. Without a runtime, the request that began it
//! waits.

pub(crate) mod argon2id;
mod digest;
mod hasher;
mod pepper;
mod rank;
mod slow_lane;

pub use argon2id::Argon2Params;
pub(crate) use digest::{Binding, Output};
pub(crate) use hasher::{Hasher, Possession, Purpose};
pub use pepper::Pepper;

use std::num::NonZeroUsize;

use pepper::Peppers;

use crate::codes::codes;

/// The way an application hashes its secrets, by default the [recommended](Self::recommended) one.
///
/// ```
/// use keyward::hashing::{Hashing, Pepper};
///
/// # let (old, new) = ([7_u8; 31].into_iter().chain([1]).collect::<Vec<_>>(), (0..32).collect::<Vec<u8>>());
/// // Rolling a new pepper out: first every node accepts it, then every node uses it.
/// let first = Hashing::recommended().pepper(Pepper::new(1, old.clone())?).accept_pepper(Pepper::new(2, new.clone())?);
/// let then = Hashing::recommended().pepper(Pepper::new(2, new)?).accept_pepper(Pepper::new(1, old)?);
/// # Ok::<(), keyward::key::ValueError>(())
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
    /// Uses a fast hash for strong secrets and Argon2id for the others: see the [module's docs](self).
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

    /// Uses Argon2id for every key, for applications with a policy that demands it.
    ///
    /// The Argon2id hash takes milliseconds and mebibytes. A node computes it at the first check of a key, and again
    /// after the key has left that node's memory. Later checks cost one block of SHA-256, as with any other hash.
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
    /// Digests under peppers of lower versions, or without a pepper, are moved to it as their keys are used. Losing a
    /// pepper loses every key that was hashed under it: nothing can bring them back.
    #[must_use]
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.peppers.set_current(pepper);
        self
    }

    /// Accepts digests under this pepper without creating new ones: the next pepper, or the one to retire.
    #[must_use]
    pub fn accept_pepper(mut self, pepper: Pepper) -> Self {
        self.peppers.accept(pepper);
        self
    }

    /// Refuses to create or accept digests without a pepper.
    ///
    /// Without a current pepper, [`Builder::open`](crate::Builder::open) fails, so that a node that was started
    /// without its pepper does not issue keys.
    ///
    /// While digests without a pepper are accepted, an attacker who can write to the store can plant a key, because
    /// anyone can make such a digest. Call this from the first key on, or once the last digest has moved under a
    /// pepper.
    #[must_use]
    pub fn refuse_unpeppered(mut self) -> Self {
        self.needs_pepper = true;
        self
    }

    pub(crate) fn lacks_pepper(&self) -> bool {
        self.needs_pepper && self.peppers.current().is_none()
    }

    /// Accepts stored Argon2id parameters up to these, beyond the default of 64 MiB, 16 passes and 4 lanes.
    ///
    /// To choose parameters above that, roll them out as peppers are: first every node accepts them, then every node
    /// chooses them. After choosing lower ones, continue to accept those that stored digests still have.
    #[must_use]
    pub fn accept_argon2id(mut self, params: Argon2Params) -> Self {
        self.obeyed = self.obeyed.or_more(params);
        self
    }

    /// Sets how many slow hashes run at once; by default half the processors.
    ///
    /// Each running hash has a permit. Each permit has a thread, which is started when it is first needed and lives as
    /// long as the Keyward. The thread keeps the memory of its hashes for the next ones. Slow hashes therefore hold at
    /// most this many times the highest memory cost of a digest that is compared, own or imported.
    #[must_use]
    pub fn max_concurrent_slow_hashes(mut self, limit: NonZeroUsize) -> Self {
        self.permits = limit;
        self
    }

    /// Sets how many slow hashes may wait for a permit; by default 64.
    ///
    /// Permits go to tenants in turn, within a tenant to its keys in turn, and every second one to the manager: issue,
    /// import, rotate, `find_owner`, `revoke_leaked`. While there is room, one key may take every place. If the queue
    /// is full, a newcomer takes the latest place of the tenant with the most places, if that tenant has at least two
    /// more than the newcomer's own. Otherwise it takes the latest place of its own tenant's key with the most places,
    /// by the same rule. The manager can always have a quarter of the places, which tenants share in the same way. A
    /// request or operation that gets no place, or loses it, is undecidable at once ([`HashingError::Saturated`]).
    ///
    /// Wrong secrets for one key, or for all keys of one tenant, therefore keep no other tenant waiting for more than
    /// a turn. Guesses at keys of as many tenants as there are places still fill the queue.
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

/// Why a secret could be neither confirmed nor refuted, or not hashed.
///
/// It never means that a secret is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashingError {
    /// The stored digest's algorithm is unknown to this version, or needs the feature `legacy-digests`.
    #[error(
        "the stored digest is of an unknown algorithm, or of one that needs the feature `legacy-digests`"
    )]
    UnknownAlgorithm,
    /// The stored digest was made under a pepper that is not configured here.
    #[error("the stored digest was made under pepper {version}, which is not configured here")]
    UnknownPepper {
        /// The pepper's version.
        version: u32,
    },
    /// The stored digest was made by another system with a secret of its site that is not configured here.
    #[error("the stored digest needs the site secret `{name}`, which is not configured here")]
    UnknownSiteSecret {
        /// The name of the site secret.
        name: Box<str>,
    },
    /// A digest without a pepper is not accepted here.
    #[error("a digest without a pepper is not accepted here")]
    Unpeppered,
    /// The stored digest is malformed, or belongs to another key.
    #[error("the stored digest is malformed")]
    Malformed,
    /// The stored digest's parameters are above the accepted limits.
    #[error("the stored digest asks for more memory, passes or lanes than is obeyed")]
    Excessive,
    /// Too many slow hashes are waiting already, or the place was given to a key or tenant with fewer.
    #[error("too many slow hashes are waiting")]
    Saturated,
    /// The slow hash was not finished: it ran out of memory, or its thread could not be started.
    #[error("the slow hash was not finished")]
    Unfinished,
    /// The random source gave no salt.
    #[error(transparent)]
    Random(#[from] crate::random::RandomError),
}

codes! {
    HashingError, inside "hashing_";
    Self::UnknownAlgorithm => "unknown_algorithm",
    Self::UnknownPepper { .. } => "unknown_pepper",
    Self::UnknownSiteSecret { .. } => "unknown_site_secret",
    Self::Unpeppered => "unpeppered",
    Self::Malformed => "malformed_digest",
    Self::Excessive => "excessive_digest",
    Self::Saturated => "saturated",
    Self::Unfinished => "unfinished",
    Self::Random(_) => "random_failed",
}
