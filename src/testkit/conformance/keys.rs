//! Cases about a single key.

use super::material::{
    Store, Verdict, at, at_once, check_refused, commit, existing, get, head, insert, key, owner,
    rehash, replace, revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::{Digest, KeyId, Revocation, RevokeReason, StoredKey, Title};
use crate::store::{Change, Committed, Outcome, StoreError};

pub(super) async fn a_key_reads_back_unchanged(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let longest = "x".repeat(128);
    // Every byte value, including line feeds and zeros, repeated to the maximum length.
    let bytes = (0..=u8::MAX).cycle();
    let large: Vec<u8> = bytes.take(StoredKey::MAX_DOCUMENT_BYTES).collect();
    let year_9999 = at(253_402_300_799)? + std::time::Duration::from_micros(999_999);
    let keys = [
        key(0)?,
        StoredKey {
            tenant: tenant(&longest)?,
            owner: crate::key::Principal::integration(&longest)?,
            title: Title::new("名前 🔑 'quoted' \\ %_; -- \"x\"")?,
            created_at: at(-62_167_219_200)?, // the first second of the year 0
            expires_at: Some(year_9999),
            predecessor: Some(KeyId::from_u128(0)),
            lineage: KeyId::from_u128(0),
            digest: Digest::new("d".repeat(Digest::MAX_BYTES))?,
            schema: u16::MAX,
            document: large.into(),
            ..key(u128::MAX)?
        },
        StoredKey {
            created_at: year_9999,
            title: Title::new("ä".repeat(Title::MAX_CHARACTERS))?,
            document: Box::default(),
            ..key(1 << 127)?
        },
    ];
    for key in &keys {
        commit(&store, insert(key.clone())).await?;
        let read = store.get(key.id).await?;
        check_eq!(read.as_ref(), Some(key), "a key is read as it was written");
        check!(
            read.is_some_and(|read| read.digest == key.digest && read.document == key.document),
            "digest and document are read as they were written"
        );
    }
    let words = RevokeReason::other("sold; \"DROP TABLE\" 🔑")?;
    for reason in [RevokeReason::Leaked, RevokeReason::Decommissioned, words] {
        let id = KeyId::from_u128(7);
        let fresh = suite.store().await?;
        commit(&fresh, insert(key(7)?)).await?;
        let revoked_at = at(2_000)? + std::time::Duration::from_micros(1);
        let change = Change::Revoke {
            id,
            at: revoked_at,
            reason: reason.clone(),
        };
        let committed = fresh.commit(&set([change])?).await?;
        let revocation = Revocation {
            at: revoked_at,
            reason,
            position: committed.position,
        };
        let read = existing(&fresh, 7).await?;
        check_eq!(
            read.revocation,
            Some(revocation),
            "a revocation is read as it was made"
        );
    }
    Ok(())
}

pub(super) async fn an_unknown_key_is_missing(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    check!(get(&store, 1).await?.is_none(), "an empty store has no key");
    commit(&store, insert(key(1)?)).await?;
    for other in [0, 2, u128::MAX] {
        check!(
            get(&store, other).await?.is_none(),
            "there is no key {other}"
        );
    }
    let outcome = commit(&store, revoke(2)?).await?;
    check_eq!(
        outcome,
        Outcome::Missing,
        "a key that does not exist cannot be revoked"
    );
    let outcome = commit(&store, rehash(2, "$first", "$second")?).await?;
    check_eq!(outcome, Outcome::NotRehashed, "nor rehashed");
    check_refused!(
        store,
        set([replace(2, 1, "new")?])?,
        StoreError::Conflict,
        "nor replaced"
    );
    Ok(())
}

pub(super) async fn insert_never_overwrites(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let outcome = commit(&store, insert(key(1)?)).await?;
    check_eq!(outcome, Outcome::Inserted, "the first insert");
    let other = StoredKey {
        tenant: tenant("other")?,
        title: Title::new("another")?,
        ..key(1)?
    };
    for again in [key(1)?, other] {
        check_refused!(
            store,
            set([insert(again)])?,
            StoreError::AlreadyExists,
            "the id is taken"
        );
    }
    check_eq!(
        existing(&store, 1).await?,
        key(1)?,
        "the first key is untouched"
    );
    // An inserted key has revision 1 and is not revoked, whatever the insert claims.
    let claims = StoredKey {
        revision: 9,
        revocation: Some(Revocation {
            at: at(1)?,
            reason: RevokeReason::Leaked,
            position: 3,
        }),
        cutoff: Some(at(5_000)?),
        ..key(2)?
    };
    commit(&store, insert(claims)).await?;
    check_eq!(
        existing(&store, 2).await?,
        key(2)?,
        "an insert begins at revision 1"
    );
    // Neither a revoked key nor its id can be inserted again.
    commit(&store, revoke(1)?).await?;
    check_refused!(
        store,
        set([insert(key(1)?)])?,
        StoreError::AlreadyExists,
        "the id is taken"
    );
    Ok(())
}

/// Commits each change at once with the others. Returns the number of answers for which `holds` is true.
async fn count_at_once(
    store: &Store,
    changes: Vec<Change>,
    holds: fn(&Result<Committed, StoreError>) -> bool,
) -> Result<usize, Failure> {
    let sets = changes.into_iter().map(|change| set([change]));
    let answers = at_once(store, sets.collect::<Result<Vec<_>, _>>()?).await?;
    Ok(answers.iter().filter(|answer| holds(answer)).count())
}

pub(super) async fn concurrent_inserts_succeed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for id in 0..4 {
        let inserts = (0..8).map(|n| {
            let title = Title::new(format!("by task {n}"))?;
            Ok(insert(StoredKey { title, ..key(id)? }))
        });
        let inserts = inserts.collect::<Result<Vec<_>, Failure>>()?;
        let inserted = count_at_once(&store, inserts, Result::is_ok).await?;
        check_eq!(inserted, 1, "one of eight inserts of one id succeeds");
    }
    Ok(())
}

