//! Promise 16 for SQLite: a future dropped after its k-th poll, for every k, leaves no open transaction and no stale
//! entry. Shown for every operation of the manager and every call of the store; each is dropped at once after the poll,
//! and also a while later, when what it waited for was done and nobody had heard of it. What is open shows to a second
//! connection, which has to get the lock, and to empty the log, which it cannot while anybody reads.
//!
//! A planted bug that it catches: a transaction that is begun in one step of the future and committed in another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod op;

use std::fs;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use keyward::Keyward;
use keyward::audit::{EventAction, verify_log};
use keyward::clock::Clock as _;
use keyward::hashing::Pepper;
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::{
    Digest, KeyId, KeyRecord, KeyStatus, Principal, RevokeReason, StoredKey, TenantId, Title,
};
use keyward::manager::{Overlap, Restriction};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, EventLog, FeedPage, KeyStore, ListQuery, SqliteOptions,
    SqliteStore, StoreError, Usage, UsageStore,
};
use keyward::testkit::{Call, Fault, FaultyStore, ManualClock};
use keyward::time::OffsetDateTime;
use keyward::verifier::KeyCache;
use rusqlite::Connection;
use sqlite_store::{actor, builder, fast_folder, is_granted, new_key};
use tempfile::TempDir;

use self::op::{HOUR, Keys, Op, SWEPT, acme, swept};

/// What takes longer hangs.
const HANGS: Duration = Duration::from_mins(1);
/// Long enough for what was begun to be done.
const WHILE: Duration = Duration::from_millis(4);

/// A store that waits for as long as a machine may stand still.
fn open_file(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
    SqliteOptions::new().patience(HANGS).open(path)
}

/// Polls the future so often, each time that it asks to be polled, lets the time pass, and drops it. Its value, if it
/// came that far.
async fn dropped_after<T>(
    polls: u32,
    pass: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    // One that will never ask again is dropped too.
    let most = Duration::from_millis(if polls == u32::MAX { 25 } else { 60_000 });
    let polled = poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let ended = tokio::time::timeout(most, polled).await.unwrap_or(None);
    if ended.is_none() && !pass.is_zero() {
        tokio::time::sleep(pass).await;
    }
    ended
}

/// A file with keys in every state, of which each try gets a copy.
struct World {
    dir: TempDir,
    keys: Keys,
    told: usize,
}

impl World {
    async fn new() -> Self {
        let dir = fast_folder().unwrap();
        let store = open_file(dir.path().join("keys.db")).unwrap();
        let clock = ManualClock::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap());
        let keyward = open(store.clone(), &clock, KeyCache::new()).await;
        let (manager, actor, tenant) = (keyward.manager(), actor(), acme());
        let issue = async |tenant: &TenantId, title| {
            let issued = manager.issue(&actor, new_key(tenant, title));
            issued.await.unwrap()
        };
        let live = issue(&tenant, "live").await;
        let suspended = issue(&tenant, "suspended").await;
        let ancestor = issue(&tenant, "ancestor").await;
        let revoked = issue(&tenant, "revoked").await.record().id();
        let reason = RevokeReason::Requested;
        let done = manager.revoke(&actor, &tenant, revoked, reason).await;
        done.unwrap();
        let id = suspended.record().id();
        manager.suspend(&actor, &tenant, id).await.unwrap();
        let id = ancestor.record().id();
        let heir = manager.rotate(&actor, &tenant, id, Overlap::For(HOUR));
        let heir = heir.await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..SWEPT {
            let key = issue(&swept(), "swept").await;
            let (id, at) = (key.record().id(), key.record().created_at());
            kept.push(Restriction::revoked(id, swept(), at, RevokeReason::Leaked));
        }
        clock.advance(HOUR);
        let now = clock.now().unwrap();
        let told = EventLog::read(&store, None, 0, usize::MAX).await.unwrap();
        let keys = Keys {
            live,
            suspended,
            ancestor,
            heir,
            kept,
            now,
        };
        Self {
            dir,
            keys,
            told: told.len(),
        }
    }

    /// A copy of its own, and what it lies in.
    fn copied(&self) -> (TempDir, PathBuf) {
        let dir = fast_folder().unwrap();
        let path = dir.path().join("keys.db");
        // Whoever had the file open has closed it, and so brought everything into it.
        assert!(!self.dir.path().join("keys.db-wal").exists());
        fs::copy(self.dir.path().join("keys.db"), &path).unwrap();
        (dir, path)
    }

    /// What was done to the keys since, but for what was done to the ancestor, once it is shown that the log is whole.
    async fn told(&self, store: &SqliteStore) -> Vec<EventAction> {
        let events = EventLog::read(store, None, 0, usize::MAX).await.unwrap();
        verify_log(&events).unwrap();
        let ancestor = Some(self.keys.ancestor.record().id());
        let told = u64::try_from(self.told).unwrap();
        let since = events.into_iter().filter(|sealed| sealed.number > told);
        let since = since.filter(|sealed| sealed.event.key != ancestor);
        since.map(|sealed| sealed.event.action).collect()
    }
}

