//! The memory store keeps the store's contract.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use keyward::audit::{Event, EventAction};
use keyward::key::{Digest, KeyId, Principal, RevokeReason, StoredKey, TenantId, Title};
use keyward::random::OsRandom;
use keyward::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, Cursor, CutoffScope, FeedPage, KeyStore,
    ListQuery, MemoryStore, Outcome, Precondition, StoreError, Usage,
};
use keyward::time::OffsetDateTime;

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn key(id: u128) -> StoredKey {
    StoredKey {
        id: KeyId::from_u128(id),
        tenant: TenantId::new("t").unwrap(),
        owner: Principal::user("alice").unwrap(),
        title: Title::new("title").unwrap(),
        created_at: at(1_000),
        revocation: None,
        expires_at: None,
        predecessor: None,
        lineage: KeyId::from_u128(id),
        digest: Digest::new(format!("$x$first-{id}")).unwrap(),
        revision: 1,
        schema: 1,
        document: b"opaque".as_slice().into(),
        cutoff: None,
    }
}

fn insert(id: u128) -> Change {
    Change::Insert(Box::new(key(id)))
}

fn replace(id: u128, expected: u64, title: &str) -> Change {
    let mut with = key(id);
    with.title = Title::new(title).unwrap();
    Change::Replace {
        expected,
        with: Box::new(with),
    }
}

fn revoke(id: u128) -> Change {
    Change::Revoke {
        id: KeyId::from_u128(id),
        at: at(2_000),
        reason: RevokeReason::Leaked,
    }
}

fn rehash(id: u128, from: &str, to: &str) -> Change {
    Change::Rehash {
        id: KeyId::from_u128(id),
        from: Digest::new(from).unwrap(),
        to: Digest::new(to).unwrap(),
    }
}

fn event(id: u128) -> Event {
    Event {
        at: at(1_000),
        tenant: Some(TenantId::new("t").unwrap()),
        actor: Principal::user("alice").unwrap(),
        action: EventAction::KeyIssued,
        key: Some(KeyId::from_u128(id)),
        title: Some(Title::new("title").unwrap()),
        changes: Vec::new(),
        request: None,
        client: None,
    }
}

fn set(changes: impl IntoIterator<Item = Change>) -> ChangeSet {
    ChangeSet::new(ChangeId::generate(&OsRandom), changes).unwrap()
}

async fn commit(store: &MemoryStore, change: Change) -> Result<Outcome, StoreError> {
    let committed = store.commit(&set([change])).await?;
    Ok(committed.outcomes.into_iter().next().unwrap())
}

async fn get(store: &MemoryStore, id: u128) -> Option<StoredKey> {
    store.get(KeyId::from_u128(id)).await.unwrap()
}

async fn follow(store: &MemoryStore, after: Option<&Cursor>) -> FeedPage {
    store.changes(after, Duration::ZERO).await.unwrap()
}

async fn head(store: &MemoryStore) -> Cursor {
    match follow(store, None).await {
        FeedPage::Resync { next } => next,
        page @ FeedPage::Next { .. } => panic!("{page:?}"),
    }
}

fn news(id: u128, revision: u64) -> Changed {
    Changed::Key {
        id: KeyId::from_u128(id),
        revision,
    }
}

#[tokio::test]
async fn insert_never_overwrites() {
    let store = MemoryStore::new();
    assert_eq!(commit(&store, insert(1)).await.unwrap(), Outcome::Inserted);
    let mut other = key(1);
    other.tenant = TenantId::new("thief").unwrap();
    let taken = commit(&store, Change::Insert(Box::new(other))).await;
    assert!(matches!(taken, Err(StoreError::AlreadyExists)));
    assert_eq!(get(&store, 1).await.unwrap(), key(1));

    // Whatever the row says of itself, it begins at revision 1 and not revoked.
    let mut forged = key(2);
    forged.revision = 77;
    commit(&store, Change::Insert(Box::new(forged)))
        .await
        .unwrap();
    assert_eq!(get(&store, 2).await.unwrap().revision, 1);
}

