//! Building blocks of the cases.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Failure, check_eq};
use crate::audit::{Event, EventAction, FieldChange};
use crate::key::{Digest, KeyId, Principal, RevokeReason, StoredKey, TenantId, Title};
use crate::random::OsRandom;
use crate::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, Cursor, CutoffScope, FeedPage, KeyStore,
    Outcome, Precondition, StoreError,
};

pub(super) type Verdict = Result<(), Failure>;

pub(super) type Store = Arc<dyn KeyStore>;

/// Returns the instant this many seconds after the epoch.
pub(super) fn at(second: i64) -> Result<OffsetDateTime, Failure> {
    Ok(OffsetDateTime::from_unix_timestamp(second)?)
}

pub(super) fn tenant(name: &str) -> Result<TenantId, Failure> {
    Ok(TenantId::new(name)?)
}

pub(super) fn owner(name: &str) -> Result<Principal, Failure> {
    Ok(Principal::user(name)?)
}

/// Returns a key of the tenant `t`, issued at second 1,000.
pub(super) fn key(id: u128) -> Result<StoredKey, Failure> {
    let id = KeyId::from_u128(id);
    Ok(StoredKey {
        id,
        tenant: tenant("t")?,
        owner: owner("alice")?,
        title: Title::new("title")?,
        created_at: at(1_000)?,
        revocation: None,
        expires_at: None,
        predecessor: None,
        lineage: id,
        digest: Digest::new("$first")?,
        revision: 1,
        schema: 1,
        document: b"{}".as_slice().into(),
        cutoff: None,
    })
}

/// Returns a key as [`key`] does, of this tenant and user.
pub(super) fn key_of(id: u128, of: &str, by: &str) -> Result<StoredKey, Failure> {
    Ok(StoredKey {
        tenant: tenant(of)?,
        owner: owner(by)?,
        ..key(id)?
    })
}

pub(super) fn insert(key: StoredKey) -> Change {
    Change::Insert(Box::new(key))
}

pub(super) fn replace(id: u128, expected: u64, title: &str) -> Result<Change, Failure> {
    let with = StoredKey {
        title: Title::new(title)?,
        ..key(id)?
    };
    Ok(Change::Replace {
        expected,
        with: Box::new(with),
    })
}

pub(super) fn revoke(id: u128) -> Result<Change, Failure> {
    Ok(Change::Revoke {
        id: KeyId::from_u128(id),
        at: at(2_000)?,
        reason: RevokeReason::Leaked,
    })
}

pub(super) fn rehash(id: u128, from: &str, to: &str) -> Result<Change, Failure> {
    Ok(Change::Rehash {
        id: KeyId::from_u128(id),
        from: Digest::new(from)?,
        to: Digest::new(to)?,
    })
}

pub(super) fn cutoff(scope: CutoffScope, second: i64) -> Result<Change, Failure> {
    Ok(Change::Cutoff {
        scope,
        before: at(second)?,
    })
}

/// Returns the precondition that a key of `alice` in `t`, issued at this second, is not cut off.
pub(super) fn not_cut_off(second: i64) -> Result<Precondition, Failure> {
    Ok(Precondition::NotCutOff {
        tenant: tenant("t")?,
        owner: owner("alice")?,
        issued_at: at(second)?,
    })
}

