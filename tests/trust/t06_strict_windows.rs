//! Promise 6: never more than the limit in any interval of the window's length; nobody waits more than a sixtieth of
//! the window beyond the exact answer. Shown against a log of exact timestamps, over random quotas, costs and steps of
//! time, while the wall clock steps by up to an hour either way.
//!
//! The same check also shows that a refused request consumes nothing, and that clients can rely on what they are told.
//! Planted bugs that it catches: fixed windows; the generic cell rate algorithm with a burst; the estimate from two
//! windows; a rollback that is forgotten. The log itself, as a limiter, passes. A check apart from the count takes
//! threads: `t05_exact_limits` catches it.

mod log;

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::Keyward;
use keyward::clock::Clock as _;
use keyward::key::{ApiKey, Quota, QuotaSubject};
use keyward::limiter::{LimitState, Limiter, LocalLimiter, RateLimiting, TenantPlan};
use keyward::testkit::{ManualClock, ManualMonotonicClock};
use keyward::verifier::{Attempt, DenialReason, Grant, Requirement};
use test_support::size;

use self::log::Log;
use crate::common::{Choices, actor, builder, clock, new_key, now};
use crate::exact_limiter::{Bug, ExactLimiter};
use crate::store::Store;

/// Events of the whole test.
fn events() -> u64 {
    size("KEYWARD_EVENTS", 20_000).into()
}

/// Events with the same quotas.
const EPISODE: u64 = 400;
const SECOND: u64 = 1_000_000_000;
const WINDOWS: [u64; 4] = [1, 60, 3_600, 366 * 86_400];
const LIMITS: [u32; 8] = [1, 2, 3, 10, 60, 1_000, 1_000_000, u32::MAX];
/// An episode ends here: the clock of a process does not come so far.
const LAST: u64 = 150 * 365 * 86_400 * SECOND;

/// What a limiter does wrong.
#[derive(Debug)]
enum Violation {
    /// More than the limit was admitted in an interval of the window's length.
    TooMuch,
    /// A request was refused when an exact log would have admitted it a sixtieth of the window before.
    TooLate,
    /// A refused request was counted.
    NotAllOrNothing,
    /// A client that waited for `retry_after` was refused.
    RetryAfter,
    /// Not as many requests as remain were admitted, or more.
    Remaining,
    /// A client that waited for `reset_after` was refused.
    ResetAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Key,
    Plan,
    Route,
}

/// Keys that share some of their quotas, the quotas' exact logs, and the clocks.
struct Episode {
    keyward: Keyward,
    wall: ManualClock,
    elapsed: ManualMonotonicClock,
    /// The elapsed time, in nanoseconds.
    at: u64,
    need: Requirement,
    keys: Vec<(ApiKey, Grant)>,
    /// In the order in which the limiter states them.
    quotas: Vec<(Source, Quota)>,
    /// For each key, which log counts each quota.
    counted_in: Vec<Vec<usize>>,
    logs: Vec<Log>,
    choices: Choices,
    /// How often a request was admitted, refused for a while, and refused for good.
    seen: [u64; 3],
}

/// How a request was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Admitted,
    Wait(Duration),
    Never,
}

