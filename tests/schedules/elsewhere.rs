//! Another node ends a key: what the news and the lease promise.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keyward::store::Cursor;
use shuttle::thread;

use crate::explore::{Effort, explore};
use crate::stage::{Commits, Feed, Monotonic, hop};
use crate::world::{BOUND, Ending, Node, Said, Start, World};

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default)]
struct Happened {
    /// When the ending had returned.
    ended: Option<Duration>,
    /// A round that began after that has been applied whole.
    is_told: bool,
    /// A verification said that the key has ended.
    is_seen: bool,
}

impl Happened {
    /// Whether a verification that starts now must not be granted.
    fn is_late(&self, now: Duration) -> bool {
        let is_old = self.ended.is_some_and(|ended| now >= ended + BOUND);
        is_old || self.is_told || self.is_seen
    }
}

/// What goes on in a race.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Race {
    pub(crate) start: Start,
    pub(crate) ending: Ending,
    pub(crate) feed: Feed,
    /// How many threads verify, and how often each.
    pub(crate) verifying: (usize, usize),
    pub(crate) rounds: usize,
    /// Whether the clock goes on by a bound once the key has ended.
    pub(crate) lapses: bool,
}

/// A race that is being run.
#[derive(Clone)]
struct Running {
    race: Race,
    node: Node,
    monotonic: Monotonic,
    happened: Arc<Mutex<Happened>>,
}

impl Running {
    fn happened(&self) -> MutexGuard<'_, Happened> {
        self.happened.lock().unwrap()
    }

    fn verify(&self) {
        let before = *self.happened();
        let is_late = before.is_late(self.monotonic.now());
        let said = self.node.verify();
        assert!(
            !is_late || said != Said::Granted,
            "granted though {before:?}"
        );
        self.happened().is_seen |= said == Said::Ended;
    }

    fn end(&self, other: &Node) {
        other.end(self.race.ending);
        self.happened().ended = Some(self.monotonic.now());
        if self.race.lapses {
            hop();
            self.monotonic.advance(BOUND);
        }
    }

    fn follow(&self, world: &World, cursor: &mut Option<Cursor>) {
        let mut is_lost = false;
        for _ in 0..self.race.rounds {
            let has_ended = self.happened().ended.is_some();
            self.node.follow(cursor);
            // Who begins anew may have missed it: what was read before is good until its own bound.
            is_lost |= self.race.feed == Feed::Forgetful && world.has_ended();
            self.happened().is_told |= has_ended && !is_lost;
        }
    }
}

impl Race {
    pub(crate) fn run(self) {
        let world = World::with(Commits::Here, self.feed);
        let (node, other) = (world.node(1), world.node(2));
        let mut cursor = None;
        if self.rounds > 0 {
            node.follow(&mut cursor); // it begins a history
        }
        node.begin(self.start);
        if self.feed == Feed::Paged {
            other.distract();
        }
        let running = Running {
            race: self,
            node,
            monotonic: world.monotonic.clone(),
            happened: Arc::default(),
        };
        let go = |run: Box<dyn FnOnce(Running) + Send>| {
            let running = running.clone();
            thread::spawn(move || run(running))
        };
        let ending = go(Box::new(move |running| running.end(&other)));
        let mut threads = Vec::new();
        let (verifiers, times) = self.verifying;
        for _ in 0..verifiers {
            threads.push(go(Box::new(move |running| {
                (0..times).for_each(|_| running.verify());
            })));
        }
        if self.rounds > 0 {
            let world = world.clone();
            threads.push(go(Box::new(move |running| {
                running.follow(&world, &mut cursor);
            })));
        }
        ending.join().unwrap();
        running.verify();
        for thread in threads {
            thread.join().unwrap();
            running.verify();
        }
        world.monotonic.advance(BOUND);
        assert_eq!(running.node.verify(), Said::Ended, "nothing stale stays");
    }
}

pub(crate) const RACE: Race = Race {
    start: Start::Warm,
    ending: Ending::Revoke,
    feed: Feed::Whole,
    verifying: (1, 1),
    rounds: 1,
    lapses: true,
};

const NEAR: Effort = Effort {
    preemptions: 1,
    drawn: 100,
};

const WIDE: Effort = Effort {
    preemptions: 0,
    drawn: 200,
};

/// The race by itself, and in a crowd.
fn explore_race(race: Race) {
    explore(NEAR, move || race.run());
    let crowd = Race {
        verifying: (2, 2),
        rounds: 2 * race.rounds,
        ..race
    };
    explore(WIDE, move || crowd.run());
}

#[test]
fn remote_endings_are_refused_in_time() {
    for start in [Start::Warm, Start::Lapsed, Start::Cold] {
        for ending in [Ending::Revoke, Ending::CutOff, Ending::Suspend] {
            explore_race(Race {
                start,
                ending,
                ..RACE
            });
        }
        let alone = Race {
            start,
            rounds: 0,
            ..RACE
        };
        explore_race(alone);
        explore_race(Race {
            lapses: false,
            ..alone
        });
    }
}

#[test]
fn paged_and_reset_feeds_lose_nothing() {
    for feed in [Feed::Paged, Feed::Forgetful] {
        for ending in [Ending::Revoke, Ending::CutOff] {
            explore_race(Race {
                ending,
                feed,
                ..RACE
            });
        }
    }
}
