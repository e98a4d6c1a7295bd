//! Several processes over one file: they may create it at once, and write at once, and everything that each of them was
//! told of is there, in one order.
//!
//! Planted bugs that it catches: a schema that is looked for, or a commit that is begun, without the lock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use keyward::store::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use sqlite_store::Checker;
use test_support::{PYTHON, has};

fn start(arguments: &[&str], file: &Path) -> Child {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crash_program"));
    let (mode, rest) = arguments.split_first().unwrap();
    program.arg(mode).arg(file).args(rest);
    let program = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    program.spawn().unwrap()
}

/// What each of them said, once all have ended well.
fn ended(running: Vec<Child>) -> Vec<String> {
    let outputs = running.into_iter().map(|one| {
        // The others go on meanwhile: what they say fits into their pipes.
        let output = one.wait_with_output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complained}");
        String::from_utf8(output.stdout).unwrap()
    });
    outputs.collect()
}

#[test]
fn concurrent_creation_makes_one_schema() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.db");
        let running = (0..8).map(|_| start(&["open"], &file));
        let mut running: Vec<_> = running.collect();
        thread::sleep(Duration::from_millis(20));
        for one in &mut running {
            // One that has ended already says why, below.
            let _ = one.stdin.take().unwrap().write_all(b"\n");
        }
        for said in ended(running) {
            assert_eq!(said, "opened\n");
        }
        let alone = dir.path().join("alone.db");
        SqliteStore::open(&alone).unwrap();
        let count = |file: &Path, of: &str| {
            let connection = Connection::open(file).unwrap();
            let sql = format!("SELECT count(*) FROM {of}");
            connection
                .query_row(&sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(count(&file, "keyward_meta"), 1);
        assert_eq!(
            count(&file, "sqlite_schema"),
            count(&alone, "sqlite_schema")
        );
    }
}

#[test]
fn concurrent_writes_land_in_one_order() {
    if !has(&[PYTHON]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.db");
    let running = ["1", "2", "3", "4"].map(|seed| start(&["write", seed, "25"], &file));
    let journal = dir.path().join("journal");
    let said = ended(running.into());
    fs::write(&journal, said.concat()).unwrap();
    let found = Checker::start().unwrap().check(&file, &journal).unwrap();
    let found = found.unwrap();
    assert!(!found.contains(" acknowledged=0 "), "{found}");
    // Nothing was done that its process was not told of.
    assert!(found.contains(" unheard=0 "), "{found}");
}

#[test]
fn opening_waits_for_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.db");
    let host = Connection::open(&file).unwrap();
    host.execute_batch("CREATE TABLE hosts (name TEXT); BEGIN; SELECT count(*) FROM hosts")
        .unwrap();
    let options = SqliteOptions::new().patience(Duration::from_mins(2));
    let opening = thread::spawn(move || options.open(file).map(drop));
    // Whether it has begun or not: it does not end before it may.
    thread::sleep(Duration::from_millis(100));
    assert!(!opening.is_finished(), "the log cannot be switched on yet");
    host.execute_batch("COMMIT").unwrap();
    opening.join().unwrap().unwrap();
}