async fn open(store: impl KeyStore, clock: &ManualClock, cache: KeyCache) -> Keyward {
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
    let imported = ImportedKeys::under(lookup).accept(legacy);
    let builder = builder(store).clock(clock.clone()).cache(cache);
    builder.imported_keys(imported).open().await.unwrap()
}

/// Waits for what dropped calls have begun, and shows through another connection that they left nothing open.
async fn nothing_is_open(store: &SqliteStore, path: &Path) {
    let empty = (ChangeId::generate(&OsRandom), []);
    store.merge(empty.0, &empty.1).await.unwrap();
    let path = path.to_owned();
    let look = move || {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(HANGS).unwrap();
        connection
            .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
            .unwrap();
        let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            row.get::<_, i64>(0)
        });
        assert_eq!(emptied.unwrap(), 0, "somebody still reads");
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}

/// That each piece of news has its event, and the counters stand where the feed does.
fn is_whole(path: &Path) -> bool {
    let agree = "SELECT (SELECT count(*) FROM keyward_feed) = (SELECT events FROM keyward_meta) \
                 AND (SELECT max(position) FROM keyward_feed) = (SELECT position FROM keyward_meta)";
    let connection = Connection::open(path).unwrap();
    let agree = connection.query_row(agree, [], |row| row.get(0));
    agree.unwrap()
}

/// How far an operation came before it was dropped.
#[derive(PartialEq, Eq)]
enum Came {
    /// It had not answered, and had committed this many of its changes.
    Told(usize),
    ToItsEnd,
}

