//! The cold path: reads the store, and proves the secret against the stored digest.

use super::{
    Admitted, Attempt, Core, Denial, DenialReason, Verdict, admitted, decide, record_usage,
};
use crate::cache::compiled::WallClockReading;
use crate::cache::reads::SlotGuard;
use crate::cache::slot::{Proof, Slot, Snapshot};
use crate::cache::tag::Tag;
use crate::credential::Credential;
use crate::hashing::{Possession, Purpose};
use crate::key::{Digest, Environment, KeyRecord};
use crate::sync::{Planted, planted};

/// Number of attempts at a verdict; each may find that its snapshot has become old.
const TRIES: u32 = 4;

/// Seconds until the next attempt at a digest that was not improved.
const REHASH_PAUSE: u32 = 60;

/// The digest that the secret has been proven against.
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
        let tag = self.tag(credential);
        let guard = self.guard_slot(credential.id, Some(tag));
        let decided = self.decide_cold(&guard, tag, credential, attempt).await;
        decided.map_err(|reason| Denial::of_key(credential.id, reason))
    }

    async fn decide_cold(
        &self,
        guard: &SlotGuard<'_>,
        tag: Tag,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Admitted, DenialReason> {
        let mut proven: Option<Proven> = None;
        let mut may_rehash = true;
        // The latest epoch at the end of the last hash.
        let mut hashed = guard.since;
        for tries in 0..TRIES {
            let snapshot = self.fetch(guard, tries > 0).await?;
            let outdated = match &proven {
                Some(proven) if proven.is_of(snapshot.compiled.record()) => proven.outdated,
                _ => {
                    let before = self.slots.find(
                        credential.id,
                        || (),
                        |(), slot| slot.proof_of(&snapshot, tag),
                    );
                    let outdated = match before.flatten() {
                        Some(proof) => proof.rehash_at.is_some(),
                        None => {
                            let outdated = self.prove(credential, &snapshot).await?;
                            hashed = self.slots.epochs.latest();
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
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            let seconds = u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX);
            let proof = Proof {
                tag,
                rehash_at: outdated.then(|| seconds.saturating_add(REHASH_PAUSE)),
            };
            // Before the digest is improved, so that other requests with the key need not wait for that.
            self.slots.admit(credential.id, &snapshot, Some(proof));
            if outdated && may_rehash && self.would_admit(credential, attempt, &snapshot)? {
                may_rehash = false;
                let record = snapshot.compiled.record();
                if let Some(better) = self.rehash(credential.secret, record, tag).await {
                    hashed = self.slots.epochs.latest();
                    // The key may have changed meanwhile. If the next read shows the new digest, the secret is proven.
                    if let Some(better) = better {
                        let environment = snapshot.compiled.record().environment().clone();
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
            match self.decide_on(credential, attempt, &snapshot, guard.since, hashed)? {
                Some(Verdict::Admitted(cached, is_counted)) => {
                    return Ok(admitted(cached, is_counted, attempt));
                }
                Some(Verdict::Denied(reason)) => return Err(reason),
                None => {}
            }
        }
        Err(DenialReason::StaleCache)
    }

    /// Returns whether a snapshot may decide on a request that came in the epoch `since`, and for which a hash was last
    /// computed in the epoch `hashed`.
    ///
    /// A read that began after the request came shows the key as the store had it during the request. It decides even
    /// if commits overtake it: a key under constant change would otherwise be undecidable. A change that returned
    /// before the request came was committed before that read began, so the read shows it.
    ///
    /// If a hash was computed since the read, commits may have overtaken it for as long as the hash took, and the key
    /// is read once more. An older read decides only if the lease covers it, too.
    pub(crate) fn may_decide(
        &self,
        slot: &Slot,
        snapshot: &Snapshot,
        since: u64,
        hashed: u64,
        now: u64,
    ) -> bool {
        let age = now.checked_sub(snapshot.stamp.began);
        let is_own = snapshot.stamp.epoch > since
            && age.is_some_and(|age| u128::from(age) < self.patience.as_nanos());
        let is_covered = self.slots.lease.covers(snapshot.stamp, now)
            && !slot.is_pending()
            && !self.slots.epochs.is_pending(snapshot.compiled.record());
        let is_admitted =
            || slot.admits_snapshot(snapshot) && self.slots.epochs.admits(snapshot.stamp.epoch);
        is_own && (snapshot.stamp.epoch > hashed || is_admitted())
            || is_covered && is_admitted()
            || planted(Planted::JoinWithoutFence)
    }

    /// Decides on a snapshot; `None` if the snapshot has become old.
    fn decide_on(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        snapshot: &Snapshot,
        since: u64,
        hashed: u64,
    ) -> Result<Option<Verdict>, DenialReason> {
        self.slots.with(credential.id, |slot| {
            let now = self.slots.now().map_err(DenialReason::Clock)?;
            if !self.may_decide(slot, snapshot, since, hashed, now) {
                return Ok(None);
            }
            let wall = WallClockReading::read(&*self.parts.clock)?;
            let input = self.check_input(credential, attempt, wall);
            let verdict = decide(&snapshot.compiled, &input, slot.in_flight);
            record_usage(slot, &input, &verdict);
            Ok(Some(verdict))
        })
    }

    /// Returns whether the request would be admitted if no other were in flight.
    fn would_admit(
        &self,
        credential: &Credential<'_>,
        attempt: &Attempt<'_>,
        snapshot: &Snapshot,
    ) -> Result<bool, DenialReason> {
        let wall = WallClockReading::read(&*self.parts.clock)?;
        let input = self.check_input(credential, attempt, wall);
        Ok(snapshot.compiled.judge(&input).is_ok())
    }

    /// Proves that the secret is the key's, and returns whether its digest ranks lower than today's choice.
    async fn prove(
        &self,
        credential: &Credential<'_>,
        snapshot: &Snapshot,
    ) -> Result<bool, DenialReason> {
        let record = snapshot.compiled.record();
        let credentials = &self.parts.credentials;
        let verdict = credentials.verify(record, credential, Purpose::Request);
        match verdict.await.map_err(DenialReason::Hashing)? {
            Possession::Proven { outdated } => {
                self.slots
                    .find(credential.id, || (), |(), slot| slot.was_proven());
                Ok(outdated)
            }
            Possession::Refuted => {
                // The next wrong secret for this key then costs no read.
                self.slots.admit(credential.id, snapshot, None);
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
