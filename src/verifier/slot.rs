//! What this node caches of one key, behind one small lock.
//!
//! # The fence
//! What reads bring and what makes them old meet here, each in one step under the lock. A read may enter, and decide on
//! other requests than those that waited for it, only if it began after the last commit about the key that this node
//! has seen end ([`barrier`](Slot::barrier)), and is not below the revision that the feed told
//! ([`floor`](Slot::floor)). Looking first and entering afterwards would have an interleaving that revives a revoked
//! key; so would entering first and looking afterwards. A request that came before the read began is decided on it even
//! if it was overtaken, unless a hash was computed since (`may_decide` in `cold.rs`).
//!
//! A slot lives at least as long as any request reads its key or holds a snapshot of it (`SlotGuard`): what an
//! invalidation leaves here outlives every fill that it must stop, and a key that is not being read needs none.

use tokio::sync::watch;

use super::CompiledRecord;
use super::lease::Stamp;
use super::reads::Fetched;
use super::tag::Tag;
use crate::key::StoredKey;
use crate::sync::{Planted, planted};

/// Wrong guesses at a weak secret that its tag answers. After them each costs a slow hash, as if there were no tag,
/// until the secret is proven by a slow hash again (NIST SP 800-63B-4 §3.2.2: no more than 100).
pub(super) const MOST_MISSES: u8 = 100;

/// Per-key state: cached record, fence and counters.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) entry: Option<Entry>,
    /// Reads of this epoch and earlier are old.
    barrier: u64,
    /// The revision that the feed reported last, and the history it reported it in.
    floor: u64,
    floor_history: u32,
    /// Commits about the key that this node has begun and knows no outcome of.
    pending: u32,
    /// Requests that are reading, or hold what was read.
    pub(super) readers: u32,
    /// The read that others may join.
    pub(super) flight: Option<Box<Flight>>,
    /// Requests in flight, of a key that bounds them.
    pub(super) in_flight: u32,
    /// Since usage was last collected.
    pub(super) granted: u32,
    pub(super) refused: u32,
    pub(super) last_used: i64,
    /// Where it stands in its segment.
    pub(super) place: u32,
    /// What it weighs there, in bytes; 0 if it is in none.
    pub(super) weight: u32,
    pub(super) segment: CacheSegment,
    pub(super) is_referenced: bool,
    pub(super) is_dead: bool,
    misses: u8,
}

/// A record that was read, and when.
pub(super) struct Entry {
    /// Left by a secret that was proven against the digest of this very record.
    pub(super) proof: Option<Proof>,
    pub(super) compiled: CompiledRecord,
    pub(super) stamp: Stamp,
    /// The epoch in which it was entered.
    entered: u64,
}

/// What a proven secret leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    pub(super) tag: Tag,
    /// When the digest may be improved, in seconds of the monotonic clock; none if it ranks as high as today's choice.
    pub(super) rehash_at: Option<u32>,
}

/// The segments of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CacheSegment {
    /// Here only while a read, a request or a commit needs it.
    #[default]
    Passing,
    /// Known, but nobody has proven its secret here.
    Probation,
    /// Proven.
    Main,
}

/// A read that others may join.
pub(super) struct Flight {
    pub(super) begun: u64,
    /// Whether whoever makes it has presented what was proven here, and so waits for no place of the strangers'.
    pub(super) is_known: bool,
    pub(super) answer: watch::Receiver<Option<Fetched>>,
}

/// A record as one read of the store returned it, and when that read began.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) compiled: CompiledRecord,
    pub(super) stamp: Stamp,
}

impl Snapshot {
    pub(super) fn revision(&self) -> u64 {
        self.compiled.revision
    }
}

/// What a slot says of a presented tag.
pub(super) enum Match {
    /// It cannot say.
    Unknown,
    Proven,
    Refuted,
}

impl Slot {
    /// Whether a read is overtaken neither by a commit of this node nor by what the feed reported.
    fn admits(&self, stamp: Stamp, revision: u64) -> bool {
        let is_above_floor = stamp.history > self.floor_history || revision >= self.floor;
        stamp.epoch > self.barrier && is_above_floor
    }

    /// Whether a commit of this node's about the key may be taking place.
    pub(super) fn is_pending(&self) -> bool {
        self.pending > 0
    }

    /// The entry, if it may decide as far as the fence goes.
    pub(super) fn admitted(&self) -> Option<&Entry> {
        let entry = self.entry.as_ref().filter(|_| self.pending == 0)?;
        (is_trusting() || self.admits(entry.stamp, entry.revision())).then_some(entry)
    }

    /// Whether a verdict may be based on a snapshot, as far as the fence goes.
    pub(super) fn admits_snapshot(&self, snapshot: &Snapshot) -> bool {
        self.admits(snapshot.stamp, snapshot.revision()) && !self.is_overtaken(snapshot)
    }

    /// Whether the slot's entry is newer than a snapshot from a read that overlapped with it.
    fn is_overtaken(&self, snapshot: &Snapshot) -> bool {
        let Some(entry) = &self.entry else {
            return false;
        };
        if planted(Planted::OlderRevisionWins) {
            return false;
        }
        if entry.stamp.history != snapshot.stamp.history {
            return entry.stamp.history > snapshot.stamp.history;
        }
        // A read that began after the entry came sees at least as much, whatever the revision: a lower one then means
        // that a backup was restored.
        snapshot.stamp.epoch <= entry.entered && snapshot.revision() < entry.revision()
    }

