//! What the tests share: a Keyward over a file, on clocks that they set, and everything that a store can be asked.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::key::{ApiKey, KeyId, PresentedKey, RevokeReason, TenantId};
use keyward::manager::{KeyList, KeyQuery, ManageError, NewKey, Revoked};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, CutoffScope, KeyStore as _, ListQuery, Segments, SqliteOptions,
    SqliteStore, StoreError, Usage,
};
use keyward::testkit::{ManualClock, ManualMonotonicClock};
use keyward::time::OffsetDateTime;
use keyward::verifier::{
    Admitted, Attempt, Denial, DenialClass, DenialReason, KeyCache, Requirement,
};
use rusqlite::Connection;
use tempfile::TempDir;
use test_support::fixture::{READ, builder, clock};
pub(crate) use test_support::fixture::{actor, tenant};

/// How long what was read decides.
pub(crate) const BOUND: Duration = Duration::from_secs(5);
pub(crate) const INSTANT: Duration = Duration::from_nanos(1);
/// How long a store that is to give up soon waits.
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// How often such a store is asked, at most, until it had the time that it needs to say anything certain.
pub(crate) const TRIES: usize = 20;
/// No answer takes this long, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that goes away, and a file in it.
pub(crate) fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    (dir, path)
}

/// What SQLite keeps beside a file.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn open(path: &Path, patience: Duration) -> Result<SqliteStore, StoreError> {
    SqliteOptions::new().patience(patience).open(path)
}

/// A connection past the store.
pub(crate) fn behind(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

/// Brings all of the log into the file.
pub(crate) fn checkpoint(path: &Path) {
    let connection = behind(path);
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0, "somebody is reading");
}

/// A copy as a backup makes one, of what is committed now.
pub(crate) fn back_up(path: &Path, to: &Path) {
    let to = to.to_str().unwrap();
    behind(path).execute("VACUUM INTO ?1", [to]).unwrap();
}

/// Puts a backup in place, as the documentation has it: nobody has the file open.
pub(crate) fn restore(backup: &Path, path: &Path) {
    fs::copy(backup, path).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(beside(path, suffix));
    }
}

/// A Keyward over a file.
pub(crate) struct Node {
    pub(crate) keyward: Keyward,
    pub(crate) store: SqliteStore,
    pub(crate) clock: ManualClock,
    pub(crate) monotonic: ManualMonotonicClock,
}

impl Node {
    pub(crate) async fn open(path: &Path) -> Self {
        Self::over(open(path, PATIENCE).unwrap()).await
    }

    /// One that gives up soon: on a machine that holds it up for as long as that too, so that it may take several to
    /// open.
    pub(crate) async fn impatient(path: &Path) -> Self {
        let mut opened = Self::try_over(open(path, SHORT).unwrap()).await;
        for _ in 1..TRIES {
            if opened.is_ok() {
                break;
            }
            opened = Self::try_over(open(path, SHORT).unwrap()).await;
        }
        opened.unwrap()
    }

    pub(crate) async fn over(store: SqliteStore) -> Self {
        Self::try_over(store).await.unwrap()
    }

    /// One that requires the pepper.
    pub(crate) async fn peppered(path: &Path) -> Self {
        let store = open(path, PATIENCE).unwrap();
        let hashing = Hashing::recommended().pepper(pepper()).refuse_unpeppered();
        Self::hashing(store, hashing).await.unwrap()
    }

    /// One that has just been given the pepper: each digest without it is to be replaced.
    pub(crate) async fn given_a_pepper(store: SqliteStore) -> Self {
        let hashing = Hashing::recommended().pepper(pepper());
        Self::hashing(store, hashing).await.unwrap()
    }

    pub(crate) async fn try_over(store: SqliteStore) -> Result<Self, keyward::OpenError> {
        Self::hashing(store, Hashing::recommended()).await
    }

    async fn hashing(store: SqliteStore, hashing: Hashing) -> Result<Self, keyward::OpenError> {
        let (clock, monotonic) = (clock(), ManualMonotonicClock::new());
        let keyward = builder(store.clone(), clock.clone())
            .hashing(hashing)
            .cache(KeyCache::new().lease(BOUND))
            .monotonic_clock(monotonic.clone())
            .open();
        Ok(Self {
            keyward: keyward.await?,
            store,
            clock,
            monotonic,
        })
    }

