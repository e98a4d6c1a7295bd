//! Cases about damaged keys.

use std::num::NonZeroU32;

use super::lists::{all, ids, tenants_of};
use super::material::{
    Store, Verdict, at, check_refused, commit, cutoff, existing, get, head, insert, key, key_of,
    news, owner, rehash, replace, revoke, set, tenant,
};
use super::purge::purge;
use super::{Doing, Failure, Fixture, Suite, check, check_eq};
use crate::key::{KeyId, Revocation, RevokeReason, StoredKey};
use crate::store::{Change, Changed, CutoffScope, Outcome, Precondition, Segments, StoreError};

/// A text that is not a title.
const NONSENSE: &str = "\u{7}";

/// Stores keys with these ids and damages key 2. `None` if keys cannot be damaged.
async fn damaged(suite: &Suite, stored: &[u128]) -> Result<Option<Fixture>, Failure> {
    let store = suite.store().await?;
    for id in stored {
        commit(&store, insert(key(*id)?)).await?;
    }
    let Some(damaging) = suite.damage(&store, KeyId::from_u128(2), NONSENSE) else {
        return Ok(None);
    };
    damaging.await?;
    let damaged = existing(&store, 2).await?;
    check!(
        damaged != key(2)?,
        "the key reads as if nothing had happened"
    );
    Ok(Some(store))
}

/// Restores the title of key 2.
fn mending(suite: &Suite, store: &Fixture) -> Result<Doing, Failure> {
    let whole = key(2)?;
    let mending = suite.damage(store, whole.id, whole.title.as_str());
    mending.ok_or_else(|| Failure::new("a key can be damaged once and not again"))
}

pub(super) async fn a_damaged_key_spoils_no_other(suite: &Suite) -> Verdict {
    let Some(store) = damaged(suite, &[1, 2, 3]).await? else {
        return Ok(());
    };
    let (damaged, whole) = (existing(&store, 2).await?, key(2)?);
    check_eq!(damaged.id, whole.id, "the id of the damaged key");
    check_eq!(
        damaged.tenant,
        whole.tenant,
        "the tenant of the damaged key"
    );
    check_eq!(
        damaged.created_at,
        whole.created_at,
        "the creation of the damaged key"
    );
    check_eq!(damaged.revision, 1, "the revision of the damaged key");
    for id in [1, 3] {
        check_eq!(existing(&store, id).await?, key(id)?, "key {id} is whole");
    }
    for size in [1, 2, 50] {
        let live = ids(&store, all()?.listing(Segments::Live).limit(size)).await?;
        check_eq!(live, [3, 2, 1], "the tenant's keys, in pages of {size}");
    }
    for id in [1, 2] {
        commit(&store, revoke(id)?).await?;
    }
    check_eq!(ids(&store, all()?).await?, [3, 1, 2], "the list afterwards");
    Ok(())
}

pub(super) async fn a_damaged_key_is_not_changed(suite: &Suite) -> Verdict {
    let Some(store) = damaged(suite, &[2]).await? else {
        return Ok(());
    };
    let (damaged, before) = (existing(&store, 2).await?, head(&store).await?);
    let replacing = set([insert(key(3)?), replace(2, 1, "another")?])?;
    check_refused!(
        store,
        replacing,
        StoreError::Corrupt(_),
        "a damaged key is not replaced"
    );
    check_eq!(get(&store, 3).await?, None, "nothing of that set is done");
    let outcome = commit(&store, rehash(2, "$first", "$second")?).await?;
    check_eq!(
        outcome,
        Outcome::NotRehashed,
        "a damaged key is not rehashed"
    );
    check_refused!(
        store,
        set([insert(key(2)?)])?,
        StoreError::AlreadyExists,
        "a damaged key is not inserted again"
    );
    check_eq!(existing(&store, 2).await?, damaged, "the damaged key");
    check_eq!(head(&store).await?, before, "nothing changed");
    mending(suite, &store)?.await?;
    check_eq!(existing(&store, 2).await?, key(2)?, "the mended key");
    Ok(())
}

