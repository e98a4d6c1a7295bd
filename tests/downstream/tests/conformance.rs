//! The backend keeps the store's contract.

keyward::testkit::conformance!(|| async {
    let dir = tempfile::tempdir()?;
    let store = downstream::RedbStore::open(dir.path().join("keys.redb"))?;
    Ok((dir, store))
});
