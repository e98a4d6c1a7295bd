//! Refusing requests that a web page of another origin makes.

use std::sync::Arc;

use crate::http::{HeaderSource, ManagementRequest};
use crate::key::ValueError;

/// The other origins that may make requests.
#[derive(Debug, Clone, Default)]
pub(super) struct TrustedOrigins(Arc<Vec<Box<str>>>);

impl TrustedOrigins {
    pub(super) fn add(&mut self, origin: &str) -> Result<(), ValueError> {
        if !is_origin(origin) {
            let form = "an origin such as `https://app.example.com`";
            return Err(ValueError::malformed("origin", form));
        }
        Arc::make_mut(&mut self.0).push(origin.into());
        Ok(())
    }

    /// Returns whether a browser says that a page of another origin, and not of these, made the request.
    pub(super) fn refuse<H: HeaderSource + ?Sized>(
        &self,
        request: &ManagementRequest<'_, H>,
    ) -> bool {
        let headers = request.headers;
        let mut sites = headers.values("sec-fetch-site").peekable();
        let is_modern = sites.peek().is_some();
        let is_own = |site: &[u8]| matches!(site, b"same-origin" | b"none");
        if is_modern && sites.all(is_own) {
            return false;
        }
        let mut origins = headers.values("origin");
        match (origins.next(), origins.next()) {
            (None, _) => is_modern,
            (Some(origin), None) => {
                let is_trusted = self.0.iter().any(|one| one.as_bytes() == origin);
                let is_own = !is_modern && is_of_host(origin, request);
                !is_trusted && !is_own
            }
            (Some(_), Some(_)) => true,
        }
    }
}

/// Returns whether an origin has the host that the request was sent to.
///
/// The scheme is not compared, as a server behind a proxy does not know it.
fn is_of_host<H: HeaderSource + ?Sized>(origin: &[u8], request: &ManagementRequest<'_, H>) -> bool {
    let origin = std::str::from_utf8(origin).unwrap_or_default();
    let Some((_, named)) = origin.split_once("://") else {
        return false;
    };
    let mut hosts = request.headers.values("host");
    let host = match (request.authority, hosts.next(), hosts.next()) {
        (Some(authority), _, _) => authority.as_bytes(),
        (None, Some(host), None) => host,
        _ => return false,
    };
    named.as_bytes().eq_ignore_ascii_case(host)
}

/// Returns whether a text is an origin as browsers write it (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "://",
    };
    let mut scheme = scheme.bytes();
    scheme.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && scheme.all(|byte| is_lower(byte) || b"+-.".contains(&byte))
        && !authority.is_empty()
        && authority
            .bytes()
            .all(|byte| is_lower(byte) || b"-.:[]_".contains(&byte))
        && !authority.ends_with(own_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_can_be_trusted() {
        for origin in [
            "https://app.example.com",
            "http://localhost:5173",
            "https://[2001:db8::1]:8443",
            "chrome-extension://abcdefgh",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "",
            "null",
            "*",
            "app.example.com",
            "https://",
            "https://*.example.com",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://user@app.example.com",
            "https://app.example.com https://b.example",
        ] {
            let refused = TrustedOrigins::default().add(text).unwrap_err();
            assert!(refused.to_string().contains("origin"), "{text}");
        }
    }
}
