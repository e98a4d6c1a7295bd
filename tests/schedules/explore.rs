//! In what order threads go on.
//!
//! Three explorers look at each scenario: one goes through every schedule in which a thread that could go on is
//! interrupted at most so many times (Musuvathi and Qadeer 2007: most faults need two), one draws each step, and one
//! draws priorities and where they change (PCT, Burckhardt et al. 2010). The drawn ones are the same in every run,
//! unless `SHUTTLE_RANDOM_SEED` says otherwise; `KEYWARD_SCHEDULES` says how many times as many there are to be.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::world;

pub(crate) const SEED: u64 = 20_260_801;

/// How many preemptions PCT draws places for.
const DEPTHS: [usize; 2] = [2, 4];

/// How far a scenario is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How many interruptions every schedule is gone through with.
    pub(crate) preemptions: usize,
    /// Schedules that are drawn, step by step and by each depth of priorities.
    pub(crate) drawn: usize,
}

/// What must hold in all schedules.
pub(crate) fn explore(effort: Effort, scenario: impl Fn() + Clone + Send + Sync + 'static) {
    world::prepare();
    let drawn = effort.drawn * times();
    let mut explorers: Vec<(usize, Explorer)> = vec![
        (2, Box::new(Bounded::new(effort.preemptions, usize::MAX))),
        (drawn, Box::new(RandomScheduler::new_from_seed(SEED, drawn))),
    ];
    for depth in DEPTHS {
        let pct = PctScheduler::new_from_seed(SEED, depth, drawn);
        explorers.push((drawn, Box::new(pct)));
    }
    for (least, explorer) in explorers {
        let explored = runner(explorer, FailurePersistence::Print).run(scenario.clone());
        assert!(explored >= least, "{explored} of {least}");
    }
}

pub(crate) type Explorer = Box<dyn Scheduler + Send>;

pub(crate) fn runner(explorer: Explorer, persistence: FailurePersistence) -> Runner<Explorer> {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    // None takes a tenth of it, but one in which somebody waits without end for what cannot come.
    config.max_steps = MaxSteps::FailAfter(20_000);
    config.failure_persistence = persistence;
    Runner::new(explorer, config)
}

fn times() -> usize {
    let times = std::env::var("KEYWARD_SCHEDULES").ok();
    times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Every schedule with at most so many preemptions, one after the other.
#[derive(Debug)]
pub(crate) struct Bounded {
    most: usize,
    left: usize,
    runs: usize,
    most_runs: usize,
    /// Where there was a choice: which was taken, and of how many.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Bounded {
    pub(crate) fn new(most: usize, most_runs: usize) -> Self {
        Self {
            most,
            left: most,
            runs: 0,
            most_runs,
            path: Vec::new(),
            at: 0,
        }
    }
}

impl Scheduler for Bounded {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.runs > 0 {
            // The last choice that has another way left takes it.
            while self.path.last().is_some_and(|(taken, of)| taken + 1 == *of) {
                self.path.pop();
            }
            self.path.last_mut()?.0 += 1;
        }
        self.runs += 1;
        (self.at, self.left) = (0, self.most);
        (self.runs <= self.most_runs).then(|| Schedule::new(SEED))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _: bool,
    ) -> Option<TaskId> {
        let current = current.filter(|current| runnable.iter().any(|task| task.id() == *current));
        let others = runnable
            .iter()
            .map(|task| task.id())
            .filter(|id| Some(*id) != current);
        // Where the thread could go on, leaving it is what costs.
        let others = others.filter(|_| current.is_none() || self.left > 0);
        let ways: Vec<_> = current.into_iter().chain(others).collect();
        if ways.len() == 1 {
            return ways.first().copied();
        }
        if self.at == self.path.len() {
            self.path.push((0, ways.len()));
        }
        let (taken, of) = self.path[self.at];
        assert_eq!(of, ways.len(), "the scenario does not repeat itself");
        self.at += 1;
        if current.is_some() && taken > 0 {
            self.left -= 1;
        }
        Some(ways[taken])
    }

    fn next_u64(&mut self) -> u64 {
        SEED
    }
}
