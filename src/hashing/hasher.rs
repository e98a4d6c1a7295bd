//! Creates digests, and compares presented secrets with them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::digest::{Binding, Output, Scheme, StoredDigest};
use super::rank::improvement;
use super::slow_lane::{Account, Class, Fingerprint, SlowLane};
use super::{Argon2Params, Hashing, HashingError, Pepper, argon2id};
use crate::key::{Digest, KeyRecord, SecretOrigin};
use crate::random::{RandomError, RandomSource};

/// The result of comparing a presented secret with a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Possession {
    /// The secret is the key's.
    Proven {
        /// Whether the digest ranks lower than the scheme chosen today.
        outdated: bool,
    },
    /// The secret is not the key's.
    Refuted,
}

/// The purpose of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A decision on a request.
    Request,
    /// An operation of the manager, which guesses at the key must not delay.
    Management,
    /// As [`Management`](Self::Management), except that it leaves no trace and is not counted.
    Trial,
}

/// The hashing that the application chose, with the state it needs.
pub(crate) struct Hasher {
    choice: Hashing,
    random: Arc<dyn RandomSource>,
    slow: SlowLane,
    /// Keyed hash for the fingerprints of shared computations; the key is drawn at start and never stored.
    fingerprints: Hmac<Sha256>,
    hashes: Arc<Hashes>,
}

/// The numbers of computed hashes.
#[derive(Default)]
struct Hashes {
    fast: AtomicU64,
    slow: AtomicU64,
}

