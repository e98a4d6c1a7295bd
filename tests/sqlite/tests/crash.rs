//! Promise 15: kill -9 at any moment of issue, rotate, revoke leaves no half state, and loses no change that was
//! acknowledged. Shown for SQLite by a program that three tasks keep busy, and that is killed again and again over the
//! same file: after a while of 0 to 60 ms, which may be before it has opened the file, or once it has acknowledged so
//! many things. What the file then says is checked by another program, in another language and with another SQLite
//! (`check.py`).
//!
//! 50 times by default; `KEYWARD_CRASHES=1000` says how often. It needs `python3`.
//!
//! What this cannot show is what a power cut does: a killed process leaves all that it wrote to the kernel. Planted
//! bugs that it catches: an answer before the commit; events that are committed on their own, after the changes; the
//! changes of a set that are committed one by one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sqlite_store::{Checker, Choices};
use tempfile::TempDir;
use test_support::{PYTHON, has, size};

/// How often one file is crashed, before another one takes its place.
const A_FILES_LIFE: u64 = 200;

fn crashes() -> u64 {
    size("KEYWARD_CRASHES", 50).into()
}

/// A file, and the journal of what was acknowledged of it.
struct Case {
    dir: TempDir,
}

/// When the program is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    After(Duration),
    OnceAcknowledged { lines: usize, and: Duration },
    Never,
}

impl Moment {
    fn drawn(choices: &mut Choices) -> Self {
        let micros = |choices: &mut Choices, most| {
            let drawn = choices.below(most);
            Duration::from_micros(drawn.try_into().unwrap())
        };
        if choices.chance(2) {
            return Self::After(micros(choices, 60_000));
        }
        Self::OnceAcknowledged {
            lines: choices.below(40),
            and: micros(choices, 4_000),
        }
    }
}

/// What the checker counted.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    acknowledged: u64,
    /// Keys that stand in the file, and that nobody was told of.
    unheard: u64,
    /// Pieces of a commit at the end of the log.
    torn: u64,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), "").unwrap();
        Self { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("keys.db")
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Runs the program, kills it, and notes what it said. How many lines that were.
    fn run(&self, seed: u64, operations: u64, moment: Moment) -> usize {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crash_program"));
        let arguments = [seed.to_string(), operations.to_string()];
        program.arg("write").arg(self.file()).args(arguments);
        let mut running = program.stdout(Stdio::piped()).spawn().unwrap();
        let out = running.stdout.take().unwrap();
        let (heard, hearing) = mpsc::channel();
        let listening = thread::spawn(move || {
            let mut out = BufReader::new(out);
            loop {
                let mut line = Vec::new();
                // A line that was cut off was never said.
                if out.read_until(b'\n', &mut line).unwrap() == 0 || !line.ends_with(b"\n") {
                    return;
                }
                heard.send(line).unwrap();
            }
        });
        let mut lines = Vec::new();
        match moment {
            Moment::After(delay) => thread::sleep(delay),
            Moment::OnceAcknowledged { lines: most, and } => {
                // One more, which says that it was opened.
                lines.extend(hearing.iter().take(most + 1));
                thread::sleep(and);
            }
            Moment::Never => lines.extend(hearing.iter()),
        }
        let is_over = matches!(moment, Moment::Never);
        if !is_over {
            running.kill().unwrap();
        }
        let ended = running.wait().unwrap();
        listening.join().unwrap();
        lines.extend(hearing);
        assert_eq!(ended.success(), is_over, "{moment:?}: {ended}");
        let mut journal = fs::File::options()
            .append(true)
            .open(self.journal())
            .unwrap();
        journal.write_all(&lines.concat()).unwrap();
        lines.len()
    }

    fn check(&self, checker: &mut Checker) -> Counted {
        let found = checker.check(&self.file(), &self.journal()).unwrap();
        counted(&found.unwrap())
    }

    /// Checks a copy of what lies on the disk, so that whoever opens the file next is the first after the crash.
    fn check_copy(&self, checker: &mut Checker) -> Counted {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("keys.db");
        fs::copy(self.file(), &path).unwrap();
        let log = self.dir.path().join("keys.db-wal");
        if log.exists() {
            fs::copy(log, copy.path().join("keys.db-wal")).unwrap();
        }
        let found = checker.check(&path, &self.journal()).unwrap();
        counted(&found.unwrap())
    }

    /// Brings all that was committed into the one file.
    fn gather(&self) {
        let connection = Connection::open(self.file()).unwrap();
        let busy: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .unwrap();
        assert_eq!(busy, 0);
    }
}

fn counted(found: &str) -> Counted {
    let number = |name: &str| {
        let mut words = found.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap().parse().unwrap()
    };
    Counted {
        acknowledged: number("acknowledged"),
        unheard: number("unheard"),
        torn: number("torn"),
    }
}

#[test]
fn a_kill_loses_nothing_acknowledged() {
    if !has(&[PYTHON]) {
        return;
    }
    let begun = Instant::now();
    let mut checker = Checker::start().unwrap();
    let mut choices = Choices::new(15);
    let (mut case, mut last) = (Case::new(), Counted::default());
    let (mut acknowledged, mut unheard, mut torn, mut silent) = (0, 0, 0, 0);
    // It was waited for these, however slow the machine is.
    let mut awaited = 0;
    for crash in 0..crashes() {
        if crash % A_FILES_LIFE == 0 {
            (case, last) = (Case::new(), Counted::default());
            case.run(crash, 0, Moment::Never);
        }
        let moment = Moment::drawn(&mut choices);
        if let Moment::OnceAcknowledged { lines, .. } = moment {
            awaited += u64::try_from(lines).unwrap();
        }
        silent += u64::from(case.run(crash, u64::MAX, moment) == 0);
        let now = if crash % 3 == 0 {
            case.check(&mut checker)
        } else {
            case.check_copy(&mut checker)
        };
        acknowledged += now.acknowledged - last.acknowledged;
        unheard += u64::from(now.unheard > last.unheard);
        torn += u64::from(now.torn > 0);
        last = now;
    }
    println!(
        "{} crashes in {:?}: {acknowledged} operations acknowledged; {silent} before the file was open, {unheard} \
         between a commit and its answer, {torn} while a commit was being written",
        crashes(),
        begun.elapsed(),
    );
    assert!(acknowledged >= awaited, "{acknowledged} of {awaited}");
}

