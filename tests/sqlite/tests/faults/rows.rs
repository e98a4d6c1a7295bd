//! Rows that somebody has edited into nonsense.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyward::key::{Access, ApiKey, KeyStatus, PresentedKey};
use keyward::manager::KeyQuery;
use keyward::store::KeyStore as _;
use keyward::verifier::{DenialClass, DenialReason};
use rusqlite::params;
use tempfile::TempDir;

use crate::common::{
    BOUND, Came, Node, actor, all_came_to, behind, came, file, reads, tenant, told,
};

/// A key between two others, to be edited.
struct Edited {
    node: Node,
    key: Arc<ApiKey>,
    others: [Arc<ApiKey>; 2],
    path: PathBuf,
    _dir: TempDir,
}

impl Edited {
    async fn new() -> Self {
        let (dir, path) = file();
        let node = Node::open(&path).await;
        Self::over(node, dir, path).await
    }

    /// Under a pepper that is required.
    async fn peppered() -> Self {
        let (dir, path) = file();
        let node = Node::peppered(&path).await;
        Self::over(node, dir, path).await
    }

    async fn over(node: Node, dir: TempDir, path: PathBuf) -> Self {
        let (before, key, after) = (node.issue().await, node.issue().await, node.issue().await);
        assert!(node.is_granted(&key).await);
        Self {
            node,
            key,
            others: [before, after],
            path,
            _dir: dir,
        }
    }

    /// Sets a column, with the other key at hand as `?2`.
    fn set(&self, what: &str) {
        edit(&self.path, what, &self.key, &self.others[0]);
        self.node.forget();
    }

    /// The columns that a revocation does not write.
    fn unrevoked_columns(&self) -> Vec<u8> {
        let columns = "id tenant owner title created_at expires_at predecessor lineage digest schema document";
        let quoted = columns.split(' ').map(|column| format!("quote({column})"));
        let all = quoted.collect::<Vec<_>>().join(" || ',' || ");
        // Bytes, as a damaged text may not be UTF-8.
        let sql = format!("SELECT CAST({all} AS BLOB) FROM keyward_keys WHERE id = ?1");
        let id = [self.key.id().to_bytes()];
        let row = behind(&self.path).query_row(&sql, id, |row| row.get(0));
        row.unwrap()
    }

    async fn others_are_granted(&self) {
        for other in &self.others {
            assert!(self.node.is_granted(other).await);
        }
    }
}

fn edit(path: &Path, what: &str, key: &ApiKey, other: &ApiKey) {
    let sql = format!("UPDATE keyward_keys SET {what} WHERE id = ?1 AND ?2 IS NOT NULL");
    let ids = params![key.id().to_bytes(), other.id().to_bytes()];
    assert_eq!(behind(path).execute(&sql, ids).unwrap(), 1, "{what}");
}

const UNREADABLE: [&str; 16] = [
    "title = ''",
    "title = CAST(x'ff' AS TEXT)",
    "title = 'two' || char(10) || 'lines'",
    "owner = ''",
    "owner = 'nonsense'",
    "owner = CAST(x'c328' AS TEXT)",
    "digest = 'with a space'",
    "digest = char(0)",
    "digest = CAST(x'ff' AS TEXT)",
    "document = x''",
    "document = CAST('not JSON' AS BLOB)",
    "document = CAST('{}' AS BLOB)",
    "document = x'00ff00ff'",
    "document = zeroblob(1000000)",
    "document = substr(document, 1, length(document) - 1)",
    "schema = 65535",
];

