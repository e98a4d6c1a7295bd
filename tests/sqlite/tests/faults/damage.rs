//! Pages that were overwritten, and files that were cut short.
//!
//! SQLite keeps no checksums: what is damaged and still makes sense is believed. What is shown here is that nonsense is
//! never taken for a grant.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use keyward::key::PresentedKey;
use keyward::store::{CutoffScope, KeyStore as _};
use sqlite_store::Choices;
use tempfile::TempDir;

use crate::common::{
    Came, Keys, Node, PATIENCE, SHORT, actor, all_came_to, behind, beside, came, checkpoint, file,
    open, reads, told, writes,
};

/// A closed file with keys in it, all of it in the file itself.
async fn closed() -> (TempDir, PathBuf, Keys) {
    let (dir, path) = file();
    let node = Node::open(&path).await;
    let keys = Keys::of(&node).await;
    for _ in 0..100 {
        node.issue().await;
    }
    drop(node);
    checkpoint(&path);
    assert!(!beside(&path, "-wal").exists(), "closed");
    (dir, path, keys)
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn page_size(path: &Path) -> u64 {
    let sql = "PRAGMA page_size";
    let size: i64 = behind(path).query_row(sql, [], |row| row.get(0)).unwrap();
    size.try_into().unwrap()
}

/// The pages of these tables and indexes, counted from 0: of a table that is a tree, all of them.
fn pages(path: &Path, names: &[&str]) -> Vec<u64> {
    let connection = behind(path);
    let mut pages = Vec::new();
    for name in names {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let root: u32 = connection.query_row(sql, [name], |row| row.get(0)).unwrap();
        pages.push(u64::from(root) - 1);
    }
    pages
}

/// What pages are overwritten with.
fn garbage(size: u64) -> [Vec<u8>; 3] {
    let size = usize::try_from(size).unwrap();
    let mut choices = Choices::new(1);
    let random = (0..size).map(|_| choices.next().to_be_bytes()[0]).collect();
    [vec![0; size], vec![0xff; size], random]
}

#[tokio::test]
async fn a_damaged_page_makes_its_key_corrupt() {
    for kind in 0..3 {
        let (_dir, path, keys) = closed().await;
        let size = page_size(&path);
        for page in pages(&path, &["keyward_keys"]) {
            overwrite(&path, page * size, &garbage(size)[kind]);
        }
        let node = Node::open(&path).await;
        for key in [&keys.warm, &keys.cold, &keys.revoked] {
            assert!(node.is_undecidable(key).await);
            assert_eq!(came(&node.store.get(key.id()).await), Came::Corrupt);
        }
        assert_eq!(told(node.list().await), Came::Corrupt);
        assert_eq!(told(node.revoke(keys.warm.id()).await), Came::Corrupt);
        assert_eq!(told(node.try_issue().await), Came::Corrupt);
        // What does not touch it goes on.
        let now = keyward::clock::Clock::now(&node.clock).unwrap();
        let manager = node.keyward.manager();
        manager
            .deny_issued_before(&actor(), now, CutoffScope::All)
            .await
            .unwrap();
        let events = node.store.events().unwrap().read(None, 0, 1_000).await;
        assert!(events.unwrap().len() > 100);
        assert!(node.is_undecidable(&keys.warm).await);
    }
}

#[tokio::test]
async fn damaged_pages_fail_the_open() {
    for kind in 0..3 {
        let (_dir, path, _keys) = closed().await;
        let (size, length) = (page_size(&path), fs::metadata(&path).unwrap().len());
        for page in 1..length / size {
            overwrite(&path, page * size, &garbage(size)[kind]);
        }
        assert_eq!(came(&open(&path, SHORT)), Came::Corrupt);
    }
}

#[tokio::test]
async fn a_damaged_header_fails_the_open() {
    for kind in 0..3 {
        let (_dir, path, _keys) = closed().await;
        overwrite(&path, 0, &garbage(100)[kind]);
        assert_eq!(came(&open(&path, SHORT)), Came::Corrupt, "{kind}");
    }
    let (_dir, path) = file();
    fs::write(&path, "title,owner\na key,alice\n".repeat(100)).unwrap();
    assert_eq!(came(&open(&path, SHORT)), Came::Corrupt);
}

#[tokio::test]
async fn damage_while_open_grants_nothing() {
    for kind in 0..3 {
        let (_dir, path, keys) = closed().await;
        // What SQLite keeps of pages that it has read still answers, so nothing of them was read.
        let store = open(&path, PATIENCE).unwrap();
        let size = page_size(&path);
        for page in pages(&path, &["keyward_keys", "keyward_meta"]) {
            overwrite(&path, page * size, &garbage(size)[kind]);
        }
        all_came_to(&reads(&store, keys.warm.id()).await, Came::Corrupt);
        // The connection that writes has read the first of them when it was opened.
        for (call, came) in writes(&store, keys.warm.id()).await {
            let is_known = matches!(came, Came::Fine | Came::Corrupt);
            assert!(is_known, "{call}: {came:?}");
        }
    }
}

#[tokio::test]
async fn a_truncated_file_is_corrupt() {
    let (_dir, path, _keys) = closed().await;
    let (size, length) = (page_size(&path), fs::metadata(&path).unwrap().len());
    let whole = fs::read(&path).unwrap();
    for rest in [
        2,
        99,
        100,
        512,
        size - 1,
        size,
        size + 1,
        length / 2,
        length - size,
    ] {
        fs::write(&path, &whole[..usize::try_from(rest).unwrap()]).unwrap();
        assert_eq!(
            came(&open(&path, SHORT)),
            Came::Corrupt,
            "{rest} of {length}"
        );
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&path, suffix));
        }
    }
}

