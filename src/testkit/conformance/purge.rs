//! Cases about removing ended keys and tenants.

use std::num::NonZeroU32;

use super::material::{
    Verdict, at, check_recorded, check_refused, commit, cutoff, event, existing, get, head, insert,
    key, key_of, news, only, owner, rehash, replace, revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::{KeyId, StoredKey};
use crate::random::OsRandom;
use crate::store::{
    Change, ChangeId, Changed, CutoffScope, ListQuery, Outcome, Precondition, Segments, StoreError,
    Usage,
};

pub(super) fn purge(id: u128, second: i64) -> Result<Change, Failure> {
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

pub(super) async fn a_living_key_is_not_purged(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    commit(&store, expiring(2, 3_000)?).await?;
    commit(&store, insert(key(3)?)).await?;
    // At second 2,000.
    commit(&store, revoke(3)?).await?;
    commit(&store, cutoff((&tenant("t")?).into(), 1_500)?).await?;
    let before = head(&store).await?;
    for (id, second, what) in [
        (1, 9_000, "a cutoff alone says not when a key ended"),
        (2, 2_999, "it expires later"),
        (2, 3_000, "it expires at that instant"),
        (3, 1_999, "it was revoked later"),
        (3, 2_000, "it was revoked at that instant"),
    ] {
        let stored = existing(&store, id).await?;
        let set = set([purge(id, second)?])?.with_event(event(id)?);
        let outcome = only(store.commit(&set).await?.outcomes)?;
        check_eq!(outcome, Outcome::NotPurged, "{what}");
        check_eq!(existing(&store, id).await?, stored, "{what}");
    }
    let outcome = commit(&store, purge(9, 9_000)?).await?;
    check_eq!(outcome, Outcome::Missing, "there is no such key");
    check_eq!(head(&store).await?, before, "nothing changed");
    check_recorded(&store, &[], "no event of a purge that was not done").await?;
    // Only the current expiry counts.
    let mut renewed = existing(&store, 2).await?;
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

pub(super) async fn a_purged_key_is_gone_and_published(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let ids = [1, 2, 3].map(KeyId::from_u128);
    commit(&store, insert(key(1)?)).await?;
    commit(&store, expiring(2, 3_000)?).await?;
    commit(&store, insert(key(3)?)).await?;
    commit(&store, revoke(1)?).await?;
    let used = Usage::new(at(1_100)?, 1, 0);
    let batch = ids.map(|id| (id, used));
    if let Some(usage) = store.usage() {
        usage.merge(ChangeId::generate(&OsRandom), &batch).await?;
    }
    let before = head(&store).await?;
    let set = set([purge(1, 4_000)?, purge(2, 4_000)?, purge(3, 4_000)?])?
        .with_event_of(0, event(1)?)
        .with_event_of(1, event(2)?)
        .with_event_of(2, event(3)?);
    let committed = store.commit(&set).await?;
    let expected = [Outcome::Purged, Outcome::Purged, Outcome::NotPurged];
    check_eq!(committed.outcomes, expected, "two of the keys have ended");
    for id in [1, 2] {
        check_eq!(get(&store, id).await?, None, "key {id}");
    }
    let query = ListQuery::of(&tenant("t")?).listing(Segments::LiveThenRevoked);
    let listed = store.list(&query.at_latest()).await?.items;
    let listed: Vec<_> = listed.into_iter().map(|key| key.id).collect();
    check_eq!(listed, [ids[2]], "the list");
    let items = news(&store, &before).await?;
    let gone = |id, revision| Changed::Key { id, revision };
    check_eq!(
        items,
        [gone(ids[0], 3), gone(ids[1], 2)],
        "the feed, at one revision more"
    );
    check_recorded(
        &store,
        &[event(1)?, event(2)?],
        "events of the purges that were done",
    )
    .await?;
    if let Some(usage) = store.usage() {
        let expected = [None, None, Some(used)];
        check_eq!(usage.read(&ids).await?, expected, "usage");
        // A node may report usage that it saw before the purge.
        usage.merge(ChangeId::generate(&OsRandom), &batch).await?;
        check_eq!(
            usage.read(&ids[..2]).await?,
            [None, None],
            "usage that came late"
        );
    }
    // The purged key's place under the cap is free: only key 3 counts.
    let below = Precondition::UnrevokedKeysBelow {
        tenant: tenant("t")?,
        limit: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
    };
    let another = super::material::set([insert(key(4)?)])?.on_condition(below);
    store.commit(&another).await?;
    Ok(())
}

pub(super) async fn a_purged_id_stays_taken(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    // Revoked and purged together.
    let outcomes = store
        .commit(&set([revoke(1)?, purge(1, 4_000)?])?)
        .await?
        .outcomes;
    check_eq!(outcomes, [Outcome::Revoked, Outcome::Purged], "in one set");
    check_refused!(
        store,
        set([insert(key(1)?)])?,
        StoreError::AlreadyExists,
        "inserted again"
    );
    check_refused!(
        store,
        set([replace(1, 2, "again")?])?,
        StoreError::Conflict,
        "replaced"
    );
    for (change, outcome) in [
        (revoke(1)?, Outcome::Missing),
        (purge(1, 4_000)?, Outcome::Missing),
        (rehash(1, "$first", "$second")?, Outcome::NotRehashed),
    ] {
        check_eq!(
            commit(&store, change).await?,
            outcome,
            "as if it had never been"
        );
    }
    // The id is also taken within the set that purges the key. The whole set then fails.
    commit(&store, expiring(2, 2_000)?).await?;
    check_refused!(
        store,
        set([purge(2, 4_000)?, insert(key(2)?)])?,
        StoreError::AlreadyExists,
        "purged and inserted"
    );
    existing(&store, 2).await?;
    check_eq!(get(&store, 1).await?, None, "in the end");
    Ok(())
}

pub(super) async fn a_purge_is_committed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    commit(&store, revoke(1)?).await?;
    let set = set([purge(1, 4_000)?])?.with_event(event(1)?);
    let first = store.commit(&set).await?;
    check_eq!(store.commit(&set).await?, first, "the same answer again");
    check_eq!(
        head(&store).await?.position,
        first.position,
        "and nothing changed"
    );
    check_recorded(&store, &[event(1)?], "one event").await?;
    Ok(())
}

fn removal(name: &str) -> Result<Change, Failure> {
    Ok(Change::RemoveTenant {
        tenant: tenant(name)?,
    })
}

pub(super) async fn only_an_empty_tenant_is_removed(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let theirs = key_of(9, "u", "alice")?;
    commit(&store, insert(theirs.clone())).await?;
    commit(&store, insert(key(1)?)).await?;
    commit(&store, insert(key(2)?)).await?;
    commit(&store, revoke(2)?).await?;
    let before = head(&store).await?;
    let recorded = set([removal("t")?])?.with_event(event(1)?);
    let outcome = only(store.commit(&recorded).await?.outcomes)?;
    check_eq!(
        outcome,
        Outcome::TenantHasKeys,
        "one is live and one revoked"
    );
    // Remove the live key.
    store.commit(&set([revoke(1)?, purge(1, 4_000)?])?).await?;
    let outcome = commit(&store, removal("t")?).await?;
    check_eq!(outcome, Outcome::TenantHasKeys, "one is revoked");
    let found = existing(&store, 2).await?;
    check!(found.revocation.is_some(), "and stays as it was");
    check_recorded(&store, &[], "no event of what was not done").await?;
    // A set sees its own purges and inserts.
    let last = set([
        purge(2, 4_000)?,
        removal("t")?,
        insert(key(3)?),
        removal("t")?,
    ])?
    .with_event_of(1, event(1)?)
    .with_event_of(3, event(3)?);
    let committed = store.commit(&last).await?;
    let expected = [
        Outcome::Purged,
        Outcome::TenantRemoved,
        Outcome::Inserted,
        Outcome::TenantHasKeys,
    ];
    check_eq!(committed.outcomes, expected, "in one set");
    check_eq!(store.commit(&last).await?, committed, "and once");
    check_recorded(&store, &[event(1)?], "the event of the removal").await?;
    let removed = Changed::Cutoff {
        scope: CutoffScope::from(&tenant("t")?),
    };
    let mut cutoffs = news(&store, &before).await?;
    cutoffs.retain(|news| matches!(news, Changed::Cutoff { .. }));
    check_eq!(cutoffs, [removed], "published as a cutoff of the tenant");
    // Other tenants are unaffected, and a tenant without a cutoff does not get one.
    check_eq!(existing(&store, 9).await?, theirs, "another tenant's key");
    check_eq!(existing(&store, 3).await?.cutoff, None, "a later key");
    let outcome = commit(&store, removal("nobody")?).await?;
    check_eq!(outcome, Outcome::TenantRemoved, "a tenant that never was");
    Ok(())
}

/// An owner with a name that holds the text of the scope of another tenant's owner.
const QUOTING: &str = "Jörg \"owner t x";

pub(super) async fn removal_leaves_the_latest_cutoff(suite: &Suite) -> Verdict {
    let cutoff = |of: &str, by: Option<&str>, second| -> Result<Change, Failure> {
        let tenant = tenant(of)?;
        let scope = match by.map(owner).transpose()? {
            Some(owner) => CutoffScope::Owner { tenant, owner },
            None => CutoffScope::Tenant(tenant),
        };
        cutoff(scope, second)
    };
    for (own, latest) in [(None, 800), (Some(500), 800), (Some(900), 900)] {
        let store = suite.store().await?;
        let before = head(&store).await?;
        // Names with similar beginnings, on either side of the tenant's.
        let others = ["t!", "t-2", "s", "T"];
        for other in others {
            commit(&store, cutoff(other, Some("alice"), 600)?).await?;
        }
        commit(&store, cutoff("s", Some(QUOTING), 600)?).await?;
        commit(&store, cutoff("t", Some("alice"), 700)?).await?;
        commit(&store, cutoff("t", Some("bob"), 800)?).await?;
        if let Some(own) = own {
            commit(&store, cutoff("t", None, own)?).await?;
        }
        // Another cutoff in the set that removes the tenant, and one after the removal.
        let set = set([
            cutoff("t", Some("dora"), 600)?,
            removal("t")?,
            cutoff("t-2", Some("dora"), 600)?,
        ])?;
        let outcomes = store.commit(&set).await?.outcomes;
        let expected = [Outcome::CutOff, Outcome::TenantRemoved, Outcome::CutOff];
        check_eq!(outcomes, expected, "a tenant without keys");
        for (id, of, by, bound) in [
            (1, "t", "alice", Some(latest)),
            (2, "t", "bob", Some(latest)),
            (3, "t", "carol", Some(latest)),
            (4, "t!", "alice", Some(600)),
            (5, "t-2", "alice", Some(600)),
            (6, "s", "alice", Some(600)),
            (7, "T", "alice", Some(600)),
            (8, "t!", "bob", None),
            (9, "s", QUOTING, Some(600)),
        ] {
            commit(&store, insert(key_of(id, of, by)?)).await?;
            let bound = bound.map(at).transpose()?;
            let found = existing(&store, id).await?.cutoff;
            check_eq!(found, bound, "{by} of {of}, where the tenant's was {own:?}");
        }
        let quoting = CutoffScope::Owner {
            tenant: tenant("s")?,
            owner: owner(QUOTING)?,
        };
        let mut is_quoting_there = false;
        for item in news(&store, &before).await? {
            if let Changed::Cutoff { scope } = item {
                is_quoting_there |= scope == quoting;
                let is_others = others.iter().any(|other| {
                    scope
                        .tenant()
                        .is_some_and(|tenant| tenant.as_str() == *other)
                });
                let is_whole = scope == CutoffScope::from(&tenant("t")?);
                check!(is_others || is_whole, "the feed names {scope}");
                let is_owners = matches!(scope, CutoffScope::Owner { .. });
                check!(is_owners == is_others, "the feed names {scope}");
            }
        }
        check!(is_quoting_there, "the feed names another tenant's owner");
        // No owner's cutoff is left that could come back.
        let again = commit(&store, cutoff("t", Some("alice"), 1)?).await?;
        check_eq!(again, Outcome::CutOff, "an owner's cutoff is set anew");
        let found = existing(&store, 1).await?.cutoff;
        check_eq!(found, Some(at(latest)?), "below the tenant's");
    }
    Ok(())
}
