//! The promises that depend on the store, over SQLite, by the same tests as over memory (`main.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    unused_imports,
    reason = "helpers of the promises that do not depend on the store"
)]

mod common;
mod operations;
mod request_ids;
mod t01_revoked_is_refused;
mod t03_lease;
mod t04_fill_races;
mod t14_retries;
mod t16_dropped_futures;
mod t18_events;
mod t23_expiry;
mod t31_changed_keys;
mod t36_purged_is_gone;

/// The store under test.
mod store {
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    use keyward::store::{KeyStore, SqliteStore};
    use rusqlite::Connection;
    use sqlite_store::{assert_nothing_is_open, fast_folder, open_patiently};
    use tempfile::TempDir;

    pub(crate) const IS_ON_DISK: bool = true;
    /// Time after which a call that nobody polls may have been done.
    pub(crate) const LATER: Duration = Duration::from_millis(4);
    /// Times after which calls are dropped.
    pub(crate) const PAUSES: [Duration; 2] = [Duration::ZERO, LATER];
    const FILE: &str = "keys.db";

    /// A SQLite store over a file of its own, which goes with the last handle.
    #[derive(Debug, Clone)]
    pub(crate) struct Store {
        store: SqliteStore,
        folder: Arc<TempDir>,
    }

    impl Store {
        pub(crate) fn new() -> Self {
            Self::over(Arc::new(fast_folder().unwrap()))
        }

        fn over(folder: Arc<TempDir>) -> Self {
            let store = open_patiently(folder.path().join(FILE)).unwrap();
            Self { store, folder }
        }
    }

    impl Default for Store {
        fn default() -> Self {
            Self::new()
        }
    }

    /// The bytes of a store's file.
    pub(crate) type Image = Vec<u8>;

    /// Reads all that a store holds. Nobody may write to it meanwhile.
    pub(crate) async fn image(store: &Store) -> Option<Image> {
        assert_settled(store).await;
        Some(fs::read(store.folder.path().join(FILE)).unwrap())
    }

    /// Makes another store that holds the same.
    pub(crate) fn restored(image: &Image) -> Store {
        let folder = fast_folder().unwrap();
        fs::write(folder.path().join(FILE), image).unwrap();
        Store::over(Arc::new(folder))
    }

    /// Opens the store once more, as another process does.
    pub(crate) fn opened_again(store: &Store) -> Store {
        Store::over(Arc::clone(&store.folder))
    }

    /// Waits for what dropped calls have begun, and asserts that they left nothing open, and that each change in the
    /// feed has its event.
    pub(crate) async fn assert_settled(store: &Store) {
        let path = store.folder.path().join(FILE);
        assert_nothing_is_open(&store.store, &path).await;
        let agree = "SELECT (SELECT count(*) FROM keyward_feed) = (SELECT events FROM keyward_meta) \
                     AND (SELECT max(position) FROM keyward_feed) = (SELECT position FROM keyward_meta)";
        let connection = Connection::open(path).unwrap();
        let agree = connection.query_row(agree, [], |row| row.get(0));
        assert_eq!(agree, Ok(true), "feed, log and counters differ");
    }

    impl KeyStore for Store {
        test_support::passes_on!(store: get list tenants commit changes events usage);
    }
}