/// As a file that is not there: SQLite takes it for a new one, with nothing in it that could be granted.
#[tokio::test]
async fn an_emptied_file_counts_as_new() {
    for rest in [0, 1] {
        let (_dir, path, keys) = closed().await;
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(rest)
            .unwrap();
        let node = Node::open(&path).await;
        for key in [&keys.warm, &keys.cold, &keys.revoked] {
            assert!(!node.is_granted(key).await);
        }
        assert!(node.list().await.unwrap().keys.is_empty());
    }
}

/// Anywhere in the file, a few bytes at a time: none of it grants what was not granted before.
#[tokio::test]
async fn random_damage_grants_nothing_new() {
    let (_dir, path, keys) = closed().await;
    let whole = fs::read(&path).unwrap();
    let mut choices = Choices::new(7);
    let mut noticed = 0;
    for round in 0..=150 {
        let mut bytes = whole.clone();
        let length = 16 + choices.next() % 240;
        let at = match round {
            0 => 0, // This is noticed for certain: no database begins so.
            _ => choices.next() % (u64::try_from(bytes.len()).unwrap() - length),
        };
        let range = usize::try_from(at).unwrap()..usize::try_from(at + length).unwrap();
        bytes[range].fill_with(|| choices.next().to_be_bytes()[0]);
        fs::write(&path, bytes).unwrap();
        let node = match open(&path, SHORT) {
            Ok(store) => Node::try_over(store).await.ok(),
            Err(_) => None,
        };
        if let Some(node) = node {
            let what = format!("round {round}: {length} bytes at {at}");
            assert!(!node.is_granted(&keys.revoked).await, "{what}");
            let id = keys.warm.id().to_string();
            let wrong = PresentedKey::pair(&id, keys.cold.expose_secret());
            assert!(node.verify_presented(wrong).await.is_err(), "{what}");
            let read = reads(&node.store, keys.warm.id()).await;
            noticed += usize::from(read.iter().any(|(_, came)| *came != Came::Fine));
        } else {
            noticed += 1;
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&path, suffix));
        }
    }
    println!("{noticed} of 151 were noticed");
    assert!(noticed > 0);
}