impl Episode {
    fn new(limiter: impl Limiter, seed: u64) -> Self {
        let mut choices = Choices::new(seed);
        let sources = [Source::Key, Source::Plan, Source::Route];
        let subjects = [
            QuotaSubject::Key,
            QuotaSubject::Key,
            QuotaSubject::Lineage,
            QuotaSubject::Owner,
            QuotaSubject::Tenant,
        ];
        // Limits that are near to each other, so that now one is reached first and now another.
        let (least, spread) = (choices.below(LIMITS.len()), 1 + choices.below(2));
        let mut quotas = Vec::new();
        for name in 0..1 + choices.below(8) {
            let limit = LIMITS[(least + choices.below(spread)).min(LIMITS.len() - 1)];
            let window = Duration::from_secs(WINDOWS[choices.below(WINDOWS.len())]);
            let limit = NonZeroU32::new(limit).unwrap();
            let quota = Quota::new(&format!("q{name}"), limit, window).unwrap();
            let quota = quota.per(subjects[choices.below(subjects.len())]);
            quotas.push((sources[choices.below(sources.len())], quota));
        }
        let (mut key, mut plan) = (new_key(), TenantPlan::new());
        let mut need = Requirement::any_key();
        for (source, quota) in &quotas {
            match source {
                Source::Key => key = key.quota(quota.clone()),
                Source::Plan => plan = plan.quota(quota.clone()),
                Source::Route => need = need.quota(quota.clone()),
            }
        }
        quotas.sort_by_key(|(source, _)| sources.iter().position(|one| one == source));
        let (wall, elapsed) = (clock(), ManualMonotonicClock::new());
        let limits = RateLimiting::new().limiter(limiter);
        let keyward = builder(Store::default(), wall.clone())
            .monotonic_clock(elapsed.clone())
            .rate_limiting(limits.plan_for_all(plan));
        let keyward = now(keyward.open()).unwrap();
        let at = choices.next() % (1_000 * 86_400 * SECOND);
        elapsed.set(Duration::from_nanos(at));
        let (mut keys, mut counted_in, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let issued = now(keyward.manager().issue(&actor(), key.clone())).unwrap();
            let key = issued.into_parts().0;
            let attempt = Attempt::new(key.presented(), &need).count_later();
            let admitted = now(keyward.verifier().verify(&attempt)).unwrap();
            keys.push((key, admitted.into_parts().0));
            let first: Vec<usize> = counted_in.first().cloned().unwrap_or_default();
            let of_key = quotas.iter().enumerate().map(|(index, (_, quota))| {
                let is_shared =
                    matches!(quota.subject(), QuotaSubject::Owner | QuotaSubject::Tenant);
                first
                    .get(index)
                    .copied()
                    .filter(|_| is_shared)
                    .unwrap_or_else(|| {
                        logs.push(Log::of(quota));
                        logs.len() - 1
                    })
            });
            counted_in.push(of_key.collect());
        }
        Self {
            keyward,
            wall,
            elapsed,
            at,
            need,
            keys,
            quotas,
            counted_in,
            logs,
            choices,
            seen: [0; 3],
        }
    }

    fn wait(&mut self, wait: Duration) {
        self.at += u64::try_from(wait.as_nanos()).unwrap();
        self.elapsed.set(Duration::from_nanos(self.at));
        for log in &mut self.logs {
            log.advance(self.at);
        }
    }

    /// Lets some time pass: none, a few nanoseconds, or some part of a window.
    fn pass(&mut self) {
        let quota = self.choices.below(self.quotas.len());
        let window = self.quotas[quota].1.window();
        let window = u64::try_from(window.as_nanos()).unwrap();
        let most = match self.choices.below(16) {
            0..=6 => return,
            7 => 3,
            8..=10 => window / 600,
            11..=13 => window / 30,
            14 => window / 2,
            _ => window * 2,
        };
        let wait = self.choices.next() % (most + 1);
        self.wait(Duration::from_nanos(wait));
    }

    /// The wall clock is set, by up to an hour either way.
    fn step_wall(&mut self) {
        let step = i64::try_from(self.choices.below(7_201)).unwrap() - 3_600;
        let shown = self.wall.now().unwrap();
        self.wall
            .set(shown + keyward::time::Duration::seconds(step));
    }

    fn states(&self, key: usize) -> Vec<LimitState> {
        let states = self
            .keyward
            .verifier()
            .limits_of(&self.keys[key].1, &self.need);
        let states = now(states).unwrap();
        let named = states.iter().map(|state| state.limit.name());
        assert!(named.eq(self.quotas.iter().map(|(_, quota)| quota.name())));
        states
    }

    /// Sends a request, and holds the answer against the logs.
    fn send(&mut self, key: usize, cost: u32) -> Result<Answer, Violation> {
        let attempt = Attempt::new(self.keys[key].0.presented(), &self.need);
        let attempt = attempt.cost(NonZeroU32::new(cost).unwrap());
        let verdict = now(self.keyward.verifier().verify(&attempt));
        let logs = &self.counted_in[key];
        let is_above = |quota: &Quota| cost > quota.limit().get();
        let never = self.quotas.iter().find(|(_, quota)| is_above(quota));
        match verdict {
            Ok(_) => {
                for log in logs {
                    if !self.logs[*log].add(self.at, cost) {
                        return Err(Violation::TooMuch);
                    }
                }
                assert!(never.is_none());
                self.seen[0] += 1;
                Ok(Answer::Admitted)
            }
            Err(denial) => match denial.reason() {
                DenialReason::QuotaExceeded { quota, retry_after } => {
                    assert!(never.is_none());
                    let mut late = logs.iter().zip(&self.quotas);
                    let is_right = late.any(|(log, (_, of))| {
                        of.name() == &**quota && self.logs[*log].may_refuse(cost)
                    });
                    if !is_right {
                        return Err(Violation::TooLate);
                    }
                    self.seen[1] += 1;
                    Ok(Answer::Wait(*retry_after))
                }
                DenialReason::CostAboveLimit { quota } => {
                    assert_eq!(never.map(|(_, quota)| quota.name()), Some(&**quota));
                    self.seen[2] += 1;
                    Ok(Answer::Never)
                }
                other => panic!("{other}"),
            },
        }
    }

