//! Makes digests, and compares presented secrets with them.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::rank::improvement;
use super::scheme::{Scheme, StoredDigest};
use super::slow_lane::{Account, Fingerprint, SlowLane};
use super::{
    Argon2Params, Binding, Credential, ForeignDigest, ForeignKeys, Hashing, HashingError, Pepper,
    argon2id, foreign,
};
use crate::key::{Coverage, Digest, SecretOrigin};
use crate::random::{RandomError, RandomSource};

/// What comparing a presented secret with a digest showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Possession {
    /// It is the key's secret.
    Proven {
        /// Whether the digest ranks lower than today's choice.
        outdated: bool,
    },
    /// It is not.
    Refuted,
}

/// The hashing that an application chose, at work.
pub(crate) struct Hasher {
    choice: Hashing,
    foreign: Option<ForeignKeys>,
    random: Arc<dyn RandomSource>,
    slow: Arc<SlowLane>,
    /// Keys the names under which computations are shared: drawn at start, never stored.
    fingerprints: Hmac<Sha256>,
    hashes: Arc<Hashes>,
    memory: Arc<argon2id::Memory>,
}

/// How many hashes have been computed.
#[derive(Default)]
struct Hashes {
    fast: AtomicU64,
    slow: AtomicU64,
}

impl Hasher {
    pub(crate) fn new(
        choice: Hashing,
        foreign: Option<ForeignKeys>,
        random: Arc<dyn RandomSource>,
    ) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(key.as_mut_slice())?;
        let fingerprints = Hmac::new_from_slice(key.as_slice()).map_err(RandomError::new)?;
        Ok(Self {
            slow: Arc::new(SlowLane::new(choice.permits, choice.queue)),
            choice,
            foreign,
            random,
            fingerprints,
            hashes: Arc::default(),
            memory: Arc::default(),
        })
    }

    /// Makes the digest of a new key's secret.
    pub(crate) async fn digest(
        &self,
        binding: Binding<'_>,
        secret: &[u8],
        origin: SecretOrigin,
    ) -> Result<Digest, HashingError> {
        let scheme = self.scheme_for(origin);
        let turn = None::<()>;
        let digest = self.digest_by(scheme, binding, secret, turn).await?;
        digest.ok_or(HashingError::Saturated)
    }

    /// Which keys of other systems are accepted.
    pub(crate) fn foreign(&self) -> Option<&ForeignKeys> {
        self.foreign.as_ref()
    }

    /// Compares a presented secret with a digest, in time that does not depend on where they differ.
    pub(crate) async fn verify(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        origin: SecretOrigin,
    ) -> Result<Possession, HashingError> {
        let (account, hashes) = (Account::Key(binding.id), &self.hashes);
        self.compare(digest, binding, credential, origin, (account, hashes))
            .await
    }

    /// As [`verify`](Self::verify), for the manager, which guesses at the key must not hold up.
    pub(crate) async fn verify_for_management(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        origin: SecretOrigin,
    ) -> Result<Possession, HashingError> {
        let (account, hashes) = (Account::Management, &self.hashes);
        self.compare(digest, binding, credential, origin, (account, hashes))
            .await
    }

    /// As [`verify`](Self::verify), for whoever must leave no trace.
    pub(crate) async fn verify_uncounted(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        origin: SecretOrigin,
    ) -> Result<Possession, HashingError> {
        let (account, hashes) = (Account::Management, &Arc::default());
        self.compare(digest, binding, credential, origin, (account, hashes))
            .await
    }

    async fn compare(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        origin: SecretOrigin,
        (account, hashes): (Account, &Arc<Hashes>),
    ) -> Result<Possession, HashingError> {
        if foreign::is_foreign(digest) {
            let compared = self.compare_foreign(digest, binding, credential, (account, hashes));
            return compared.await;
        }
        let secret = credential.secret;
        let stored = StoredDigest::read(digest, binding.id, self.choice.obeyed)?;
        self.check_pepper(stored.scheme)?;
        let proven = match stored.scheme {
            Scheme::Argon2id { params, pepper } => {
                let fingerprint = self.fingerprint(digest, binding, secret);
                let work = self.argon2id(params, pepper, stored.salt, binding, secret, hashes)?;
                let work = move || Ok(are_equal(&work()?, &stored.output));
                self.slow.share(account, fingerprint, work).await?
            }
            fast => are_equal(&self.fast(fast, binding, secret, hashes)?, &stored.output),
        };
        if !proven {
            return Ok(Possession::Refuted);
        }
        let outdated = self.improvement(stored.scheme, origin).is_some();
        Ok(Possession::Proven { outdated })
    }

    /// Compares with a digest that another library made: it always ranks lower than one of Keyward's.
    async fn compare_foreign(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        (account, hashes): (Account, &Arc<Hashes>),
    ) -> Result<Possession, HashingError> {
        let (presented, read) = self.read_foreign(digest, binding, credential)?;
        let foreign = self
            .foreign
            .as_ref()
            .ok_or(HashingError::UnknownAlgorithm)?;
        let mac = foreign.mac_for(&read)?;
        let most = self.choice.obeyed;
        let proven = if read.is_slow() {
            let fingerprint = self.fingerprint(digest, binding, presented);
            let presented = Zeroizing::new(presented.to_vec());
            let (hashes, memory) = (Arc::clone(hashes), Arc::clone(&self.memory));
            let work = move || {
                hashes.slow.fetch_add(1, Ordering::Relaxed);
                read.is_of(&presented, mac, most, &memory)
            };
            self.slow.share(account, fingerprint, work).await?
        } else {
            hashes.fast.fetch_add(1, Ordering::Relaxed);
            read.is_of(presented, mac, most, &self.memory)?
        };
        Ok(if proven {
            Possession::Proven { outdated: true }
        } else {
            Possession::Refuted
        })
    }

    /// The digest, and what of the credential it was made of.
    fn read_foreign<'a>(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'a>,
    ) -> Result<(&'a [u8], ForeignDigest), HashingError> {
        let foreign = self.foreign.as_ref();
        let foreign = foreign.ok_or(HashingError::UnknownAlgorithm)?;
        let (coverage, read) = foreign.read(digest, binding, self.choice.obeyed)?;
        let presented = match coverage {
            Coverage::Secret => credential.secret,
            Coverage::Text => credential.text,
        };
        Ok((presented, read))
    }

    /// Writes a digest that another library made as it is kept until its key is used, if it is within what is obeyed.
    pub(crate) fn keep_foreign(
        &self,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &ForeignDigest,
    ) -> Result<Digest, HashingError> {
        let foreign = self.foreign.as_ref();
        let foreign = foreign.ok_or(HashingError::UnknownAlgorithm)?;
        digest.check_bounds(self.choice.obeyed)?;
        foreign.mac_for(digest)?;
        foreign.keep(binding, coverage, digest)
    }

    /// Whether what is kept is this digest that another library made, as far as that can be told: what has replaced it since
    /// says nothing of it.
    pub(crate) fn may_be_kept_as(
        &self,
        kept: &Digest,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &ForeignDigest,
    ) -> Result<bool, HashingError> {
        Ok(!foreign::is_foreign(kept) || self.keep_foreign(binding, coverage, digest)? == *kept)
    }

    /// Makes the digest that is to replace one that ranks lower; `None` if it does not, or if it would have to wait
    /// for a slow hash.
    ///
    /// The secret must have been proven against `digest`. The turn is kept until the work is done, even if the
    /// request that asked for it goes away meanwhile.
    pub(crate) async fn improve(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        secret: &[u8],
        origin: SecretOrigin,
        turn: impl Send + 'static,
    ) -> Result<Option<Digest>, HashingError> {
        let better = if foreign::is_foreign(digest) {
            // Only now is it seen how long the secret is that somebody vouched for.
            Some(self.scheme_for(origin.at_most(secret.len())))
        } else {
            let stored = StoredDigest::read(digest, binding.id, self.choice.obeyed)?;
            self.improvement(stored.scheme, origin)
        };
        match better {
            Some(better) => self.digest_by(better, binding, secret, Some(turn)).await,
            None => Ok(None),
        }
    }

    /// A name and a check value for each pepper that is accepted.
    pub(crate) fn pepper_checks(&self) -> Vec<(String, String)> {
        let peppers = self.choice.peppers.iter();
        let peppers =
            peppers.map(|pepper| (format!("pepper.{}", pepper.version()), pepper.check_value()));
        let lookup = self.foreign.iter();
        let lookup = lookup.map(|foreign| ("pepper.lookup".to_owned(), foreign.check_value()));
        peppers.chain(lookup).collect()
    }

    /// How many fast and slow hashes have been computed.
    pub(crate) fn hashes(&self) -> (u64, u64) {
        (
            self.hashes.fast.load(Ordering::Relaxed),
            self.hashes.slow.load(Ordering::Relaxed),
        )
    }

    fn current_pepper(&self) -> Option<u32> {
        self.choice.peppers.current().map(Pepper::version)
    }

    /// Today's choice for a secret of this origin.
    fn scheme_for(&self, origin: SecretOrigin) -> Scheme {
        let pepper = self.current_pepper();
        match pepper {
            _ if self.choice.slow_for_all || !origin.is_strong() => Scheme::Argon2id {
                params: self.choice.argon2,
                pepper,
            },
            Some(pepper) => Scheme::Hmac { pepper },
            None => Scheme::Sha256,
        }
    }

    fn improvement(&self, stored: Scheme, origin: SecretOrigin) -> Option<Scheme> {
        improvement(stored, self.scheme_for(origin), self.current_pepper())
    }

    async fn digest_by(
        &self,
        scheme: Scheme,
        binding: Binding<'_>,
        secret: &[u8],
        turn: Option<impl Send + 'static>,
    ) -> Result<Option<Digest>, HashingError> {
        self.check_pepper(scheme)?;
        let (salt, output) = match scheme {
            Scheme::Argon2id { params, pepper } => {
                let mut salt = [0; 16];
                self.random.fill(&mut salt)?;
                let work = self.argon2id(params, pepper, salt, binding, secret, &self.hashes)?;
                let output = match turn {
                    None => Some(self.slow.run(Account::Management, work).await?),
                    Some(turn) => {
                        let work = move || work().map(|output| (output, turn));
                        let done = self.slow.run_if_free(work).await?;
                        done.map(|(output, _turn)| output)
                    }
                };
                let Some(output) = output else {
                    return Ok(None);
                };
                (salt, output)
            }
            // The id is a salt of its own: no two keys share it.
            fast => (
                binding.id.to_bytes(),
                self.fast(fast, binding, secret, &self.hashes)?,
            ),
        };
        let digest = StoredDigest {
            scheme,
            salt,
            output,
        };
        digest.write().map(Some)
    }

    fn fast(
        &self,
        scheme: Scheme,
        binding: Binding<'_>,
        secret: &[u8],
        hashes: &Hashes,
    ) -> Result<[u8; 32], HashingError> {
        let output = match scheme {
            Scheme::Hmac { pepper } => {
                let mut mac = self.pepper(pepper)?.mac();
                binding.feed_with(secret, |part| mac.update(part));
                mac.finalize().into_bytes().into()
            }
            _ => {
                let mut hash = Sha256::new();
                binding.feed_with(secret, |part| hash.update(part));
                hash.finalize().into()
            }
        };
        hashes.fast.fetch_add(1, Ordering::Relaxed);
        Ok(output)
    }

    /// The work of an Argon2id hash, with all it needs in its own hands.
    fn argon2id(
        &self,
        params: Argon2Params,
        pepper: Option<u32>,
        salt: [u8; 16],
        binding: Binding<'_>,
        secret: &[u8],
        hashes: &Arc<Hashes>,
    ) -> Result<
        impl FnOnce() -> Result<[u8; 32], HashingError> + Send + 'static + use<>,
        HashingError,
    > {
        let pepper = pepper
            .map(|version| self.pepper(version).cloned())
            .transpose()?;
        let associated_data = binding.associated_data();
        let secret = Zeroizing::new(secret.to_vec());
        let (hashes, memory) = (Arc::clone(hashes), Arc::clone(&self.memory));
        Ok(move || {
            hashes.slow.fetch_add(1, Ordering::Relaxed);
            let pepper = pepper.as_ref().map(Pepper::bytes).unwrap_or_default();
            argon2id::hash(params, pepper, &salt, associated_data, &secret, &memory)
        })
    }

    fn check_pepper(&self, scheme: Scheme) -> Result<(), HashingError> {
        if self.choice.needs_pepper && scheme.pepper().is_none() {
            return Err(HashingError::Unpeppered);
        }
        Ok(())
    }

    fn pepper(&self, version: u32) -> Result<&Pepper, HashingError> {
        let pepper = self.choice.peppers.find(version);
        pepper.ok_or(HashingError::UnknownPepper { version })
    }

    fn fingerprint(&self, digest: &Digest, binding: Binding<'_>, secret: &[u8]) -> Fingerprint {
        let mut mac = self.fingerprints.clone();
        mac.update(digest.expose().as_bytes());
        mac.update(&[0]);
        binding.feed_with(secret, |part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

fn are_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.as_slice().ct_eq(b.as_slice()).into()
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("choice", &self.choice)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}