pub(super) fn event(id: u128) -> Result<Event, Failure> {
    Ok(Event {
        at: at(1_000)?,
        tenant: Some(tenant("t")?),
        actor: owner("alice")?,
        action: EventAction::KeyIssued,
        key: Some(KeyId::from_u128(id)),
        title: Some(Title::new("title")?),
        // An escape, and not the character: no text contains that.
        changes: vec![FieldChange::set("metadata", r#"{"🔑'":"\u0000"}"#)],
        request: Some("request".into()),
        client: None,
    })
}

pub(super) fn set(changes: impl IntoIterator<Item = Change>) -> Result<ChangeSet, Failure> {
    let set = ChangeSet::new(ChangeId::generate(&OsRandom), changes);
    set.ok_or_else(|| Failure::new("a set has 1 to 16 changes"))
}

/// Returns a set that inserts the keys with these ids.
pub(super) fn inserts(ids: std::ops::Range<u128>) -> Result<ChangeSet, Failure> {
    let inserts = ids.map(|id| Ok(insert(key(id)?)));
    set(inserts.collect::<Result<Vec<_>, Failure>>()?)
}

/// Commits one change and returns its outcome.
pub(super) async fn commit(store: &Store, change: Change) -> Result<Outcome, Failure> {
    let committed = store.commit(&set([change])?).await?;
    only(committed.outcomes)
}

/// Commits each set in a task of its own, all at once.
pub(super) async fn at_once(
    store: &Store,
    sets: impl IntoIterator<Item = ChangeSet>,
) -> Result<Vec<Result<Committed, StoreError>>, Failure> {
    let mut tasks = Vec::new();
    for set in sets {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move { store.commit(&set).await }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await?);
    }
    Ok(answers)
}

pub(super) fn only<T>(items: Vec<T>) -> Result<T, Failure> {
    let count = items.len();
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (Some(item), None) => Ok(item),
        _ => Err(Failure::new(format!("one was expected, and {count} came"))),
    }
}

/// Returns the error of a commit that must fail.
pub(super) async fn refusal(store: &Store, set: &ChangeSet) -> Result<StoreError, Failure> {
    match store.commit(set).await {
        Ok(Committed { outcomes, .. }) => Err(Failure::new(format!(
            "the set {set:?} must fail, and its outcomes are {outcomes:?}"
        ))),
        Err(error) => Ok(error),
    }
}

pub(super) async fn get(store: &Store, id: u128) -> Result<Option<StoredKey>, Failure> {
    Ok(store.get(KeyId::from_u128(id)).await?)
}

pub(super) async fn existing(store: &Store, id: u128) -> Result<StoredKey, Failure> {
    let key = get(store, id).await?;
    key.ok_or_else(|| Failure::new(format!("key {id} must exist and is missing")))
}

/// Returns the current end of the feed.
pub(super) async fn head(store: &Store) -> Result<Cursor, Failure> {
    match store.changes(None, Duration::ZERO).await? {
        FeedPage::Resync { next } => Ok(next),
        FeedPage::Next { .. } => Err(Failure::new("without a cursor the answer is `Resync`")),
    }
}

/// Returns the changes of a page of the feed, and the cursor after it.
pub(super) async fn page(store: &Store, after: &Cursor) -> Result<(Vec<Changed>, Cursor), Failure> {
    match store.changes(Some(after), Duration::ZERO).await? {
        FeedPage::Next { items, next, .. } => Ok((items, next)),
        FeedPage::Resync { .. } => Err(Failure::new(format!("{after:?} is known to the feed"))),
    }
}

/// Returns the changes after this cursor that fit on a page.
pub(super) async fn news(store: &Store, after: &Cursor) -> Result<Vec<Changed>, Failure> {
    Ok(page(store, after).await?.0)
}

/// Checks that these events and no others are recorded, if the store keeps events.
pub(super) async fn check_recorded(store: &Store, expected: &[Event], what: &str) -> Verdict {
    if let Some(log) = store.events() {
        let events = log.read(None, 0, 100).await?;
        let events: Vec<_> = events.into_iter().map(|sealed| sealed.event).collect();
        check_eq!(events, expected, "{what}");
    }
    Ok(())
}

/// Checks that the store refuses the set with this error.
macro_rules! check_refused {
    ($store:expr, $set:expr, $error:pat, $($text:tt)+) => {
        match $crate::testkit::conformance::material::refusal(&$store, &$set).await? {
            $error => {}
            error => {
                let what = format!($($text)+);
                return Err(Failure::new(format!("{what}: {error:?}")));
            }
        }
    };
}

pub(super) use check_refused;