    /// Draws a cost: mostly one, else up to a tenth more than some quota's limit.
    fn cost(&mut self) -> u32 {
        let quota = self.choices.below(self.quotas.len());
        let limit = u64::from(self.quotas[quota].1.limit().get());
        let most = match self.choices.below(4) {
            0 => limit + limit / 10 + 1,
            1 => limit / 4 + 1,
            _ => 1,
        };
        u32::try_from(1 + self.choices.next() % most).unwrap_or(u32::MAX)
    }

    /// One request, what the client is told, and that it is true. Returns the number of requests.
    fn event(&mut self) -> Result<u64, Violation> {
        self.pass();
        if self.choices.chance(3) {
            self.step_wall();
        }
        let key = self.choices.below(self.keys.len());
        let cost = self.cost();
        let looks = self.choices.chance(4);
        let before = if looks { self.states(key) } else { Vec::new() };
        let answer = self.send(key, cost)?;
        if looks && answer != Answer::Admitted && self.states(key) != before {
            return Err(Violation::NotAllOrNothing);
        }
        match answer {
            Answer::Wait(wait) if self.choices.chance(2) => {
                // A client that waits as told is admitted.
                self.wait(wait);
                if self.send(key, cost)? != Answer::Admitted {
                    return Err(Violation::RetryAfter);
                }
                Ok(2)
            }
            Answer::Admitted if self.choices.chance(8) => self.obey(key),
            _ => Ok(1),
        }
    }

    /// A client that does as it is told by the state of its limits.
    fn obey(&mut self, key: usize) -> Result<u64, Violation> {
        let states = self.states(key);
        let left = states.iter().map(|state| state.remaining).min().unwrap();
        let sent = left.min(30);
        for _ in 0..sent {
            if self.send(key, 1)? != Answer::Admitted {
                return Err(Violation::Remaining);
            }
        }
        if sent < left {
            return Ok(1 + u64::from(sent));
        }
        if self.send(key, 1)? == Answer::Admitted {
            return Err(Violation::Remaining);
        }
        let states = self.states(key);
        let used_up = states.iter().filter(|state| state.remaining == 0);
        let wait = used_up.map(|state| state.reset_after).max().unwrap();
        self.wait(wait);
        if self.send(key, 1)? != Answer::Admitted {
            return Err(Violation::ResetAfter);
        }
        Ok(3 + u64::from(sent))
    }
}

/// Runs episodes until so many requests have been sent, or a limiter does something wrong. Returns how often requests
/// were admitted, refused for a while, and refused for good.
fn check<L: Limiter>(limiter: impl Fn() -> L, events: u64) -> Result<[u64; 3], (u64, Violation)> {
    let (mut sent, mut seed, mut seen) = (0, 0, [0; 3]);
    while sent < events {
        seed += 1;
        let mut episode = Episode::new(limiter(), seed);
        let end = sent + EPISODE;
        while sent < end.min(events) && episode.at < LAST {
            sent += episode.event().map_err(|violation| (seed, violation))?;
        }
        for (sum, of_episode) in seen.iter_mut().zip(episode.seen) {
            *sum += of_episode;
        }
    }
    Ok(seen)
}

#[test]
fn limits_are_strict_and_prompt() {
    let events = events();
    let seen = check(LocalLimiter::new, events).unwrap();
    assert!(seen.iter().all(|seen| *seen > events / 50), "{seen:?}");
}

#[test]
fn an_exact_log_passes() {
    let checked = check(|| ExactLimiter::with(Bug::None), 5_000);
    assert!(checked.is_ok(), "{checked:?}");
}

fn found(bug: Bug) -> Violation {
    let checked = check(|| ExactLimiter::with(bug), 200_000);
    checked.unwrap_err().1
}

#[test]
fn planted_fixed_windows_are_found() {
    assert!(matches!(found(Bug::FixedWindow), Violation::TooMuch));
}

#[test]
fn planted_gcra_is_found() {
    assert!(matches!(found(Bug::Gcra), Violation::TooMuch));
}

#[test]
fn planted_two_window_estimates_are_found() {
    let violation = found(Bug::TwoWindows);
    assert!(
        matches!(violation, Violation::TooMuch | Violation::TooLate),
        "{violation:?}"
    );
}

#[test]
fn planted_forgotten_rollbacks_are_found() {
    let violation = found(Bug::ForgottenRollback);
    assert!(
        matches!(violation, Violation::NotAllOrNothing | Violation::TooLate),
        "{violation:?}"
    );
}
