//! Cases about lists.

use super::material::{
    Store, Verdict, at, commit, existing, insert, key, key_of, owner, replace, revoke, set, tenant,
};
use super::{Failure, Suite, check, check_eq};
use crate::key::{KeyId, StoredKey, Title};
use crate::store::{Change, ChangeSet, KeyFilter, ListPosition, ListQuery, Segments, StoreError};

pub(super) fn all() -> Result<ListQuery, Failure> {
    Ok(ListQuery::of(&tenant("t")?)
        .listing(Segments::LiveThenRevoked)
        .at_latest())
}

pub(super) async fn tenants_of(
    store: &Store,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Failure> {
    let after = after.map(tenant).transpose()?;
    let tenants = store.tenants(after.as_ref(), limit).await?;
    Ok(tenants.iter().map(ToString::to_string).collect())
}

/// Checks the list of tenants, unless the store does not support it.
pub(super) async fn tenants_are_listed_in_order(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    match store.tenants(None, 1).await {
        Err(StoreError::Unsupported) => return Ok(()),
        none => check_eq!(none?, [], "the tenants of an empty store"),
    }
    // By bytes: capital letters before small ones, and a name before one that it begins.
    let names = ["T", "a", "a!", "a-b", "a:b", "b", "~"];
    for (id, name) in (1..).zip(names.iter().rev()) {
        for id in [id, id + 100] {
            commit(&store, insert(key_of(id, name, "alice")?)).await?;
        }
    }
    check_eq!(tenants_of(&store, None, 100).await?, names, "all tenants");
    for limit in [0, 1, 3] {
        let first = tenants_of(&store, None, limit).await?;
        check_eq!(
            first,
            names.get(..limit).unwrap_or_default(),
            "the first {limit}"
        );
    }
    // Whether or not there is such a tenant.
    for (after, from) in [("A", 0), ("Z", 1), ("a", 2), ("a!!", 3), ("~", 7)] {
        let rest: Vec<_> = names.into_iter().skip(from).take(2).collect();
        check_eq!(
            tenants_of(&store, Some(after), 2).await?,
            rest,
            "after {after}"
        );
    }
    // Revoked keys count, and purged ones do not.
    let last = store.list(&ListQuery::of(&tenant("T")?)).await?.items;
    for (index, key) in last.iter().enumerate() {
        let id = key.id.as_u128();
        commit(&store, revoke(id)?).await?;
        check_eq!(
            tenants_of(&store, None, 1).await?,
            ["T"],
            "a tenant with revoked keys"
        );
        let (id, ended_before) = (key.id, at(2_001)?);
        commit(&store, Change::Purge { id, ended_before }).await?;
        let first = if index + 1 == last.len() { "a" } else { "T" };
        check_eq!(tenants_of(&store, None, 1).await?, [first], "after a purge");
    }
    Ok(())
}

/// Returns the ids of all keys that the query lists, page by page.
pub(super) async fn ids(store: &Store, query: ListQuery) -> Result<Vec<u128>, Failure> {
    let mut query = query;
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).await?;
        let most = query.page_size();
        check!(
            page.items.len() <= most,
            "a page of {most} holds {}",
            page.items.len()
        );
        ids.extend(page.items.iter().map(|key| key.id.as_u128()));
        let Some(next) = page.next else {
            return Ok(ids);
        };
        // This guarantees an end: positions only grow, and no key is shown twice.
        check!(
            Some(next) > query.position()
                && page.items.iter().all(|key| ListPosition::of(key) <= next),
            "{next:?} lies after {:?} and not before what was shown",
            query.position()
        );
        check!(
            ids.len() < 10_000,
            "the pages never end: {:?}",
            ids.get(..20)
        );
        query = query.after(next);
    }
}

/// Stores keys 0 to 9, two for each second from 1,000 on, and revokes 3, 8 and 0 in this order.
async fn ten(store: &Store) -> Verdict {
    for id in [4, 0, 9, 1, 7, 2, 8, 3, 6, 5] {
        let created_at = at(1_000 + i64::try_from(id / 2)?)?;
        let issued = StoredKey {
            created_at,
            ..key(id)?
        };
        commit(store, insert(issued)).await?;
    }
    for id in [3, 8, 0] {
        commit(store, revoke(id)?).await?;
    }
    Ok(())
}

const LIVE: [u128; 7] = [9, 7, 6, 5, 4, 2, 1];
const REVOKED: [u128; 3] = [3, 8, 0];

