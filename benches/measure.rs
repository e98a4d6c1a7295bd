//! A harness for measuring on shared, noisy machines.
//!
//! Rows are not measured one after another but in turns: each runs one batch per round, for many rounds. A slowdown
//! of the machine then affects all rows alike, and the median outvotes a slowdown of a single batch. Nanoseconds
//! still differ between machines and from hour to hour, so targets are ratios: to the base row, or to another row,
//! taken round by round.
//!
//! One disturbance does not slow all rows alike: a neighbour on the same core. It hardly affects hash instructions,
//! while all other code takes up to half as long again. The table therefore shows the ratio of each row's fastest
//! round to the base's fastest round as `best`. If `best` is well below `ratio`, there was such a neighbour: measure
//! again.
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
//! `KEYWARD_BENCH_ROUNDS` lowers the number of rounds, to check that a benchmark runs at all.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// Default number of rounds of a row that is not slow. It is odd, so that the median is a measured value.
const ROUNDS: usize = 21;

/// Duration of a batch. It is long enough that the clock's resolution and an interrupt do not matter, and short
/// enough that compared rows run under like conditions.
const BATCH: Duration = Duration::from_millis(10);

/// Total time of a row's batches before it skips rounds.
const ROW_BUDGET: Duration = Duration::from_secs(2);

/// Minimum number of rounds, even for the slowest row.
const FEWEST_ROUNDS: usize = 5;

/// Maximum number of iterations per batch, for a row that takes almost no time.
const MOST_ITERATIONS: u64 = 1 << 32;

/// A set of rows to compare. The first row is the base of the ratios.
pub(crate) struct Bench<'a> {
    rounds: usize,
    entries: Vec<Entry<'a>>,
}

/// A row that was added to a [`Bench`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(usize);

/// The bound that a row must keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most this many times the base row.
    Ratio(f64),
    /// At most this many nanoseconds.
    Nanos(f64),
    /// At most this many times that row.
    TimesRow(Row, f64),
    /// At most that row plus this many times the base row.
    AddedTo(Row, f64),
}

struct Entry<'a> {
    measured: Measured,
    run: Run<'a>,
}

type Run<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

impl<'a> Bench<'a> {
    /// Creates a benchmark with this base row. The closure runs the operation the given number of times.
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

    /// Returns the base row.
    pub(crate) fn base(&self) -> Row {
        Row(0)
    }

    /// Adds a row. The closure runs the operation the given number of times.
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

    /// Adds a row that measures itself, because it needs unmeasured preparation or runs on several threads.
    ///
    /// The closure returns the duration of the given number of operations. On several threads, let each thread run
    /// that many and return the time until the last is done: the row then shows the duration of an operation on its
    /// thread.
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

    /// Measures all rows, prints the table, and returns the results.
    #[expect(clippy::print_stdout, reason = "a benchmark is run for its table")]
    pub(crate) fn run(mut self) -> Results {
        let plans: Vec<Plan> = self
            .entries
            .iter_mut()
            .map(|entry| Plan::of(&mut entry.run, self.rounds))
            .collect();
        for round in 0..self.rounds {
            let mut turns: Vec<_> = self.entries.iter_mut().zip(&plans).collect();
            // Each round begins with another row, so that no row always follows the same one.
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

/// The plan of a row: the iterations per batch, and the number of rounds in which it runs.
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

    /// Measures the nanoseconds per operation in this round. NaN if the row skips the round.
    ///
    /// The rounds in which a row runs are spread evenly. The last round is always among them, so that any two rows
    /// share at least one.
    fn sample(&self, round: usize, run: &mut Run<'_>) -> f64 {
        let due = |round| round * self.rounds / self.of;
        if due(round + 1) == due(round) {
            return f64::NAN;
        }
        run(self.iterations).as_secs_f64() * 1e9 / self.iterations as f64
    }
}

/// The results. `Display` writes the table.
pub(crate) struct Results {
    rows: Vec<Measured>,
}

struct Measured {
    name: String,
    target: Option<Target>,
    /// Nanoseconds per operation, round by round. NaN for rounds in which the row did not run.
    samples: Vec<f64>,
}

impl Results {
    /// Returns the nanoseconds per operation: the median of the rounds.
    pub(crate) fn nanos(&self, row: Row) -> f64 {
        median(self.samples(row).iter().copied())
    }

    /// Returns the duration of a row as a multiple of another row's: the median of the ratios within each round.
    pub(crate) fn ratio(&self, row: Row, to: Row) -> f64 {
        let pairs = self.samples(row).iter().zip(self.samples(to));
        median(pairs.map(|(row, to)| row / to))
    }

    /// Returns the ratio to the base row, each in its fastest round. It estimates the ratio on a quiet machine.
    pub(crate) fn best_ratio(&self, row: Row) -> f64 {
        let fastest = |row| self.samples(row).iter().copied().fold(f64::NAN, f64::min);
        fastest(row) / fastest(Row(0))
    }

    /// Returns the time that a row adds to another, in multiples of the base row: the median of the rounds.
    pub(crate) fn added(&self, row: Row, to: Row) -> f64 {
        let pairs = self.samples(row).iter().zip(self.samples(to));
        let triples = pairs.zip(self.samples(Row(0)));
        median(triples.map(|((row, to), base)| (row - to) / base))
    }

    /// Whether a row keeps its target. `None` if it has no target.
    pub(crate) fn is_held(&self, row: Row) -> Option<bool> {
        self.verdict(row).map(|verdict| verdict.is_held())
    }

    /// With the option `--check-targets`, fails if a row misses its target. Without it, the table alone says so.
    ///
    /// # Errors
    /// A sentence for the one who runs the benchmark.
    pub(crate) fn check_targets(&self) -> Result<(), Box<dyn Error>> {
        let is_asked = std::env::args().any(|argument| argument == "--check-targets");
        let mut rows = (0..self.rows.len()).map(Row);
        if is_asked && rows.any(|row| self.is_held(row) == Some(false)) {
            return Err("a target is missed: see the table".into());
        }
        Ok(())
    }

    /// Prints the speed-up of our row over a peer's row, and whether it meets the target, if there is one.
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

/// Formats a number with two decimals, or without decimals if it is large.
fn figure(value: f64) -> String {
    format!("{value:.*}", if value < 100.0 { 2 } else { 0 })
}

/// Returns the middle number, or the mean of the two middle numbers. NaN if there are no numbers.
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