impl Hasher {
    pub(crate) fn new(choice: Hashing, random: Arc<dyn RandomSource>) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(key.as_mut_slice())?;
        let fingerprints = Hmac::new_from_slice(key.as_slice()).map_err(RandomError::new)?;
        Ok(Self {
            slow: SlowLane::new(choice.permits, choice.queue),
            choice,
            random,
            fingerprints,
            hashes: Arc::default(),
        })
    }

    /// Creates the digest of a new key's secret.
    pub(crate) async fn digest(
        &self,
        record: &KeyRecord,
        secret: &[u8],
    ) -> Result<Digest, HashingError> {
        let scheme = self.scheme_for(record.origin());
        let (account, turn) = (account(Class::Management, record), None::<()>);
        let digest = self.digest_by(scheme, account, Binding::of(record), secret, turn);
        digest.await?.ok_or(HashingError::Saturated)
    }

    /// Compares a presented secret with a key's digest, in time that does not depend on where they differ.
    pub(crate) async fn verify(
        &self,
        record: &KeyRecord,
        secret: &[u8],
        purpose: Purpose,
    ) -> Result<Possession, HashingError> {
        let (class, hashes) = self.account_of(purpose);
        let (digest, binding) = (record.digest(), Binding::of(record));
        let stored = StoredDigest::read(digest, binding.id, self.choice.obeyed)?;
        self.check_pepper(stored.scheme)?;
        let proven = match stored.scheme {
            Scheme::Argon2id { params, pepper } => {
                let fingerprint = self.fingerprint(digest, binding, secret);
                let work = self.argon2id(params, pepper, stored.salt, binding, secret, &hashes)?;
                let work = move |memory: &mut _| Ok(stored.output.is(&work(memory)?));
                let account = account(class, record);
                self.slow.share(account, fingerprint, work).await?
            }
            fast => {
                let output = self.fast(fast, binding, secret, &hashes)?;
                stored.output.is(&output)
            }
        };
        if !proven {
            return Ok(Possession::Refuted);
        }
        let outdated = self.improvement(stored.scheme, record.origin()).is_some();
        Ok(Possession::Proven { outdated })
    }

    /// Compares presented bytes with the record's digest by a scheme that is not Keyward's own. Such a digest always
    /// ranks lower than one of Keyward's.
    pub(crate) async fn verify_by(
        &self,
        record: &KeyRecord,
        presented: &[u8],
        purpose: Purpose,
        is_slow: bool,
        compare: impl FnOnce(&[u8], &mut argon2id::Memory) -> Result<bool, HashingError>
        + Send
        + 'static,
    ) -> Result<Possession, HashingError> {
        let (class, hashes) = self.account_of(purpose);
        let proven = if is_slow {
            let fingerprint = self.fingerprint(record.digest(), Binding::of(record), presented);
            let work = slow_work(presented, &hashes, compare);
            let account = account(class, record);
            self.slow.share(account, fingerprint, work).await?
        } else {
            hashes.fast.fetch_add(1, Ordering::Relaxed);
            compare(presented, &mut argon2id::Memory::default())?
        };
        Ok(if proven {
            Possession::Proven { outdated: true }
        } else {
            Possession::Refuted
        })
    }

    fn account_of(&self, purpose: Purpose) -> (Class, Arc<Hashes>) {
        match purpose {
            Purpose::Request => (Class::Verification, Arc::clone(&self.hashes)),
            Purpose::Management => (Class::Management, Arc::clone(&self.hashes)),
            Purpose::Trial => (Class::Management, Arc::default()),
        }
    }

    /// Returns the highest Argon2 parameters of a stored digest that are computed.
    pub(crate) fn most_obeyed(&self) -> Argon2Params {
        self.choice.obeyed
    }

    /// Creates the replacement of a digest that ranks lower than today's choice. `None`: it does not rank lower, or
    /// the slow hash would have to wait for a permit.
    ///
    /// The secret must have been proven against the record's digest. The work holds `turn` until it is done, even if
    /// the caller drops the future meanwhile.
    pub(crate) async fn improve(
        &self,
        record: &KeyRecord,
        secret: &[u8],
        turn: impl Send + 'static,
    ) -> Result<Option<Digest>, HashingError> {
        let stored = StoredDigest::read(record.digest(), record.id(), self.choice.obeyed)?;
        match self.improvement(stored.scheme, record.origin()) {
            Some(better) => self.rehash(better, record, secret, turn).await,
            None => Ok(None),
        }
    }

    /// Creates a digest to replace one of another scheme, as [`improve`](Self::improve).
    pub(crate) async fn replace(
        &self,
        record: &KeyRecord,
        secret: &[u8],
        turn: impl Send + 'static,
    ) -> Result<Option<Digest>, HashingError> {
        // Only here is the secret's length known, which limits the entropy that the import declared.
        let scheme = self.scheme_for(record.origin().at_most(secret.len()));
        self.rehash(scheme, record, secret, turn).await
    }

    async fn rehash(
        &self,
        scheme: Scheme,
        record: &KeyRecord,
        secret: &[u8],
        turn: impl Send + 'static,
    ) -> Result<Option<Digest>, HashingError> {
        let account = account(Class::Verification, record);
        let digest = self.digest_by(scheme, account, Binding::of(record), secret, Some(turn));
        digest.await
    }

    /// Returns a name and a check value for each accepted pepper.
    pub(crate) fn pepper_checks(&self) -> impl Iterator<Item = (String, String)> {
        let peppers = self.choice.peppers.iter();
        peppers.map(|pepper| (format!("pepper.{}", pepper.version()), pepper.check_value()))
    }

    /// Returns the numbers of computed fast and slow hashes.
    pub(crate) fn hashes(&self) -> (u64, u64) {
        (
            self.hashes.fast.load(Ordering::Relaxed),
            self.hashes.slow.load(Ordering::Relaxed),
        )
    }

    fn current_pepper(&self) -> Option<u32> {
        self.choice.peppers.current().map(Pepper::version)
    }

    /// Returns today's scheme for a secret of this origin.
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
        account: Account,
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
                    None => Some(self.slow.run(account, work).await?),
                    Some(turn) => {
                        let work = move |memory: &mut _| Ok((work(memory)?, turn));
                        let done = self.slow.run_if_free(account, work).await?;
                        done.map(|(output, _turn)| output)
                    }
                };
                let Some(output) = output else {
                    return Ok(None);
                };
                (salt, output)
            }
            // The id serves as the salt: no two keys share it.
            fast => (
                binding.id.to_bytes(),
                self.fast(fast, binding, secret, &self.hashes)?,
            ),
        };
        let digest = StoredDigest {
            scheme,
            salt,
            output: Output::new(output),
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

    /// Returns an Argon2id hash as work that owns everything it needs.
    fn argon2id(
        &self,
        params: Argon2Params,
        pepper: Option<u32>,
        salt: [u8; 16],
        binding: Binding<'_>,
        secret: &[u8],
        hashes: &Arc<Hashes>,
    ) -> Result<
        impl FnOnce(&mut argon2id::Memory) -> Result<[u8; 32], HashingError> + Send + 'static + use<>,
        HashingError,
    > {
        let pepper = pepper
            .map(|version| self.pepper(version).cloned())
            .transpose()?;
        let associated_data = binding.associated_data();
        Ok(slow_work(secret, hashes, move |secret, memory| {
            let pepper = pepper.as_ref().map(Pepper::bytes).unwrap_or_default();
            argon2id::hash(params, pepper, &salt, associated_data, secret, memory)
        }))
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

/// Returns a slow hash as work that owns everything it needs.
fn slow_work<T, F>(
    secret: &[u8],
    hashes: &Arc<Hashes>,
    hash: F,
) -> impl FnOnce(&mut argon2id::Memory) -> Result<T, HashingError> + Send + use<T, F>
where
    F: FnOnce(&[u8], &mut argon2id::Memory) -> Result<T, HashingError> + Send,
{
    let secret = Zeroizing::new(secret.to_vec());
    let hashes = Arc::clone(hashes);
    move |memory| {
        hashes.slow.fetch_add(1, Ordering::Relaxed);
        hash(&secret, memory)
    }
}

fn account(class: Class, record: &KeyRecord) -> Account {
    Account {
        class,
        tenant: record.tenant().clone(),
        key: record.id(),
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("choice", &self.choice)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