pub(super) async fn newest_first_and_revoked_last(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    ten(&store).await?;
    let whole = [LIVE.as_slice(), REVOKED.as_slice()].concat();
    for (segments, expected) in [
        (Segments::Live, LIVE.as_slice()),
        (Segments::LiveThenRevoked, whole.as_slice()),
        (Segments::Revoked, REVOKED.as_slice()),
    ] {
        let found = ids(&store, all()?.listing(segments)).await?;
        check_eq!(found, expected, "{segments:?}");
    }
    // Keys revoked in one commit are ordered by id.
    store
        .commit(&set([revoke(7)?, revoke(2)?, revoke(9)?])?)
        .await?;
    let found = ids(&store, all()?.listing(Segments::Revoked)).await?;
    check_eq!(found, [3, 8, 0, 2, 7, 9], "of one commit by id");
    // A change that is not a revocation does not move a key.
    commit(&store, replace(1, 1, "new title")?).await?;
    check_eq!(
        ids(&store, all()?.listing(Segments::Live)).await?,
        [6, 5, 4, 1],
        "replaced"
    );
    let page = store.list(&all()?).await?;
    for listed in page.items {
        let read = existing(&store, listed.id.as_u128()).await?;
        check_eq!(listed, read, "a list shows keys as they are read");
    }
    Ok(())
}

pub(super) async fn pages_of_any_size_list_every_key(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    check!(
        ids(&store, all()?).await?.is_empty(),
        "an empty store lists nothing"
    );
    ten(&store).await?;
    let whole = [LIVE.as_slice(), REVOKED.as_slice()].concat();
    for size in 1..=11 {
        check_eq!(
            ids(&store, all()?.limit(size)).await?,
            whole,
            "pages of {size}"
        );
        let live = ids(&store, all()?.listing(Segments::Live).limit(size)).await?;
        check_eq!(live, LIVE, "live ones in pages of {size}");
        let revoked = ids(&store, all()?.listing(Segments::Revoked).limit(size)).await?;
        check_eq!(revoked, REVOKED, "revoked ones in pages of {size}");
    }
    for (size, has_more) in [(9, true), (10, false), (11, false)] {
        let page = store.list(&all()?.limit(size)).await?;
        check_eq!(page.next.is_some(), has_more, "ten keys in pages of {size}");
    }
    Ok(())
}

pub(super) async fn a_cursor_survives_changes(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    ten(&store).await?;
    let first = store.list(&all()?.limit(3)).await?;
    let last = first
        .items
        .last()
        .ok_or_else(|| Failure::new("a page of three"))?;
    check_eq!(last.id.as_u128(), 6, "the third");
    // A newer key is added, a key that was shown is revoked, and so is the last key of the page.
    let newer = StoredKey {
        created_at: at(9_000)?,
        ..key(50)?
    };
    commit(&store, insert(newer)).await?;
    commit(&store, revoke(9)?).await?;
    commit(&store, revoke(6)?).await?;
    let rest = ids(&store, all()?.limit(3).after(ListPosition::of(last))).await?;
    check_eq!(
        rest,
        [5, 4, 2, 1, 3, 8, 0, 9, 6],
        "none is skipped, and none shown as live twice"
    );
    // Positions without a key, between all keys and beyond them.
    for (position, expected) in [
        (place(i64::MAX, 0), vec![50, 7, 5, 4, 2, 1]),
        (place(1_003_000_000, u128::MAX), vec![7, 5, 4, 2, 1]),
        (place(1_002_000_000, 5), vec![4, 2, 1]),
        (place(1_000_000_000, 1), vec![]),
        (place(i64::MIN, 0), vec![]),
    ] {
        let query = all()?.listing(Segments::Live).after(position);
        check_eq!(ids(&store, query).await?, expected, "after {position:?}");
    }
    let end = ListPosition::Revoked {
        position: u64::MAX,
        id: KeyId::from_u128(0),
    };
    for segments in [Segments::LiveThenRevoked, Segments::Revoked, Segments::Live] {
        let query = all()?.listing(segments).after(end);
        check!(
            ids(&store, query).await?.is_empty(),
            "nothing follows the end"
        );
    }
    Ok(())
}

fn place(created_micros: i64, id: u128) -> ListPosition {
    ListPosition::Live {
        created_micros,
        id: KeyId::from_u128(id),
    }
}