#[tokio::test]
async fn an_unreadable_row_is_quarantined() {
    for what in UNREADABLE {
        let edited = Edited::new().await;
        let (node, key) = (&edited.node, &edited.key);
        edited.set(what);
        assert!(node.is_undecidable(key).await, "{what}");
        edited.others_are_granted().await;
        all_came_to(&reads(&node.store, key.id()).await, Came::Fine);
        let list = node.list().await.unwrap();
        assert_eq!(list.unreadable, [key.id()], "{what}");
        assert_eq!(list.keys.len(), 2, "{what}");

        // Nothing but a revocation is done to it.
        let manager = node.keyward.manager();
        let suspended = manager.suspend(&actor(), &tenant(), key.id()).await;
        assert!(suspended.is_err(), "{what}");
        let before = edited.unrevoked_columns();
        node.revoke(key.id()).await.unwrap();
        assert!(
            edited.unrevoked_columns() == before,
            "{what}: evidence is lost"
        );
        assert!(node.verify(key).await.is_err(), "{what}");
        assert!(node.list().await.unwrap().unreadable.is_empty(), "{what}");
        let revoked = KeyQuery::of(&tenant()).live_first();
        let list = manager.list(&actor(), &revoked).await.unwrap();
        assert_eq!(list.unreadable, [key.id()], "{what}: among the revoked");
        // What stood there still does, for whoever finds out what happened.
        let sql = "SELECT count(*) FROM keyward_keys WHERE id = ?1 AND revoke_reason = 'leaked'";
        let id = params![key.id().to_bytes()];
        let rows: i64 = behind(&edited.path)
            .query_row(sql, id, |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1, "{what}");
        edited.others_are_granted().await;
    }
}

#[tokio::test]
async fn a_tenant_with_a_damaged_key_is_removed() {
    for what in UNREADABLE {
        let edited = Edited::new().await;
        let (node, key) = (&edited.node, &edited.key);
        edited.set(what);
        let manager = node.keyward.manager();
        assert_eq!(
            manager.tenants(&actor(), None, 9).await.unwrap(),
            [tenant()]
        );
        let removed = manager.remove_tenant(&actor(), &tenant()).await;
        assert_eq!(removed.unwrap(), 3, "{what}");
        let tenants = manager.tenants(&actor(), None, 9).await.unwrap();
        assert_eq!(tenants, [], "{what}");
        assert!(node.store.get(key.id()).await.unwrap().is_none(), "{what}");
    }
}

#[tokio::test]
async fn a_copied_digest_grants_no_secret() {
    let edited = Edited::new().await;
    let (node, key, other) = (&edited.node, &edited.key, &edited.others[0]);
    edited.set("digest = (SELECT digest FROM keyward_keys WHERE id = ?2)");
    let id = key.id().to_string();
    for secret in [key, other] {
        let presented = PresentedKey::pair(&id, secret.expose_secret());
        let denial = node.verify_presented(presented).await.unwrap_err();
        // A digest covers the key that it is of.
        assert!(
            matches!(denial.reason(), DenialReason::Hashing(_)),
            "{denial:?}"
        );
        assert_eq!(denial.class(), DenialClass::Undecidable);
    }
    assert_eq!(node.list().await.unwrap().keys.len(), 3);
    node.revoke(key.id()).await.unwrap();
    edited.others_are_granted().await;
}

#[tokio::test]
async fn an_edited_digest_is_checked_again() {
    for waits in [false, true] {
        let edited = Edited::new().await;
        let (node, key) = (&edited.node, &edited.key);
        let own = node.store.get(key.id()).await.unwrap().unwrap().digest;
        let (head, _) = own.expose().rsplit_once('$').unwrap();
        let other = format!("{head}$nfS1n82GxobNKLTMEdb9dgZrEblflubEzinDkQCsmlM");
        for (digest, is_granted) in [(&*other, false), (own.expose(), true)] {
            let what = format!("digest = '{digest}'");
            edit(&edited.path, &what, key, &edited.others[0]);
            if waits {
                node.monotonic.advance(BOUND);
            } else {
                node.forget();
            }
            for _ in 0..2 {
                match node.verify(key).await {
                    Ok(_) => assert!(is_granted),
                    Err(denial) => {
                        let is_wrong = matches!(denial.reason(), DenialReason::WrongSecret);
                        assert!(is_wrong && !is_granted, "{denial:?}");
                    }
                }
            }
        }
        edited.others_are_granted().await;
    }
}

