//! The cold way: the store is asked, and the secret proven against what is stored.

use super::compiled::Wall;
use super::reads::Pin;
use super::slot::{Look, Proof};
use super::{Admitted, Attempt, Core, Denial, DenialReason, Verdict, admitted};
use crate::hashing::{Binding, Credential, Possession};
use crate::key::{Digest, Environment, KeyRecord};
use crate::store::{Change, ChangeId, ChangeSet, Outcome};
use crate::sync::{Planted, planted};

/// How often what was read may turn out to be old by the time of the verdict.
const TRIES: u32 = 4;

/// After how many seconds a digest that was not improved is tried again.
const REHASH_PAUSE: u32 = 60;

/// What a secret has been proven against.
struct Proven {
    digest: Digest,
    environment: Environment,
    outdated: bool,
}

impl Core {
    pub(super) async fn cold(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Admitted, Denial> {
        let pin = self.pin(credential.id);
        let decided = self.decide_cold(&pin, credential, attempt).await;
        decided.map_err(|reason| Denial::of_key(credential.id, reason))
    }

    async fn decide_cold(
        &self,
        pin: &Pin<'_>,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Admitted, DenialReason> {
        let tag = self.tag(credential);
        let mut proven: Option<Proven> = None;
        let mut may_rehash = true;
        for tries in 0..TRIES {
            let look = self.fetch(pin, tries > 0).await?;
            let outdated = match &proven {
                Some(proven) if proven.is_of(look.compiled.record()) => proven.outdated,
                _ => {
                    let before =
                        self.slots
                            .find(credential.id, || (), |(), slot| slot.proof_of(&look, tag));
                    let outdated = match before.flatten() {
                        Some(proof) => proof.rehash_at.is_some(),
                        None => self.prove(credential, &look).await?,
                    };
                    let record = look.compiled.record();
                    proven = Some(Proven {
                        digest: record.digest().clone(),
                        environment: record.environment().clone(),
                        outdated,
                    });
                    outdated
                }
            };
            let wall = Wall::read(&*self.parts.clock)?;
            let seen_end = self.seen_end(credential);
            let question = self.question(credential, attempt, wall, seen_end);
            let judged = look.compiled.judge(&question);
            if judged.is_ok() && outdated && may_rehash {
                may_rehash = false;
                if let Some(better) = self.rehash(credential, look.compiled.record()).await {
                    // Much may have happened meanwhile. If it is the new digest that is read now, it is proven.
                    if let Some(better) = better {
                        let environment = look.compiled.record().environment().clone();
                        proven = Some(Proven {
                            digest: better,
                            environment,
                            outdated: false,
                        });
                        self.slots.forget(credential.id);
                    }
                    continue;
                }
            }
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let seconds = u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX);
            let proof = Proof {
                tag,
                rehash_at: outdated.then(|| seconds.saturating_add(REHASH_PAUSE)),
            };
            self.slots.admit(credential.id, &look, Some(proof));
            match self.decide_on(credential, attempt, &look, pin.since)? {
                Some(Verdict::Admitted(known, is_counted)) => {
                    return Ok(admitted(known, is_counted, attempt));
                }
                Some(Verdict::Denied(reason)) => return Err(reason),
                None => {}
            }
        }
        Err(DenialReason::TooOld)
    }

    /// The verdict on what was read; none if that is old by now.
    fn decide_on(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        look: &Look,
        since: u64,
    ) -> Result<Option<Verdict>, DenialReason> {
        self.slots.with(credential.id, |slot| {
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            // Its own read, or one that could as well have been: for as long as it is waited for.
            let age = now.checked_sub(look.stamp.began);
            let is_own = look.stamp.moment > since
                && age.is_some_and(|age| u128::from(age) < self.patience.as_nanos());
            let is_covered = self.slots.lease.covers(look.stamp, now)
                && !slot.is_pending()
                && !self.slots.line.is_pending();
            let is_admitted = slot.admits_look(look) && self.slots.line.admits(look.stamp.moment);
            let may_decide = (is_own || is_covered) && is_admitted;
            if !may_decide && !planted(Planted::JoinWithoutFence) {
                return Ok(None);
            }
            let seen_end = slot
                .seen_end
                .unwrap_or_else(|| self.slots.seen.latest(credential.id));
            let wall = Wall::read(&*self.parts.clock)?;
            let question = self.question(credential, attempt, wall, seen_end);
            let judged = look.compiled.judge(&question);
            Ok(Some(self.settle(
                slot,
                &question,
                judged,
                Some(&look.compiled),
            )))
        })
    }

    pub(super) fn seen_end(&self, credential: &Credential<'_>) -> i64 {
        let here = self
            .slots
            .find(credential.id, || (), |(), slot| slot.seen_end);
        here.flatten()
            .unwrap_or_else(|| self.slots.seen.latest(credential.id))
    }

    /// Proves that the secret is the key's; whether its digest ranks lower than today's choice.
    async fn prove(&self, credential: &Credential<'_>, look: &Look) -> Result<bool, DenialReason> {
        let record = look.compiled.record();
        let hasher = &self.parts.hasher;
        let verdict = hasher.verify(
            record.digest(),
            binding(record),
            credential,
            record.origin(),
        );
        match verdict.await.map_err(DenialReason::Hashing)? {
            Possession::Proven { outdated } => Ok(outdated),
            Possession::Refuted => {
                // The next stranger who tries this key costs no read.
                self.slots.admit(credential.id, look, None);
                Err(DenialReason::WrongSecret)
            }
        }
    }

    /// Stores a better digest. None if nothing was waited for; else the digest, if it took the old one's place. The verdict
    /// does not depend on it: a later request tries again.
    async fn rehash(
        &self,
        credential: &Credential<'_>,
        record: &KeyRecord,
    ) -> Option<Option<Digest>> {
        // Unless another request is at it.
        let turn = self.rehashing.begin(record.id())?;
        let better = self.parts.hasher.improve(
            record.digest(),
            binding(record),
            credential.secret,
            record.origin(),
            turn,
        );
        let replaced = match better.await {
            Ok(Some(better)) => self.replace_digest(record, &better).await.then_some(better),
            Ok(None) => return None,
            Err(_) => None,
        };
        self.counters.rehashed(replaced.is_some());
        Some(replaced)
    }

    async fn replace_digest(&self, record: &KeyRecord, to: &Digest) -> bool {
        let change = Change::Rehash {
            id: record.id(),
            from: record.digest().clone(),
            to: to.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(&*self.parts.random), change);
        let committed = self.parts.store.commit(&set).await;
        committed.is_ok_and(|committed| committed.outcomes == [Outcome::Rehashed])
    }
}

impl Proven {
    fn is_of(&self, record: &KeyRecord) -> bool {
        self.digest == *record.digest() && self.environment == *record.environment()
    }
}

pub(super) fn binding(record: &KeyRecord) -> Binding<'_> {
    Binding {
        environment: record.environment(),
        id: record.id(),
    }
}