pub(super) async fn a_list_holds_one_tenants_keys(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    // Names that a careless range or pattern would confuse.
    let names = ["t", "t!", "t%", "T", "t_", "ta", "t\\", "s"];
    for (id, name) in (0..).zip(names) {
        commit(&store, insert(key_of(id, name, "alice")?)).await?;
        commit(&store, insert(key_of(id + 100, name, "alice")?)).await?;
        commit(&store, revoke(id + 100)?).await?;
    }
    for (id, name) in (0..).zip(names) {
        let query = ListQuery::of(&tenant(name)?).listing(Segments::LiveThenRevoked);
        check_eq!(
            ids(&store, query.at_latest()).await?,
            [id, id + 100],
            "of `{name}`"
        );
    }
    let nobody = ListQuery::of(&tenant("nobody")?).at_latest();
    check!(
        ids(&store, nobody).await?.is_empty(),
        "of a tenant without keys"
    );
    Ok(())
}

pub(super) async fn filters_admit_matching_keys(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    let mut keys = Vec::new();
    for (id, by, title, issued, expires) in [
        (1, "alice", "Power BI", 1_000, None),
        (2, "bob", "Power BI (EU)", 1_001, Some(5_000)),
        (3, "alice", "power bi", 1_002, Some(5_001)),
        (4, "alice2", "100%_sure", 1_003, Some(5_002)),
        (5, "bob", "100 sure", 1_004, None),
        (6, "alice", "Ünder", 1_005, Some(6_000)),
    ] {
        let key = StoredKey {
            owner: owner(by)?,
            title: Title::new(title)?,
            created_at: at(issued)?,
            expires_at: expires.map(at).transpose()?,
            ..key(id)?
        };
        commit(&store, insert(key.clone())).await?;
        keys.push(key);
    }
    commit(&store, revoke(6)?).await?;
    let filters = [
        KeyFilter::Owner(owner("alice")?),
        KeyFilter::Owner(owner("nobody")?),
        KeyFilter::TitleStartsWith("Power".into()),
        KeyFilter::TitleStartsWith("100%_".into()),
        KeyFilter::TitleStartsWith("Ü".into()),
        KeyFilter::TitleStartsWith("".into()),
        KeyFilter::IdBetween(KeyId::from_u128(2), KeyId::from_u128(4)),
        KeyFilter::IdBetween(KeyId::from_u128(4), KeyId::from_u128(2)),
        KeyFilter::IdBetween(KeyId::from_u128(0), KeyId::from_u128(u128::MAX)),
        KeyFilter::IssuedBy(at(1_002)?),
        KeyFilter::ExpiresBy(at(5_001)?),
    ];
    for one in &filters {
        for other in &filters {
            let newest_first = keys.iter().take(5).rev().chain(keys.last());
            let admitted = newest_first.filter(|key| one.admits(key) && other.admits(key));
            let expected: Vec<_> = admitted.map(|key| key.id.as_u128()).collect();
            for size in [1, 2, 50] {
                let query = all()?.only(one.clone()).only(other.clone()).limit(size);
                let found = ids(&store, query).await?;
                check_eq!(found, expected, "{one:?} and {other:?}, pages of {size}");
            }
        }
    }
    let page = store
        .list(&all()?.only(KeyFilter::Owner(owner("bob")?)).limit(2))
        .await?;
    check!(page.next.is_none(), "what a filter leaves out is not more");
    Ok(())
}

/// Returns the multiples of `step` from `first` to `last`.
fn every(step: u128, first: u128, last: u128) -> Vec<u128> {
    (first..=last).filter(|id| *id % step == 0).collect()
}

