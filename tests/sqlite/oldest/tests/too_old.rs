//! A SQLite that lacks what the tables are made with: the system's, made to say that it is older than it is.

use std::error::Error;
use std::process::Command;

use keyward::store::{SqliteStore, StoreError};

const SAYS: &str = "int sqlite3_libversion_number(void) { return 3034001; }\n";
const LIBRARY: &str = "KEYWARD_TEST_OLD_SQLITE";

#[test]
fn an_old_sqlite_is_refused() {
    if std::env::var_os(LIBRARY).is_some() {
        return is_not_opened();
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("old.c"), folder.path().join("old.so"));
    std::fs::write(&source, SAYS).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]);
    let compiled = compiler.arg(&library).arg(&source).status().unwrap();
    assert!(compiled.success());

    // This test once more, in a process whose SQLite says so.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_old_sqlite_is_refused"])
        .env("LD_PRELOAD", &library)
        .env(LIBRARY, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{printed}");
    assert!(printed.contains("1 passed"), "{printed}");
}

fn is_not_opened() {
    assert_eq!(rusqlite::version_number(), 3_034_001);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let why = error.source().unwrap().to_string();
    assert_eq!(
        why,
        "SQLite 3.34.1 is too old: Keyward needs 3.38.0 or later"
    );
    assert!(!path.exists(), "no file is made for it");
}
