//! A harness for measuring on machines that are shared and noisy.
//!
//! Rows are not measured one after another but in turns: each runs one batch a round, and the rounds are many. What
//! slows the machine for a while then slows all rows alike, and what slows one batch is outvoted by the median.
//! Nanoseconds still differ from machine to machine and from hour to hour, so targets are ratios: to the base row, or
//! to another row, taken round by round.
//!
//! One thing does not slow all rows alike: a neighbour on the same core. Instructions that hash hardly notice it, all
//! else takes up to half as long again. The table therefore shows the ratio of each row's fastest round to the base's
//! as `best`. Where that is well below `ratio`, there was such a neighbour: measure again.
//!
//! ```ignore
//! let mut bench = Bench::new("SHA-256 of 64 B", |iterations| {
//!     for _ in 0..iterations {
//!         black_box(Sha256::digest(black_box(&block)));
//!     }
//! });
//! let accept = bench.row("accept", Some(Target::Ratio(1.7)), |iterations| { /* … */ });
//! let refuse = bench.row("refuse", Some(Target::TimesRow(accept, 1.0)), |iterations| { /* … */ });
//! let results = bench.run();
//! ```
//!
//! `KEYWARD_BENCH_ROUNDS` lowers the number of rounds, to see whether a benchmark runs at all.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::fmt;
use std::time::{Duration, Instant};

/// How often each row runs, if it is not slow and no other number is asked for: odd, so that the median is one that was
/// measured.
const ROUNDS: usize = 21;

/// Long enough that the clock's resolution and an interrupt do not matter, short enough that rows which are
/// compared run under like conditions.
const BATCH: Duration = Duration::from_millis(10);

/// What all batches of one row may take together before it skips rounds.
const ROW_BUDGET: Duration = Duration::from_secs(2);

/// The rounds in which even the slowest row runs.
const FEWEST_ROUNDS: usize = 5;

/// Most iterations a batch, for a row that takes no time at all.
const MOST_ITERATIONS: u64 = 1 << 32;

/// Rows to measure against each other. The first is the base, to which ratios are taken.
pub(crate) struct Bench<'a> {
    rounds: usize,
    entries: Vec<Entry<'a>>,
}

/// A row that was added to a [`Bench`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(usize);

/// What a row must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most so many times the base row.
    Ratio(f64),
    /// At most so many nanoseconds.
    Nanos(f64),
    /// At most so many times that row.
    TimesRow(Row, f64),
    /// At most that row, and so many times the base row on top.
    AddedTo(Row, f64),
}

struct Entry<'a> {
    measured: Measured,
    run: Run<'a>,
}

type Run<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

impl<'a> Bench<'a> {
    /// A benchmark with this base row. The closure runs the operation as often as it is told.
    pub(crate) fn new(base_name: &str, base: impl FnMut(u64) + 'a) -> Self {
        let asked = std::env::var("KEYWARD_BENCH_ROUNDS").ok();
        let asked = asked.and_then(|rounds| rounds.parse().ok());
        let mut bench = Self {
            rounds: asked.unwrap_or(ROUNDS).clamp(1, ROUNDS),
            entries: Vec::new(),
        };
        bench.row(base_name, None, base);
        bench
    }

    /// The base row.
    pub(crate) fn base(&self) -> Row {
        Row(0)
    }

    /// Adds a row. The closure runs the operation as often as it is told.
    pub(crate) fn row(
        &mut self,
        name: &str,
        target: Option<Target>,
        mut run: impl FnMut(u64) + 'a,
    ) -> Row {
        self.row_timed(name, target, move |iterations| {
            let start = Instant::now();
            run(iterations);
            start.elapsed()
        })
    }

    /// Adds a row that measures itself: one that prepares what is not to be measured, or runs on several threads.
    ///
    /// The closure returns how long the given number of operations took. On several threads, let each run that many and
    /// return the time until the last is done: the row then shows what an operation takes where it runs.
    pub(crate) fn row_timed(
        &mut self,
        name: &str,
        target: Option<Target>,
        run: impl FnMut(u64) -> Duration + 'a,
    ) -> Row {
        self.entries.push(Entry {
            measured: Measured {
                name: name.to_owned(),
                target,
                samples: Vec::new(),
            },
            run: Box::new(run),
        });
        Row(self.entries.len() - 1)
    }

