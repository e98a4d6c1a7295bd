//! This node's cached state of one key, behind one small lock.
//!
//! # The fence
//! Reads and invalidations meet here, each in one step under the lock. A snapshot may enter the cache, and decide on
//! other requests than those that waited for it, only under two conditions: its read began after the last commit about
//! the key that this node has seen end ([`barrier`](Slot::barrier)), and its revision is not below the one that the
//! feed reported ([`floor`](Slot::floor)). To check first and insert afterwards has an interleaving that revives a
//! revoked key; so has inserting first and checking afterwards. `Lease::may_decide` says when a snapshot decides.
//!
//! A slot lives at least as long as any request reads its key or holds a snapshot of it (`SlotGuard`): the mark of an
//! invalidation outlives every fill that it must stop, and a key without a read in progress needs no mark.

use std::sync::Arc;

use tokio::sync::watch;

use super::compiled::CompiledRecord;
use super::tag::Tag;
use crate::key::{DecodeError, StoredKey};
use crate::limiter::ParkedMeters;
use crate::store::StoreError;

/// Number of wrong guesses at a weak secret that the tag answers.
///
/// Each further guess costs a slow hash, as if there were no tag, until a slow hash proves the secret again (NIST SP
/// 800-63B-4 §3.2.2: no more than 100).
pub(super) const MOST_MISSES: u8 = 100;

/// Per-key state: cached record, fence and counters.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) entry: Option<Entry>,
    /// Reads of this epoch and earlier are old.
    barrier: u64,
    /// The revision that the feed reported last, and the history in which it did.
    floor: u64,
    floor_history: u32,
    /// Commits about the key that this node has begun, with an unknown outcome.
    pending: u32,
    /// Requests that are reading, or hold a snapshot.
    pub(super) readers: u32,
    /// The read that others may join.
    pub(super) flight: Option<Box<Flight>>,
    /// Usage since it was last collected: this field and the next two.
    pub(crate) granted: u32,
    pub(crate) refused: u32,
    pub(crate) last_used: i64,
    /// Index in its segment.
    pub(crate) place: u32,
    /// Weight in its segment, in bytes; 0 if it is in no segment.
    pub(super) weight: u32,
    pub(super) segment: CacheSegment,
    pub(crate) is_referenced: bool,
    pub(super) is_dead: bool,
    misses: u8,
}

/// A cached record, and the time of its read.
pub(crate) struct Entry {
    /// The proof of a secret against the digest of this very record.
    pub(crate) proof: Option<Proof>,
    pub(crate) snapshot: Snapshot,
    /// The meters of this very record.
    pub(crate) meters: Option<Box<ParkedMeters>>,
    /// The epoch in which the entry was made.
    entered: u64,
}

/// The trace of a proven secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    pub(crate) tag: Tag,
    /// When the digest may be improved, in seconds of the monotonic clock; `None` if it ranks as high as today's
    /// choice.
    pub(crate) rehash_at: Option<u32>,
}

/// The segments of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CacheSegment {
    /// In no segment: present only while a read, a request or a commit needs the slot.
    #[default]
    Passing,
    /// Known, but no request has proven its secret here.
    Probation,
    /// Known, with a proven secret.
    Main,
}

/// A read that others may join.
pub(super) struct Flight {
    pub(super) begun: u64,
    /// Whether the request that makes the read presented a credential proven here, so that it does not wait for a place
    /// among the unproven reads.
    pub(super) is_known: bool,
    pub(super) answer: watch::Receiver<Option<Fetched>>,
}

/// When a read began: before the request to the store was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The read's place in the order of operations that this node began and ended.
    pub(super) epoch: u64,
    /// The monotonic clock, in nanoseconds.
    pub(super) began: u64,
    /// The history of the feed at that time; 0 before the first.
    pub(super) history: u32,
}

/// A record as one read of the store returned it, and when that read began.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) compiled: CompiledRecord,
    pub(super) stamp: Stamp,
}

impl Snapshot {
    pub(crate) fn revision(&self) -> u64 {
        self.compiled.revision
    }

    fn has_digest_of(&self, other: &Self) -> bool {
        let (one, other) = (self.compiled.record(), other.compiled.record());
        one.digest() == other.digest() && one.environment() == other.environment()
    }

    /// Returns whether both are of the same record, and this one is from a read that began later.
    fn is_later_read_of(&self, other: &Self) -> bool {
        self.stamp.history == other.stamp.history
            && self.revision() == other.revision()
            && self.stamp.epoch > other.stamp.epoch
    }
}

/// The outcome of a read, for all requests that wait for it.
#[derive(Clone)]
pub(super) enum Fetched {
    Found(Snapshot),
    /// No key has this id.
    Missing,
    /// The store failed.
    Failed(Arc<StoreError>),
    /// The stored key cannot be read.
    Unreadable(Arc<DecodeError>),
    /// The answer did not come in time.
    Late,
}

/// The result of comparing a presented tag with a slot.
pub(crate) enum Match {
    /// The slot cannot decide.
    Unknown,
    Proven,
    Refuted,
}

impl Slot {
    /// Returns whether a read is overtaken neither by a commit of this node nor by a change from the feed.
    fn admits(&self, stamp: Stamp, revision: u64) -> bool {
        let is_above_floor = stamp.history > self.floor_history || revision >= self.floor;
        stamp.epoch > self.barrier && is_above_floor
    }

