//! The cold path: reads the store, proves the secret against the stored digest, and replaces an outdated digest.
//!
//! # Replacing digests
//! A verdict does not depend on the new digest. If the replacement takes a slow hash, or the store does not commit it
//! at once, a task on tokio's runtime continues it, and the request is decided.

mod rehashing;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use self::rehashing::{Rehashing, Turn};
use super::attempt::Attempt;
use super::checks::{CheckInput, Decision, KeyUse, Verdict, decide, record_usage};
use super::denial::{Denial, DenialReason, DeniedKey, Limited};
use super::grant::Admitted;
use crate::cache::{Cache, Entry, Proof, RequestEpochs, SlotGuard, Snapshot, Tag};
use crate::clock::WallClockReading;
use crate::credential::{Credential, Credentials};
use crate::hashing::{Possession, Purpose};
use crate::key::{Digest, Environment, KeyId, KeyRecord};
use crate::limiter::{Limiting, Meter, Metered};
use crate::random::RandomSource;
use crate::store::{Change, ChangeId, ChangeSet, KeyStore as _, Outcome};
use crate::sync::within;

/// Number of attempts at a verdict; each may find that its snapshot has become old.
const TRIES: u32 = 4;

/// Seconds until the next attempt at a digest that was not improved.
const REHASH_PAUSE: u32 = 60;

/// Decides on requests that the cache cannot decide on, and replaces outdated digests.
pub(super) struct Prover {
    cache: Arc<Cache>,
    credentials: Arc<Credentials>,
    limiting: Arc<Limiting>,
    random: Arc<dyn RandomSource>,
    rehashing: Arc<Rehashing>,
}

impl Prover {
    pub(super) fn new(
        cache: Arc<Cache>,
        credentials: Arc<Credentials>,
        limiting: Arc<Limiting>,
        random: Arc<dyn RandomSource>,
    ) -> Self {
        Self {
            cache,
            credentials,
            limiting,
            random,
            rehashing: Arc::default(),
        }
    }

    /// Decides on a request with this tag, by a read of the store if it takes one.
    pub(super) async fn decide(
        self: &Arc<Self>,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        tag: Tag,
    ) -> Result<Admitted, Denial> {
        let request = ColdRequest {
            prover: self,
            credential,
            attempt,
            tag,
            guard: self.cache.reads.guard_slot(credential.id, Some(tag)),
        };
        let mut key = DeniedKey::Named(credential.id);
        let decided = request.decide(&mut key).await;
        decided.map_err(|Refused(reason, limited)| Denial::new(key, reason, limited))
    }

    /// Returns the numbers of digests that were replaced, and that were not.
    pub(super) fn rehashes(&self) -> (u64, u64) {
        self.rehashing.counts()
    }

    /// Replaces an outdated digest.
    ///
    /// `None`: the request need not wait for it, or no better digest could be computed now. `Some(Some(_))`: the new
    /// digest. `Some(None)`: the old one was not replaced.
    ///
    /// Without a runtime no task can continue the work, and the request waits.
    async fn rehash(
        self: &Arc<Self>,
        secret: &[u8],
        record: &KeyRecord,
        tag: Tag,
    ) -> Option<Option<Digest>> {
        // `None` if another request is replacing it.
        let turn = Arc::new(self.rehashing.begin(record.id())?);
        let prover = Arc::clone(self);
        let environment = record.environment().clone();
        let (secret, record) = (Zeroizing::new(secret.to_vec()), record.clone());
        let replacing = Arc::clone(&turn);
        let mut replaced =
            Box::pin(async move { prover.replace_digest(&secret, &record, replacing).await });
        let at_once = poll_fn(|context| Poll::Ready(replaced.as_mut().poll(context))).await;
        if let Poll::Ready(replaced) = at_once {
            return replaced;
        }
        let Ok(runtime) = Handle::try_current() else {
            return replaced.await;
        };
        let prover = Arc::clone(self);
        runtime.spawn(async move {
            if let Some(Some(to)) = replaced.await {
                prover.prove_again(&to, &environment, tag, turn.key).await;
            }
            // Another request begins no sooner.
            drop(turn);
        });
        None
    }

