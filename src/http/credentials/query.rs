//! Finds the key in a query, and removes it.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::Found;
use crate::http::key_in::{KeyIn, Location};
use crate::key::KeyTextError::{Absent, Ambiguous};

/// Finds the parameter of this name in a query.
pub(super) fn parameter(query: &str, name: &str) -> Found<'static> {
    let mut values = parameters(query).filter(|(other, _)| is_named(other, name));
    match (values.next(), values.next()) {
        (None, _) => Found::Unread(Absent),
        (Some((_, value)), None) => Found::Decoded(decoded(value), None),
        (Some(_), Some(_)) => Found::Unread(Ambiguous),
    }
}

/// Splits a query into its parameters (the URL Standard's `application/x-www-form-urlencoded`): names and values, as
/// written.
pub(in crate::http) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Decodes the name or the value of a parameter. Either may hold a secret: the buffer is wiped, and is large enough
/// never to be moved.
pub(in crate::http) fn decoded(written: &str) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(written.len()));
    for (index, piece) in written.split('+').enumerate() {
        if index > 0 {
            decoded.push(b' ');
        }
        decoded.extend(percent_decode_str(piece));
    }
    decoded
}

fn is_named(written: &str, name: &str) -> bool {
    if written.contains(['%', '+']) {
        **decoded(written) == *name.as_bytes()
    } else {
        written == name
    }
}

/// Removes the parameters that keys are accepted in from a query. `None` if the query has no such parameter. The
/// remaining parameters are unchanged.
pub(in crate::http) fn without_parameters(forms: &[KeyIn], query: &str) -> Option<String> {
    let is_credential = |part: &&str| {
        let (written, _) = parameters(part).next().unwrap_or_default();
        forms
            .iter()
            .any(|form| matches!(&form.0, Location::Query(name) if is_named(written, name)))
    };
    let (taken, kept): (Vec<_>, Vec<_>) = query.split('&').partition(is_credential);
    (!taken.is_empty()).then(|| kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::SeededRandom;

    #[test]
    fn queries_are_read_as_the_url_standard_says() {
        let random = SeededRandom::new(1);
        let pieces = ["a", "k", "%", "&", "=", "+", "2", "f", "F", "é", "-"];
        for _ in 0..2_000 {
            let piece = |_| pieces[random.below(pieces.len())];
            let query: String = (0..random.below(25)).map(piece).collect();
            let ours = parameters(&query).map(|(name, value)| {
                let text = |written| String::from_utf8_lossy(&decoded(written)).into_owned();
                (text(name), text(value))
            });
            let theirs = form_urlencoded::parse(query.as_bytes()).into_owned();
            assert!(ours.eq(theirs), "{query}");
        }
    }
}