    /// Enters a snapshot, unless it has been overtaken; with what was proven against it, if anything.
    pub(super) fn enter(&mut self, snapshot: &Snapshot, proof: Option<Proof>, epoch: u64) -> bool {
        if !self.may_enter(snapshot) {
            return false;
        }
        self.put(snapshot, proof, epoch);
        true
    }

    pub(super) fn may_enter(&self, snapshot: &Snapshot) -> bool {
        self.pending == 0 && self.admits_snapshot(snapshot)
    }

    /// Enters a snapshot, whatever the fence says.
    pub(super) fn put(&mut self, snapshot: &Snapshot, proof: Option<Proof>, now: u64) {
        let before = self
            .entry
            .take()
            .filter(|before| before.has_digest_of(snapshot));
        // A secret that was proven against a digest is proven for as long as the digest stays.
        let proof = proof.or(before.as_ref().and_then(|before| before.proof));
        let stays = before.filter(|before| before.is_later_read_of(snapshot));
        self.entry = Some(match stays {
            Some(before) => Entry { proof, ..before },
            None => Entry {
                proof,
                compiled: snapshot.compiled.clone(),
                stamp: snapshot.stamp,
                entered: now,
            },
        });
    }

    /// What the slot knows of a presented secret. Only what was proven against the very digest that it holds counts,
    /// and a miss only where the tag covers all that could prove it.
    #[inline]
    pub(super) fn compare(&mut self, tag: Tag, is_own_form: bool) -> Match {
        let Some(entry) = &self.entry else {
            return Match::Unknown;
        };
        match &entry.proof {
            None => Match::Unknown,
            Some(proof) if proof.tag.matches(&tag) => Match::Proven,
            // What is written in a legacy format may be written in several ways that prove the same.
            Some(_) if !is_own_form || !entry.compiled.is_ours => Match::Unknown,
            Some(_) if !entry.compiled.is_weak => Match::Refuted,
            Some(_) if self.misses >= MOST_MISSES => Match::Unknown,
            Some(_) => {
                self.misses += 1;
                Match::Refuted
            }
        }
    }

    /// The secret was proven by a hash as it is stored.
    pub(super) fn was_proven(&mut self) {
        self.misses = 0;
    }

    /// What was left by a secret with this tag when it was proven against this digest.
    pub(super) fn proof_of(&self, snapshot: &Snapshot, tag: Tag) -> Option<Proof> {
        let entry = self
            .entry
            .as_ref()
            .filter(|entry| entry.has_digest_of(snapshot))?;
        entry.proof.filter(|proof| proof.tag.matches(&tag))
    }

    /// A commit about the key begins: nothing that was read decides until its outcome is known.
    pub(super) fn begin_commit(&mut self) {
        self.pending = self.pending.saturating_add(1);
    }

    /// The outcome of a commit is known: what was read before is old.
    pub(super) fn end_commit(&mut self, epoch: u64) {
        self.pending = self.pending.saturating_sub(1);
        self.invalidate(epoch);
    }

    /// What was read until now is old.
    pub(super) fn invalidate(&mut self, epoch: u64) {
        self.barrier = self.barrier.max(epoch);
        if is_trusting() {
            self.entry = None;
        }
    }

    /// Whether what the slot holds, or what is being read, may be older than this, which the store holds by now.
    ///
    /// Of a key that lives, what is only being read is left alone: requests would otherwise have to read it again for
    /// as long as somebody looks at it, and it decides for no longer than the lease.
    pub(super) fn is_behind(&self, stored: Option<&StoredKey>) -> bool {
        let Some(stored) = stored else {
            return true;
        };
        let has_ended = stored.revocation.is_some() || stored.cutoff > Some(stored.created_at);
        match &self.entry {
            None => has_ended,
            Some(entry) => {
                let record = entry.compiled.record();
                let is_same = (entry.revision(), record.cutoff) == (stored.revision, stored.cutoff);
                !is_same || has_ended && self.readers > 0
            }
        }
    }

    /// The feed reported this revision: what is below it is old. The highest one reported in the present history
    /// counts.
    pub(super) fn raise_floor(&mut self, revision: u64, history: u32) {
        if history > self.floor_history {
            (self.floor, self.floor_history) = (0, history);
        }
        self.floor = self.floor.max(revision);
    }

    /// Whether nothing needs it any more.
    pub(super) fn is_idle(&self) -> bool {
        self.segment == CacheSegment::Passing
            && self.readers == 0
            && self.pending == 0
            && self.in_flight == 0
    }
}

/// Whether what stands in a slot is taken as it is, and goes when it is old, as in a cache without a fence. What is
/// planted there would do no harm here, where each use looks at the fence again.
fn is_trusting() -> bool {
    planted(Planted::CheckThenInsert) || planted(Planted::InsertThenRecheck)
}

impl Entry {
    pub(super) fn revision(&self) -> u64 {
        self.compiled.revision
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            compiled: self.compiled.clone(),
            stamp: self.stamp,
        }
    }

    /// Whether it is time to try again to improve the digest.
    pub(super) fn is_rehash_due(&self, now: u64) -> bool {
        let due = self.proof.and_then(|proof| proof.rehash_at);
        due.is_some_and(|due| now / 1_000_000_000 >= u64::from(due))
    }

    fn has_digest_of(&self, snapshot: &Snapshot) -> bool {
        let (one, other) = (self.compiled.record(), snapshot.compiled.record());
        one.digest() == other.digest() && one.environment() == other.environment()
    }

    /// Whether it is the same record as the snapshot's, from a read that began later.
    fn is_later_read_of(&self, snapshot: &Snapshot) -> bool {
        self.stamp.history == snapshot.stamp.history
            && self.revision() == snapshot.revision()
            && self.stamp.epoch > snapshot.stamp.epoch
    }
}
