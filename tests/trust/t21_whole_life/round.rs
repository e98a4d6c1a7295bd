//! Some operations by a few actors on the keys of one tenant, and what is held against the oracle after each.

use std::time::Duration;

use keyward::key::{KeyId, KeyRecord, TenantId};
use keyward::manager::{Actor, Axis, Ceiling, InvalidKey, Limits, ManageError};
use keyward::store::{KeyStore, ListQuery, Segments};

use super::asked::{Asked, How, Library, Until, near};
use super::{Held, Tally, Wrong, ends_by};
use crate::common::{Choices, Fixture, now};
use crate::t21_powers::{Powers, STEP, start};

pub(super) const OPERATIONS: u32 = 40;

pub(super) struct Round<'a> {
    pub(super) library: Library<'a>,
    actors: Vec<(Actor, Powers)>,
    keys: Vec<Held>,
    /// What was asked last, of a key with which ceiling, and what came of it.
    pub(super) last: Option<(Asked, Option<Held>, Powers, String)>,
}

impl<'a> Round<'a> {
    /// With keys that an unlimited actor has made, some of which it has suspended.
    pub(super) fn begin(fixture: &'a Fixture, number: u32, choices: &mut Choices) -> Self {
        let start = start(fixture);
        let tenant = TenantId::new(format!("tenant-{number}")).unwrap();
        let library = Library::new(fixture, tenant.clone(), start);
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

    pub(super) fn run(&mut self, choices: &mut Choices, tally: &mut Tally) -> Result<(), Wrong> {
        let before = self.keys.clone();
        for _ in 0..OPERATIONS {
            if choices.chance(12) && self.library.second() < 10 * STEP {
                let by = Duration::from_secs(STEP * (1 + choices.next() % 2));
                self.library.fixture.clock.advance(by);
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
                let stored = |id| now(self.library.fixture.store.get(id)).unwrap().unwrap();
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
        let second = self.library.second();
        let (mut youngest, mut next) = (None, held.successor);
        while let Some(id) = next {
            let key = self.held(id)?;
            if !key.is_revoked && !key.has_ended(second) {
                youngest = Some(id);
            }
            next = key.successor;
        }
        youngest
    }

    fn read(&self, id: KeyId) -> Held {
        let stored = now(self.library.fixture.store.get(id)).unwrap().unwrap();
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
            if let (Asked::Update(..), Some(end)) = (asked, was.overlap_end)
                && !ends_by(self.read(was.id).powers.expires_after, Some(end))
            {
                return Err(Wrong::OverlapLengthened);
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
            ManageError::AlreadyImported { id } | ManageError::IdTaken { id } => {
                self.held(*id).is_some()
            }
            ManageError::Invalid(InvalidKey::Expired) => {
                let end = intended.and_then(|intended| intended.expires_after);
                ends_by(end, Some(second))
            }
            ManageError::Invalid(InvalidKey::Overlap) => {
                matches!(asked, Asked::Rotate(_, How::Until(at), _) if *at <= second)
            }
            ManageError::Invalid(InvalidKey::BeyondOverlap { .. }) => {
                let overlap_end = was.and_then(|was| was.overlap_end);
                let end = intended.and_then(|intended| intended.expires_after);
                matches!(asked, Asked::Update(_, [.., true], _))
                    && overlap_end.is_some()
                    && !ends_by(end, overlap_end)
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
        let page = now(library.fixture.store.list(&query.limit(1_000))).unwrap();
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
        if page.next.is_some() || keys.len() != self.keys.len() || !keys.iter().all(is_known) {
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
