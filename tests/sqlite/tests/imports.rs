//! An import that is killed at any moment, and run again, brings each row into the file once.
//!
//! 12 times by default; `KEYWARD_CRASHES=1000` says how often.
//!
//! Planted bugs that it catches: keys that are committed without their events; answers before the commit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyward::key::PresentedKey;
use keyward::manager::KeyManager;
use keyward::store::{KeyStore, SqliteStore};
use keyward::verifier::{Attempt, Requirement};
use sqlite_store::{Choices, builder, old_keys, old_text, open_patiently};
use test_support::size;

const ROWS: usize = 600;

/// When the program is killed: after it has said so many lines, and a while.
type Moment = Option<(usize, Duration)>;

/// Runs the program, and returns the rows that it acknowledged.
fn run(file: &Path, moment: Moment) -> Vec<usize> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crash_program"));
    program.arg("import").arg(file).arg(ROWS.to_string());
    let mut running = program.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(running.stdout.take().unwrap());
    let mut rows = Vec::new();
    let mut line = String::new();
    let mut is_killed = false;
    loop {
        match moment {
            Some((lines, and)) if !is_killed && rows.len() >= lines => {
                std::thread::sleep(and);
                running.kill().unwrap();
                is_killed = true;
            }
            _ => {}
        }
        line.clear();
        // A line that was cut off was never said.
        if out.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        if let Some(row) = line.trim_end().strip_prefix("imported ") {
            rows.push(row.parse().unwrap());
        }
    }
    let ended = running.wait().unwrap();
    assert!(is_killed || ended.success(), "{ended}");
    rows
}

/// Returns the number of events, each of one imported key.
async fn events(store: &SqliteStore) -> usize {
    let log = store.events().unwrap();
    let (mut count, mut after) = (0, 0);
    loop {
        let page = log.read(None, after, 500).await.unwrap();
        let Some(last) = page.last() else {
            return count;
        };
        after = last.number;
        count += page.len();
    }
}

async fn stored(manager: &KeyManager, store: &SqliteStore) -> Vec<bool> {
    let mut stored = Vec::new();
    for row in 0..ROWS {
        let id = manager.imported_id("old", &row.to_string()).unwrap();
        stored.push(store.get(id).await.unwrap().is_some());
    }
    stored
}

#[tokio::test]
async fn a_killed_import_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.db");
    let mut choices = Choices::new(18);
    let crashes = size("KEYWARD_CRASHES", 12);
    for crash in 0..=crashes {
        let lines = choices.below(ROWS);
        let and = Duration::from_micros(choices.below(4_000).try_into().unwrap());
        let moment = (crash < crashes).then_some((lines, and));
        let acknowledged = run(&file, moment);
        let store = open_patiently(&file).unwrap();
        let keyward = old_keys(builder(store.clone())).unwrap();
        let keyward = keyward.open().await.unwrap();
        let stored = stored(keyward.manager(), &store).await;
        let count = stored.iter().filter(|is_stored| **is_stored).count();
        assert_eq!(events(&store).await, count, "each key has its event, once");
        for row in &acknowledged {
            assert_eq!(stored.get(*row), Some(&true), "row {row} was acknowledged");
        }
        if moment.is_some() {
            continue;
        }
        assert_eq!((acknowledged.len(), count), (ROWS, ROWS));
        for row in 0..ROWS {
            let (text, any) = (old_text(row), Requirement::any_key());
            let attempt = Attempt::new(PresentedKey::text(&text), &any);
            assert!(keyward.verifier().verify(&attempt).await.is_ok(), "{row}");
        }
    }
}
