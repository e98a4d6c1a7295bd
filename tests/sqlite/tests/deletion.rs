//! Promise 36 for SQLite: what was purged is gone from the store, and the rest of the log still verifies. A program
//! that issues, purges, removes tenants and cuts the log is killed again and again over the same file, as in
//! `crash.rs`. In the end everything is removed, and no file of the store holds a byte of an owner's name or a title.
//!
//! 40 times by default; `KEYWARD_CRASHES=1000` says how often.
//!
//! Planted bugs that it catches: a purge without its event, or an event without its purge; a tombstone that is not
//! written; usage that stays; events that are removed before the one that records it; a connection without
//! `secure_delete`; the names of owners left in the feed, or in the cutoffs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyward::audit::{EventAction, SealedEvent, verify_log};
use keyward::key::{KeyId, Principal, RevokeReason};
use keyward::manager::{ManageError, RevokeAll};
use keyward::store::{EventLog, KeyStore, SqliteStore, StoreError};
use keyward::time::OffsetDateTime;
use rusqlite::Connection;
use sqlite_store::{Choices, OWNER, TITLE, actor, builder, holds, is_granted, new_key, tenant};
use tempfile::TempDir;
use test_support::size;

fn crashes() -> usize {
    size("KEYWARD_CRASHES", 40) as usize
}

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    (dir, path)
}

async fn log(store: &SqliteStore) -> Vec<SealedEvent> {
    let events = EventLog::read(store, None, 0, usize::MAX).await.unwrap();
    verify_log(&events).unwrap();
    events
}

/// Runs the program, kills it once it has said so many lines, and a while after that, and returns all that it said.
fn run(path: &Path, seed: usize, lines: usize, and: Duration) -> Vec<String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crash_program"));
    let program = program.arg("delete").arg(path).arg(seed.to_string());
    let mut running = program.stdout(Stdio::piped()).spawn().unwrap();
    let out = running.stdout.take().unwrap();
    let (heard, hearing) = mpsc::channel();
    let listening = thread::spawn(move || {
        let mut out = BufReader::new(out);
        loop {
            let mut line = String::new();
            // A line that was cut off was never said.
            if out.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return;
            }
            heard.send(line.trim_end().to_owned()).unwrap();
        }
    });
    let mut said: Vec<_> = hearing.iter().take(lines + 1).collect();
    thread::sleep(and);
    running.kill().unwrap();
    let ended = running.wait().unwrap();
    listening.join().unwrap();
    assert!(!ended.success(), "it ended by itself: {ended}");
    said.extend(hearing);
    said
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What has to be true of a file at any moment.
fn is_whole(path: &Path) {
    let connection = Connection::open(path).unwrap();
    for (sql, what) in [
        (
            "SELECT count(*) FROM keyward_purged JOIN keyward_keys USING (id)",
            "keys that were purged and are there",
        ),
        (
            "SELECT count(*) FROM keyward_usage WHERE id NOT IN (SELECT id FROM keyward_keys)",
            "usage of keys that are not there",
        ),
        (
            "SELECT count(*) FROM keyward_events WHERE tenant IS NOT NULL AND number <= \
             (SELECT coalesce(max(CAST(json_extract(event, '$.changes[1].to') AS INTEGER)), 0) \
              FROM keyward_events WHERE json_extract(event, '$.action') = 'events_cut')",
            "events that were cut and are there",
        ),
        (
            "SELECT (SELECT max(number) FROM keyward_events) - (SELECT events FROM keyward_meta)",
            "events that are missing at the end",
        ),
    ] {
        assert_eq!(count(&connection, sql), 0, "{what}");
    }
}

/// Checks what was acknowledged, and that each removal that is told was done.
async fn check(path: &Path, said: &[String], issued: &mut HashSet<KeyId>) {
    is_whole(path);
    let store = SqliteStore::open(path).unwrap();
    let mut told = HashSet::new();
    for sealed in log(&store).await {
        if sealed.event.action == EventAction::KeyPurged {
            told.insert(sealed.event.key.unwrap());
        }
    }
    for line in said {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["issued", id] => {
                issued.insert(id.parse().unwrap());
            }
            ["purged", id] => {
                told.insert(id.parse().unwrap());
            }
            ["opened"] | ["cut", _] | ["removed", _, _] => {}
            _ => panic!("not a line of the program: {line}"),
        }
    }
    for id in &told {
        assert_eq!(store.get(*id).await.unwrap(), None, "{id} was purged");
    }
    let connection = Connection::open(path).unwrap();
    let mut is_purged = connection
        .prepare("SELECT 1 FROM keyward_purged WHERE id = ?1")
        .unwrap();
    for id in told.iter().chain(&*issued) {
        let is_there = store.get(*id).await.unwrap().is_some();
        let is_purged = is_purged.exists([id.to_bytes()]).unwrap();
        assert!(is_there != is_purged, "{id} is there: {is_there}");
    }
}

/// Removes the tenants and the log.
async fn remove_all(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    for n in 0..3 {
        let tenant = tenant(&format!("tenant-{n}")).unwrap();
        let removed = keyward.manager().remove_tenant(&actor(), &tenant).await;
        removed.unwrap();
    }
    let now = OffsetDateTime::now_utc();
    let cut = keyward.manager().cut_events(&actor(), now).await;
    cut.unwrap();
    store.vacuum().await.unwrap();
}