#[tokio::test]
async fn replace_needs_the_revision_that_was_read_and_changes_no_identity() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    for expected in [0, 2, u64::MAX] {
        let stale = commit(&store, replace(1, expected, "stale")).await;
        assert!(matches!(stale, Err(StoreError::Conflict)), "{expected}");
    }
    let missing = commit(&store, replace(9, 1, "missing")).await;
    assert!(matches!(missing, Err(StoreError::Conflict)));

    commit(&store, rehash(1, "$x$first-1", "$x$second"))
        .await
        .unwrap();
    let mut with = key(1);
    with.title = Title::new("new").unwrap();
    with.tenant = TenantId::new("thief").unwrap();
    with.created_at = at(1);
    with.revision = 50;
    with.digest = Digest::new("$x$stolen").unwrap();
    let with = Box::new(with);
    commit(&store, Change::Replace { expected: 1, with })
        .await
        .unwrap();
    let stored = get(&store, 1).await.unwrap();
    assert_eq!((stored.title.as_str(), stored.revision), ("new", 2));
    assert_eq!(
        (stored.tenant.as_str(), stored.created_at),
        ("t", at(1_000))
    );
    assert_eq!(
        stored.digest.expose(),
        "$x$second",
        "a rehash in between is not lost"
    );
}

#[tokio::test]
async fn revoke_wins_and_is_final() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    commit(&store, replace(1, 1, "changed meanwhile"))
        .await
        .unwrap();
    assert_eq!(commit(&store, revoke(1)).await.unwrap(), Outcome::Revoked);
    let again = Change::Revoke {
        id: KeyId::from_u128(1),
        at: at(9_000),
        reason: RevokeReason::Requested,
    };
    let outcome = commit(&store, again).await.unwrap();
    assert_eq!(outcome, Outcome::AlreadyRevoked { at: at(2_000) });
    assert_eq!(commit(&store, revoke(9)).await.unwrap(), Outcome::Missing);

    let stored = get(&store, 1).await.unwrap();
    assert_eq!(stored.revision, 3);
    let revocation = stored.revocation.unwrap();
    assert_eq!(
        (revocation.at, revocation.reason),
        (at(2_000), RevokeReason::Leaked)
    );
    for expected in 1..=4 {
        let late = commit(&store, replace(1, expected, "late")).await;
        assert!(matches!(late, Err(StoreError::Conflict)));
    }
    let late = commit(&store, rehash(1, "$x$first-1", "$x$second"))
        .await
        .unwrap();
    assert_eq!(late, Outcome::NotRehashed);
    assert!(matches!(
        commit(&store, insert(1)).await,
        Err(StoreError::AlreadyExists)
    ));
}

#[tokio::test]
async fn rehash_compares_and_sets_and_is_no_news() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    let before = head(&store).await;
    let outcome = commit(&store, rehash(1, "$x$first-1", "$x$second"))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Rehashed);
    let outcome = commit(&store, rehash(1, "$x$first-1", "$x$third"))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::NotRehashed);
    let outcome = commit(&store, rehash(9, "$x$first-1", "$x$third"))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::NotRehashed);
    let stored = get(&store, 1).await.unwrap();
    assert_eq!((stored.digest.expose(), stored.revision), ("$x$second", 1));
    let FeedPage::Next { items, next } = follow(&store, Some(&before)).await else {
        panic!("resync");
    };
    assert!(items.is_empty());
    assert_eq!(next, before);
}

