//! A limiter that counts in a log of exact timestamps, and copies of it with planted bugs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use keyward::key::Quota;
use keyward::limiter::{
    Charge, Limit, LimitRule, LimitSet, LimitSource, LimitState, Limiter, Meter, Subject,
    TakeError, Taken, Tick,
};

/// What is wrong with a limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Nothing: it is the exact log.
    None,
    /// The use is counted in windows that begin at fixed instants.
    FixedWindow,
    /// The generic cell rate algorithm, with the whole limit as its burst.
    Gcra,
    /// The window before counts in proportion to how much of it is still covered.
    TwoWindows,
    /// One lock to check, and another to count.
    CheckThenAdd,
    /// Each quota counts at once, and a refusal by a later one takes nothing back.
    ForgottenRollback,
}

/// Counts in a log of exact timestamps, but for its bug.
#[derive(Debug, Clone)]
pub(crate) struct ExactLimiter {
    bug: Bug,
    used: Arc<Mutex<HashMap<Name, Used>>>,
}

type Name = (Subject, LimitSource, String);

/// What was used under one name.
#[derive(Debug, Default)]
struct Used {
    /// The instants, and the costs.
    log: VecDeque<(u64, u32)>,
    /// For the generic cell rate algorithm: until when the use lasts at the quota's even rate.
    full_until: u128,
    in_flight: u32,
}

#[derive(Debug)]
struct ExactMeter {
    of: ExactLimiter,
    limits: Vec<Limit>,
}

impl ExactLimiter {
    pub(crate) fn with(bug: Bug) -> Self {
        Self {
            bug,
            used: Arc::default(),
        }
    }
}

impl Limiter for ExactLimiter {
    fn meter(&self, limits: Vec<Limit>) -> Arc<dyn Meter> {
        Arc::new(ExactMeter {
            of: self.clone(),
            limits,
        })
    }
}

fn nanos(quota: &Quota) -> u64 {
    u64::try_from(quota.window().as_nanos()).unwrap()
}

impl Used {
    /// How much is left of a quota.
    fn left(&self, bug: Bug, quota: &Quota, now: u64) -> u32 {
        let (window, most) = (nanos(quota), u64::from(quota.limit().get()));
        let sum = |is_counted: &dyn Fn(u64) -> bool| {
            let counted = self.log.iter().filter(|(at, _)| is_counted(*at));
            counted.map(|(_, cost)| u64::from(*cost)).sum::<u64>()
        };
        let used = match bug {
            Bug::FixedWindow => sum(&|at| at / window == now / window),
            Bug::TwoWindows => {
                let before = sum(&|at| at / window + 1 == now / window);
                let covered = u128::from(window - now % window);
                let before = u128::from(before) * covered / u128::from(window);
                sum(&|at| at / window == now / window) + u64::try_from(before).unwrap()
            }
            Bug::Gcra => {
                let ahead = self.full_until.saturating_sub(now.into());
                let used = (ahead * u128::from(most)).div_ceil(u128::from(window));
                u64::try_from(used).unwrap()
            }
            // Both ends of an interval belong to it.
            Bug::None | Bug::CheckThenAdd | Bug::ForgottenRollback => sum(&|at| at + window >= now),
        };
        u32::try_from(most.saturating_sub(used)).unwrap()
    }

    /// How long until this much is left, if it is not more than the limit.
    fn wait_for(&self, bug: Bug, quota: &Quota, now: u64, wanted: u32) -> u64 {
        if self.left(bug, quota, now) >= wanted {
            return 0;
        }
        let window = nanos(quota);
        let ends = self.log.iter().map(|(at, _)| at + window + 1);
        let mut ends = ends.filter(|end| *end > now);
        let end = ends.find(|end| self.left(Bug::None, quota, *end) >= wanted);
        end.map_or(0, |end| end - now)
    }

    fn add(&mut self, quota: &Quota, now: u64, cost: u32) {
        let window = u128::from(nanos(quota));
        let lasts = u128::from(cost) * window / u128::from(quota.limit().get());
        self.full_until = self.full_until.max(now.into()) + lasts;
        self.log.push_back((now, cost));
    }
}

impl ExactMeter {
    fn with<T>(&self, limit: &Limit, look: impl FnOnce(&mut Used) -> T) -> T {
        let name = (limit.subject.clone(), limit.source, limit.name().to_owned());
        let mut used = self.of.used.lock().unwrap_or_else(PoisonError::into_inner);
        look(used.entry(name).or_default())
    }

