//! Pages cut at any position, and SQLite's plans for them.

use time::OffsetDateTime;

use super::*;
use crate::clock::from_unix_micros;
use crate::key::{KeyId, Principal, TenantId};
use crate::store::Segments;
use crate::testkit::SeededRandom;

/// Creates a database with Keyward's tables, and enough keys for meaningful statistics.
fn database(tenants: usize, is_analyzed: bool) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    let tables = include_str!("../migrations/0001_create.sql");
    connection.execute_batch(tables).unwrap();
    // A tenth of the keys are revoked; each tenant has five owners.
    let keys = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
        INSERT INTO keyward_keys
        SELECT randomblob(16), 'tenant-' || (n % {tenants}), 'user:owner-' || (n % 5), 'title ' || n, n * 1000000,
            iif(n % 10 = 0, n, NULL), iif(n % 10 = 0, 'leaked', NULL), iif(n % 10 = 0, n, NULL),
            iif(n % 3 = 0, n * 2000000, NULL), NULL, randomblob(16), 'digest', 1, 1, x''
        FROM n"
    );
    connection.execute_batch(&keys).unwrap();
    if is_analyzed {
        connection.execute_batch("ANALYZE").unwrap();
    }
    connection
}

fn plan(connection: &Connection, select: &BoundSelect) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {} LIMIT 51", select.sql);
    let mut statement = connection.prepare(&sql).unwrap();
    let steps = statement.query_map(params_from_iter(&select.values), |row| row.get(3));
    steps.unwrap().map(Result::unwrap).collect()
}

/// Returns a query for each filter alone, one for all together, and one without a filter.
fn queries() -> Vec<ListQuery> {
    let (first, last) = (KeyId::from_u128(0), KeyId::from_u128(u128::MAX >> 12));
    let filters = [
        KeyFilter::Owner(Principal::user("owner-1").unwrap()),
        KeyFilter::TitleStartsWith("title 1".into()),
        KeyFilter::IdBetween(first, last),
        KeyFilter::IssuedBy(OffsetDateTime::UNIX_EPOCH),
        KeyFilter::ExpiresBy(OffsetDateTime::UNIX_EPOCH),
    ];
    let plain = ListQuery::of(&TenantId::new("tenant-1").unwrap());
    let mut queries = vec![plain.clone()];
    queries.extend(
        filters
            .iter()
            .map(|filter| plain.clone().only(filter.clone())),
    );
    let all = filters.into_iter();
    queries.push(all.fold(plain, ListQuery::only));
    queries
}

/// Asserts that the plan reads the segment's index in its order, from this position on, and sorts nothing.
fn assert_read_off(plan: &[String], index: &str, place: &str) {
    let search = format!("INDEX {index} (tenant=?");
    let reads_off = |step: &String| {
        step.starts_with("SEARCH keyward_keys USING")
            && step.contains(&search)
            && step.contains(place)
    };
    let message = plan.join("\n");
    assert!(plan.iter().any(reads_off), "{index}, {place}:\n{message}");
    assert!(!message.contains("TEMP B-TREE"), "{message}");
    // SQLite looks up cutoffs by scope, for each key.
    assert!(!message.contains("SCAN"), "{message}");
}

/// Returns all keys that the query lists, page by page.
fn listed(connection: &Connection, query: &ListQuery, most: usize) -> Vec<KeyId> {
    let mut query = query.clone();
    let mut ids = Vec::new();
    loop {
        let page = list_within(connection, &query, most).unwrap();
        assert!(page.items.len() <= query.page_size());
        ids.extend(page.items.iter().map(|key| key.id));
        let Some(next) = page.next else { return ids };
        assert!(Some(next) > query.position(), "{query:?}: {next:?}");
        query = query.after(next);
    }
}

