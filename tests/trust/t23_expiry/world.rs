//! A manager and a verifier on one wrong clock, and what promise 23 says of every answer they give.

use std::time::Duration;

use keyward::clock::Clock;
use keyward::key::{ApiKey, KeyId, KeyStatus};
use keyward::manager::{InvalidKey, KeyQuery, KeyUpdate, ManageError, NewKey, Overlap};
use keyward::random::RandomSource;
use keyward::store::KeyStore;
use keyward::testkit::{ManualClock, SeededRandom};
use keyward::time::{self, OffsetDateTime};
use keyward::verifier::{Attempt, Grant, KeyCache, Requirement};
use keyward::{Keyward, key::Access};

use crate::common::{actor, builder, clock, tenant};

/// The caches that a node may have: as recommended, none, and one in which each key pushes out the one before.
pub(crate) fn caches() -> [KeyCache; 3] {
    [
        KeyCache::new(),
        KeyCache::off(),
        KeyCache::new().max_bytes(1),
    ]
}

/// A bug in the oracle: it then expects what a Keyward with that bug would answer, and must be contradicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Expired at `now > end`.
    Late,
    /// What was seen expired is forgotten.
    Forgetful,
    /// The coarse reading decides.
    Coarse,
}

struct Watched {
    key: ApiKey,
    id: KeyId,
    end: OffsetDateTime,
    ends_by_rotation: bool,
    was_seen_ended: bool,
    grant: Option<Grant>,
}

/// What must be answered about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Alive,
    Ended,
    /// Its end has been passed by the clock, but nobody looked at the key then.
    Either,
}

struct World {
    keyward: Keyward,
    clock: ManualClock,
    random: SeededRandom,
    keys: Vec<Watched>,
    /// The latest instant that the clock has shown since it was last declared right.
    latest: OffsetDateTime,
    lag: time::Duration,
    bug: Bug,
}

/// Manages and verifies keys in random steps, and compares each answer with the promise: on as many stores for each
/// cache.
pub(crate) async fn holds<S: KeyStore>(store: impl Fn() -> S, seeds: u64) {
    for cache in caches() {
        for seed in 0..seeds {
            agrees(store(), cache, seed, Bug::None).await.unwrap();
        }
    }
}

/// That an oracle with a bug is contradicted.
pub(crate) async fn catches_planted_bugs<S: KeyStore>(store: impl Fn() -> S) {
    for bug in [Bug::Late, Bug::Forgetful, Bug::Coarse] {
        let mut seed = 0;
        while agrees(store(), KeyCache::new(), seed, bug).await.is_ok() {
            seed += 1;
            assert!(seed < 100, "{bug:?}");
        }
    }
}

async fn agrees(store: impl KeyStore, cache: KeyCache, seed: u64, bug: Bug) -> Result<(), String> {
    let mut world = World::new(store, cache, seed, bug).await;
    for step in 0..100 {
        let told = world.step().await;
        told.map_err(|fault| format!("{cache:?}, seed {seed}, step {step}: {fault}"))?;
    }
    Ok(())
}

impl World {
    async fn new(store: impl KeyStore, cache: KeyCache, seed: u64, bug: Bug) -> Self {
        let clock = clock();
        let start = clock.now().unwrap();
        let keyward = builder(store, clock.clone()).cache(cache).open().await;
        let keyward = keyward.unwrap();
        let mut world = Self {
            keyward,
            clock,
            random: SeededRandom::new(seed),
            keys: Vec::new(),
            latest: start,
            lag: time::Duration::ZERO,
            bug,
        };
        for number in 0..6 {
            let end = start + world.micros(1, 1_000_000);
            let is_rotated = number >= 4;
            // One that is rotated would live longer by itself.
            let own = if is_rotated {
                end + Duration::from_secs(1)
            } else {
                end
            };
            let key = NewKey::new(tenant(), "a key", Access::Full).expires_at(own);
            let manager = world.keyward.manager();
            let (key, record) = manager.issue(&actor(), key).await.unwrap().into_parts();
            if is_rotated {
                let overlap = Overlap::Until(end);
                let rotated = manager
                    .rotate(&actor(), &tenant(), record.id(), overlap)
                    .await;
                rotated.unwrap();
            }
            world.keys.push(Watched {
                key,
                id: record.id(),
                end,
                ends_by_rotation: is_rotated,
                was_seen_ended: false,
                grant: None,
            });
        }
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % bound
    }