#[test]
fn a_kill_during_creation_is_harmless() {
    if !has(&[PYTHON]) {
        return;
    }
    let mut checker = Checker::start().unwrap();
    let mut choices = Choices::new(16);
    for crash in 0..crashes() / 4 {
        let case = Case::new();
        let delay = Duration::from_micros(choices.below(12_000).try_into().unwrap());
        case.run(crash, u64::MAX, Moment::After(delay));
        case.run(crash, 2, Moment::Never);
        assert!(
            case.check(&mut checker).acknowledged > 3,
            "killed after {delay:?}"
        );
    }
}

/// A file of some life, with its journal, and what it was half-way.
fn lived() -> (Case, PathBuf) {
    let case = Case::new();
    case.run(1, 60, Moment::Never);
    case.gather();
    let half_way = case.dir.path().join("before.db");
    fs::copy(case.file(), &half_way).unwrap();
    case.run(2, 60, Moment::Never);
    case.gather();
    case.check(&mut Checker::start().unwrap());
    (case, half_way)
}

/// One key of a kind, always the same.
macro_rules! one {
    ($condition:literal) => {
        concat!(
            "id = (SELECT min(id) FROM keyward_keys WHERE ",
            $condition,
            ")"
        )
    };
}

/// What is done to a file, and a part of what is to be said of it.
const DAMAGE: [(&str, &str); 15] = [
    ("DELETE FROM keyward_events WHERE number = 9", "event 9 is not there"),
    (
        "DELETE FROM keyward_events WHERE number = (SELECT events FROM keyward_meta);
         UPDATE keyward_meta SET events = events - 1,
             head = (SELECT hash FROM keyward_events ORDER BY number DESC LIMIT 1)",
        "news",
    ),
    (
        "UPDATE keyward_events SET event = replace(event, 'system:test', 'system:else') WHERE number = 9",
        "the chain breaks at event 9",
    ),
    ("UPDATE keyward_events SET hash = zeroblob(32) WHERE number = 9", "the chain breaks at event 9"),
    ("UPDATE keyward_meta SET events = events + 1", "counted"),
    ("UPDATE keyward_meta SET position = position + 1", "positions of the feed"),
    ("DELETE FROM keyward_feed WHERE position = 9", "positions of the feed"),
    ("DELETE FROM keyward_commits WHERE number = 9", "commits and positions differ"),
    ("DELETE FROM keyward_cutoffs", "was cut off and is not"),
    (
        concat!(
            "UPDATE keyward_keys SET revoked_at = NULL, revoke_reason = NULL, revoked_position = NULL WHERE ",
            one!("revoke_reason = 'requested'")
        ),
        "was revoked at",
    ),
    (
        concat!("UPDATE keyward_keys SET revoked_at = revoked_at + 1 WHERE ", one!("revoke_reason = 'requested'")),
        "was revoked at",
    ),
    (concat!("DELETE FROM keyward_keys WHERE ", one!("revoked_at IS NULL")), "is gone"),
    (
        concat!("UPDATE keyward_keys SET predecessor = NULL WHERE ", one!("predecessor IS NOT NULL")),
        "is not its successor",
    ),
    (
        concat!(
            "UPDATE keyward_keys
             SET document = CAST(json_set(CAST(document AS TEXT), '$.rotation', NULL) AS BLOB) WHERE ",
            one!("id IN (SELECT predecessor FROM keyward_keys)")
        ),
        "has a successor or has not",
    ),
    (
        concat!("UPDATE keyward_keys SET revision = revision + 1 WHERE ", one!("revoked_at IS NULL")),
        "events",
    ),
];

#[test]
fn the_checker_finds_damage() {
    if !has(&[PYTHON]) {
        return;
    }
    let (case, half_way) = lived();
    let copy = case.dir.path().join("copy.db");
    let mut checker = Checker::start().unwrap();
    let mut complaint = |file: &Path| {
        let found = checker.check(file, &case.journal()).unwrap();
        found.unwrap_err()
    };
    for (damage, said) in DAMAGE {
        fs::copy(case.file(), &copy).unwrap();
        let connection = Connection::open(&copy).unwrap();
        connection.execute_batch(damage).unwrap();
        assert!(connection.total_changes() > 0, "{damage}");
        drop(connection);
        let found = complaint(&copy);
        assert!(found.contains(said), "{damage}: {found}");
    }

    // What was acknowledged, and is whole, and is not there any more.
    let found = complaint(&half_way);
    assert!(found.contains("is gone"), "{found}");

    // An index whose root is blank.
    fs::copy(case.file(), &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    let (page, size): (u32, u32) = connection
        .query_row(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'keyward_keys_live'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(connection);
    let mut file = fs::File::options().write(true).open(&copy).unwrap();
    file.seek(SeekFrom::Start(u64::from(page - 1) * u64::from(size)))
        .unwrap();
    file.write_all(&[0; 512]).unwrap();
    drop(file);
    complaint(&copy);
}
