//! The backend keeps the store's contract.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use downstream::RedbStore;

keyward::testkit::conformance!(
    || async {
        let dir = tempfile::tempdir()?;
        let store = RedbStore::open(dir.path().join("keys.redb"))?;
        Ok(((store.clone(), dir), store))
    },
    forget: |(store, _dir): &(RedbStore, tempfile::TempDir), position| {
        let store = store.clone();
        async move { Ok(store.forget_changes(position).await?) }
    },
    damage: |(store, _dir): &(RedbStore, tempfile::TempDir), id, title: String| {
        let store = store.clone();
        async move { Ok(store.edit_row(id, |row| retitled(row, title)).await?) }
    }
);

/// The row with this title in its first line, which holds the columns.
fn retitled(row: &[u8], title: String) -> Vec<u8> {
    let end = row.iter().position(|byte| *byte == b'\n').unwrap();
    let (columns, document) = row.split_at(end);
    let mut columns: serde_json::Value = serde_json::from_slice(columns).unwrap();
    columns["title"] = title.into();
    [columns.to_string().as_bytes(), document].concat()
}
