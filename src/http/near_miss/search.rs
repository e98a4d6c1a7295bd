//! Searches a request for near misses. Anyone can cause a search, so its work is bounded.

use std::cell::Cell;

use super::NearMiss;
use crate::credential::KeyForms;
use crate::http::credentials::{
    decoded, decoded_base64, joins_accepted, parameter_of_scheme, parameters, protocols,
    split_scheme, split_user, trim,
};
use crate::http::key_in::{AuthScheme, KeyIn};
use crate::http::{Head, HeaderSource};
use crate::key::Redactor;

/// Maximum length of a name that is kept, in characters.
const MOST_CHARACTERS: usize = 64;

/// Maximum number of near misses reported for one request, so that a caller cannot flood the log.
const MOST_FOUND: usize = 8;

/// Maximum edit distance of a misspelt name.
const MOST_SLIPS: usize = 2;

/// Maximum number of bytes between a scheme and a key for the two to be taken together, as in `Bearer%20…`.
const MOST_BETWEEN: usize = 4;

/// Maximum number of bytes of one value, and of all values, that are searched for keys.
const MOST_OF_VALUE: usize = 8 * 1_024;
const MOST_OF_ALL: usize = 4 * MOST_OF_VALUE;

/// Maximum number of parameters of a query, and of cookies in a header, that are searched.
const MOST_PARAMETERS: usize = 64;

/// Maximum number of edit distances computed for one request.
const MOST_DISTANCES: usize = 16;

/// Minimum length of a text that is searched for keys: fewer bytes are no key of any format.
const LEAST_KEY: usize = 8;

/// Minimum length of a value that could be an id or a secret.
const LEAST_PART: usize = 16;

/// Returns the first near misses of a request without a readable credential.
pub(in crate::http) fn find<H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    keys: KeyForms<'_>,
    head: &Head<'_, H>,
) -> Vec<NearMiss> {
    Search::new(forms, keys, false).run(head)
}

/// Returns whether a request has a value that is perhaps a credential, where none is accepted. A nearly right name is
/// not enough.
pub(in crate::http) fn holds_credential<H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    keys: KeyForms<'_>,
    head: &Head<'_, H>,
) -> bool {
    !Search::new(forms, keys, true).run(head).is_empty()
}

/// A search, whose work is bounded: anyone can cause one.
struct Search<'a> {
    forms: &'a [KeyIn],
    keys: KeyForms<'a>,
    redactor: Redactor,
    /// Whether the first credential ends the search, and nearly right names are no matter.
    is_for_credential: bool,
    bytes_left: Cell<usize>,
    distances_left: Cell<usize>,
}

impl<'a> Search<'a> {
    fn new(forms: &'a [KeyIn], keys: KeyForms<'a>, is_for_credential: bool) -> Self {
        Self {
            forms,
            keys,
            redactor: keys.format.redactor(),
            is_for_credential,
            bytes_left: Cell::new(MOST_OF_ALL),
            distances_left: Cell::new(MOST_DISTANCES),
        }
    }

    fn run<H: HeaderSource + ?Sized>(&self, head: &Head<'_, H>) -> Vec<NearMiss> {
        let most = if self.is_for_credential {
            1
        } else {
            MOST_FOUND
        };
        let mut seen = Vec::new();
        let headers = head.headers.all();
        let in_headers = headers.filter_map(|(name, value)| self.in_header(name, value, &mut seen));
        let mut found: Vec<_> = in_headers.take(most).collect();
        let room = most - found.len();
        let query = parameters(head.query.unwrap_or_default()).take(MOST_PARAMETERS);
        let in_query = query.filter_map(|(name, value)| self.in_parameter(name, value));
        found.extend(in_query.take(room));
        found
    }