    fn check(&self, now: u64, charge: Charge) -> Result<(), TakeError> {
        let [mut too_costly, mut exceeded, mut busy] = [LimitSet::default(); 3];
        let (bug, mut wait) = (self.of.bug, 0);
        for (index, limit) in self.limits.iter().enumerate() {
            self.with(limit, |used| match &limit.rule {
                LimitRule::Quota(quota) if charge.cost > quota.limit().get() => {
                    too_costly.insert(index);
                }
                LimitRule::Quota(quota) if charge.cost > used.left(bug, quota, now) => {
                    exceeded.insert(index);
                    wait = wait.max(used.wait_for(bug, quota, now, charge.cost));
                }
                LimitRule::Concurrency(most)
                    if charge.counts_in_flight && used.in_flight >= most.get() =>
                {
                    busy.insert(index);
                }
                _ => {}
            });
        }
        if !too_costly.is_empty() {
            Err(TakeError::CostAboveLimit { limits: too_costly })
        } else if !exceeded.is_empty() {
            Err(TakeError::Exceeded {
                limits: exceeded,
                retry_after: Duration::from_nanos(wait),
            })
        } else if !busy.is_empty() {
            Err(TakeError::TooManyInFlight { limits: busy })
        } else {
            Ok(())
        }
    }

    fn add(&self, limit: &Limit, now: u64, charge: Charge) {
        self.with(limit, |used| match &limit.rule {
            LimitRule::Quota(quota) if charge.cost > 0 => used.add(quota, now, charge.cost),
            LimitRule::Concurrency(_) if charge.counts_in_flight => used.in_flight += 1,
            _ => {}
        });
    }
}

/// Held while a limiter without the bug checks and counts.
static WHOLE: Mutex<()> = Mutex::new(());

#[keyward::async_trait]
impl Meter for ExactMeter {
    fn limits(&self) -> &[Limit] {
        &self.limits
    }

    fn try_take(&self, now: Tick, charge: Charge) -> Option<Result<Taken, TakeError>> {
        let at = now.as_nanos();
        let whole = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = self.check(at, charge);
        match &checked {
            Err(TakeError::Exceeded { limits, .. }) if self.of.bug == Bug::ForgottenRollback => {
                let first = limits.first().unwrap();
                for limit in &self.limits[..first] {
                    self.add(limit, at, charge);
                }
            }
            _ => {}
        }
        if let Err(error) = checked {
            return Some(Err(error));
        }
        let whole = match self.of.bug {
            Bug::CheckThenAdd => {
                drop(whole);
                // The others come in between even on one processor.
                thread::sleep(Duration::from_micros(200));
                None
            }
            _ => Some(whole),
        };
        for limit in &self.limits {
            self.add(limit, at, charge);
        }
        drop(whole);
        Some(Ok(Taken::new(now, charge, 0)))
    }

    fn settle(&self, now: Tick, taken: Taken, cost: u32) {
        for limit in &self.limits {
            self.with(limit, |used| {
                let at = taken.at.as_nanos();
                let entry = (at, taken.charge.cost);
                if let Some(found) = used.log.iter().position(|one| *one == entry) {
                    used.log[found].1 = cost.min(entry.1);
                }
                if cost > entry.1 {
                    used.log.push_back((now.as_nanos(), cost - entry.1));
                }
            });
        }
    }

    fn release(&self, taken: Taken) {
        for limit in &self.limits {
            if taken.charge.counts_in_flight && matches!(limit.rule, LimitRule::Concurrency(_)) {
                self.with(limit, |used| used.in_flight -= 1);
            }
        }
    }

    fn states(&self, now: Tick, cost: u32) -> Vec<LimitState> {
        let (bug, now) = (self.of.bug, now.as_nanos());
        let state = |limit: &Limit| {
            let (left, wait) = self.with(limit, |used| match &limit.rule {
                LimitRule::Quota(quota) => {
                    let left = used.left(bug, quota, now);
                    let wanted = left.saturating_add(1).max(cost).min(quota.limit().get());
                    (left, used.wait_for(bug, quota, now, wanted))
                }
                LimitRule::Concurrency(most) => (most.get() - used.in_flight, 0),
                _ => (0, 0),
            });
            LimitState::new(limit.clone(), left, Duration::from_nanos(wait))
        };
        self.limits.iter().map(state).collect()
    }
}