    /// Measures all rows, prints the table, and returns what was measured.
    #[expect(clippy::print_stdout, reason = "a benchmark is run for its table")]
    pub(crate) fn run(mut self) -> Results {
        let plans: Vec<Plan> = self
            .entries
            .iter_mut()
            .map(|entry| Plan::of(&mut entry.run, self.rounds))
            .collect();
        for round in 0..self.rounds {
            let mut turns: Vec<_> = self.entries.iter_mut().zip(&plans).collect();
            // Each round begins with another row, so that none always follows the same one.
            let rows = turns.len();
            turns.rotate_left(round % rows);
            for (entry, plan) in turns {
                entry
                    .measured
                    .samples
                    .push(plan.sample(round, &mut entry.run));
            }
        }
        let rows = self.entries.into_iter().map(|entry| entry.measured);
        let results = Results {
            rows: rows.collect(),
        };
        println!("{results}");
        results
    }
}

/// How a row is run: so many iterations a batch, in so many of all rounds.
struct Plan {
    iterations: u64,
    rounds: usize,
    of: usize,
}

impl Plan {
    fn of(run: &mut Run<'_>, rounds: usize) -> Self {
        let mut iterations = 1;
        let elapsed = loop {
            // The better of two: one may have been interrupted, or have warmed the caches.
            let elapsed = run(iterations).min(run(iterations));
            if elapsed >= BATCH / 2 || iterations >= MOST_ITERATIONS {
                break elapsed.as_nanos().max(1);
            }
            iterations *= 2;
        };
        let fitting = u128::from(iterations) * BATCH.as_nanos() / elapsed;
        let affordable = ROW_BUDGET.as_nanos() / elapsed;
        Self {
            iterations: u64::try_from(fitting).map_or(MOST_ITERATIONS, |n| n.max(1)),
            rounds: usize::try_from(affordable)
                .map_or(rounds, |n| n.max(FEWEST_ROUNDS).min(rounds)),
            of: rounds,
        }
    }

    /// Nanoseconds per operation in this round; not a number if the row skips it.
    ///
    /// The rounds in which a row runs are spread evenly. The last is always among them, so that any two rows meet in
    /// one.
    fn sample(&self, round: usize, run: &mut Run<'_>) -> f64 {
        let due = |round| round * self.rounds / self.of;
        if due(round + 1) == due(round) {
            return f64::NAN;
        }
        run(self.iterations).as_secs_f64() * 1e9 / self.iterations as f64
    }
}

/// What was measured. Its `Display` is the table.
pub(crate) struct Results {
    rows: Vec<Measured>,
}

struct Measured {
    name: String,
    target: Option<Target>,
    /// Nanoseconds per operation, round by round; not a number where the row did not run.
    samples: Vec<f64>,
}

impl Results {
    /// Nanoseconds per operation: the median of the rounds.
    pub(crate) fn nanos(&self, row: Row) -> f64 {
        median(self.samples(row).iter().copied())
    }

    /// How many times as long as the other a row takes: the median of the ratios within each round.
    pub(crate) fn ratio(&self, row: Row, to: Row) -> f64 {
        let pairs = self.samples(row).iter().zip(self.samples(to));
        median(pairs.map(|(row, to)| row / to))
    }

    /// The ratio to the base row with each in its fastest round: what a quiet machine would have shown.
    pub(crate) fn best_ratio(&self, row: Row) -> f64 {
        let fastest = |row| self.samples(row).iter().copied().fold(f64::NAN, f64::min);
        fastest(row) / fastest(Row(0))
    }

    /// How long a row takes beyond another, in multiples of the base row: the median of the rounds.
    pub(crate) fn added(&self, row: Row, to: Row) -> f64 {
        let pairs = self.samples(row).iter().zip(self.samples(to));
        let triples = pairs.zip(self.samples(Row(0)));
        median(triples.map(|((row, to), base)| (row - to) / base))
    }

