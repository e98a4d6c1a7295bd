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
//! The planted bugs that it catches are those of [`Bug`].

mod agreement;
mod asked;
mod bug;

use std::thread;
use std::time::Duration;

use keyward::key::{KeyId, KeyRecord, TenantId};
use keyward::manager::{Actor, Axis, Ceiling, InvalidKey, Limits, ManageError};
use keyward::store::{KeyStore, ListQuery, Segments};
use keyward::time::OffsetDateTime;

use self::asked::{Asked, How, Library, Until, near};
use self::bug::Bug;
use crate::common::{Choices, House, clock, now};
use crate::t21_powers::{Deeds, Powers, STEP, after, from_second, house, start};

const OPERATIONS: u32 = 1_000_000;
const THREADS: u32 = 2;
const PER_ROUND: u32 = 40;
/// After so many rounds another store is taken: one keeps every key.
const ROUNDS_PER_HOUSE: u32 = 50;

#[test]
fn a_million_operations_on_living_keys_never_exceed_the_ceiling() {
    let rounds = OPERATIONS / PER_ROUND / THREADS;
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

        assert!(done > 10_000, "{name}: {total:?}");
        assert_eq!(refused > 10_000, is_bound, "{name}: {total:?}");
    }
}

#[test]
fn the_oracle_catches_the_planted_bugs_of_a_whole_life() {
    for (bug, caught_as) in Bug::ALL {
        let mut choices = Choices::new(2_120);
        let world = world();
        let scratch = house(world.clock.clone());
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
    /// When it would end if it had not been rotated.
    own_end: Option<u64>,
    revision: u64,
}

impl Held {
    fn of(record: &KeyRecord, start: OffsetDateTime) -> Self {
        let powers = Powers::of(record, start);
        let own_end = record.rotation().map(|rotated| rotated.own_end);
        Self {
            id: record.id(),
            powers,
            is_suspended: record.suspended_at().is_some(),
            is_revoked: record.revocation().is_some(),
            successor: record.rotation().map(|rotated| rotated.successor),
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

fn world() -> House {
    house(clock())
}

fn without_wrong(seed: u64, rounds: u32) -> Tally {
    let (mut choices, mut tally) = (Choices::new(seed), Tally::default());
    let mut house = world();
    for number in 0..rounds {
        if number % ROUNDS_PER_HOUSE == 0 {
            house = world();
        }
        let mut round = Round::begin(&house, number, &mut choices);
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

/// Some operations by a few actors on the keys of one tenant.
struct Round<'a> {
    library: Library<'a>,
    actors: Vec<(Actor, Powers)>,
    keys: Vec<Held>,
    /// What was asked last, of a key with which ceiling, and what came of it.
    last: Option<(Asked, Option<Held>, Powers, String)>,
}

impl<'a> Round<'a> {
    /// With keys that an unlimited actor has made, some of which it has suspended.
    fn begin(house: &'a House, number: u32, choices: &mut Choices) -> Self {
        let start = start(house);
        let tenant = TenantId::new(format!("tenant-{number}")).unwrap();
        let library = Library::new(house, tenant.clone(), start);
        let first = if choices.chance(10) {
            Powers::unlimited()
        } else {
            Powers::draw(choices)
        };
        let mut keys = Vec::new();
        let mut robot = Ceiling::Unlimited;
        for index in 0..5 {
            let made = library.ask(&library.root, &Asked::Issue(near(choices, &first)));
            let mut record = made.unwrap().unwrap();
            if index == 0 {
                robot = Ceiling::Limited(Limits::of_key(&record));
            }
            if choices.chance(3) {
                let suspended = library.ask(&library.root, &Asked::Suspend(record.id()));
                record = suspended.unwrap().unwrap();
            }
            keys.push(Held::of(&record, start));
        }
        let second = Powers {
            starts_after: None,
            ..near(choices, &first)
        };
        let user =
            |powers: &Powers| Actor::user("alice", tenant.clone(), powers.ceiling(start)).unwrap();
        let mut actors = vec![(user(&first), first), (user(&second), second)];
        // One that came with a key, and may grant what that key may do.
        let own = Powers {
            starts_after: None,
            ..keys[0].powers
        };
        actors.push((Actor::integration("robot", tenant, robot).unwrap(), own));
        Self {
            library,
            actors,
            keys,
            last: None,
        }
    }

    fn run(&mut self, choices: &mut Choices, tally: &mut Tally) -> Result<(), Wrong> {
        let before = self.keys.clone();
        for _ in 0..PER_ROUND {
            if choices.chance(12) && self.library.second() < 10 * STEP {
                let by = Duration::from_secs(STEP * (1 + choices.next() % 2));
                self.library.house.clock.advance(by);
            }
            let (actor, ceiling) = self.actors[choices.below(self.actors.len())].clone();
            let asked = Asked::draw(choices, &ceiling, &self.keys, self.library.second());
            self.step(&actor, &ceiling, &asked, tally)?;
        }
        self.nothing_else_happened(&before, choices)
    }

    fn step(
        &mut self,
        actor: &Actor,
        ceiling: &Powers,
        asked: &Asked,
        tally: &mut Tally,
    ) -> Result<(), Wrong> {
        let was = asked.key().and_then(|id| self.held(id)).copied();
        let answer = self.library.ask_with_bug(actor, ceiling, &self.keys, asked);
        self.last = Some((
            *asked,
            was,
            *ceiling,
            format!("{:?}", answer.as_ref().err()),
        ));
        if matches!(asked, Asked::Rotate(..)) {
            self.look_for_retired_ancestors();
        }
        match answer {
            Ok(record) => {
                tally.done[asked.kind()] += 1;
                self.done(ceiling, asked, was.as_ref(), record.as_ref())
            }
            Err(error) => {
                let stored = |id| now(self.library.house.store.get(id)).unwrap().unwrap();
                let revision = was.map(|was| stored(was.id).revision);
                if revision != was.map(|was| was.revision) {
                    return Err(Wrong::RefusedButDone);
                }
                self.refused(ceiling, asked, was.as_ref(), &error, tally)
            }
        }
    }

    fn held(&self, id: KeyId) -> Option<&Held> {
        self.keys.iter().find(|held| held.id == id)
    }

    /// The last of the line of successors, unless that was revoked: then the line may be taken up again.
    fn youngest_of(&self, held: &Held) -> Option<KeyId> {
        let mut youngest = self.held(held.successor?)?;
        while let Some(next) = youngest.successor {
            youngest = self.held(next)?;
        }
        (!youngest.is_revoked).then_some(youngest.id)
    }

    fn read(&self, id: KeyId) -> Held {
        let stored = now(self.library.house.store.get(id)).unwrap().unwrap();
        Held::of(&KeyRecord::decode(stored).unwrap(), self.library.start)
    }

    /// Keys whose overlap with their successors is over are revoked on the way, which takes nothing from them.
    fn look_for_retired_ancestors(&mut self) {
        let second = self.library.second();
        for index in 0..self.keys.len() {
            let was = self.keys[index];
            if was.successor.is_some() && was.has_ended(second) && !was.is_revoked {
                let retired = Held {
                    is_revoked: true,
                    revision: was.revision + 1,
                    ..was
                };
                if self.read(was.id) == retired {
                    self.keys[index] = retired;
                }
            }
        }
    }

    /// Judges what was done.
    fn done(
        &mut self,
        ceiling: &Powers,
        asked: &Asked,
        was: Option<&Held>,
        record: Option<&KeyRecord>,
    ) -> Result<(), Wrong> {
        let second = self.library.second();
        let record = record.map(|record| Held::of(record, self.library.start));
        if let Some(was) = was
            && !asked.is_free()
        {
            if was.powers.exceeds(ceiling).is_some() {
                return Err(Wrong::WasAbove);
            }
            let is_rotation = matches!(asked, Asked::Rotate(..));
            if was.has_ended(second) || (was.is_suspended && is_rotation) {
                return Err(Wrong::Revived);
            }
            if is_rotation && self.youngest_of(was).is_some() {
                return Err(Wrong::RotatedTwice);
            }
        }
        let left = was.map(|was| self.read(was.id));
        // What the key is that was given power: the one asked for, or the new one.
        let is = record.map(|record| match left {
            Some(left) if left.id == record.id => left,
            _ => self.read(record.id),
        });
        if !asked.is_free() && is.is_some_and(|is| is.powers.exceeds(ceiling).is_some()) {
            return Err(Wrong::IsAbove);
        }
        let new = is.filter(|is| was.is_none_or(|was| was.id != is.id));
        if new.is_some_and(|new| self.held(new.id).is_some()) {
            return Err(Wrong::Overwritten);
        }
        if let (Some(was), Some(left), Some(new)) = (was, left, new) {
            check_lives(was, &left, &new, asked, second)?;
        }
        let expected = asked.expected(was, new.map(|new| new.id), second);
        if (left, new) != expected || record != is {
            return Err(Wrong::NotAsAsked);
        }
        if let Some(left) = left {
            let known = self.keys.iter_mut().find(|held| held.id == left.id);
            *known.unwrap() = left;
        }
        self.keys.extend(new);
        Ok(())
    }

    /// Judges a refusal.
    fn refused(
        &self,
        ceiling: &Powers,
        asked: &Asked,
        was: Option<&Held>,
        error: &ManageError,
        tally: &mut Tally,
    ) -> Result<(), Wrong> {
        let second = self.library.second();
        let intended = asked.intended(was, second);
        let is_so = match error {
            ManageError::AboveCeiling(axis) => {
                let judged = [was.map(|was| was.powers), intended].into_iter().flatten();
                let allowed = ceiling.allowed();
                let exceeds = judged
                    .filter(|_| !asked.is_free())
                    .any(|powers| powers.deeds().beyond(&allowed).contains(axis));
                // The end of a key is compared even if it never lives, since it was rotated before its start.
                let is_dead = was.is_some_and(|was| was.powers.never_lives());
                tally.above[asked.kind()] += 1;
                !asked.is_free() && (exceeds || (is_dead && *axis == Axis::Expiry))
            }
            ManageError::Suspended => {
                matches!(asked, Asked::Rotate(..)) && was.is_some_and(|was| was.is_suspended)
            }
            ManageError::AlreadySuspended { .. } => was.is_some_and(|was| was.is_suspended),
            ManageError::NotSuspended => was.is_some_and(|was| !was.is_suspended),
            ManageError::AlreadyRevoked { .. } => was.is_some_and(|was| was.is_revoked),
            ManageError::Ended(_) => was.is_some_and(|was| was.has_ended(second)),
            ManageError::AlreadyRotated { successor } => {
                was.and_then(|was| self.youngest_of(was)) == Some(*successor)
            }
            ManageError::AlreadyImported { id } => self.held(*id).is_some(),
            ManageError::Invalid(InvalidKey::Expired) => {
                let end = intended.and_then(|intended| intended.expires_after);
                let overlap = matches!(asked, Asked::Rotate(_, How::Until(at), _) if *at <= second);
                overlap || ends_by(end, Some(second))
            }
            ManageError::Invalid(InvalidKey::NeverValid) => intended
                .is_some_and(|intended| ends_by(intended.expires_after, intended.starts_after)),
            _ => false,
        };
        if is_so {
            Ok(())
        } else {
            Err(Wrong::RefusedForNothing)
        }
    }

    /// Reads all that the tenant has.
    fn nothing_else_happened(&self, before: &[Held], choices: &mut Choices) -> Result<(), Wrong> {
        let (library, second) = (&self.library, self.library.second());
        let query = ListQuery::of(&library.tenant).listing(Segments::LiveThenRevoked);
        let page = now(library.house.store.list(&query.limit(1_000))).unwrap();
        let keys = page
            .items
            .into_iter()
            .map(|stored| Held::of(&KeyRecord::decode(stored).unwrap(), library.start));
        let keys: Vec<_> = keys.collect();
        let could: Vec<_> = before.iter().map(|held| held.deeds(0)).collect();
        let may: Vec<_> = self
            .actors
            .iter()
            .map(|(_, ceiling)| ceiling.allowed())
            .collect();
        for held in &keys {
            let deeds = held.deeds(second);
            for _ in 0..3 {
                let Some(deed) = deeds.one(choices) else {
                    break;
                };
                if !could.iter().chain(&may).any(|deeds| deeds.hold(&deed)) {
                    return Err(Wrong::Grown);
                }
            }
        }
        let is_known = |held: &Held| self.held(held.id) == Some(held);
        if page.has_more || keys.len() != self.keys.len() || !keys.iter().all(is_known) {
            return Err(Wrong::OtherKeys);
        }
        Ok(())
    }
}

/// The lives of a key that was rotated and its successor.
fn check_lives(
    was: &Held,
    left: &Held,
    new: &Held,
    asked: &Asked,
    second: u64,
) -> Result<(), Wrong> {
    let Asked::Rotate(_, _, until) = asked else {
        return Ok(());
    };
    let longest = match until {
        Until::AsBefore => was.own_end,
        Until::Never => None,
        Until::At(at) => Some(*at),
        Until::In(long) => Some(second + long),
    };
    if !ends_by(new.powers.expires_after, longest) {
        Err(Wrong::LivesLonger)
    } else if new.powers.starts_after < was.powers.starts_after {
        Err(Wrong::StartsEarlier)
    } else if !ends_by(left.powers.expires_after, was.powers.expires_after) {
        Err(Wrong::OldLivesLonger)
    } else {
        Ok(())
    }
}
