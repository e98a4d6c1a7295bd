//! Keeping answers that a key has paid for out of caches that others share.
//!
//! A shared cache stores nothing that was asked for with `Authorization` unless it is told to (RFC 9111 §3.5), but it
//! knows nothing of `X-API-Key`: without a word it would hand one customer's answer to the next.

use std::borrow::Cow;

use super::HeaderSource;

/// `Cache-Control` with `private` in it, and without what would make the answer public; none if it is private already.
pub(super) fn private<H: HeaderSource + ?Sized>(response: &H) -> Option<Cow<'static, str>> {
    let mut lines = response.values("cache-control").peekable();
    if lines.peek().is_none() {
        return Some("private".into());
    }
    let (mut directives, mut is_read) = (Vec::new(), true);
    for value in lines {
        // What cannot be read is not passed on: `private` alone is safe.
        let read = std::str::from_utf8(value).ok().and_then(elements);
        is_read &= read.is_some();
        directives.extend(read.unwrap_or_default());
    }
    let name = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    let says = |directive: &&str, wanted| name(directive) == wanted;
    // A cache that knows `must-understand` does not look at `no-store` beside it (RFC 9111 §5.2.2.3).
    let is_undone = directives.iter().any(|it| says(it, "must-understand"));
    // `private="field"` is about that field alone.
    let is_kept_from_others = |directive: &&str| {
        says(directive, "no-store") && !is_undone
            || directive.trim().eq_ignore_ascii_case("private")
    };
    // Of an answer that says both, a cache may believe either.
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

/// The elements of a list (RFC 9110 §5.6.1): commas within quotation marks are none. `None` if they are never closed.
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
    fn nothing_stays_public() {
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
