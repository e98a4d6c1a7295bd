//! Cases about cutoffs.

use super::material::{
    Verdict, at, at_once, check_refused, commit, cutoff, existing, head, insert, key, key_of, news,
    not_cut_off, owner, revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::StoredKey;
use crate::store::{Change, Changed, CutoffScope, ListQuery, Outcome, StoreError};

fn of_owner(name: &str) -> Result<CutoffScope, Failure> {
    Ok(CutoffScope::Owner {
        tenant: tenant("t")?,
        owner: owner(name)?,
    })
}

fn of_tenant(name: &str) -> Result<CutoffScope, Failure> {
    Ok(CutoffScope::from(&tenant(name)?))
}

pub(super) async fn a_cutoff_moves_forward_only(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let before = head(&store).await?;
    for (scope, second, outcome, stands) in [
        (of_tenant("t")?, 500, Outcome::CutOff, 500),
        (of_tenant("t")?, 400, Outcome::AlreadyCutOff, 500),
        (of_tenant("t")?, 500, Outcome::AlreadyCutOff, 500),
        (CutoffScope::All, 450, Outcome::CutOff, 500),
        (CutoffScope::All, 700, Outcome::CutOff, 700),
        (of_tenant("t")?, 600, Outcome::CutOff, 700),
        (of_owner("alice")?, 800, Outcome::CutOff, 800),
        (of_owner("alice")?, 799, Outcome::AlreadyCutOff, 800),
    ] {
        let found = commit(&store, cutoff(scope.clone(), second)?).await?;
        check_eq!(found, outcome, "{scope} at {second}");
        let stored = existing(&store, 1).await?;
        check_eq!(stored.cutoff, Some(at(stands)?), "the latest that binds it");
        check_eq!(stored.revision, 1, "a cutoff changes no key");
    }
    let set = set([
        cutoff(of_tenant("t")?, 900)?,
        cutoff(of_tenant("t")?, 890)?,
        cutoff(of_tenant("u")?, 1)?,
    ])?;
    let outcomes = store.commit(&set).await?.outcomes;
    let expected = [Outcome::CutOff, Outcome::AlreadyCutOff, Outcome::CutOff];
    check_eq!(outcomes, expected, "changes of one set see each other");
    let is_cutoff = |item: &Changed| matches!(item, Changed::Cutoff { .. });
    let items = news(&store, &before).await?;
    check!(
        items.iter().all(is_cutoff) && items.len() == 7,
        "each that moved is news"
    );
    Ok(())
}

pub(super) async fn lowering_a_cutoff_revives_no_key(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for (id, name, by, second) in [
        (1, "t", "alice", 100),
        (2, "t", "alice", 200),
        (3, "t", "bob", 300),
        (4, "u", "alice", 400),
    ] {
        let issued = StoredKey {
            created_at: at(second)?,
            ..key_of(id, name, by)?
        };
        commit(&store, insert(issued)).await?;
    }
    let lower = |scope, from, to| -> Result<Change, Failure> {
        Ok(Change::LowerCutoff {
            scope,
            from: at(from)?,
            to: at(to)?,
        })
    };
    let stands = |second: Option<i64>| -> Result<Outcome, Failure> {
        let at = second.map(at).transpose()?;
        Ok(Outcome::CutoffStands { at })
    };
    let alice = || of_owner("alice");
    let before = head(&store).await?;
    for (change, outcome) in [
        (lower(alice()?, 500, 250)?, stands(None)?),
        (cutoff(alice()?, 500)?, Outcome::CutOff),
        (lower(alice()?, 499, 250)?, stands(Some(500))?),
        (lower(alice()?, 501, 250)?, stands(Some(500))?),
        (lower(alice()?, 500, 500)?, stands(Some(500))?),
        (lower(alice()?, 500, 501)?, stands(Some(500))?),
        // Keys of other owners and tenants do not count.
        (lower(alice()?, 500, 200)?, Outcome::WouldRevive),
        (lower(alice()?, 500, 201)?, Outcome::CutoffLowered),
        (lower(alice()?, 500, 201)?, stands(Some(201))?),
        (lower(alice()?, 201, 200)?, Outcome::WouldRevive),
        (cutoff(of_tenant("t")?, 500)?, Outcome::CutOff),
        (lower(of_tenant("t")?, 500, 300)?, Outcome::WouldRevive),
        (lower(of_tenant("t")?, 500, 301)?, Outcome::CutoffLowered),
        (cutoff(CutoffScope::All, 400)?, Outcome::CutOff),
        // A key issued at exactly the cutoff is not cut off.
        (lower(CutoffScope::All, 400, 301)?, Outcome::CutoffLowered),
        (cutoff(CutoffScope::All, 401)?, Outcome::CutOff),
        (lower(CutoffScope::All, 401, 302)?, Outcome::WouldRevive),
        (revoke(4)?, Outcome::Revoked),
        (lower(CutoffScope::All, 401, 302)?, Outcome::CutoffLowered),
    ] {
        let found = commit(&store, change.clone()).await?;
        check_eq!(found, outcome, "{change:?}");
    }
    let stored = existing(&store, 1).await?;
    check_eq!(stored.cutoff, Some(at(302)?), "the latest that binds it");
    let is_cutoff = |item: &&Changed| matches!(item, Changed::Cutoff { .. });
    let items = news(&store, &before).await?;
    check_eq!(
        items.iter().filter(is_cutoff).count(),
        8,
        "each that moved is news"
    );
    Ok(())
}

pub(super) async fn a_cutoff_binds_its_scope(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let keys = [(1, "t", "alice"), (2, "t", "bob"), (3, "u", "alice")];
    for (id, name, by) in keys {
        commit(&store, insert(key_of(id, name, by)?)).await?;
    }
    let mut expected: [Option<i64>; 3] = [None; 3];
    for (scope, second, bound) in [
        (of_owner("bob")?, 5_000, [None, Some(5_000), None]),
        (of_tenant("u")?, 6_000, [None, None, Some(6_000)]),
        (of_tenant("t")?, 5_500, [Some(5_500), Some(5_500), None]),
        (of_owner("alice")?, 5_600, [Some(5_600), None, None]),
        (CutoffScope::All, 5_550, [Some(5_550); 3]),
    ] {
        commit(&store, cutoff(scope.clone(), second)?).await?;
        for ((known, bound), (id, name, _)) in expected.iter_mut().zip(bound).zip(keys) {
            *known = (*known).max(bound);
            let found = existing(&store, id).await?.cutoff;
            let known = known.map(at).transpose()?;
            check_eq!(found, known, "key {id} after {scope}");
            let listed = store
                .list(&ListQuery::of(&tenant(name)?).at_latest())
                .await?;
            let mut listed = listed.items.into_iter();
            let listed = listed
                .find(|key| key.id.as_u128() == id)
                .map(|key| key.cutoff);
            check_eq!(listed, Some(known), "key {id} in its list after {scope}");
        }
    }
    // A key that is inserted later is bound too.
    commit(&store, insert(key_of(4, "t", "carol")?)).await?;
    check_eq!(
        existing(&store, 4).await?.cutoff,
        Some(at(5_550)?),
        "a later key"
    );
    Ok(())
}

pub(super) async fn inserts_can_require_no_cutoff(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let mut id = 0;
    for scope in [CutoffScope::All, of_tenant("t")?, of_owner("alice")?] {
        let before = i64::try_from(2_000 + 1_000 * id)?;
        commit(&store, cutoff(scope.clone(), before)?).await?;
        for (second, lives) in [(before - 1, false), (before, true), (before + 1, true)] {
            id += 1;
            let issued = StoredKey {
                created_at: at(second)?,
                ..key(id)?
            };
            let set = set([insert(issued)])?.on_condition(not_cut_off(second)?);
            if lives {
                store.commit(&set).await?;
            } else {
                check_refused!(
                    store,
                    set,
                    StoreError::PreconditionFailed { index: 0 },
                    "{scope}, issued at {second}"
                );
            }
        }
    }
    // Another owner's cutoff does not apply.
    commit(&store, cutoff(of_owner("bob")?, 1_000_000)?).await?;
    let kept = set([insert(key(99)?)])?.on_condition(not_cut_off(900_000)?);
    store.commit(&kept).await?;
    Ok(())
}

pub(super) async fn no_insert_slips_past_a_new_cutoff(suite: &Suite) -> Verdict {
    for _ in 0..12 {
        let store = suite.store().await?;
        let before = head(&store).await?;
        let mut sets = Vec::new();
        for id in 0..12 {
            sets.push(match id {
                6 => set([cutoff(of_tenant("t")?, 1_001)?])?,
                _ => set([insert(key(id)?)])?.on_condition(not_cut_off(1_000)?),
            });
        }
        for answer in at_once(&store, sets).await? {
            match answer {
                Ok(_) | Err(StoreError::PreconditionFailed { index: 0 }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let items = news(&store, &before).await?;
        let is_cutoff = |item: &Changed| matches!(item, Changed::Cutoff { .. });
        check_eq!(
            items.iter().position(is_cutoff),
            items.len().checked_sub(1),
            "inserts on condition that there is no cutoff come before it: {items:?}"
        );
    }
    Ok(())
}
