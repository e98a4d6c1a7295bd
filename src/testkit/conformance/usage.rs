//! Cases about the usage of keys, for stores that keep it.

use std::time::Duration;

use super::material::{Verdict, at, commit, insert, key, revoke};
use super::{Failure, Suite, check_eq};
use crate::key::KeyId;
use crate::random::OsRandom;
use crate::store::{ChangeId, Usage};

fn used(second: i64, granted: u64, refused: u64) -> Result<Usage, Failure> {
    Ok(Usage {
        last_used_at: at(second)? + Duration::from_micros(1),
        granted,
        refused,
    })
}

pub(super) async fn each_batch_is_merged_once(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(usage) = store.usage() else {
        return Ok(());
    };
    let ids: Vec<_> = (0..4).map(KeyId::from_u128).collect();
    for id in 0..4 {
        commit(&store, insert(key(id)?)).await?;
    }
    check_eq!(usage.read(&ids).await?, [None; 4], "none was used yet");
    check_eq!(usage.read(&[]).await?, [], "nothing is asked");
    let (first, second) = (KeyId::from_u128(0), KeyId::from_u128(1));
    let batch = [(first, used(10, 2, 1)?), (second, used(20, 0, 5)?)];
    let id = ChangeId::generate(&OsRandom);
    for _ in 0..2 {
        usage.merge(id, &batch).await?;
    }
    let expected = [Some(batch[0].1), Some(batch[1].1), None, None];
    check_eq!(
        usage.read(&ids).await?,
        expected,
        "a batch that comes twice counts once"
    );
    // The latest instant and the sums count, in any order. A key may appear twice in a batch.
    let earlier = [
        (first, used(5, 1, 0)?),
        (second, used(30, 1, 1)?),
        (first, used(7, 1, 1)?),
    ];
    usage.merge(ChangeId::generate(&OsRandom), &earlier).await?;
    let expected = [Some(used(10, 4, 2)?), Some(used(30, 1, 6)?), None, None];
    check_eq!(usage.read(&ids).await?, expected, "batches are merged");
    let backwards = [second, first, second];
    let expected = [expected[1], expected[0], expected[1]];
    check_eq!(
        usage.read(&backwards).await?,
        expected,
        "in the order asked"
    );
    usage.merge(ChangeId::generate(&OsRandom), &[]).await?;
    let most = [(first, used(10, u64::MAX, 0)?)];
    usage.merge(ChangeId::generate(&OsRandom), &most).await?;
    let kept = usage.read(&[first]).await?;
    let granted = kept.first().copied().flatten().map(|usage| usage.granted);
    // Integers of a database may end at the largest signed one.
    let ends = [Some(u64::MAX), Some(u64::MAX >> 1)];
    if !ends.contains(&granted) {
        return Err(Failure::new(format!("sums stay at the end: {granted:?}")));
    }
    // A revoked key keeps its usage: an investigation asks for its last use.
    commit(&store, revoke(1)?).await?;
    check_eq!(
        usage.read(&[second]).await?,
        [expected[0]],
        "after its revocation"
    );
    Ok(())
}

pub(super) async fn usage_of_unknown_keys_is_skipped(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let Some(usage) = store.usage() else {
        return Ok(());
    };
    commit(&store, insert(key(1)?)).await?;
    let (known, unknown) = (KeyId::from_u128(1), KeyId::from_u128(2));
    let batch = [(unknown, used(10, 1, 0)?), (known, used(10, 1, 0)?)];
    usage.merge(ChangeId::generate(&OsRandom), &batch).await?;
    let expected = [Some(used(10, 1, 0)?), None];
    check_eq!(
        usage.read(&[known, unknown]).await?,
        expected,
        "the others are merged"
    );
    Ok(())
}
