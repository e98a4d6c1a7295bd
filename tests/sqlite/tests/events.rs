//! Promise 18 for SQLite: no change but revocation commits without its event; events = operations. Random operations of
//! several tasks run into random faults in front of the store; then the log is held against what was answered, against
//! the feed and against the rows. And a log that takes no event, or only some, stops everything but a revocation.
//!
//! Planted bugs that it catches: events that are added outside the transaction; a log without the savepoint that
//! undoes half of a commit's events; a revocation that goes on in a transaction that SQLite has rolled back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::Keyward;
use keyward::audit::{ChainHead, EventAction, SealedEvent, verify_chain};
use keyward::key::{KeyId, RevokeReason, TenantId};
use keyward::manager::{Actor, Issued, KeyUpdate, ManageError, Overlap};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Changed, EventLog, FeedPage, KeyStore, Outcome, SqliteStore,
    StoreError,
};
use keyward::testkit::{Fault, FaultyStore};
use rusqlite::Connection;
use sqlite_store::{Choices, actor, builder, fast_folder, is_granted, new_key, tenant};
use tempfile::TempDir;

/// A conflict is not among them: a store that has committed a set answers it as it did the first time.
const LOSSES: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Yield(1),
];
const CONFLICTS: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::Conflict,
    Fault::Yield(1),
];
const TASKS: usize = 3;
const OPERATIONS: usize = 700;
const KEYS: usize = 12;

fn file() -> (TempDir, PathBuf) {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    (dir, path)
}

async fn log(store: &SqliteStore) -> Vec<SealedEvent> {
    let events = EventLog::read(store, None, 0, usize::MAX).await.unwrap();
    verify_chain(ChainHead::default(), &events).unwrap();
    events
}

/// All that changed since the store was empty.
async fn feed(store: &SqliteStore) -> Vec<Changed> {
    let FeedPage::Resync { mut next } = store.changes(None, Duration::ZERO).await.unwrap() else {
        panic!("no cursor was given");
    };
    next.position = 0;
    let mut all = Vec::new();
    loop {
        let page = store.changes(Some(&next), Duration::ZERO).await.unwrap();
        let FeedPage::Next {
            items,
            next: reached,
            has_more,
        } = page
        else {
            panic!("the feed is whole");
        };
        all.extend(items);
        if !has_more {
            return all;
        }
        next = reached;
    }
}

/// What an operation has told, by what it answered; and whether it may have told nothing.
type Answered = (Vec<(KeyId, EventAction)>, bool);

/// Several tasks' random operations on the same keys.
struct Play {
    keyward: Keyward,
    keys: Mutex<Vec<Arc<Issued>>>,
    answers: Mutex<HashMap<String, Answered>>,
}

impl Play {
    async fn run(self: Arc<Self>, task: usize) {
        let mut choices = Choices::new(u64::try_from(task).unwrap());
        for n in 0..OPERATIONS {
            let name = format!("{task}-{n}");
            let answered = self.step(&name, &mut choices).await;
            self.answers.lock().unwrap().insert(name, answered);
        }
    }

    fn any_key(&self, choices: &mut Choices) -> Option<Arc<Issued>> {
        let mut keys = self.keys.lock().unwrap();
        if keys.len() > KEYS || !keys.is_empty() && choices.chance(12) {
            keys.remove(0);
        }
        keys.get(choices.below(KEYS)).cloned()
    }