    /// Returns the near miss in a header, if there is one. `seen` are the accepted headers before it.
    fn in_header(&self, name: &str, value: &[u8], seen: &mut Vec<Box<str>>) -> Option<NearMiss> {
        let mut accepted = self.forms.iter().flat_map(KeyIn::headers);
        let lower = name.to_ascii_lowercase();
        let is_authorization = lower == "authorization";
        // A header of a pair may be the half that did come.
        if is_authorization || accepted.any(|accepted| lower == *accepted.lower) {
            let name: Box<str> = lower.into();
            // Other schemes than the accepted ones may write commas.
            let is_joined =
                value.contains(&b',') && (!is_authorization || joins_accepted(self.forms, value));
            if is_joined || seen.contains(&name) {
                return Some(NearMiss::Repeated { name });
            }
            seen.push(name.clone());
            return if is_authorization {
                self.in_authorization(value)
            } else {
                let is_after_scheme = self.begins_with_key(split_scheme(value).1);
                is_after_scheme.then_some(NearMiss::SchemeInHeader { name })
            };
        }
        if let Some(meant) = self.meant_by(&lower) {
            let is_counted = !self.is_for_credential || self.could_be_credential(value);
            let name = self.shown(&lower);
            return is_counted.then_some(NearMiss::MisspeltHeader { name, meant });
        }
        let holds_key = match &*lower {
            "sec-websocket-protocol" => {
                let is_read = |it: &[u8]| {
                    let mut prefixes = self.forms.iter().filter_map(KeyIn::sub_protocol_prefix);
                    prefixes.any(|prefix| it.starts_with(prefix.as_bytes()))
                };
                protocols(value).any(|it| !is_read(it) && self.holds_key(it, false))
            }
            "cookie" => {
                let mut cookies = value.split(|byte| *byte == b';').take(MOST_PARAMETERS);
                cookies.any(|cookie| self.is_key_in_cookie(cookie))
            }
            name => self.holds_key(value, is_place_of_keys(name)) || self.is_encoded(name, value),
        };
        holds_key.then(|| NearMiss::OtherHeader {
            name: self.shown(&lower),
        })
    }

    /// Returns the near miss in a value of `Authorization`, if there is one.
    fn in_authorization(&self, value: &[u8]) -> Option<NearMiss> {
        let schemes = || self.forms.iter().filter_map(KeyIn::auth_scheme);
        let (scheme, rest) = split_scheme(value);
        if self.begins_with_key(value) {
            let is_read = rest.is_empty() && schemes().any(|scheme| *scheme == AuthScheme::Bare);
            return (!is_read).then_some(NearMiss::SchemeMissing);
        }
        let is_accepted = is_accepted(self.forms, scheme);
        if is_accepted && self.begins_with_key(rest) {
            return None;
        }
        let (second, last) = split_scheme(rest);
        let is_scheme = || second.iter().all(u8::is_ascii_alphabetic);
        if is_accepted && self.begins_with_key(last) && is_scheme() {
            return Some(NearMiss::SchemeDoubled);
        }
        let value = trim(value);
        let unquoted = match value {
            [b'"' | b'\'', rest @ ..] => rest,
            value => value,
        };
        let follows = |rest: &[u8]| {
            let mut ends = (0..=MOST_BETWEEN).filter_map(|length| rest.get(length..));
            ends.any(|rest| self.begins_with_key(rest))
        };
        let mut after_schemes = schemes().filter_map(|scheme| scheme.strip_from(unquoted));
        if after_schemes.any(follows) {
            return Some(NearMiss::SchemeMalformed);
        }
        let holds_key = || self.holds_key(value, true) || self.is_encoded("authorization", value);
        (!is_accepted && holds_key()).then_some(NearMiss::OtherScheme)
    }

    fn in_parameter(&self, name: &str, value: &str) -> Option<NearMiss> {
        let written = name;
        let name = decoded(written);
        let lower = || String::from_utf8_lossy(&name).to_ascii_lowercase();
        let is_in_name = || self.holds_key(&name, false);
        let is_in_value = || {
            // Most values are too short for a key.
            value.len() >= LEAST_KEY && self.holds_key(&decoded(value), is_place_of_keys(&lower()))
        };
        (is_in_name() || is_in_value()).then(|| NearMiss::InQuery {
            parameter: self.shown(&String::from_utf8_lossy(&name)),
        })
    }

