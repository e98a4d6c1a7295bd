//! Guesses at the caller's intention, for operators who are asked why a key gives 401.

use std::fmt;

use super::credentials::{
    decoded, decoded_base64, parameter_of_scheme, parameters, protocols, split_scheme, split_user,
    trim,
};
use super::key_in::{AuthScheme, FieldName, KeyIn};
use super::{Head, HeaderSource};
use crate::codes::codes;
use crate::credential::KeyForms;

/// A hint at how a request without a readable credential nearly had one. For the operator, never for the caller.
///
/// It holds only names from the request, cut after 64 characters and with keys in them masked. The caller chose these
/// names: escape them wherever you write them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NearMiss {
    /// `Authorization` holds a value that looks like a key, with no scheme before it.
    SchemeMissing,
    /// `Authorization` holds a value that looks like a key, after a scheme that is not accepted. After `Basic`, it is
    /// the user or the password.
    OtherScheme,
    /// `Authorization` holds a value that looks like a key, after two schemes, such as `Bearer Bearer`.
    SchemeDoubled,
    /// `Authorization` holds a value that looks like a key, with something other than a space between it and the
    /// scheme, such as `Bearer:`, or with quotation marks around both.
    SchemeMalformed,
    /// A header in which a key is accepted without a scheme holds one after a scheme, such as `X-API-Key: Bearer …`.
    SchemeInHeader {
        /// The header, in lower case.
        name: Box<str>,
    },
    /// A header in which a key is accepted came more than once, or with a comma in it, as a proxy may join two.
    Repeated {
        /// The header, in lower case.
        name: Box<str>,
    },
    /// A header in which no key is accepted holds a value that looks like a key.
    OtherHeader {
        /// The header, in lower case.
        name: Box<str>,
    },
    /// A header has nearly the name of one in which a key is accepted.
    MisspeltHeader {
        /// The header's name, in lower case.
        name: Box<str>,
        /// The name that was probably meant.
        meant: Box<str>,
    },
    /// A query parameter in which no key is accepted holds a value that looks like a key. It is in logs by now.
    InQuery {
        /// The parameter's name.
        parameter: Box<str>,
    },
}

codes! {
    NearMiss;
    Self::SchemeMissing => "scheme_missing",
    Self::OtherScheme => "other_scheme",
    Self::SchemeDoubled => "scheme_doubled",
    Self::SchemeMalformed => "scheme_malformed",
    Self::SchemeInHeader { .. } => "scheme_in_header",
    Self::Repeated { .. } => "repeated_header",
    Self::OtherHeader { .. } => "other_header",
    Self::MisspeltHeader { .. } => "misspelt_header",
    Self::InQuery { .. } => "in_query",
}

/// Writes one line, with the caller's text escaped.
impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchemeMissing => {
                f.write_str("`authorization` holds a key, and no scheme before it")
            }
            Self::OtherScheme => {
                f.write_str("`authorization` holds a key, after a scheme that is not accepted")
            }
            Self::SchemeDoubled => f.write_str("`authorization` holds a key, after two schemes"),
            Self::SchemeMalformed => f.write_str(
                "`authorization` holds a key, and not just a space between it and the scheme",
            ),
            Self::SchemeInHeader { name } => {
                let name = name.escape_debug();
                write!(f, "the header `{name}` holds a scheme before the key")
            }
            Self::Repeated { name } => {
                let name = name.escape_debug();
                write!(f, "the header `{name}` came twice, or with a comma in it")
            }
            Self::OtherHeader { name } => {
                write!(f, "the header `{}` holds a key", name.escape_debug())
            }
            Self::MisspeltHeader { name, meant } => {
                write!(
                    f,
                    "the header `{}` is perhaps to be `{meant}`",
                    name.escape_debug()
                )
            }
            Self::InQuery { parameter } => {
                let parameter = parameter.escape_debug();
                write!(
                    f,
                    "the parameter `{parameter}` of the query holds a key, which is in logs by now"
                )
            }
        }
    }
}

/// Maximum length of a name that is kept, in characters.
const MOST_CHARACTERS: usize = 64;

/// Maximum number of near misses reported for one request, so that a caller cannot flood the log.
const MOST_FOUND: usize = 8;

/// Maximum edit distance of a misspelt name.
const MOST_SLIPS: usize = 2;

/// Maximum number of bytes between a scheme and a key for the two to be taken together, as in `Bearer%20…`.
const MOST_BETWEEN: usize = 4;

