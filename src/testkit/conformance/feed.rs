//! Cases about the feed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::material::{Verdict, commit, head, insert, inserts, key, page, replace, revoke};
use super::{Failure, PATIENCE, Suite, check, check_eq};
use crate::key::KeyId;
use crate::store::{ChangeSet, Changed, Cursor, FeedPage};

/// A wait longer than any case may take.
const LONGER: Duration = PATIENCE.saturating_mul(2);

fn key_at(id: u128, revision: u64) -> Changed {
    Changed::Key {
        id: KeyId::from_u128(id),
        revision,
    }
}

pub(super) async fn changes_come_in_commit_order(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let start = head(&store).await?;
    let (items, next) = page(&store, &start).await?;
    check!(
        items.is_empty() && next == start,
        "no news before the first commit"
    );
    commit(&store, insert(key(1)?)).await?;
    commit(&store, insert(key(2)?)).await?;
    commit(&store, replace(2, 1, "new")?).await?;
    let (items, next) = page(&store, &start).await?;
    check_eq!(
        items,
        [key_at(1, 1), key_at(2, 1), key_at(2, 2)],
        "what was committed, in order"
    );
    commit(&store, revoke(1)?).await?;
    let (items, end) = page(&store, &next).await?;
    check_eq!(items, [key_at(1, 2)], "only what came after the cursor");
    check_eq!(end, head(&store).await?, "and then there is no more");
    check_eq!(
        page(&store, &end).await?,
        (Vec::new(), end.clone()),
        "none at the end"
    );
    let (items, _) = page(&store, &start).await?;
    check_eq!(items.len(), 4, "an older cursor still tells all");
    Ok(())
}

pub(super) async fn a_commit_comes_whole(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let start = head(&store).await?;
    let (mut written, mut ends) = (0, Vec::new());
    // Uses every size in turn, so that no round number of changes always ends with a commit.
    for size in (1..=16_u128).cycle().take(192) {
        store.commit(&inserts(written..written + size)?).await?;
        written += size;
        ends.push(written);
    }
    let (mut cursor, mut seen) = (start, 0);
    loop {
        let (items, next) = page(&store, &cursor).await?;
        for item in &items {
            check_eq!(*item, key_at(seen, 1), "in order, and none twice");
            seen += 1;
        }
        let goes_on = next.position > cursor.position;
        check!(
            goes_on || items.is_empty(),
            "a page with news moves the cursor"
        );
        if !goes_on {
            break;
        }
        check!(
            ends.contains(&seen),
            "a page ends with a whole commit, and not after {seen} changes"
        );
        cursor = next;
    }
    check_eq!(seen, written, "all pages together tell all");
    Ok(())
}

pub(super) async fn the_last_page_is_complete(suite: &Suite) -> Verdict {
    const COMMITS: u128 = 188;
    let store = suite.store().await?;
    let start = head(&store).await?;
    // More changes than a page can be expected to hold.
    let size = u128::try_from(ChangeSet::MAX_CHANGES)?;
    for commit in 0..COMMITS {
        let first = commit * size;
        store.commit(&inserts(first..first + size)?).await?;
    }
    let end = head(&store).await?;
    let (mut cursor, mut published) = (start, 0);
    loop {
        let page = store.changes(Some(&cursor), Duration::ZERO).await?;
        let FeedPage::Next {
            items,
            next,
            has_more,
        } = page
        else {
            return Err(Failure::new("the cursor of a page is known to the feed"));
        };
        published += items.len();
        check!(
            !has_more || next.position > cursor.position,
            "a page after which there may be more moves the cursor"
        );
        cursor = next;
        if !has_more {
            break;
        }
    }
    check_eq!(
        u128::try_from(published)?,
        COMMITS * size,
        "a page that says that there is no more has told the last of it"
    );
    check_eq!(cursor, end, "and ends where the feed does");
    let nothing = FeedPage::Next {
        items: Vec::new(),
        next: end.clone(),
        has_more: false,
    };
    let page = store.changes(Some(&end), Duration::ZERO).await?;
    check_eq!(page, nothing, "what follows it is empty");
    Ok(())
}

pub(super) async fn an_unknown_cursor_resyncs(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let end = head(&store).await?;
    for unknown in [
        Cursor {
            history: end.history.wrapping_add(1),
            ..end.clone()
        },
        Cursor {
            position: end.position + 1,
            ..end.clone()
        },
        Cursor {
            position: u64::MAX,
            ..end.clone()
        },
    ] {
        // At once, despite the wait: a node that must resync must not keep using old answers.
        let page = store.changes(Some(&unknown), LONGER).await?;
        let expected = FeedPage::Resync { next: end.clone() };
        check_eq!(
            page,
            expected,
            "{unknown:?} is of another history, or ahead"
        );
    }
    let other = suite.store().await?;
    let other = head(&other).await?;
    check!(
        other.history != end.history,
        "each store has a history of its own"
    );
    Ok(())
}