/// Empties the write-ahead log, as the last process that closes the file does.
fn gather(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_mins(1)).unwrap();
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    assert_eq!(count(&connection, truncate), 0, "somebody has it open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_leaves_each_deletion_whole() {
    let mut choices = Choices::new(36);
    let (dir, path) = file();
    let mut issued = HashSet::new();
    let mut deeds = HashSet::new();
    for crash in 0..crashes() {
        let lines = choices.below(60);
        let and = Duration::from_micros(choices.below(4_000).try_into().unwrap());
        let said = run(&path, crash, lines, and);
        check(&path, &said, &mut issued).await;
        let words = said.iter().filter_map(|line| line.split(' ').next());
        deeds.extend(words.map(str::to_owned));
    }
    for deed in ["purged", "removed", "cut"] {
        assert!(deeds.contains(deed), "it was busy: {deeds:?}");
    }
    let keyward = builder(SqliteStore::open(&path).unwrap())
        .open()
        .await
        .unwrap();
    let left = tenant("tenant-0").unwrap();
    let key = new_key(&left, TITLE).owner(Principal::user(OWNER).unwrap());
    keyward.manager().issue(&actor(), key).await.unwrap();
    drop(keyward);
    gather(&path);
    assert!(holds(dir.path(), OWNER).unwrap() && holds(dir.path(), TITLE).unwrap());
    remove_all(&path).await;
    assert!(
        !holds(dir.path(), OWNER).unwrap(),
        "an owner is in the file"
    );
    assert!(!holds(dir.path(), TITLE).unwrap(), "a title is in the file");
}

#[tokio::test]
async fn a_removed_tenant_leaves_no_bytes() {
    let (dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, owner) = (keyward.manager(), Principal::user(OWNER).unwrap());
    let gone = tenant("tenant-1").unwrap();
    let mut keys = Vec::new();
    // Long enough texts, and enough of them, that pages are split, merged and given up.
    for n in 0..400 {
        let title = format!("{TITLE} {n} {}", "x".repeat(n % 70));
        let key = new_key(&gone, &title).owner(owner.clone());
        let key = manager.issue(&actor(), key).await.unwrap();
        let stays = new_key(&tenant("stays").unwrap(), &"y".repeat(n % 90 + 1));
        manager.issue(&actor(), stays).await.unwrap();
        keys.push(key);
    }
    let (id, reason) = (keys[0].record().id(), RevokeReason::other(TITLE).unwrap());
    manager.revoke(&actor(), &gone, id, reason).await.unwrap();
    assert!(is_granted(&keyward, &keys[1]).await);
    keyward.flush_usage().await.unwrap();
    let all = RevokeAll::new(RevokeReason::Leaked).owner(&owner);
    manager.revoke_all(&actor(), &gone, all).await.unwrap();
    let removed = manager.remove_tenant(&actor(), &gone).await.unwrap();
    assert_eq!(removed, 400);
    let now = OffsetDateTime::now_utc();
    manager.cut_events(&actor(), now).await.unwrap();
    // While it is open.
    store.vacuum().await.unwrap();
    assert!(
        !holds(dir.path(), OWNER).unwrap(),
        "an owner is in the file"
    );
    assert!(!holds(dir.path(), TITLE).unwrap(), "a title is in the file");
    let connection = Connection::open(&path).unwrap();
    let (keys, purged) = (
        count(&connection, "SELECT count(*) FROM keyward_keys"),
        count(&connection, "SELECT count(*) FROM keyward_purged"),
    );
    assert_eq!((keys, purged), (400, 400), "ids stay taken");
    log(&store).await;
    manager
        .issue(&actor(), new_key(&gone, "anew"))
        .await
        .unwrap();
}

/// What somebody did to the log behind the store's back, and the event at which it shows.
const TAMPERING: [(&str, &str); 6] = [
    ("DELETE FROM keyward_events WHERE number = 2", "event 3"),
    ("DELETE FROM keyward_events WHERE number <= 3", "event 4"),
    (
        "UPDATE keyward_events SET event = replace(event, 'a key', 'no key') WHERE number = 5",
        "event 5",
    ),
    (
        "UPDATE keyward_events SET event = replace(event, '\"through\",\"from\":null,\"to\":\"1\"', \
         '\"through\",\"from\":null,\"to\":\"2\"') WHERE number = 7; DELETE FROM keyward_events WHERE number = 2",
        "event 7",
    ),
    (
        "UPDATE keyward_events SET hash = zeroblob(32) WHERE number = 2",
        "event 3",
    ),
    ("DELETE FROM keyward_events WHERE number = 7", "event 2"),
];

#[tokio::test]
async fn a_tampered_log_is_not_cut() {
    let acme = tenant("acme-inc").unwrap();
    for (tampering, breaks) in TAMPERING {
        let (_dir, path) = file();
        let keyward = builder(SqliteStore::open(&path).unwrap())
            .open()
            .await
            .unwrap();
        let manager = keyward.manager();
        manager
            .issue(&actor(), new_key(&acme, "a key"))
            .await
            .unwrap();
        let first = OffsetDateTime::now_utc();
        for _ in 0..5 {
            manager
                .issue(&actor(), new_key(&acme, "a key"))
                .await
                .unwrap();
        }
        let cut = manager.cut_events(&actor(), first).await.unwrap();
        assert_eq!(cut, 1);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(tampering).unwrap();
        assert!(connection.total_changes() > 0, "{tampering}");
        let store = SqliteStore::open(&path).unwrap();
        let events = EventLog::read(&store, None, 0, usize::MAX).await.unwrap();
        let broken = verify_log(&events).unwrap_err().to_string();
        assert!(broken.ends_with(breaks), "{tampering}: {broken}");
        let now = OffsetDateTime::now_utc();
        let cut = manager.cut_events(&actor(), now).await;
        assert!(
            matches!(cut, Err(ManageError::Store(StoreError::Corrupt(_)))),
            "{tampering}: {cut:?}"
        );
        let after = EventLog::read(&store, None, 0, usize::MAX).await.unwrap();
        assert_eq!(after, events, "{tampering}");
    }
}