#[test]
fn pages_of_any_size_list_every_key() {
    let connection = database(2, false);
    // Several keys of one instant, and several revoked by one commit.
    let crowded = "UPDATE keyward_keys SET created_at = created_at / 3000000 * 3000000,
        revoked_position = revoked_position / 50";
    connection.execute_batch(crowded).unwrap();
    let all = format!("SELECT {} FROM keyward_keys", columns!());
    let mut statement = connection.prepare(&all).unwrap();
    let rows = statement.query_map([], |row| Ok(read(row).unwrap()));
    let mut keys: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    keys.sort_by_key(ListPosition::of);

    let random = SeededRandom::new(31);
    let below = |bound| random.below(bound);
    let mut found = 0;
    for round in 0..80 {
        let key = &keys[below(keys.len())];
        let title = key.title.as_str();
        let second = |of: usize| {
            let micros = i64::try_from(below(of)).unwrap() * 1_000_000;
            from_unix_micros(micros).unwrap()
        };
        let filters = [
            KeyFilter::Owner(key.owner.clone()),
            KeyFilter::TitleStartsWith(title[..below(title.len() + 1)].into()),
            KeyFilter::IdBetween(
                key.id,
                KeyId::from_u128(key.id.as_u128() | u128::MAX >> below(8)),
            ),
            KeyFilter::IssuedBy(second(2_000)),
            KeyFilter::ExpiresBy(second(4_000)),
        ];
        let mut query = ListQuery::of(&key.tenant).limit([1, 2, 7, 1_000][below(4)]);
        query =
            query.listing([Segments::Live, Segments::LiveThenRevoked, Segments::Revoked][below(3)]);
        for filter in filters {
            if below(3) == 0 {
                query = query.only(filter);
            }
        }
        if below(2) == 0 {
            query = query.after(ListPosition::of(&keys[below(keys.len())]));
        }
        let is_listed = |key: &&StoredKey| {
            let is_in = match key.revocation {
                None => query.lists_live(),
                Some(_) => query.lists_revoked(),
            };
            key.tenant == *query.tenant()
                && is_in
                && query.admits(key)
                && Some(ListPosition::of(key)) > query.position()
        };
        let expected: Vec<_> = keys.iter().filter(is_listed).map(|key| key.id).collect();
        for most in [3, 64, 1_000, MOST_SCANNED] {
            let what = format!("round {round}, {most} at a time: {query:?}");
            assert_eq!(listed(&connection, &query, most), expected, "{what}");
        }
        found += expected.len();
    }
    assert!(found > 1_000, "{found}");
}

#[test]
fn a_page_scans_a_bounded_number() {
    let connection = database(1, false);
    let none = KeyFilter::TitleStartsWith("no such title".into());
    let query = ListQuery::of(&TenantId::new("tenant-0").unwrap())
        .listing(Segments::LiveThenRevoked)
        .only(none);
    // 1,800 keys are live, and 200 revoked.
    let (mut query, mut pages) = (query, 0);
    while let Some(next) = list_within(&connection, &query, 100).unwrap().next {
        query = query.after(next);
        pages += 1;
    }
    assert_eq!(pages, 18 + 2);
}

const SEGMENTS: [(Segment, &str, ListPosition, ListPosition); 2] = [
    (
        Segment::Live,
        "keyward_keys_live",
        ListPosition::Live {
            created_micros: 1_000_000,
            id: KeyId::from_u128(7),
        },
        ListPosition::Live {
            created_micros: 500_000,
            id: KeyId::from_u128(7),
        },
    ),
    (
        Segment::Revoked,
        "keyward_keys_revoked",
        ListPosition::Revoked {
            position: 1_000,
            id: KeyId::from_u128(7),
        },
        ListPosition::Revoked {
            position: 1_500,
            id: KeyId::from_u128(7),
        },
    ),
];