pub(super) async fn replace_needs_the_read_revision(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    for stale in [0, 2, u64::from(u32::MAX)] {
        check_refused!(
            store,
            set([replace(1, stale, "stale")?])?,
            StoreError::Conflict,
            "revision {stale}"
        );
    }
    for revision in 1..4 {
        let outcome = commit(&store, replace(1, revision, "new")?).await?;
        check_eq!(outcome, Outcome::Replaced, "revision {revision}");
        let read = existing(&store, 1).await?;
        check_eq!(
            read.revision,
            revision + 1,
            "each change raises the revision by one"
        );
        check_refused!(
            store,
            set([replace(1, revision, "again")?])?,
            StoreError::Conflict,
            "a replacement"
        );
    }
    Ok(())
}

pub(super) async fn replace_changes_no_identity(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let with = StoredKey {
        tenant: tenant("thief")?,
        owner: owner("mallory")?,
        created_at: at(1)?,
        digest: Digest::new("$planted")?,
        revision: 77,
        revocation: Some(Revocation {
            at: at(1)?,
            reason: RevokeReason::Leaked,
            position: 1,
        }),
        title: Title::new("new title")?,
        predecessor: Some(KeyId::from_u128(u128::MAX)),
        lineage: KeyId::from_u128(u128::MAX),
        expires_at: Some(at(9_000)?),
        schema: 2,
        document: b"new".as_slice().into(),
        cutoff: Some(at(5_000)?),
        ..key(1)?
    };
    let change = Change::Replace {
        expected: 1,
        with: Box::new(with.clone()),
    };
    commit(&store, change).await?;
    let expected = StoredKey {
        title: with.title,
        predecessor: with.predecessor,
        lineage: with.lineage,
        expires_at: with.expires_at,
        schema: with.schema,
        document: with.document,
        revision: 2,
        ..key(1)?
    };
    check_eq!(
        existing(&store, 1).await?,
        expected,
        "tenant, owner, creation, digest and revocation stay as stored, and the rest is replaced"
    );
    Ok(())
}

