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
