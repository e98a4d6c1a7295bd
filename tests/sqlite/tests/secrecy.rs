//! Who can read the files of a store, and how long they hold digests that were replaced.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use keyward::key::{Digest, KeyId, StoredKey};
use keyward::random::OsRandom;
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, Outcome, SqliteStore};
use rusqlite::Connection;
use sqlite_store::{HANGS, holds};
use test_support::fixture::stored_key;

const OLD: &str = "$old$a-digest-that-is-replaced";
const NEW: &str = "$new$a-digest-that-replaces-it";

async fn commit(store: &SqliteStore, change: Change) -> Outcome {
    let set = ChangeSet::one(ChangeId::generate(&OsRandom), change);
    let committed = store.commit(&set).await.unwrap();
    committed.outcomes.into_iter().next().unwrap()
}

/// Stores a key with the old digest, of which the log then has a copy.
async fn insert_old(store: &SqliteStore, dir: &Path) {
    let key = StoredKey {
        digest: Digest::new(OLD).unwrap(),
        ..stored_key(KeyId::from_u128(1))
    };
    commit(store, Change::Insert(Box::new(key))).await;
    assert!(holds(dir, OLD).unwrap(), "the digest is stored");
}

async fn rehash(store: &SqliteStore) {
    let change = Change::Rehash {
        id: KeyId::from_u128(1),
        from: Digest::new(OLD).unwrap(),
        to: Digest::new(NEW).unwrap(),
    };
    assert_eq!(commit(store, change).await, Outcome::Rehashed);
}

/// Waits until no file in the folder holds the old digest.
async fn assert_forgotten(dir: &Path) {
    let begun = Instant::now();
    while holds(dir, OLD).unwrap() {
        assert!(begun.elapsed() < HANGS, "the old digest is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(holds(dir, NEW).unwrap(), "the new digest is there");
}

#[tokio::test]
async fn a_replaced_digest_leaves_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("keys.db")).unwrap();
    insert_old(&store, dir.path()).await;
    rehash(&store).await;
    assert_forgotten(dir.path()).await;
    drop(store);
}

#[test]
fn another_runtime_goes_on_emptying_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("keys.db")).unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    // It ends before the log is emptied.
    runtime().block_on(async {
        insert_old(&store, dir.path()).await;
        rehash(&store).await;
    });
    runtime().block_on(async {
        let more = StoredKey {
            digest: Digest::new("$another").unwrap(),
            ..stored_key(KeyId::from_u128(2))
        };
        let id = more.id;
        commit(&store, Change::Insert(Box::new(more))).await;
        let change = Change::Rehash {
            id,
            from: Digest::new("$another").unwrap(),
            to: Digest::new("$other").unwrap(),
        };
        assert_eq!(commit(&store, change).await, Outcome::Rehashed);
        assert_forgotten(dir.path()).await;
    });
}

#[tokio::test]
async fn a_reader_delays_emptying_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    insert_old(&store, dir.path()).await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM keyward_keys";
    let keys: i64 = reader.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(keys, 1);
    rehash(&store).await;
    // Longer than the first attempt takes to come. The reader still sees the old row, and commits go on.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(holds(dir.path(), OLD).unwrap());
    let more = stored_key(KeyId::from_u128(2));
    commit(&store, Change::Insert(Box::new(more))).await;
    reader.execute_batch("COMMIT").unwrap();
    assert_forgotten(dir.path()).await;
}

#[cfg(unix)]
mod permissions {
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};

    use keyward::store::SqliteOptions;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// Asserts the mode of the file, and of the files that SQLite puts beside it.
    fn assert_modes(path: &Path, expected: u32) {
        for suffix in ["", "-wal", "-shm"] {
            let file = format!("{}{suffix}", path.display());
            let mode = mode(Path::new(&file));
            assert_eq!(mode, expected, "{file}: {mode:o}, not {expected:o}");
        }
    }

    /// Returns the mode of a file that this process creates with a mode, after its `umask`.
    fn after_umask(dir: &Path, asked: u32) -> u32 {
        let path = dir.join("probe");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(asked);
        options.open(&path).unwrap();
        let mode = mode(&path);
        fs::remove_file(path).unwrap();
        mode
    }

    #[tokio::test]
    async fn other_users_cannot_read_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.db");
        let store = SqliteStore::open(&path).unwrap();
        insert_old(&store, dir.path()).await;
        assert_modes(&path, 0o600);
    }

    #[tokio::test]
    async fn a_new_file_has_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let expected = after_umask(dir.path(), 0o660);
        let path = dir.path().join("keys.db");
        let store = SqliteOptions::new().mode(0o660).open(&path).unwrap();
        insert_old(&store, dir.path()).await;
        assert_modes(&path, expected);
    }

    #[tokio::test]
    async fn a_new_file_behind_a_link_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), dir.path().join("keys.db"));
        symlink(&file, &link).unwrap();
        let store = SqliteStore::open(&link).unwrap();
        insert_old(&store, dir.path()).await;
        assert_eq!(mode(&file), 0o600);
    }

    #[tokio::test]
    async fn a_file_that_exists_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.db");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        insert_old(&store, dir.path()).await;
        assert_modes(&path, 0o644);
    }

    #[test]
    fn many_threads_may_create_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.db");
        let open = || {
            let opened = SqliteOptions::new().patience(HANGS).open(&path);
            assert!(opened.is_ok(), "{opened:?}");
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(open);
            }
        });
        assert_eq!(mode(&path), 0o600);
    }
}
