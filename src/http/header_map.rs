//! Header source for the `http` crate's `HeaderMap`.

use http::HeaderMap;

use super::HeaderSource;

impl HeaderSource for HeaderMap {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    #[inline]
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Uses the map's own look-up: the default would scan all headers for each name.
        let values = match name {
            // A known name need not be parsed.
            "authorization" => self.get_all(http::header::AUTHORIZATION),
            "cache-control" => self.get_all(http::header::CACHE_CONTROL),
            other => self.get_all(other),
        };
        values.into_iter().map(http::HeaderValue::as_bytes)
    }
}