/// Returns the first near misses of a request without a readable credential.
pub(super) fn find<H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    keys: KeyForms<'_>,
    head: &Head<'_, H>,
) -> Vec<NearMiss> {
    let looks_like_key = |value: &[u8]| looks_like_key(keys, value);
    let redactor = keys.format.redactor();
    let shown = |name: &str| cut(&redactor.redact(name));
    let accepted: Vec<&FieldName> = forms.iter().flat_map(KeyIn::headers).collect();
    let has_scheme = forms.iter().any(|form| form.auth_scheme().is_some());
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for (name, value) in head.headers.all() {
        if found.len() == MOST_FOUND {
            return found;
        }
        let lower = name.to_ascii_lowercase();
        let is_authorization = lower == "authorization";
        // A header of a pair may be the half that did come.
        if is_authorization || accepted.iter().any(|accepted| lower == *accepted.lower) {
            let name: Box<str> = lower.into();
            // Other schemes than the accepted ones may write commas.
            let is_read = || !is_authorization || is_accepted(forms, split_scheme(value).0);
            let is_joined = value.contains(&b',') && is_read();
            if is_joined || seen.contains(&name) {
                found.push(NearMiss::Repeated { name });
            } else if is_authorization {
                found.extend(in_authorization(forms, keys, value));
                seen.push(name);
            } else if looks_like_key(split_scheme(value).1) {
                found.push(NearMiss::SchemeInHeader { name });
            } else {
                seen.push(name);
            }
            continue;
        }
        if lower == "sec-websocket-protocol" {
            let mut prefixes = forms.iter().filter_map(KeyIn::sub_protocol_prefix);
            let mut is_read = |it: &[u8]| prefixes.any(|prefix| it.starts_with(prefix.as_bytes()));
            if protocols(value).any(|protocol| holds_key(keys, protocol) && !is_read(protocol)) {
                found.push(NearMiss::OtherHeader { name: lower.into() });
            }
            continue;
        }
        // Some servers and gateways replace hyphens in names with underscores, and some people write them so.
        let plain = lower.replace('_', "-");
        let meant = accepted
            .iter()
            .find(|meant| plain == *meant.lower || is_misspelt(&plain, &meant.lower))
            .map(|meant| meant.written.clone());
        let is_authorization = || has_scheme && is_misspelt(&plain, "authorization");
        if let Some(meant) = meant.or_else(|| is_authorization().then(|| "Authorization".into())) {
            let name = shown(&lower);
            found.push(NearMiss::MisspeltHeader { name, meant });
        } else if looks_like_key(value) || looks_like_key(split_scheme(value).1) {
            found.push(NearMiss::OtherHeader {
                name: shown(&lower),
            });
        }
    }
    let query = head.query.unwrap_or_default();
    let in_query = parameters(query)
        .filter(|(_, value)| looks_like_key(&decoded(value)))
        .map(|(name, _)| NearMiss::InQuery {
            parameter: shown(&String::from_utf8_lossy(&decoded(name))),
        });
    let room = MOST_FOUND - found.len();
    found.extend(in_query.take(room));
    found
}

/// Returns the near miss in a value of `Authorization`, if there is one.
fn in_authorization(forms: &[KeyIn], keys: KeyForms<'_>, value: &[u8]) -> Option<NearMiss> {
    let looks_like_key = |value: &[u8]| looks_like_key(keys, value);
    let schemes = || forms.iter().filter_map(KeyIn::auth_scheme);
    let (scheme, rest) = split_scheme(value);
    if looks_like_key(value) {
        let is_read = schemes().any(|scheme| *scheme == AuthScheme::Bare);
        return (!is_read).then_some(NearMiss::SchemeMissing);
    }
    let is_accepted = is_accepted(forms, scheme);
    if is_accepted && looks_like_key(rest) {
        return None;
    }
    let (second, last) = split_scheme(rest);
    if is_accepted && looks_like_key(last) && second.iter().all(u8::is_ascii_alphabetic) {
        return Some(NearMiss::SchemeDoubled);
    }
    let value = trim(value);
    let unquoted = match value {
        [b'"' | b'\'', rest @ ..] => rest,
        value => value,
    };
    let follows = |rest: &[u8]| {
        (0..=MOST_BETWEEN).any(|length| rest.get(length..).is_some_and(looks_like_key))
    };
    let mut after_schemes = schemes().filter_map(|scheme| scheme.strip_from(unquoted));
    if after_schemes.any(follows) {
        return Some(NearMiss::SchemeMalformed);
    }
    let is_parameter = || parameter_of_scheme(rest).is_some_and(|(_, it)| looks_like_key(it));
    let is_in_basic = || {
        let both = decoded_base64(rest).filter(|_| AuthScheme::Basic.is_named(scheme));
        let parts = both.as_deref().and_then(|both| split_user(both));
        parts.is_some_and(|(user, password)| looks_like_key(user) || looks_like_key(password))
    };
    let is_after_other = looks_like_key(rest) || is_parameter() || is_in_basic();
    (!is_accepted && is_after_other).then_some(NearMiss::OtherScheme)
}

fn is_accepted(forms: &[KeyIn], scheme: &[u8]) -> bool {
    let mut schemes = forms.iter().filter_map(KeyIn::auth_scheme);
    schemes.any(|accepted| accepted.is_named(scheme))
}

/// Returns whether a value begins like a key, with or without a quotation mark.
fn looks_like_key(keys: KeyForms<'_>, value: &[u8]) -> bool {
    let value = trim(value);
    let value = value
        .strip_prefix(b"\"")
        .or(value.strip_prefix(b"'"))
        .unwrap_or(value);
    keys.format.strip_any_prefix(value).is_some()
}

/// Returns whether a key begins anywhere in this value.
fn holds_key(keys: KeyForms<'_>, value: &[u8]) -> bool {
    let mut rests = (0..value.len()).filter_map(|at| value.get(at..));
    rests.any(|rest| looks_like_key(keys, rest))
}

fn is_misspelt(name: &str, meant: &str) -> bool {
    // A much longer or shorter name is not worth comparing letter by letter.
    name.len().abs_diff(meant.len()) <= MOST_SLIPS
        && meant.len() > 2 * MOST_SLIPS
        && strsim::damerau_levenshtein(name, meant) <= MOST_SLIPS
}

fn cut(name: &str) -> Box<str> {
    name.chars().take(MOST_CHARACTERS).collect()
}
