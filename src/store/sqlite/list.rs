//! Listing a tenant's keys, page by page: each segment by its own index.
//!
//! A page with filters ends after a bounded number of keys, whether or not the filters admit them: a read occupies a
//! connection, and keeps the write-ahead log from being reset. If few keys of all tenants lie in a range of ids, they
//! are read by id.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::fault::Fault;
use super::meta::unsigned;
use super::row::{columns, read};
use crate::clock::unix_micros;
use crate::key::{KeyId, StoredKey, TenantId};
use crate::store::query::MOST_SCANNED;
use crate::store::{KeyFilter, ListPosition, ListQuery, Page, StoreError};

/// Reads one page. The caller provides a transaction: the page must show the store at one moment.
pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<Page<StoredKey>, Fault> {
    list_within(connection, query, MOST_SCANNED)
}

/// The first text above a tenant, by the index of each segment.
const NEXT_TENANT: &str = "SELECT min(tenant) FROM (\
    SELECT * FROM (SELECT tenant FROM keyward_keys WHERE revoked_position IS NULL AND tenant > CAST(?1 AS TEXT) \
    ORDER BY tenant LIMIT 1) UNION ALL \
    SELECT * FROM (SELECT tenant FROM keyward_keys WHERE revoked_position IS NOT NULL AND tenant > CAST(?1 AS TEXT) \
    ORDER BY tenant LIMIT 1))";

/// Reads the tenants after one, each by a search in the index: it skips the keys of a tenant, however many they are.
pub(super) fn tenants(
    connection: &Connection,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<Vec<TenantId>, Fault> {
    let mut statement = connection.prepare_cached(NEXT_TENANT)?;
    // Bytes, as a damaged row may hold no text.
    let mut reached = after.map_or("", TenantId::as_str).as_bytes().to_vec();
    let mut tenants = Vec::new();
    while tenants.len() < limit {
        let next = statement.query_row([&reached], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Text(next) => Some(next.to_vec()),
                _ => None,
            })
        });
        let Some(next) = next? else { break };
        // A row with an unreadable tenant is in no tenant's list.
        let text = std::str::from_utf8(&next);
        tenants.extend(text.ok().and_then(|text| TenantId::new(text).ok()));
        reached = next;
    }
    Ok(tenants)
}

/// Reads one page, and scans no more than `most` keys of each segment for it.
fn list_within(
    connection: &Connection,
    query: &ListQuery,
    most: usize,
) -> Result<Page<StoredKey>, Fault> {
    let is_after_live = matches!(query.position(), Some(ListPosition::Revoked { .. }));
    let live = (query.lists_live() && !is_after_live).then_some(Segment::Live);
    let revoked = query.lists_revoked().then_some(Segment::Revoked);
    let path = path(connection, query, most)?;
    // One more than fits shows whether more keys follow.
    let wanted = query.page_size() + 1;
    let mut page = Page {
        items: Vec::new(),
        next: None,
    };
    for segment in live.into_iter().chain(revoked) {
        // Without a filter every scanned key is on the page.
        let end = match path {
            Path::InOrder if !query.filters().is_empty() => segment.end(connection, query, most)?,
            _ => None,
        };
        let room = wanted - page.items.len();
        let keys = segment.keys(query, path, end)?;
        page.items.extend(keys.run(connection, room)?);
        if page.items.len() == wanted {
            page.items.pop();
            page.next = page.items.last().map(ListPosition::of);
            break;
        }
        if end.is_some() {
            page.next = end;
            break;
        }
    }
    Ok(page)
}

/// The way to find the keys of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// By the index of their segment.
    InOrder,
    /// By their ids, and then sorted.
    ById,
}

/// Chooses the way by id, if the query asks for a range with fewer than `most` keys.
fn path(connection: &Connection, query: &ListQuery, most: usize) -> Result<Path, Fault> {
    let range = query.filters().iter().find_map(|filter| match filter {
        KeyFilter::IdBetween(first, last) => Some((first, last)),
        _ => None,
    });
    let Some((first, last)) = range else {
        return Ok(Path::InOrder);
    };
    let sql = "SELECT 1 FROM keyward_keys WHERE id BETWEEN ?1 AND ?2 LIMIT 1 OFFSET ?3";
    let skipped = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
    let values = params![first.to_bytes(), last.to_bytes(), skipped];
    let has_many = connection.prepare_cached(sql)?.exists(values)?;
    Ok(if has_many { Path::InOrder } else { Path::ById })
}

/// A part of a tenant's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// The keys that are not revoked as stored, newest first.
    Live,
    /// The revoked keys, in the order in which they were revoked.
    Revoked,
}

/// Parts of a segment's SQL.
struct Fragments {
    /// The columns that its index orders by.
    place: &'static str,
    is_in: &'static str,
    is_after: &'static str,
    is_at_or_before: &'static str,
    order: &'static str,
}