/// What makes sense is believed: a document does not say whose it is.
#[tokio::test]
async fn a_copied_document_breaks_no_list() {
    let edited = Edited::new().await;
    let (node, key, other) = (&edited.node, &edited.key, &edited.others[0]);
    edited.set("document = (SELECT document FROM keyward_keys WHERE id = ?2)");
    let id = key.id().to_string();
    let presented = PresentedKey::pair(&id, other.expose_secret());
    assert!(node.verify_presented(presented).await.is_err());
    assert_eq!(node.list().await.unwrap().keys.len(), 3);
    node.revoke(key.id()).await.unwrap();
    assert!(node.is_revoked(key).await);
    edited.others_are_granted().await;
}

/// Without its tenant nobody can tell whose it is, and so nobody revokes it.
#[tokio::test]
async fn an_invalid_tenant_is_undecidable() {
    for what in ["tenant = ''", "tenant = CAST(x'ff' AS TEXT)"] {
        let edited = Edited::new().await;
        let (node, key) = (&edited.node, &edited.key);
        edited.set(what);
        assert!(node.is_undecidable(key).await, "{what}");
        assert_eq!(
            came(&node.store.get(key.id()).await),
            Came::Corrupt,
            "{what}"
        );
        let list = node.list().await.unwrap();
        assert_eq!((list.keys.len(), list.unreadable.len()), (2, 0), "{what}");
        assert_eq!(told(node.revoke(key.id()).await), Came::Corrupt, "{what}");
        edited.others_are_granted().await;
    }
}

/// Whoever edits a file so that its own checks no longer hold.
#[tokio::test]
async fn rows_that_break_checks_grant_nothing() {
    for what in [
        "created_at = 9223372036854775807",
        "revoked_at = 0",
        "revoked_position = 1",
        "revoked_position = -1, revoked_at = 0, revoke_reason = 'leaked'",
        "expires_at = -9223372036854775808",
        "lineage = x'00'",
        "predecessor = x''",
        "revision = 0",
        "revision = -1",
        "schema = -1",
        "schema = 70000",
    ] {
        let edited = Edited::new().await;
        let connection = behind(&edited.path);
        let sql = format!("UPDATE keyward_keys SET {what} WHERE id = ?1");
        connection
            .execute_batch("PRAGMA ignore_check_constraints = ON")
            .unwrap();
        connection
            .execute(&sql, params![edited.key.id().to_bytes()])
            .unwrap();
        edited.node.forget();
        let verdict = edited.node.verify(&edited.key).await;
        // A revision means nothing to a verification, so long as it is a number that one may have.
        if what != "revision = 0" {
            let class = verdict.as_ref().err().map(keyward::verifier::Denial::class);
            assert_eq!(class, Some(DenialClass::Undecidable), "{what}");
        }
        edited.others_are_granted().await;
    }
}

#[tokio::test]
async fn missing_tables_are_corrupt() {
    for what in [
        "DELETE FROM keyward_meta",
        "DROP TABLE keyward_meta",
        "PRAGMA ignore_check_constraints = ON; UPDATE keyward_meta SET position = -1, head = x'00'",
        "ALTER TABLE keyward_keys RENAME TO keys",
        "ALTER TABLE keyward_keys RENAME COLUMN digest TO hash",
        "DROP TABLE keyward_cutoffs",
    ] {
        let edited = Edited::new().await;
        let node = &edited.node;
        behind(&edited.path).execute_batch(what).unwrap();
        node.forget();
        if !what.contains("position") {
            assert!(node.is_undecidable(&edited.key).await, "{what}");
            assert_eq!(told(node.list().await), Came::Corrupt, "{what}");
        }
        assert_eq!(told(node.try_issue().await), Came::Corrupt, "{what}");
    }
}

#[tokio::test]
async fn a_hand_revoked_row_is_refused() {
    let edited = Edited::new().await;
    edited.set("revoked_at = 0, revoked_position = 1, revoke_reason = 'by hand'");
    assert!(edited.node.is_revoked(&edited.key).await);
    let all = KeyQuery::of(&tenant()).status(KeyStatus::Revoked);
    let list = edited
        .node
        .keyward
        .manager()
        .list(&actor(), &all)
        .await
        .unwrap();
    assert_eq!(list.keys.len(), 1);
}

