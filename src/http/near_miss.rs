//! What a caller probably meant, for whoever is asked why a key gives 401.

use std::fmt;

use super::credentials::{decoded, parameters, split_scheme, trim};
use super::key_in::{FieldName, KeyIn};
use super::{Head, HeaderSource};
use crate::key::KeyFormat;

/// How a request without a credential came near to having one. For the operator, never for the caller.
///
/// Of what was sent it holds names alone, keys in them masked, cut after 64 characters: they are the caller's, to be
/// escaped wherever they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NearMiss {
    /// `Authorization` holds what looks like a key, with no scheme before it.
    SchemeMissing,
    /// `Authorization` holds what looks like a key, after a scheme that is not accepted.
    OtherScheme,
    /// What looks like a key stands in a header in which none is accepted.
    OtherHeader {
        /// The header, in lower case.
        name: Box<str>,
    },
    /// There is a header with nearly the name of one in which a key is accepted.
    MisspeltHeader {
        /// Its name, in lower case.
        name: Box<str>,
        /// What was probably meant.
        meant: Box<str>,
    },
    /// What looks like a key stands in a parameter of the query in which none is accepted. It is in logs by now.
    InQuery {
        /// The parameter.
        parameter: Box<str>,
    },
}

/// One line: what the caller wrote is escaped.
impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchemeMissing => {
                f.write_str("`authorization` holds a key, and no scheme before it")
            }
            Self::OtherScheme => {
                f.write_str("`authorization` holds a key, after a scheme that is not accepted")
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

/// Longest name that is kept.
const MOST_CHARACTERS: usize = 64;

/// Most that are told of one request: whoever sends thousands fills no log.
const MOST_FOUND: usize = 8;

/// How many letters a misspelt name may be wrong in.
const MOST_SLIPS: usize = 2;

/// The first near misses of a request in which no whole credential was found.
pub(super) fn find<H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    format: &KeyFormat,
    head: &Head<'_, H>,
) -> Vec<NearMiss> {
    let looks_like_key = |value: &[u8]| {
        let value = trim(value);
        let value = value
            .strip_prefix(b"\"")
            .or(value.strip_prefix(b"'"))
            .unwrap_or(value);
        let rest = value.strip_prefix(format.prefix().as_bytes());
        rest.is_some_and(|rest| rest.first() == Some(&b'_'))
    };
    let redactor = format.redactor();
    let shown = |name: &str| cut(&redactor.redact(name));
    let accepted: Vec<&FieldName> = forms.iter().flat_map(KeyIn::headers).collect();
    let mut found = Vec::new();
    for (name, value) in head.headers.all() {
        if found.len() == MOST_FOUND {
            return found;
        }
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" {
            let (_, rest) = split_scheme(value);
            if looks_like_key(value) {
                found.push(NearMiss::SchemeMissing);
            } else if looks_like_key(rest) {
                found.push(NearMiss::OtherScheme);
            }
            continue;
        }
        // The half of a pair that did come.
        if accepted.iter().any(|accepted| lower == *accepted.lower) {
            continue;
        }
        // Some servers and gateways hand names on with underscores, and some people write them so.
        let plain = lower.replace('_', "-");
        let meant = accepted
            .iter()
            .find(|meant| plain == *meant.lower || is_misspelt(&plain, &meant.lower));
        if let Some(meant) = meant {
            found.push(NearMiss::MisspeltHeader {
                name: shown(&lower),
                meant: meant.written.clone(),
            });
        } else if looks_like_key(value) {
            found.push(NearMiss::OtherHeader {
                name: shown(&lower),
            });
        }
    }
    let query = head.query.unwrap_or_default();
    let in_query = parameters(query)
        .filter(|(_, value)| looks_like_key(&decoded(value)))
        .map(|(name, _)| NearMiss::InQuery {
            parameter: shown(&name),
        });
    let room = MOST_FOUND - found.len();
    found.extend(in_query.take(room));
    found
}

fn is_misspelt(name: &str, meant: &str) -> bool {
    // What is much longer is not worth comparing letter by letter.
    name.len().abs_diff(meant.len()) <= MOST_SLIPS
        && meant.len() > 2 * MOST_SLIPS
        && strsim::damerau_levenshtein(name, meant) <= MOST_SLIPS
}

fn cut(name: &str) -> Box<str> {
    name.chars().take(MOST_CHARACTERS).collect()
}
