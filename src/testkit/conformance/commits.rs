//! Cases about a set of changes.

use std::num::NonZeroU32;

use super::material::{
    Verdict, at, at_once, check_recorded, check_refused, commit, cutoff, event, existing, get,
    head, insert, inserts, key, key_of, news, not_cut_off, refusal, replace, revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::StoredKey;
use crate::store::{Change, ChangeSet, Changed, CutoffScope, Outcome, Precondition, StoreError};

fn setting(value: &str) -> Change {
    Change::Setting {
        name: "name".into(),
        value: value.into(),
    }
}

fn below(limit: u32) -> Result<Precondition, Failure> {
    Ok(Precondition::UnrevokedKeysBelow {
        tenant: tenant("t")?,
        limit: NonZeroU32::new(limit).ok_or_else(|| Failure::new("a limit is not 0"))?,
    })
}

pub(super) async fn a_set_is_all_or_nothing(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let before = head(&store).await?;
    for failing in [
        insert(key(1)?),
        replace(1, 7, "stale")?,
        replace(9, 1, "none")?,
    ] {
        let changes = [
            insert(key(2)?),
            revoke(1)?,
            setting("torn"),
            cutoff(CutoffScope::All, 5_000)?,
            failing,
        ];
        let torn = set(changes)?.with_event_of(0, event(2)?);
        refusal(&store, &torn).await?;
        check!(
            get(&store, 2).await?.is_none(),
            "nothing of a set that fails is done"
        );
        check_eq!(
            existing(&store, 1).await?,
            key(1)?,
            "not to another key either"
        );
        check_eq!(head(&store).await?, before, "and nothing is published");
        check_recorded(&store, &[], "nor recorded").await?;
    }
    let outcome = commit(&store, setting("whole")).await?;
    let stands = "whole".to_owned();
    check_eq!(
        outcome,
        Outcome::Setting { stands },
        "no setting is left behind"
    );
    Ok(())
}

pub(super) async fn changes_see_those_before_them(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let changes = [
        insert(key(2)?),
        replace(2, 1, "at once")?,
        revoke(2)?,
        revoke(2)?,
        setting("first"),
        setting("second"),
    ];
    let committed = store.commit(&set(changes)?).await?;
    let stands = || "first".to_owned();
    let expected = [
        Outcome::Inserted,
        Outcome::Replaced,
        Outcome::Revoked,
        Outcome::AlreadyRevoked { at: at(2_000)? },
        Outcome::Setting { stands: stands() },
        Outcome::Setting { stands: stands() },
    ];
    check_eq!(
        committed.outcomes,
        expected,
        "outcomes in the order of the changes"
    );
    let stored = existing(&store, 2).await?;
    check_eq!(
        (stored.title.as_str(), stored.revision),
        ("at once", 3),
        "all was done"
    );
    let twice = set([insert(key(3)?), insert(key(3)?)])?;
    check_refused!(store, twice, StoreError::AlreadyExists, "one id twice");
    Ok(())
}

pub(super) async fn a_set_is_committed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let first = set([insert(key(1)?)])?.with_event(event(1)?);
    let committed = store.commit(&first).await?;
    commit(&store, replace(1, 1, "later")?).await?;
    let revocation = set([revoke(1)?])?.with_event(event(1)?);
    let revoked = store.commit(&revocation).await?;
    let after = head(&store).await?;
    for _ in 0..2 {
        check_eq!(
            store.commit(&first).await?,
            committed,
            "the answer of the first time"
        );
        let again = store.commit(&revocation).await?;
        check_eq!(
            again,
            revoked,
            "a retry of the revocation that revoked says so"
        );
    }
    check_eq!(head(&store).await?, after, "and nothing is done twice");
    check_eq!(existing(&store, 1).await?.revision, 3, "to the key neither");
    check_recorded(&store, &[event(1)?, event(1)?], "nor to the log").await?;
    // Several commits at once under one id, as when a client times out and retries.
    let set = inserts(2..4)?;
    let answers = at_once(&store, vec![set; 6]).await?;
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    check!(
        answers
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a == b)),
        "six tries of one set at once have one answer: {answers:?}"
    );
    Ok(())
}

pub(super) async fn a_failed_set_may_succeed_later(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let waits = set([replace(2, 1, "later")?])?;
    refusal(&store, &waits).await?;
    commit(&store, insert(key(2)?)).await?;
    let committed = store.commit(&waits).await?;
    check_eq!(
        committed.outcomes,
        [Outcome::Replaced],
        "the id of a set that failed is free"
    );
    Ok(())
}