    /// Computes a better digest and commits it. `None`: no digest was computed, since there is no better one or no
    /// permit is free.
    async fn replace_digest(
        &self,
        secret: &[u8],
        record: &KeyRecord,
        turn: Arc<Turn>,
    ) -> Option<Option<Digest>> {
        let better = self.credentials.improve(record, secret, turn).await;
        let replaced = match better {
            Ok(Some(to)) => {
                let commit = within(
                    self.cache.slots.lease.patience(),
                    self.commit_digest(record, &to),
                );
                (commit.await == Some(true)).then_some(to)
            }
            Ok(None) => return None,
            Err(_) => None,
        };
        self.rehashing.count(replaced.is_some());
        Some(replaced)
    }

    /// Commits the new digest, and returns whether it replaced the old one.
    async fn commit_digest(&self, record: &KeyRecord, to: &Digest) -> bool {
        let change = Change::Rehash {
            id: record.id(),
            from: record.digest().clone(),
            to: to.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(&*self.random), change);
        let committed = self.cache.store.commit(&set).await;
        committed.is_ok_and(|committed| committed.outcomes == [Outcome::Rehashed])
    }

    /// Reads the key again, so that no request has to prove its secret against the new digest.
    async fn prove_again(&self, to: &Digest, environment: &Environment, tag: Tag, key: KeyId) {
        self.cache.slots.forget(key);
        let guard = self.cache.reads.guard_slot(key, Some(tag));
        // After an error the next request reads the key.
        let Ok(snapshot) = self.cache.reads.fetch(&guard, true).await else {
            return;
        };
        let record = snapshot.compiled.record();
        if record.digest() == to && record.environment() == environment {
            let proof = Proof {
                tag,
                rehash_at: None,
            };
            self.cache.slots.admit(key, &snapshot, Some(proof));
        }
    }
}

/// A request on the cold path.
struct ColdRequest<'a> {
    prover: &'a Arc<Prover>,
    credential: &'a Credential<'a>,
    attempt: &'a Attempt<'a>,
    tag: Tag,
    guard: SlotGuard<'a>,
}

/// The digest that the secret has been proven against.
struct Proven {
    digest: Digest,
    environment: Environment,
    outdated: bool,
}

/// Why a request was refused, and the limits that apply to it, if the caller may know them.
struct Refused(DenialReason, Option<Limited>);

impl<E: Into<DenialReason>> From<E> for Refused {
    fn from(reason: E) -> Self {
        Self(reason.into(), None)
    }
}