    async fn step(&self, name: &str, choices: &mut Choices) -> Answered {
        use EventAction as A;
        let manager = self.keyward.manager();
        let actor = Actor::system("test").in_request(name);
        let tenant = tenant("acme-inc").unwrap();
        let keep = |key: Result<Issued, ManageError>, old: Option<(KeyId, bool)>| match key {
            Ok(key) => {
                let mut told = vec![(key.record().id(), A::KeyIssued)];
                if let Some((old, is_cut)) = old {
                    told.push((old, A::KeyRotated));
                    told.extend(is_cut.then_some((old, A::KeyRevoked)));
                }
                self.keys.lock().unwrap().push(Arc::new(key));
                (told, false)
            }
            // Of a successor that nobody was given the id is not known.
            Err(error) => answered(&Err(error), Vec::new()),
        };
        let Some(key) = self.any_key(choices) else {
            return keep(manager.issue(&actor, new_key(&tenant, name)).await, None);
        };
        let id = key.record().id();
        match choices.below(10) {
            0..4 => {
                let update = KeyUpdate::new().title(name);
                let updated = manager.update(&actor, &tenant, id, update).await;
                answered(&updated.map(drop), vec![(id, A::KeyUpdated)])
            }
            4 => {
                let suspended = manager.suspend(&actor, &tenant, id).await;
                answered(&suspended.map(drop), vec![(id, A::KeySuspended)])
            }
            5 => {
                let resumed = manager.resume(&actor, &tenant, id).await;
                answered(&resumed.map(drop), vec![(id, A::KeyResumed)])
            }
            6..8 => {
                let is_cut = choices.chance(2);
                let overlap = if is_cut {
                    Overlap::None
                } else {
                    Overlap::UntilRevoked
                };
                let rotated = manager.rotate(&actor, &tenant, id, overlap).await;
                keep(rotated, Some((id, is_cut)))
            }
            8 => {
                let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Requested);
                answered(&revoked.await.map(drop), vec![(id, A::KeyRevoked)])
            }
            _ => {
                let leaked = manager.revoke_leaked(&actor, key.api_key().presented());
                answered(&leaked.await.map(drop), vec![(id, A::KeyRevoked)])
            }
        }
    }
}

fn answered(answer: &Result<(), ManageError>, told: Vec<(KeyId, EventAction)>) -> Answered {
    match answer {
        Ok(()) => (told, false),
        // Nobody knows.
        Err(ManageError::Store(StoreError::Indeterminate(_))) => (told, true),
        Err(_) => (Vec::new(), false),
    }
}