pub(super) async fn no_change_publishes_nothing(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let revoked = store.commit(&set([revoke(1)?])?).await?;
    let before = head(&store).await?;
    check_eq!(
        before.position,
        revoked.position,
        "the feed stands at the last commit"
    );
    let idle = set([revoke(1)?, revoke(9)?, setting("x")])?;
    let idle = idle.with_event_of(0, event(1)?).with_event_of(2, event(1)?);
    let committed = store.commit(&idle).await?;
    check_eq!(committed.position, before.position, "the position stays");
    check_eq!(head(&store).await?, before, "the feed too");
    check_recorded(&store, &[], "no event is recorded").await?;
    Ok(())
}

pub(super) async fn the_largest_set_is_committed(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let start = head(&store).await?;
    let most = u128::try_from(ChangeSet::MAX_CHANGES)?;
    let committed = store.commit(&inserts(0..most)?).await?;
    check_eq!(
        committed.outcomes.len(),
        ChangeSet::MAX_CHANGES,
        "an outcome for each change"
    );
    check_eq!(
        committed.position,
        start.position + 1,
        "one commit, one position"
    );
    let items = news(&store, &start).await?;
    let are_keys = items.iter().all(|item| matches!(item, Changed::Key { .. }));
    check!(are_keys, "all of it is published: {items:?}");
    check_eq!(
        items.len(),
        ChangeSet::MAX_CHANGES,
        "all of it is published"
    );
    Ok(())
}

pub(super) async fn a_failed_precondition_is_named(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for id in 0..3 {
        commit(&store, insert(key(id)?)).await?;
    }
    for (limits, fails) in [
        (vec![3], 0),
        (vec![4, 3], 1),
        (vec![4, 2, 1], 1),
        (vec![9, 5, 3], 2),
    ] {
        let mut full = set([insert(key(9)?)])?;
        for limit in limits {
            full = full.on_condition(below(limit)?);
        }
        match refusal(&store, &full).await? {
            StoreError::PreconditionFailed { index } => check_eq!(index, fails, "the first"),
            error => return Err(Failure::new(format!("a precondition fails: {error:?}"))),
        }
        check!(get(&store, 9).await?.is_none(), "nothing is done");
    }
    // Keys of other tenants and revoked keys do not count, but expired keys do.
    commit(&store, insert(key_of(50, "other", "alice")?)).await?;
    commit(&store, revoke(0)?).await?;
    let expired = StoredKey {
        expires_at: Some(at(1_001)?),
        ..key(51)?
    };
    let set = set([insert(expired)])?.on_condition(below(3)?);
    store.commit(&set).await?;
    Ok(())
}

pub(super) async fn preconditions_see_the_state_before(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    // The revocation would make room if it took effect before the count.
    let swap = set([revoke(1)?, insert(key(2)?)])?.on_condition(below(1)?);
    check_refused!(
        store,
        swap,
        StoreError::PreconditionFailed { index: 0 },
        "the cap counts the state before"
    );
    let swap = inserts(2..4)?.on_condition(below(2)?);
    store.commit(&swap).await?;
    let cutoff = cutoff(CutoffScope::All, 5_000)?;
    let both = set([cutoff, insert(key(4)?)])?.on_condition(not_cut_off(1_000)?);
    store.commit(&both).await?;
    Ok(())
}

pub(super) async fn the_cap_holds_under_concurrency(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let mut sets = Vec::new();
    for id in 0..24 {
        sets.push(set([insert(key(id)?)])?.on_condition(below(7)?));
    }
    let mut inserted = 0;
    for answer in at_once(&store, sets).await? {
        match answer {
            Ok(_) => inserted += 1,
            Err(StoreError::PreconditionFailed { index: 0 }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    check_eq!(
        inserted,
        7,
        "a cap of seven holds for 24 that insert at once"
    );
    Ok(())
}

pub(super) async fn a_setting_is_written_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let before = head(&store).await?;
    for value in ["first", "second", ""] {
        let outcome = commit(&store, setting(value)).await?;
        let stands = "first".to_owned();
        check_eq!(
            outcome,
            Outcome::Setting { stands },
            "the first value stands"
        );
    }
    check_eq!(head(&store).await?, before, "a setting is no news");
    Ok(())
}
