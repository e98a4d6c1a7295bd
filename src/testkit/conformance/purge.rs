//! Removing keys that have ended.

use std::num::NonZeroU32;
use std::time::Duration;

use super::material::{
    Verdict, at, commit, event, existing, get, head, insert, key, only, refusal, rehash, replace,
    revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::{KeyId, StoredKey};
use crate::random::OsRandom;
use crate::store::{
    Change, ChangeId, Changed, FeedPage, ListQuery, Outcome, Precondition, Segments, StoreError,
    Usage,
};

fn purge(id: u128, second: i64) -> Result<Change, Failure> {
    Ok(Change::Purge {
        id: KeyId::from_u128(id),
        ended_before: at(second)?,
    })
}

fn expiring(id: u128, second: i64) -> Result<Change, Failure> {
    Ok(insert(StoredKey {
        expires_at: Some(at(second)?),
        ..key(id)?
    }))
}

pub(super) async fn a_key_that_has_not_ended_is_not_purged(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&**store, insert(key(1)?)).await?;
    commit(&**store, expiring(2, 3_000)?).await?;
    commit(&**store, insert(key(3)?)).await?;
    // At second 2,000.
    commit(&**store, revoke(3)?).await?;
    let cutoff = Change::Cutoff {
        scope: (&tenant("t")?).into(),
        before: at(1_500)?,
    };
    commit(&**store, cutoff).await?;
    let before = head(&**store).await?;
    for (id, second, what) in [
        (1, 9_000, "a cutoff alone says not when a key ended"),
        (2, 2_999, "it expires later"),
        (2, 3_000, "it expires at that instant"),
        (3, 1_999, "it was revoked later"),
        (3, 2_000, "it was revoked at that instant"),
    ] {
        let stored = existing(&**store, id).await?;
        let set = set([purge(id, second)?])?.with_event(event(id)?);
        let outcome = only(store.commit(&set).await?.outcomes)?;
        check_eq!(outcome, Outcome::NotPurged, "{what}");
        check_eq!(existing(&**store, id).await?, stored, "{what}");
    }
    let outcome = commit(&**store, purge(9, 9_000)?).await?;
    check_eq!(outcome, Outcome::Missing, "there is no such key");
    check_eq!(head(&**store).await?, before, "nothing changed");
    if let Some(log) = store.events() {
        check_eq!(
            log.read(None, 0, 100).await?,
            [],
            "no event of a purge that was not done"
        );
    }
    // An expiry that was moved is the one that counts.
    let mut renewed = existing(&**store, 2).await?;
    renewed.expires_at = Some(at(8_000)?);
    let renew = Change::Replace {
        expected: 1,
        with: Box::new(renewed),
    };
    let outcomes = store
        .commit(&set([renew, purge(2, 5_000)?])?)
        .await?
        .outcomes;
    check_eq!(
        outcomes,
        [Outcome::Replaced, Outcome::NotPurged],
        "a key that lives again"
    );
    Ok(())
}

