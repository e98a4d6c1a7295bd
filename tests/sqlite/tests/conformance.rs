//! The backend keeps the store's contract.

use keyward::key::KeyId;
use keyward::store::SqliteStore;
use rusqlite::{Connection, params};
use tempfile::TempDir;

keyward::testkit::conformance!(
    || async {
        let dir = tempfile::tempdir()?;
        let store = SqliteStore::open(dir.path().join("keys.db"))?;
        Ok((dir, store))
    },
    forget: |dir: &TempDir, position| {
        let path = dir.path().join("keys.db");
        async move {
            let sql = "DELETE FROM keyward_feed WHERE position <= ?1";
            Connection::open(path)?.execute(sql, [i64::try_from(position)?])?;
            Ok(())
        }
    },
    damage: |dir: &TempDir, id: KeyId, title: String| {
        let path = dir.path().join("keys.db");
        async move {
            let sql = "UPDATE keyward_keys SET title = ?2 WHERE id = ?1";
            Connection::open(path)?.execute(sql, params![id.to_bytes(), title])?;
            Ok(())
        }
    }
);