    /// Returns whether a commit of this node about the key may be in progress.
    pub(super) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// Returns whether the fence lets a snapshot decide.
    pub(super) fn admits_snapshot(&self, snapshot: &Snapshot) -> bool {
        self.admits(snapshot.stamp, snapshot.revision()) && !self.is_overtaken(snapshot)
    }

    /// Returns whether the slot's entry is newer than a snapshot from a read that overlapped with it.
    fn is_overtaken(&self, snapshot: &Snapshot) -> bool {
        let Some(entry) = &self.entry else {
            return false;
        };
        let newer = &entry.snapshot;
        if newer.stamp.history != snapshot.stamp.history {
            return newer.stamp.history > snapshot.stamp.history;
        }
        // A read that began after the entry was made sees at least as much, whatever the revision: a lower one then
        // means that a backup was restored.
        snapshot.stamp.epoch <= entry.entered && snapshot.revision() < newer.revision()
    }

    /// Returns whether the fence lets a snapshot be the entry.
    pub(super) fn may_enter(&self, snapshot: &Snapshot) -> bool {
        self.pending == 0 && self.admits_snapshot(snapshot)
    }

    /// Makes a snapshot the entry, unless it has been overtaken; with the proof of a secret against it, if there is
    /// one.
    pub(super) fn enter(&mut self, snapshot: &Snapshot, proof: Option<Proof>, epoch: u64) -> bool {
        if !self.may_enter(snapshot) {
            return false;
        }
        let before = self
            .entry
            .take()
            .filter(|before| before.snapshot.has_digest_of(snapshot));
        // A secret that was proven against a digest is proven for as long as the digest stays.
        let proof = proof.or(before.as_ref().and_then(|before| before.proof));
        let stays = before.filter(|before| before.snapshot.is_later_read_of(snapshot));
        self.entry = Some(match stays {
            Some(before) => Entry { proof, ..before },
            None => Entry {
                proof,
                snapshot: snapshot.clone(),
                meters: None,
                entered: epoch,
            },
        });
        true
    }

    /// Compares a presented tag with the entry's proof.
    ///
    /// Only a proof against the very digest of the entry counts, and a mismatch only if the tag covers every text that
    /// could prove the secret.
    #[inline]
    pub(crate) fn compare(&mut self, tag: Tag, is_own_form: bool) -> Match {
        let Some(entry) = &self.entry else {
            return Match::Unknown;
        };
        match &entry.proof {
            None => Match::Unknown,
            Some(proof) if proof.tag.matches(&tag) => Match::Proven,
            // A credential in a legacy format may have several spellings that prove the same secret.
            Some(_) if !is_own_form || !entry.snapshot.compiled.is_ours => Match::Unknown,
            Some(_) if !entry.snapshot.compiled.is_weak => Match::Refuted,
            Some(_) if self.misses >= MOST_MISSES => Match::Unknown,
            Some(_) => {
                self.misses += 1;
                Match::Refuted
            }
        }
    }

    /// Records that a computation of the stored hash proved the secret.
    pub(crate) fn was_proven(&mut self) {
        self.misses = 0;
    }

    /// Returns the proof of a secret with this tag against the digest of the snapshot.
    pub(crate) fn proof_of(&self, snapshot: &Snapshot, tag: Tag) -> Option<Proof> {
        let entry = self
            .entry
            .as_ref()
            .filter(|entry| entry.snapshot.has_digest_of(snapshot))?;
        entry.proof.filter(|proof| proof.tag.matches(&tag))
    }

    /// Begins a commit about the key: no snapshot decides until its outcome is known.
    pub(super) fn begin_commit(&mut self) {
        self.pending = self.pending.saturating_add(1);
    }

    /// Ends a commit about the key with a known outcome: all earlier reads are old.
    pub(super) fn end_commit(&mut self, epoch: u64) {
        self.pending = self.pending.saturating_sub(1);
        self.invalidate(epoch);
    }

    /// Marks all reads until now as old.
    pub(super) fn invalidate(&mut self, epoch: u64) {
        self.barrier = self.barrier.max(epoch);
    }

    /// Returns whether the entry, or a read in progress, may be older than `stored`, the key as the store holds it by
    /// now.
    ///
    /// A read in progress of a live key is left alone: requests would otherwise have to read the key again for as long
    /// as a manager looks at it. Such a read decides for no longer than the lease.
    pub(super) fn is_behind(&self, stored: Option<&StoredKey>) -> bool {
        let Some(stored) = stored else {
            return true;
        };
        let has_ended = stored.revocation.is_some() || stored.cutoff > Some(stored.created_at);
        match &self.entry {
            None => has_ended,
            Some(entry) => {
                let record = entry.snapshot.compiled.record();
                let is_same =
                    (record.revision(), record.cutoff) == (stored.revision, stored.cutoff);
                !is_same || has_ended && self.readers > 0
            }
        }
    }

    /// Applies a revision from the feed: snapshots below it are old. The highest one reported in the present history
    /// counts.
    pub(super) fn raise_floor(&mut self, revision: u64, history: u32) {
        if history > self.floor_history {
            (self.floor, self.floor_history) = (0, history);
        }
        self.floor = self.floor.max(revision);
    }

    /// Returns whether the slot is not needed any more.
    pub(super) fn is_idle(&self) -> bool {
        self.segment == CacheSegment::Passing && self.readers == 0 && self.pending == 0
    }
}

impl Entry {
    /// Returns whether it is time to try again to improve the digest.
    pub(crate) fn is_rehash_due(&self, now: u64) -> bool {
        let due = self.proof.and_then(|proof| proof.rehash_at);
        due.is_some_and(|due| now / 1_000_000_000 >= u64::from(due))
    }
}