    pub(crate) async fn try_issue(&self) -> Result<Arc<ApiKey>, ManageError> {
        let key = NewKey::new(tenant(), "a key", READ);
        let issued = self.keyward.manager().issue(&actor(), key).await?;
        Ok(Arc::new(issued.into_parts().0))
    }

    pub(crate) async fn issue(&self) -> Arc<ApiKey> {
        self.try_issue().await.unwrap()
    }

    pub(crate) async fn revoke(&self, id: KeyId) -> Result<Revoked, ManageError> {
        let (manager, reason) = (self.keyward.manager(), RevokeReason::Leaked);
        manager.revoke(&actor(), &tenant(), id, reason).await
    }

    pub(crate) async fn list(&self) -> Result<KeyList, ManageError> {
        let query = KeyQuery::of(&tenant());
        self.keyward.manager().list(&actor(), &query).await
    }

    pub(crate) async fn verify(&self, key: &ApiKey) -> Result<Admitted, Denial> {
        self.verify_presented(key.presented()).await
    }

    pub(crate) async fn verify_presented(
        &self,
        presented: PresentedKey<'_>,
    ) -> Result<Admitted, Denial> {
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any);
        self.keyward.verifier().verify(&attempt).await
    }

    /// Reads nothing of what it knows.
    pub(crate) fn forget(&self) {
        self.keyward.verifier().forget_all();
    }

    pub(crate) async fn is_granted(&self, key: &ApiKey) -> bool {
        self.verify(key).await.is_ok()
    }

    /// What it decides, once it does: it has to in the end.
    pub(crate) async fn decides(&self, key: &ApiKey) -> Result<Admitted, Denial> {
        let deciding = async {
            loop {
                match self.verify(key).await {
                    Err(denial) if denial.class() == DenialClass::Undecidable => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    decided => return decided,
                }
            }
        };
        in_time(deciding).await
    }

    /// That it is refused as one that was revoked.
    pub(crate) async fn is_revoked(&self, key: &ApiKey) -> bool {
        let denial = self.verify(key).await.unwrap_err();
        matches!(denial.reason(), DenialReason::Revoked { .. })
    }

    /// That it is answered with 503: neither granted nor called wrong.
    pub(crate) async fn is_undecidable(&self, key: &ApiKey) -> bool {
        match self.verify(key).await {
            Ok(_) => false,
            Err(denial) => {
                denial.class() == DenialClass::Undecidable && denial.class().status() == 503
            }
        }
    }
}

fn pepper() -> Pepper {
    Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap()
}

/// A key that a store had granted, one that it was never asked for, and one that is revoked.
pub(crate) struct Keys {
    pub(crate) warm: Arc<ApiKey>,
    pub(crate) cold: Arc<ApiKey>,
    pub(crate) revoked: Arc<ApiKey>,
}

impl Keys {
    pub(crate) async fn of(node: &Node) -> Self {
        let keys = Self {
            warm: node.issue().await,
            cold: node.issue().await,
            revoked: node.issue().await,
        };
        node.revoke(keys.revoked.id()).await.unwrap();
        node.forget();
        assert!(node.is_granted(&keys.warm).await);
        keys
    }

    /// While nothing can be read: what was granted is until the bound, and after it nothing is; all else is
    /// undecidable.
    pub(crate) async fn end_at_the_bound(&self, node: &Node) {
        node.monotonic.advance(BOUND - INSTANT);
        assert!(node.is_granted(&self.warm).await, "before the bound");
        for key in [&self.cold, &self.revoked] {
            assert!(node.is_undecidable(key).await, "before the bound");
        }
        node.monotonic.advance(INSTANT);
        for key in [&self.warm, &self.cold, &self.revoked, &self.warm] {
            assert!(node.is_undecidable(key).await, "after the bound");
        }
    }

    /// That nothing which was acknowledged is lost.
    pub(crate) async fn are_as_before(&self, node: &Node) {
        node.forget();
        assert!(node.is_granted(&self.warm).await, "the warm one");
        assert!(node.is_granted(&self.cold).await, "the cold one");
        assert!(node.is_revoked(&self.revoked).await, "the revoked one");
    }