    fn is_key_in_cookie(&self, cookie: &[u8]) -> bool {
        let name = cookie.split(|byte| *byte == b'=').next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).to_ascii_lowercase();
        let is_place = is_place_of_keys(&name);
        // Many applications escape the values of cookies as they do those of parameters.
        let is_escaped = || {
            let text = std::str::from_utf8(cookie).ok();
            let text = text.filter(|text| text.contains('%') && text.len() <= MOST_OF_VALUE);
            text.is_some_and(|text| self.holds_key(&decoded(text), is_place))
        };
        self.holds_key(cookie, is_place) || is_escaped()
    }

    /// Returns whether a credential of a header such as this one is in base64 in the value, as after `Basic`.
    fn is_encoded(&self, name: &str, value: &[u8]) -> bool {
        let mut parts = pieces(value.get(..MOST_OF_VALUE).unwrap_or(value));
        name.contains("auth")
            && parts.any(|part| {
                let both = decoded_base64(part);
                both.is_some_and(|both| self.holds_key(&both, true))
            })
    }

    /// Returns whether a value begins like a key, with or without a quotation mark or bracket.
    fn begins_with_key(&self, value: &[u8]) -> bool {
        let first = pieces(trim(value)).next().unwrap_or_default();
        self.is_key(first, true)
    }

    /// Returns whether a key is anywhere in the value, alone or after a name.
    fn holds_key(&self, value: &[u8], is_place_of_keys: bool) -> bool {
        let left = self.bytes_left.get();
        let length = value.len().min(MOST_OF_VALUE).min(left);
        self.bytes_left.set(left - length);
        let value = value.get(..length).unwrap_or_default();
        let is_key = |text: &[u8]| self.is_key(text, is_place_of_keys);
        self.keys.are_in(value) || {
            pieces(value).any(|piece| {
                let after_name = parameter_of_scheme(piece).map(|(_, value)| value);
                let after_any = || split_at(piece, b'=').map(|(_, value)| value);
                is_key(after_name.or_else(after_any).unwrap_or(piece))
                    || split_user(piece).is_some_and(|(user, password)| {
                        self.keys.is_pair(user, password) || is_key(user) || is_key(password)
                    })
            })
        }
    }

    /// Returns whether the whole text could be a key. Where none is likely, a head alone does not make one.
    fn is_key(&self, text: &[u8], is_place_of_keys: bool) -> bool {
        text.len() >= LEAST_KEY
            && (is_place_of_keys && self.keys.is_own(text)
                || self.keys.is_imported(text, is_place_of_keys))
    }

    /// Returns whether the value of a misspelt header could be a key, an id or a secret, whole or cut.
    fn could_be_credential(&self, value: &[u8]) -> bool {
        let value = trim(value);
        let is_part_of = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let is_part = value.len() >= LEAST_PART && value.iter().all(is_part_of);
        let is_address = || {
            let text = std::str::from_utf8(value).unwrap_or_default();
            text.parse::<std::net::IpAddr>().is_ok()
        };
        is_part
            || is_accepted(self.forms, split_scheme(value).0)
            || self.holds_key(value, true)
            || self.is_encoded("authorization", value)
            || self.keys.legacy_rank(value).is_some() && !is_address()
    }

    /// Returns the accepted name that this name was probably meant to be.
    fn meant_by(&self, name: &str) -> Option<Box<str>> {
        // Some servers and gateways replace hyphens in names with underscores, and some people write them so.
        let plain = name.replace('_', "-");
        let mut accepted = self.forms.iter().flat_map(KeyIn::headers);
        let meant = accepted
            .find(|meant| plain == *meant.lower || self.is_misspelt(&plain, &meant.lower))
            .map(|meant| meant.written.clone());
        let has_scheme = || self.forms.iter().any(|form| form.auth_scheme().is_some());
        let is_authorization = || has_scheme() && self.is_misspelt(&plain, "authorization");
        meant.or_else(|| is_authorization().then(|| "Authorization".into()))
    }

    fn is_misspelt(&self, name: &str, meant: &str) -> bool {
        let left = self.distances_left.get();
        // Names of other lengths or with other letters are not worth comparing letter by letter.
        if name.len().abs_diff(meant.len()) > MOST_SLIPS
            || meant.len() <= 2 * MOST_SLIPS
            || name.len() > MOST_CHARACTERS
            || (letters(name) ^ letters(meant)).count_ones() as usize > 2 * MOST_SLIPS
            || left == 0
        {
            return false;
        }
        self.distances_left.set(left - 1);
        strsim::damerau_levenshtein(name, meant) <= MOST_SLIPS
    }

    /// Returns a name to show, with the application's own keys in it masked. Nothing is left of one with an imported
    /// key.
    fn shown(&self, name: &str) -> Box<str> {
        let mut parts = pieces(name.as_bytes());
        if parts.any(|part| self.keys.is_imported(part, false)) {
            return "[redacted]".into();
        }
        cut(&self.redactor.redact(name))
    }
}

