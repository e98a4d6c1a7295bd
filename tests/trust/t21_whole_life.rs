//! Promise 21, for the whole life of a key: no growth of privilege through issue, import, update, rotate, suspend and
//! resume. Neither what exists nor what is asked for may exceed the actor's ceiling on any axis; only suspending and
//! revoking, which give nobody more, are free of it.
//!
//! Actors with ceilings that were drawn do random things to keys that mostly lie at their ceiling, just below it or
//! above it on one axis. After each operation the keys are read back from the store, and held against what the
//! [oracle](crate::t21_powers) says: a key that was given power lies below the ceiling, and lay below it before; it is
//! what was asked for and nothing else; a refusal has its reason. After each round all keys together can do no deed
//! that they could not do before and that no actor's ceiling lets happen.
//!
//! Planted bugs that it catches, each for what it is: an update that sees only what is to be, only what is, or only the
//! fields named, that forgets the expiry axis, revives what has ended or lengthens an overlap, or that changes another
//! key too; a rotation that sees only one of the two keys, forgets the expiry
//! axis, revives what was suspended, gives the successor a longer life or an earlier start or the old key a longer
//! life, leaves the old key be, or is done twice; an issue, a resumption or an import that skips the ceiling; an import
//! that overwrites; an issue that makes two keys; a suspension that asks the ceiling; a refusal that does it all the
//! same.

mod agreement;
mod asked;
mod bug;
mod round;

use std::thread;

use keyward::key::{KeyId, KeyRecord};
use keyward::time::OffsetDateTime;

use self::asked::Asked;
use self::bug::Bug;
use self::round::Round;
use crate::common::{Choices, Fixture, clock};
use crate::t21_powers::{Deeds, Powers, after, fixture, from_second, operations};

const THREADS: u32 = 2;
/// After so many rounds another store is taken: one keeps every key.
const ROUNDS_PER_HOUSE: u32 = 50;

#[test]
fn no_operation_exceeds_the_ceiling() {
    let operations = operations();
    let (many, rounds) = (operations / 100, operations / round::OPERATIONS / THREADS);
    let tallies = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || without_wrong(2_110 + u64::from(thread), rounds)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let total = tallies
        .iter()
        .fold(Tally::default(), |all, one| all.and(one));
    // Every kind of operation was both done and held back by the ceiling, many times, or nothing was shown.
    for (kind, name) in Asked::KINDS.iter().enumerate() {
        let (done, refused) = (total.done[kind], total.above[kind]);
        let is_bound = !matches!(*name, "suspend" | "revoke");
        assert!(done > many, "{name}: {total:?}");
        assert_eq!(refused > many, is_bound, "{name}: {total:?}");
    }
}

#[test]
fn the_oracle_catches_planted_bugs() {
    for (bug, caught_as) in Bug::ALL {
        let mut choices = Choices::new(2_120);
        let world = world();
        let scratch = fixture(world.clock.clone());
        let caught = (0..2_000).any(|number| {
            let mut round = Round::begin(&world, number, &mut choices);
            round.library.bug = Some((bug, &scratch));
            let mut tally = Tally::default();
            round.run(&mut choices, &mut tally) == Err(caught_as)
        });
        assert!(caught, "{bug:?}");
    }
}

/// How the promise can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// A key above the ceiling was changed, rotated or resumed.
    WasAbove,
    /// A key above the ceiling came of it.
    IsAbove,
    /// A key that had ended, or was suspended and not resumed, came back.
    Revived,
    /// The successor lives longer than was asked, or than its predecessor would have where nothing was.
    LivesLonger,
    /// The successor is valid before its predecessor would have been.
    StartsEarlier,
    /// The key that was rotated lives longer than before.
    OldLivesLonger,
    /// A key lives on beyond the overlap with its successor.
    OverlapLengthened,
    /// A second successor was made while the first one's line goes on.
    RotatedTwice,
    /// Something else came of it than was asked.
    NotAsAsked,
    /// A key was imported over one that exists.
    Overwritten,
    /// What was refused left something changed.
    RefusedButDone,
    /// The reason given for the refusal is none.
    RefusedForNothing,
    /// All keys together can do what they could not before, and what no ceiling lets happen.
    Grown,
    /// A key is not what the operations on it have made it, or nobody made it.
    OtherKeys,
}

/// A key as it was last read from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    id: KeyId,
    powers: Powers,
    is_suspended: bool,
    is_revoked: bool,
    successor: Option<KeyId>,
    /// When the overlap with the successor ends.
    overlap_end: Option<u64>,
    /// When it would end if it had not been rotated.
    own_end: Option<u64>,
    revision: u64,
}

impl Held {
    fn of(record: &KeyRecord, start: OffsetDateTime) -> Self {
        let powers = Powers::of(record, start);
        let overlap_end = record.rotation().and_then(|rotated| rotated.overlap_ends);
        let own_end = record.rotation().map(|rotated| rotated.own_end);
        Self {
            id: record.id(),
            powers,
            is_suspended: record.suspended_at().is_some(),
            is_revoked: record.revocation().is_some(),
            successor: record.rotation().map(|rotated| rotated.successor),
            overlap_end: overlap_end.map(|end| after(end, start)),
            own_end: own_end.map_or(powers.expires_after, |end| end.map(|end| after(end, start))),
            revision: record.revision(),
        }
    }

    fn fresh(id: KeyId, powers: Powers) -> Self {
        Self {
            id,
            powers,
            is_suspended: false,
            is_revoked: false,
            successor: None,
            overlap_end: None,
            own_end: powers.expires_after,
            revision: 1,
        }
    }

    fn has_ended(&self, second: u64) -> bool {
        self.is_revoked || ends_by(self.powers.expires_after, Some(second))
    }

    /// What it lets happen from this second on.
    fn deeds(&self, second: u64) -> Deeds {
        let Deeds(mut deeds) = self.powers.deeds();
        let is_off = self.is_revoked || self.is_suspended;
        deeds[4] &= if is_off { 0 } else { from_second(second) };
        Deeds(deeds)
    }
}

/// Whether one end is no later than another; none is never.
fn ends_by(one: Option<u64>, other: Option<u64>) -> bool {
    one.unwrap_or(u64::MAX) <= other.unwrap_or(u64::MAX)
}

/// What was done, and what the ceiling has held back, by [`Asked::KINDS`].
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    done: [u32; 7],
    above: [u32; 7],
}

impl Tally {
    fn and(mut self, other: &Self) -> Self {
        for kind in 0..7 {
            self.done[kind] += other.done[kind];
            self.above[kind] += other.above[kind];
        }
        self
    }
}

fn world() -> Fixture {
    fixture(clock())
}

fn without_wrong(seed: u64, rounds: u32) -> Tally {
    let (mut choices, mut tally) = (Choices::new(seed), Tally::default());
    let mut fixture = world();
    for number in 0..rounds {
        if number % ROUNDS_PER_HOUSE == 0 {
            fixture = world();
        }
        let mut round = Round::begin(&fixture, number, &mut choices);
        let outcome = round.run(&mut choices, &mut tally);
        assert_eq!(
            outcome,
            Ok(()),
            "seed {seed}, round {number}: {:?}",
            round.last
        );
    }
    tally
}