pub(super) async fn concurrent_replaces_succeed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    for revision in 1..5 {
        let changes = (0..8).map(|n| replace(1, revision, &format!("by task {n}")));
        let changes = changes.collect::<Result<Vec<_>, Failure>>()?;
        let replaced = count_at_once(&store, changes, Result::is_ok).await?;
        check_eq!(
            replaced,
            1,
            "one of eight replacements of revision {revision} succeeds"
        );
    }
    check_eq!(existing(&store, 1).await?.revision, 5, "and counts once");
    Ok(())
}

pub(super) async fn revoke_wins_and_is_final(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    commit(&store, replace(1, 1, "changed meanwhile")?).await?;
    let outcome = commit(&store, revoke(1)?).await?;
    check_eq!(outcome, Outcome::Revoked, "whatever its revision");
    let revoked = existing(&store, 1).await?;
    check_eq!(revoked.revision, 3, "a revocation raises the revision");
    check_eq!(
        revoked.title.as_str(),
        "changed meanwhile",
        "and changes nothing else"
    );
    let again = Change::Revoke {
        id: KeyId::from_u128(1),
        at: at(9_000)?,
        reason: RevokeReason::Requested,
    };
    let outcome = commit(&store, again).await?;
    let at = at(2_000)?;
    check_eq!(
        outcome,
        Outcome::AlreadyRevoked { at },
        "with the first instant"
    );
    check_eq!(
        existing(&store, 1).await?,
        revoked,
        "the second revocation changes nothing"
    );
    Ok(())
}

pub(super) async fn concurrent_revokes_succeed_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for id in 0..4 {
        commit(&store, insert(key(id)?)).await?;
        let mut changes = (0..6).map(|_| revoke(id)).collect::<Result<Vec<_>, _>>()?;
        // An update and a rehash that race with the revocations.
        changes.push(replace(id, 1, "against it")?);
        changes.push(rehash(id, "$first", "$second")?);
        let revoked = count_at_once(
            &store,
            changes,
            |answer| matches!(answer, Ok(committed) if committed.outcomes == [Outcome::Revoked]),
        )
        .await?;
        check_eq!(revoked, 1, "one of six revocations revokes");
        check!(
            existing(&store, id).await?.revocation.is_some(),
            "and it stays so"
        );
    }
    Ok(())
}

pub(super) async fn a_revoked_key_does_not_change(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    commit(&store, revoke(1)?).await?;
    let revoked = existing(&store, 1).await?;
    for expected in [1, 2] {
        check_refused!(
            store,
            set([replace(1, expected, "undone")?])?,
            StoreError::Conflict,
            "a replacement"
        );
    }
    let outcome = commit(&store, rehash(1, "$first", "$second")?).await?;
    check_eq!(
        outcome,
        Outcome::NotRehashed,
        "a revoked key's digest stays"
    );
    check_eq!(existing(&store, 1).await?, revoked, "nothing has changed");
    Ok(())
}

pub(super) async fn rehash_is_conditional_and_silent(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let before = head(&store).await?;
    let outcome = commit(&store, rehash(1, "$other", "$second")?).await?;
    check_eq!(outcome, Outcome::NotRehashed, "from another digest");
    check_eq!(existing(&store, 1).await?, key(1)?, "nothing has changed");
    let outcome = commit(&store, rehash(1, "$first", "$second")?).await?;
    check_eq!(outcome, Outcome::Rehashed, "from the digest that is stored");
    let expected = StoredKey {
        digest: Digest::new("$second")?,
        ..key(1)?
    };
    check_eq!(
        existing(&store, 1).await?,
        expected,
        "the digest alone has changed"
    );
    check_eq!(head(&store).await?, before, "and nobody needs to know");
    Ok(())
}