    /// Whether a row keeps to its target, if it has one.
    pub(crate) fn is_held(&self, row: Row) -> Option<bool> {
        self.verdict(row).map(|verdict| verdict.is_held())
    }

    /// Whether every row keeps to its target.
    pub(crate) fn all_held(&self) -> bool {
        (0..self.rows.len()).all(|row| self.is_held(Row(row)) != Some(false))
    }

    /// Prints how many times as fast as a peer's row ours is, and whether that meets the target, if there is one.
    #[expect(clippy::print_stdout, reason = "the comparison belongs to the table")]
    pub(crate) fn print_faster(&self, ours: Row, theirs: Row, at_least: Option<f64>) {
        let times = self.ratio(theirs, ours);
        let (ours, theirs) = (self.name(ours), self.name(theirs));
        let target = at_least.map_or_else(String::new, |least| {
            let held = if times >= least { "held" } else { "missed" };
            format!(" (target ≥ {least}×: {held})")
        });
        let (times, word) = if times >= 1.0 {
            (times, "faster")
        } else {
            (times.recip(), "slower")
        };
        let digits = if times < 100.0 { 1 } else { 0 };
        println!("{ours} against {theirs}: {times:.digits$}× {word}{target}");
    }

    fn name(&self, row: Row) -> &str {
        self.rows.get(row.0).map_or("?", |row| &row.name)
    }

    fn samples(&self, row: Row) -> &[f64] {
        self.rows.get(row.0).map_or(&[], |row| &row.samples)
    }

    fn verdict(&self, row: Row) -> Option<Verdict> {
        let (measured, limit, words) = match self.rows.get(row.0)?.target? {
            Target::Ratio(limit) => (self.ratio(row, Row(0)), limit, format!("≤ {limit}")),
            Target::Nanos(limit) => (self.nanos(row), limit, format!("≤ {limit} ns")),
            Target::TimesRow(other, limit) => {
                let words = format!("≤ {limit} × {}", self.name(other));
                (self.ratio(row, other), limit, words)
            }
            Target::AddedTo(other, limit) => {
                let words = format!("≤ {} + {limit}", self.name(other));
                (self.added(row, other), limit, words)
            }
        };
        Some(Verdict {
            measured,
            limit,
            words,
        })
    }
}

struct Verdict {
    measured: f64,
    limit: f64,
    words: String,
}

impl Verdict {
    fn is_held(&self) -> bool {
        self.measured <= self.limit
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["", "ns", "ratio", "best", "target", "held"].map(str::to_owned);
        let lines: Vec<[String; 6]> = std::iter::once(heads)
            .chain((0..self.rows.len()).map(|row| self.line(Row(row))))
            .collect();
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [
            name_width,
            nanos_width,
            ratio_width,
            best_width,
            target_width,
            _,
        ] = widths;
        for [name, nanos, ratio, best, target, held] in &lines {
            let figures =
                format!("{nanos:>nanos_width$}  {ratio:>ratio_width$}  {best:>best_width$}");
            let line = format!("{name:name_width$}  {figures}  {target:target_width$}  {held}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Results {
    fn line(&self, row: Row) -> [String; 6] {
        let (nanos, verdict) = (self.nanos(row), self.verdict(row));
        let held = verdict.as_ref().map_or_else(String::new, |verdict| {
            let held = if verdict.is_held() { "yes" } else { "no" };
            format!("{held} ({})", figure(verdict.measured))
        });
        [
            self.name(row).to_owned(),
            format!("{nanos:.*}", if nanos < 1_000.0 { 1 } else { 0 }),
            figure(self.ratio(row, Row(0))),
            figure(self.best_ratio(row)),
            verdict.map_or_else(String::new, |verdict| verdict.words),
            held,
        ]
    }
}

/// Two decimals, or none where they would say nothing.
fn figure(value: f64) -> String {
    format!("{value:.*}", if value < 100.0 { 2 } else { 0 })
}

/// The middle one of the numbers, or the mean of the two in the middle; not a number if there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}
