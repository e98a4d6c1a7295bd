//! Keeping answers that a key has paid for out of caches that others share.
//!
//! A shared cache stores nothing that was asked for with `Authorization` unless it is told to (RFC 9111 §3.5), but it
//! knows nothing of `X-API-Key`: without a word it would hand one customer's answer to the next.

use super::{HeaderSource, ResponseHeader};

/// What to add to a granted response with these headers.
pub(super) fn headers<H: HeaderSource + ?Sized>(response: &H, vary: &str) -> Vec<ResponseHeader> {
    let mut added = Vec::with_capacity(2);
    if let Some(value) = private(response) {
        added.push(ResponseHeader {
            name: "cache-control",
            value,
            replaces: true,
        });
    }
    if !vary.is_empty() {
        added.push(ResponseHeader {
            name: "vary",
            value: vary.to_owned(),
            replaces: false,
        });
    }
    added
}

/// `Cache-Control` with `private` in it, and without what would make the answer public; none if it is private already.
fn private<H: HeaderSource + ?Sized>(response: &H) -> Option<String> {
    let mut directives = Vec::new();
    for value in response.values("cache-control") {
        // What cannot be read is not passed on: `private` alone is safe.
        let read = std::str::from_utf8(value).ok().and_then(elements);
        directives.extend(read.unwrap_or_default());
    }
    let name = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    };
    // `private="field"` is about that field alone.
    let is_kept_from_others = |directive: &&str| {
        name(directive) == "no-store" || directive.trim().eq_ignore_ascii_case("private")
    };
    if directives.iter().any(is_kept_from_others) {
        return None;
    }
    let opens = ["", "public", "private", "s-maxage", "proxy-revalidate"];
    let mut kept: Vec<&str> = directives
        .into_iter()
        .filter(|directive| !opens.contains(&&*name(directive)))
        .map(str::trim)
        .collect();
    kept.push("private");
    Some(kept.join(", "))
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
            (&["no-cache"], Some("no-cache, private")),
            (&["private=\"set-cookie\", public"], Some("private")),
            (&[", ,"], Some("private")),
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

    #[test]
    fn an_answer_is_told_apart_by_what_bore_the_key() {
        let added = headers(&[("vary", "accept")], "authorization, x-api-key");
        let vary = added.iter().find(|header| header.name == "vary").unwrap();
        assert_eq!(
            (&*vary.value, vary.replaces),
            ("authorization, x-api-key", false)
        );
    }
}
