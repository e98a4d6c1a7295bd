//! Replaces outdated digests, without delaying verdicts.
//!
//! A verdict does not depend on the new digest. If the replacement takes a slow hash, or the store does not commit it
//! at once, a task on tokio's runtime continues it, and the request is decided.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::Core;
use crate::cache::reads::within;
use crate::cache::slot::Proof;
use crate::cache::tag::Tag;
use crate::key::{Digest, Environment, KeyId, KeyRecord};
use crate::store::{Change, ChangeId, ChangeSet, KeyStore as _, Outcome};

/// Maximum number of keys with a digest being replaced at the same time.
///
/// It bounds the tasks that wait for a store that takes no writes; the digests of further keys are replaced later. The
/// number of concurrent slow hashes is bounded by the free permits.
const MOST_AT_ONCE: usize = 64;

impl Core {
    /// Replaces an outdated digest.
    ///
    /// `None`: the request need not wait for it, or no better digest could be computed now. `Some(Some(_))`: the new
    /// digest. `Some(None)`: the old one was not replaced.
    ///
    /// Without a runtime no task can continue the work, and the request waits.
    pub(super) async fn rehash(
        &self,
        secret: &[u8],
        record: &KeyRecord,
        tag: Tag,
    ) -> Option<Option<Digest>> {
        // `None` if another request is replacing it.
        let turn = Arc::new(self.rehashing.begin(record.id())?);
        let core = self.me.upgrade()?;
        let environment = record.environment().clone();
        let (secret, record) = (Zeroizing::new(secret.to_vec()), record.clone());
        let replacing = Arc::clone(&turn);
        let mut replaced = Box::pin(async move {
            let replaced = core.replace_digest(&secret, &record, replacing).await;
            (core, replaced)
        });
        let at_once = poll_fn(|context| Poll::Ready(replaced.as_mut().poll(context))).await;
        if let Poll::Ready((_, replaced)) = at_once {
            return replaced;
        }
        let Ok(runtime) = Handle::try_current() else {
            return replaced.await.1;
        };
        runtime.spawn(async move {
            if let (core, Some(Some(to))) = replaced.await {
                core.prove_again(&to, &environment, tag, turn.key).await;
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
        let better = self.parts.credentials.improve(record, secret, turn).await;
        let replaced = match better {
            Ok(Some(to)) => {
                let commit = within(self.patience, self.commit_digest(record, &to));
                (commit.await == Some(true)).then_some(to)
            }
            Ok(None) => return None,
            Err(_) => None,
        };
        self.counters.rehashed(replaced.is_some());
        Some(replaced)
    }

    /// Commits the new digest, and returns whether it replaced the old one.
    async fn commit_digest(&self, record: &KeyRecord, to: &Digest) -> bool {
        let change = Change::Rehash {
            id: record.id(),
            from: record.digest().clone(),
            to: to.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(&*self.parts.random), change);
        let committed = self.parts.store.commit(&set).await;
        committed.is_ok_and(|committed| committed.outcomes == [Outcome::Rehashed])
    }

    /// Reads the key again, so that no request has to prove its secret against the new digest.
    async fn prove_again(&self, to: &Digest, environment: &Environment, tag: Tag, key: KeyId) {
        self.slots.forget(key);
        let guard = self.guard_slot(key, Some(tag));
        // After an error the next request reads the key.
        let Ok(snapshot) = self.fetch(&guard, true).await else {
            return;
        };
        let record = snapshot.compiled.record();
        if record.digest() == to && record.environment() == environment {
            let proof = Proof {
                tag,
                rehash_at: None,
            };
            self.slots.admit(key, &snapshot, Some(proof));
        }
    }
}

/// The keys with a digest being replaced. One request at a time replaces a key's digest: many at once would each
/// compute the same slow hash.
#[derive(Debug, Default)]
pub(super) struct Rehashing(Mutex<HashSet<KeyId>>);

impl Rehashing {
    /// Takes the turn to replace this key's digest; `None` if another request has it, or if too many keys' digests are
    /// being replaced.
    pub(super) fn begin(self: &Arc<Self>, key: KeyId) -> Option<Turn> {
        let is_first = {
            let mut keys = self.keys();
            keys.len() < MOST_AT_ONCE && keys.insert(key)
        };
        // Created only if this request has the turn: dropping a turn ends it, whichever request holds it.
        is_first.then(|| Turn {
            of: Arc::clone(self),
            key,
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn to replace one key's digest, given back when all its holders have dropped it. The work holds it as well as
/// the request: if the request goes away, the work continues, and no other request begins it again.
pub(super) struct Turn {
    of: Arc<Rehashing>,
    key: KeyId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.keys().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::slot::Match;
    use crate::key::{Access, Digest, Environment};
    use crate::testkit::keyward_with_key;

    /// Another request, or an operator, may replace the digest again before the task reads it.
    #[tokio::test]
    async fn only_the_digest_it_made_is_proven() {
        let (keyward, key) = keyward_with_key(Access::Full).await;
        let core = &keyward.verifier().core;
        let (digest, environment) = (key.record().digest(), key.record().environment());
        let other = Digest::new("$keyward-sha256$another").unwrap();
        let elsewhere = Environment::new("live").unwrap();
        for (to, environment, is_proven) in [
            (&other, environment, false),
            (digest, &elsewhere, false),
            (digest, environment, true),
        ] {
            let tag = core.tagger.tag(b"what was sent");
            core.prove_again(to, environment, tag, key.id()).await;
            let found = core
                .slots
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
                let (_, key) = keyward_with_key(Access::Full).await;
                let store = FaultyStore::over(MemoryStore::new());
                let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
                let peppered = testkit::builder(store.clone(), []);
                let peppered = peppered.hashing(Hashing::recommended().pepper(pepper));
                let peppered = peppered.open().await.unwrap();
                // The commit takes for ever, so the task goes on with it.
                let _ = store.on(Call::Commit, 0..u64::MAX, Fault::Hang);
                let core = &peppered.verifier().core;
                let secret = secret.as_bytes();
                let replaced = core.rehash(secret, key.record(), core.tagger.tag(secret));
                assert!(replaced.await.is_none());
            });
            runtime
        });
    }
}