/// Drops an operation after so many polls, and checks the state that it left.
async fn drop_after(
    world: &World,
    op: Op,
    (polls, pass): (u32, Duration),
    fault: Option<Fault>,
) -> Came {
    let what = format!("{op:?} with {fault:?}, dropped after {polls} polls and {pass:?}");
    let (_dir, path) = world.copied();
    let keys = &world.keys;
    let clock = ManualClock::new(keys.now);
    let store = open_file(&path).unwrap();
    let losing = FaultyStore::over(store.clone());
    // Every call waits for a poll before it does anything: on every machine there is a poll between two calls.
    let waiting = FaultyStore::over(losing.clone()).at_random(16, 1, [Fault::Yield(1)]);
    let node = open(waiting, &clock, KeyCache::new()).await;
    // What another node may miss for a while is another promise.
    let other = open_file(&path).unwrap();
    let other = open(other, &clock, KeyCache::off()).await;
    assert!(is_granted(&node, &keys.live).await);
    if let Some(fault) = fault {
        let call = losing.calls(Call::Commit);
        let _ = losing.clone().on(Call::Commit, call..call + 1, fault);
    }
    let answer = dropped_after(polls, pass, op.run(&node, keys)).await;
    losing.heal();
    nothing_is_open(&store, &path).await;
    assert!(is_whole(&path), "{what}");

    let told = world.told(&store).await;
    let (all, stages) = op.telling();
    assert_eq!(all[..told.len()], told, "{what}");
    assert!(stages.contains(&told.len()), "{what}: {told:?}");
    if let Some(answer) = &answer {
        assert!(answer.is_ok(), "{what}: {answer:?}");
        assert_eq!(told, all, "{what}");
    }

    // Nothing stale: both nodes say what the row says.
    for key in [&keys.live, &keys.suspended, &keys.heir] {
        let row = store.get(key.record().id()).await.unwrap().unwrap();
        let lives = KeyRecord::decode(row).unwrap().status(keys.now) == KeyStatus::Active;
        assert_eq!(is_granted(&node, key).await, lives, "{what}");
        assert_eq!(is_granted(&other, key).await, lives, "{what}");
    }

    // Nothing held, and nothing half-way: a later call goes through.
    for node in [&node, &other] {
        let (manager, actor, tenant) = (node.manager(), actor(), acme());
        let key = manager.issue(&actor, new_key(&tenant, "bystander"));
        let key = key.await.unwrap();
        assert!(is_granted(node, &key).await, "{what}");
        let revoked = manager.revoke(&actor, &tenant, key.record().id(), RevokeReason::Leaked);
        revoked.await.unwrap();
        assert!(!is_granted(node, &key).await, "{what}");
    }
    let again = op.run(&node, keys).await;
    let done = told.len() == all.len() && !all.is_empty();
    assert!(op.is_proper(done, &again), "{what}, then {again:?}");
    answer.map_or(Came::Told(told.len()), |_| Came::ToItsEnd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_operation_is_done_or_not() {
    let world = World::new().await;
    for op in Op::ALL {
        let (all, _) = op.telling();
        // How often it was dropped between two sets depends on the schedule; that it was done by whole sets does not.
        let (mut drops, mut halfway) = (0, 0);
        for pass in [Duration::ZERO, WHILE] {
            let mut polls = 0;
            while let Came::Told(told) = drop_after(&world, op, (polls, pass), None).await {
                drops += 1;
                halfway += u32::from(told > 0 && told < all.len());
                polls += 1;
                assert!(polls < 1_000, "{op:?} does not end");
            }
        }
        println!("{op:?}: dropped {drops} times, {halfway} of them between two sets");
    }
}

/// Polls the future until it has come so far, and drops it.
async fn dropped_once(has_come: impl Fn() -> bool, future: impl Future) {
    let come = async {
        while !has_come() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let ended = tokio::time::timeout(HANGS, async {
        tokio::select! {
            () = come => true,
            _ = future => false,
        }
    });
    assert!(ended.await.unwrap(), "it ended before that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_sweep_keeps_whole_sets() {
    let world = World::new().await;
    // A cutoff is the first set of `RevokeAll`.
    for (op, sets) in [(Op::RevokeAll, 2), (Op::Replay, 1)] {
        let (_dir, path) = world.copied();
        let store = open_file(&path).unwrap();
        let losing = FaultyStore::over(store.clone());
        let clock = ManualClock::new(world.keys.now);
        let node = open(losing.clone(), &clock, KeyCache::new()).await;
        let begun = losing.calls(Call::Commit);
        let at = begun + sets;
        let losing = losing.on(Call::Commit, at..at + 1, Fault::Hang);
        dropped_once(
            || losing.calls(Call::Commit) > at,
            op.run(&node, &world.keys),
        )
        .await;
        losing.heal();
        nothing_is_open(&store, &path).await;
        assert!(is_whole(&path));
        let (told, (all, stages)) = (world.told(&store).await, op.telling());
        assert!(
            !told.is_empty() && told.len() < all.len(),
            "{op:?}: {told:?}"
        );
        assert!(stages.contains(&told.len()), "{op:?}: {told:?}");
        assert_eq!(all[..told.len()], told, "{op:?}");
        op.run(&node, &world.keys).await.unwrap();
        assert!(world.told(&store).await.len() >= all.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drops_after_lost_answers_are_safe() {
    let world = World::new().await;
    for op in Op::ALL {
        if op.telling().0.is_empty() {
            continue; // It commits nothing.
        }
        let mut polls = 2;
        let lost = Some(Fault::LostAnswer);
        while drop_after(&world, op, (polls, Duration::ZERO), lost).await != Came::ToItsEnd {
            polls += 1;
            assert!(polls < 1_000, "{op:?} does not end");
        }
        for never in [Fault::HangAfter, Fault::Hang] {
            let hung = (u32::MAX, Duration::ZERO);
            let came = drop_after(&world, op, hung, Some(never)).await;
            assert!(came != Came::ToItsEnd, "{op:?}");
        }
    }
}

fn key(id: u128) -> StoredKey {
    let instant = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    StoredKey {
        id: KeyId::from_u128(id),
        tenant: acme(),
        owner: Principal::user("alice").unwrap(),
        title: Title::new("title").unwrap(),
        created_at: instant,
        revocation: None,
        expires_at: None,
        predecessor: None,
        lineage: KeyId::from_u128(id),
        digest: Digest::new("$digest").unwrap(),
        revision: 1,
        schema: 1,
        document: b"{}".as_slice().into(),
        cutoff: None,
    }
}

/// Adds two keys.
fn two(id: u128) -> ChangeSet {
    let changes = [id, id + 1].map(|id| Change::Insert(Box::new(key(id))));
    ChangeSet::new(ChangeId::generate(&OsRandom), changes).unwrap()
}

/// How many keys of a set are there.
async fn landed(store: &SqliteStore, set: &ChangeSet) -> usize {
    let mut there = 0;
    for id in set.changes().iter().filter_map(Change::key_id) {
        there += usize::from(store.get(id).await.unwrap().is_some());
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_leaves_nothing_open() {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    let store = open_file(&path).unwrap();
    store.commit(&two(0)).await.unwrap();
    let (first, second) = (KeyId::from_u128(0), KeyId::from_u128(1));
    let query = ListQuery::of(&acme());
    let used = Usage::new(OffsetDateTime::UNIX_EPOCH, 1, 0);
    let mut used_times = 0;
    for (round, polls) in (1..).zip((0..6).chain(0..6)) {
        let pass = if round > 6 { WHILE } else { Duration::ZERO };
        let FeedPage::Resync { next } = store.changes(None, Duration::ZERO).await.unwrap() else {
            panic!("no cursor was given");
        };
        let _ = dropped_after(polls, pass, store.get(first)).await;
        let _ = dropped_after(polls, pass, store.list(&query)).await;
        let _ = dropped_after(polls, pass, store.changes(Some(&next), Duration::ZERO)).await;
        let waiting = store.changes(Some(&next), Duration::from_secs(60));
        let _ = dropped_after(polls, pass, waiting).await;
        let _ = dropped_after(polls, pass, EventLog::read(&store, None, 0, 9)).await;
        let _ = dropped_after(polls, pass, UsageStore::read(&store, &[first, second])).await;
        let _ = dropped_after(polls, pass, store.begin_new_history()).await;
        nothing_is_open(&store, &path).await;

        let set = two(round * 10);
        let ended = dropped_after(polls, pass, store.commit(&set)).await;
        nothing_is_open(&store, &path).await;
        let keys = landed(&store, &set).await;
        assert!(keys == 2 || keys == 0 && ended.is_none(), "{polls}: {keys}");
        store.commit(&set).await.unwrap();
        assert_eq!(landed(&store, &set).await, 2);

        let batch = (ChangeId::generate(&OsRandom), [(first, used)]);
        let _ = dropped_after(polls, pass, store.merge(batch.0, &batch.1)).await;
        nothing_is_open(&store, &path).await;
        store.merge(batch.0, &batch.1).await.unwrap();
        used_times += 1;
        let usage = UsageStore::read(&store, &[first]).await.unwrap();
        assert_eq!(usage[0].map(|usage| usage.granted), Some(used_times));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_under_a_lock_are_safe() {
    let dir = fast_folder().unwrap();
    let path = dir.path().join("keys.db");
    let store = open_file(&path).unwrap();
    let process = Connection::open(&path).unwrap();
    for (round, polls) in (1..).zip(0..6) {
        process.execute_batch("BEGIN IMMEDIATE").unwrap();
        // One has its turn and waits for the lock; the others wait for their turn.
        let sets = [
            two(round * 100),
            two(round * 100 + 10),
            two(round * 100 + 20),
        ];
        let calls = sets.each_ref().map(|set| {
            let (store, set) = (store.clone(), set.clone());
            let most = Duration::from_millis(30);
            tokio::spawn(async move {
                let commit = dropped_after(polls, Duration::ZERO, store.commit(&set));
                tokio::time::timeout(most, commit)
                    .await
                    .is_ok_and(|ended| ended.is_some())
            })
        });
        for call in calls {
            assert!(!call.await.unwrap(), "nothing is committed under the lock");
        }
        process.execute_batch("COMMIT").unwrap();
        nothing_is_open(&store, &path).await;
        let mut began = 0;
        for set in &sets {
            let keys = landed(&store, set).await;
            assert!(matches!(keys, 0 | 2), "{keys}");
            began += keys / 2;
            store.commit(set).await.unwrap();
            assert_eq!(landed(&store, set).await, 2);
        }
        assert!(began <= 1, "who never had a turn does nothing: {began}");
    }
}
