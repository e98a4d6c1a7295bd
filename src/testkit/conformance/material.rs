//! Building blocks of the cases.

use time::OffsetDateTime;

use super::Failure;
use crate::audit::{Event, EventAction};
use crate::key::{Digest, KeyId, Principal, RevokeReason, StoredKey, TenantId, Title};
use crate::random::OsRandom;
use crate::store::{
    Change, ChangeId, ChangeSet, Committed, Cursor, FeedPage, KeyStore, Outcome, StoreError,
};

pub(super) type Verdict = Result<(), Failure>;

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

pub(super) fn event(id: u128) -> Result<Event, Failure> {
    Ok(Event {
        at: at(1_000)?,
        tenant: Some(tenant("t")?),
        actor: owner("alice")?,
        action: EventAction::KeyIssued,
        key: Some(KeyId::from_u128(id)),
        title: Some(Title::new("title")?),
        changes: Vec::new(),
        request: Some("request".into()),
        client: None,
    })
}

pub(super) fn set(changes: impl IntoIterator<Item = Change>) -> Result<ChangeSet, Failure> {
    let set = ChangeSet::new(ChangeId::generate(&OsRandom), changes);
    set.ok_or_else(|| Failure::new("a set has 1 to 16 changes"))
}

/// Commits one change and returns its outcome.
pub(super) async fn commit(store: &dyn KeyStore, change: Change) -> Result<Outcome, Failure> {
    let committed = store.commit(&set([change])?).await?;
    only(committed.outcomes)
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
pub(super) async fn refusal(store: &dyn KeyStore, set: &ChangeSet) -> Result<StoreError, Failure> {
    match store.commit(set).await {
        Ok(Committed { outcomes, .. }) => Err(Failure::new(format!(
            "the set {set:?} must fail, and its outcomes are {outcomes:?}"
        ))),
        Err(error) => Ok(error),
    }
}

pub(super) async fn get(store: &dyn KeyStore, id: u128) -> Result<Option<StoredKey>, Failure> {
    Ok(store.get(KeyId::from_u128(id)).await?)
}

pub(super) async fn existing(store: &dyn KeyStore, id: u128) -> Result<StoredKey, Failure> {
    let key = get(store, id).await?;
    key.ok_or_else(|| Failure::new(format!("key {id} must exist and is missing")))
}

/// Returns the current end of the feed.
pub(super) async fn head(store: &dyn KeyStore) -> Result<Cursor, Failure> {
    match store.changes(None, std::time::Duration::ZERO).await? {
        FeedPage::Resync { next } => Ok(next),
        FeedPage::Next { .. } => Err(Failure::new("without a cursor the answer is `Resync`")),
    }
}
