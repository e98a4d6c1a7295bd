//! The backend keeps the store's contract.

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
    damage: |(store, _dir): &(RedbStore, tempfile::TempDir), id| {
        let store = store.clone();
        // No title holds a control character.
        let edit = |row: &[u8]| {
            let row = String::from_utf8_lossy(row);
            row.replacen("\"title\":\"", "\"title\":\"\\u0007", 1).into()
        };
        async move { Ok(store.edit_row(id, edit).await?) }
    }
);
