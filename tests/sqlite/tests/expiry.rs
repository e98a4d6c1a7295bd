//! Promise 23 on SQLite: within one process no answer of the manager or the verifier revives a key that was seen ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../trust/t23_expiry/world.rs"]
mod world;

use std::cell::Cell;

use keyward::store::SqliteStore;

#[tokio::test]
async fn an_ended_key_is_never_revived() {
    let folder = sqlite_store::fast_folder().unwrap();
    let files = Cell::new(0);
    let store = || {
        files.set(files.get() + 1);
        SqliteStore::open(folder.path().join(format!("{}.db", files.get()))).unwrap()
    };
    world::holds(store, 10).await;
    world::catches_planted_bugs(store).await;
}
