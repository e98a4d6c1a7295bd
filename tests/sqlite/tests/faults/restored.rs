//! A backup is put in the place of what has gone on since.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyward::clock::Clock as _;
use keyward::key::{ApiKey, Network, RevokeReason};
use keyward::manager::{KeyBound, KeyUpdate, Overlap};
use keyward::store::{Cursor, CutoffScope, FeedPage, KeyStore as _, SqliteStore};
use keyward::verifier::DenialReason;
use tempfile::TempDir;

use crate::common::{Node, actor, back_up, file, in_time, restore, tenant};

const HOUR: Duration = Duration::from_hours(1);

/// A file from a backup that knows nothing of a revocation, and what was exported of it since.
struct Restored {
    node: Node,
    revoked: Arc<ApiKey>,
    exported: Vec<KeyBound>,
    cursor: Cursor,
    _dir: TempDir,
    path: PathBuf,
}

async fn cursor(node: &Node) -> Cursor {
    match node.store.changes(None, Duration::ZERO).await.unwrap() {
        FeedPage::Resync { next } => next,
        page @ FeedPage::Next { .. } => panic!("{page:?}"),
    }
}

impl Restored {
    async fn new() -> Self {
        let (dir, path) = file();
        let node = Node::open(&path).await;
        let (revoked, kept) = (node.issue().await, node.issue().await);
        let backup = dir.path().join("backup.db");
        back_up(&path, &backup);
        node.revoke(revoked.id()).await.unwrap();
        assert!(node.is_revoked(&revoked).await);
        let manager = node.keyward.manager();
        let (actor, tenant) = (actor(), tenant());
        let exported = manager.export_restrictions(&actor, &tenant, None).await;
        let exported = exported.unwrap().restrictions;
        let cursor = cursor(&node).await;
        drop(node);
        restore(&backup, &path);
        let node = Node::open(&path).await;
        assert!(node.is_granted(&kept).await);
        Self {
            node,
            revoked,
            exported,
            cursor,
            _dir: dir,
            path,
        }
    }

    async fn begin_anew(&self) {
        self.node.store.begin_new_history().await.unwrap();
    }
}

#[tokio::test]
async fn a_cutoff_ends_revived_keys() {
    let restored = Restored::new().await;
    let (node, key) = (&restored.node, &restored.revoked);
    restored.begin_anew().await;
    assert!(node.is_granted(key).await, "the backup has revived it");
    node.clock.advance(Duration::from_secs(1));
    let (manager, now) = (node.keyward.manager(), node.clock.now().unwrap());
    manager
        .deny_issued_before(&actor(), now, CutoffScope::All)
        .await
        .unwrap();
    for node in [node, &Node::open(&restored.path).await] {
        let denial = node.verify(key).await.unwrap_err();
        let is_ended = matches!(denial.reason(), DenialReason::CutOff);
        assert!(is_ended, "{}", denial.reason());
    }
    node.clock.advance(Duration::from_secs(1));
    let fresh = node.issue().await;
    assert!(node.is_granted(&fresh).await);
}

#[tokio::test]
async fn a_replay_revokes_revived_keys() {
    let restored = Restored::new().await;
    let (node, key) = (&restored.node, &restored.revoked);
    restored.begin_anew().await;
    assert!(node.is_granted(key).await, "the backup has revived it");
    let manager = node.keyward.manager();
    let (actor, exported) = (actor(), restored.exported.clone());
    let replayed = manager.replay_restrictions(&actor, exported).await;
    assert_eq!(replayed.unwrap().revoked, 1);
    assert!(node.is_revoked(key).await);
    assert!(Node::open(&restored.path).await.is_revoked(key).await);
}

