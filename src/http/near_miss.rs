//! Guesses at the caller's intention, for operators who are asked why a key gives 401.

mod search;

use std::fmt;

pub(super) use self::search::{find, holds_credential};
use crate::codes::codes;

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
