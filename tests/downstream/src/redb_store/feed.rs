//! Changes, in the order in which they were committed.

use keyward::key::TenantId;
use keyward::store::{Changed, Cursor, CutoffScope, FeedPage};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::tables::{FEED, META, Meta, decode, encode};

/// Positions that the feed keeps.
const KEPT: u64 = 65_536;

/// Changes that one look at the feed brings at most, but for the rest of a commit.
const PAGE: usize = 1_024;

const WHAT: &str = "the feed of changes";

/// Adds the news of a commit, and forgets those that are older than the feed keeps.
pub(super) fn append(
    transaction: &WriteTransaction,
    position: u64,
    news: &[Changed],
) -> Result<(), Fault> {
    let mut feed = transaction.open_table(FEED)?;
    for (place, news) in (0..).zip(news) {
        feed.insert((position, place), encode(WHAT, news)?.as_slice())?;
    }
    drop(feed);
    forget(transaction, position.saturating_sub(KEPT))
}

/// Forgets what changed up to this position.
pub(super) fn forget(transaction: &WriteTransaction, position: u64) -> Result<(), Fault> {
    let mut feed = transaction.open_table(FEED)?;
    let forgotten = ..=(position, u32::MAX);
    feed.retain_in::<(u64, u32), _>(forgotten, |_, _| false)?;
    Ok(())
}

/// Puts a tenant in the place of its owners.
pub(super) fn forget_owners(
    transaction: &WriteTransaction,
    tenant: &TenantId,
) -> Result<(), Fault> {
    let mut feed = transaction.open_table(FEED)?;
    let mut of_owners = Vec::new();
    for row in feed.iter()? {
        let (place, news) = row?;
        let news = decode::<Changed>(WHAT, news.value())?;
        let is_an_owners = matches!(
            &news,
            Changed::Cutoff { scope: CutoffScope::Owner { tenant: of, .. } } if of == tenant
        );
        if is_an_owners {
            of_owners.push(place.value());
        }
    }
    let scope = CutoffScope::from(tenant);
    let whole = encode(WHAT, &Changed::Cutoff { scope })?;
    for place in of_owners {
        feed.insert(place, whole.as_slice())?;
    }
    Ok(())
}

/// What changed after the cursor, as far as it is known.
///
/// Each position has news. Where that of one is missing, it was forgotten, and readers start anew.
pub(super) fn changes(
    transaction: &ReadTransaction,
    after: Option<&Cursor>,
) -> Result<FeedPage, Fault> {
    let meta = Meta::read(&transaction.open_table(META)?)?;
    let cursor = |position| Cursor {
        history: meta.history,
        position,
    };
    let resync = FeedPage::Resync {
        next: cursor(meta.position),
    };
    let known =
        after.filter(|after| after.history == meta.history && after.position <= meta.position);
    let Some(after) = known else {
        return Ok(resync);
    };
    let feed = transaction.open_table(FEED)?;
    let mut items = Vec::new();
    let mut reached = after.position;
    let mut has_more = false;
    for row in feed.range((after.position, u32::MAX)..)? {
        let (place, news) = row?;
        let (position, _) = place.value();
        // A page has whole commits: a cursor cannot point into one.
        if items.len() >= PAGE && position != reached {
            has_more = true;
            break;
        }
        if position > reached.saturating_add(1) {
            return Ok(resync);
        }
        reached = position;
        items.push(decode::<Changed>(WHAT, news.value())?);
    }
    if !has_more && reached != meta.position {
        return Ok(resync);
    }
    Ok(FeedPage::Next {
        items,
        next: cursor(reached),
        has_more,
    })
}
