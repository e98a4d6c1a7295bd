//! Replaces outdated digests, without holding up verdicts.
//!
//! A verdict does not depend on the new digest. If the store does not commit it at once, a task on tokio's runtime
//! waits for the commit, and the request is decided.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;

use super::Core;
use super::reads::within;
use super::slot::Proof;
use super::tag::Tag;
use crate::key::{Digest, Environment, KeyId, KeyRecord};
use crate::store::{Change, ChangeId, ChangeSet, KeyStore as _, Outcome};

/// Most keys whose digests are replaced at the same time. It bounds the tasks that a store which takes no writes leaves
/// waiting; the digests of further keys are replaced later.
const MOST_AT_ONCE: usize = 64;

/// Whether the new digest took the old one's place.
type Commit = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Core {
    /// Commits the new digest. `None` if a task does so, and the request need not wait; otherwise whether it took
    /// the old one's place.
    ///
    /// Without a runtime there is nobody else to wait for the store, and the request waits.
    pub(super) async fn replace_digest(
        &self,
        record: &KeyRecord,
        to: Digest,
        tag: Tag,
        turn: Arc<Turn>,
    ) -> Option<Option<Digest>> {
        let mut commit = self.commit_digest(record, &to);
        let at_once = poll_fn(|context| Poll::Ready(commit.as_mut().poll(context))).await;
        let is_replaced = match at_once {
            Poll::Ready(is_replaced) => is_replaced,
            Poll::Pending => match (Handle::try_current(), self.me.upgrade()) {
                (Ok(runtime), Some(core)) => {
                    let environment = record.environment().clone();
                    runtime.spawn(async move {
                        core.finish_replacing(commit, &to, &environment, tag, &turn)
                            .await;
                    });
                    return None;
                }
                _ => within(self.patience, commit).await == Some(true),
            },
        };
        Some(is_replaced.then_some(to))
    }

    fn commit_digest(&self, record: &KeyRecord, to: &Digest) -> Commit {
        let change = Change::Rehash {
            id: record.id(),
            from: record.digest().clone(),
            to: to.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(&*self.parts.random), change);
        let store = Arc::clone(&self.parts.store);
        Box::pin(async move {
            let committed = store.commit(&set).await;
            committed.is_ok_and(|committed| committed.outcomes == [Outcome::Rehashed])
        })
    }

    /// Waits for the commit, then reads the key again, so that no request has to prove its secret against the new
    /// digest.
    async fn finish_replacing(
        &self,
        commit: Commit,
        to: &Digest,
        environment: &Environment,
        tag: Tag,
        turn: &Turn,
    ) {
        let is_replaced = within(self.patience, commit).await == Some(true);
        self.counters.rehashed(is_replaced);
        if !is_replaced {
            return;
        }
        self.slots.forget(turn.key);
        let pin = self.pin(turn.key, Some(tag));
        // After an error the next request reads the key.
        let Ok(look) = self.fetch(&pin, true).await else {
            return;
        };
        let record = look.compiled.record();
        if record.digest() == to && record.environment() == environment {
            let proof = Proof {
                tag,
                rehash_at: None,
            };
            self.slots.admit(turn.key, &look, Some(proof));
        }
    }
}

/// One request at a time replaces a key's digest: many at once would each compute the same slow hash.
#[derive(Debug, Default)]
pub(super) struct Rehashing(Mutex<HashSet<KeyId>>);

impl Rehashing {
    /// The turn to replace this key's digest. `None` if another request has it, or if too many keys' digests are being
    /// replaced.
    pub(super) fn begin(self: &Arc<Self>, key: KeyId) -> Option<Turn> {
        let is_first = {
            let mut keys = self.keys();
            keys.len() < MOST_AT_ONCE && keys.insert(key)
        };
        // Made only where it is had: a turn that is dropped ends somebody's.
        is_first.then(|| Turn {
            of: Arc::clone(self),
            key,
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped by all who share it. It goes with the work too, not with the request alone: one that went
/// away leaves its work behind, and no other begins it meanwhile.
pub(super) struct Turn {
    of: Arc<Rehashing>,
    key: KeyId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.of.keys().remove(&self.key);
    }
}