    /// The same of a node that gives up soon, which is asked until it decides.
    pub(crate) async fn are_decided_as_before(&self, node: &Node) {
        node.forget();
        for key in [&self.warm, &self.cold] {
            assert!(node.decides(key).await.is_ok(), "the warm or the cold one");
        }
        let denial = node.decides(&self.revoked).await.unwrap_err();
        let is_revoked = matches!(denial.reason(), DenialReason::Revoked { .. });
        assert!(is_revoked, "the revoked one: {}", denial.reason());
    }
}

/// What a call came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Fine,
    Unavailable,
    Corrupt,
    Indeterminate,
    Other,
}

impl fmt::Debug for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Indeterminate => "indeterminate",
            Self::Other => "something else",
        })
    }
}

pub(crate) fn came<T>(answer: &Result<T, StoreError>) -> Came {
    match answer {
        Ok(_) => Came::Fine,
        Err(StoreError::Unavailable(_)) => Came::Unavailable,
        Err(StoreError::Corrupt(_)) => Came::Corrupt,
        Err(StoreError::Indeterminate(_)) => Came::Indeterminate,
        Err(_) => Came::Other,
    }
}

/// Asks a store that gives up soon until it says something certain. Where the machine holds it up for as long as it is
/// patient, a commit is given up that SQLite may still be waiting with: it gets the time to end, so that it is not in
/// the next one's way.
pub(crate) async fn for_certain(mut ask: impl AsyncFnMut() -> Came) -> Came {
    let mut came = ask().await;
    for _ in 1..TRIES {
        if came != Came::Indeterminate {
            break;
        }
        tokio::time::sleep(SHORT * 3).await;
        came = ask().await;
    }
    came
}

/// What each call that reads comes to. None hangs.
pub(crate) async fn reads(store: &SqliteStore, id: KeyId) -> [(&'static str, Came); 5] {
    let all = ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked);
    let events = store.events().unwrap();
    let usage = store.usage().unwrap();
    [
        ("get", came(&in_time(store.get(id)).await)),
        ("list", came(&in_time(store.list(&all)).await)),
        (
            "changes",
            came(&in_time(store.changes(None, Duration::ZERO)).await),
        ),
        ("events", came(&in_time(events.read(None, 0, 10)).await)),
        ("usage", came(&in_time(usage.read(&[id])).await)),
    ]
}

/// What each call that writes comes to: a commit, usage that is merged, and a history that is begun.
pub(crate) async fn writes(store: &SqliteStore, id: KeyId) -> [(&'static str, Came); 4] {
    let cut = set(Change::Cutoff {
        scope: CutoffScope::from(&TenantId::new("somebody-else").unwrap()),
        before: OffsetDateTime::now_utc(),
    });
    let setting = set(Change::Setting {
        name: "name".into(),
        value: "value".into(),
    });
    let used = [(id, Usage::new(OffsetDateTime::UNIX_EPOCH, 1, 0))];
    let usage = store.usage().unwrap();
    [
        (
            "commit of a cutoff",
            came(&in_time(store.commit(&cut)).await),
        ),
        (
            "commit of a setting",
            came(&in_time(store.commit(&setting)).await),
        ),
        (
            "usage that is merged",
            came(&in_time(usage.merge(change_id(), &used)).await),
        ),
        (
            "a new history",
            came(&in_time(store.begin_new_history()).await),
        ),
    ]
}

/// That each call came to this.
pub(crate) fn all_came_to(calls: &[(&'static str, Came)], expected: Came) {
    let others: Vec<_> = calls.iter().filter(|(_, came)| *came != expected).collect();
    assert!(others.is_empty(), "not {expected:?}: {others:?}");
}

pub(crate) fn change_id() -> ChangeId {
    ChangeId::generate(&OsRandom)
}

pub(crate) fn set(change: Change) -> ChangeSet {
    ChangeSet::one(change_id(), change)
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, future).await;
    answer.expect("an answer in time")
}

/// The fault that a manager was told of.
pub(crate) fn told<T>(answer: Result<T, ManageError>) -> Came {
    match answer {
        Ok(_) => Came::Fine,
        Err(ManageError::Store(error)) => came::<()>(&Err(error)),
        Err(_) => Came::Other,
    }
}