pub(super) async fn revocation_keeps_a_damaged_row(suite: &Suite) -> Verdict {
    let Some(store) = damaged(suite, &[1, 2, 3]).await? else {
        return Ok(());
    };
    let (damaged, before) = (existing(&store, 2).await?, head(&store).await?);
    let outcome = commit(&store, revoke(2)?).await?;
    check_eq!(outcome, Outcome::Revoked, "a damaged key can be revoked");
    let revocation = Some(Revocation {
        at: at(2_000)?,
        reason: RevokeReason::Leaked,
        position: before.position.saturating_add(1),
    });
    let revoked = |key: StoredKey| StoredKey {
        revocation: revocation.clone(),
        revision: 2,
        ..key
    };
    check_eq!(
        existing(&store, 2).await?,
        revoked(damaged),
        "the key is revoked, and damaged as before"
    );
    let (id, revision) = (KeyId::from_u128(2), 2);
    check_eq!(
        news(&store, &before).await?,
        [Changed::Key { id, revision }],
        "the feed reports the revocation"
    );
    let again = commit(&store, revoke(2)?).await?;
    check!(
        matches!(again, Outcome::AlreadyRevoked { .. }),
        "a revocation is final"
    );
    mending(suite, &store)?.await?;
    check_eq!(
        existing(&store, 2).await?,
        revoked(key(2)?),
        "a revocation writes its own columns and the revision: the mended key has all else as it was"
    );
    Ok(())
}

pub(super) async fn a_damaged_key_counts_as_a_key(suite: &Suite) -> Verdict {
    let Some(store) = damaged(suite, &[2]).await? else {
        return Ok(());
    };
    commit(&store, insert(key_of(5, "u", "bob")?)).await?;
    let below = Precondition::UnrevokedKeysBelow {
        tenant: tenant("t")?,
        limit: NonZeroU32::MIN,
    };
    check_refused!(
        store,
        set([insert(key(3)?)])?.on_condition(below),
        StoreError::PreconditionFailed { index: 0 },
        "a damaged key counts under the cap"
    );
    let of_alice = CutoffScope::Owner {
        tenant: tenant("t")?,
        owner: owner("alice")?,
    };
    for scope in [CutoffScope::from(&tenant("t")?), of_alice] {
        let outcome = commit(&store, cutoff(scope.clone(), 1_500)?).await?;
        check_eq!(outcome, Outcome::CutOff, "a cutoff over a damaged key");
        check_eq!(
            existing(&store, 2).await?.cutoff,
            Some(at(1_500)?),
            "the cutoff of its tenant binds a damaged key"
        );
        let outcome = commit(&store, lower(scope.clone())?).await?;
        check_eq!(outcome, Outcome::WouldRevive, "{scope} over a damaged key");
    }
    has_keys(&store, "a damaged key").await?;
    commit(&store, revoke(2)?).await?;
    has_keys(&store, "a damaged key that is revoked").await
}

/// Returns the change that moves the cutoff back to before the keys.
fn lower(scope: CutoffScope) -> Result<Change, Failure> {
    Ok(Change::LowerCutoff {
        scope,
        from: at(1_500)?,
        to: at(900)?,
    })
}

/// Checks that the tenant `t` has keys.
async fn has_keys(store: &Store, what: &str) -> Verdict {
    let tenant = tenant("t")?;
    let outcome = commit(store, Change::RemoveTenant { tenant }).await?;
    check_eq!(outcome, Outcome::TenantHasKeys, "a tenant with {what}");
    match tenants_of(store, None, 10).await {
        Ok(tenants) => check_eq!(tenants, ["t", "u"], "the tenants, one with {what}"),
        // A store need not list its tenants.
        Err(_) if matches!(store.tenants(None, 1).await, Err(StoreError::Unsupported)) => {}
        Err(failure) => return Err(failure),
    }
    Ok(())
}

pub(super) async fn a_damaged_key_can_be_purged(suite: &Suite) -> Verdict {
    let Some(store) = damaged(suite, &[2]).await? else {
        return Ok(());
    };
    let outcome = commit(&store, purge(2, 9_000)?).await?;
    check_eq!(
        outcome,
        Outcome::NotPurged,
        "a damaged key that has not ended"
    );
    commit(&store, revoke(2)?).await?;
    let before = head(&store).await?;
    let outcome = commit(&store, purge(2, 9_000)?).await?;
    check_eq!(outcome, Outcome::Purged, "a damaged key that was revoked");
    check_eq!(get(&store, 2).await?, None, "the purged key");
    check_eq!(ids(&store, all()?).await?, [], "the list");
    let (id, revision) = (KeyId::from_u128(2), 3);
    check_eq!(
        news(&store, &before).await?,
        [Changed::Key { id, revision }],
        "the feed, at one revision more"
    );
    check_refused!(
        store,
        set([insert(key(2)?)])?,
        StoreError::AlreadyExists,
        "the id of a purged key"
    );
    let tenant = tenant("t")?;
    let outcome = commit(&store, Change::RemoveTenant { tenant }).await?;
    check_eq!(outcome, Outcome::TenantRemoved, "a tenant without keys");
    Ok(())
}
