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
    }
);