/// Splits a value at white space, commas, semicolons, quotation marks and brackets.
fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pieces = value.split(|byte| b" \t,;\"'`()<>[]{}".contains(byte));
    pieces.filter(|piece| !piece.is_empty())
}

/// Splits a name from a value. `None` if no value follows, but base64's padding.
fn split_at(piece: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = piece.iter().position(|byte| *byte == separator)?;
    let (name, value) = (piece.get(..at)?, piece.get(at + 1..)?);
    let is_value = value.iter().any(|byte| *byte != separator);
    is_value.then_some((name, value))
}

/// Returns whether a header, parameter or cookie with this name in lower case often carries a key.
fn is_place_of_keys(name: &str) -> bool {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    has(&["key", "token", "secret", "authorization", "password"])
        && !has(&["csrf", "xsrf", "idempotency"])
        && !name.starts_with("sec-")
}

/// Returns the set of the letters in a lower-case name, as bits; all other characters are one.
fn letters(name: &str) -> u32 {
    name.bytes().fold(0, |set, byte| match byte {
        b'a'..=b'z' => set | 1 << (byte - b'a'),
        _ => set | 1 << 26,
    })
}

fn is_accepted(forms: &[KeyIn], scheme: &[u8]) -> bool {
    let mut schemes = forms.iter().filter_map(KeyIn::auth_scheme);
    schemes.any(|accepted| accepted.is_named(scheme))
}

fn cut(name: &str) -> Box<str> {
    name.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyFormat;

    #[test]
    fn a_search_has_bounds() {
        let format = KeyFormat::new("acme").unwrap().environment("test").unwrap();
        let keys = KeyForms {
            format: &format,
            imported: None,
        };
        let forms = [KeyIn::header("X-API-Key").unwrap()];
        // As long as the accepted name and of nearly its letters, and no misspelling of it.
        let headers: Vec<_> = (0..1_000)
            .map(|_| ("yek-ipa-x", "x".repeat(1_000)))
            .collect();
        let key = format!("acme_test_{}", "0".repeat(71));
        let head = Head {
            headers: headers.as_slice(),
            connection: Default::default(),
            query: None,
        };
        let search = Search::new(&forms, keys, true);
        assert_eq!(search.run(&head), []);
        assert_eq!(search.distances_left.get(), 0);
        assert_eq!(search.bytes_left.get(), 0);
        for (before, found) in [(MOST_PARAMETERS - 1, 1), (MOST_PARAMETERS, 0)] {
            let query = format!("{}key={key}", "a=b&".repeat(before));
            let head = Head {
                headers: headers.get(..0).unwrap(),
                connection: Default::default(),
                query: Some(&query),
            };
            assert_eq!(Search::new(&forms, keys, true).run(&head).len(), found);
        }
        let head = Head {
            headers: &[("x-pai-key", "anything"), ("x-other", &*key)],
            connection: Default::default(),
            query: None,
        };
        let search = Search::new(&forms, keys, true);
        assert_eq!(search.run(&head).len(), 1);
        let name = format!("x-{}", key.to_ascii_uppercase());
        assert!(search.shown(&name).ends_with("[redacted]"));
    }
}