impl Segment {
    fn fragments(self) -> Fragments {
        match self {
            Self::Live => Fragments {
                place: "created_at, id",
                is_in: " AND revoked_position IS NULL",
                is_after: " AND (created_at, id) < (?, ?)",
                is_at_or_before: " AND (created_at, id) >= (?, ?)",
                order: " ORDER BY created_at DESC, id DESC",
            },
            Self::Revoked => Fragments {
                place: "revoked_position, id",
                is_in: " AND revoked_position IS NOT NULL",
                is_after: " AND (revoked_position, id) > (?, ?)",
                is_at_or_before: " AND (revoked_position, id) <= (?, ?)",
                order: " ORDER BY revoked_position, id",
            },
        }
    }

    /// Returns the position of the last of the first `most` keys; `None` if there are fewer.
    fn end(
        self,
        connection: &Connection,
        query: &ListQuery,
        most: usize,
    ) -> Result<Option<ListPosition>, Fault> {
        let BoundSelect { sql, values } = self.places(query);
        let skipped = most.saturating_sub(1);
        let sql = format!("{sql} LIMIT 1 OFFSET {skipped}");
        let mut statement = connection.prepare_cached(&sql)?;
        let place = statement.query_row(params_from_iter(&values), |row| {
            Ok((row.get::<_, i64>(0)?, KeyId::from_bytes(row.get(1)?)))
        });
        let Some((at, id)) = place.optional()? else {
            return Ok(None);
        };
        Ok(Some(match self {
            Self::Live => ListPosition::Live {
                created_micros: at,
                id,
            },
            Self::Revoked => ListPosition::Revoked {
                position: unsigned(at)?,
                id,
            },
        }))
    }

    /// Selects the positions of keys, whether or not a filter admits them. The index alone answers it.
    fn places(self, query: &ListQuery) -> BoundSelect {
        let Fragments { place, order, .. } = self.fragments();
        let select = BoundSelect::new(place, query, Path::InOrder);
        self.after_start(select, query).and(order, [])
    }

    /// Selects the keys that the query asks for, up to `end`.
    fn keys(
        self,
        query: &ListQuery,
        path: Path,
        end: Option<ListPosition>,
    ) -> Result<BoundSelect, Fault> {
        let fragments = self.fragments();
        let select = BoundSelect::new(columns!(), query, path);
        let mut select = self.after_start(select, query);
        if let Some(end) = end {
            select = select.and(fragments.is_at_or_before, values(end));
        }
        Ok(select.filtered(query, path)?.and(fragments.order, []))
    }

    fn after_start(self, select: BoundSelect, query: &ListQuery) -> BoundSelect {
        let fragments = self.fragments();
        let select = select.and(fragments.is_in, []);
        match (self, query.start()) {
            (Self::Live, Some(start @ ListPosition::Live { .. }))
            | (Self::Revoked, Some(start @ ListPosition::Revoked { .. })) => {
                select.and(fragments.is_after, values(start))
            }
            _ => select,
        }
    }
}

/// A `SELECT` without its limit, and the values of its parameters.
struct BoundSelect {
    sql: String,
    values: Vec<Value>,
}

impl BoundSelect {
    fn new(columns: &str, query: &ListQuery, path: Path) -> Self {
        // SQLite uses no index for a column with a plus: it might prefer a filter's index to that of the page's start.
        let tenant = match path {
            Path::InOrder => "tenant = ?",
            Path::ById => "+tenant = ?",
        };
        Self {
            sql: format!("SELECT {columns} FROM keyward_keys WHERE {tenant}"),
            values: vec![Value::Text(query.tenant().as_str().to_owned())],
        }
    }

    fn run(&self, connection: &Connection, limit: usize) -> Result<Vec<StoredKey>, Fault> {
        let sql = format!("{} LIMIT {limit}", self.sql);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&self.values))?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(read(row)?);
        }
        Ok(keys)
    }

    fn filtered(mut self, query: &ListQuery, path: Path) -> Result<Self, Fault> {
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
                    match path {
                        Path::InOrder => self.and(" AND +id BETWEEN ? AND ?", ends),
                        Path::ById => self.and(" AND id BETWEEN ? AND ?", ends),
                    }
                }
                KeyFilter::IssuedBy(instant) => {
                    self.and(" AND +created_at <= ?", [unix_micros(*instant).into()])
                }
                KeyFilter::ExpiresBy(instant) => {
                    self.and(" AND expires_at <= ?", [unix_micros(*instant).into()])
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

/// Returns the values of the columns that a segment's index orders by.
fn values(place: ListPosition) -> [Value; 2] {
    let (at, id) = match place {
        ListPosition::Live { created_micros, id } => (created_micros, id),
        // No position is beyond the largest number that SQLite can write.
        ListPosition::Revoked { position, id } => (i64::try_from(position).unwrap_or(i64::MAX), id),
    };
    [at.into(), blob(id.to_bytes())]
}

fn blob(bytes: [u8; 16]) -> Value {
    Value::Blob(bytes.to_vec())
}

#[cfg(test)]
mod tests;
