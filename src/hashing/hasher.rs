//! Creates digests, and compares presented secrets with them.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::output::Output;
use super::rank::improvement;
use super::scheme::{Scheme, StoredDigest};
use super::slow_lane::{Account, Class, Fingerprint, SlowLane};
use super::{
    Argon2Params, Binding, Credential, Hashing, HashingError, ImportedKeys, LegacyDigest, Pepper,
    argon2id, imported,
};
use crate::key::{Coverage, Digest, KeyRecord, SecretOrigin};
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
    imported: Option<ImportedKeys>,
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
    pub(crate) fn new(
        choice: Hashing,
        imported: Option<ImportedKeys>,
        random: Arc<dyn RandomSource>,
    ) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(key.as_mut_slice())?;
        let fingerprints = Hmac::new_from_slice(key.as_slice()).map_err(RandomError::new)?;
        Ok(Self {
            slow: SlowLane::new(choice.permits, choice.queue),
            choice,
            imported,
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

    /// Returns the accepted keys of other systems, if any are configured.
    pub(crate) fn imported_keys(&self) -> Option<&ImportedKeys> {
        self.imported.as_ref()
    }

    /// Compares a presented secret with a key's digest, in time that does not depend on where they differ.
    pub(crate) async fn verify(
        &self,
        record: &KeyRecord,
        credential: &Credential<'_>,
        purpose: Purpose,
    ) -> Result<Possession, HashingError> {
        let (class, hashes) = match purpose {
            Purpose::Request => (Class::Verification, &self.hashes),
            Purpose::Management => (Class::Management, &self.hashes),
            Purpose::Trial => (Class::Management, &Arc::default()),
        };
        let account = account(class, record);
        let (digest, binding) = (record.digest(), Binding::of(record));
        if imported::is_legacy(digest) {
            let compared = self.compare_legacy(digest, binding, credential, (account, hashes));
            return compared.await;
        }
        let secret = credential.secret;
        let stored = StoredDigest::read(digest, binding.id, self.choice.obeyed)?;
        self.check_pepper(stored.scheme)?;
        let proven = match stored.scheme {
            Scheme::Argon2id { params, pepper } => {
                let fingerprint = self.fingerprint(digest, binding, secret);
                let work = self.argon2id(params, pepper, stored.salt, binding, secret, hashes)?;
                let work = move |memory: &mut _| Ok(stored.output.is(&work(memory)?));
                self.slow.share(account, fingerprint, work).await?
            }
            fast => stored.output.is(&self.fast(fast, binding, secret, hashes)?),
        };
        if !proven {
            return Ok(Possession::Refuted);
        }
        let outdated = self.improvement(stored.scheme, record.origin()).is_some();
        Ok(Possession::Proven { outdated })
    }

    /// Compares a secret with another library's digest, which always ranks lower than one of Keyward's.
    async fn compare_legacy(
        &self,
        digest: &Digest,
        binding: Binding<'_>,
        credential: &Credential<'_>,
        (account, hashes): (Account, &Arc<Hashes>),
    ) -> Result<Possession, HashingError> {
        let most = self.choice.obeyed;
        let imported = self.imported.as_ref();
        let imported = imported.ok_or(HashingError::UnknownAlgorithm)?;
        let (coverage, read) = imported.read(digest, binding, most)?;
        let presented = match coverage {
            Coverage::Secret => credential.secret,
            Coverage::Text => credential.text,
        };
        let mac = imported.mac_for(&read)?;
        let proven = if read.is_slow() {
            let fingerprint = self.fingerprint(digest, binding, presented);
            let work = self.legacy_comparison(read, mac, presented, hashes);
            self.slow.share(account, fingerprint, work).await?
        } else {
            hashes.fast.fetch_add(1, Ordering::Relaxed);
            read.is_of(presented, mac, most, &mut argon2id::Memory::default())?
        };
        Ok(if proven {
            Possession::Proven { outdated: true }
        } else {
            Possession::Refuted
        })
    }

    /// Returns the comparison with a slow digest of another library as work that owns everything it needs.
    fn legacy_comparison(
        &self,
        digest: LegacyDigest,
        mac: Option<Hmac<Sha256>>,
        presented: &[u8],
        hashes: &Arc<Hashes>,
    ) -> impl FnOnce(&mut argon2id::Memory) -> Result<bool, HashingError> + Send + 'static + use<>
    {
        let most = self.choice.obeyed;
        let presented = Zeroizing::new(presented.to_vec());
        let hashes = Arc::clone(hashes);
        move |memory| {
            hashes.slow.fetch_add(1, Ordering::Relaxed);
            digest.is_of(&presented, mac, most, memory)
        }
    }

    /// Encodes another library's digest in the form that is stored until the key's first use; fails if its parameters
    /// are above the accepted limits.
    pub(crate) fn keep_legacy(
        &self,
        binding: Binding<'_>,
        coverage: Coverage,
        digest: &LegacyDigest,
    ) -> Result<Digest, HashingError> {
        let imported = self.imported.as_ref();
        let imported = imported.ok_or(HashingError::UnknownAlgorithm)?;
        digest.check_bounds(self.choice.obeyed)?;
        imported.mac_for(digest)?;
        imported.keep(binding, coverage, digest)
    }

    /// Returns whether the record's digest may come from this legacy digest. A digest that has since replaced it does
    /// not show its source, so the answer is then `true`.
    pub(crate) fn may_be_kept_as(
        &self,
        record: &KeyRecord,
        coverage: Coverage,
        digest: &LegacyDigest,
    ) -> Result<bool, HashingError> {
        let kept = record.digest();
        let binding = Binding::of(record);
        Ok(!imported::is_legacy(kept) || self.keep_legacy(binding, coverage, digest)? == *kept)
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
        let (digest, binding, origin) = (record.digest(), Binding::of(record), record.origin());
        let better = if imported::is_legacy(digest) {
            // Only here is the secret's length known, which limits the entropy that the import declared.
            Some(self.scheme_for(origin.at_most(secret.len())))
        } else {
            let stored = StoredDigest::read(digest, binding.id, self.choice.obeyed)?;
            self.improvement(stored.scheme, origin)
        };
        match better {
            Some(better) => {
                let account = account(Class::Verification, record);
                let digest = self.digest_by(better, account, binding, secret, Some(turn));
                digest.await
            }
            None => Ok(None),
        }
    }

    /// Returns a name and a check value for each accepted pepper.
    pub(crate) fn pepper_checks(&self) -> Vec<(String, String)> {
        let peppers = self.choice.peppers.iter();
        let peppers =
            peppers.map(|pepper| (format!("pepper.{}", pepper.version()), pepper.check_value()));
        let lookup = self.imported.iter();
        let lookup = lookup.map(|imported| ("pepper.lookup".to_owned(), imported.check_value()));
        peppers.chain(lookup).collect()
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
        let secret = Zeroizing::new(secret.to_vec());
        let hashes = Arc::clone(hashes);
        Ok(move |memory: &mut _| {
            hashes.slow.fetch_add(1, Ordering::Relaxed);
            let pepper = pepper.as_ref().map(Pepper::bytes).unwrap_or_default();
            argon2id::hash(params, pepper, &salt, associated_data, &secret, memory)
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