#[test]
fn pages_are_read_off_the_index() {
    for (tenants, is_analyzed) in [(20, false), (20, true), (1, true), (1_000, true)] {
        let connection = database(tenants, is_analyzed);
        for query in queries() {
            for (segment, index, start, end) in SEGMENTS {
                let Fragments { place, .. } = segment.fragments();
                let place = place.replace(' ', "");
                let (after, before) = match segment {
                    Segment::Live => (format!("{place})<(?,?)"), format!("{place})>(?,?)")),
                    Segment::Revoked => (format!("{place})>(?,?)"), format!("{place})<(?,?)")),
                };
                let first = plan(
                    &connection,
                    &segment.keys(&query, Path::InOrder, None).unwrap(),
                );
                assert_read_off(&first, index, "");
                let places = plan(&connection, &segment.places(&query));
                assert_read_off(&places, index, "");
                let first = plan(
                    &connection,
                    &segment.keys(&query, Path::InOrder, Some(end)).unwrap(),
                );
                assert_read_off(&first, index, &before);

                let query = query.clone().after(start);
                let next = plan(
                    &connection,
                    &segment.keys(&query, Path::InOrder, None).unwrap(),
                );
                assert_read_off(&next, index, &after);
                let places = plan(&connection, &segment.places(&query));
                assert_read_off(&places, index, &after);
                let next = plan(
                    &connection,
                    &segment.keys(&query, Path::InOrder, Some(end)).unwrap(),
                );
                assert_read_off(&next, index, &after);
                assert_read_off(&next, index, &before);
            }
        }
    }
}

#[test]
fn a_narrow_id_range_is_read_by_id() {
    for (tenants, is_analyzed) in [(20, false), (20, true), (1, true), (1_000, true)] {
        let connection = database(tenants, is_analyzed);
        for query in queries() {
            let path = path(&connection, &query, 100).unwrap();
            let is_range = |filter: &KeyFilter| matches!(filter, KeyFilter::IdBetween(..));
            if !query.filters().iter().any(is_range) {
                assert_eq!(path, Path::InOrder, "{query:?}");
                continue;
            }
            assert_eq!(path, Path::ById, "{query:?}");
            for (segment, _, start, _) in SEGMENTS {
                for query in [query.clone(), query.clone().after(start)] {
                    let plan = plan(&connection, &segment.keys(&query, path, None).unwrap());
                    let by_id =
                        "keyward_keys USING INDEX sqlite_autoindex_keyward_keys_1 (id>? AND id<?)";
                    assert!(plan.join("\n").contains(by_id), "{plan:?}");
                }
            }
        }
        let wide = KeyFilter::IdBetween(KeyId::from_u128(0), KeyId::from_u128(u128::MAX));
        let wide = ListQuery::of(&TenantId::new("tenant-0").unwrap()).only(wide);
        assert_eq!(path(&connection, &wide, 100).unwrap(), Path::InOrder);
    }
}

#[test]
fn tenants_are_found_by_searches() {
    for (tenants, is_analyzed) in [(1, true), (20, false), (20, true), (1_000, true)] {
        let connection = database(tenants, is_analyzed);
        let sql = format!("EXPLAIN QUERY PLAN {NEXT_TENANT}");
        let mut statement = connection.prepare(&sql).unwrap();
        let steps = statement.query_map([""], |row| row.get::<_, String>(3));
        let plan: Vec<_> = steps.unwrap().map(Result::unwrap).collect();
        for index in ["keyward_keys_live", "keyward_keys_revoked"] {
            let search = format!("INDEX {index} (tenant>?)");
            let is_search = |step: &String| step.starts_with("SEARCH") && step.ends_with(&search);
            assert!(plan.iter().any(is_search), "{plan:?}");
        }
        let is_scan = |step: &&String| step.contains("SCAN keyward_keys") || step.contains("TEMP");
        assert_eq!(plan.iter().find(is_scan), None, "{plan:?}");

        let mut expected: Vec<_> = (0..tenants).map(|n| format!("tenant-{n}")).collect();
        expected.sort_unstable();
        let mut found: Vec<TenantId> = Vec::new();
        loop {
            let page = super::tenants(&connection, found.last(), 7).unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        let found: Vec<_> = found.iter().map(TenantId::as_str).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_damaged_tenant_hides_no_other() {
    let connection = database(20, false);
    for damaged in ["''", "'tenant 1'", "CAST(x'7aff' AS TEXT)"] {
        let sql = format!("UPDATE keyward_keys SET tenant = {damaged} WHERE tenant = 'tenant-1'");
        connection.execute_batch(&sql).unwrap();
        let found = tenants(&connection, None, 100).unwrap();
        assert_eq!(found.len(), 19, "{damaged}");
        let sql = format!("UPDATE keyward_keys SET tenant = 'tenant-1' WHERE tenant = {damaged}");
        connection.execute_batch(&sql).unwrap();
    }
}