/// Whether the log says of an operation what its answer says.
fn agrees(told: &[(KeyId, EventAction)], (answered, or_nothing): &Answered) -> bool {
    match (told, *or_nothing) {
        (told, false) => told == *answered,
        ([], true) => true,
        // An id that nobody was given.
        ([(_, EventAction::KeyIssued), ..], true) => answered.is_empty(),
        (told, true) => told == *answered,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_match_the_operations() {
    let mut told_in_all = 0;
    for faults in [LOSSES, CONFLICTS] {
        let (_dir, path) = file();
        let store = SqliteStore::open(path).unwrap();
        let faulty = FaultyStore::over(store.clone());
        let play = Arc::new(Play {
            keyward: builder(faulty.clone()).open().await.unwrap(),
            keys: Mutex::default(),
            answers: Mutex::default(),
        });
        let _ = faulty.at_random(18, 5, faults);
        let running = (0..TASKS).map(|task| tokio::spawn(Arc::clone(&play).run(task)));
        for task in running.collect::<Vec<_>>() {
            task.await.unwrap();
        }

        let (events, feed) = (log(&store).await, feed(&store).await);
        let mut revisions: HashMap<KeyId, u64> = HashMap::new();
        let mut told: HashMap<&str, Vec<(KeyId, EventAction)>> = HashMap::new();
        let mut revoked = HashSet::new();
        assert_eq!(events.len(), feed.len());
        for (SealedEvent { event, .. }, news) in events.iter().zip(feed) {
            let id = event.key.unwrap();
            let revision = revisions.entry(id).or_default();
            *revision += 1;
            assert_eq!(
                news,
                Changed::Key {
                    id,
                    revision: *revision
                }
            );
            let name = event.request.as_deref().unwrap();
            told.entry(name).or_default().push((id, event.action));
            if event.action == EventAction::KeyRevoked {
                assert!(revoked.insert(id), "{id} was revoked twice");
            }
        }
        for (id, revision) in revisions {
            let row = store.get(id).await.unwrap().unwrap();
            assert_eq!(row.revision, revision);
            assert_eq!(row.revocation.is_some(), revoked.contains(&id));
        }
        let answers = play.answers.lock().unwrap();
        for (name, answered) in answers.iter() {
            let told = told.remove(name.as_str()).unwrap_or_default();
            assert!(agrees(&told, answered), "{name}: {answered:?} and {told:?}");
            told_in_all += told.len();
        }
        assert!(told.is_empty(), "nobody asked for {told:?}");
    }
    assert!(told_in_all > 0);
}

/// Has the log refuse the events of which this holds.
fn plant(path: &Path, when: &str, how: &str) {
    let sql = format!(
        "CREATE TRIGGER planted BEFORE INSERT ON keyward_events WHEN {when} BEGIN SELECT RAISE({how}, 'planted'); END"
    );
    Connection::open(path).unwrap().execute_batch(&sql).unwrap();
}

fn heal(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("DROP TRIGGER planted").unwrap();
}

/// What stands in the tables, but for what a commit is remembered by.
fn contents(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let quoted = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    [
        "SELECT position || ' ' || events || ' ' || quote(head) FROM keyward_meta",
        "SELECT quote(id) || revision || quote(revoked_at) || quote(document) FROM keyward_keys ORDER BY id",
        "SELECT position || ' ' || place || news FROM keyward_feed ORDER BY 1",
        "SELECT number || event FROM keyward_events ORDER BY number",
        "SELECT scope || instant FROM keyward_cutoffs",
    ]
    .into_iter()
    .flat_map(quoted)
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_faults_spare_only_revocation() {
    for how in ["ABORT", "FAIL"] {
        let (_dir, path) = file();
        let store = SqliteStore::open(&path).unwrap();
        let keyward = builder(store.clone()).open().await.unwrap();
        let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
        let issue = async || manager.issue(&actor, new_key(&tenant, "a key")).await;
        let (key, other) = (issue().await.unwrap(), issue().await.unwrap());
        let id = key.record().id();
        assert!(is_granted(&keyward, &key).await);

        plant(&path, "1", how);
        let before = contents(&path);
        issue().await.unwrap_err();
        for overlap in [Overlap::None, Overlap::UntilRevoked] {
            let rotated = manager.rotate(&actor, &tenant, id, overlap).await;
            rotated.unwrap_err();
        }
        let update = KeyUpdate::new().title("updated");
        let updated = manager.update(&actor, &tenant, id, update).await;
        updated.unwrap_err();
        manager.suspend(&actor, &tenant, id).await.unwrap_err();
        assert_eq!(contents(&path), before, "{how}");
        assert!(is_granted(&keyward, &key).await);

        let events = log(&store).await;
        let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Leaked);
        let revoked = revoked.await.unwrap();
        let row = store.get(id).await.unwrap().unwrap();
        assert_eq!(row.revocation.map(|of| of.at), Some(revoked.at));
        assert!(!is_granted(&keyward, &key).await);
        assert_eq!(log(&store).await, events);
        let news = Changed::Key { id, revision: 2 };
        assert_eq!(feed(&store).await.last(), Some(&news), "others hear of it");

        // The chain goes on where it was.
        heal(&path);
        let reason = RevokeReason::Requested;
        let revoked = manager.revoke(&actor, &tenant, other.record().id(), reason);
        revoked.await.unwrap();
        issue().await.unwrap();
        assert_eq!(log(&store).await.len(), events.len() + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_written_events_are_undone() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
    let mut keys = Vec::new();
    for _ in 0..3 {
        let key = manager
            .issue(&actor, new_key(&tenant, "a key"))
            .await
            .unwrap();
        keys.push(key.record().id());
    }
    let events = log(&store).await;
    plant(&path, "new.number = 5", "ABORT");
    let at = keyward::time::OffsetDateTime::UNIX_EPOCH;
    let reason = RevokeReason::Leaked;
    let revoke = |id: &KeyId| Change::Revoke {
        id: *id,
        at,
        reason: reason.clone(),
    };
    let set = ChangeSet::new(ChangeId::generate(&OsRandom), keys.iter().map(revoke)).unwrap();
    let told = events.iter().map(|sealed| sealed.event.clone()).enumerate();
    let set = told.fold(set, |set, (of, event)| set.with_event_of(of, event));
    let committed = store.commit(&set).await.unwrap();
    assert_eq!(
        committed.outcomes,
        [Outcome::Revoked, Outcome::Revoked, Outcome::Revoked]
    );
    assert_eq!(log(&store).await, events);
    for id in keys {
        assert!(store.get(id).await.unwrap().unwrap().revocation.is_some());
    }
}

/// The column by which a tenant's events are found is not under the chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_moved_between_tenants_shows() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor) = (keyward.manager(), actor());
    let [mine, theirs] = ["acme-inc", "another"].map(|name| tenant(name).unwrap());
    for whose in [&mine, &theirs, &mine] {
        let issued = manager.issue(&actor, new_key(whose, "a key")).await;
        issued.unwrap();
    }
    let before = log(&store).await;
    let count = async |tenant: &TenantId| {
        EventLog::read(&store, Some(tenant), 0, 10)
            .await
            .map(|of| of.len())
    };
    for (moved, their_count) in [
        ("NULL", Some(1)),
        ("''", Some(1)),
        ("CAST(x'ff' AS TEXT)", Some(1)),
        ("'another'", None),
    ] {
        let sql = format!("UPDATE keyward_events SET tenant = {moved} WHERE number = 3");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&sql)
            .unwrap();
        let all = EventLog::read(&store, None, 0, 10).await;
        assert!(
            matches!(all, Err(StoreError::Corrupt(_))),
            "{moved}: {all:?}"
        );
        let after = EventLog::read(&store, None, 0, 2).await.unwrap();
        assert_eq!(after, before[..2], "what comes before can be read");
        assert_eq!(
            count(&mine).await.unwrap(),
            1,
            "{moved}: nobody can tell here"
        );
        let their = count(&theirs).await;
        match their_count {
            Some(count) => assert_eq!(their.unwrap(), count, "{moved}"),
            None => assert!(matches!(their, Err(StoreError::Corrupt(_))), "{their:?}"),
        }
    }
    let back = "UPDATE keyward_events SET tenant = 'acme-inc' WHERE number = 3";
    Connection::open(&path)
        .unwrap()
        .execute_batch(back)
        .unwrap();
    assert_eq!(log(&store).await, before);
}

/// As SQLite does by itself where the disk is full, memory runs out or a write fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_spares_only_revocation() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    let keyward = builder(store.clone()).open().await.unwrap();
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant("acme-inc").unwrap());
    let issued = manager.issue(&actor, new_key(&tenant, "a key"));
    let key = issued.await.unwrap();
    let id = key.record().id();
    plant(&path, "1", "ROLLBACK");
    let before = contents(&path);
    let issued = manager.issue(&actor, new_key(&tenant, "another")).await;
    assert!(issued.is_err());
    assert_eq!(contents(&path), before);
    let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Leaked);
    let revoked = revoked.await.unwrap();
    let row = store.get(id).await.unwrap().unwrap().revocation.unwrap();
    assert_eq!(row.at, revoked.at);
    assert!(!is_granted(&keyward, &key).await);
    heal(&path);
    // Nothing of it is left half done.
    manager
        .issue(&actor, new_key(&tenant, "a third"))
        .await
        .unwrap();
    let events = store.events().unwrap().read(None, 0, 100).await.unwrap();
    assert_eq!(events.len(), 2, "of the first and the third key");
    verify_chain(ChainHead::default(), &events).unwrap();
}