pub(super) async fn a_purged_key_is_gone_and_is_news(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let ids = [
        KeyId::from_u128(1),
        KeyId::from_u128(2),
        KeyId::from_u128(3),
    ];
    commit(&**store, insert(key(1)?)).await?;
    commit(&**store, expiring(2, 3_000)?).await?;
    commit(&**store, insert(key(3)?)).await?;
    commit(&**store, revoke(1)?).await?;
    let used = Usage::new(at(1_100)?, 1, 0);
    let batch = ids.map(|id| (id, used));
    if let Some(usage) = store.usage() {
        usage.merge(ChangeId::generate(&OsRandom), &batch).await?;
    }
    let before = head(&**store).await?;
    let set = set([purge(1, 4_000)?, purge(2, 4_000)?, purge(3, 4_000)?])?
        .with_event_of(0, event(1)?)
        .with_event_of(1, event(2)?)
        .with_event_of(2, event(3)?);
    let committed = store.commit(&set).await?;
    let expected = [Outcome::Purged, Outcome::Purged, Outcome::NotPurged];
    check_eq!(committed.outcomes, expected, "two of the keys have ended");
    for id in [1, 2] {
        check_eq!(get(&**store, id).await?, None, "key {id}");
    }
    let query = ListQuery::of(&tenant("t")?).listing(Segments::LiveThenRevoked);
    let listed = store.list(&query.at_latest()).await?.items;
    let listed: Vec<_> = listed.into_iter().map(|key| key.id).collect();
    check_eq!(listed, [ids[2]], "the list");
    let FeedPage::Next { items, .. } = store.changes(Some(&before), Duration::ZERO).await? else {
        return Err(Failure::new("the cursor is known"));
    };
    let gone = |id, revision| Changed::Key { id, revision };
    check_eq!(
        items,
        [gone(ids[0], 3), gone(ids[1], 2)],
        "the feed, at one revision more"
    );
    if let Some(log) = store.events() {
        let told = log.read(None, 0, 100).await?;
        let told: Vec<_> = told.into_iter().map(|sealed| sealed.event.key).collect();
        check_eq!(
            told,
            [Some(ids[0]), Some(ids[1])],
            "events of the purges that were done"
        );
    }
    if let Some(usage) = store.usage() {
        let expected = [None, None, Some(used)];
        check_eq!(usage.read(&ids).await?, expected, "usage");
        // A node hands on later what it saw before.
        usage.merge(ChangeId::generate(&OsRandom), &batch).await?;
        check_eq!(
            usage.read(&ids[..2]).await?,
            [None, None],
            "usage that came late"
        );
    }
    // Its place under the cap is free: key 3 is the only one that counts.
    let below = Precondition::UnrevokedKeysBelow {
        tenant: tenant("t")?,
        limit: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
    };
    let another = super::material::set([insert(key(4)?)])?.on_condition(below);
    store.commit(&another).await?;
    Ok(())
}

pub(super) async fn the_id_of_a_purged_key_stays_taken(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&**store, insert(key(1)?)).await?;
    // Revoked and purged together.
    let outcomes = store
        .commit(&set([revoke(1)?, purge(1, 4_000)?])?)
        .await?
        .outcomes;
    check_eq!(outcomes, [Outcome::Revoked, Outcome::Purged], "in one set");
    let error = refusal(&**store, &set([insert(key(1)?)])?).await?;
    check!(
        matches!(error, StoreError::AlreadyExists),
        "inserted again: {error:?}"
    );
    let error = refusal(&**store, &set([replace(1, 2, "again")?])?).await?;
    check!(matches!(error, StoreError::Conflict), "replaced: {error:?}");
    for (change, outcome) in [
        (revoke(1)?, Outcome::Missing),
        (purge(1, 4_000)?, Outcome::Missing),
        (rehash(1, "$first", "$second")?, Outcome::NotRehashed),
    ] {
        check_eq!(
            commit(&**store, change).await?,
            outcome,
            "as if it had never been"
        );
    }
    // In the set that purges it, too; then nothing of the set is done.
    commit(&**store, expiring(2, 2_000)?).await?;
    let error = refusal(&**store, &set([purge(2, 4_000)?, insert(key(2)?)])?).await?;
    check!(
        matches!(error, StoreError::AlreadyExists),
        "purged and inserted: {error:?}"
    );
    existing(&**store, 2).await?;
    check_eq!(get(&**store, 1).await?, None, "in the end");
    Ok(())
}

pub(super) async fn a_purge_is_committed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&**store, insert(key(1)?)).await?;
    commit(&**store, revoke(1)?).await?;
    let set = set([purge(1, 4_000)?])?.with_event(event(1)?);
    let first = store.commit(&set).await?;
    check_eq!(store.commit(&set).await?, first, "the same answer again");
    check_eq!(
        head(&**store).await?.position,
        first.position,
        "and nothing changed"
    );
    if let Some(log) = store.events() {
        check_eq!(log.read(None, 0, 100).await?.len(), 1, "one event");
    }
    Ok(())
}
