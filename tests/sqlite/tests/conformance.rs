//! The backend keeps the store's contract.

keyward::testkit::conformance!(|| async {
    let dir = tempfile::tempdir()?;
    let store = keyward::store::SqliteStore::open(dir.path().join("keys.db"))?;
    Ok((dir, store))
});