/// What SECURITY.md says of somebody who can write rows and holds the secret of one key, with a pepper or without: the
/// digest covers the secret, the id and the environment, and nothing else of the row.
#[tokio::test]
async fn a_row_writer_can_widen_a_held_key() {
    for is_peppered in [false, true] {
        let edited = match is_peppered {
            true => Edited::peppered().await,
            false => Edited::new().await,
        };
        let (node, key) = (&edited.node, &edited.key);
        let grant = async |what| {
            edited.set(what);
            let admitted = node.verify(key).await.unwrap();
            admitted.grant().record().clone()
        };
        let full = "document = CAST(json_set(CAST(document AS TEXT), \
            '$.restrictions.access', json('{\"type\":\"full\"}')) AS BLOB)";
        assert_eq!(grant(full).await.restrictions().access, Access::Full);
        let of_another = grant("tenant = 'victim', owner = 'user:admin'").await;
        assert_eq!(of_another.tenant().as_str(), "victim");
        assert_eq!(of_another.owner().to_string(), "user:admin");

        edited.set("expires_at = 0");
        assert!(node.is_undecidable(key).await, "the document differs");
        let expired = "document = CAST(json_set(CAST(document AS TEXT), \
            '$.restrictions.expires_at', '1970-01-01T00:00:00Z') AS BLOB)";
        edited.set(expired);
        assert!(node.verify(key).await.is_err(), "expired");
        let endless = "expires_at = NULL, document = CAST(json_set(CAST(document AS TEXT), \
            '$.restrictions.expires_at', NULL) AS BLOB)";
        assert_eq!(grant(endless).await.restrictions().expires_at, None);

        let suspended = "document = CAST(json_set(CAST(document AS TEXT), \
            '$.suspended_at', '2026-01-01T00:00:00Z') AS BLOB)";
        edited.set(suspended);
        assert!(node.verify(key).await.is_err(), "suspended");
        let resumed =
            "document = CAST(json_set(CAST(document AS TEXT), '$.suspended_at', NULL) AS BLOB)";
        grant(resumed).await;

        edited.set("revoked_at = 0, revoked_position = 1, revoke_reason = 'leaked'");
        assert!(node.is_revoked(key).await);
        let revived = "revoked_at = NULL, revoked_position = NULL, revoke_reason = NULL";
        assert_eq!(grant(revived).await.revocation(), None);
        edited.others_are_granted().await;
    }
}

/// What such a person cannot do: make a digest under a required pepper, or use one in another row or environment.
#[tokio::test]
async fn a_row_writer_forges_no_digest() {
    let edited = Edited::peppered().await;
    let (node, key, other) = (&edited.node, &edited.key, &edited.others[0]);

    // A row made elsewhere, where the writer knows the secret and no pepper is needed.
    let (_elsewhere, path) = file();
    let makers = Node::open(&path).await;
    let made = makers.issue().await;
    let from = path.to_str().unwrap();
    let connection = behind(&edited.path);
    connection
        .execute("ATTACH DATABASE ?1 AS elsewhere", [from])
        .unwrap();
    let copied = "INSERT INTO main.keyward_keys SELECT * FROM elsewhere.keyward_keys";
    assert_eq!(connection.execute(copied, []).unwrap(), 1);
    node.forget();
    let denial = node.verify(&made).await.unwrap_err();
    assert_eq!(denial.class(), DenialClass::Undecidable, "{denial:?}");

    // The digest of one key in the row of another, and a document that names another environment.
    edited.set("digest = (SELECT digest FROM keyward_keys WHERE id = ?2)");
    for secret in [key, other] {
        let id = key.id().to_string();
        let presented = PresentedKey::pair(&id, secret.expose_secret());
        assert!(node.verify_presented(presented).await.is_err());
    }
    let elsewhere =
        "document = CAST(json_set(CAST(document AS TEXT), '$.environment', 'live') AS BLOB)";
    edit(&edited.path, elsewhere, other, key);
    node.forget();
    assert!(node.verify(other).await.is_err());
}
