//! Pages of made-up data.

use serde::{Deserialize, Serialize};

/// The requested part of a list, as a query: `?limit=50&after=…`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<String>,
}

/// A part of a list, and where the next one begins.
#[derive(Debug, Clone, Serialize)]
pub struct Paged<T> {
    items: Vec<T>,
    /// The value to send as `after`. `None` at the end of the list.
    next: Option<String>,
}

impl Paging {
    const LIMIT: usize = 50;
    const MAX_LIMIT: usize = 200;

    /// Returns the requested part of these items, which are in ascending order of their ids.
    pub fn page<T>(&self, items: impl IntoIterator<Item = T>, id: impl Fn(&T) -> &str) -> Paged<T> {
        let limit = self.limit.unwrap_or(Self::LIMIT).clamp(1, Self::MAX_LIMIT);
        let is_after = |item: &T| self.after.as_deref().is_none_or(|after| id(item) > after);
        let mut rest = items.into_iter().filter(is_after);
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let last = items.last().map(|last| id(last).to_owned());
        let next = rest.next().and(last);
        Paged { items, next }
    }
}
