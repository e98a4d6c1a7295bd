//! Keeps responses to authenticated requests out of shared caches.
//!
//! A shared cache does not store the response to a request with `Authorization` unless the response allows it (RFC
//! 9111 §3.5). It does not know that `X-API-Key` is a credential: without `Cache-Control`, it would serve one
//! customer's response to the next.

use std::borrow::Cow;

use super::HeaderSource;

/// A header to add to a granted response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseHeader<'a> {
    /// The name, in lower case.
    pub name: &'static str,
    /// The value.
    pub value: Cow<'a, str>,
    /// Whether it replaces all existing lines of this name. Otherwise it is added as another line.
    pub replaces: bool,
}

/// Returns `Cache-Control` with `private` added and public directives removed. `None` if the response is already
/// private.
pub(super) fn private<H: HeaderSource + ?Sized>(response: &H) -> Option<Cow<'static, str>> {
    let mut lines = response.values("cache-control").peekable();
    if lines.peek().is_none() {
        return Some("private".into());
    }
    let (mut directives, mut is_read) = (Vec::new(), true);
    for value in lines {
        // A line that cannot be read is dropped: `private` alone is safe.
        let read = std::str::from_utf8(value).ok().and_then(elements);
        is_read &= read.is_some();
        directives.extend(read.unwrap_or_default());
    }
    let name = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    let says = |directive: &&str, wanted| name(directive) == wanted;
    // A cache that understands `must-understand` ignores a `no-store` beside it (RFC 9111 §5.2.2.3).
    let is_undone = directives.iter().any(|it| says(it, "must-understand"));
    // `private="field"` applies to that field alone.
    let is_kept_from_others = |directive: &&str| {
        says(directive, "no-store") && !is_undone
            || directive.trim().eq_ignore_ascii_case("private")
    };
    // If a response says both, a cache may follow either.
    let is_open = |directive: &&str| ["public", "s-maxage"].contains(&&*name(directive));
    let is_kept = directives.iter().any(is_kept_from_others);
    if is_read && is_kept && !directives.iter().any(is_open) {
        return None;
    }
    let opens = ["", "public", "private", "s-maxage", "proxy-revalidate"];
    let mut kept: Vec<&str> = directives
        .into_iter()
        .filter(|directive| !opens.contains(&&*name(directive)))
        .map(str::trim)
        .collect();
    kept.push("private");
    Some(kept.join(", ").into())
}

/// Splits a list into its elements (RFC 9110 §5.6.1), ignoring commas within quotation marks. `None` if a quotation
/// mark is never closed.
fn elements(value: &str) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let elements = value.split(|character| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    });
    let elements = elements.collect();
    (!is_quoted).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_responses_become_private() {
        for (before, after) in [
            (&[][..], Some("private")),
            (&["max-age=60"], Some("max-age=60, private")),
            (&["public, max-age=60"], Some("max-age=60, private")),
            (
                &["Public", "S-MaxAge=9, no-transform"],
                Some("no-transform, private"),
            ),
            (&["max-age=60", "PRIVATE"], None),
            (&["no-store"], None),
            (&["no-store, max-age=0"], None),
            (&["private, public"], Some("private")),
            (&["no-store", "s-maxage=60"], Some("no-store, private")),
            (&["no-cache"], Some("no-cache, private")),
            (&["private=\"set-cookie\", public"], Some("private")),
            (&[", ,"], Some("private")),
            (
                &["no-store, must-understand, max-age=60"],
                Some("no-store, must-understand, max-age=60, private"),
            ),
            (&["must-understand, private"], None),
            (&["private", "public, x=\""], Some("private")),
        ] {
            let headers: Vec<_> = before
                .iter()
                .map(|value| ("Cache-Control", *value))
                .collect();
            assert_eq!(private(headers.as_slice()).as_deref(), after, "{before:?}");
        }
        assert_eq!(
            private(&[("cache-control", b"public\xff")]).as_deref(),
            Some("private")
        );
    }
}
