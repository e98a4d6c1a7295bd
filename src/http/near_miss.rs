//! Guesses at the caller's intention, for operators who are asked why a key gives 401.

use std::fmt;

use super::credentials::{decoded, parameters, split_scheme, trim};
use super::key_in::{FieldName, KeyIn};
use super::{Head, HeaderSource};
use crate::key::KeyFormat;

/// A hint at how a request without a credential nearly had one. For the operator, never for the caller.
///
/// It holds only names from the request, cut after 64 characters and with keys in them masked. The caller chose these
/// names: escape them wherever you write them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NearMiss {
    /// `Authorization` holds a value that looks like a key, with no scheme before it.
    SchemeMissing,
    /// `Authorization` holds a value that looks like a key, after a scheme that is not accepted.
    OtherScheme,
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

/// Returns the first near misses of a request without a complete credential.
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
        // This is the half of a pair that did come.
        if accepted.iter().any(|accepted| lower == *accepted.lower) {
            continue;
        }
        // Some servers and gateways replace hyphens in names with underscores, and some people write them so.
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
            parameter: shown(&String::from_utf8_lossy(&decoded(name))),
        });
    let room = MOST_FOUND - found.len();
    found.extend(in_query.take(room));
    found
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