#[tokio::test]
async fn a_set_lands_whole_or_not_at_all() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    let before = head(&store).await;
    for failing in [insert(1), replace(1, 7, "stale"), replace(9, 1, "missing")] {
        let setting = Change::Setting {
            name: "name".into(),
            value: "value".into(),
        };
        let cutoff = Change::Cutoff {
            scope: CutoffScope::All,
            before: at(5_000),
        };
        let torn = set([insert(2), revoke(1), setting, cutoff, failing]).with_event(event(2));
        assert!(store.commit(&torn).await.is_err());
        assert!(get(&store, 2).await.is_none());
        let first = get(&store, 1).await.unwrap();
        assert!(first.revocation.is_none() && first.cutoff.is_none());
        assert!(
            store
                .events()
                .unwrap()
                .read(None, 0, 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(head(&store).await, before);
    }
    // Changes of one set see each other.
    let whole = set([insert(2), replace(2, 1, "at once"), revoke(2), revoke(2)]);
    let Committed { outcomes, .. } = store.commit(&whole).await.unwrap();
    let twice = Outcome::AlreadyRevoked { at: at(2_000) };
    assert_eq!(
        outcomes,
        [
            Outcome::Inserted,
            Outcome::Replaced,
            Outcome::Revoked,
            twice
        ]
    );
    let stored = get(&store, 2).await.unwrap();
    assert_eq!((stored.title.as_str(), stored.revision), ("at once", 3));
}

#[tokio::test]
async fn a_set_is_committed_once() {
    let store = MemoryStore::new();
    let first = set([insert(1)]).with_event(event(1));
    let committed = store.commit(&first).await.unwrap();
    commit(&store, revoke(1)).await.unwrap();
    assert_eq!(
        store.commit(&first).await.unwrap(),
        committed,
        "the answer of the first time"
    );
    assert!(get(&store, 1).await.unwrap().revocation.is_some());
    assert_eq!(
        store
            .events()
            .unwrap()
            .read(None, 0, 10)
            .await
            .unwrap()
            .len(),
        1
    );

    // A set that failed has not been committed, and may succeed later.
    let waits = set([replace(2, 1, "later")]);
    assert!(store.commit(&waits).await.is_err());
    commit(&store, insert(2)).await.unwrap();
    assert!(store.commit(&waits).await.is_ok());
}

#[tokio::test]
async fn nothing_changed_nothing_told() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    commit(&store, revoke(1)).await.unwrap();
    let before = head(&store).await;
    let idle = set([revoke(1), revoke(9)]).with_event(event(1));
    let committed = store.commit(&idle).await.unwrap();
    assert_eq!(committed.position, before.position);
    assert_eq!(head(&store).await, before);
    assert!(
        store
            .events()
            .unwrap()
            .read(None, 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn preconditions_are_checked_inside_the_commit() {
    let store = MemoryStore::new();
    let below = |limit| Precondition::UnrevokedKeysBelow {
        tenant: TenantId::new("t").unwrap(),
        limit: NonZeroU32::new(limit).unwrap(),
    };
    let mut tasks = Vec::new();
    for id in 0..50 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let set = set([insert(id)]).on_condition(below(7));
            store.commit(&set).await.is_ok()
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        inserted += u32::from(task.await.unwrap());
    }
    assert_eq!(inserted, 7);
    let full = set([insert(99)]).on_condition(below(7));
    assert!(matches!(
        store.commit(&full).await,
        Err(StoreError::PreconditionFailed { .. })
    ));
    // All must hold.
    let both = set([insert(99)])
        .on_condition(below(8))
        .on_condition(below(7));
    assert!(matches!(
        store.commit(&both).await,
        Err(StoreError::PreconditionFailed { .. })
    ));
    assert!(
        store
            .commit(&set([insert(99)]).on_condition(below(8)))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_cutoff_moves_forward_only_and_binds_what_was_issued_before() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    let cutoff = |tenant: Option<&str>, second| Change::Cutoff {
        scope: tenant.map_or(CutoffScope::All, |name| {
            CutoffScope::from(&TenantId::new(name).unwrap())
        }),
        before: at(second),
    };
    let before = head(&store).await;
    commit(&store, cutoff(Some("other"), 9_000)).await.unwrap();
    assert_eq!(get(&store, 1).await.unwrap().cutoff, None);
    for (tenant, second, outcome, stands) in [
        (Some("t"), 500, Outcome::CutOff, 500),
        (Some("t"), 400, Outcome::AlreadyCutOff, 500),
        (None, 450, Outcome::CutOff, 500),
        (None, 700, Outcome::CutOff, 700),
        (Some("t"), 600, Outcome::CutOff, 700),
        (Some("t"), 600, Outcome::AlreadyCutOff, 700),
    ] {
        assert_eq!(
            commit(&store, cutoff(tenant, second)).await.unwrap(),
            outcome
        );
        assert_eq!(get(&store, 1).await.unwrap().cutoff, Some(at(stands)));
    }
    // Changes of one set see each other.
    let set = set([
        cutoff(Some("t"), 650),
        cutoff(Some("t"), 640),
        cutoff(Some("u"), 1),
    ]);
    let outcomes = store.commit(&set).await.unwrap().outcomes;
    assert_eq!(
        outcomes,
        [Outcome::CutOff, Outcome::AlreadyCutOff, Outcome::CutOff]
    );
    let page = store.list(&ListQuery::of(&key(1).tenant)).await.unwrap();
    assert_eq!(page.items[0].cutoff, Some(at(700)));
    let FeedPage::Next { items, .. } = follow(&store, Some(&before)).await else {
        panic!("resync");
    };
    assert_eq!(items, vec![Changed::Cutoff; 7]);
}

#[tokio::test]
async fn a_setting_is_stored_once() {
    let store = MemoryStore::new();
    for value in ["first", "second"] {
        let setting = Change::Setting {
            name: "pepper.1".into(),
            value: value.into(),
        };
        let outcome = commit(&store, setting).await.unwrap();
        let stands = "first".to_owned();
        assert_eq!(outcome, Outcome::Setting { stands });
    }
}

#[tokio::test]
async fn the_feed_tells_what_changed_in_commit_order() {
    let store = MemoryStore::new();
    let start = head(&store).await;
    store.commit(&set([insert(1), insert(2)])).await.unwrap();
    commit(&store, replace(2, 1, "new")).await.unwrap();
    let FeedPage::Next { items, next } = follow(&store, Some(&start)).await else {
        panic!("resync");
    };
    assert_eq!(items, [news(1, 1), news(2, 1), news(2, 2)]);
    commit(&store, revoke(1)).await.unwrap();
    let FeedPage::Next { items, next } = follow(&store, Some(&next)).await else {
        panic!("resync");
    };
    assert_eq!(items, [news(1, 2)]);
    assert_eq!(next, head(&store).await);
    assert_eq!(next.to_string().parse::<Cursor>().unwrap(), next);

    for unknown in [
        Cursor {
            history: next.history.wrapping_add(1),
            ..next.clone()
        },
        Cursor {
            position: next.position + 1,
            ..next.clone()
        },
    ] {
        let page = follow(&store, Some(&unknown)).await;
        assert_eq!(page, FeedPage::Resync { next: next.clone() });
    }
    assert_ne!(head(&MemoryStore::new()).await.history, next.history);
}

#[tokio::test]
async fn a_reader_of_pages_misses_nothing_and_one_that_is_too_late_is_told() {
    let store = MemoryStore::new();
    let start = head(&store).await;
    for round in 0..300 {
        let changes: Vec<_> = (0..16).map(|n| insert(round * 16 + n)).collect();
        store.commit(&set(changes)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = start.clone();
    loop {
        let FeedPage::Next { items, next } = follow(&store, Some(&cursor)).await else {
            panic!("resync");
        };
        if items.is_empty() {
            break;
        }
        seen.extend(items);
        cursor = next;
    }
    let expected: Vec<_> = (0..4_800).map(|id| news(id, 1)).collect();
    assert_eq!(seen, expected);

    for round in 300..4_500 {
        let changes: Vec<_> = (0..16).map(|n| insert(round * 16 + n)).collect();
        store.commit(&set(changes)).await.unwrap();
    }
    assert!(matches!(
        follow(&store, Some(&start)).await,
        FeedPage::Resync { .. }
    ));
    assert!(matches!(
        follow(&store, Some(&cursor)).await,
        FeedPage::Resync { .. }
    ));
}

#[tokio::test]
async fn whoever_waits_for_a_change_is_woken() {
    let store = MemoryStore::new();
    let cursor = head(&store).await;
    let idle = store
        .changes(Some(&cursor), Duration::from_millis(10))
        .await
        .unwrap();
    assert!(matches!(idle, FeedPage::Next { items, .. } if items.is_empty()));
    for id in 0..200 {
        let cursor = head(&store).await;
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .changes(Some(&cursor), Duration::from_secs(30))
                    .await
                    .unwrap()
            }
        });
        if id % 2 == 0 {
            tokio::task::yield_now().await;
        }
        commit(&store, insert(id)).await.unwrap();
        let page = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let FeedPage::Next { items, .. } = page.expect("the waiter slept on").unwrap() else {
            panic!("resync");
        };
        assert_eq!(items, [news(id, 1)]);
    }
}

#[test]
fn waiting_outside_a_runtime_is_an_error_and_no_panic() {
    use std::task::{Context, Poll, Waker};
    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }
    let store = MemoryStore::new();
    let Poll::Ready(Ok(FeedPage::Resync { next })) = poll(store.changes(None, Duration::MAX))
    else {
        panic!("the first look waits for nothing");
    };
    let waiting = poll(store.changes(Some(&next), Duration::from_secs(1)));
    assert!(matches!(
        waiting,
        Poll::Ready(Err(StoreError::Unavailable(_)))
    ));
    let looking = poll(store.changes(Some(&next), Duration::ZERO));
    assert!(matches!(looking, Poll::Ready(Ok(FeedPage::Next { .. }))));
}

#[tokio::test]
async fn usage_is_merged_once_for_each_batch() {
    let store = MemoryStore::new();
    commit(&store, insert(1)).await.unwrap();
    let usage = store.usage().unwrap();
    let id = KeyId::from_u128(1);
    let unknown = KeyId::from_u128(9);
    let used = |second, granted, refused| Usage {
        last_used_at: at(second),
        granted,
        refused,
    };
    let (first, second) = (ChangeId::generate(&OsRandom), ChangeId::generate(&OsRandom));
    for _ in 0..2 {
        usage
            .merge(first, &[(id, used(20, 5, 1)), (unknown, used(1, 1, 1))])
            .await
            .unwrap();
    }
    usage
        .merge(second, &[(id, used(10, u64::MAX, 1))])
        .await
        .unwrap();
    let read = usage.read(&[unknown, id]).await.unwrap();
    assert_eq!(read, [None, Some(used(20, u64::MAX, 2))]);
}

#[tokio::test]
async fn a_shared_store_is_a_store() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    store.commit(&set([insert(1)])).await.unwrap();
    let shared: &dyn KeyStore = &store;
    assert!(shared.get(KeyId::from_u128(1)).await.unwrap().is_some());
    assert!(shared.get(KeyId::from_u128(2)).await.unwrap().is_none());
    let page = shared.list(&ListQuery::of(&key(1).tenant)).await.unwrap();
    assert_eq!(page.items, [key(1)]);
    assert!(shared.events().is_some() && shared.usage().is_some());
    let page = shared.changes(None, Duration::ZERO).await.unwrap();
    assert!(matches!(page, FeedPage::Resync { .. }));
    shared.commit(&set([revoke(1)])).await.unwrap();
    assert!(
        store
            .list(&ListQuery::of(&key(1).tenant))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
