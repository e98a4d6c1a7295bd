//! The headers of actix, which speaks an older version of the crate `http`.

use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap};

use crate::http::HeaderSource;

impl HeaderSource for HeaderMap {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    #[inline]
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Its own lookup: each header that is asked for would else be looked for among all.
        let values = match name {
            // A name that is known need not be parsed.
            "authorization" => self.get_all(AUTHORIZATION),
            "cache-control" => self.get_all(CACHE_CONTROL),
            other => self.get_all(other),
        };
        values.map(|value| value.as_bytes())
    }
}