impl ColdRequest<'_> {
    /// Decides, and notes in `key` which record was read, and whether the secret was proven against it.
    async fn decide(&self, key: &mut DeniedKey) -> Result<Admitted, Refused> {
        let cache = &self.prover.cache;
        let mut proven: Option<Proven> = None;
        let mut may_rehash = true;
        // Given back if the request is refused after all.
        let mut taken: Option<Metered> = None;
        // The latest epoch at the end of the last hash.
        let mut hashed = self.guard.since;
        for tries in 0..TRIES {
            let snapshot = cache.reads.fetch(&self.guard, tries > 0).await?;
            let cached = &snapshot.compiled.cached;
            *key = DeniedKey::Claimed(Arc::clone(cached));
            let outdated = match &proven {
                Some(proven) if proven.is_of(snapshot.compiled.record()) => proven.outdated,
                _ => {
                    let before = cache.slots.map.find(
                        self.credential.id,
                        || (),
                        |(), slot| slot.proof_of(&snapshot, self.tag),
                    );
                    let outdated = match before.flatten() {
                        Some(proof) => proof.rehash_at.is_some(),
                        None => {
                            let outdated = self.prove(&snapshot).await?;
                            hashed = cache.slots.lease.epochs.latest();
                            outdated
                        }
                    };
                    let record = snapshot.compiled.record();
                    proven = Some(Proven {
                        digest: record.digest().clone(),
                        environment: record.environment().clone(),
                        outdated,
                    });
                    outdated
                }
            };
            *key = DeniedKey::Proven(Arc::clone(cached));
            let now = cache.slots.lease.now().map_err(DenialReason::Clock)?;
            let seconds = u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX);
            let proof = Proof {
                tag: self.tag,
                rehash_at: outdated.then(|| seconds.saturating_add(REHASH_PAUSE)),
            };
            // Before the digest is improved, so that other requests with the key need not wait for that.
            cache
                .slots
                .admit(self.credential.id, &snapshot, Some(proof));
            if outdated && may_rehash && self.would_admit(&snapshot)? {
                may_rehash = false;
                let record = snapshot.compiled.record();
                let rehashed = self.prover.rehash(self.credential.secret, record, self.tag);
                if let Some(better) = rehashed.await {
                    hashed = cache.slots.lease.epochs.latest();
                    // The key may have changed meanwhile. If the next read shows the new digest, the secret is proven.
                    if let Some(better) = better {
                        let environment = snapshot.compiled.record().environment().clone();
                        proven = Some(Proven {
                            digest: better,
                            environment,
                            outdated: false,
                        });
                        cache.slots.forget(self.credential.id);
                    }
                    continue;
                }
            }
            match self.decide_on(&snapshot, hashed, &mut taken)? {
                Some(Decision::Made(Verdict::Admitted(cached, metered))) => {
                    return Ok(Admitted::new(cached, metered, self.attempt));
                }
                Some(Decision::Made(Verdict::Denied(reason, limited))) => {
                    return Err(Refused(reason, limited));
                }
                Some(Decision::NeedsPlan) => {
                    let record = snapshot.compiled.record();
                    let loaded = self.prover.limiting.load_plan(record, now).await;
                    if let Err(error) = loaded {
                        // A request that is refused in any case needs no plan.
                        self.check_input(now)?.judge(&snapshot.compiled)?;
                        return Err(DenialReason::Plan(error).into());
                    }
                }
                Some(Decision::NeedsTake(meter)) => taken = Some(self.take(meter).await?),
                None => {}
            }
        }
        Err(DenialReason::StaleCache.into())
    }

    /// Takes the request's cost of a meter that counts by I/O. The key is checked again afterwards.
    async fn take(&self, meter: Arc<dyn Meter>) -> Result<Metered, Refused> {
        let now = self
            .prover
            .cache
            .slots
            .lease
            .now()
            .map_err(DenialReason::Clock)?;
        let charge = self.attempt.charge();
        match self.prover.limiting.take(&meter, now, charge).await {
            Ok(taken) => Ok(Metered::new(meter, taken)),
            Err(error) => {
                let (reason, limited) = Limited::refused(&meter, charge.cost, error);
                if let Some(used) = KeyUse::of_denied(reason.class()) {
                    used.record_later(&self.prover.cache, self.credential.id);
                }
                Err(Refused(reason, limited))
            }
        }
    }

    /// Decides on a snapshot; `None` if the snapshot has become old.
    fn decide_on(
        &self,
        snapshot: &Snapshot,
        hashed: u64,
        taken: &mut Option<Metered>,
    ) -> Result<Option<Decision>, DenialReason> {
        let slots = &self.prover.cache.slots;
        let request = RequestEpochs {
            came: self.guard.since,
            hashed,
        };
        slots.map.with(self.credential.id, |slot| {
            let now = slots.lease.now().map_err(DenialReason::Clock)?;
            if !slots.lease.may_decide(slot, snapshot, Some(request), now) {
                return Ok(None);
            }
            let input = self.check_input(now)?;
            let compiled = &snapshot.compiled;
            let is_entry =
                |entry: &&mut Entry| Arc::ptr_eq(&entry.snapshot.compiled.cached, &compiled.cached);
            let entry = slot.entry.as_mut().filter(is_entry);
            let decision = match entry {
                Some(entry) => decide(compiled, &input, &mut entry.meters, taken),
                None => decide(compiled, &input, &mut None, taken),
            };
            if let Decision::Made(verdict) = &decision {
                record_usage(slot, &input, verdict);
            }
            Ok(Some(decision))
        })
    }

    /// Returns whether the request would be admitted if no other were in flight.
    fn would_admit(&self, snapshot: &Snapshot) -> Result<bool, DenialReason> {
        Ok(self.check_input(0)?.judge(&snapshot.compiled).is_ok())
    }

    fn check_input(&self, now: u64) -> Result<CheckInput<'_>, DenialReason> {
        let cache = &*self.prover.cache;
        Ok(CheckInput {
            cache,
            limiting: &self.prover.limiting,
            now,
            credential: self.credential,
            attempt: self.attempt,
            wall: WallClockReading::read(&*cache.clock).map_err(DenialReason::Clock)?,
        })
    }

    /// Proves that the secret is the key's, and returns whether its digest ranks lower than today's choice.
    async fn prove(&self, snapshot: &Snapshot) -> Result<bool, DenialReason> {
        let (record, slots) = (snapshot.compiled.record(), &self.prover.cache.slots);
        let credentials = &self.prover.credentials;
        let verdict = credentials.verify(record, self.credential, Purpose::Request);
        match verdict.await.map_err(DenialReason::Hashing)? {
            Possession::Proven { outdated } => {
                slots
                    .map
                    .find(self.credential.id, || (), |(), slot| slot.was_proven());
                Ok(outdated)
            }
            Possession::Refuted => {
                // The next wrong secret for this key then costs no read.
                slots.admit(self.credential.id, snapshot, None);
                Err(DenialReason::WrongSecret)
            }
        }
    }
}