#[tokio::test]
async fn a_replay_narrows_widened_keys() {
    let (dir, path) = file();
    let node = Node::open(&path).await;
    let (suspended, narrowed) = (node.issue().await, node.issue().await);
    let (ended, superseded) = (node.issue().await, node.issue().await);
    let all = [&suspended, &narrowed, &ended, &superseded];
    let backup = dir.path().join("backup.db");
    back_up(&path, &backup);
    let (actor, tenant) = (actor(), tenant());
    let manager = node.keyward.manager();
    let id = suspended.id();
    manager.suspend(&actor, &tenant, id).await.unwrap();
    let rotated = manager.rotate(&actor, &tenant, superseded.id(), Overlap::For(HOUR));
    rotated.await.unwrap();
    let network: Network = "10.0.0.0/8".parse().unwrap();
    let update = KeyUpdate::new().networks(network);
    let updated = manager.update(&actor, &tenant, narrowed.id(), update).await;
    let updated = updated.unwrap();
    let revoke = RevokeReason::Requested;
    let revoked = manager.revoke(&actor, &tenant, ended.id(), revoke);
    revoked.await.unwrap();
    node.clock.advance(HOUR);
    let now = node.clock.now().unwrap();
    let exported = manager.export_restrictions(&actor, &tenant, None).await;
    let exported = exported.unwrap().restrictions;
    drop(node);

    restore(&backup, &path);
    let node = Node::open(&path).await;
    node.clock.set(now);
    for key in all {
        assert!(node.is_granted(key).await, "the backup has revived it");
    }
    node.store.begin_new_history().await.unwrap();
    let manager = node.keyward.manager();
    for (revoked, narrowed, already) in [(1, 3, 0), (0, 0, 4)] {
        let replayed = manager.replay_restrictions(&actor, exported.clone());
        let replayed = replayed.await.unwrap();
        assert_eq!(replayed.revoked, revoked);
        assert_eq!(replayed.narrowed, narrowed);
        assert_eq!(replayed.already, already);
        assert_eq!(replayed.missing, 1, "the successor is not in the backup");
        assert!(replayed.suspended.is_empty() && replayed.unreadable.is_empty());
    }
    let there = Node::open(&path).await;
    there.clock.set(now);
    for node in [&node, &there] {
        for key in all {
            assert!(!node.is_granted(key).await);
        }
        let record = node
            .keyward
            .manager()
            .get(&actor, &tenant, narrowed.id())
            .await;
        assert_eq!(record.unwrap().restrictions(), updated.restrictions());
    }
}

/// Whether somebody who heard news of before the restoration takes those of after it for their continuation.
async fn is_taken_for_the_same(restored: &Restored) -> bool {
    // As many commits as were lost, so that the position is where it was.
    restored.node.issue().await;
    let page = restored
        .node
        .store
        .changes(Some(&restored.cursor), Duration::ZERO);
    matches!(page.await.unwrap(), FeedPage::Next { .. })
}

#[tokio::test]
async fn a_new_history_makes_readers_resync() {
    let restored = Restored::new().await;
    restored.begin_anew().await;
    assert!(!is_taken_for_the_same(&restored).await);
    let begun = cursor(&restored.node).await;
    restored.node.issue().await;
    let page = restored.node.store.changes(Some(&begun), Duration::ZERO);
    assert!(matches!(page.await.unwrap(), FeedPage::Next { items, .. } if items.len() == 1));

    // And without it they would not.
    let restored = Restored::new().await;
    assert!(is_taken_for_the_same(&restored).await);
}

#[tokio::test]
async fn a_new_history_wakes_waiters() {
    let (_dir, path) = file();
    let node = Node::open(&path).await;
    let (here, there) = (cursor(&node).await, Node::open(&path).await);
    let waiting = |store: SqliteStore| {
        let here = here.clone();
        async move {
            let wait = Duration::from_hours(1);
            in_time(store.changes(Some(&here), wait)).await.unwrap()
        }
    };
    let waiting = [
        tokio::spawn(waiting(node.store.clone())),
        tokio::spawn(waiting(there.store.clone())),
    ];
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.store.begin_new_history().await.unwrap();
    for waiting in waiting {
        assert!(matches!(waiting.await.unwrap(), FeedPage::Resync { .. }));
    }
}