pub(super) async fn a_forgotten_cursor_resyncs(suite: &Suite) -> Verdict {
    const COMMITS: u128 = 12;
    const FORGOTTEN: usize = 5;
    let store = suite.store().await?;
    let mut cursors = vec![head(&store).await?];
    for id in 0..COMMITS {
        commit(&store, insert(key(id)?)).await?;
        cursors.push(head(&store).await?);
    }
    let forgotten = cursors.get(FORGOTTEN).map_or(0, |cursor| cursor.position);
    let Some(forgetting) = suite.forget(&store, forgotten) else {
        return Ok(());
    };
    forgetting.await?;
    let end = head(&store).await?;
    for (known, cursor) in cursors.iter().enumerate() {
        let what = format!("{cursor:?}, of a feed that begins after position {forgotten}");
        if known < FORGOTTEN {
            // At once, despite the wait.
            let page = store.changes(Some(cursor), LONGER).await?;
            check_eq!(page, FeedPage::Resync { next: end.clone() }, "{what}");
            continue;
        }
        let (items, _) = page(&store, cursor).await?;
        let expected: Vec<_> = (0..COMMITS).skip(known).map(|id| key_at(id, 1)).collect();
        let found = items.get(..expected.len()).unwrap_or(&items);
        check_eq!(found, expected, "{what}");
    }
    Ok(())
}

pub(super) async fn a_reader_misses_no_change(suite: &Suite) -> Verdict {
    const WRITERS: u128 = 4;
    const EACH: u128 = 40;
    let store = suite.store().await?;
    let mut cursor = head(&store).await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                let id = writer * EACH + n;
                commit(&store, insert(key(id)?)).await?;
                commit(&store, revoke(id)?).await?;
            }
            Ok::<_, Failure>(())
        }));
    }
    let mut revisions: BTreeMap<KeyId, u64> = BTreeMap::new();
    let complete = |revisions: &BTreeMap<_, u64>| {
        let all = u128::try_from(revisions.len()).is_ok_and(|count| count == WRITERS * EACH);
        all && revisions.values().all(|revision| *revision == 2)
    };
    // Measured from the latest items: a machine may be slow, but items keep coming.
    let mut waiting = Instant::now();
    while !complete(&revisions) {
        check!(
            waiting.elapsed() < PATIENCE / 2,
            "news is missing: {revisions:?}"
        );
        let answer = store
            .changes(Some(&cursor), Duration::from_millis(50))
            .await?;
        let FeedPage::Next { items, next, .. } = answer else {
            return Err(Failure::new("the cursor of a page is known to the feed"));
        };
        check!(next.position >= cursor.position, "the feed never goes back");
        if !items.is_empty() {
            waiting = Instant::now();
        }
        for item in items {
            let Changed::Key { id, revision } = item else {
                return Err(Failure::new("no cutoff was set"));
            };
            let before = revisions.insert(id, revision).unwrap_or_default();
            check_eq!(
                revision,
                before + 1,
                "no revision of {id} is skipped or told twice"
            );
        }
        cursor = next;
    }
    for writer in writers {
        writer.await??;
    }
    check_eq!(cursor, head(&store).await?, "and that was all");
    Ok(())
}

pub(super) async fn a_waiting_reader_is_woken(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let start = head(&store).await?;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let (store, start) = (Arc::clone(&store), start.clone());
        waiting.push(tokio::spawn(async move {
            // A wait may end early, so a waiter without items waits again. The store wakes it or looks again within
            // the wait.
            loop {
                match store.changes(Some(&start), LONGER).await? {
                    FeedPage::Next { items, .. } if items.is_empty() => {}
                    page => return Ok::<_, Failure>(page),
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    commit(&store, insert(key(1)?)).await?;
    for waiter in waiting {
        match waiter.await?? {
            FeedPage::Next { items, .. } => check_eq!(items, [key_at(1, 1)], "the news"),
            FeedPage::Resync { .. } => return Err(Failure::new("the cursor is known")),
        }
    }
    Ok(())
}

pub(super) async fn a_wait_without_changes_ends(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    commit(&store, insert(key(1)?)).await?;
    let end = head(&store).await?;
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let page = store.changes(Some(&end), wait).await?;
        let expected = FeedPage::Next {
            items: Vec::new(),
            next: end.clone(),
            has_more: false,
        };
        check_eq!(page, expected, "a wait of {wait:?} for nothing");
    }
    Ok(())
}