impl Proven {
    fn is_of(&self, record: &KeyRecord) -> bool {
        self.digest == *record.digest() && self.environment == *record.environment()
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::Match;
    use crate::key::{Access, Digest, Environment};
    use crate::testkit::keyward_with_key;

    /// Another request, or an operator, may replace the digest again before the task reads it.
    #[tokio::test]
    async fn only_the_digest_it_made_is_proven() {
        let (keyward, key) = keyward_with_key([], Access::Full).await;
        let shared = &keyward.verifier().shared;
        let prover = &shared.prover;
        let (digest, environment) = (key.record().digest(), key.record().environment());
        let other = Digest::new("$keyward-sha256$another").unwrap();
        let elsewhere = Environment::new("live").unwrap();
        for (to, environment, is_proven) in [
            (&other, environment, false),
            (digest, &elsewhere, false),
            (digest, environment, true),
        ] {
            let tag = shared.tagger.tag(b"what was sent");
            prover.prove_again(to, environment, tag, key.id()).await;
            let found =
                prover
                    .cache
                    .slots
                    .map
                    .find(key.id(), || (), |(), slot| slot.compare(tag, true));
            let is_found = matches!(found, Some(Match::Proven));
            assert_eq!(is_found, is_proven, "{to:?} {environment:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn secrets_are_wiped_when_the_task_ends() {
        use tokio::runtime;

        use crate::hashing::{Hashing, Pepper};
        use crate::store::MemoryStore;
        use crate::testkit::{self, Call, Fault, FaultyStore};
        use crate::wiping::leaves_no_trace;

        leaves_no_trace(|secret| {
            let runtime = runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_time().build().unwrap();
            runtime.block_on(async {
                let (_, key) = keyward_with_key([], Access::Full).await;
                let store = FaultyStore::over(MemoryStore::new());
                let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
                let peppered = testkit::builder(store.clone(), []);
                let peppered = peppered.hashing(Hashing::recommended().pepper(pepper));
                let peppered = peppered.open().await.unwrap();
                // The commit takes for ever, so the task goes on with it.
                let _ = store.on(Call::Commit, 0..u64::MAX, Fault::Hang);
                let shared = &peppered.verifier().shared;
                let secret = secret.as_bytes();
                let tag = shared.tagger.tag(secret);
                let replaced = shared.prover.rehash(secret, key.record(), tag);
                assert!(replaced.await.is_none());
            });
            runtime
        });
    }
}