pub(super) async fn a_search_finds_every_match(suite: &Suite) -> Verdict {
    const KEYS: u128 = 4_512;
    const REVOKED: u128 = 96;
    let store = suite.store().await?;
    // In the order of their ids, sixteen for each instant, so that a list also continues within an instant. Rare keys
    // are at both ends and far apart.
    let size = u128::try_from(ChangeSet::MAX_CHANGES)?;
    for first in (0..KEYS).step_by(ChangeSet::MAX_CHANGES) {
        let inserts = (first..first + size).map(|id| {
            let title = if id % 47 == 0 { "rare" } else { "common" };
            Ok(insert(StoredKey {
                owner: owner(if id % 3 == 0 { "alice" } else { "bob" })?,
                title: Title::new(title)?,
                created_at: at(1_000 + i64::try_from(id / size)?)?,
                expires_at: (id % 1_001 == 0).then(|| at(9_000)).transpose()?,
                ..key(id)?
            }))
        });
        let inserts = inserts.collect::<Result<Vec<_>, Failure>>()?;
        store.commit(&set(inserts)?).await?;
    }
    for first in (0..REVOKED).step_by(ChangeSet::MAX_CHANGES) {
        let revocations = (first..first + size).map(revoke);
        let revocations = revocations.collect::<Result<Vec<_>, _>>()?;
        store.commit(&set(revocations)?).await?;
    }
    let rare = KeyFilter::TitleStartsWith("rare".into());
    let alice = KeyFilter::Owner(owner("alice")?);
    let ends = KeyFilter::ExpiresBy(at(9_000)?);
    let early = KeyFilter::IssuedBy(at(1_010)?);
    let between = KeyFilter::IdBetween(KeyId::from_u128(94), KeyId::from_u128(188));
    let none = KeyFilter::TitleStartsWith("none".into());
    for (filters, step, most) in [
        (vec![], 1, KEYS - 1),
        (vec![rare.clone()], 47, KEYS - 1),
        (vec![alice.clone()], 3, KEYS - 1),
        (vec![rare.clone(), alice.clone()], 141, KEYS - 1),
        (vec![ends], 1_001, KEYS - 1),
        (vec![rare.clone(), early], 47, 175),
        (vec![none], KEYS, 0),
    ] {
        let mut query = all()?;
        for filter in filters.clone() {
            query = query.only(filter);
        }
        let live: Vec<_> = every(step, REVOKED, most).into_iter().rev().collect();
        let revoked = match step {
            KEYS => Vec::new(),
            step => every(step, 0, REVOKED - 1),
        };
        for limit in [7, ListQuery::MAX_LIMIT] {
            for (segments, expected) in [
                (Segments::Live, live.clone()),
                (
                    Segments::LiveThenRevoked,
                    [live.clone(), revoked.clone()].concat(),
                ),
                (Segments::Revoked, revoked.clone()),
            ] {
                let found = ids(&store, query.clone().listing(segments).limit(limit)).await?;
                check_eq!(
                    found,
                    expected,
                    "{filters:?} of {segments:?} in pages of {limit}"
                );
            }
        }
    }
    let found = ids(&store, all()?.only(rare).only(between)).await?;
    check_eq!(found, [188, 141, 94], "by title and id");
    Ok(())
}

pub(super) async fn a_list_shows_every_commit(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    for id in 0..20 {
        commit(&store, insert(key(id)?)).await?;
        let listed = ids(&store, all()?.listing(Segments::Live)).await?;
        check!(
            listed.contains(&id),
            "key {id} is listed once its insert has returned"
        );
        commit(&store, revoke(id)?).await?;
        let listed = ids(&store, all()?.listing(Segments::Live)).await?;
        check!(
            !listed.contains(&id),
            "key {id} is not once its revocation has"
        );
    }
    Ok(())
}

pub(super) async fn ids_are_ordered_unsigned(suite: &Suite) -> Verdict {
    let store = suite.store().await?;
    // Ids on both sides of the values at which halves and whole ids turn negative in signed columns.
    let numbers = [
        0,
        1,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 1,
        1 << 64,
        (1 << 127) - 1,
        1 << 127,
        u128::MAX,
    ];
    for id in numbers {
        commit(&store, insert(key(id)?)).await?;
    }
    let descending: Vec<_> = numbers.into_iter().rev().collect();
    for size in [1, 2, 50] {
        let live = ids(&store, all()?.listing(Segments::Live).limit(size)).await?;
        check_eq!(
            live,
            descending,
            "live ones of one instant, pages of {size}"
        );
    }
    let (first, last) = (KeyId::from_u128((1 << 63) - 1), KeyId::from_u128(1 << 127));
    let between = all()?.only(KeyFilter::IdBetween(first, last));
    check_eq!(
        ids(&store, between).await?,
        descending.get(1..7).unwrap_or_default(),
        "between two ids"
    );
    let revocations = numbers
        .map(revoke)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    store.commit(&set(revocations)?).await?;
    for size in [1, 2, 50] {
        let revoked = ids(&store, all()?.listing(Segments::Revoked).limit(size)).await?;
        check_eq!(
            revoked,
            numbers,
            "revoked ones of one commit, pages of {size}"
        );
    }
    Ok(())
}