    fn micros(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.below(most - least + 1))
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now().unwrap()
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.below(12) {
            0..=4 => self.move_clock(),
            5 => {
                self.keyward.verifier().forget_all();
                Ok(())
            }
            6 => self.declare_right(),
            7 => self.look_at_list().await,
            _ => {
                let index = usize::try_from(self.below(6)).unwrap();
                self.look_at_key(index).await
            }
        }
    }

    fn move_clock(&mut self) -> Result<(), String> {
        let end = usize::try_from(self.below(6)).unwrap();
        let end = self.keys[end].end;
        let to = match self.below(8) {
            0 => self.now() + self.micros(0, 400_000),
            1 | 2 => self.now() - self.micros(0, 400_000),
            3 => end - self.micros(1, 2),
            4 => end + self.micros(0, 2),
            // It leaps ahead, and most often comes back with the next move.
            5 => end + Duration::from_secs(86_400),
            _ => end - self.micros(1, 1_000_000),
        };
        // From further back a key cannot tell whether it has expired.
        let first = clock().now().unwrap();
        self.clock.set(to.max(first - Duration::from_secs(4 * 60)));
        let most = 100_000;
        let lag = i64::try_from(self.below(u64::try_from(2 * most + 1).unwrap())).unwrap() - most;
        self.lag = match self.below(3) {
            0 => time::Duration::ZERO,
            1 => time::Duration::microseconds(lag.signum() * most),
            _ => time::Duration::microseconds(lag),
        };
        self.clock.set_coarse_lag(self.lag);
        self.latest = self.latest.max(self.now());
        Ok(())
    }

    /// The operator says that the clock is right again.
    fn declare_right(&mut self) -> Result<(), String> {
        if self.below(4) != 0 {
            return Ok(());
        }
        let now = self.now();
        self.keyward.forget_future_ends().unwrap();
        self.latest = now;
        for watched in &mut self.keys {
            watched.was_seen_ended &= watched.end <= now;
        }
        Ok(())
    }

    fn expected(&mut self, index: usize) -> Expected {
        let now = self.now();
        let coarse = now - self.lag;
        let watched = &mut self.keys[index];
        let is_over = match self.bug {
            Bug::Late => now > watched.end,
            Bug::Coarse => coarse >= watched.end,
            Bug::None | Bug::Forgetful => now >= watched.end,
        };
        watched.was_seen_ended |= is_over && self.bug != Bug::Forgetful;
        if is_over || watched.was_seen_ended {
            Expected::Ended
        } else if self.bug != Bug::None || self.latest < watched.end {
            Expected::Alive
        } else {
            Expected::Either
        }
    }

    /// Compares an answer with the expected one, and remembers what it showed.
    fn check(
        &mut self,
        index: usize,
        expected: Expected,
        is_alive: bool,
        by: &str,
    ) -> Result<(), String> {
        let is_as_expected = match expected {
            Expected::Alive => is_alive,
            Expected::Ended => !is_alive,
            Expected::Either => true,
        };
        let now = self.now();
        let watched = &mut self.keys[index];
        watched.was_seen_ended |= !is_alive && self.bug != Bug::Forgetful;
        if is_as_expected {
            return Ok(());
        }
        let (end, said) = (watched.end, if is_alive { "alive" } else { "ended" });
        Err(format!(
            "{by} says {said} at {now} of a key that ends at {end}, not {expected:?}"
        ))
    }

    fn is_alive(&self, index: usize, status: KeyStatus) -> Result<bool, String> {
        let ended = match self.keys[index].ends_by_rotation {
            // Brought forward, it expires within its overlap.
            true if status == KeyStatus::Expired => KeyStatus::Expired,
            true => KeyStatus::Revoked,
            false => KeyStatus::Expired,
        };
        match status {
            KeyStatus::Active => Ok(true),
            status if status == ended => Ok(false),
            status => Err(format!("the status is {status}")),
        }
    }

    /// Looks at one key in some of the ways there are. All that follow the first must agree with it.
    async fn look_at_key(&mut self, index: usize) -> Result<(), String> {
        let mut expected = self.expected(index);
        let first = self.below(7);
        for way in first..first + 1 + self.below(3) {
            let (by, is_alive) = match way % 7 {
                6 => self.move_end(index).await?,
                way => self.look(index, way).await?,
            };
            self.check(index, expected, is_alive, by)?;
            expected = if is_alive {
                Expected::Alive
            } else {
                Expected::Ended
            };
        }
        Ok(())
    }

    /// Moves a key's end, forward or back.
    async fn move_end(&mut self, index: usize) -> Result<(&'static str, bool), String> {
        let latest = self.now().max(self.keys[index].end);
        let end = match self.below(2) {
            0 => latest + self.micros(0, 300_000),
            _ => self.now() + self.micros(1, 300_000),
        };
        let watched = &mut self.keys[index];
        let update = KeyUpdate::new().expires_at(end);
        let manager = self.keyward.manager();
        let moved = manager
            .update(&actor(), &tenant(), watched.id, update)
            .await;
        let is_alive = match moved {
            Ok(_) => {
                watched.end = end;
                true
            }
            Err(ManageError::Ended(_)) => false,
            // Ends until then were seen to pass, or the key's overlap is over by then: the key stays as it was.
            Err(ManageError::Invalid(InvalidKey::Expired | InvalidKey::BeyondOverlap { .. })) => {
                true
            }
            Err(error) => return Err(error.to_string()),
        };
        Ok(("update", is_alive))
    }

    async fn look(&mut self, index: usize, way: u64) -> Result<(&'static str, bool), String> {
        let watched = &self.keys[index];
        let (manager, verifier) = (self.keyward.manager(), self.keyward.verifier());
        let any = Requirement::any_key();
        let attempt = Attempt::new(watched.key.presented(), &any);
        Ok(match way {
            0 => {
                let record = manager.get(&actor(), &tenant(), watched.id).await.unwrap();
                ("get", self.is_alive(index, record.status(self.now()))?)
            }
            1 => {
                let found = manager
                    .find_owner(&actor(), watched.key.presented())
                    .await
                    .unwrap();
                ("find_owner", self.is_alive(index, found.status)?)
            }
            2 => {
                let denial = verifier
                    .explain(&attempt)
                    .await
                    .denial()
                    .map(ToString::to_string);
                ("explain", denial.is_none())
            }
            3 => {
                let suspended = manager.suspend(&actor(), &tenant(), watched.id).await;
                let is_alive = match suspended {
                    Ok(_) => {
                        let resumed = manager.resume(&actor(), &tenant(), watched.id).await;
                        resumed.map_err(|error| format!("resumed: {error}"))?;
                        true
                    }
                    Err(ManageError::Ended(status)) => self.is_alive(index, status)?,
                    Err(error) => return Err(error.to_string()),
                };
                ("suspend", is_alive)
            }
            4 if let Some(grant) = &watched.grant => {
                let is_current = grant.is_current();
                let is_alive = verifier.reverify(grant, &attempt).await.is_ok();
                if is_current && !is_alive {
                    return Err("a grant is current and then ended".to_owned());
                }
                ("reverify", is_alive)
            }
            _ => {
                let verdict = verifier.verify(&attempt).await;
                let is_alive = verdict.is_ok();
                if let Ok(admitted) = verdict {
                    let (grant, _) = admitted.into_parts();
                    self.keys[index].grant = Some(grant);
                }
                ("verify", is_alive)
            }
        })
    }

    async fn look_at_list(&mut self) -> Result<(), String> {
        let expected: Vec<_> = (0..self.keys.len())
            .map(|index| self.expected(index))
            .collect();
        let query = KeyQuery::of(&tenant()).live_first();
        let list = self.keyward.manager().list(&actor(), &query).await.unwrap();
        for (index, expected) in expected.into_iter().enumerate() {
            let id = self.keys[index].id;
            let record = list.keys.iter().find(|record| record.id() == id).unwrap();
            let is_alive = self.is_alive(index, record.status(self.now()))?;
            self.check(index, expected, is_alive, "the list")?;
        }
        Ok(())
    }
}
