//! Header source for actix's `HeaderMap`, which uses an older version of the `http` crate.

use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap};

use crate::http::HeaderSource;

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
            "authorization" => self.get_all(AUTHORIZATION),
            "cache-control" => self.get_all(CACHE_CONTROL),
            other => self.get_all(other),
        };
        values.map(|value| value.as_bytes())
    }
}
