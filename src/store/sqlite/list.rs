//! Listing a tenant's keys, page by page: each segment by its own index.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::fault::Fault;
use super::row::{columns, micros, read};
use crate::key::StoredKey;
use crate::store::{KeyFilter, ListPosition, ListQuery, Page, StoreError};

/// One page.
pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<Page<StoredKey>, Fault> {
    // One more than fits tells whether there are more.
    let wanted = query.page_size() + 1;
    let mut items = Vec::new();
    let is_after_live = matches!(query.position(), Some(ListPosition::Revoked { .. }));
    if query.lists_live() && !is_after_live {
        items = segment(connection, &Segment::live(query)?, wanted)?;
    }
    if query.lists_revoked() && items.len() < wanted {
        let room = wanted - items.len();
        items.extend(segment(connection, &Segment::revoked(query)?, room)?);
    }
    let has_more = items.len() == wanted;
    items.truncate(query.page_size());
    Ok(Page { items, has_more })
}

/// A question about one segment.
pub(super) struct Segment {
    pub(super) sql: String,
    values: Vec<Value>,
}

impl Segment {
    fn new(query: &ListQuery) -> Self {
        Self {
            sql: concat!("SELECT ", columns!(), " FROM keyward_keys WHERE tenant = ?").to_owned(),
            values: vec![Value::Text(query.tenant().as_str().to_owned())],
        }
    }

    /// The keys that are not revoked as stored, newest first.
    pub(super) fn live(query: &ListQuery) -> Result<Self, Fault> {
        let mut segment = Self::new(query).and(" AND revoked_position IS NULL", []);
        if let Some(ListPosition::Live { created_micros, id }) = query.position() {
            let place = [created_micros.into(), blob(id.to_bytes())];
            segment = segment.and(" AND (created_at, id) < (?, ?)", place);
        }
        let segment = segment.filtered(query)?;
        Ok(segment.and(" ORDER BY created_at DESC, id DESC", []))
    }

    /// The revoked ones, in the order in which they were revoked.
    pub(super) fn revoked(query: &ListQuery) -> Result<Self, Fault> {
        let mut segment = Self::new(query).and(" AND revoked_position IS NOT NULL", []);
        if let Some(ListPosition::Revoked { position, id }) = query.position() {
            // No position lies beyond what SQLite can write.
            let position = i64::try_from(position).unwrap_or(i64::MAX);
            let place = [position.into(), blob(id.to_bytes())];
            segment = segment.and(" AND (revoked_position, id) > (?, ?)", place);
        }
        let segment = segment.filtered(query)?;
        Ok(segment.and(" ORDER BY revoked_position, id", []))
    }

    fn filtered(mut self, query: &ListQuery) -> Result<Self, Fault> {
        for filter in query.filters() {
            self = match filter {
                KeyFilter::Owner(owner) => {
                    self.and(" AND owner = ?", [Value::Text(owner.to_string())])
                }
                KeyFilter::TitleStartsWith(start) => {
                    let start = Value::Text(start.to_string());
                    self.and(
                        " AND substr(title, 1, length(?)) = ?",
                        [start.clone(), start],
                    )
                }
                KeyFilter::IdBetween(first, last) => {
                    let ends = [blob(first.to_bytes()), blob(last.to_bytes())];
                    self.and(" AND id BETWEEN ? AND ?", ends)
                }
                KeyFilter::IssuedBy(instant) => {
                    self.and(" AND created_at <= ?", [micros(*instant).into()])
                }
                KeyFilter::ExpiresBy(instant) => {
                    self.and(" AND expires_at <= ?", [micros(*instant).into()])
                }
                #[expect(
                    unreachable_patterns,
                    reason = "a kind that is added is refused until it is known here"
                )]
                _ => return Err(StoreError::Unsupported.into()),
            };
        }
        Ok(self)
    }

    fn and(mut self, sql: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.sql.push_str(sql);
        self.values.extend(values);
        self
    }
}

fn segment(
    connection: &Connection,
    segment: &Segment,
    limit: usize,
) -> Result<Vec<StoredKey>, Fault> {
    let sql = format!("{} LIMIT {limit}", segment.sql);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&segment.values))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?.key);
    }
    Ok(keys)
}

fn blob(bytes: [u8; 16]) -> Value {
    Value::Blob(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::key::{KeyId, Principal, TenantId};

    /// A database with Keyward's tables, and keys enough that statistics of them mean something.
    fn database(tenants: usize, is_analyzed: bool) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let tables = include_str!("migrations/0001_create.sql");
        connection.execute_batch(tables).unwrap();
        // A tenth of the keys are revoked; each tenant has five owners.
        let keys = format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
            INSERT INTO keyward_keys
            SELECT randomblob(16), 'tenant-' || n % {tenants}, 'user:owner-' || n % 5, 'title ' || n, n * 1000000,
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

    fn plan(connection: &Connection, segment: &Segment) -> Vec<String> {
        let sql = format!("EXPLAIN QUERY PLAN {} LIMIT 51", segment.sql);
        let mut statement = connection.prepare(&sql).unwrap();
        let steps = statement.query_map(params_from_iter(&segment.values), |row| row.get(3));
        steps.unwrap().map(Result::unwrap).collect()
    }

    /// Asks for each filter alone, for all together, and for none.
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

    /// That the page is read off this index in its order, from this place on, and nothing is sorted.
    fn assert_read_off(plan: &[String], index: &str, place: &str) {
        let search = format!("SEARCH keyward_keys USING INDEX {index} (tenant=?");
        let reads_off = |step: &String| step.starts_with(&search) && step.contains(place);
        let message = plan.join("\n");
        assert!(plan.iter().any(reads_off), "{index}, {place}:\n{message}");
        assert!(!message.contains("TEMP B-TREE"), "{message}");
        // Cutoffs are looked up by scope, for each key.
        assert!(!message.contains("SCAN"), "{message}");
    }

    #[test]
    fn each_page_is_read_off_the_index_of_its_segment_and_nothing_is_sorted() {
        let id = KeyId::from_u128(7);
        for (tenants, is_analyzed) in [(20, false), (20, true), (1, true), (1_000, true)] {
            let connection = database(tenants, is_analyzed);
            for query in queries() {
                let (live, revoked) = ("keyward_keys_live", "keyward_keys_revoked");
                let first = plan(&connection, &Segment::live(&query).unwrap());
                assert_read_off(&first, live, "");
                let first = plan(&connection, &Segment::revoked(&query).unwrap());
                assert_read_off(&first, revoked, "");

                let created_micros = 1_000_000;
                let after = query
                    .clone()
                    .after(ListPosition::Live { created_micros, id });
                let next = plan(&connection, &Segment::live(&after).unwrap());
                assert_read_off(&next, live, "created_at,id)<(?,?)");
                let position = 1_000;
                let after = query.after(ListPosition::Revoked { position, id });
                let next = plan(&connection, &Segment::revoked(&after).unwrap());
                assert_read_off(&next, revoked, "revoked_position,id)>(?,?)");
            }
        }
    }
}
